"""Timelines: labels, morphs, scales."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emert_edge.simulation import AROUSAL, EXPRESSIONS, VALENCE, Segment, Timeline

LINE = Timeline((Segment(0, "neutral"), Segment(4, "fear", 0.8), Segment(9, "happiness")), morph_s=1.0)


@given(st.lists(st.floats(-5, 20), min_size=1, max_size=30))
def test_weights_always_add_up_to_one(times: list[float]) -> None:
    weights = LINE.weights(times)
    assert weights.shape == (len(times), 7)
    assert np.allclose(weights.sum(1), 1)
    assert weights.min() >= -1e-12


def test_a_change_is_half_done_at_its_start_time() -> None:
    assert LINE.weights(4.0)[EXPRESSIONS.index("fear")] == pytest.approx(0.4)
    assert LINE.weights(3.4)[EXPRESSIONS.index("fear")] == 0
    assert LINE.weights(4.6)[EXPRESSIONS.index("fear")] == pytest.approx(0.8)


def test_the_label_of_a_span_is_what_covers_most_of_it() -> None:
    assert LINE.label(2.0, 4.0) == "neutral"
    assert LINE.label(3.5, 5.5) == "fear"
    assert LINE.label(8.5, 10.0) == "happiness"
    assert LINE.label(-3.0, -1.0) == "neutral"


def test_scales_follow_label_and_intensity() -> None:
    valence, arousal = LINE.valence_arousal(6.0, 8.0)
    assert valence == pytest.approx(0.8 * VALENCE["fear"])
    assert arousal == pytest.approx(0.8 * AROUSAL["fear"])
    assert LINE.intensity(6.0, 8.0) == pytest.approx(0.8)
    assert LINE.intensity(0.0, 3.0) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("segments", "words"),
    [
        ((), "at least one"),
        (((0, "neutral"), (0, "fear")), "must rise"),
        (((0, "joy"),), "'joy'"),
        (((0, "fear", 1.5),), "intensity"),
    ],
)
def test_a_timeline_that_makes_no_sense_is_refused(segments: tuple[tuple[object, ...], ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Timeline(segments)  # type: ignore[arg-type]
