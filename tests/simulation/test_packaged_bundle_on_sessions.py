"""The packaged bundle reads simulated sessions, whose truth is known, through the whole road."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from emert_edge import Estimate, Recognizer
from emert_edge.simulation import Segment, SimulatedSession, Timeline

WINDOW_S = 4.0


@pytest.fixture(scope="module")
def recognizer() -> Iterator[Recognizer]:
    with Recognizer(device="cpu", threads=1) as opened:
        yield opened


def session(number: int, shown: str, felt: str) -> SimulatedSession:
    return SimulatedSession(
        shown=Timeline.constant(shown, 0.9), felt=Timeline.constant(felt, 0.95), duration_s=8.0, seed=number,
        subject=7_000_000 + number, stimulus=7_000_000 + number, fps=8.0,
    )  # fmt: skip


def whole_windows(recognizer: Recognizer, made: SimulatedSession, *, gaze: bool = True) -> list[Estimate]:
    estimates = recognizer.run(face=made.face_source(), gaze=made.gaze if gaze else None)
    return [estimate for estimate in estimates if estimate.time_s >= WINDOW_S]


def test_a_drawn_expression_is_read_rightly_in_most_estimates(recognizer: Recognizer) -> None:
    line = Timeline(tuple(Segment(5 * index, name) for index, name in enumerate(("happiness", "surprise", "anger"))))
    made = SimulatedSession(shown=line, felt=line, duration_s=15.0, seed=5, subject=7_100_000, fps=8.0)
    estimates = whole_windows(recognizer, made)
    right = [estimate.expression.label == line.label(estimate.time_s - 2, estimate.time_s) for estimate in estimates]
    assert len(estimates) > 15
    assert np.mean(right) > 0.8
    assert np.mean([estimate.quality.face for estimate in estimates]) > 0.9


def test_a_smile_over_sadness_has_a_larger_gap_than_a_true_one(recognizer: Recognizer) -> None:
    true = whole_windows(recognizer, session(1, "happiness", "happiness"))
    false = whole_windows(recognizer, session(1, "happiness", "sadness"))
    assert {estimate.expression.label for estimate in true + false} == {"happiness"}
    assert np.mean([estimate.gap for estimate in false]) > np.mean([estimate.gap for estimate in true]) + 0.3


def test_without_gaze_the_emotion_follows_the_face(recognizer: Recognizer) -> None:
    estimates = whole_windows(recognizer, session(2, "anger", "fear"), gaze=False)
    assert all("no_gaze" in estimate.quality.degraded for estimate in estimates)
    assert np.mean([estimate.emotion.label == "anger" for estimate in estimates]) > 0.5
