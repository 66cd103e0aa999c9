"""The table of distorted copies, on tones."""

import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from babble import write_babbler, write_tones
from recipe_scripts import load_recipe
from tones import SAMPLE_RATE

from asr.data.manifest import Utterance, write_manifest


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    return load_recipe("librispeech/robustness.py")


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    folder = tmp_path / "noise"
    folder.mkdir()
    samples = 0.1 * np.random.default_rng(0).standard_normal(2 * SAMPLE_RATE)
    soundfile.write(folder / "hiss.wav", samples, SAMPLE_RATE)
    return folder


def test_noise_lies_ten_decibels_below(recipe: ModuleType, noise: Path) -> None:
    speech = 0.2 * np.sin(0.1 * np.arange(32_000, dtype=np.float32))
    for distort in (recipe.noisy([noise / "hiss.wav"]), recipe.white_noise):
        mixed, rate = distort(3, speech)
        ratio = np.mean(speech**2) / np.mean((mixed - speech) ** 2)
        assert rate == recipe.RATE
        assert 10 * math.log10(ratio) == pytest.approx(recipe.SNR_DB, abs=0.01)


def test_white_noise_is_white_and_new_for_each_utterance(recipe: ModuleType) -> None:
    speech = np.full(recipe.RATE, 0.1, np.float32)
    added = [recipe.white_noise(number, speech)[0] - speech for number in (1, 1, 2)]
    assert np.array_equal(added[0], added[1]) and not np.array_equal(added[0], added[2])
    power = np.abs(np.fft.rfft(added[0])) ** 2
    bands = power[1:].reshape(8, 1000).mean(axis=1)  # of 1 kHz
    assert bands == pytest.approx(bands.mean(), rel=0.2)


def test_copies_keep_what_they_should(recipe: ModuleType) -> None:
    speech = 0.2 * np.sin(2 * np.pi * 440 / recipe.RATE * np.arange(recipe.RATE))
    for distort, rate, channels, level in (
        (recipe.telephone, 8_000, 1, 1.0),
        (recipe.faint, 16_000, 1, 0.1),
        (recipe.stereo, 44_100, 2, 1.0),
    ):
        audio, found = distort(0, speech.astype(np.float32))
        assert found == rate
        assert audio.reshape(len(audio), -1).shape == (rate, channels)
        assert np.std(audio) == pytest.approx(level * np.std(speech), rel=0.01)


def test_mp3_copies_are_close_and_not_the_same(recipe: ModuleType) -> None:
    speech = 0.2 * np.sin(2 * np.pi * 440 / recipe.RATE * np.arange(recipe.RATE))
    audio, rate = recipe.mp3(0, speech.astype(np.float32))
    assert rate == recipe.RATE and audio.shape == speech.shape
    assert 0.001 < np.std(audio - speech) / np.std(speech) < 0.3


def test_silence_is_digital_at_first_and_then_hisses(recipe: ModuleType, tmp_path: Path) -> None:
    digital, *hisses = [soundfile.read(path)[0] for path in recipe.silences(tmp_path)]
    assert digital.shape == (20 * recipe.RATE,) and not digital.any()
    levels = [20 * math.log10(np.std(hiss)) for hiss in hisses]
    assert levels == pytest.approx(recipe.HISS_DB[1:], abs=0.5)


def run(recipe: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, noise: Path) -> int:
    model = write_babbler(tmp_path / "babbler.asr")
    utterances = [
        Utterance(str(i), write_tones(tmp_path / f"{i}.wav", 1.0, seed=i), 1.0, "ABC DE")
        for i in range(3)
    ]
    write_manifest(tmp_path / "in.jsonl", utterances)
    music = tmp_path / "music"
    music.mkdir()
    for number in range(2):
        write_tones(music / f"{number}.wav", 1.0, seed=number)
    arguments = [tmp_path / "in.jsonl", "--noise", noise, "--speechless", music, "--model", model]
    monkeypatch.setattr(sys, "argv", ["robustness.py", *map(str, arguments)])
    return int(recipe.main())


def test_the_table(
    recipe: ModuleType,
    tmp_path: Path,
    noise: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(recipe, monkeypatch, tmp_path, noise) == 0
    _, _, clean, *distorted, empty, silence, alone, music = capsys.readouterr().out.splitlines()
    assert clean.startswith("| as they are |") and clean.endswith("+0.0% |")
    assert [line.split("|")[1].strip() for line in distorted] == [
        "noise at 10 dB",
        "white noise at 10 dB",
        "8 kHz",
        "MP3 of 24 kbit/s",
        "20 dB fainter",
        "44.1 kHz, stereo",
    ]
    assert empty == ""
    assert silence.startswith("silence: ") and silence.endswith("in 5 recordings")
    assert alone.startswith(f"{noise}: ") and alone.endswith("words a minute in 1 recordings")
    assert music.startswith(f"{tmp_path / 'music'}: ") and "in 2 recordings" in music
    assert " 0.0 words" not in music  # the model babbles


def test_no_utterance_at_all_is_refused(
    recipe: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["in.jsonl", "--noise", "noise", "--every", "0"]
    monkeypatch.setattr(sys, "argv", ["robustness.py", *arguments])
    with pytest.raises(SystemExit, match="2"):
        recipe.main()
    assert capsys.readouterr().err.splitlines()[-1].endswith("--every 0 is not 1 or more")


def test_no_noise_is_one_line(
    recipe: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    assert run(recipe, monkeypatch, tmp_path, tmp_path / "empty") == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("robustness: error: ") and "empty: no recordings" in line
