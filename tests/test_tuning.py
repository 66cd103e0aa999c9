"""The search for decoder settings: on a known surface, and from a manifest to a bundle."""

import pytest

from asr.decoding.config import DecoderConfig
from asr.decoding.tuning import BEAM_WIDTHS, Trial, tune, word_error_rate

REFERENCES = ["A " * 1000]


def with_errors(count: float) -> list[str]:
    """Return a hypothesis with that many word errors."""
    wrong = round(count)
    return [" ".join(["X"] * wrong + ["A"] * (1000 - wrong))]


def valley(config: DecoderConfig) -> list[str]:
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
    chosen, trials = tune(valley, REFERENCES, DecoderConfig(hotword_score=3.0), told.append)
    expected = DecoderConfig(
        "beam", 100, lm_weight=0.7, word_score=1.5, unknown_score=-4.0, hotword_score=3.0
    )
    assert chosen == expected
    assert told == trials
    assert len({trial.config for trial in trials}) == len(trials)
    best = min(trials, key=lambda trial: trial.wer)
    assert best.wer == pytest.approx(0.1)


def test_takes_no_wider_beam_than_pays() -> None:
    chosen, _ = tune(lambda config: with_errors(100), REFERENCES, DecoderConfig())
    assert chosen.beam_width == BEAM_WIDTHS[0]


def test_weights_stay_above_zero() -> None:
    chosen, trials = tune(
        lambda config: with_errors(300 * config.lm_weight), REFERENCES, DecoderConfig()
    )
    assert 0 < chosen.lm_weight <= 0.1
    assert all(trial.config.lm_weight > 0 for trial in trials)


def test_word_error_rate_is_that_of_the_corpus() -> None:
    assert word_error_rate(["A B", "C"], ["A", "C D"]) == pytest.approx(2 / 3)
    assert word_error_rate([""], [""]) == 0


def test_other_settings_are_kept() -> None:
    start = DecoderConfig(confidence_scale=2.0)
    chosen, _ = tune(valley, REFERENCES, start)
    assert chosen.confidence_scale == 2.0
