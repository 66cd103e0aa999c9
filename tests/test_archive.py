"""The file of a bundle is read in the background; what is wrong in it is told when asked for."""

import tracemalloc
import zipfile
from pathlib import Path

import pytest

from asr.archive import CONFIG, MEMBERS, WEIGHTS, Archive, packaged_model, read_part
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


def test_what_claims_to_become_far_too_much_is_not_inflated(tmp_path: Path) -> None:
    path = tmp_path / "bomb.asr"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in MEMBERS:
            file.writestr(name, bytes(10**7))  # shrinks a thousandfold, but is not much
    assert {len(content) for content in Archive(path).members().values()} == {10**7}
    assert read_part(path, WEIGHTS) == bytes(10**7)
    with zipfile.ZipFile(path, "a") as file:
        file.getinfo(WEIGHTS).file_size = 2**30
        file.getinfo(CONFIG).file_size = 2**30
        file.writestr("more", b"")  # so that the directory is written anew
    message = r"its \d\d,\d{3} bytes claim to hold 2,157,483,648"
    with pytest.raises(BundleError, match=rf"bomb\.asr: the model is damaged .*{message}"):
        Archive(path).members()
    with pytest.raises(OSError, match=message):
        read_part(path, WEIGHTS)


def test_what_becomes_more_than_it_claims_is_not_inflated(tmp_path: Path) -> None:
    path = tmp_path / "liar.asr"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in MEMBERS:
            file.writestr(name, bytes(10**8 if name == WEIGHTS else 10))
    with zipfile.ZipFile(path, "a") as file:
        file.getinfo(WEIGHTS).file_size = 1000
        file.writestr("more", b"")  # so that the directory is written anew
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=r"liar\.asr: the model is damaged"):  # its checksum
            Archive(path).members()
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_packings_are_refused(tmp_path: Path, packing: int) -> None:
    with zipfile.ZipFile(tmp_path / "odd.asr", "w", packing) as file:
        for name in MEMBERS:
            file.writestr(name, bytes(range(256)) * 20)
    with pytest.raises(BundleError, match="is not packed by deflate"):
        Archive(tmp_path / "odd.asr").members()


def test_a_damaged_member_is_told(tmp_path: Path) -> None:
    path = tmp_path / "bad.asr"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in MEMBERS:
            file.writestr(name, bytes(range(256)) * 20)
        start = file.getinfo(CONFIG).header_offset + 30 + len(CONFIG)
    content = bytearray(path.read_bytes())
    content[start + 9 : start + 40] = b"\xff" * 31
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"bad\.asr: the model is damaged"):
        Archive(path).members()


def test_the_packaged_model_is_an_archive() -> None:
    assert CONFIG in Archive(packaged_model()).members()
