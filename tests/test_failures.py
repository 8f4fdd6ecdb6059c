"""What a failed step, a refused push and a stream that was never begun leave behind: everything else as it was."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emert_edge import EngineError, GazeSamples, QueueOverflow, Recognizer
from emert_edge.errors import GazeFormatError, SourceError
from emert_edge.simulation import SimulatedSession
from emert_edge.sources.live_gaze import LiveGaze

S = 1_000_000_000


@pytest.fixture(scope="module")
def recognizer() -> Iterator[Recognizer]:
    with Recognizer(device="cpu", precision="fp32", threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def person() -> SimulatedSession:
    return SimulatedSession.from_seed(0, duration_s=12.0, fps=4)


def fill(session: Any, person: SimulatedSession) -> None:
    session.push_gaze(person.gaze)
    for frame in person.frames():
        session.push_face(frame.image, frame.t_ns)
    session.finish()


def fail_once(patch: pytest.MonkeyPatch, engine: Any, call: int = 0) -> None:
    run, calls = type(engine).run, 0

    def failing(self: Any, *given: Any, **named: Any) -> Any:
        nonlocal calls
        if self is engine:
            calls += 1
            if calls == call + 1:
                raise EngineError("once")
        return run(self, *given, **named)

    patch.setattr(type(engine), "run", failing)


def test_an_encoder_that_failed_once_spoils_no_later_session(
    recognizer: Recognizer, person: SimulatedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recognizer.session() as session:
        fill(session, person)
        expected = session.estimates()
    with monkeypatch.context() as patch:
        fail_once(patch, recognizer._open_engines().face_encoder)
        with recognizer.session() as session:
            fill(session, person)
            with pytest.raises(EngineError, match="once"):
                session.estimates()
    with recognizer.session() as session:
        fill(session, person)
        assert [one.to_dict() for one in session.estimates()] == [one.to_dict() for one in expected]


def test_what_was_finished_before_a_failure_comes_with_the_next_call(
    recognizer: Recognizer, person: SimulatedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = recognizer._open_engines().head.max_batch
    with recognizer.session() as session:
        fill(session, person)
        whole = [one.t_ns for one in session.estimates()]
    assert len(whole) > 2 * room
    with monkeypatch.context() as patch, recognizer.session() as session:
        fail_once(patch, recognizer._open_engines().head, 1)
        fill(session, person)
        with pytest.raises(EngineError, match="once"):
            session.estimates()
        assert [one.t_ns for one in session.estimates()] == whole[:room] + whole[2 * room :]


def test_a_session_that_closes_during_a_step_takes_nothing_from_the_others(
    recognizer: Recognizer, person: SimulatedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recognizer.session() as one, recognizer.session() as other:
        fill(one, person)
        fill(other, person)
        due = type(other)._due

        def closing(self: Any, most: int) -> list[int]:
            if self is other:
                other.close()
            return due(self, most)

        monkeypatch.setattr(type(other), "_due", closing)
        first, second = recognizer.step([one, other])
        assert first
        assert second == []


def test_a_failed_step_keeps_nothing_back_from_the_recording(
    recognizer: Recognizer, person: SimulatedSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from emert_edge.recording import Recording

    file = tmp_path / "session.mcap"
    with monkeypatch.context() as patch, recognizer.session(record=file) as session:
        fail_once(patch, recognizer._open_engines().head)
        fill(session, person)
        with pytest.raises(EngineError, match="once"):
            session.estimates()
        session.reset()
        later = np.arange(100, dtype=np.int64) * 10_000_000 + 20 * S
        session.push_gaze(GazeSamples(t_ns=later, x=np.full(100, 0.5), y=np.full(100, 0.5)))
    topics = [topic for topic, _ in Recording(file).messages()]
    assert topics.count("/window") > 0
    assert len(topics) - topics.index("/window") > topics.count("/window"), "what came after the windows is there too"


class Closes:
    """A source of frames that says when it is let go."""

    name, live, clock = "closes", False, ""

    def __init__(self, person: SimulatedSession) -> None:
        self.source, self.closed = person.face_source(), 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def frames(self) -> Any:
        return self.source.frames()

    def close(self) -> None:
        self.closed += 1
        self.source.close()


@pytest.mark.parametrize("way", ["run", "live"])
def test_a_stream_that_was_never_begun_lets_its_sources_go(
    recognizer: Recognizer, person: SimulatedSession, tmp_path: Path, way: str
) -> None:
    source, file = Closes(person), tmp_path / "never.mcap"
    stream = getattr(recognizer, way)(face=source, record=file)
    stream.close()
    stream.close()
    assert source.closed == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "emert-recorder"]


def test_an_opening_that_nobody_waits_for_any_more_is_closed(
    recognizer: Recognizer, person: SimulatedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Closes(person)
    opened = recognizer.live

    def slowly(**given: Any) -> Any:
        time.sleep(0.3)
        return opened(**given)

    monkeypatch.setattr(recognizer, "live", slowly)

    async def leave() -> None:
        stream = recognizer.live_async(face=source)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(stream), 0.05)

    asyncio.run(leave())
    deadline = time.monotonic() + 5
    while not source.closed and time.monotonic() < deadline:
        time.sleep(0.02)
    assert source.closed == 1


def test_a_frame_that_is_refused_has_not_been(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emert_edge.session.MAX_WAITING_BYTES", 3 * 64 * 64 * 3)
    frame = np.zeros((64, 64, 3), np.uint8)
    found = []
    for refused in (False, True):
        with recognizer.session() as session:
            for count in range(3):
                session.push_face(frame, count * 2 * S)
            if refused:
                with pytest.raises(QueueOverflow, match="frames wait"):
                    session.push_face(frame, 60 * S)
            found.append([one.t_ns for one in session.estimates()])
    assert found[0] == found[1] != []


def test_gaze_at_the_time_of_the_last_estimate_belongs_to_the_next(
    recognizer: Recognizer, person: SimulatedSession
) -> None:
    with recognizer.session() as session:
        for frame in person.frames():
            session.push_face(frame.image, frame.t_ns)
            if frame.t_ns >= 2 * S:
                break
        last = session.estimates()[-1].t_ns
        session.push_gaze(GazeSamples(t_ns=np.array([last]), x=np.array([0.5]), y=np.array([0.5])))
        session.push_gaze(GazeSamples(t_ns=np.array([last - 1]), x=np.array([0.5]), y=np.array([0.5])))
        session.finish()
        assert session._late == 1


def test_a_recorded_session_is_replayed_at_its_stride_said_or_not(
    recognizer: Recognizer, person: SimulatedSession, tmp_path: Path
) -> None:
    file = tmp_path / "session.mcap"
    with recognizer.session(record=file) as session:
        fill(session, person)
        expected = [one.t_ns for one in session.estimates()]
    stride_s = recognizer.bundle.manifest.window.stride_ms / 1000
    for said in (None, stride_s):
        assert [one.t_ns for one in recognizer.run(session=file, stride_s=said)] == expected


@pytest.mark.parametrize("time", ["1e99999999", "1e999999999999999999999", "1e19", "-1e19"])
def test_a_time_beyond_all_bounds_is_an_error_with_its_line(tmp_path: Path, time: str) -> None:
    from emert_edge.sources.luminance import read_luminance

    file = tmp_path / "luminance.csv"
    file.write_text(f"t_s,luminance\n{time},0.5\n")
    with pytest.raises(SourceError, match="line 2"):
        read_luminance(file)


def test_a_tracker_that_answers_wrongly_after_it_was_lost_is_tried_again() -> None:
    class Connection:
        def read(self) -> GazeSamples:
            raise SourceError("lost")

        def offset_ns(self) -> None:
            return None

        def close(self) -> None:
            pass

    opened: list[float] = []

    def connect(patience_s: float) -> Connection:
        opened.append(patience_s)
        if len(opened) > 1:
            raise GazeFormatError("silent")
        return Connection()

    source = LiveGaze("tracker", connect)
    for told in ("lost", "silent"):
        with pytest.raises(SourceError, match=told) as raised:
            next(source.chunks())
        assert not isinstance(raised.value, GazeFormatError), "that would end the stream"
