"""The decoder's weights that make the fewest word errors on validation data."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

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
SEARCH_WIDTH = 50  # of the first search, which has most of the trials; wider beams take longer
BEAM_WIDTHS = (25, 50, 100, 200, 400)
WORTH_IT = 0.001  # relative gain that a step, or a wider beam, must bring
CHAR_LM_WEIGHTS = tuple(i / 20 for i in range(31))
CHAR_SCORES = tuple(i / 4 for i in range(17))  # per weight: a character costs the model about 1

Decode = Callable[[DecoderConfig, int], list[list[Hypothesis]]]
Score = Callable[[list[str]], Sequence[float]]


@dataclass(frozen=True)
class Trial:
    """One setting on the validation data.

    Attributes:
        config: the setting.
        wer: word errors per reference word.
        seconds: how long it took.
        rescored: whether the character model had a say.
    """

    config: DecoderConfig
    wer: float
    seconds: float
    rescored: bool = False


def tune(
    decode: Decode,
    references: Sequence[str],
    start: DecoderConfig,
    on_trial: Callable[[Trial], None] | None = None,
    *,
    spells_unknown: bool = True,
    score: Score | None = None,
) -> tuple[DecoderConfig, list[Trial]]:
    """Search for the best settings of a beam with a language model.

    With a narrow beam and n-grams alone, first the score of unknown words, as the best weights
    where these come too cheap are others; then a coarse grid of weight and word score, and a walk
    downhill from its best point, there with the score of unknown words and the weight of the
    priors as well. From its end a walk with the widest beam, which wants less of the language
    model, and with the character model, if there is one; then the smallest beam that is as good
    as wider ones.

    Args:
        decode: returns the best hypotheses of each utterance under a setting, so many at most.
        references: what was said.
        start: settings that are not searched, the priors, and the widest beam to try.
        on_trial: called after each trial.
        spells_unknown: whether unknown words can be written, so that their score matters.
        score: returns the natural log of the probability of each text by the character model
            that is to rescore ``start.n_best`` texts of each utterance.

    Returns:
        The best settings and all trials in their order.
    """
    widest = start.beam_width
    beam_widths = [*(width for width in BEAM_WIDTHS if width < widest), widest]
    start = replace(
        start,
        method="beam",
        beam_width=min(SEARCH_WIDTH, widest),
        lm_weight=LM_WEIGHT,
        word_score=WORD_SCORE,
        prior_weight=PRIOR_WEIGHT if start.priors else 0.0,
    )
    if score:
        start = replace(start, char_lm_weight=0.0, char_score=0.0)  # until it has a say
    matters = {"unknown_score": spells_unknown, "prior_weight": bool(start.priors)}
    steps = {name: step for name, step in STEPS.items() if matters.get(name, True)}
    search = _Search(decode, references, on_trial)
    unknown_scores = UNKNOWN_SCORES if spells_unknown else (start.unknown_score,)
    best = search.best(replace(start, unknown_score=unknown) for unknown in unknown_scores)
    best = search.best(
        replace(best.config, lm_weight=weight, word_score=word_score)
        for weight in LM_WEIGHTS
        for word_score in WORD_SCORES
    )
    narrow = search.walk(best.config, steps).config
    search.score = score
    wide = search.walk(replace(narrow, beam_width=widest), steps).config
    found = [search.attempt(replace(wide, beam_width=width)) for width in beam_widths]
    found.append(search.attempt(narrow))
    found.sort(key=lambda trial: trial.config.beam_width)
    lowest = min(trial.wer for trial in found)
    chosen = next(trial for trial in found if trial.wer <= lowest * (1 + WORTH_IT))
    return chosen.config, list(search.trials.values())


@dataclass
class _Search:
    """Trials so far, none of them made twice.

    Attributes:
        decode, references, on_trial, score: as in :func:`tune`; with a ``score``, a trial is worth
            what the best weights of the character model make of it, and its config has these.
        trials: by setting without weights of the character model, and whether it had a say.
    """

    decode: Decode
    references: Sequence[str]
    on_trial: Callable[[Trial], None] | None
    score: Score | None = None
    trials: dict[tuple[DecoderConfig, bool], Trial] = field(default_factory=dict)

    def attempt(self, config: DecoderConfig) -> Trial:
        key = replace(config, char_lm_weight=0.0, char_score=0.0), self.score is not None
        if key not in self.trials:
            begin = time.perf_counter()
            trial = self._rescored(config, self.score) if self.score else self._decoded(config)
            self.trials[key] = replace(trial, seconds=time.perf_counter() - begin)
            if self.on_trial:
                self.on_trial(self.trials[key])
        return self.trials[key]

    def _decoded(self, config: DecoderConfig) -> Trial:
        texts = [n_best[0].text for n_best in self.decode(config, 1)]
        return Trial(config, word_error_rate(self.references, texts), 0.0)

    def _rescored(self, config: DecoderConfig, score: Score) -> Trial:
        n_best_lists = self.decode(config, config.n_best)
        log_probs = score([hypothesis.text for n_best in n_best_lists for hypothesis in n_best])
        _, trials = tune_rescoring(n_best_lists, log_probs, self.references, config)
        return min(trials, key=lambda trial: trial.wer)

    def best(self, configs: Iterable[DecoderConfig]) -> Trial:
        """Return the best of some settings; of equals the first."""
        return min(map(self.attempt, configs), key=lambda trial: trial.wer)

    def walk(self, config: DecoderConfig, steps: Mapping[str, float]) -> Trial:
        """Go downhill, on in the direction that was good, until no step is worth it."""
        best = self.attempt(config)
        moves = [(name, sign * step) for name, step in steps.items() for sign in (-1, 1)]
        tried = 0
        while tried < len(moves):
            name, step = moves[0]
            value = round(getattr(best.config, name) + step, 3)
            if value >= LEAST[name] and (
                (trial := self.attempt(replace(best.config, **{name: value}))).wer
                < best.wer * (1 - WORTH_IT)
            ):
                best, tried = trial, 0
            else:
                moves.append(moves.pop(0))
                tried += 1
        return best


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
            trials.setdefault(config, Trial(config, wer, time.perf_counter() - begin, True))
    return min(trials.values(), key=lambda trial: trial.wer).config, list(trials.values())


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Return word errors per reference word over a whole corpus."""
    pairs = [(r.split(), h.split()) for r, h in zip(references, hypotheses, strict=True)]
    errors = sum(Levenshtein.distance(reference, text) for reference, text in pairs)
    return errors / max(1, sum(len(reference) for reference, _ in pairs))
