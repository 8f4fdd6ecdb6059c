"""A session: what falls due, what it rests on, and what is said of it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest

import emert_edge.session
from emert_edge import Estimate, QueueOverflow, Recognizer, Session, SessionClosed
from emert_edge.eye import GazeSamples
from emert_edge.simulation import render_face

S = 1_000_000_000
MS = 1_000_000


@pytest.fixture(scope="module")
def recognizer() -> Iterator[Recognizer]:
    with Recognizer(device="cpu", threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def faces() -> dict[str, np.ndarray]:
    """One person's face at rest and smiling, and the room without them."""
    size = (240, 320)
    smiling, _ = render_face("happiness", identity=3, size=size)
    neutral, _ = render_face("neutral", identity=3, size=size)
    return {"happiness": smiling, "neutral": neutral, "nobody": np.full((*size, 3), 90, np.uint8)}


def gaze(start_s: float, stop_s: float, rate_hz: float = 100.0, **labels: object) -> GazeSamples:
    """A gaze that wanders, with pupils; the same instants always carry the same values."""
    t_ns = np.arange(round(start_s * rate_hz), round(stop_s * rate_hz)) * round(S / rate_hz)
    t = t_ns / S
    return GazeSamples(
        t_ns=t_ns,
        x=(0.5 + 0.2 * np.sin(3 * t)).astype(np.float32),
        y=(0.5 + 0.1 * np.cos(2 * t)).astype(np.float32),
        pupil_left=(3 + 0.1 * np.sin(t)).astype(np.float32),
        pupil_right=(3 + 0.1 * np.cos(t)).astype(np.float32),
        **labels,  # type: ignore[arg-type]
    )


Push = Callable[[Session], None]


def events(faces: dict[str, np.ndarray], seconds: float = 6.0, fps: float = 10.0, chunk_s: float = 0.05) -> list[Push]:
    """A recording's pushes in order of time: a face that starts to smile after three seconds, and gaze."""
    timed: list[tuple[float, int, Push]] = []
    for index in range(int(seconds * fps)):
        t = index / fps
        image = faces["happiness" if t >= 3 else "neutral"]
        timed.append((t, 1, lambda session, image=image, t=t: session.push_face(image, round(t * S))))  # type: ignore[misc]
    for index in range(int(seconds / chunk_s)):
        samples = gaze(index * chunk_s, (index + 1) * chunk_s)
        timed.append((index * chunk_s, 0, lambda session, samples=samples: session.push_gaze(samples)))  # type: ignore[misc]
    return [push for _, _, push in sorted(timed, key=lambda item: item[:2])]


def played(session: Session, pushes: Iterable[Push], every: int = 1) -> list[Estimate]:
    """Push everything and take what is due after each so many pushes."""
    taken: list[Estimate] = []
    for number, push in enumerate(pushes, start=1):
        push(session)
        if number % every == 0:
            taken += session.estimates()
    session.finish()
    return taken + session.estimates()


def assert_equal(first: list[Estimate], second: list[Estimate], tolerance: float = 1e-5) -> None:
    assert [one.t_ns for one in first] == [other.t_ns for other in second]
    for one, other in zip(first, second, strict=True):
        assert (one.sequence, one.face, one.quality) == (other.sequence, other.face, other.quality)
        for task in ("emotion", "expression"):
            a, b = getattr(one, task), getattr(other, task)
            assert (a.label, a.polarity) == (b.label, b.polarity)
            assert list(a.probabilities.values()) == pytest.approx(list(b.probabilities.values()), abs=tolerance)
            assert (a.valence, a.arousal) == pytest.approx((b.valence, b.arousal), abs=tolerance)
        assert one.gap == pytest.approx(other.gap, abs=tolerance)


# -- when an estimate is due ------------------------------------------------------------------------------------------


def test_estimates_come_at_every_stride_from_half_a_window_on(recognizer: Recognizer, faces: dict) -> None:
    taken = played(recognizer.session(), events(faces))
    assert [one.t_ns for one in taken] == [2 * S + index * S // 2 for index in range(8)]  # the last datum is at 5.99 s
    assert [one.sequence for one in taken] == list(range(8))
    assert taken[0].window_s == (-2.0, 2.0)
    assert taken[0].time_s == 2.0


def test_the_grid_is_laid_from_the_first_datum(recognizer: Recognizer, faces: dict) -> None:
    anchor = 1_760_000_000_000_000_123
    with recognizer.session() as session:
        for index in range(31):
            session.push_face(faces["nobody"], anchor + index * 100 * MS)
        assert [one.t_ns - anchor for one in session.estimates()] == [2 * S, 5 * S // 2, 3 * S]


@pytest.mark.parametrize("stride_s", [0.125, 0.25, 1.0, 5.0])
def test_the_stride_is_the_callers(recognizer: Recognizer, faces: dict, stride_s: float) -> None:
    taken = played(recognizer.session(stride_s=stride_s), events(faces, seconds=8))
    expected = np.arange(2.0, 8.0, stride_s)
    assert [one.time_s for one in taken] == pytest.approx(expected[expected <= 7.99])


def test_a_stride_changes_when_not_what(recognizer: Recognizer, faces: dict) -> None:
    pushes = events(faces)
    often = played(recognizer.session(stride_s=0.125), pushes)
    seldom = played(recognizer.session(stride_s=1.5), pushes)
    by_time = {one.t_ns: one for one in often}
    for one in seldom:
        other = by_time[one.t_ns]
        assert one.quality == other.quality
        assert list(one.emotion.probabilities.values()) == pytest.approx(
            list(other.emotion.probabilities.values()), abs=1e-5
        )


@pytest.mark.parametrize("stride_s", [0, -0.5, 0.1, float("nan"), float("inf")])
def test_a_stride_off_the_grid_is_refused(recognizer: Recognizer, stride_s: float) -> None:
    with pytest.raises(ValueError, match="stride_s"):
        recognizer.session(stride_s=stride_s)


@pytest.mark.parametrize(("seconds", "at"), [(0.0, 0.0), (0.4, 0.5), (1.7, 2.0)])
def test_a_short_recording_gets_its_answer_where_all_was_seen(
    recognizer: Recognizer, faces: dict, seconds: float, at: float
) -> None:
    session = recognizer.session()
    session.push_face(faces["happiness"], 0)
    session.push_face(faces["happiness"], round(seconds * S))
    assert session.estimates() == []
    session.finish()
    (only,) = session.estimates()
    assert only.time_s == at
    assert only.face is not None
    assert session.estimates() == []


def test_a_single_gaze_sample_is_enough_for_one_answer(recognizer: Recognizer) -> None:
    session = recognizer.session()
    session.push_gaze(GazeSamples(t_ns=[5 * S], x=[0.5], y=[0.5]))
    session.finish()
    (only,) = session.estimates()
    assert only.quality.gaze == 1 / 32
    assert {"no_face", "no_pupil", "no_scene"} == set(only.quality.degraded)


def test_nothing_pushed_nothing_due(recognizer: Recognizer) -> None:
    session = recognizer.session()
    session.push_gaze(GazeSamples(t_ns=[]))
    assert session.estimates() == []
    session.finish()
    assert session.estimates() == []


def test_a_stream_waits_for_the_others_but_not_for_long(recognizer: Recognizer, faces: dict) -> None:
    session = recognizer.session()
    session.push_gaze(gaze(0, 1.5))
    for index in range(23):
        session.push_face(faces["nobody"], index * 100 * MS)
    assert session.estimates() == []  # the face is at 2.2 s, the gaze at 1.49 s
    session.push_face(faces["nobody"], 2250 * MS)
    assert [one.time_s for one in session.estimates()] == [2.0]


def test_a_time_is_due_when_every_stream_has_reached_it(recognizer: Recognizer, faces: dict) -> None:
    session = recognizer.session()
    for index in range(21):
        session.push_face(faces["nobody"], index * 100 * MS)
    session.push_gaze(gaze(0.5, 2.0))
    assert [one.time_s for one in session.estimates()] == []
    session.push_gaze(gaze(2.0, 2.02))
    (one,) = session.estimates()
    assert (one.time_s, one.quality.gaze) == (2.0, 12 / 32)


@pytest.mark.parametrize("first", ["late frame", "gaze"])
def test_the_grid_begins_with_the_earliest_datum_whichever_came_first(
    recognizer: Recognizer, faces: dict, first: str
) -> None:
    session = recognizer.session()
    if first == "gaze":
        session.push_gaze(gaze(1.3, 4))
    else:
        session.push_face(faces["neutral"], S)
    for index in range(40):
        session.push_face(faces["neutral"], index * 100 * MS)
    session.finish()
    taken = session.estimates()
    assert [one.time_s for one in taken] == [2.0, 2.5, 3.0, 3.5]
    assert taken[0].quality.face == 5 / 8


# -- what does not matter ---------------------------------------------------------------------------------------------


def test_how_pushes_are_split_between_calls_does_not_matter(recognizer: Recognizer, faces: dict) -> None:
    pushes = events(faces)
    reference = played(recognizer.session(), pushes)
    for every in (2, 7, 40, 10_000):
        assert_equal(reference, played(recognizer.session(), pushes, every))


def test_how_gaze_is_cut_into_pieces_does_not_matter(recognizer: Recognizer, faces: dict) -> None:
    reference = played(recognizer.session(), events(faces))
    for chunk_s in (0.01, 0.2):
        assert_equal(reference, played(recognizer.session(), events(faces, chunk_s=chunk_s)))


def test_one_stream_after_the_other_equals_both_together(recognizer: Recognizer, faces: dict) -> None:
    reference = played(recognizer.session(), events(faces))
    session = recognizer.session()
    session.push_gaze(gaze(0, 6))
    for index in range(60):
        session.push_face(faces["happiness" if index >= 30 else "neutral"], index * 100 * MS)
    session.finish()
    assert_equal(reference, session.estimates())


def test_the_order_of_gaze_within_what_is_not_yet_due_does_not_matter(recognizer: Recognizer, faces: dict) -> None:
    reference = played(recognizer.session(), events(faces))
    samples = gaze(0, 6)
    order = np.random.default_rng(0).permutation(len(samples))
    shuffled = GazeSamples(
        t_ns=samples.t_ns[order],
        **{name: getattr(samples, name)[order] for name in ("x", "y", "pupil_left", "pupil_right")},
    )
    session = recognizer.session()
    session.push_face(faces["neutral"], 0)  # the grid begins at 0 in both
    session.push_gaze(shuffled)
    for index in reversed(range(1, 60)):
        session.push_face(faces["happiness" if index >= 30 else "neutral"], index * 100 * MS)
    session.finish()
    assert_equal(reference, session.estimates())


def test_two_interleaved_sessions_equal_the_same_two_alone(recognizer: Recognizer, faces: dict) -> None:
    one, other = events(faces), events({**faces, "neutral": faces["nobody"]}, seconds=5, fps=7)
    alone = [played(recognizer.session(), pushes) for pushes in (one, other)]
    sessions = [recognizer.session(), recognizer.session()]
    taken: list[list[Estimate]] = [[], []]
    for pushes in itertools.zip_longest(one, other):
        for index, push in enumerate(pushes):
            if push is not None:
                push(sessions[index])
                taken[index] += sessions[index].estimates()
    for index, session in enumerate(sessions):
        session.finish()
        taken[index] += session.estimates()
        assert_equal(alone[index], taken[index], tolerance=0)


@pytest.mark.parametrize("count", [2, 11])
def test_step_equals_single_steps(recognizer: Recognizer, faces: dict, count: int) -> None:
    recordings = [events(faces, seconds=3 + index % 4, fps=4 + index % 3) for index in range(count)]
    alone = [played(recognizer.session(), pushes) for pushes in recordings]
    sessions = [recognizer.session() for _ in recordings]
    taken: list[list[Estimate]] = [[] for _ in recordings]
    for pushes in itertools.zip_longest(*recordings):
        for session, push in zip(sessions, pushes, strict=True):
            if push is not None:
                push(session)
        for index, new in enumerate(recognizer.step(sessions)):
            taken[index] += new
    for session in sessions:
        session.finish()
    for index, new in enumerate(recognizer.step(sessions)):
        assert_equal(alone[index], taken[index] + new)


def test_colour_order_and_strides_of_a_frame_do_not_matter(recognizer: Recognizer, faces: dict) -> None:
    def taken(image: np.ndarray, color: str) -> list[Estimate]:
        session = recognizer.session()
        session.push_face(image, 0, color=color)
        session.finish()
        return session.estimates()

    image = faces["happiness"]
    reference = taken(image, "bgr")
    assert_equal(reference, taken(image[:, :, ::-1], "rgb"))
    padded = np.zeros((240, 330, 3), np.uint8)
    padded[:, :320] = image
    assert_equal(reference, taken(padded[:, :320], "bgr"), tolerance=0)


def test_a_session_copies_what_it_keeps(recognizer: Recognizer, faces: dict) -> None:
    session = recognizer.session()
    image = faces["happiness"].copy()
    session.push_face(image, 0)
    image[:] = 0
    session.finish()
    (only,) = session.estimates()
    assert only.face is not None


def test_pushes_from_several_threads_lose_nothing(recognizer: Recognizer, faces: dict) -> None:
    session = recognizer.session()
    session.push_face(faces["neutral"], 0)
    pieces = [gaze(index / 50, (index + 1) / 50) for index in range(300)]
    threads = [
        threading.Thread(target=lambda part=part: [session.push_gaze(samples) for samples in part])
        for part in (pieces[0::3], pieces[1::3], pieces[2::3])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    session.finish()
    taken = session.estimates()
    assert taken[-1].time_s == 5.5
    assert taken[-1].quality.gaze == 1.0
    assert taken[-1].quality.late_samples == 0


# -- what is missing, late or doubled ---------------------------------------------------------------------------------


def test_late_data_are_counted_and_change_nothing(recognizer: Recognizer, faces: dict) -> None:
    pushes = events(faces)
    reference = played(recognizer.session(), pushes)
    session = recognizer.session()
    taken: list[Estimate] = []
    for push in pushes:
        push(session)
        taken += session.estimates()
        if taken and len(taken) == 1 and taken[-1].quality.late_samples == 0 and session._late == 0:
            session.push_face(faces["nobody"], 2 * S)
            session.push_gaze(GazeSamples(t_ns=[S, 2 * S, 2 * S + 1], x=[0.1] * 3, y=[0.1] * 3))
    assert taken[0].quality.late_samples == 0
    # Gaze at the estimate's own time belongs to the token that begins there.
    assert {one.quality.late_samples for one in taken[1:]} == {2}
    session.finish()
    taken += session.estimates()
    assert [one.expression.label for one in taken] == [one.expression.label for one in reference]


def test_of_two_data_with_one_time_the_first_stays(recognizer: Recognizer, faces: dict) -> None:
    session = recognizer.session()
    session.push_face(faces["happiness"], 0)
    session.push_face(faces["nobody"], 0)
    session.push_gaze(GazeSamples(t_ns=[0, 0], x=[0.5, np.nan], y=[0.5, np.nan]))
    session.finish()
    (only,) = session.estimates()
    assert only.quality.face == 1 / 8
    assert only.quality.gaze == 1 / 32


def test_gaze_that_starts_late_and_ends_early_masks_its_tokens(recognizer: Recognizer, faces: dict) -> None:
    session = recognizer.session()
    for index in range(100):
        session.push_face(faces["neutral"], index * 100 * MS)
    session.push_gaze(gaze(3, 5))
    session.finish()
    shares = {one.time_s: one.quality.gaze for one in session.estimates()}
    assert shares[2.0] == shares[3.0] == 0
    assert shares[4.0] == 8 / 32
    assert shares[5.0] == shares[7.0] == 16 / 32
    assert shares[9.5] == 0


def test_a_window_without_gaze_says_so_and_still_answers(recognizer: Recognizer, faces: dict) -> None:
    session = recognizer.session()
    for index in range(25):
        session.push_face(faces["happiness"], index * 100 * MS)
    (one,) = session.estimates()
    assert set(one.quality.degraded) == {"no_gaze", "no_pupil", "no_scene"}
    assert one.emotion is not None
    assert one.quality.face == 5 / 8


def test_blinks_are_missing_gaze_not_missing_time(recognizer: Recognizer, faces: dict) -> None:
    samples = gaze(0, 4)
    x = samples.x.copy()
    x[(samples.t_ns >= 1 * S) & (samples.t_ns < 1.25 * S)] = np.nan
    session = recognizer.session()
    session.push_gaze(GazeSamples(t_ns=samples.t_ns, x=x, y=samples.y))
    session.finish()
    taken = session.estimates()
    assert taken[0].quality.gaze == (16 - 2) / 32
    assert "no_pupil" in taken[0].quality.degraded
    assert "no_gaze" not in taken[0].quality.degraded


def test_a_face_that_leaves_and_a_camera_that_falls_silent_are_told_apart(recognizer: Recognizer, faces: dict) -> None:
    session = recognizer.session()
    for index in range(40):
        session.push_face(faces["neutral"], index * 100 * MS)
    for index in range(40, 60):
        session.push_face(faces["nobody"], index * 100 * MS)
    for index in range(60, 80):
        session.push_face(faces["neutral"], index * 100 * MS)
    session.push_gaze(gaze(0, 15))
    session.finish()
    taken = {one.time_s: one for one in session.estimates()}
    assert "no_face" not in taken[3.5].quality.degraded
    for time_s in (4.0, 5.0, 5.5):
        assert "no_face" in taken[time_s].quality.degraded
        assert "stale_face" not in taken[time_s].quality.degraded
        assert taken[time_s].face is None
    assert "no_face" not in taken[6.5].quality.degraded
    assert taken[9.0].quality.degraded == ("no_scene", "stale_face")
    assert taken[9.0].face is None
    assert taken[9.0].quality.face == 5 / 8
    assert taken[13.0].quality.degraded == ("no_face", "no_scene")
    assert taken[13.0].quality.face == 0


def test_skew_is_the_largest_distance_between_a_token_and_its_datum(recognizer: Recognizer, faces: dict) -> None:
    session = recognizer.session()
    session.push_face(faces["neutral"], 0)
    for index in range(1, 6):
        session.push_face(faces["neutral"], index * 500 * MS - 40 * MS)
    session.push_gaze(gaze(0, 2.5, rate_hz=200))
    session.finish()
    taken = session.estimates()
    assert taken[0].quality.skew_ms == pytest.approx(40)


def test_a_scene_makes_the_fixation_tokens_whole(recognizer: Recognizer, faces: dict) -> None:
    session = recognizer.session()
    for index in range(25):
        session.push_scene(faces["neutral"], index * 100 * MS)
        session.push_face(faces["happiness"], index * 100 * MS)
    session.push_gaze(gaze(0, 2.5, space="scene"))
    session.finish()
    (one,) = session.estimates()
    assert one.quality.degraded == ()


# -- clocks and spaces ------------------------------------------------------------------------------------------------


def test_another_clock_needs_an_offset_or_is_flagged(recognizer: Recognizer, faces: dict) -> None:
    reference = played(recognizer.session(), events(faces))
    session = recognizer.session()
    session.set_clock_offset("tracker", -5 * S)
    for index in range(60):
        session.push_face(faces["happiness" if index >= 30 else "neutral"], index * 100 * MS)
    session.push_gaze(GazeSamples(t_ns=gaze(0, 6).t_ns + 5 * S, clock="tracker", **_values(gaze(0, 6))))
    session.finish()
    assert_equal(reference, session.estimates())
    unknown = recognizer.session()
    unknown.push_gaze(gaze(0, 3, clock="tracker"))
    assert "clock_unsynchronised" in unknown.estimates()[0].quality.degraded
    with pytest.raises(TypeError, match="offset_ns"):
        unknown.set_clock_offset("tracker", 0.5)  # type: ignore[arg-type]


def test_an_unsynchronised_clock_is_flagged_as_long_as_the_window_holds_its_gaze(
    recognizer: Recognizer, faces: dict
) -> None:
    def flagged(*, poll: bool) -> list[bool]:
        session = recognizer.session()
        taken = []
        for index in range(100):
            session.push_face(faces["nobody"], index * 100 * MS)
            if index == 20:
                session.push_gaze(gaze(0, 2, clock="tracker"))
                session.set_clock_offset("tracker", 0)
            if index > 20:
                session.push_gaze(gaze(index / 10 - 0.1, index / 10, clock="tracker"))
            if poll:
                taken += session.estimates()
        session.finish()
        return ["clock_unsynchronised" in one.quality.degraded for one in taken + session.estimates()]

    assert flagged(poll=True) == flagged(poll=False) == [True] * 8 + [False] * 8  # until 5.5 s: 2 s + a window


def test_gaze_of_an_unknown_clock_far_away_leaves_the_face_alone_and_says_so(
    recognizer: Recognizer, faces: dict
) -> None:
    session = recognizer.session()
    for index in range(31):
        session.push_face(faces["neutral"], index * 100 * MS)
        session.push_gaze(GazeSamples(t_ns=[1_760_000_000 * S + index], x=[0.5], y=[0.5], clock="tracker"))
    taken = session.estimates()
    assert [one.time_s for one in taken] == [2.0, 2.5, 3.0]
    assert {"no_gaze", "clock_unsynchronised"} <= set(taken[-1].quality.degraded)
    assert taken[-1].quality.late_samples == 31


def test_a_refused_push_leaves_no_trace(recognizer: Recognizer, faces: dict) -> None:
    session = recognizer.session()
    session.push_face(faces["neutral"], 0)
    with pytest.raises(ValueError, match="wrong unit"):
        session.push_gaze(GazeSamples(t_ns=[10**18], x=[0.5], y=[0.5], space="screen", pupil_unit="px"))
    session.push_gaze(gaze(0, 1, space="scene", pupil_unit="mm"))


def _values(samples: GazeSamples) -> dict[str, np.ndarray]:
    return {name: getattr(samples, name) for name in ("x", "y", "pupil_left", "pupil_right")}


def test_a_leap_of_times_is_refused_with_its_likely_cause(recognizer: Recognizer, faces: dict) -> None:
    session = recognizer.session()
    session.push_face(faces["neutral"], 10 * S)
    with pytest.raises(ValueError, match="wrong unit, or another clock"):
        session.push_gaze(GazeSamples(t_ns=[1_760_000_000 * S], x=[0.5], y=[0.5]))
    session.push_gaze(GazeSamples(t_ns=[10 * S], x=[0.5], y=[0.5]))
    session.finish()
    assert len(session.estimates()) == 1


def test_gaze_and_scene_must_be_in_one_space(recognizer: Recognizer, faces: dict) -> None:
    session = recognizer.session()
    session.push_gaze(gaze(0, 1, space="screen"))
    with pytest.raises(ValueError, match="'screen'"):
        session.push_scene(faces["neutral"], 0)
    session.push_scene(faces["neutral"], 0, space="screen")
    with pytest.raises(ValueError, match="gaze is in 'scene'"):
        session.push_gaze(gaze(1, 2, space="scene"))
    other = recognizer.session()
    other.push_scene(faces["neutral"], 0)
    with pytest.raises(ValueError, match="'scene'"):
        other.push_gaze(gaze(0, 1, space="screen"))
    other.push_gaze(gaze(0, 1))  # not stated: taken to be the scene's
    with pytest.raises(ValueError, match="pupil_unit"):
        for unit in ("mm", "px"):
            other.push_gaze(gaze(1, 2, pupil_unit=unit))


# -- life -------------------------------------------------------------------------------------------------------------


def test_reset_begins_anew(recognizer: Recognizer, faces: dict) -> None:
    session = recognizer.session()
    pushes = events(faces)
    first = played(session, pushes)
    with pytest.raises(SessionClosed, match="reset"):
        session.push_gaze(gaze(9, 10))
    session.reset()
    assert_equal(first, played(session, pushes), tolerance=0)


def test_a_closed_session_refuses_everything_and_closes_twice(recognizer: Recognizer, faces: dict) -> None:
    with recognizer.session() as session:
        pass
    session.close()
    for use in (
        lambda: session.push_face(faces["neutral"], 0),
        lambda: session.push_gaze(gaze(0, 1)),
        lambda: session.push_scene(faces["neutral"], 0),
        session.estimates,
        session.finish,
        session.reset,
    ):
        with pytest.raises(SessionClosed):
            use()


def test_frames_that_nobody_takes_do_not_fill_the_memory(
    recognizer: Recognizer, faces: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emert_edge.session, "MAX_WAITING_BYTES", 4 * faces["nobody"].nbytes)
    session = recognizer.session()
    with pytest.raises(QueueOverflow, match="estimates"):
        for index in range(100):
            session.push_face(faces["nobody"], index * 100 * MS)


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ((np.zeros((8, 8, 3), np.float32), 0), TypeError, "frame"),
        (([[0]], 0), TypeError, "frame"),
        ((np.zeros((8, 8), np.uint8), 0), ValueError, "frame"),
        ((np.zeros((8, 8, 4), np.uint8), 0), ValueError, "frame"),
        ((np.zeros((0, 8, 3), np.uint8), 0), ValueError, "frame"),
        ((np.zeros((3, 8, 8), np.uint8), 0), ValueError, "frame"),
        ((np.zeros((8, 8, 3), np.uint8), 0.5), TypeError, "t_ns"),
        ((np.zeros((8, 8, 3), np.uint8), True), TypeError, "t_ns"),
        ((np.zeros((8, 8, 3), np.uint8), 2**63), ValueError, "t_ns"),
    ],
)
def test_wrong_arguments_are_named(recognizer: Recognizer, arguments: tuple, error: type, name: str) -> None:
    with recognizer.session() as session:
        for push in (session.push_face, session.push_scene):
            with pytest.raises(error, match=name):
                push(*arguments)
        with pytest.raises(ValueError, match="color"):
            session.push_face(np.zeros((8, 8, 3), np.uint8), 0, color="gbr")
        with pytest.raises(TypeError, match="samples"):
            session.push_gaze(np.zeros(3))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="space"):
            session.push_scene(np.zeros((8, 8, 3), np.uint8), 0, space="moon")
        session.push_face(np.zeros((8, 8, 3), np.uint8), np.int64(0))  # type: ignore[arg-type]


def test_a_session_of_another_recognizer_is_refused(recognizer: Recognizer) -> None:
    with Recognizer(device="cpu", threads=1) as other, pytest.raises(ValueError, match="another Recognizer"):
        recognizer.step([other.session()])
    for wrong in ([1], [None], "ab"):
        with pytest.raises(TypeError, match="sessions"):
            recognizer.step(wrong)  # type: ignore[arg-type]
    session = recognizer.session()
    with pytest.raises(ValueError, match="twice"):
        recognizer.step([session, session])


def test_what_a_session_holds_does_not_grow_with_its_stream(recognizer: Recognizer, faces: dict) -> None:
    session = recognizer.session()

    def play(start: int, stop: int) -> int:
        for second in range(start, stop):
            session.push_gaze(gaze(second, second + 1, rate_hz=60))
            session.push_face(faces["nobody"], second * S)
            session.push_face(faces["nobody"], second * S + S // 2)
            session.estimates()
        return len(session._gaze._t)

    early = play(0, 30)
    assert play(30, 600) == early
    assert len(session._cells["face"]) <= 2
    assert len(session._gaze) <= 60 * 6
