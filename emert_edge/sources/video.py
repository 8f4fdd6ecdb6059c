"""Video files and animated GIFs, through OpenCV's FFmpeg."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import cv2

from emert_edge.errors import FrameSourceError
from emert_edge.sources.frames import Frame, has_backend, quiet_opencv, require_readable, to_bgr

__all__ = ["VideoFileSource"]

COMPLETE = 0.9
"""The share of its declared frames that a video must deliver."""

DECODER_THREADS = 2
"""More would each keep pictures of their own: a core saved costs tens of MB at 720p."""

ASSUMED_FPS = 30.0
"""For a video that has neither times nor a rate."""


class VideoFileSource:
    """A video file or an animated GIF.

    Times are the container's, also where the frame rate varies. Where it gives none, or they do not rise, a frame comes
    one period of the declared rate after the one before it. Rotation that the container asks for is applied.

    Parameters
    ----------
    path : path
        The file.

    Raises
    ------
    FrameSourceError
        The file is missing, may not be read, or is no video. `frames` raises it too, at the end, if fewer than 90 % of
        the declared frames came.
    """

    live = False

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = self.path.name
        self.clock = f"file:{self.name}"
        self._closed = False
        require_readable(self.path)
        _refuse_text(self.path)
        capture = self._capture()
        try:
            self.size: tuple[int, int] | None = (
                int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
                int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
            )
            rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
            self.fps = rate if math.isfinite(rate) and 0 < rate <= 1000 else ASSUMED_FPS
            self.expected_frames: int | None = int(count) if 0 < count < 1e9 else None
            with quiet_opencv():
                if not capture.grab():
                    raise FrameSourceError(f"{self.path} holds no picture that can be decoded{self._cut_off()}")
        finally:
            capture.release()

    def _capture(self) -> cv2.VideoCapture:
        with quiet_opencv():
            backend = cv2.CAP_FFMPEG if has_backend(cv2.CAP_FFMPEG) else cv2.CAP_ANY
            try:
                capture = cv2.VideoCapture(str(self.path), backend, [cv2.CAP_PROP_N_THREADS, DECODER_THREADS])
                if not capture.isOpened():  # a backend that knows no thread count refuses the parameter
                    capture = cv2.VideoCapture(str(self.path), backend)
            except cv2.error as error:
                raise FrameSourceError(f"{self.path} is not a video that can be read: {error.err}") from None
        if not capture.isOpened():
            raise FrameSourceError(f"{self.path} is not a video that can be read{self._cut_off()}")
        return capture

    def _cut_off(self) -> str:
        flaw = cut_off(self.path)
        return f"; {flaw}" if flaw else ""

    def frames(self) -> Iterator[Frame]:
        """Decode the frames, from the first one on with every call.

        Raises
        ------
        FrameSourceError
            The video ends before 90 % of its declared frames, or its file is cut off.
        """
        if self._closed:
            return
        capture = self._capture()
        period_ns = round(1e9 / self.fps)
        last_ns = -1
        sequence = 0
        try:
            while not self._closed:
                try:
                    there, image = capture.read()
                except cv2.error as error:
                    raise FrameSourceError(f"{self.path}: frame {sequence} cannot be decoded: {error.err}") from None
                if not there:
                    self._require_complete(sequence)
                    return
                t_ns = _nanoseconds(capture.get(cv2.CAP_PROP_POS_MSEC))
                if t_ns is None or t_ns <= last_ns:
                    t_ns = last_ns + period_ns if sequence else 0
                yield Frame(to_bgr(image), t_ns, sequence)
                last_ns = t_ns
                sequence += 1
        finally:
            capture.release()

    def _require_complete(self, delivered: int) -> None:
        expected = self.expected_frames
        if expected is not None and delivered < COMPLETE * expected:
            raise FrameSourceError(
                f"{self.path} ends after {delivered} of {expected} declared frames: it is truncated or damaged"
            )
        if (expected is None or self.path.suffix.lower() == ".gif") and (flaw := cut_off(self.path)):
            # A GIF declares no number of frames: FFmpeg counts what is there.
            raise FrameSourceError(f"{self.path} ends after {delivered} frames; {flaw}")

    def close(self) -> None:
        """End `frames`; may be called twice, and from another thread."""
        self._closed = True


def _nanoseconds(milliseconds: float) -> int | None:
    return round(milliseconds * 1e6) if math.isfinite(milliseconds) and milliseconds >= 0 else None


def _refuse_text(path: Path) -> None:
    """FFmpeg would play a text as "ANSI art", or follow a playlist to wherever it points."""
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise FrameSourceError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        text = start.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # else only the last letter is cut
            return
        text = start[: error.start].decode("utf-8-sig")
    if all(letter.isprintable() or letter in "\t\r\n\f\x1b" for letter in text):
        raise FrameSourceError(
            f"{path} is a text file, not a video; give a video, an animated GIF, a folder of images or a camera"
        )


def cut_off(path: Path) -> str | None:
    """Say where a container's own structure shows that its file was cut; None where it shows nothing.

    MP4 and QuickTime are a row of boxes that each tell their length, and a GIF ends with a trailer.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:6] in (b"GIF87a", b"GIF89a"):
            file.seek(max(0, size - 64))
            return (
                None if file.read().rstrip(b"\0").endswith(b";") else "the file is cut off: a GIF's trailer is missing"
            )
        if head[4:8] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return None
        offset = 0
        kinds = set()
        while offset + 8 <= size:
            file.seek(offset)
            length, kind = struct.unpack(">I4s", file.read(8))
            if length == 1:
                length = int.from_bytes(file.read(8), "big")
            elif length == 0:
                length = size - offset
            if length < 8:
                return None
            if offset + length > size:
                return f"the file is cut off: {offset + length - size} bytes of its last part are missing"
            kinds.add(kind)
            offset += length
    return None if b"moov" in kinds else "the file is cut off: its table of frames is missing"
