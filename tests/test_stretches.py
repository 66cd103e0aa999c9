"""Where stretches of speech begin and end in a stream."""

import numpy as np
import pytest
from tones import SAMPLE_RATE, speak

from asr.segmentation import MAX_SECONDS
from asr.stretches import LEAD_SECONDS, PAUSE_SECONDS, Stretch, Stretches

CHUNK = 800  # samples


def noise(seconds: float, level: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


def cut(waveform: np.ndarray, chunk: int = CHUNK) -> tuple[list[Stretch], Stretches]:
    stretches = Stretches(SAMPLE_RATE)
    found = []
    for start in range(0, len(waveform), chunk):
        found += stretches.feed(waveform[start : start + chunk])
    return found, stretches


@pytest.mark.parametrize("level", [0.0, 1e-3, 0.01])
def test_stretches_are_what_was_said(level: float) -> None:
    speech = [noise(1.0, 0.1, seed=1), noise(2.0, 0.1, seed=2)]
    waveform = np.concatenate(
        [noise(2.0, level), speech[0], noise(1.5, level), speech[1], noise(3.0, level)]
    )
    found, stretches = cut(waveform)
    assert not stretches.speaking
    assert [stretch.start for stretch in found] == pytest.approx([1.7, 4.2], abs=0.05)
    for stretch, said in zip(found, speech, strict=True):
        seconds = len(stretch.waveform) / SAMPLE_RATE
        assert seconds == pytest.approx(len(said) / SAMPLE_RATE + 2 * LEAD_SECONDS, abs=0.1)
        start = round(stretch.start * SAMPLE_RATE)
        np.testing.assert_array_equal(
            stretch.waveform, waveform[start : start + len(stretch.waveform)]
        )


def test_a_short_halt_ends_nothing() -> None:
    halt = noise(PAUSE_SECONDS - 0.1, 1e-3)
    waveform = np.concatenate([noise(1.0, 0.1), halt, noise(1.0, 0.1)])
    found, stretches = cut(waveform)
    assert not found
    assert stretches.speaking
    np.testing.assert_array_equal(stretches.current().waveform, waveform)


def test_noise_that_rises_is_learnt() -> None:
    waveform = np.concatenate([noise(3.0, 1e-3), noise(20.0, 0.01)])
    found, stretches = cut(waveform)
    assert not stretches.speaking
    assert len(found) == 1


def test_endless_speech_is_cut_and_nothing_is_lost() -> None:
    waveform = speak("ABCD" * 200)[: round(2.2 * MAX_SECONDS * SAMPLE_RATE)]
    found, stretches = cut(waveform)
    assert len(found) == 2
    whole = [stretch.waveform for stretch in found] + [stretches.current().waveform]
    left = len(waveform) % round(0.02 * SAMPLE_RATE)
    np.testing.assert_array_equal(np.concatenate(whole), waveform[: len(waveform) - left])


@pytest.mark.parametrize("stop", np.arange(29.42, 29.62, 0.02))
def test_a_pause_at_the_limit_of_length(stop: float) -> None:
    before = stop - np.arange(round(stop * SAMPLE_RATE)) / SAMPLE_RATE
    speech = (
        np.where(before % 0.6 < 0.4, 1, 0.01).astype(np.float32) * noise(stop, 0.1)[: len(before)]
    )
    quiet = noise(3.0, 1e-3, seed=1) * np.linspace(1, 0.1, 3 * SAMPLE_RATE, dtype=np.float32)
    waveform = np.concatenate([speech, quiet, noise(1.0, 0.1, seed=2), quiet])
    found, stretches = cut(waveform)
    assert not stretches.speaking
    assert found[-1].start == pytest.approx(stop + 3.0 - LEAD_SECONDS, abs=0.05)
    for stretch in found:
        assert len(stretch.waveform) > 0
        start = round(stretch.start * SAMPLE_RATE)
        np.testing.assert_array_equal(
            stretch.waveform, waveform[start : start + len(stretch.waveform)]
        )


def test_how_the_stream_is_chopped_changes_nothing() -> None:
    waveform = np.concatenate([noise(1.0, 1e-3), speak("ABCDABCD"), noise(2.0, 1e-3)])
    [one], _ = cut(waveform, 7)
    [other], _ = cut(waveform, len(waveform))
    np.testing.assert_array_equal(one.waveform, other.waveform)
    assert one.start == other.start
