"""Estimates are values: frozen, plain, and the same bytes for the same numbers."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emert_edge.estimate import Estimate, FaceBox, Quality, Scores, TaskEstimate, jensen_shannon, softmax

distributions = st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda values: sum(values) > 1e-3)


def estimate() -> Estimate:
    task = TaskEstimate("sadness", 0.75, Scores(("happiness", "sadness"), (0.25, 0.75)), None, None, -0.0, 0.125)
    quality = Quality(1.0, 0.5, 12.5, 0, 3, ("no_scene",))
    face = FaceBox((1.0, 2.0, 3.0, 4.0), 0.9, 1)
    return Estimate(2.0, 2_000_000_000, (-2.0, 2.0), 0, face, task, None, None, None, quality, None, "tested@1")


def test_to_dict_holds_only_plain_values_in_the_order_of_the_fields() -> None:
    plain = estimate().to_dict()
    assert list(plain) == [field.name for field in dataclasses.fields(Estimate)]
    assert plain["face"] == {"box": [1.0, 2.0, 3.0, 4.0], "score": 0.9, "track_id": 1}
    assert plain["emotion"]["probabilities"] == {"happiness": 0.25, "sadness": 0.75}
    assert plain["expression"] is None
    assert plain["quality"]["degraded"] == ["no_scene"]
    assert json.loads(estimate().to_json()) == plain


def test_an_estimate_is_frozen_and_can_be_copied_and_sent() -> None:
    one = estimate()
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.time_s = 3.0  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one
    assert dataclasses.asdict(one)["quality"]["late_samples"] == 3
    assert hash(one) == hash(copy.deepcopy(one))
    with pytest.raises(TypeError):
        one.emotion.probabilities["happiness"] = 1.0  # type: ignore[index, union-attr]


@settings(derandomize=True, deadline=None)
@given(distributions, distributions)
def test_the_gap_is_a_bounded_symmetric_divergence(p: list[float], q: list[float]) -> None:
    a, b = np.array(p) / sum(p), np.array(q) / sum(q)
    gap = jensen_shannon(a, b)
    assert 0.0 <= gap <= 1.0
    assert gap == pytest.approx(jensen_shannon(b, a), abs=1e-12)
    assert jensen_shannon(a, a) == pytest.approx(0.0, abs=1e-12)


def test_the_gap_is_largest_for_disjoint_distributions() -> None:
    assert jensen_shannon([1, 0, 0], [0, 0.5, 0.5]) == pytest.approx(1.0)
    # by hand: H(m) - (H(p) + H(q)) / 2 with p = (1, 0), q = (.5, .5), m = (.75, .25)
    assert jensen_shannon([1, 0], [0.5, 0.5]) == pytest.approx(0.8112781245 - 0.5, abs=1e-9)


def test_softmax_stays_finite_and_follows_its_temperature() -> None:
    assert softmax(np.array([1e4, 0.0, -1e4], np.float32)).tolist() == [1.0, 0.0, 0.0]
    warm, cold = (softmax(np.array([2.0, 0.0]), t) for t in (4.0, 0.25))
    assert warm.sum() == pytest.approx(1) == cold.sum()
    assert warm[0] < cold[0]
