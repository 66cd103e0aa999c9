"""The decoder's weights that make the fewest word errors on validation data."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from rapidfuzz.distance import Levenshtein

from asr.decoding.config import DecoderConfig
from asr.decoding.hypothesis import Hypothesis

LM_WEIGHTS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.3)
WORD_SCORES = (-2.0, -1.0, 0.0, 1.0, 2.0)
UNKNOWN_SCORES = (-2.0, -4.0, -6.0, -9.0, -13.0, -18.0, -100.0)
LM_WEIGHT, WORD_SCORE, PRIOR_WEIGHT = 0.8, 0.0, 0.5  # where unknown scores are tried
STEPS = {"lm_weight": 0.1, "word_score": 0.5, "prior_weight": 0.1, "unknown_score": 2.0}
LEAST = {"lm_weight": 0.01, "prior_weight": 0.0, "word_score": -np.inf, "unknown_score": -np.inf}
SEARCH_WIDTH = 50  # weights that are best for it are good for wider beams, and it takes less time
BEAM_WIDTHS = (25, 50, 100, 200, 400)
WORTH_IT = 0.001  # relative gain that a wider beam must bring
CHAR_LM_WEIGHTS = tuple(i / 20 for i in range(31))
CHAR_SCORES = tuple(i / 4 for i in range(17))  # per weight: a character costs the model about 1

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
    *,
    spells_unknown: bool = True,
) -> tuple[DecoderConfig, list[Trial]]:
    """Search for the best settings of a beam with a language model.

    First the score of unknown words, as the best weights where these come too cheap are others;
    then a coarse grid of weight and word score, and a walk downhill from its best point, there
    with the score of unknown words and the weight of the priors as well; then the smallest beam
    that is as good as wider ones.

    Args:
        decode: returns the text of each utterance under a setting.
        references: what was said.
        start: settings that are not searched, and the priors.
        on_trial: called after each trial.
        spells_unknown: whether unknown words can be written, so that their score matters.

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

    prior_weight = PRIOR_WEIGHT if start.priors else 0.0
    beam_widths = sorted({*BEAM_WIDTHS, start.beam_width})
    start = replace(
        start,
        method="beam",
        beam_width=SEARCH_WIDTH,
        lm_weight=LM_WEIGHT,
        word_score=WORD_SCORE,
        prior_weight=prior_weight,
    )
    unknown_scores = UNKNOWN_SCORES if spells_unknown else (start.unknown_score,)
    best = attempt(replace(start, unknown_score=score) for score in unknown_scores)
    best = attempt(
        replace(best.config, lm_weight=weight, word_score=score)
        for weight in LM_WEIGHTS
        for score in WORD_SCORES
    )
    while True:
        better = attempt([best.config, *_neighbours(best.config, spells_unknown)])
        if better is best:
            break
        best = better
    widths = [attempt([replace(best.config, beam_width=width)]) for width in beam_widths]
    lowest = min(trial.wer for trial in widths)
    chosen = next(trial for trial in widths if trial.wer <= lowest * (1 + WORTH_IT))
    return chosen.config, list(trials.values())


def tune_rescoring(
    n_best_lists: Sequence[Sequence[Hypothesis]],
    log_probs: Sequence[float],
    references: Sequence[str],
    start: DecoderConfig,
) -> tuple[DecoderConfig, list[Trial]]:
    """Search for the weight of a character model that rescores n-best lists.

    A trial only ranks the lists again, so that a whole grid takes a moment.

    Args:
        n_best_lists: what the beam found for each utterance.
        log_probs: natural log, by the character model, of each hypothesis of the first list,
            then of the second, and so on.
        references: what was said.
        start: settings that are not searched.

    Returns:
        The best settings, of equals the one with the smallest weight, and all trials; the first
        of them goes without the model.
    """
    shape = len(n_best_lists), max(map(len, n_best_lists))
    found = np.full(shape, -np.inf)  # what a shorter list lacks never wins
    foreseen, lengths, errors = np.zeros((3, *shape))
    values = iter(log_probs)
    for i, (n_best, reference) in enumerate(zip(n_best_lists, references, strict=True)):
        for k, hypothesis in enumerate(n_best):
            found[i, k], foreseen[i, k] = hypothesis.score, next(values)
            lengths[i, k] = len(hypothesis.text)
            errors[i, k] = Levenshtein.distance(reference.split(), hypothesis.text.split())
    words = max(1, sum(len(reference.split()) for reference in references))
    trials: dict[DecoderConfig, Trial] = {}
    for weight in CHAR_LM_WEIGHTS:
        for ratio in CHAR_SCORES:
            score = round(weight * ratio, 4)
            config = replace(start, char_lm_weight=weight, char_score=score)
            begin = time.perf_counter()
            best = (found + weight * foreseen + score * lengths).argmax(axis=1)
            wer = float(errors[np.arange(len(best)), best].sum()) / words
            trials.setdefault(config, Trial(config, wer, time.perf_counter() - begin))
    return min(trials.values(), key=lambda trial: trial.wer).config, list(trials.values())


def _neighbours(config: DecoderConfig, spells_unknown: bool) -> list[DecoderConfig]:
    matters = {"unknown_score": spells_unknown, "prior_weight": bool(config.priors)}
    moves = [
        (name, round(getattr(config, name) + sign * step, 3))
        for name, step in STEPS.items()
        for sign in (-1, 1)
        if matters.get(name, True)
    ]
    return [replace(config, **{name: value}) for name, value in moves if value >= LEAST[name]]


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Return word errors per reference word over a whole corpus."""
    pairs = [(r.split(), h.split()) for r, h in zip(references, hypotheses, strict=True)]
    errors = sum(Levenshtein.distance(reference, text) for reference, text in pairs)
    return errors / max(1, sum(len(reference) for reference, _ in pairs))
