"""Noise to train with, recorded and made, held-out noise, and recordings without speech."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from recipe_scripts import load_recipe

from asr.audio import audio_duration
from asr.data.manifest import read_manifest

RECIPE = Path(__file__).parents[1] / "recipes" / "librispeech" / "noise.py"


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    return load_recipe("librispeech/noise.py")


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(RECIPE), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


def write_rain(folder: Path) -> None:
    folder.mkdir(parents=True)
    rain = np.random.default_rng(0).standard_normal(16_000)
    soundfile.write(folder / "0.wav", 0.1 * rain, 16_000)


def test_kinds_are_split_and_speechless_recordings_vary_in_length(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for kind in ("rain", "dog"):
        for number in range(4):
            path = tmp_path / "noise" / kind / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.1 * draw.standard_normal(22_050 * 3), 22_050)
    output = tmp_path / "out"
    done = run(tmp_path / "noise", "--output", output, "--coloured", 0, "--tunes", 0)
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
    again = run(tmp_path / "noise", "--output", output, "--coloured", 0, "--tunes", 0)
    assert again.returncode == 0
    assert (output / "speechless.jsonl").read_bytes() == before


def test_kinds_of_the_same_name_stay_apart(tmp_path: Path) -> None:
    for folder in ("a/rain", "b/rain", "rain"):
        write_rain(tmp_path / "noise" / folder)
    output = tmp_path / "out"
    done = run(tmp_path / "noise", "--output", output, "--coloured", 0, "--tunes", 0)
    assert done.returncode == 0, done.stderr
    utterances = read_manifest(output / "speechless.jsonl")
    assert {utterance.id for utterance in utterances} == {"a-rain-0", "b-rain-0", "rain-0"}
    assert all(utterance.audio.stem == utterance.id for utterance in utterances)


def test_two_clips_of_the_same_name_are_one_line_before_any_work(tmp_path: Path) -> None:
    write_rain(tmp_path / "noise" / "rain")
    clip = tmp_path / "noise" / "rain" / "0.wav"
    clip.with_suffix(".ogg").write_bytes(clip.read_bytes())
    done = run(tmp_path / "noise", "--output", tmp_path / "out")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("noise: error: ") and "rain-0; rename one" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("blocked", ["out", "out/train/rain/0.wav", "out/speechless/rain-0.flac"])
def test_what_cannot_be_written_is_one_line(tmp_path: Path, blocked: str) -> None:
    write_rain(tmp_path / "noise" / "rain")
    path = tmp_path / blocked
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch() if blocked == "out" else path.mkdir()
    done = run(tmp_path / "noise", "--output", tmp_path / "out", "--coloured", 0, "--tunes", 0)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("noise: error: ") and str(path) in line and "--output" in line


def test_coloured_noise_is_trained_with(tmp_path: Path) -> None:
    write_rain(tmp_path / "noise" / "rain")
    done = run(tmp_path / "noise", "--output", tmp_path / "out", "--coloured", 3, "--tunes", 0)
    assert "4 recordings without speech" in done.stdout, done.stderr
    clips = sorted((tmp_path / "out" / "train" / "coloured").iterdir())
    assert [audio_duration(clip) for clip in clips] == [5, 5, 5]
    assert len({clip.read_bytes() for clip in clips}) == 3


def test_clips_of_another_run_are_refused(tmp_path: Path) -> None:
    """They would be mixed with speech, though some are now held out to test with."""
    rain = tmp_path / "noise" / "rain"
    write_rain(rain)
    command = (tmp_path / "noise", "--output", tmp_path / "out", "--tunes", 0)
    for _ in range(2):
        assert run(*command, "--coloured", 3).returncode == 0
    done = run(*command, "--coloured", 2)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert f"{tmp_path}/out/train/coloured/002.flac is of another run" in line
    for name in ("00", "01", "02"):
        (rain / f"{name}.wav").write_bytes((rain / "0.wav").read_bytes())
    (rain / "0.wav").rename(rain / "03.wav")
    done = run(*command, "--coloured", 3)
    assert done.returncode == 1 and "train/rain/0.wav is of another run" in done.stderr


def test_the_colour_is_a_straight_slope(recipe: ModuleType) -> None:
    """A line through the octaves' mean power has the slope that was drawn, 0.5 to -2."""
    slopes = []
    for seed in range(20):
        noise = recipe.coloured_noise(np.random.default_rng(seed))
        assert noise.shape == (80_000,) and np.abs(noise).max() == pytest.approx(0.5)
        power = np.abs(np.fft.rfft(noise)) ** 2
        octaves = 100 * 2 ** np.arange(7)  # Hz; a bin is 0.2 Hz wide
        means = [power[low * 5 : low * 10].mean() for low in octaves]
        slope, offset = np.polyfit(np.log(octaves), np.log(means), 1)
        assert np.abs(np.polyval((slope, offset), np.log(octaves)) - np.log(means)).max() < 0.5
        slopes.append(slope)
        assert slope == pytest.approx(np.random.default_rng(seed).uniform(-2, 0.5), abs=0.1)
    assert min(slopes) < -1.5 and max(slopes) > 0


def test_tunes_are_recordings_without_speech(tmp_path: Path) -> None:
    write_rain(tmp_path / "noise" / "rain")
    done = run(tmp_path / "noise", "--output", tmp_path / "out", "--coloured", 0, "--tunes", 2)
    assert "3 recordings without speech" in done.stdout, done.stderr
    assert not (tmp_path / "out" / "train" / "tune").exists()  # no noise to mix with speech
    speakers = [utterance.speaker for utterance in read_manifest(tmp_path / "out/speechless.jsonl")]
    assert speakers == ["rain", "tune", "tune"]


def test_a_tune_has_pitches(recipe: ModuleType) -> None:
    """Its power stands in few bins, unlike noise, and no two tunes are the same."""
    tunes = [recipe.tune(np.random.default_rng(seed)) for seed in range(6)]
    for music in tunes:
        assert music.shape == (240_000,) and np.abs(music).max() == pytest.approx(0.5)
        power = np.sort(np.abs(np.fft.rfft(music)) ** 2)[::-1]
        assert power[: len(power) // 20].sum() > 0.7 * power.sum()
    assert len({music.tobytes() for music in tunes}) == 6


def test_a_folder_without_noise_is_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "--output", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.startswith("noise: error: ") and "no recordings" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
