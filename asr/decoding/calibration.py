"""Confidences that mean what they say: of words with confidence 0.8, four in five are right."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein

from asr.errors import ConfigError

EDGE = 1e-6  # keeps log-odds finite
RIDGE = 1e-3  # keeps the fit finite where the words can be told apart perfectly


@dataclass(frozen=True)
class Calibration:
    """A straight line through log-odds.

    Reference: Platt 1999, "Probabilistic Outputs for Support Vector Machines".

    Attributes:
        scale: slope, above 0, so that the order of confidences stays.
        offset: intercept.
    """

    scale: float = 1.0
    offset: float = 0.0

    def __call__(self, confidence: float) -> float:
        """Return the calibrated confidence, 0..1."""
        if self == Calibration():
            return confidence
        odds = self.scale * float(_log_odds(confidence)) + self.offset
        return (1 + math.tanh(odds / 2)) / 2  # the logistic function, without overflow


def fit_calibration(confidences: Sequence[float], right: Sequence[bool]) -> Calibration:
    """Fit a calibration to words of which it is known whether they are right.

    Maximises the likelihood, by Newton's method with halved steps where a whole one leads astray.

    Args:
        confidences: 0..1, not calibrated.
        right: whether each word was recognised rightly.

    Raises:
        ConfigError: there are no right or no wrong words, or confidence says nothing of them.
    """
    y = np.asarray(right, float)
    if not 0 < y.sum() < len(y):
        raise ConfigError("calibration needs words that are right and such that are wrong")
    x = np.stack([_log_odds(confidences), np.ones(len(y))], axis=1)
    weights = np.array([1.0, 0.0])
    for _ in range(50):
        p = (1 + np.tanh(x @ weights / 2)) / 2
        gradient = x.T @ (y - p) - RIDGE * weights
        hessian = (x * (p * (1 - p))[:, None]).T @ x + RIDGE * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        if np.abs(step).max() < 1e-9:
            break
        while _misfit(x, y, weights + step) > _misfit(x, y, weights):
            step /= 2
        weights += step
    if weights[0] <= 0:
        raise ConfigError("wrong words are as confident as right ones; calibrate on more data")
    return Calibration(float(weights[0]), float(weights[1]))


@dataclass(frozen=True)
class Bin:
    """Words of similar confidence.

    Attributes:
        words: how many.
        confidence: their mean confidence.
        accuracy: share of them that is right.
    """

    words: int
    confidence: float
    accuracy: float


def reliability(
    confidences: Sequence[float], right: Sequence[bool], bins: int = 10
) -> tuple[list[Bin], float]:
    """Return bins of equal width, empty ones left out, and the expected calibration error.

    Reference: Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian
    Binning".

    Raises:
        ConfigError: there are no words.
    """
    if not len(confidences):
        raise ConfigError("there are no words whose confidence could be judged")
    c, y = np.asarray(confidences, float), np.asarray(right, float)
    index = np.minimum((c * bins).astype(int), bins - 1)
    found = [
        Bin(int(of.sum()), float(c[of].mean()), float(y[of].mean()))
        for of in (index == i for i in range(bins))
        if of.any()
    ]
    gaps = sum(b.words * abs(b.confidence - b.accuracy) for b in found)
    return found, gaps / len(c)


def right_words(reference: Sequence[str], hypothesis: Sequence[str]) -> list[bool]:
    """Return, for each word of a hypothesis, whether the best alignment has it right."""
    right = [False] * len(hypothesis)
    for block in Levenshtein.opcodes(reference, hypothesis):
        if block.tag == "equal":
            right[block.dest_start : block.dest_end] = [True] * (block.dest_end - block.dest_start)
    return right


def _misfit(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    odds = x @ weights
    return float((np.logaddexp(0, odds) - y * odds).sum() + RIDGE / 2 * weights @ weights)


def _log_odds(confidence: float | Sequence[float]) -> np.ndarray:
    p = np.clip(np.asarray(confidence, float), EDGE, 1 - EDGE)
    return np.log(p) - np.log1p(-p)
