"""The file of a bundle is read in the background; what is wrong with it is told when asked for."""

import zipfile
from pathlib import Path

import pytest

from asr.archive import CONFIG, MEMBERS, Archive, packaged_model
from asr.errors import BundleError


def test_members_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.asr"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in (*MEMBERS, "lm.klm", "of a later version"):
            file.writestr(name, 1000 * name)
    members = Archive(path).members()
    assert members == {name: 1000 * name.encode() for name in (*MEMBERS, "lm.klm")}


def test_a_wrong_file_is_told_when_its_members_are_wanted(tmp_path: Path) -> None:
    missing = Archive(tmp_path / "missing.asr")
    (tmp_path / "text.asr").write_text("no archive")
    text = Archive(str(tmp_path / "text.asr"))
    for archive, problem in ((missing, "no such model"), (text, "not a model bundle")):
        for _ in range(2):
            with pytest.raises(BundleError, match=problem) as error:
                archive.members()
            assert str(archive.path) in str(error.value)


def test_the_packaged_model_is_an_archive() -> None:
    assert CONFIG in Archive(packaged_model()).members()
