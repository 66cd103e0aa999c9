"""The decoder's weights that make the fewest word errors on validation data."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from rapidfuzz.distance import Levenshtein

from asr.decoding.config import DecoderConfig

LM_WEIGHTS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.3)
WORD_SCORES = (-1.0, 0.0, 1.0, 2.0, 3.0)
NEIGHBOURS = ((-0.1, 0.0), (0.1, 0.0), (0.0, -0.5), (0.0, 0.5))
UNKNOWN_SCORES = (-2.0, -4.0, -6.0, -9.0, -13.0, -100.0)
SEARCH_WIDTH = 50  # weights that are best for it are good for wider beams, and it takes less time
BEAM_WIDTHS = (25, 50, 100, 200)
WORTH_IT = 0.001  # relative gain that a wider beam must bring

Decode = Callable[[DecoderConfig], list[str]]


@dataclass(frozen=True)
class Trial:
    """One setting on the validation data.

    Attributes:
        config: the setting.
        wer: word errors per reference word.
        seconds: how long decoding took.
    """

    config: DecoderConfig
    wer: float
    seconds: float


def tune(
    decode: Decode,
    references: Sequence[str],
    start: DecoderConfig,
    on_trial: Callable[[Trial], None] | None = None,
) -> tuple[DecoderConfig, list[Trial]]:
    """Search for the best settings of a beam with a language model.

    A coarse grid of weight and word score, then a walk downhill from its best point, then the
    score of unknown words, then the smallest beam that is as good as wider ones.

    Args:
        decode: returns the text of each utterance under a setting.
        references: what was said.
        start: settings that are not searched.
        on_trial: called after each trial.

    Returns:
        The best settings and all trials in their order.
    """
    trials: dict[DecoderConfig, Trial] = {}

    def attempt(configs: Iterable[DecoderConfig]) -> Trial:
        """Return the best of some settings; of equals the first."""
        found = []
        for config in configs:
            if config not in trials:
                begin = time.perf_counter()
                texts = decode(config)
                seconds = time.perf_counter() - begin
                trials[config] = Trial(config, word_error_rate(references, texts), seconds)
                if on_trial:
                    on_trial(trials[config])
            found.append(trials[config])
        return min(found, key=lambda trial: trial.wer)

    start = replace(start, method="beam", beam_width=SEARCH_WIDTH)
    best = attempt(
        replace(start, lm_weight=weight, word_score=score)
        for weight in LM_WEIGHTS
        for score in WORD_SCORES
    )
    while True:
        better = attempt([best.config, *_neighbours(best.config)])
        if better is best:
            break
        best = better
    best = attempt(
        [best.config, *(replace(best.config, unknown_score=score) for score in UNKNOWN_SCORES)]
    )
    widths = [attempt([replace(best.config, beam_width=width)]) for width in BEAM_WIDTHS]
    lowest = min(trial.wer for trial in widths)
    chosen = next(trial for trial in widths if trial.wer <= lowest * (1 + WORTH_IT))
    return chosen.config, list(trials.values())


def _neighbours(config: DecoderConfig) -> list[DecoderConfig]:
    return [
        replace(
            config,
            lm_weight=round(config.lm_weight + weight, 3),
            word_score=round(config.word_score + score, 3),
        )
        for weight, score in NEIGHBOURS
        if config.lm_weight + weight > 0
    ]


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Return word errors per reference word over a whole corpus."""
    pairs = [(r.split(), h.split()) for r, h in zip(references, hypotheses, strict=True)]
    errors = sum(Levenshtein.distance(reference, text) for reference, text in pairs)
    return errors / max(1, sum(len(reference) for reference, _ in pairs))
