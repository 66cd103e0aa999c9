"""The search for decoder settings: on a known surface, and from a manifest to a bundle."""

from dataclasses import replace

import pytest
import torch

from asr.decoding.config import DecoderConfig
from asr.decoding.hypothesis import Hypothesis
from asr.decoding.rescoring import Rescorer
from asr.decoding.tuning import (
    BEAM_WIDTHS,
    SEARCH_WIDTH,
    Trial,
    tune,
    tune_rescoring,
    word_error_rate,
)
from asr.lm.character import CharacterModel, CharacterModelConfig
from asr.plots.wer_surface import draw_wer_surface

REFERENCES = ["A " * 1000]
WIDE = DecoderConfig(beam_width=400)


def n_best_lists(texts: list[list[str]]) -> list[list[Hypothesis]]:
    """Return hypotheses, each worse than the one before it by 1."""
    return [
        [Hypothesis(text, (), (), -float(i), -float(i)) for i, text in enumerate(n_best)]
        for n_best in texts
    ]


def with_errors(count: float) -> list[list[Hypothesis]]:
    """Return a hypothesis with that many word errors."""
    wrong = round(count)
    return n_best_lists([[" ".join(["X"] * wrong + ["A"] * (1000 - wrong))]])


def valley(config: DecoderConfig, n_best: int) -> list[list[Hypothesis]]:
    """Return errors that are fewest at weight 0.7, word score 1.5, unknown score -4, width 100."""
    return with_errors(
        100
        + 500 * abs(config.lm_weight - 0.7)
        + 60 * abs(config.word_score - 1.5)
        + 5 * abs(config.unknown_score + 4)
        + 2 * max(0, 100 - config.beam_width)
    )


def test_finds_the_lowest_point_of_a_valley() -> None:
    told: list[Trial] = []
    chosen, trials = tune(valley, REFERENCES, replace(WIDE, hotword_score=3.0), told.append)
    expected = DecoderConfig(
        "beam", 100, lm_weight=0.7, word_score=1.5, unknown_score=-4.0, hotword_score=3.0
    )
    assert chosen == expected
    assert told == trials
    assert len({trial.config for trial in trials}) == len(trials)
    best = min(trials, key=lambda trial: trial.wer)
    assert best.wer == pytest.approx(0.1)


def test_unknown_words_that_come_too_cheap_do_not_mislead() -> None:
    """Until they are dear, other weights look best, and from those no step leads on."""

    def errors(config: DecoderConfig, n_best: int) -> list[list[Hypothesis]]:
        if config.unknown_score > -12:
            return with_errors(200 + 500 * abs(config.lm_weight - 1.3))
        return with_errors(100 + 500 * abs(config.lm_weight - 0.9) - config.unknown_score)

    chosen, _ = tune(errors, REFERENCES, WIDE)
    assert (chosen.lm_weight, chosen.unknown_score) == (0.9, -13.0)


def test_finds_the_weight_of_the_priors() -> None:
    start = DecoderConfig(priors=(-1.0, -2.0))
    chosen, _ = tune(
        lambda config, n_best: with_errors(100 + 300 * abs(config.prior_weight - 0.8)),
        REFERENCES,
        start,
    )
    assert (chosen.prior_weight, chosen.priors) == (0.8, (-1.0, -2.0))


def test_takes_no_wider_beam_than_pays() -> None:
    chosen, _ = tune(lambda config, n_best: with_errors(100), REFERENCES, WIDE)
    assert chosen.beam_width == BEAM_WIDTHS[0]


def test_weights_stay_above_zero() -> None:
    chosen, trials = tune(
        lambda config, n_best: with_errors(300 * config.lm_weight), REFERENCES, DecoderConfig()
    )
    assert 0 < chosen.lm_weight <= 0.1
    assert all(trial.config.lm_weight > 0 for trial in trials)


def test_weights_are_found_anew_for_the_widest_beam() -> None:
    """A wider beam wants less of the language model; each counts its own valley."""

    def errors(config: DecoderConfig, n_best: int) -> list[list[Hypothesis]]:
        assert n_best == 1
        best = 1.2 if config.beam_width < 400 else 0.7
        return with_errors(100 + 500 * abs(config.lm_weight - best) + 3000 / config.beam_width)

    chosen, trials = tune(errors, REFERENCES, WIDE)
    assert (chosen.lm_weight, chosen.beam_width) == (0.7, 400)
    narrow = [trial for trial in trials if trial.config.beam_width == SEARCH_WIDTH]
    assert min(narrow, key=lambda trial: trial.wer).config.lm_weight == 1.2


@pytest.mark.parametrize("penalty", [0, 60])
def test_a_wide_beam_that_is_no_better_is_not_taken(penalty: int) -> None:
    """With the weights of the wide beam the narrow one is worse, with its own as good or better."""

    def errors(config: DecoderConfig, n_best: int) -> list[list[Hypothesis]]:
        wide = config.beam_width == 400
        best = 0.7 if wide else 1.2
        return with_errors(100 + 500 * abs(config.lm_weight - best) + penalty * wide)

    chosen, _ = tune(errors, REFERENCES, WIDE)
    assert (chosen.lm_weight, chosen.beam_width) == (1.2, SEARCH_WIDTH)


def test_weights_are_those_that_suit_the_character_model() -> None:
    """Rescored, the second of two texts may win; without, the first is all that counts."""

    def texts(config: DecoderConfig, n_best: int) -> list[list[Hypothesis]]:
        [[first]] = with_errors(400 + 500 * abs(config.lm_weight - 1.2))
        [[second]] = with_errors(100 + 500 * abs(config.lm_weight - 0.8))
        return [[first, replace(second, score=-1.0)][:n_best]]

    def score(texts: list[str]) -> list[float]:
        return [-float(text.count("X")) for text in texts]

    start = DecoderConfig(n_best=2)
    chosen, trials = tune(texts, REFERENCES, start, score=score)
    assert chosen.lm_weight == 0.8
    assert chosen.char_lm_weight > 0
    assert min(trial.wer for trial in trials) == pytest.approx(0.1)
    alone = [trial for trial in trials if not trial.rescored]
    assert {trial.config.beam_width for trial in alone} == {SEARCH_WIDTH}
    chosen, _ = tune(texts, REFERENCES, start)
    assert (chosen.lm_weight, chosen.char_lm_weight) == (1.2, start.char_lm_weight)


def test_word_error_rate_is_that_of_the_corpus() -> None:
    assert word_error_rate(["A B", "C"], ["A", "C D"]) == pytest.approx(2 / 3)
    assert word_error_rate([""], [""]) == 0


@pytest.mark.parametrize(
    ("widest", "widths"), [(1000, {*BEAM_WIDTHS, 1000}), (400, {*BEAM_WIDTHS}), (30, {25, 30})]
)
def test_no_beam_is_wider_than_that_of_the_start(widest: int, widths: set[int]) -> None:
    _, trials = tune(valley, REFERENCES, DecoderConfig("beam", widest))
    assert {trial.config.beam_width for trial in trials} == widths


def test_other_settings_are_kept() -> None:
    start = DecoderConfig(confidence_scale=2.0)
    chosen, _ = tune(valley, REFERENCES, start)
    assert chosen.confidence_scale == 2.0


def test_each_trial_of_rescoring_ranks_as_the_rescorer_does() -> None:
    torch.manual_seed(3)
    model = CharacterModel(CharacterModelConfig("gru", 8)).eval()
    with torch.no_grad():
        model.output.weight.mul_(8)
    lists = n_best_lists([["A B", "A", "B B C"], ["C"], ["B A", "", "C B A", "A B C D"]])
    texts = [hypothesis.text for n_best in lists for hypothesis in n_best]
    references = ["B B C", "C A", "A B C"]
    chosen, trials = tune_rescoring(
        lists, model.score(texts).tolist(), references, DecoderConfig("beam", 20)
    )
    assert len({trial.wer for trial in trials}) > 2
    for trial in trials:
        config = trial.config
        rescorer = Rescorer(
            model.tokenizer,
            model,
            weight=config.char_lm_weight,
            character_score=config.char_score,
        )
        found = [n_best[0].text for n_best in rescorer.rescore(lists)]
        assert trial.wer == pytest.approx(word_error_rate(references, found))
        assert config == replace(
            DecoderConfig("beam", 20),
            char_lm_weight=config.char_lm_weight,
            char_score=config.char_score,
        )
    best = min(trial.wer for trial in trials)
    good = [trial.config for trial in trials if trial.wer == best]
    assert chosen == min(good, key=lambda config: config.char_lm_weight)


def test_a_character_model_that_does_not_help_is_left_out() -> None:
    lists = n_best_lists([["RIGHT", "WRONG"]])
    chosen, trials = tune_rescoring(lists, [-9.0, -1.0], ["RIGHT"], DecoderConfig("beam"))
    assert (chosen.char_lm_weight, chosen.char_score) == (0, 0)
    assert trials[0].config == chosen
    chosen, _ = tune_rescoring(lists, [-9.0, -1.0], ["WRONG"], DecoderConfig("beam"))
    assert chosen.char_lm_weight == pytest.approx(0.15)  # the first for which 8 x > 1


def test_the_surface_shows_the_best_rate_of_each_point_even_if_it_is_zero() -> None:
    """Priors make several trials of one point; few and clear recordings may have no errors."""
    config = DecoderConfig("beam", 50, lm_weight=0.5, word_score=0.0, prior_weight=0.5)
    points = [replace(config, lm_weight=x, word_score=y) for x in (0.5, 1.0) for y in (0.0, 1.0)]
    trials = [Trial(point, 0.3, 1.0) for point in points]
    trials.append(Trial(replace(points[1], prior_weight=0.4), 0.0, 1.0))
    trials.append(Trial(replace(points[1], prior_weight=0.6), 0.2, 1.0))
    trials.append(Trial(replace(points[0], beam_width=400), 0.1, 1.0))  # another surface
    trials.append(Trial(points[0], 0.1, 1.0, rescored=True))  # yet another
    figure = draw_wer_surface(trials, trials[4].config, "title")
    shown = {(*text.xy, text.get_text()) for text in figure.axes[0].texts}
    assert shown == {
        (0.5, 0.0, "30.0%"),
        (0.5, 1.0, "0.0%"),
        (1.0, 0.0, "30.0%"),
        (1.0, 1.0, "30.0%"),
    }
    figure.canvas.draw()
