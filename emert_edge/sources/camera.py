"""Live pictures: a camera, an RTSP stream, a GStreamer pipeline."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import cv2
import numpy as np

from emert_edge.errors import FrameSourceError
from emert_edge.sources.frames import Frame, has_backend, quiet_opencv, to_bgr

__all__ = ["CameraSource", "Capture"]

OPEN_TIMEOUT_MS = 5_000
READ_TIMEOUT_MS = 5_000


class Capture(Protocol):
    """What is used of a ``cv2.VideoCapture``."""

    def isOpened(self) -> bool:  # noqa: N802
        """Whether it can be read."""
        ...

    def grab(self) -> bool:
        """Wait for the next picture and take it."""
        ...

    def retrieve(self) -> tuple[bool, Any]:
        """Decode the picture that was taken."""
        ...

    def get(self, propId: int) -> float:  # noqa: N803
        """Read a property."""
        ...

    def release(self) -> None:
        """Close it."""
        ...


class CameraSource:
    """A camera, an RTSP stream or a GStreamer pipeline.

    A frame's time is `time.monotonic_ns` when it was grabbed. OpenCV gives no exposure time, so it is late by what the
    camera and its driver take.

    Parameters
    ----------
    camera : int or str
        A camera's number, ``rtsp://…``, or ``gst:PIPELINE`` (for an OpenCV that was built with GStreamer).
    patience_s : float
        How long a source may give no frame before it counts as lost.
    open_capture : callable, optional
        Opens the capture in OpenCV's place; for devices that OpenCV doesn't know.

    Raises
    ------
    FrameSourceError
        There is no such camera, nobody answers at the address, or this OpenCV has no GStreamer. `frames` raises it when
        the source is lost.
    """

    live = True
    clock = "monotonic"
    expected_frames: int | None = None

    def __init__(
        self,
        camera: int | str,
        *,
        patience_s: float = 2.0,
        open_capture: Callable[[], Capture] | None = None,
    ) -> None:
        if not patience_s > 0:
            raise ValueError(f"patience_s must be positive, not {patience_s}")
        if isinstance(camera, int) and camera < 0:
            raise ValueError(f"a camera's number must not be negative, not {camera}")
        self.name = f"camera:{camera}" if isinstance(camera, int) else _without_password(camera)
        self._patience_ns = round(patience_s * 1e9)
        with quiet_opencv():
            try:
                self._capture = open_capture() if open_capture is not None else _open(camera)
            except cv2.error as error:
                raise FrameSourceError(f"{self.name} cannot be opened: {error.err}") from None
        if not self._capture.isOpened():
            self._capture.release()
            raise FrameSourceError(f"{self.name} cannot be opened: {_reason(camera)}")
        width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.size: tuple[int, int] | None = (width, height) if width > 0 and height > 0 else None
        self._lock = threading.Lock()
        self._taken = False
        self._closed = threading.Event()

    def frames(self) -> Iterator[Frame]:
        """Grab frames until `close`; may be called once.

        Raises
        ------
        FrameSourceError
            No frame came for `patience_s`, or the frames of this source were asked for before.
        """
        with self._lock:
            if self._closed.is_set():
                return
            if self._taken:
                raise FrameSourceError(f"{self.name}: its frames are already being read; open it anew")
            self._taken = True
        try:
            yield from self._grab()
        finally:
            self._closed.set()
            self._capture.release()

    def _grab(self) -> Iterator[Frame]:
        last_ns = time.monotonic_ns()
        sequence = 0
        while not self._closed.is_set():
            try:
                there = self._capture.grab()
                t_ns = time.monotonic_ns()
                image = None
                if there:
                    there, image = self._capture.retrieve()
            except cv2.error as error:
                raise FrameSourceError(f"{self.name} is lost: {error.err}") from None
            if there and image is not None:
                t_ns = max(t_ns, last_ns + 1) if sequence else t_ns
                last_ns = t_ns
                yield Frame(to_bgr(np.asarray(image)), t_ns, sequence)
                sequence += 1
            elif t_ns - last_ns > self._patience_ns:
                raise FrameSourceError(
                    f"{self.name} is lost: no frame for {(t_ns - last_ns) / 1e9:.1f} s after {sequence} frames"
                )
            else:
                self._closed.wait(0.02)  # an unplugged camera fails at once, and again at once

    def close(self) -> None:
        """End `frames` and let go of the camera; may be called twice, and from another thread.

        A `frames` that waits for the camera in another thread ends with the frame that it waits for.
        """
        with self._lock:
            self._closed.set()
            if not self._taken:
                self._capture.release()


def _open(camera: int | str) -> Capture:
    if isinstance(camera, int):
        backend = cv2.CAP_V4L2 if sys.platform == "linux" and has_backend(cv2.CAP_V4L2) else cv2.CAP_ANY
        capture = cv2.VideoCapture(camera, backend)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # an old frame waiting in the driver is no use; not every driver obeys
        return capture
    if camera.startswith("gst:"):
        if not has_backend(cv2.CAP_GSTREAMER):
            raise FrameSourceError(
                f"gst: needs an OpenCV with GStreamer, and OpenCV {cv2.__version__} here was built without; "
                "boards bring one of their own (`emert-edge doctor` shows which is used)"
            )
        return cv2.VideoCapture(camera.removeprefix("gst:"), cv2.CAP_GSTREAMER)
    if not camera.startswith(("rtsp://", "rtsps://")):
        raise FrameSourceError(f"{camera}: a live source is camera:N, rtsp://… or gst:PIPELINE")
    backend = cv2.CAP_FFMPEG if has_backend(cv2.CAP_FFMPEG) else cv2.CAP_ANY
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS]
    return cv2.VideoCapture(camera, backend, timeouts)


def _reason(camera: int | str) -> str:
    if isinstance(camera, int):
        return "there is no such camera, it is in use, or it may not be read (on Linux: the group video)"
    if camera.startswith("gst:"):
        return "GStreamer cannot run this pipeline; try it with gst-launch-1.0, and end it in appsink"
    return "nobody answers there with a video"


def _without_password(address: str) -> str:
    return re.sub(r"(?<=://)[^/@\s]*@", "", address)
