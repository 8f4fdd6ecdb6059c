"""Recorded input: all sources merged by time, every frame offered, the same bytes each time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import TypeAlias

from emert_edge.estimate import Estimate
from emert_edge.inputs import Inputs, gaze_pieces
from emert_edge.session import Session
from emert_edge.sources import FrameSource, GazeSource

__all__ = ["replay_estimates"]

_Item: TypeAlias = tuple[int, int, Callable[[], None]]


def replay_estimates(session: Session, inputs: Inputs, *, gaze_offset_ns: int, rebase: bool) -> Iterator[Estimate]:
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
        session.close()
        inputs.close()


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
