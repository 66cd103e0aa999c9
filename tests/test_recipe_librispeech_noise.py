"""Noise to train with, held-out noise, and recordings in which nobody speaks."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.audio import audio_duration
from asr.data.manifest import read_manifest

RECIPE = Path(__file__).parents[1] / "recipes" / "librispeech" / "noise.py"


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(RECIPE), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


def test_kinds_are_split_and_speechless_recordings_vary_in_length(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for kind in ("rain", "dog"):
        for number in range(4):
            path = tmp_path / "noise" / kind / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.1 * draw.standard_normal(22_050 * 3), 22_050)
    output = tmp_path / "out"
    done = run(tmp_path / "noise", "--output", output)
    assert done.returncode == 0, done.stderr
    assert "6 recordings without speech" in done.stdout

    def names(part: str) -> set[str]:
        return {p.relative_to(output / part).as_posix() for p in (output / part).rglob("*.wav")}

    assert names("held_out") == {"rain/3.wav", "dog/3.wav"}
    assert names("train") == {f"{kind}/{n}.wav" for kind in ("rain", "dog") for n in range(3)}
    utterances = read_manifest(output / "speechless.jsonl")
    assert all(utterance.text == "" for utterance in utterances)
    durations = [audio_duration(utterance.audio) for utterance in utterances]
    assert durations == pytest.approx([utterance.duration for utterance in utterances])
    assert 1.5 <= min(durations) < max(durations) <= 15 and len(set(durations)) == 6
    before = (output / "speechless.jsonl").read_bytes()
    assert run(tmp_path / "noise", "--output", output).returncode == 0
    assert (output / "speechless.jsonl").read_bytes() == before


def test_a_folder_without_noise_is_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "--output", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.startswith("noise: error: ") and "no recordings" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
