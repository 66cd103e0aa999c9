"""Cuts long audio into pieces that the model can take, where nobody speaks."""

import numpy as np

MAX_SECONDS = 30.0
SEARCH_SECONDS = 10.0  # a pause is looked for in this stretch before the limit
PAUSE_SECONDS = 0.2  # shorter dips of the energy are stops inside words
STEP_SECONDS = 0.01


def split_at_pauses(waveform: np.ndarray, sample_rate: int) -> list[tuple[int, int]]:
    """Return the pieces of a recording as (start, end) samples; together they cover it.

    Audio beyond ``MAX_SECONDS`` is cut in the middle of the quietest stretch of
    ``PAUSE_SECONDS`` found within ``SEARCH_SECONDS`` before that limit.

    Args:
        waveform: (time,) float32.
        sample_rate: Hz.
    """
    limit, search = int(MAX_SECONDS * sample_rate), int(SEARCH_SECONDS * sample_rate)
    pieces, start = [], 0
    while len(waveform) - start > limit:
        left = start + limit - search
        end = left + _quietest(waveform[left : start + limit], sample_rate)
        pieces.append((start, end))
        start = end
    return [*pieces, (start, len(waveform))]


def _quietest(waveform: np.ndarray, sample_rate: int) -> int:
    """Return the sample in the middle of the quietest stretch."""
    step = max(1, int(STEP_SECONDS * sample_rate))
    steps = waveform[: len(waveform) // step * step].reshape(-1, step)
    width = round(PAUSE_SECONDS / STEP_SECONDS)
    energy = np.convolve(np.square(steps).sum(axis=1), np.ones(width), mode="valid")
    return int(step * (energy.argmin() + width / 2))
