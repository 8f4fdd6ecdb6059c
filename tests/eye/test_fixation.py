"""Fixation maps of a span of gaze, and the picture made of one."""

from __future__ import annotations

import numpy as np
import pytest

from emert_edge.eye import Fixation, GazeSamples
from emert_edge.eye.fixation import fixation_token_map_into, heat_overlay, sample_weights

kernels = pytest.importorskip("emert_edge.kernels", reason="the compiled core is not built", exc_type=ImportError)
MS = 1_000_000


def drawn(
    samples: GazeSamples, start_ns: int = 0, stop_ns: int = 1000 * MS, sigma: float = 2.0
) -> tuple[bool, np.ndarray]:
    out = np.full((24, 32), 7, dtype=np.float32)
    return fixation_token_map_into(out, samples, start_ns, stop_ns, sigma), out


def test_one_place_looked_at_has_its_peak_there_and_is_one() -> None:
    seen, out = drawn(GazeSamples(t_ns=np.arange(50) * MS, x=np.full(50, 20.5 / 32), y=np.full(50, 5.5 / 24)))
    assert seen
    assert out.max() == 1.0
    assert np.unravel_index(out.argmax(), out.shape) == (5, 20)
    assert out[5, 22] == pytest.approx(np.exp(-0.5), abs=1e-5)


def test_places_weigh_by_time_and_a_gap_does_not() -> None:
    # 30 ms at the left, 60 ms at the right, with 500 ms of nothing between them.
    t_ns = np.concatenate([np.arange(30), 530 + np.arange(60)]) * MS
    x = np.where(np.arange(90) < 30, 8.5 / 32, 24.5 / 32)
    seen, out = drawn(GazeSamples(t_ns=t_ns, x=x, y=np.full(90, 12.5 / 24)))
    assert seen
    assert out[12, 24] == 1.0
    assert out[12, 8] == pytest.approx(31 / 60, abs=1e-4)  # the last sample before the gap counts twice, not 500 times


def test_the_same_gaze_at_another_rate_gives_the_same_map() -> None:
    def two_places(rate: int) -> np.ndarray:
        t = np.arange(rate) / rate
        x = np.where(t < 0.25, 8.5 / 32, 24.5 / 32)
        return drawn(GazeSamples(t_ns=np.round(t * 1e9).astype(np.int64), x=x, y=np.full(rate, 0.5)))[1]

    np.testing.assert_allclose(two_places(60), two_places(1000), atol=0.02)


@pytest.mark.parametrize(
    "samples",
    [
        GazeSamples(t_ns=[]),
        GazeSamples(t_ns=[0, 1], x=[np.nan, np.inf], y=[0.5, 0.5]),
        GazeSamples(t_ns=[0, 1], x=[40.0, -40.0], y=[0.5, 3e38]),
        GazeSamples(t_ns=[2000 * MS], x=[0.5], y=[0.5]),
    ],
    ids=["none", "not finite", "far away", "later"],
)
def test_without_gaze_on_the_map_it_is_zero_and_says_so(samples: GazeSamples) -> None:
    seen, out = drawn(samples)
    assert seen is False
    assert not out.any()


def test_only_the_spans_own_samples_count() -> None:
    rng = np.random.default_rng(0)
    samples = GazeSamples(t_ns=np.arange(500) * 4 * MS, x=rng.random(500), y=rng.random(500))
    whole = drawn(samples, 100 * MS, 600 * MS)[1]
    own = drawn(samples.between(100 * MS, 600 * MS), 100 * MS, 600 * MS)[1]
    assert whole.tobytes() == own.tobytes()


def test_weights_of_samples() -> None:
    np.testing.assert_allclose(sample_weights(np.array([0, 4, 8, 100]) * MS), [0.004, 0.004, 0.008, 0.004])
    np.testing.assert_array_equal(sample_weights(np.array([5])), [1.0])
    np.testing.assert_array_equal(sample_weights(np.array([5, 5, 5])), [1.0, 1.0, 1.0])


def test_the_overlay_colours_what_was_looked_at_and_leaves_the_rest() -> None:
    image = np.full((120, 160, 3), 90, dtype=np.uint8)
    heat = np.zeros((24, 32), dtype=np.float32)
    heat[10:14, 14:18] = 1.0
    picture = heat_overlay(image, heat)
    assert picture.shape == image.shape
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[:20], image[:20])
    assert np.abs(picture[60, 80].astype(int) - 90).max() > 40
    assert image.min() == image.max() == 90  # the caller's picture is untouched
    path = [Fixation(0, 200 * MS, 0.1, 0.1, 0.5), Fixation(300 * MS, 900 * MS, 0.9, 0.9, 0.5)]
    assert (heat_overlay(image, heat, path) != picture).any()
    strange = [Fixation(0, MS, np.nan, 0.5, 0.5), Fixation(0, MS, 1e30, 0.5, 0.5)]
    np.testing.assert_array_equal(heat_overlay(image, heat, strange), picture)


def test_the_overlay_names_a_wrong_array() -> None:
    heat = np.zeros((4, 4), dtype=np.float32)
    with pytest.raises(TypeError, match="image"):
        heat_overlay(np.zeros((4, 4, 3)), heat)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="image"):
        heat_overlay(np.zeros((4, 4), dtype=np.uint8), heat)
    with pytest.raises(ValueError, match="fixation_map"):
        heat_overlay(np.zeros((4, 4, 3), dtype=np.uint8), heat[0])
