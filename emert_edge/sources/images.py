"""Folders of images, in the order a person would count them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from emert_edge.errors import FrameSourceError
from emert_edge.sources.frames import Frame, quiet_opencv, to_bgr

__all__ = ["IMAGE_SUFFIXES", "ImageFolderSource"]

IMAGE_SUFFIXES = frozenset(
    (".bmp", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)  # an animated GIF is a video


class ImageFolderSource:
    """The images of one folder, as a video of a constant rate.

    They come in natural order: frame2 before frame10. Other files, hidden ones and folders inside are left out. Images
    may differ in size. Grey ones are spread over three channels, alpha is left out, of 16 bits the upper 8 are taken,
    and a photograph is turned the way its EXIF tag says.

    Parameters
    ----------
    path : path
        The folder, or one image.
    fps : float
        Images per second.

    Raises
    ------
    FrameSourceError
        There is no such folder, it may not be read, has no images, or its first one cannot be decoded. `frames` raises
        it when it meets a damaged one.
    ValueError
        `fps` is not positive.
    """

    live = False

    def __init__(self, path: str | Path, fps: float = 30.0) -> None:
        if not math.isfinite(fps) or fps <= 0:
            raise ValueError(f"fps must be positive, not {fps}")
        self.path = Path(path)
        self.fps = float(fps)
        self.name = self.path.name or str(self.path)
        self.clock = f"file:{self.name}"
        self.files = _images(self.path)
        self.expected_frames: int | None = len(self.files)
        rows, columns = _read(self.files[0]).shape[:2]
        self.size: tuple[int, int] | None = (columns, rows)
        self._closed = False

    def frames(self) -> Iterator[Frame]:
        """Read the images, from the first one on with every call.

        Raises
        ------
        FrameSourceError
            An image cannot be read; the message names it.
        """
        for index, file in enumerate(self.files):
            if self._closed:
                return
            yield Frame(_read(file), round(index * 1e9 / self.fps), index)

    def close(self) -> None:
        """End `frames`; may be called twice, and from another thread."""
        self._closed = True


def _images(path: Path) -> list[Path]:
    try:
        if not path.exists():
            raise FrameSourceError(f"no such file or folder: {path}; check the path")
        if path.is_file():
            return [path]
        files = [
            file
            for file in path.iterdir()
            if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".") and file.is_file()
        ]
    except OSError as error:
        raise FrameSourceError(f"{path} cannot be read: {error.strerror or error}") from None
    if not files:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise FrameSourceError(f"{path} is a folder without images ({kinds})")
    return sorted(files, key=_natural)


def _natural(file: Path) -> tuple[list[tuple[int, str]], str]:
    """Numbers by value, letters without case; the name itself settles what is then equal."""
    parts = re.split(r"([0-9]+)", file.name.lower())
    return [(int(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)], file.name


def _read(file: Path) -> npt.NDArray[np.uint8]:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise FrameSourceError(f"{file} cannot be read: {error.strerror or error}") from None
    if not data:
        raise FrameSourceError(f"{file} is empty; remove it or copy it anew")
    if not _whole(data):
        raise FrameSourceError(f"{file} is cut off")
    try:
        with quiet_opencv():
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise FrameSourceError(f"{file} cannot be decoded: {error.err}") from None
    if image is None:
        raise FrameSourceError(f"{file} is not an image that can be decoded")
    return to_bgr(np.asarray(image))


def _whole(data: bytes) -> bool:
    """OpenCV decodes half a JPEG to a picture that is half grey; an end marker or a length in the header tells."""
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in data[-65536:]  # some cameras append data of their own
    if data.startswith(b"\x89PNG"):
        return b"IEND" in data[-65536:]
    if data.startswith(b"BM"):
        return int.from_bytes(data[2:6], "little") <= len(data)
    return True
