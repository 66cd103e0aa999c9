"""The digits recipe: its split, its download, and all of it on a few synthetic recordings."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from file_server import FileServer
from recipe_scripts import load_recipe

from asr.bundle import load_bundle
from asr.data.manifest import read_manifest

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "digits"
CORPORA = os.environ.get("ASR_CORPORA")
WORDS = ["ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"]
recipe = load_recipe("digits/prepare.py")


def write_recordings(folder: Path, digits: range, numbers: list[int]) -> Path:
    """Write recordings of 0.4 s of two speakers; each digit is a pitch."""
    folder.mkdir(parents=True)
    time = np.arange(3200) / 8000
    for digit in digits:
        tone = 0.3 * np.sin(2 * np.pi * (300 + 200 * digit) * time)
        for speaker, suffix in (("anna", "wav"), ("ben", "flac")):
            for number in numbers:
                soundfile.write(folder / f"{digit}_{speaker}_{number}.{suffix}", tone, 8000)
    return folder


def names(manifest: Path) -> set[str]:
    return {utterance.id for utterance in read_manifest(manifest)}


def test_names_give_split_text_and_speaker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recordings(tmp_path / "fsdd", range(10), [0, 4, 5, 9, 10, 49])
    assert recipe.main(["--root", str(tmp_path / "fsdd"), "--output", str(tmp_path / "out")]) == 0
    assert "120 of 3000 recordings" in capsys.readouterr().err
    for part, numbers in {"test": (0, 4), "val": (5, 9), "train": (10, 49)}.items():
        utterances = read_manifest(tmp_path / "out" / f"{part}.jsonl")
        expected = {
            (f"{digit}_{speaker}_{number}", word, speaker)
            for digit, word in enumerate(WORDS)
            for speaker in ("anna", "ben")
            for number in numbers
        }
        assert {(u.id, u.text, u.speaker) for u in utterances} == expected
        assert all(u.audio.is_file() and u.duration == pytest.approx(0.4) for u in utterances)


def test_a_clone_of_the_dataset_will_do(tmp_path: Path) -> None:
    write_recordings(tmp_path / "recordings", range(2), [0, 5, 10])
    assert recipe.main(["--root", str(tmp_path)]) == 0
    assert names(tmp_path / "test.jsonl") == {"0_anna_0", "0_ben_0", "1_anna_0", "1_ben_0"}
    assert '"recordings/0_anna_0.wav"' in (tmp_path / "test.jsonl").read_text()


@pytest.mark.parametrize("name", ["ten_anna_0", "0_anna", "0_anna_x", "0_anna_b_1", "x0_anna_1"])
def test_bad_names_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    folder = write_recordings(tmp_path / "fsdd", range(1), [0, 5, 10])
    soundfile.write(folder / f"{name}.wav", np.zeros(800), 8000)
    assert recipe.main(["--root", str(folder)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert f"1 recordings are not named DIGIT_SPEAKER_NUMBER: {name}.wav" in line
    assert not list(folder.glob("*.jsonl"))


def test_a_damaged_recording_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_recordings(tmp_path / "fsdd", range(1), [0, 5, 10])
    (folder / "0_anna_5.wav").write_bytes(b"no sound")
    assert recipe.main(["--root", str(folder)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "0_anna_5.wav" in line
    assert not list(folder.glob("*.jsonl"))


def test_recordings_are_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = tmp_path / "original"
    write_recordings(original / "recordings", range(2), [0, 5, 10])
    (original / "README.md").write_text("CC BY-SA 4.0")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(original, recipe.NAME)
    root = tmp_path / "data"
    with FileServer({"/fsdd.tar.gz": archive.getvalue()}) as server:
        monkeypatch.setattr(recipe, "URL", f"{server.url}/fsdd.tar.gz")
        assert recipe.main(["--root", str(root)]) == 0
    before = (root / "train.jsonl").read_text()
    assert len(names(root / "train.jsonl")) == 4
    assert list(root.rglob("README.md"))  # the licence stays beside the recordings
    assert recipe.main(["--root", str(root)]) == 0  # no server any more
    assert (root / "train.jsonl").read_text() == before


def test_the_whole_recipe_runs_and_skips_what_is_done(tmp_path: Path) -> None:
    folder = write_recordings(tmp_path / "fsdd", range(3), [0, 1, 5, 10, 11, 12])
    command = [sys.executable, "-W", "ignore", str(RECIPE / "run.py"), "--root", str(folder)]
    command += ["--output", str(tmp_path / "manifests"), "--run_dir", str(tmp_path / "run")]
    tiny = {
        "trainer.max_epochs": 1,
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": False,
        "data.num_workers": 0,
        "model.encoder.hidden_size": 8,
    }
    command += [f"--{name}={value}" for name, value in tiny.items()]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def run() -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done

    assert "WER" in run().stdout
    report = json.loads((tmp_path / "run" / "decode" / "test" / "report.json").read_text())
    assert (report["utterances"], report["words"], report["failures"]) == (12, 12, 0)
    features = load_bundle(tmp_path / "run" / "model.asr").model.features_config
    assert features.sample_rate == 8000
    again = [line for line in run().stderr.splitlines() if line.startswith("$")]
    assert len(again) == 1 and "prepare.py" in again[0]


def test_an_evaluation_that_failed_is_not_done(tmp_path: Path) -> None:
    is_evaluated = load_recipe("digits/run.py").is_evaluated
    model = tmp_path / "model.asr"
    model.touch()
    assert not is_evaluated(tmp_path, model)
    for failures in (1, 0):
        (tmp_path / "report.json").write_text(json.dumps({"failures": failures}))
        (tmp_path / "report.html").touch()
        assert is_evaluated(tmp_path, model) == (not failures)
    os.utime(tmp_path / "report.html", (0, 0))  # of a model before
    assert not is_evaluated(tmp_path, model)


@pytest.mark.realdata
@pytest.mark.skipif(not CORPORA, reason="ASR_CORPORA does not name a folder of real speech")
def test_the_real_dataset_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe.main(["--root", str(Path(CORPORA) / "fsdd"), "--output", str(tmp_path)]) == 0
    assert "of 3000 recordings" not in capsys.readouterr().err
    parts = {part: read_manifest(tmp_path / f"{part}.jsonl") for part in ("train", "val", "test")}
    assert {part: len(found) for part, found in parts.items()} == {
        "train": 2400,
        "val": 300,
        "test": 300,
    }
    assert len({u.id for found in parts.values() for u in found}) == 3000
    for found in parts.values():
        assert len({(u.text, u.speaker) for u in found}) == 60  # each word by six speakers
    assert all(0.1 < u.duration < 3 for found in parts.values() for u in found)
