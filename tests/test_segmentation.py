"""Long audio is cut completely, in time, and where it is quiet."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.segmentation import MAX_SECONDS, SEARCH_SECONDS, split_at_pauses

RATE = 1000


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


@settings(deadline=None)
@given(st.integers(0, 200 * RATE))
def test_pieces_cover_the_audio_and_keep_the_limit(samples: int) -> None:
    pieces = split_at_pauses(noise(samples / RATE), RATE)
    edges = [0, *(end for _, end in pieces)]
    assert [start for start, _ in pieces] == edges[:-1]
    assert edges[-1] == samples
    assert all(end - start <= MAX_SECONDS * RATE for start, end in pieces)
    assert all(end - start >= (MAX_SECONDS - SEARCH_SECONDS) * RATE for start, end in pieces[:-1])


@pytest.mark.parametrize("seconds", [0.001, 1, 30])
def test_short_audio_stays_whole(seconds: float) -> None:
    assert split_at_pauses(noise(seconds), RATE) == [(0, seconds * RATE)]


def test_cuts_inside_the_pause() -> None:
    waveform = noise(50)
    waveform[22 * RATE : 22 * RATE + 300] = 0
    waveform[27 * RATE : 27 * RATE + 100] = 0  # a stop consonant
    [(_, cut), _] = split_at_pauses(waveform, RATE)
    assert 22 * RATE < cut < 22 * RATE + 300


def test_cuts_digital_silence_too() -> None:
    assert len(split_at_pauses(np.zeros(100 * RATE, np.float32), RATE)) > 3
