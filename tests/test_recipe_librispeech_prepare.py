import hashlib
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from file_server import FileServer
from recipe_scripts import load_recipe

from asr.data.manifest import read_manifest

SCRIPT = Path(__file__).parents[1] / "recipes" / "librispeech" / "prepare.py"
recipe = load_recipe("librispeech/prepare.py")


def make_tree(corpus: Path, subset: str, suffix: str = "flac") -> None:
    """Write two utterances of 0.5 s in LibriSpeech's layout."""
    chapter = corpus / subset / "19" / "198"
    chapter.mkdir(parents=True)
    opus = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}
    for number in (0, 1):
        audio = chapter / f"19-198-000{number}.{suffix}"
        soundfile.write(audio, 0.1 * np.sin(np.arange(8000) * 0.3), 16_000, **opus)
    (chapter / "19-198.trans.txt").write_text("19-198-0000 ONE\n19-198-0001 TWO\n")
    (corpus / "README.TXT").write_text("about the corpus")


def make_archive(folder: Path, subset: str) -> bytes:
    make_tree(folder / "LibriSpeech", subset)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(folder / "LibriSpeech", "LibriSpeech")
    return buffer.getvalue()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    files = {}
    for subset, resource, algorithm in (("train-clean-5", 31, "md5"), ("dev-clean", 12, "sha256")):
        archive = make_archive(tmp_path / "original" / subset, subset)
        files[f"/{resource}/{subset}.tar.gz"] = archive
        checksum = f"{algorithm}:{hashlib.new(algorithm, archive).hexdigest()}"
        monkeypatch.setitem(recipe.SUBSETS, subset, recipe.Subset(resource, checksum, 2))
    with FileServer(files) as server:
        yield server


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def prepare(server: FileServer | None, root: Path, *arguments: str) -> int:
    base_url = server.url if server else "http://127.0.0.1:9"
    return recipe.main(["--root", str(root), "--base-url", base_url, *arguments])


def texts(manifest: Path) -> list[str]:
    utterances = read_manifest(manifest)
    assert all(utterance.audio.exists() for utterance in utterances)
    assert all(utterance.duration == pytest.approx(0.5) for utterance in utterances)
    return [utterance.text for utterance in utterances]


def test_from_nothing(server: FileServer, root: Path) -> None:
    assert prepare(server, root, "--subsets", "train-clean-5", "dev-clean") == 0
    assert texts(root / "train-clean-5.jsonl") == ["ONE", "TWO"]
    assert texts(root / "dev-clean.jsonl") == ["ONE", "TWO"]
    assert {file.name for file in (root / "LibriSpeech").iterdir()} == {
        "README.TXT",
        "train-clean-5",
        "train-clean-5.tar.gz",
        "dev-clean",
        "dev-clean.tar.gz",
    }


def test_second_run_skips_everything(
    server: FileServer, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(server, root, "--subsets", "dev-clean")
    requests = len(server.requests)
    written = (root / "dev-clean.jsonl").stat().st_mtime_ns
    capsys.readouterr()
    assert prepare(server, root, "--subsets", "dev-clean") == 0
    assert len(server.requests) == requests
    assert (root / "dev-clean.jsonl").stat().st_mtime_ns == written
    said = capsys.readouterr().err
    assert "unpacked already" in said
    assert "is there already" in said


def test_interrupted_download_goes_on(server: FileServer, root: Path) -> None:
    archive = server.files["/12/dev-clean.tar.gz"]
    (root / "LibriSpeech").mkdir(parents=True)
    (root / "LibriSpeech" / "dev-clean.tar.gz.partial").write_bytes(archive[:100])
    assert prepare(server, root, "--subsets", "dev-clean") == 0
    assert server.requests == [("/12/dev-clean.tar.gz", "bytes=100-")]
    assert texts(root / "dev-clean.jsonl") == ["ONE", "TWO"]


def test_interrupted_move_goes_on(server: FileServer, root: Path) -> None:
    make_tree(root / "LibriSpeech" / "dev-clean.unpacked" / "LibriSpeech", "dev-clean")
    assert prepare(None, root, "--subsets", "dev-clean") == 0
    assert texts(root / "dev-clean.jsonl") == ["ONE", "TWO"]
    assert not (root / "LibriSpeech" / "dev-clean.unpacked").exists()


def test_wrong_checksum(server: FileServer, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.files["/12/dev-clean.tar.gz"] += b"more"
    assert prepare(server, root, "--subsets", "dev-clean") == 1
    assert "sha256 is" in capsys.readouterr().err
    assert list((root / "LibriSpeech").iterdir()) == []
    assert not (root / "dev-clean.jsonl").exists()


def test_an_archive_of_something_else_is_not_unpacked_for_good(
    server: FileServer, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = root / "LibriSpeech" / "dev-clean.tar.gz"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(make_archive(root / "other", "train-clean-5"))
    assert prepare(server, root, "--subsets", "dev-clean") == 1
    assert "holds no LibriSpeech/dev-clean; remove it" in capsys.readouterr().err
    archive.unlink()
    assert prepare(server, root, "--subsets", "dev-clean") == 0


def test_archives_can_be_removed(server: FileServer, root: Path) -> None:
    assert prepare(server, root, "--subsets", "dev-clean", "--remove-archives") == 0
    assert not (root / "LibriSpeech" / "dev-clean.tar.gz").exists()
    assert prepare(None, root, "--subsets", "dev-clean", "--remove-archives") == 0


@pytest.mark.parametrize("suffix", ["flac", "opus", "wav"])
@pytest.mark.parametrize("given", [".", "LibriSpeech"])
def test_unpacked_tree_needs_no_network(root: Path, suffix: str, given: str) -> None:
    make_tree(root / "LibriSpeech", "dev-clean", suffix)
    output = root / "manifests"
    code = prepare(None, root / given, "--subsets", "dev-clean", "--output", str(output))
    assert code == 0
    assert texts(output / "dev-clean.jsonl") == ["ONE", "TWO"]


def test_corpus_folder_of_another_name(root: Path) -> None:
    make_tree(root, "dev-clean")
    assert prepare(None, root, "--subsets", "dev-clean") == 0
    manifest = (root / "dev-clean.jsonl").read_text()
    assert '"dev-clean/19/198/19-198-0000.flac"' in manifest


def test_manifest_of_another_tree_is_made_anew(root: Path, tmp_path: Path) -> None:
    output = ["--output", str(tmp_path / "manifests")]
    for name in ("old", "new"):
        make_tree(root / name, "dev-clean")
        assert prepare(None, root / name, "--subsets", "dev-clean", *output) == 0
    audio = read_manifest(tmp_path / "manifests" / "dev-clean.jsonl")[0].audio
    assert audio.is_relative_to(root / "new")


def test_incomplete_tree_is_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tree(root, "dev-clean")
    assert prepare(None, root, "--subsets", "dev-clean") == 0
    assert "2 of the 2703 utterances" in capsys.readouterr().err


def test_missing_recording(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tree(root, "dev-clean")
    (root / "dev-clean" / "19" / "198" / "19-198-0001.flac").unlink()
    assert prepare(None, root, "--subsets", "dev-clean") == 1
    assert "19-198-0001: has a transcript but no recording" in capsys.readouterr().err
    assert prepare(None, root, "--subsets", "dev-clean", "--skip-unusable") == 0
    assert texts(root / "dev-clean.jsonl") == ["ONE"]


def test_misspelt_subset(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        prepare(None, root, "--subsets", "train-clean-10")
    assert exit.value.code == 2
    said = capsys.readouterr().err
    assert all(subset in said for subset in recipe.SUBSETS)


def test_checksums_are_well_formed() -> None:
    for subset in recipe.SUBSETS.values():
        algorithm, _, digest = subset.checksum.partition(":")
        assert len(bytes.fromhex(digest)) == hashlib.new(algorithm).digest_size


def test_checksums_are_those_of_torchaudio() -> None:
    from torchaudio.datasets import librispeech

    known = {
        url.rpartition("/")[2].removesuffix(".tar.gz"): digest
        for url, digest in librispeech._CHECKSUMS.items()
    }
    ours = {
        name: subset.checksum.removeprefix("sha256:")
        for name, subset in recipe.SUBSETS.items()
        if subset.resource == 12
    }
    assert ours == known


def test_help() -> None:
    result = subprocess.run(
        [sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=True
    )
    assert "train-other-500" in result.stdout
