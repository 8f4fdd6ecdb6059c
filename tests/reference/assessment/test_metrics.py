"""Metrics against their definitions in float64, at the edges too; the bootstrap and the published averages by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emert_edge.reference.assessment.metrics import (
    BINS,
    Layout,
    Scored,
    area_under_roc,
    bootstrap,
    calibration_error,
    chance_of_classes,
    chance_of_values,
    class_scores,
    figures,
    published_averages,
    value_scores,
)

CLASSES = tuple("abcdefg")


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_classes_are_scored_as_defined(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, said = rng.integers(0, 7, (2, count))
    said = np.where(rng.random(count) < 0.4, truth, said)
    values, reasons = class_scores(truth, said, CLASSES)
    hit = {label: (truth == label) & (said == label) for label in range(7)}
    occurs = [label for label in range(7) if (truth == label).any()]
    recall = {label: hit[label].sum() / (truth == label).sum() for label in occurs}
    f1 = {label: 2 * hit[label].sum() / ((truth == label).sum() + (said == label).sum()) for label in occurs}
    assert values["WAR"] == pytest.approx((truth == said).mean(), abs=1e-6)
    assert values["UAR"] == pytest.approx(np.mean(list(recall.values())), abs=1e-6)
    weighted = sum(f1[label] * (truth == label).mean() for label in occurs)
    assert values["weighted F1"] == pytest.approx(weighted, abs=1e-6)
    assert ("UAR" in reasons) == (len(occurs) < 7)


def test_a_class_that_never_occurs_does_not_lower_the_mean_recall_and_is_named() -> None:
    values, reasons = class_scores(np.array([0, 0, 1]), np.array([0, 0, 2]), ("joy", "fear", "anger"))
    assert values["UAR"] == pytest.approx(0.5)
    assert "anger" in reasons["UAR"]
    assert "fear" not in reasons["UAR"]


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 60), st.floats(-3, 3), st.integers(0, 2**32 - 1))
def test_values_are_scored_as_defined(count: int, shift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=count)
    said = 0.5 * truth + rng.normal(size=count) + shift
    values, reasons = value_scores(truth, said)
    covariance = np.cov(truth, said)
    concordance = 2 * covariance[0, 1] / (covariance[0, 0] + covariance[1, 1] + (truth.mean() - said.mean()) ** 2)
    assert values["MAE"] == pytest.approx(np.abs(truth - said).mean(), abs=1e-9)
    assert values["MSE"] == pytest.approx(((truth - said) ** 2).mean(), abs=1e-9)
    assert values["RMSE"] == pytest.approx(np.sqrt(((truth - said) ** 2).mean()), abs=1e-9)
    assert values["CCC"] == pytest.approx(concordance, abs=1e-7)
    assert values["PCC"] == pytest.approx(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]), abs=1e-7)
    assert reasons == {}


def test_a_constant_answer_has_a_concordance_of_zero_and_no_correlation() -> None:
    truth = np.linspace(-1, 1, 9)
    values, reasons = value_scores(truth, np.full(9, 0.1))
    assert values["CCC"] == 0.0
    assert np.isnan(values["PCC"])
    assert reasons == {"PCC": "every answer is the same"}
    values, reasons = value_scores(np.full(9, 0.3), truth)
    assert values["CCC"] == 0.0
    assert reasons == {"PCC": "every true value is the same"}


@pytest.mark.parametrize(("count", "why"), [(1, "one row"), (5, "every answer and every true value")])
def test_two_constants_have_neither(count: int, why: str) -> None:
    values, reasons = value_scores(np.full(count, 0.3), np.full(count, 0.1))
    assert values["MAE"] == pytest.approx(0.2)
    assert np.isnan(values["CCC"])
    assert np.isnan(values["PCC"])
    assert set(reasons) == {"CCC", "PCC"}
    assert all(why in reason for reason in reasons.values())


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_the_calibration_error_is_as_defined(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(7, 0.3), count)
    truth = rng.integers(0, 7, count)
    sure, right = probabilities.max(1), probabilities.argmax(1) == truth
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    error = sum(
        abs(right[place == number].mean() - sure[place == number].mean()) * (place == number).mean()
        for number in range(BINS)
        if (place == number).any()
    )
    assert calibration_error(truth, probabilities) == pytest.approx(error, abs=1e-5)


def test_being_always_sure_and_right_is_perfectly_calibrated_and_sure_and_wrong_not_at_all() -> None:
    sure = np.eye(7)[[1, 2, 3]]
    assert calibration_error(np.array([1, 2, 3]), sure) == 0.0
    assert calibration_error(np.array([0, 0, 0]), sure) == pytest.approx(1.0)


def test_the_area_under_the_curve_counts_pairs() -> None:
    rng = np.random.default_rng(4)
    positive, score = rng.random(60) < 0.4, rng.integers(0, 9, 60).astype(float)
    pairs = score[positive][:, None] - score[~positive][None]
    assert area_under_roc(positive, score).values["ROC AUC"] == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())


@pytest.mark.parametrize(("positive", "why"), [(True, "positive"), (False, "not positive")])
def test_rows_of_one_kind_have_no_area_under_the_curve(positive: bool, why: str) -> None:
    values, reasons = area_under_roc(np.full(4, positive), np.arange(4.0))
    assert np.isnan(values["ROC AUC"])
    assert why in reasons["ROC AUC"]


def test_chance_is_what_a_constant_answer_gets() -> None:
    chance = chance_of_classes(np.array([0, 0, 0, 1]), ("a", "b", "c"))
    assert chance["WAR"] == pytest.approx(0.75)
    assert chance["UAR"] == pytest.approx(0.5)
    chance = chance_of_values(np.array([0.0, 1.0]))
    assert chance == {"MAE": 0.5, "MSE": 0.25, "RMSE": 0.5, "CCC": 0.0, "PCC": 0.0}


def test_the_published_average_is_over_batches_and_then_over_folds() -> None:
    right = np.array([1, 1, 0, 0, 1, 1, 1, 1.0])
    fold = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    batch = np.array([0, 0, 0, 0, 1, 1, 0, 0])

    def score(rows: np.ndarray) -> Scored:
        mean = float(right[rows].mean())
        return Scored({"mean": mean, "unlike zero": mean if mean != 0.5 else float("nan")}, {})

    values, reasons = published_averages(score, fold, batch)
    assert values["mean"] == pytest.approx(((0.5 + 1.0) / 2 + 1.0) / 2)
    assert values["mean"] != pytest.approx(right.mean())
    assert values["unlike zero"] == 1.0
    assert reasons == {"unlike zero": "undefined in 1 of 3 batches"}


def test_rows_of_one_person_are_drawn_together_and_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    person = rng.normal(size=40).repeat(25)
    values = person + 0.1 * rng.normal(size=1000)

    def mean(rows: np.ndarray) -> Scored:
        return Scored({"mean": float(values[rows].mean())}, {})

    together, _ = bootstrap(mean, np.arange(40).repeat(25).astype(str), 400, seed=1)
    apart, _ = bootstrap(mean, np.arange(1000).astype(str), 400, seed=1)
    width = together["mean"][1] - together["mean"][0]
    # That of a mean of 40 independent persons: 2 × 1.96 standard errors.
    assert width == pytest.approx(3.92 * person[::25].std() / np.sqrt(40), rel=0.2)
    assert width > 3 * (apart["mean"][1] - apart["mean"][0])
    assert together["mean"][0] < values.mean() < together["mean"][1]
    assert bootstrap(mean, np.arange(40).repeat(25).astype(str), 400, seed=1)[0] == together


def test_one_person_alone_gives_no_interval_and_that_is_said() -> None:
    layout = Layout(np.full(5, "anna"), np.zeros(5, np.int64), np.zeros(5, np.int64))
    found = figures(lambda rows: Scored({"m": 1.0}, {}), layout, 10)["m"]
    assert np.isnan([found.low, found.high]).all()
    assert found.reasons == ("there is no interval with one group of rows",)
    assert figures(lambda rows: Scored({"m": 1.0}, {}), layout, 0)["m"].reasons == ()


def test_draws_without_a_value_are_counted() -> None:
    layout = Layout(np.array(["a", "b"]), np.zeros(2, np.int64), np.zeros(2, np.int64))

    def score(rows: np.ndarray) -> Scored:
        return Scored({"m": 1.0 if len(set(rows)) == 2 else float("nan")}, {})

    found = figures(score, layout, 50)["m"]
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    assert "of 50 draws" in found.reasons[0]
