"""Live pictures: monotonic times, a lost camera is an error, and nothing waits for ever."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest

import emert_edge.sources.camera as camera_module
from emert_edge.errors import FrameSourceError
from emert_edge.sources import FrameSource, open_frames
from emert_edge.sources.camera import CameraSource


class FakeCapture:
    """A camera that gives what its plan says: True a picture, False none, "torn" one that cannot be decoded."""

    def __init__(self, plan: Iterator[bool | str], opened: bool = True) -> None:
        self.plan, self.opened = plan, opened
        self.now: bool | str = False
        self.released = 0

    def isOpened(self) -> bool:  # noqa: N802
        return self.opened

    def grab(self) -> bool:
        assert not self.released
        self.now = next(self.plan)
        if self.now == "broken":
            raise cv2.error("the driver is gone")
        return bool(self.now)

    def retrieve(self) -> tuple[bool, Any]:
        return (False, None) if self.now == "torn" else (True, np.full((12, 16), 50, np.uint8))

    def get(self, what: int) -> float:
        return {cv2.CAP_PROP_FRAME_WIDTH: 16.0, cv2.CAP_PROP_FRAME_HEIGHT: 12.0}[what]

    def release(self) -> None:
        self.released += 1


def forever(*values: bool | str) -> Iterator[bool | str]:
    yield from values
    while True:
        yield values[-1]


def camera(capture: FakeCapture, patience_s: float = 0.1) -> CameraSource:
    return CameraSource(0, patience_s=patience_s, open_capture=lambda: capture)


def test_frames_carry_the_monotonic_time_of_their_grab() -> None:
    source = camera(FakeCapture(forever(True)))
    assert isinstance(source, FrameSource)
    assert (source.live, source.clock, source.name) == (True, "monotonic", "camera:0")
    assert source.size == (16, 12)
    assert source.expected_frames is None
    frames = source.frames()
    before = time.monotonic_ns()
    first, second, third = next(frames), next(frames), next(frames)
    after = time.monotonic_ns()
    assert before <= first.t_ns < second.t_ns < third.t_ns <= after + 2
    assert [first.sequence, second.sequence, third.sequence] == [0, 1, 2]
    assert first.image.shape == (12, 16, 3)  # grey was spread


def test_times_rise_even_where_the_clock_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    source = camera(FakeCapture(forever(True)))
    monkeypatch.setattr(camera_module.time, "monotonic_ns", lambda: 1000)
    frames = source.frames()
    assert [next(frames).t_ns for _ in range(3)] == [1000, 1001, 1002]


def test_a_camera_that_stutters_goes_on() -> None:
    source = camera(FakeCapture(forever(True, False, "torn", False, True)), patience_s=5)
    frames = source.frames()
    assert [next(frames).sequence for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("end", [False, "torn"])
def test_a_lost_camera_is_an_error_and_let_go(end: bool | str) -> None:
    capture = FakeCapture(forever(True, True, end))
    frames = camera(capture).frames()
    next(frames)
    next(frames)
    with pytest.raises(FrameSourceError, match=r"camera:0 is lost: no frame for .* after 2 frames"):
        next(frames)
    assert capture.released == 1


def test_a_camera_that_never_gives_a_frame_is_an_error() -> None:
    with pytest.raises(FrameSourceError, match="after 0 frames"):
        next(camera(FakeCapture(forever(False))).frames())


def test_a_driver_that_breaks_is_an_error() -> None:
    capture = FakeCapture(forever(True, "broken"))
    frames = camera(capture).frames()
    next(frames)
    with pytest.raises(FrameSourceError, match="camera:0 is lost"):
        next(frames)
    assert capture.released == 1


def test_close_from_another_thread_ends_the_frames() -> None:
    capture = FakeCapture(forever(True))
    source = camera(capture)
    timer = threading.Timer(0.05, source.close)
    timer.start()
    count = sum(1 for _ in source.frames())
    timer.join()
    assert count > 0
    assert capture.released == 1
    source.close()
    assert capture.released == 1
    assert list(source.frames()) == []


def test_close_before_any_frame_lets_go() -> None:
    capture = FakeCapture(forever(True))
    source = camera(capture)
    source.close()
    assert capture.released == 1
    assert list(source.frames()) == []


def test_a_camera_is_read_once() -> None:
    source = camera(FakeCapture(forever(True)))
    frames = source.frames()
    next(frames)
    with pytest.raises(FrameSourceError, match="already being read"):
        next(source.frames())
    assert next(frames).sequence == 1


def test_a_capture_that_does_not_open_is_an_error() -> None:
    capture = FakeCapture(forever(True), opened=False)
    with pytest.raises(FrameSourceError, match="camera:0 cannot be opened"):
        camera(capture)
    assert capture.released == 1


@pytest.mark.parametrize("patience_s", [0, -1, float("nan")])
def test_patience_must_be_positive(patience_s: float) -> None:
    with pytest.raises(ValueError, match="patience_s"):
        camera(FakeCapture(forever(True)), patience_s=patience_s)


@pytest.mark.parametrize("source", [97, "camera:97", np.int64(97)])
def test_a_camera_that_is_not_there_is_one_clear_line(source: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FrameSourceError, match="camera:97 cannot be opened"):
        open_frames(source)
    assert capfd.readouterr() == ("", "")


def test_gstreamer_is_missed_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_module, "has_backend", lambda backend: False)
    with pytest.raises(FrameSourceError, match="gst: needs an OpenCV with GStreamer"):
        open_frames("gst:videotestsrc ! appsink")


def test_an_rtsp_address_where_nobody_listens_is_an_error_without_its_password() -> None:
    with pytest.raises(FrameSourceError, match=r"127\.0\.0\.1:1/cam cannot be opened") as caught:
        open_frames("rtsp://user:secret@127.0.0.1:1/cam")
    assert "secret" not in str(caught.value)


def test_an_rtsp_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_module, "OPEN_TIMEOUT_MS", 300)
    monkeypatch.setattr(camera_module, "READ_TIMEOUT_MS", 300)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(FrameSourceError, match="cannot be opened"),
    ):
        open_frames(f"rtsp://127.0.0.1:{server.getsockname()[1]}/cam")
