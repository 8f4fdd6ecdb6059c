"""Simulated sessions: a function of their seed, with a known truth."""

from __future__ import annotations

import numpy as np
import pytest

from emert_edge.simulation import EYE_GROUPS, MASKED_SHARE, MASKS, Segment, SimulatedSession, Timeline
from emert_edge.sources import FrameSource


def test_a_session_is_a_function_of_its_seed() -> None:
    first, again = SimulatedSession.from_seed(7, duration_s=6), SimulatedSession.from_seed(7, duration_s=6)
    assert first == again
    assert np.array_equal(first.frame(3.2).image, again.frame(3.2).image)
    assert np.array_equal(first.gaze.x, again.gaze.x, equal_nan=True)
    assert first != SimulatedSession.from_seed(8, duration_s=6)


def test_frames_come_out_the_same_in_any_order_of_asking() -> None:
    session = SimulatedSession.from_seed(2, duration_s=1, fps=5)
    played = [frame.image for frame in session.frames()]
    assert len(played) == 5
    assert np.array_equal(session.frame(0.8).image, played[4])
    assert np.array_equal(session.frame(0.2).image, played[1])


def test_the_known_share_of_sessions_hides_what_is_felt() -> None:
    masked = [SimulatedSession.from_seed(seed).masked for seed in range(600)]
    assert np.mean(masked) == pytest.approx(MASKED_SHARE, abs=0.06)


def test_masking_can_be_ordered() -> None:
    for seed in range(20):
        honest = SimulatedSession.from_seed(seed, masked=False)
        assert [segment.label for segment in honest.shown.segments] == [s.label for s in honest.felt.segments]
        hiding = SimulatedSession.from_seed(seed, masked=True)
        assert all(a.label != b.label for a, b in zip(hiding.shown.segments, hiding.felt.segments, strict=True))


def test_a_mask_lies_in_another_group_than_what_it_hides_and_is_mostly_the_typical_one() -> None:
    group = {name: group for group, names in EYE_GROUPS.items() for name in names}
    typical = []
    for seed in range(100):
        hiding = SimulatedSession.from_seed(seed, masked=True)
        for shown, felt in zip(hiding.shown.segments, hiding.felt.segments, strict=True):
            assert group[shown.label] != group[felt.label]
            typical.append(MASKS[felt.label] == shown.label)
    assert 0.75 < np.mean(typical) < 0.92


def test_a_session_can_be_written_by_hand() -> None:
    session = SimulatedSession(
        shown=Timeline((Segment(0, "neutral"), Segment(2, "happiness"))),
        felt=Timeline.constant("sadness"),
        duration_s=4,
    )
    assert session.masked
    assert len(session.gaze) == 480
    before, after = session.frame(1.0).image.astype(int), session.frame(3.5).image.astype(int)
    assert np.abs(before - after).mean() > 0.5


def test_its_camera_is_a_frame_source() -> None:
    source = SimulatedSession.from_seed(1, duration_s=0.4, fps=10).face_source()
    assert isinstance(source, FrameSource)
    assert (source.live, source.size, source.expected_frames) == (False, (640, 480), 4)
    frames = list(source.frames())
    assert [frame.sequence for frame in frames] == [0, 1, 2, 3]
    assert [frame.t_ns for frame in frames] == [0, 100_000_000, 200_000_000, 300_000_000]
    assert all(frame.image.shape == (480, 640, 3) and frame.image.dtype == np.uint8 for frame in frames)
    source.close()


def test_a_scene_is_there_when_asked_for_and_shares_the_gazes_space() -> None:
    session = SimulatedSession.from_seed(3, duration_s=1, scene=True)
    frames = [frame.image for frame in session.scene_source().frames()]
    assert frames[0].shape == (360, 640, 3)
    assert session.gaze.space == "scene"
    assert frames[0].std() > 1
    with pytest.raises(ValueError, match="no scene camera"):
        SimulatedSession.from_seed(3).scene_source()


def test_eyes_close_in_the_picture_when_the_gaze_blinks() -> None:
    session = SimulatedSession(shown=Timeline.constant("neutral"), felt=Timeline.constant("disgust"), seed=4)
    begin, end = session._gaze.blinks[0]
    shut, open_ = session.frame((begin + end) / 2).image, session.frame(begin - 0.05).image
    assert (np.abs(shut.astype(int) - open_.astype(int)).max(axis=2) > 40).sum() > 50


@pytest.mark.parametrize("name", ["duration_s", "fps", "gaze_rate_hz"])
def test_lengths_and_rates_must_be_positive(name: str) -> None:
    line = Timeline.constant("neutral")
    with pytest.raises(ValueError, match=name):
        SimulatedSession(**{"shown": line, "felt": line, name: 0.0})  # type: ignore[arg-type]
