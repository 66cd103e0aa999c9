"""The file of a bundle is read in the background; what is wrong in it is told when asked for."""

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


def test_a_missing_file_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"none\.asr: no such model"):
        Archive(tmp_path / "none.asr")


def test_a_wrong_file_is_told_when_its_members_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "text.asr"
    path.write_text("no archive")
    archive = Archive(str(path))
    for _ in range(2):
        with pytest.raises(BundleError, match=r"text\.asr: not a model bundle"):
            archive.members()


def test_the_packaged_model_is_an_archive() -> None:
    assert CONFIG in Archive(packaged_model()).members()
