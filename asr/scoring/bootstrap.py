"""How far a rate or a difference of rates would move with other utterances or speakers.

Whole blocks are drawn with replacement: all utterances of a speaker together where every
speaker is known and there are at least two, because a speaker's utterances resemble each other
and single ones would make the interval too narrow; single utterances otherwise.

Few blocks vary less among themselves than others like them would; limits are set so much wider as
Student's t is than the normal distribution. With two or three nothing helps.

References: Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR
performance evaluation"; Efron and Tibshirani 1993, "An Introduction to the Bootstrap"; Hesterberg
2015, "What Teachers Should Know about the Bootstrap" (expanded percentiles).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from asr.errors import ManifestError
from asr.scoring.utterances import Counts, ScoredUtterance, total

Unit = Literal["speaker", "utterance"]
Interval = tuple[float, float]

RESAMPLES = 2000
DRAWN_AT_ONCE = 2**18  # blocks; bounds the memory
SEED = 0  # the same results always give the same interval


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two systems on the same utterances.

    Attributes:
        utterances: how many.
        wer_a: word error rate of the first system.
        wer_b: word error rate of the second.
        difference: ``wer_b - wer_a``.
        difference_ci: its 95 % interval.
        p_value: two-sided, for the hypothesis that both systems are equally good.
        resampled_by: what was drawn, speakers or utterances.
    """

    utterances: int
    wer_a: float
    wer_b: float
    difference: float
    difference_ci: Interval
    p_value: float
    resampled_by: Unit


def resampling_unit(utterances: Sequence[ScoredUtterance]) -> Unit:
    """Return what to draw: speakers if all are known and there are at least two."""
    speakers = {utterance.speaker for utterance in utterances}
    return "speaker" if "" not in speakers and len(speakers) > 1 else "utterance"


def rate_interval(
    utterances: Sequence[ScoredUtterance], counts: Callable[[ScoredUtterance], Counts]
) -> Interval:
    """Return the 95 % percentile interval of a corpus-level rate.

    Args:
        utterances: at least one.
        counts: which counts of an utterance to take, words or characters.
    """
    blocks = _block_counts(utterances, counts)
    return _percentiles(_resampled_rates([blocks])[0], len(blocks))


def compare(a: Sequence[ScoredUtterance], b: Sequence[ScoredUtterance]) -> Comparison:
    """Compare two systems with a paired bootstrap: both see the same draws.

    Args:
        a: results of the first system, at least one.
        b: results of the second on the same utterances, in any order.

    Raises:
        ManifestError: ids or references differ.
    """
    if {utterance.id: utterance.reference for utterance in a} != {
        utterance.id: utterance.reference for utterance in b
    }:
        raise ManifestError(
            "the two results hold different utterances or references; "
            "evaluate both systems on the same manifest"
        )
    a, b = paired(a, b)
    wer_a, wer_b = (total(u.words for u in system).rate for system in (a, b))
    counts = [_block_counts(system, lambda u: u.words) for system in (a, b)]
    rates, blocks = _resampled_rates(counts), len(counts[0])
    differences = rates[1] - rates[0]
    # Counting the observed sample among the resamples keeps the p-value above 0.
    tails = [1 + np.sum(differences <= 0), 1 + np.sum(differences >= 0)]
    return Comparison(
        utterances=len(a),
        wer_a=wer_a,
        wer_b=wer_b,
        difference=wer_b - wer_a,
        difference_ci=_percentiles(differences, blocks),
        p_value=_p_value(min(0.5, float(min(tails)) / (RESAMPLES + 1)), blocks),
        resampled_by=resampling_unit(a),
    )


def paired(
    a: Sequence[ScoredUtterance], b: Sequence[ScoredUtterance]
) -> tuple[list[ScoredUtterance], list[ScoredUtterance]]:
    """Return both in the order of the first, and with the same speakers.

    Speakers are those of the first if it knows them all, else those of the second.
    """
    theirs = {utterance.id: utterance for utterance in b}
    b = [theirs[utterance.id] for utterance in a]
    speakers = [u.speaker for u in (a if all(u.speaker for u in a) else b)]
    first, second = (
        [replace(u, speaker=speaker) for u, speaker in zip(system, speakers, strict=True)]
        for system in (a, b)
    )
    return first, second


def _block_counts(
    utterances: Sequence[ScoredUtterance], counts: Callable[[ScoredUtterance], Counts]
) -> np.ndarray:
    """Return (blocks, 2): errors and reference length of each block."""
    by_speaker = resampling_unit(utterances) == "speaker"
    blocks: dict[str, Counts] = {}
    for utterance in utterances:
        block = utterance.speaker if by_speaker else utterance.id
        blocks[block] = blocks.get(block, Counts()) + counts(utterance)
    return np.array([(block.errors, block.length) for block in blocks.values()])


def _resampled_rates(systems: list[np.ndarray]) -> list[np.ndarray]:
    """Return (RESAMPLES,) rates of each system, every draw shared by all systems."""
    generator = np.random.default_rng(SEED)
    blocks = len(systems[0])
    at_once = max(1, DRAWN_AT_ONCE // blocks)
    sums: list[list[np.ndarray]] = [[] for _ in systems]
    for start in range(0, RESAMPLES, at_once):
        drawn = generator.integers(blocks, size=(min(at_once, RESAMPLES - start), blocks))
        for system, parts in zip(systems, sums, strict=True):
            parts.append(system[drawn].sum(axis=1))
    pooled = [np.concatenate(parts) for parts in sums]
    return [sum_[:, 0] / np.maximum(sum_[:, 1], 1) for sum_ in pooled]


def _percentiles(values: np.ndarray, blocks: int) -> Interval:
    freedom = max(blocks - 1, 1)
    tail = 100 * ndtr(stdtrit(freedom, 0.025) * (blocks / freedom) ** 0.5)  # 2.5 % for many blocks
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def _p_value(tail: float, blocks: int) -> float:
    """Return the two-sided p.

    With six blocks or more it is below 0.05, or about that, where the interval of
    :func:`_percentiles` has no 0.
    """
    freedom = max(blocks - 1, 1)
    p = 2 * stdtr(freedom, ndtri(tail) * (freedom / blocks) ** 0.5)
    # If both were equally good, all blocks would favour the same one so often.
    return float(max(p, 2.0 ** (1 - blocks)))
