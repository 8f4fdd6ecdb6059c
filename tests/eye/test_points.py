"""Gaze points: the mean valid gaze of each span, whatever else came with it and however it came."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emert_edge.eye import FEATURE_NAMES, GazeSamples, eye_features, gaze_points

S = 1_000_000_000


def wandering(count: int = 400, seed: int = 0, lost: float = 0.2) -> GazeSamples:
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-0.1, 1.1, (2, count)).astype(np.float32)
    x[rng.random(count) < lost] = np.nan
    return GazeSamples(t_ns=np.sort(rng.integers(0, S, count)), x=x, y=y)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.integers(0, 10_000), st.integers(1, 40), st.floats(0, 1))
def test_a_point_is_the_mean_of_its_own_spans_valid_gaze(seed: int, tokens: int, lost: float) -> None:
    samples = wandering(60, seed, lost)
    points = gaze_points(samples, 0, S, tokens)
    assert points.shape == (tokens, 2)
    assert points.dtype == np.float32
    for token in range(tokens):
        start, stop = token * S // tokens, (token + 1) * S // tokens
        own = (samples.t_ns >= start) & (samples.t_ns < stop) & np.isfinite(samples.x) & np.isfinite(samples.y)
        if own.any():
            expected = samples.x[own].astype(np.float64).mean(), samples.y[own].astype(np.float64).mean()
            assert points[token].tolist() == pytest.approx(expected, abs=1e-6)
        else:
            assert np.isnan(points[token]).all()


def test_points_agree_with_the_features_means_and_lie_where_gaze_was_valid() -> None:
    samples = wandering(lost=0.9)
    points, features = gaze_points(samples, 0, S), eye_features(samples, 0, S)
    there = features[:, FEATURE_NAMES.index("gaze_valid_share")] > 0
    assert 0 < there.sum() < 32
    assert np.array_equal(np.isfinite(points[:, 0]), there)
    means = features[:, [FEATURE_NAMES.index("gaze_x_mean"), FEATURE_NAMES.index("gaze_y_mean")]]
    assert points[there] == pytest.approx(means[there], abs=1e-6)


def test_points_are_the_same_to_the_last_bit_alone_among_others_and_in_any_order() -> None:
    samples = wandering()
    together = gaze_points(samples, 0, S)
    for token in range(32):
        start, stop = token * S // 32, (token + 1) * S // 32
        assert np.array_equal(gaze_points(samples.between(start, stop), start, stop, 1)[0], together[token])
    order = np.random.default_rng(1).permutation(len(samples))
    shuffled = GazeSamples(t_ns=samples.t_ns[order], x=samples.x[order], y=samples.y[order])
    assert np.allclose(gaze_points(shuffled, 0, S), together, atol=1e-6)


def test_what_no_tracker_can_mean_stays_finite() -> None:
    far = GazeSamples(t_ns=[0, 1], x=[3.4e38, 3.4e38], y=[-3.4e38, -3.4e38])
    assert gaze_points(far, 0, 10, 1).tolist() == [[1e6, -1e6]]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((None, 0, 10, 1), TypeError, "GazeSamples"),
        ((GazeSamples(t_ns=[0]), 0, 10, 0), ValueError, "tokens"),
        ((GazeSamples(t_ns=[0]), 0, 10, 11), ValueError, "too short"),
        ((GazeSamples(t_ns=[0]), 0.5, 10, 1), TypeError, "integer"),
    ],
)
def test_wrong_arguments_are_refused(arguments: tuple[object, ...], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        gaze_points(*arguments)  # type: ignore[arg-type]
