"""Test signals."""

import numpy as np


def tone(
    frequency: float = 440.0, seconds: float = 1.0, sample_rate: int = 16_000, level: float = 0.5
) -> np.ndarray:
    """Return a (time,) float32 sine that starts at zero."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (level * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def noise(
    seconds: float = 1.0, sample_rate: int = 16_000, level: float = 0.1, seed: int = 0
) -> np.ndarray:
    """Return (time,) float32 white Gaussian noise of deviation ``level``."""
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(round(seconds * sample_rate))).astype(np.float32)
