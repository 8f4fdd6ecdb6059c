"""Live input: a capture thread a source, bounded queues, back-pressure by a named policy.

Capture threads only read and queue. The thread that iterates pushes what is queued into the session and computes, so
errors of every thread come out where the caller is.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import partial
from threading import Condition, Event, Thread
from types import TracebackType
from typing import Generic, Literal, TypeAlias, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from emert_edge.errors import GazeFormatError, QueueOverflow, SourceError
from emert_edge.estimate import Estimate
from emert_edge.eye.samples import GazeSamples
from emert_edge.inputs import Inputs, close_estimates, gaze_pieces
from emert_edge.session import Session
from emert_edge.sources import FrameSource, GazeSource

__all__ = ["LiveEstimates", "Policy", "check_policy"]

Policy: TypeAlias = Literal["latest", "block", "error"]
Item = TypeVar("Item")

_LOG = logging.getLogger("emert_edge")

GAZE_CHUNKS_PER_FRAME = 16
"""Gaze comes in many small pieces: its queue holds this many times the pieces that a frame queue holds."""

RECONNECT_S = 1.0
"""How long a lost eye tracker is left alone before it is tried again."""

_IDLE_S = 0.25
_JOIN_S = 5.0


class _Shared:
    """What the capture threads and the consumer share; it holds no reference to the consumer, which may be dropped."""

    def __init__(self) -> None:
        self.condition = Condition()
        self.stopped = Event()
        self.error: BaseException | None = None
        self.running = 0

    def stop(self) -> None:
        self.stopped.set()
        with self.condition:
            self.condition.notify_all()

    def fail(self, error: BaseException) -> None:
        with self.condition:
            self.error = self.error or error
            self.condition.notify_all()

    def end(self) -> None:
        with self.condition:
            self.running -= 1
            self.condition.notify_all()


class _Queue(Generic[Item]):
    """A bounded queue between one capture thread and the consumer."""

    def __init__(self, shared: _Shared, name: str, limit: int, policy: Policy) -> None:
        self._shared = shared
        self._name = name
        self._limit = limit
        self._policy = policy
        self._items: deque[tuple[int, int, Item]] = deque()  # number, how much is lost with it, what
        self._expected = 0
        self._dropped = 0

    def put(self, sequence: int, item: Item, weight: int = 1) -> None:
        """Queue an item under the policy; `weight` is how much is lost with it."""
        with self._shared.condition:
            if sequence > self._expected:
                _LOG.warning("%s: items %d to %d were lost by the source", self._name, self._expected, sequence - 1)
                self._dropped += sequence - self._expected
            self._expected = sequence + 1
            if len(self._items) >= self._limit:
                if self._policy == "error":
                    raise QueueOverflow(
                        f"{self._name}: {self._limit} items wait and item {sequence} has no room; estimates are taken "
                        "more slowly than data come: take them faster, or use policy 'latest' or 'block'"
                    )
                if self._policy == "latest":
                    number, lost, _ = self._items.popleft()
                    self._dropped += lost
                    _LOG.warning("%s: item %d was dropped by a full queue", self._name, number)
                else:
                    while len(self._items) >= self._limit and not self._shared.stopped.is_set():
                        self._shared.condition.wait(_IDLE_S)
            self._items.append((sequence, weight, item))
            self._shared.condition.notify_all()

    def take_all(self) -> tuple[list[Item], int]:
        """Return all that waits, and how much was dropped since the last call. The condition must be held."""
        items = [item for _, _, item in self._items]
        self._items.clear()
        dropped, self._dropped = self._dropped, 0
        return items, dropped

    def __len__(self) -> int:
        return len(self._items)


_Image: TypeAlias = npt.NDArray[np.uint8]


class _Pace:
    """Lays recordings on the monotonic clock and holds them to their own pace; leaves live sources alone."""

    def __init__(self, shared: _Shared, live: bool, start_ns: int, rebase: bool, offset_ns: int = 0) -> None:
        self._shared = shared
        self._live = live
        self._start_ns = start_ns
        self._rebase = rebase
        self._offset_ns = offset_ns
        self._shift: int | None = None

    def wait(self, t_ns: int) -> int:
        """Return what to add to a datum's time, after waiting until that instant has come."""
        if self._live:
            return self._offset_ns
        if self._shift is None:
            self._shift = self._offset_ns + (self._start_ns - t_ns if self._rebase else 0)
        if self._rebase and (left := t_ns + self._shift - time.monotonic_ns()) > 0:
            self._shared.stopped.wait(left / 1e9)
        return self._shift


def _capture_frames(source: FrameSource, queue: _Queue[tuple[int, _Image]], pace: _Pace, shared: _Shared) -> None:
    for frame in source.frames():
        if shared.stopped.is_set():
            return
        # a frame owns its memory, so the queue may keep it as it is
        queue.put(frame.sequence, (frame.t_ns + pace.wait(frame.t_ns), frame.image))


def _capture_gaze(source: GazeSource, queue: _Queue[GazeSamples], pace: _Pace, shared: _Shared) -> None:
    sequence = 0
    while not shared.stopped.is_set():
        try:
            for samples in source.chunks() if source.live else gaze_pieces(source):
                if shared.stopped.is_set():
                    return
                if len(samples):
                    pace.wait(int(samples.t_ns[0]))  # the first of all lays the recording on the clock
                    # a piece comes when its last sample has been taken
                    queue.put(sequence, samples.shifted(pace.wait(int(samples.t_ns[-1]))), len(samples))
                    sequence += 1
            return
        except SourceError as error:  # noqa: PERF203 (a lost tracker is rare)
            if not source.live or isinstance(error, GazeFormatError):  # what it sends will not become readable
                raise
            _LOG.warning("%s was lost and is tried again: %s", source.name, error)
            shared.stopped.wait(RECONNECT_S)


def check_policy(policy: str, max_queue: int) -> None:
    """Raise `ValueError` or `TypeError` unless policy and queue length make sense."""
    if policy not in get_args(Policy):
        raise ValueError(f"policy must be 'latest', 'block' or 'error', not {policy!r}")
    if isinstance(max_queue, bool) or not isinstance(max_queue, int):
        raise TypeError(f"max_queue must be an integer, not {type(max_queue).__name__}")
    if max_queue < 1:
        raise ValueError(f"max_queue must be at least 1, not {max_queue}")


class LiveEstimates(Iterator[Estimate]):
    """Estimates of a live stream, in order; ends when every source has ended or `stop` was called.

    Parameters
    ----------
    session
        A fresh session on the clock "monotonic"; closed at the end, as are the inputs.
    gaze_offset_ns
        Added to the gaze's times.
    rebase
        Whether recordings start at the instant the stream starts (and keep their own pace), or keep their own times.
    """

    _release: Callable[[], None]

    def __init__(
        self,
        session: Session,
        inputs: Inputs,
        *,
        gaze_offset_ns: int,
        rebase: bool,
        policy: Policy,
        max_queue: int,
    ) -> None:
        self._shared = _Shared()
        self._estimates = _consume(session, inputs, self._shared, gaze_offset_ns, rebase, policy, max_queue)
        self._release = partial(inputs.release, session)

    @classmethod
    def played(cls, estimates: Iterator[Estimate], close: Callable[[], None]) -> LiveEstimates:
        """A recorded session's estimates, each at its own time after the first datum's; `close` ends them."""
        made = cls.__new__(cls)
        made._shared = _Shared()
        made._estimates = _played(estimates, close, made._shared)
        made._release = close
        return made

    def __iter__(self) -> LiveEstimates:
        return self

    def __next__(self) -> Estimate:
        return next(self._estimates)

    def __enter__(self) -> LiveEstimates:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def stop(self) -> None:
        """End the stream from any thread: the iteration stops at its next step."""
        self._shared.stop()

    def close(self) -> None:
        """End the stream and release its sources; for the thread that iterates."""
        self._shared.stop()
        close_estimates(self._estimates, self._release)


def _played(
    estimates: Iterator[Estimate], close: Callable[[], None], shared: _Shared
) -> Generator[Estimate, None, None]:
    start_ns = None
    try:
        for estimate in estimates:
            if start_ns is None:  # half of the first window had been seen when it was due
                first_ns = round((estimate.window_s[0] + estimate.window_s[1]) / 2 * 1e9)
                start_ns = time.monotonic_ns() - first_ns
            due_ns = start_ns + estimate.t_ns
            if shared.stopped.wait(max(0, due_ns - time.monotonic_ns()) / 1e9):
                return
            yield replace(estimate, latency_ms=max(0, time.monotonic_ns() - due_ns) / 1e6)
    finally:
        close()


def _consume(
    session: Session,
    inputs: Inputs,
    shared: _Shared,
    gaze_offset_ns: int,
    rebase: bool,
    policy: Policy,
    max_queue: int,
) -> Generator[Estimate, None, None]:
    start_ns = time.monotonic_ns()
    threads: list[Thread] = []
    frames: list[tuple[_Queue[tuple[int, _Image]], Callable[..., None]]] = []
    gaze_queue: _Queue[GazeSamples] | None = None

    def start(name: str, source: FrameSource | GazeSource, body: Callable[[], None]) -> None:
        shared.running += 1
        threads.append(Thread(target=_guarded, args=(shared, source, body), name=f"emert-{name}", daemon=True))

    def pushes_scene(image: _Image, t_ns: int) -> None:
        session.push_scene(image, t_ns, space=inputs.scene_space)

    for name, source, push in (("face", inputs.face, session.push_face), ("scene", inputs.scene, pushes_scene)):
        if source is not None:
            queue: _Queue[tuple[int, _Image]] = _Queue(shared, source.name, max_queue, policy)
            pace = _Pace(shared, source.live, start_ns, rebase)
            start(name, source, partial(_capture_frames, source, queue, pace, shared))
            frames.append((queue, push))
    if inputs.gaze is not None:
        gaze = inputs.gaze
        gaze_queue = _Queue(shared, gaze.name, max_queue * GAZE_CHUNKS_PER_FRAME, policy)
        pace = _Pace(shared, gaze.live, start_ns, rebase, gaze_offset_ns)
        start("gaze", gaze, partial(_capture_gaze, gaze, gaze_queue, pace, shared))
        if not gaze.live and gaze.clock:
            session.set_clock_offset(gaze.clock, 0)  # a recording is laid on the session's clock by its pace
    try:
        for thread in threads:
            thread.start()
        ended = False
        while not (ended or shared.stopped.is_set()):
            with shared.condition:
                waiting = [queue for queue, _ in frames] + ([gaze_queue] if gaze_queue is not None else [])
                if not any(map(len, waiting)) and shared.running and shared.error is None:
                    shared.condition.wait(_IDLE_S)
                chunks, lost = gaze_queue.take_all() if gaze_queue is not None else ([], 0)
                taken = [(queue.take_all(), push) for queue, push in frames]
                error, ended = shared.error, not shared.running
                shared.condition.notify_all()  # whoever waits for room
            if error is not None:
                raise error
            session._count_lost(samples=lost)
            for samples in chunks:
                session.push_gaze(samples)
            for (images, dropped), push in taken:
                session._count_lost(frames=dropped)
                for t_ns, image in images:
                    push(image, t_ns)
            if ended:
                session.finish()
            for estimate in session.estimates():
                # a recording shorter than half a window is answered for an instant just after its end
                yield replace(estimate, latency_ms=max(0, time.monotonic_ns() - estimate.t_ns) / 1e6)
    finally:
        shared.stop()
        deadline = time.monotonic() + _JOIN_S
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        session.close()
        if not threads or threads[0].ident is None:
            inputs.close()  # otherwise each thread closes its own source, which nobody else may touch while it reads


def _guarded(shared: _Shared, source: FrameSource | GazeSource, body: Callable[[], None]) -> None:
    try:
        body()
    except BaseException as error:  # whatever it is, the caller hears of it
        shared.fail(error)
    finally:
        try:
            source.close()
        finally:
            shared.end()
