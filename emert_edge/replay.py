"""Recorded input: all sources merged by time, every frame offered, the same bytes each time; and recorded sessions."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterable, Iterator
from operator import itemgetter
from typing import Any, TypeAlias

from emert_edge.errors import SourceError
from emert_edge.estimate import Estimate
from emert_edge.inputs import Inputs, close_estimates, gaze_pieces
from emert_edge.recording import Recording
from emert_edge.recording.messages import Damaged, gaze_of, image_of, token_fields
from emert_edge.session import Session, Token
from emert_edge.sources import FrameSource, GazeSource

__all__ = ["ReplayedEstimates", "replay_estimates", "replay_recording"]

_Item: TypeAlias = tuple[int, int, Callable[[], None]]


class ReplayedEstimates(Iterator[Estimate]):
    """Estimates of a recording, in order; what it holds is let go at its end, or by `close`."""

    def __init__(self, estimates: Generator[Estimate, None, None], release: Callable[[], None]) -> None:
        self._estimates, self._release = estimates, release

    def __next__(self) -> Estimate:
        return next(self._estimates)

    def close(self) -> None:
        """End it here; for the thread that iterates."""
        close_estimates(self._estimates, self._release)

    def __del__(self) -> None:
        self.close()


def replay_estimates(
    session: Session, inputs: Inputs, *, gaze_offset_ns: int, rebase: bool
) -> Generator[Estimate, None, None]:
    """Push everything in order of time and yield estimates as they fall due.

    Parameters
    ----------
    session
        A fresh session; it is closed at the end, as are the inputs.
    gaze_offset_ns
        Added to the gaze's times after alignment.
    rebase
        Whether each source's first datum is laid on time 0.
    """
    try:
        streams: list[Iterable[_Item]] = []
        # Where times are equal gaze goes first, then the scene, so that a frame finds its gaze already there.
        if inputs.gaze is not None:
            streams.append(_gaze_items(session, inputs.gaze, gaze_offset_ns, rebase))
        if inputs.scene is not None:
            space = inputs.scene_space
            streams.append(
                _frame_items(inputs.scene, 1, rebase, lambda image, t: session.push_scene(image, t, space=space))
            )
        if inputs.face is not None:
            streams.append(_frame_items(inputs.face, 2, rebase, session.push_face))
        for _, _, push in heapq.merge(*streams, key=itemgetter(0, 1)):
            push()
            yield from session.estimates()
        session.finish()
        yield from session.estimates()
    finally:
        inputs.release(session)


def _frame_items(source: FrameSource, order: int, rebase: bool, push: Callable[..., None]) -> Iterator[_Item]:
    first = None
    for frame in source.frames():
        if first is None:
            first = frame.t_ns if rebase else 0
        t_ns = frame.t_ns - first
        yield t_ns, order, lambda image=frame.image, t_ns=t_ns: push(image, t_ns)  # type: ignore[misc]


def _gaze_items(session: Session, source: GazeSource, offset_ns: int, rebase: bool) -> Iterator[_Item]:
    shift = None
    for samples in gaze_pieces(source):
        if shift is None:
            shift = offset_ns - (int(samples.t_ns[0]) if rebase else 0)
        if samples.clock:
            session.set_clock_offset(samples.clock, 0)  # what alignment there is has been done by the shift
        moved = samples.shifted(shift)
        yield int(moved.t_ns[0]), 0, lambda moved=moved: session.push_gaze(moved)  # type: ignore[misc]


def replay_recording(session: Session, recording: Recording, *, exact: bool) -> Generator[Estimate, None, None]:
    """Push what a recorded session took, in its order, and yield the estimates.

    Parameters
    ----------
    session
        A fresh session; it is closed at the end.
    exact
        Whether windows are taken when the recorded session took them, so that the estimates are the same; for a session
        on the recording's own grid. Otherwise they are taken as they fall due.

    Raises
    ------
    SourceError
        The recording is damaged, or is none of a session on this grid.
    """
    granted, finished = 0, False
    if exact:
        session._replay(tokens=not recording.frames_kept)

    def taken() -> list[Estimate]:
        nonlocal granted
        due = session.estimates()
        if exact and len(due) != granted:
            raise SourceError(
                f"{recording.path}: {granted} windows were recorded where {len(due)} are due; it is damaged"
            )
        granted = 0
        return due

    try:
        for topic, message in recording.messages():
            if topic == "/estimate":
                continue
            try:
                if topic == "/window":
                    if exact:
                        session._grant(_tokens(message))
                        granted += 1
                    continue
                yield from taken()
                finished = _push(session, topic, message) or finished
            except (Damaged, KeyError, TypeError, ValueError) as error:
                raise SourceError(f"{recording.path}: a message of {topic} that cannot be: {error}") from None
            if not exact:
                yield from taken()
        if not exact and not finished:
            session.finish()
        yield from taken()
    finally:
        session.close()


def _tokens(message: dict[str, Any]) -> dict[int, tuple[Token, Token]]:
    return {
        int(point["t_ns"]): (Token(**token_fields(point["face"])), Token(**token_fields(point["fixation"])))
        for point in message["points"]
    }


def _push(session: Session, topic: str, message: dict[str, Any]) -> bool:
    """Do again what a message says was done; say whether it was the end."""
    if topic == "/gaze":
        session.push_gaze(gaze_of(message))
    elif topic in ("/face", "/scene"):
        session._push_mark(topic[1:], message["t_ns"], message["color"], message["space"])
    elif topic == "/face/image":
        session.push_face(image_of(message), message["t_ns"], color=message["color"])
    elif topic == "/scene/image":
        session.push_scene(image_of(message), message["t_ns"], color=message["color"], space=message["space"])
    elif (event := message["event"]) == "offset":
        session.set_clock_offset(message["domain"], message["offset_ns"])
    elif event == "lost":
        session._count_lost(frames=message["frames"], samples=message["samples"])
    elif event == "reset":
        session.reset()
    elif event == "finish":
        session.finish()
        return True
    return False
