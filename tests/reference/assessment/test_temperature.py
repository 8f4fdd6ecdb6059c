"""A temperature found is the one that was put in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emert_edge.estimate import softmax
from emert_edge.reference.assessment.metrics import calibration_error
from emert_edge.reference.assessment.temperature import TEMPERATURES, fit_temperature


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that are drawn by them."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(count, 7))
    labels = (softmax(logits).cumsum(1) < rng.random((count, 1))).sum(1)
    return logits, labels


@settings(deadline=None, max_examples=10)
@given(st.floats(0.3, 6.0), st.integers(0, 100))
def test_the_temperature_that_was_put_in_comes_out(temperature: float, seed: int) -> None:
    logits, labels = drawn(6000, seed)
    assert fit_temperature(temperature * logits, labels) == pytest.approx(temperature, rel=0.1)


def test_scaling_mends_the_calibration_of_other_rows() -> None:
    logits, labels = drawn(4000, 0)
    others, truth = drawn(4000, 1)
    found = fit_temperature((3 * logits).astype(np.float32), labels)
    assert calibration_error(truth, softmax(3 * others)) > 0.15
    assert calibration_error(truth, softmax(3 * others, found)) < 0.03


def test_rows_without_a_label_count_nothing() -> None:
    logits, labels = drawn(500, 2)
    more = np.concatenate([logits, 50 * np.ones((5, 7))]), np.concatenate([labels, np.full(5, -1)])
    assert fit_temperature(*more) == fit_temperature(logits, labels)


def test_answers_that_are_all_right_or_all_wrong_stay_within_bounds() -> None:
    logits = 5 * np.eye(7)
    assert TEMPERATURES[0] <= fit_temperature(logits, np.arange(7)) < 0.2
    assert fit_temperature(logits, np.roll(np.arange(7), 1)) == pytest.approx(TEMPERATURES[1], rel=0.01)


def test_without_labels_there_is_none() -> None:
    with pytest.raises(ValueError, match="no row is labelled"):
        fit_temperature(np.zeros((3, 7)), np.full(3, -1))
    with pytest.raises(ValueError, match="logits have 3 rows, labels 2"):
        fit_temperature(np.zeros((3, 7)), np.zeros(2, int))
