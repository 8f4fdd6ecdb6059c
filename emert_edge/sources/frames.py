"""Frames: what they are, and how a user's word for a source becomes one."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import numpy.typing as npt

from emert_edge.errors import FrameSourceError

__all__ = ["Frame", "FrameSource", "open_frames"]


LOG_LEVEL_SILENT, LOG_LEVEL_WARNING = 0, 3
"""OpenCV's; a user who wants to hear more has set a higher one."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture and its time.

    Attributes
    ----------
    image : ndarray
        (H, W, 3) uint8, BGR. The frame's own: no source writes into it again, so it may be kept.
    t_ns : int
        Time, ns, in the source's clock. It rises from frame to frame.
    sequence : int
        0, 1, 2, … as produced by the source; a gap is a frame that was dropped on the way.
    """

    image: npt.NDArray[np.uint8]
    t_ns: int
    sequence: int


@runtime_checkable
class FrameSource(Protocol):
    """A stream of frames, recorded or live."""

    @property
    def name(self) -> str:
        """What a user calls it; without credentials."""
        ...

    @property
    def live(self) -> bool:
        """Whether frames come at their own pace, and are lost if nobody takes them."""
        ...

    @property
    def clock(self) -> str:
        """The domain of its times: "monotonic" (`time.monotonic_ns`), or "file:NAME" for a recording's own."""
        ...

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) of the first frame, px; None if not known before it comes."""
        ...

    @property
    def expected_frames(self) -> int | None:
        """How many frames there will be, by the recording's own word; None where it has none."""
        ...

    def frames(self) -> Iterator[Frame]:
        """Give the frames in order. A recording starts anew with every call, and gives the same frames again.

        Raises
        ------
        FrameSourceError
            The source broke off.
        """
        ...

    def close(self) -> None:
        """Let go of the source; `frames` ends. May be called twice, and from another thread."""
        ...


def open_frames(source: str | Path | int | FrameSource, *, fps: float = 30.0) -> FrameSource:
    """Open a source of frames by its name.

    Parameters
    ----------
    source : str, path, int or FrameSource
        A video file, an animated GIF, a folder of images or one image; ``camera:N`` or the number N; ``rtsp://…``;
        ``gst:PIPELINE`` (a GStreamer pipeline that ends in ``appsink``). A `FrameSource` is passed through.
    fps : float
        Frames per second of a folder of images, which has no times of its own.

    Raises
    ------
    FrameSourceError
        There is nothing by that name, or it cannot be read.
    TypeError
        `source` is none of the above.
    """
    from emert_edge.sources.camera import CameraSource
    from emert_edge.sources.images import IMAGE_SUFFIXES, ImageFolderSource
    from emert_edge.sources.video import VideoFileSource

    if isinstance(source, bool):
        raise TypeError("source must be a path, a camera's number or a FrameSource, not bool")
    if isinstance(source, (int, np.integer)):
        return CameraSource(int(source))
    if not isinstance(source, (str, os.PathLike)):
        if isinstance(source, FrameSource):
            return source
        raise TypeError(f"source must be a path, a camera's number or a FrameSource, not {type(source).__name__}")
    if isinstance(source, str):
        if source.startswith("camera:"):
            number = source.removeprefix("camera:")
            if not re.fullmatch("[0-9]{1,4}", number):
                raise FrameSourceError(f"{source}: a camera goes by its number, as in camera:0")
            return CameraSource(int(number))
        if source.startswith(("rtsp://", "rtsps://", "gst:")):
            return CameraSource(source)
        if re.match("[A-Za-z][A-Za-z0-9+.-]*://", source):
            kind = source.split("://", 1)[0]
            raise FrameSourceError(f"{kind}:// addresses are not read; a stream is rtsp://… or gst:PIPELINE")
    path = Path(source)
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageFolderSource(path, fps=fps)
    return VideoFileSource(path)


def require_readable(path: Path) -> None:
    """Check that a file is there, may be read and is not empty.

    Raises
    ------
    FrameSourceError
        It is not.
    """
    try:
        if not path.exists():
            remedy = f"a camera is camera:{path}" if str(path).isdigit() else "check the path"
            raise FrameSourceError(f"no such file or folder: {path}; {remedy}")
        if not path.is_file():
            raise FrameSourceError(f"{path} is not a file")
        with path.open("rb") as file:
            if not file.read(1):
                raise FrameSourceError(f"{path} is empty; record or copy it anew")
    except OSError as error:
        raise FrameSourceError(f"{path} cannot be read: {error.strerror or error}") from None


def to_bgr(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Turn what OpenCV decoded into (H, W, 3) uint8: grey is spread, alpha left out, 16 bits become the upper 8.

    Raises
    ------
    FrameSourceError
        It has another layout.
    """
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.dtype == np.uint8 and image.size:
        if image.ndim == 3 and image.shape[2] == 3:
            return image
        if image.ndim == 2 or image.shape[2] == 1:
            return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
        if image.ndim == 3 and image.shape[2] == 4:
            return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2BGR), dtype=np.uint8)
    raise FrameSourceError(f"a picture of shape {image.shape} and type {image.dtype} is neither BGR nor grey")


def has_backend(backend: int) -> bool:
    """Whether this OpenCV can really read through a backend; one that only its plug-in could bring is listed, too."""
    return bool(cv2.videoio_registry.hasBackend(backend))


class _Quiet:
    """Keep OpenCV and the FFmpeg in it from writing to standard error what is raised here anyway.

    FFmpeg's level is read once a process, when the first video is opened, from an environment variable that is set only
    while that happens. OpenCV's own level is put back as it was. A user who set either to hear more hears it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._level = 0
        self._variable = False
        self._logging: Any = getattr(cv2.utils, "logging", cv2)  # it moved between OpenCV 4.8 and 4.14

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._depth == 0:
                self._hush()
            self._depth += 1
        try:
            yield
        finally:
            with self._lock:
                self._depth -= 1
                if self._depth == 0:
                    self._restore()

    def _hush(self) -> None:
        self._level = self._logging.getLogLevel()
        if self._level <= LOG_LEVEL_WARNING:
            self._logging.setLogLevel(LOG_LEVEL_SILENT)
        self._variable = not {"OPENCV_FFMPEG_LOGLEVEL", "OPENCV_FFMPEG_DEBUG"} & set(os.environ)
        if self._variable:
            os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"  # FFmpeg's AV_LOG_QUIET

    def _restore(self) -> None:
        self._logging.setLogLevel(self._level)
        if self._variable:
            os.environ.pop("OPENCV_FFMPEG_LOGLEVEL", None)


quiet_opencv = _Quiet()
