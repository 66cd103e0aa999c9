"""Recordings are cut completely, in time, and where it is quiet; blocks change nothing."""

from itertools import zip_longest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.segmentation import (
    MARGIN_SECONDS,
    MAX_SECONDS,
    MIN_SECONDS,
    OVERLAP_SECONDS,
    Piece,
    Segmenter,
    quietest_cut,
)

RATE = 1000
MARGIN, OVERLAP = round(MARGIN_SECONDS * RATE), round(OVERLAP_SECONDS * RATE)


def noise(seconds: float, level: float = 0.1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(round(seconds * RATE))).astype(np.float32)


def speech(seconds: float, level: float = 0.1, seed: int = 0) -> np.ndarray:
    """Return noise that swells and fades four times a second."""
    syllables = np.abs(np.sin(4 * np.pi * np.arange(round(seconds * RATE)) / RATE))
    return (noise(seconds, level, seed) * syllables).astype(np.float32)


def cut(waveform: np.ndarray, block: int = 30 * RATE) -> list[Piece]:
    segmenter = Segmenter(RATE)
    pieces = []
    for start in range(0, len(waveform), block):
        pieces += segmenter.add(waveform[start : start + block])
    return pieces + segmenter.finish()


def level_of(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.square(waveform).mean())) if len(waveform) else 0.0


# Somebody speaks, halts, is silent for long, or goes on without a pause; then all once more.
stretches = st.lists(
    st.tuples(st.floats(0.01, 70), st.sampled_from([0.0, 1e-3, 0.02, 0.1, 0.3])), max_size=8
)


@settings(max_examples=60)
@given(stretches, st.integers(100, 100_000))
def test_pieces_are_the_recording_without_its_silence(
    parts: list[tuple[float, float]], block: int
) -> None:
    waveform = np.concatenate(
        [speech(s, level, i) for i, (s, level) in enumerate(parts)] + [np.zeros(0, np.float32)]
    )
    pieces = cut(waveform)
    loudest = max([level for _, level in parts], default=0.0)
    reached = 0
    for piece, following in zip_longest(pieces, pieces[1:]):
        stop = piece.start + len(piece.waveform)
        np.testing.assert_array_equal(piece.waveform, waveform[piece.start : stop])
        assert 0 < len(piece.waveform) <= MAX_SECONDS * RATE
        assert piece.start <= piece.begin < piece.end <= stop
        assert reached <= piece.begin
        assert level_of(waveform[reached : piece.begin]) <= 0.2 * loudest
        reached = piece.end
        if piece.overlaps_next:
            assert following
            assert stop == piece.end + OVERLAP
            assert following.begin == piece.end == following.start + OVERLAP
        elif following:
            assert following.start == following.begin
    assert level_of(waveform[reached:]) <= 0.2 * loudest

    others = cut(waveform, block)
    assert len(pieces) == len(others)
    for piece, other in zip(pieces, others, strict=True):
        assert (piece.start, piece.begin, piece.end) == (other.start, other.begin, other.end)
        np.testing.assert_array_equal(piece.waveform, other.waveform)


@pytest.mark.parametrize("seconds", [0.001, 1, 30])
def test_short_recordings_stay_whole(seconds: float) -> None:
    waveform = noise(seconds)
    waveform[len(waveform) // 3 :] = 0
    [piece] = cut(waveform)
    assert (piece.start, piece.begin, piece.end) == (0, 0, len(waveform))
    assert not piece.overlaps_next


@pytest.mark.parametrize("level", [0.0, 1e-3])
def test_cuts_in_the_longest_pause(level: float) -> None:
    waveform = noise(50)
    for start, seconds in [(1, 0.4), (12, 0.3), (17, 0.45), (22, 0.35), (27, 0.1)]:
        waveform[start * RATE : round((start + seconds) * RATE)] = noise(seconds, level)
    first, second, *rest = cut(waveform)
    assert first.start == 0
    assert abs(first.end - 17_225) <= 20
    assert not first.overlaps_next
    assert second.start == first.end
    assert len(rest) == (len(waveform) - first.end > MAX_SECONDS * RATE)


@pytest.mark.parametrize("level", [0.0, 1e-3])
@pytest.mark.parametrize("pause", [3.0, 50.0, 400.0])
def test_long_pauses_are_left_out(level: float, pause: float) -> None:
    waveform = np.concatenate(
        [
            noise(3, level),
            *(speech(14), noise(pause, level, 1)),
            *(speech(20, seed=2), noise(pause, level, 3)),
        ]
    )
    second = round((17 + pause) * RATE)
    expected = [
        (3 * RATE - MARGIN, 17 * RATE + MARGIN),
        (second - MARGIN, second + 20 * RATE + MARGIN),
    ]
    for piece, edges in zip(cut(waveform), expected, strict=True):
        assert (piece.begin, piece.end) == pytest.approx(edges, abs=100)


def test_speech_without_a_pause_is_cut_at_the_quietest_place_and_heard_beyond_it() -> None:
    waveform = noise(45)
    waveform[23 * RATE : 23 * RATE + 300] *= 0.6
    first, second = cut(waveform)
    assert 23 * RATE < first.end < 23 * RATE + 300
    assert first.overlaps_next
    assert len(first.waveform) == first.end + OVERLAP
    assert (second.start, second.begin) == (first.end - OVERLAP, first.end)
    assert second.end == len(waveform)


def test_in_steady_noise_nothing_is_left_out() -> None:
    pieces = cut(noise(100))
    assert all(piece.overlaps_next for piece in pieces[:-1])
    assert [p.begin for p in pieces] == [0, *(p.end for p in pieces[:-1])]
    assert pieces[-1].end == 100 * RATE


def test_speech_in_noise_is_kept() -> None:
    """A voice 12 dB above the noise, half of the time."""
    waveform = noise(100, 0.05)
    for start in range(0, 100, 4):
        waveform[start * RATE : (start + 2) * RATE] += speech(2, 0.3, start)
    pieces = cut(waveform)
    covered = np.zeros(len(waveform), bool)
    for piece in pieces:
        covered[piece.begin : piece.end] = True
    assert covered.all()


def test_quiet_people_after_loud_ones_are_kept() -> None:
    people = [(60, 0.2), (5, 1e-4), (60, 0.01), (5, 1e-4)]
    pieces = cut(np.concatenate([speech(*part) for part in people]))
    assert sum(piece.end - piece.begin for piece in pieces) >= 120 * RATE


def test_digital_silence_has_no_pieces() -> None:
    assert cut(np.zeros(1000 * RATE, np.float32)) == []


def test_no_crumb_is_left_at_the_end() -> None:
    for seconds in (30.1, 31, 34.9, 35.1):
        assert all(len(piece.waveform) >= MIN_SECONDS * RATE for piece in cut(noise(seconds)))


def test_whoever_speaks_on_live_is_cut_in_a_dip() -> None:
    waveform = noise(31)
    waveform[22 * RATE : 22 * RATE + 300] = 0
    waveform[27 * RATE : 27 * RATE + 100] = 0  # a stop consonant
    assert 22 * RATE < quietest_cut(waveform, RATE) < 22 * RATE + 300
