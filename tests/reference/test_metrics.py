"""The figures themselves, on cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="evaluation needs the extra `train`")

from emert_edge.reference.evaluation import (
    accuracy,
    area_under_roc,
    concordance,
    unweighted_average_recall,
)


def test_recall_weighs_classes_alike() -> None:
    truth, said = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])
    assert accuracy(truth, said) == 0.75
    assert unweighted_average_recall(truth, said) == 0.5


def test_the_area_counts_ties_half() -> None:
    positive = np.array([True, True, False, False])
    assert area_under_roc(positive, np.array([0.9, 0.8, 0.1, 0.2])) == 1.0
    assert area_under_roc(positive, np.array([0.1, 0.2, 0.9, 0.8])) == 0.0
    assert area_under_roc(positive, np.array([0.5, 0.5, 0.5, 0.5])) == 0.5
    assert area_under_roc(positive, np.array([0.9, 0.5, 0.5, 0.1])) == pytest.approx(0.875)
    assert np.isnan(area_under_roc(np.array([True]), np.array([0.3])))


def test_concordance_punishes_an_offset() -> None:
    truth = np.array([0.0, 1.0, 2.0, 3.0])
    assert concordance(truth, truth) == pytest.approx(1.0)
    assert concordance(truth, truth + 1) == pytest.approx(2 * 1.25 / (2 * 1.25 + 1))
    assert concordance(truth, np.zeros(4)) == 0.0
