"""Calibrated confidences: recovered parameters, measured errors, and the words that are right."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decoding.calibration import Calibration, fit_calibration, reliability, right_words
from asr.errors import ConfigError


def draw(true: Calibration, count: int) -> tuple[list[float], list[bool]]:
    """Return confidences, and rightness as a true calibration would have it."""
    chance = np.random.default_rng(0)
    confidences = chance.uniform(0.02, 0.98, count).tolist()
    right = [bool(chance.random() < true(confidence)) for confidence in confidences]
    return confidences, right


def test_the_fit_finds_the_parameters_behind_the_data() -> None:
    true = Calibration(0.6, -0.8)
    fitted = fit_calibration(*draw(true, 40_000))
    assert fitted.scale == pytest.approx(true.scale, abs=0.03)
    assert fitted.offset == pytest.approx(true.offset, abs=0.03)


def test_calibration_lowers_the_expected_error() -> None:
    confidences, right = draw(Calibration(0.5, -1.0), 20_000)
    _, before = reliability(confidences, right)
    calibration = fit_calibration(confidences, right)
    _, after = reliability([calibration(c) for c in confidences], right)
    assert before > 0.1
    assert after < 0.02


def test_expected_error_by_hand() -> None:
    confidences, right = [0.05, 0.05, 0.95, 1.0], [False, True, True, True]
    bins, error = reliability(confidences, right)
    assert [(b.words, b.confidence, b.accuracy) for b in bins] == [
        (2, pytest.approx(0.05), 0.5),
        (2, pytest.approx(0.975), 1.0),
    ]
    assert error == pytest.approx(0.5 * 0.45 + 0.5 * 0.025)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 5), st.floats(-5, 5))
def test_confidences_stay_probabilities_in_their_order(
    low: float, high: float, scale: float, offset: float
) -> None:
    calibration = Calibration(scale, offset)
    low, high = min(low, high), max(low, high)
    assert 0 <= calibration(low) <= calibration(high) <= 1


def test_without_calibration_confidence_stays() -> None:
    assert Calibration()(0.37) == pytest.approx(0.37)


def test_a_model_that_is_far_too_sure_of_itself_is_corrected() -> None:
    """Newton's whole first step leads astray here: nearly all chances are flat."""
    confidences = [0.5] * 10 + [1 - 1e-6] * 990
    right = [number % 2 == 0 for number in range(10)] + [number % 10 != 0 for number in range(990)]
    calibration = fit_calibration(confidences, right)
    assert calibration(0.5) == pytest.approx(0.5, abs=0.01)
    assert calibration(1 - 1e-6) == pytest.approx(0.9, abs=0.001)


def test_steep_calibrations_do_not_overflow() -> None:
    assert Calibration(1000.0, 0.0)(0.001) == 0
    assert Calibration(1000.0, 0.0)(0.999) == 1


def test_words_that_can_be_told_apart_perfectly_give_a_finite_fit() -> None:
    calibration = fit_calibration([0.1, 0.2, 0.8, 0.9], [False, False, True, True])
    assert calibration(0.1) < 0.1 and calibration(0.9) > 0.9


@pytest.mark.parametrize(
    "reference, hypothesis, right",
    [
        ("A B C", "A B C", [True, True, True]),
        ("A B C", "A X C", [True, False, True]),
        ("A C", "A B C", [True, False, True]),
        ("A B C", "C", [True]),
        ("", "A", [False]),
        ("A", "", []),
    ],
)
def test_right_words(reference: str, hypothesis: str, right: list[bool]) -> None:
    assert right_words(reference.split(), hypothesis.split()) == right


def test_errors_are_one_clear_line() -> None:
    with pytest.raises(ConfigError, match="words that are right and such that are wrong"):
        fit_calibration([0.5], [True])
    with pytest.raises(ConfigError, match="as confident as right ones"):
        fit_calibration([0.9, 0.1] * 50, [False, True] * 50)
    with pytest.raises(ConfigError, match="no words"):
        reliability([], [])
