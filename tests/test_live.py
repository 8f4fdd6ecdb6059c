"""Live streams: capture threads, queues, policies, and how they end."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from emert_edge import FrameSourceError, QueueOverflow, Recognizer, SourceError
from emert_edge.eye import GazeSamples
from emert_edge.sources import Frame

S = 1_000_000_000
IMAGE = np.full((24, 32, 3), 90, np.uint8)


@pytest.fixture(scope="module")
def recognizer() -> Iterator[Recognizer]:
    with Recognizer(device="cpu", threads=1) as opened:
        opened.warmup()
        yield opened


@dataclass
class Camera:
    """A camera whose clock we hold: each frame is `step_s` later than the one before, as fast as it is read."""

    count: int
    step_s: float = 0.1
    error: Exception | None = None
    live: bool = True
    name: str = "camera"
    clock: str = "monotonic"
    size: tuple[int, int] | None = (32, 24)
    expected_frames: int | None = None
    pause_s: float = 0.0
    closed: threading.Event = field(default_factory=threading.Event)
    read: int = 0

    def frames(self) -> Iterator[Frame]:
        begin = time.monotonic_ns()
        for index in range(self.count):
            self.read += 1
            yield Frame(IMAGE, begin + round(index * self.step_s * S), index)
            time.sleep(self.pause_s)
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed.set()


@dataclass
class Tracker:
    """An eye tracker that is lost once and comes back."""

    count: int
    lose_after: int | None = None
    live: bool = True
    name: str = "tracker"
    clock: str = "monotonic"
    opened: int = 0
    closed: threading.Event = field(default_factory=threading.Event)

    def chunks(self) -> Iterator[GazeSamples]:
        self.opened += 1
        for index in range(self.count):
            if index == self.lose_after and self.opened == 1:
                raise SourceError("tracker: unplugged")
            t_ns = time.monotonic_ns() + np.arange(5) * S // 100
            yield GazeSamples(t_ns=t_ns, x=np.full(5, 0.5), y=np.full(5, 0.5))
            time.sleep(0.01)

    def close(self) -> None:
        self.closed.set()


def test_a_live_stream_ends_when_its_sources_end(recognizer: Recognizer) -> None:
    camera = Camera(50)
    taken = list(recognizer.live(camera, policy="block"))
    assert len(taken) == 6  # 4.9 s of data: at 2.0, 2.5 … 4.5 s
    assert [one.sequence for one in taken] == list(range(6))
    assert all(one.latency_ms is not None for one in taken)
    assert taken[-1].quality.dropped_frames == 0
    assert camera.closed.wait(1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("emert-")]


def test_latest_drops_the_oldest_frames_counts_and_names_them(
    recognizer: Recognizer, caplog: pytest.LogCaptureFixture
) -> None:
    camera = Camera(400, step_s=0.05, pause_s=0.001)
    taken = []
    with caplog.at_level(logging.WARNING, logger="emert_edge"):
        for estimate in recognizer.live(camera, policy="latest", max_queue=2):
            taken.append(estimate)
            time.sleep(0.05)
    dropped = [record.args[1] for record in caplog.records if "dropped" in record.message]
    assert dropped, "a slow consumer of a fast camera must lose frames under this policy"
    assert dropped == sorted(set(dropped))
    assert taken[-1].quality.dropped_frames == len(dropped)
    assert camera.read == 400


def test_frames_that_the_source_itself_lost_are_counted(recognizer: Recognizer) -> None:
    class Skipping(Camera):
        def frames(self) -> Iterator[Frame]:
            for frame in super().frames():
                yield Frame(frame.image, frame.t_ns, frame.sequence + (3 if frame.sequence >= 10 else 0))

    taken = list(recognizer.live(Skipping(30), policy="block"))
    assert taken[-1].quality.dropped_frames == 3


def test_block_loses_nothing(recognizer: Recognizer) -> None:
    taken = []
    for estimate in recognizer.live(Camera(200, step_s=0.05), policy="block", max_queue=2):
        taken.append(estimate)
        time.sleep(0.02)
    assert taken[-1].quality.dropped_frames == 0
    assert taken[-1].quality.late_samples == 0
    assert len(taken) == 16


def test_error_raises_where_the_caller_is(recognizer: Recognizer) -> None:
    camera = Camera(10_000, step_s=0.05)
    with pytest.raises(QueueOverflow, match="camera: 3 items wait"):
        for _ in recognizer.live(camera, policy="error", max_queue=3):
            time.sleep(0.2)
    assert camera.closed.wait(1)


def test_a_lost_camera_raises_where_the_caller_is(recognizer: Recognizer) -> None:
    camera = Camera(45, error=FrameSourceError("camera: unplugged"))
    taken = []
    with pytest.raises(FrameSourceError, match="unplugged"):
        for estimate in recognizer.live(camera, policy="block"):
            taken.append(estimate)
    assert camera.closed.wait(1)


def test_any_error_of_a_capture_thread_is_raised_in_the_caller(recognizer: Recognizer) -> None:
    with pytest.raises(ZeroDivisionError):
        list(recognizer.live(Camera(3, error=ZeroDivisionError())))


def test_a_lost_tracker_degrades_and_reconnects(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emert_edge.live.RECONNECT_S", 0.01)
    tracker = Tracker(20, lose_after=5)
    taken = list(recognizer.live(Camera(60, pause_s=0.005), tracker, policy="block"))
    assert tracker.opened == 2
    assert len(taken) == 8


def test_recordings_play_at_their_own_pace_on_the_sessions_clock(recognizer: Recognizer) -> None:
    camera = Camera(6, step_s=0.05, live=False, clock="file:clip")
    begin = time.monotonic()
    gaze = GazeSamples(t_ns=np.arange(30) * S // 100 + 7 * S, x=[0.5] * 30, y=[0.5] * 30, clock="tracker")
    (only,) = recognizer.live(camera, gaze)
    assert time.monotonic() - begin >= 0.25  # the last frame's time: never early
    assert "clock_unsynchronised" not in only.quality.degraded
    assert only.quality.gaze > 0
    assert abs(only.t_ns - time.monotonic_ns()) < 5 * S


def test_latency_is_never_negative(recognizer: Recognizer) -> None:
    (only,) = recognizer.live(Camera(3, step_s=0.05, live=False, clock="file:clip"))
    assert only.latency_ms is not None
    assert only.latency_ms >= 0


def test_gaze_that_a_full_queue_drops_is_counted(recognizer: Recognizer) -> None:
    class Flood(Tracker):
        def chunks(self) -> Iterator[GazeSamples]:
            begin = time.monotonic_ns()
            for index in range(600):
                t_ns = begin + (5 * index + np.arange(5)) * S // 1000
                yield GazeSamples(t_ns=t_ns, x=np.full(5, 0.5), y=np.full(5, 0.5))

    taken = []
    for estimate in recognizer.live(None, Flood(0), policy="latest", max_queue=1):
        taken.append(estimate)
        time.sleep(0.1)
    assert taken[-1].quality.late_samples > 0


def test_leaving_early_ends_threads_and_closes_sources(recognizer: Recognizer) -> None:
    camera = Camera(10**9, step_s=0.1)
    for estimate in recognizer.live(camera, policy="block"):
        assert estimate.sequence == 0
        break
    assert camera.closed.wait(2)
    with recognizer.live(Camera(10**9), policy="block") as stream:
        next(stream)
    stream.close()
    assert list(stream) == []


def test_stop_ends_a_stream_from_another_thread(recognizer: Recognizer) -> None:
    camera = Camera(10**9, step_s=0.0, pause_s=0.01)  # time stands still, so no estimate ever falls due
    stream = recognizer.live(camera, policy="latest")
    threading.Timer(0.1, stream.stop).start()
    assert list(stream) == []
    assert camera.closed.wait(1)


def test_a_stream_that_was_never_iterated_starts_nothing(recognizer: Recognizer) -> None:
    camera = Camera(5)
    recognizer.live(camera).close()
    assert camera.read == 0


@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        ({"policy": "newest"}, ValueError, "policy"),
        ({"max_queue": 0}, ValueError, "max_queue"),
        ({"max_queue": 1.5}, TypeError, "max_queue"),
        ({"align": "middle"}, ValueError, "align"),
        ({"gaze_offset_ms": float("nan")}, ValueError, "gaze_offset_ms"),
        ({"gaze_offset_ms": "1"}, TypeError, "gaze_offset_ms"),
        ({"scene_space": "moon"}, ValueError, "scene_space"),
        ({"stride_s": 0.3}, ValueError, "stride_s"),
    ],
)
def test_wrong_options_are_named_at_once(recognizer: Recognizer, options: dict, error: type, name: str) -> None:
    with pytest.raises(error, match=name):
        recognizer.live(Camera(1), **options)


@pytest.mark.asyncio
async def test_the_asynchronous_twins_give_the_same_and_leave_the_loop_free(recognizer: Recognizer) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    ticking = asyncio.create_task(tick())
    taken = [estimate async for estimate in recognizer.live_async(Camera(50, pause_s=0.002), policy="block")]
    assert len(taken) == 6
    assert ticks > 5
    ticking.cancel()
    recorded = Camera(50, live=False, clock="file:clip")
    again = [estimate async for estimate in recognizer.run_async(recorded)]
    assert [one.time_s for one in again] == [2.0, 2.5, 3.0, 3.5, 4.0, 4.5]
    with pytest.raises(FrameSourceError):
        async for _ in recognizer.live_async(Camera(1, error=FrameSourceError("gone"))):
            pass


@pytest.mark.asyncio
async def test_cancelling_an_asynchronous_stream_ends_it(recognizer: Recognizer) -> None:
    camera = Camera(10**9, step_s=0.0, pause_s=0.01)

    async def follow() -> None:
        async for _ in recognizer.live_async(camera):
            pass

    task = asyncio.create_task(follow())
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(camera.closed.wait, 2)
