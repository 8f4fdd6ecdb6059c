"""Faces by the Haar cascade that ships with OpenCV 4.

The cascade's box is the canonical one (see `emert_edge.face.crop`). It finds frontal faces; a head turned or tilted by
more than about 20° is often missed, and `emert_edge.face.tracking` bridges that.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from emert_edge.errors import EngineError
from emert_edge.face.detection import SURE, Box, Detection, Image, require_box, require_frame, resized

__all__ = ["HaarDetector", "find_cascade"]

CASCADE = "haarcascade_frontalface_default.xml"
SECOND_CASCADE = "haarcascade_frontalface_alt2.xml"

SYSTEM_FOLDERS = (
    "/usr/share/opencv4/haarcascades",  # Debian, Ubuntu, JetPack: their OpenCV has no cv2.data
    "/usr/local/share/opencv4/haarcascades",  # an OpenCV that was built on the board
    "/usr/share/opencv/haarcascades",
    "/opt/homebrew/share/opencv4/haarcascades",
)

SCAN_WIDTH_PX = 320
"""The longer side of a frame when all of it is searched; a face needs 24 of these pixels."""

SCAN_STEP, LOOK_STEP = 1.2, 1.1
"""Ratio of the sizes searched, one after the other."""


class _Look(NamedTuple):
    """One search around an expected face."""

    face_px: int  # how large the expected face is made
    sides: float  # the searched square, in box sides
    sizes: tuple[float, float]  # of the faces to find, in box sides
    correction: float  # what the boxes found are multiplied with


# A cheap one for a face that has hardly moved, then a near one, then a wide and sharp one. OpenCV takes every second
# window up to twice the cascade's 24 px and every window beyond: a still look has only such sizes, and its boxes come
# out as in a larger picture; the near look's come out 6 % larger.
STILL_LOOK = _Look(38, 1.5, (0.8, 1.25), 1.0)
NEAR_LOOK = _Look(48, 2.2, (0.72, 1.4), 0.94)
WIDE_LOOK = _Look(64, 3.0, (0.6, 1.7), 1.0)

STILL_SHIFT, STILL_RATIO = 0.1, 1.1
"""A still look has seen all windows around a face that moved by less of its side and grew by less than this."""

SCAN_NEIGHBOURS, LOOK_NEIGHBOURS = 3, 4
"""This many agreeing windows make a face in a scan, and in a look with its finer steps; fewer are a hint."""

HINT_NEIGHBOURS = 2

CONFIRMED = 0.7
"""The second cascade's score for a face that it confirms: real faces get 0.8 and more, a dress's folds got 0.69."""


def find_cascade(name: str = CASCADE) -> Path:
    """Find a cascade file of the installed OpenCV.

    Raises
    ------
    EngineError
        No such file lies where OpenCV installs them.
    """
    folders = [Path(folder) for folder in (*_packaged_folders(), *SYSTEM_FOLDERS)]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise EngineError(
        f"no face cascade: {name} is in none of {', '.join(map(str, folders))}; "
        "install OpenCV's data files (Debian: opencv-data), give a YuNet model instead, or pass the cascade's path"
    )


def _packaged_folders() -> Iterator[str]:
    data = getattr(cv2, "data", None)
    folder = getattr(data, "haarcascades", None)
    if isinstance(folder, str):
        yield folder


class HaarDetector:
    """Frontal faces from OpenCV's Haar cascade; needs no model file.

    The whole frame is searched in a small copy, and what is found must be confirmed by a second, differently trained
    cascade. With `region` only its surroundings are searched, scaled so that the cost does not depend on the frame's
    size, and weaker evidence is returned as a hint. One instance may be used from several threads.

    Parameters
    ----------
    cascade : path, optional
        A cascade file, used alone; without it the two that ship with OpenCV.
    scan_width : int
        The longer side to which a frame is reduced when all of it is searched, px. Faces smaller than 24 of these
        pixels are not found (with the default: 96 px in 1280 × 720).

    Raises
    ------
    EngineError
        There is no cascade, or it cannot be read.
    """

    name = "haar"

    def __init__(self, cascade: str | Path | None = None, *, scan_width: int = SCAN_WIDTH_PX) -> None:
        if scan_width < 48:
            raise ValueError(f"scan_width must be at least 48 px, not {scan_width}")
        self.path = find_cascade() if cascade is None else Path(cascade)
        self._first = _open(self.path)
        self._second = _open(find_cascade(SECOND_CASCADE)) if cascade is None else None
        self._scan_width = scan_width
        self._lock = threading.Lock()  # a cascade keeps its image pyramid between calls

    def detect(self, frame: Image, *, region: Box | None = None) -> list[Detection]:
        """Find faces; see `emert_edge.face.FaceDetector.detect`.

        Raises
        ------
        TypeError, ValueError
            `frame` is not (H, W, 3) uint8, or `region` not a box.
        """
        frame = require_frame(frame)
        if region is None:
            return self._scan(frame)
        region = require_box(region, "region")
        still = self._look(self._first, frame, region, STILL_LOOK)
        if still and _hardly_moved(still[0], region):
            return still
        return self._look(self._first, frame, region, NEAR_LOOK) or self._look(self._first, frame, region, WIDE_LOOK)

    def _scan(self, frame: Image) -> list[Detection]:
        rows, columns = frame.shape[:2]
        scale = min(1.0, self._scan_width / max(rows, columns))
        grey = _shrunk_grey(frame, scale)
        found = self._search(self._first, grey, SCAN_STEP, SCAN_NEIGHBOURS, SCAN_NEIGHBOURS, (24, max(grey.shape)))
        faces = [_placed(face, 1 / scale, 0.0, 0.0, 1.0) for face in found]
        return [face for face in faces if self._confirmed(frame, face)]

    def _confirmed(self, frame: Image, face: Detection) -> bool:
        if self._second is None:
            return True
        x, y, side, _ = face.box
        return any(
            other.score >= CONFIRMED
            and abs(other.box[0] + other.box[2] / 2 - x - side / 2) < 0.3 * side
            and abs(other.box[1] + other.box[2] / 2 - y - side / 2) < 0.3 * side
            for other in self._look(self._second, frame, face.box, NEAR_LOOK)
        )

    def _look(self, cascade: cv2.CascadeClassifier, frame: Image, region: Box, look: _Look) -> list[Detection]:
        x, y, width, height = region
        side = max(width, height)
        reach = look.sides / 2 * side
        left, top = max(0, math.floor(x + width / 2 - reach)), max(0, math.floor(y + height / 2 - reach))
        right, bottom = max(0, math.ceil(x + width / 2 + reach)), max(0, math.ceil(y + height / 2 + reach))
        part = frame[top:bottom, left:right]
        if min(part.shape[:2]) < 2:
            return []
        scale = look.face_px / side
        grey = _shrunk_grey(part, scale)
        sizes = (round(look.sizes[0] * look.face_px), round(look.sizes[1] * look.face_px))
        found = self._search(cascade, grey, LOOK_STEP, HINT_NEIGHBOURS, LOOK_NEIGHBOURS, sizes)
        return [_placed(face, 1 / scale, float(left), float(top), look.correction) for face in found]

    def _search(
        self,
        cascade: cv2.CascadeClassifier,
        grey: npt.NDArray[np.uint8],
        step: float,
        least: int,
        sure: int,
        sizes: tuple[int, int],
    ) -> list[Detection]:
        with self._lock:
            boxes, counts = cascade.detectMultiScale2(
                grey,
                scaleFactor=step,
                minNeighbors=least,
                minSize=(sizes[0], sizes[0]),
                maxSize=(sizes[1], sizes[1]),
            )
        # OpenCV returns empty tuples where it found nothing, and the counts as a row or a column.
        squares = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        agreeing = np.asarray(counts, dtype=np.float64).reshape(-1)
        found = [
            Detection((float(x), float(y), float(width), float(height)), float(count / (count + sure)))
            for (x, y, width, height), count in zip(squares, agreeing, strict=True)
        ]
        # The cascade's own order depends on how its threads ran.
        return sorted(found, key=lambda one: (-one.score, one.box))


def _hardly_moved(face: Detection, region: Box) -> bool:
    x, y, width, height = region
    side = max(width, height)
    across = face.box[0] + face.box[2] / 2 - x - width / 2
    down = face.box[1] + face.box[3] / 2 - y - height / 2
    near = max(abs(across), abs(down)) <= STILL_SHIFT * side
    return near and 1 / STILL_RATIO <= face.box[2] / side <= STILL_RATIO and face.score >= SURE


def _placed(face: Detection, scale: float, left: float, top: float, correction: float) -> Detection:
    """Carry a box from the searched copy to the frame, resized about its centre."""
    x, y, width, height = (value * scale for value in face.box)
    shift = (1 - correction) / 2
    return Detection(
        (left + x + shift * width, top + y + shift * height, correction * width, correction * height), face.score
    )


def _open(path: Path) -> cv2.CascadeClassifier:
    if not path.is_file():
        raise EngineError(f"no face cascade at {path}")
    cascade = cv2.CascadeClassifier()
    try:
        loaded = cascade.load(str(path))  # given to the constructor, a bad file is a SystemError
    except cv2.error as error:
        raise EngineError(f"{path} is not a face cascade: {error.err}") from None
    if not loaded:
        raise EngineError(f"{path} is not a face cascade")
    return cascade


def _shrunk_grey(frame: Image, scale: float) -> npt.NDArray[np.uint8]:
    rows, columns = frame.shape[:2]
    small = resized(frame, (max(1, round(columns * scale)), max(1, round(rows * scale))))
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), dtype=np.uint8)
