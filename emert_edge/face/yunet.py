"""Faces by YuNet, a small network that OpenCV runs itself; its model file is the user's.

YuNet gives five landmarks with every face; the canonical box (see `emert_edge.face.crop`) is laid by them.

W. Wu, H. Peng and S. Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20 (2023).
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from emert_edge.errors import EngineError
from emert_edge.face.crop import SIDE, canonical_box
from emert_edge.face.detection import Box, Detection, Image, require_box, require_frame, resized

__all__ = ["YUNET_FILE", "YUNET_SHA256", "YuNetDetector", "fetch_yunet", "stored_yunet"]

YUNET_FILE = "face_detection_yunet_2023mar.onnx"
"""The name under which the model lies in the user's store; OpenCV Zoo's own."""

YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
"""The published file's hash."""

SCAN_WIDTH_PX = 320
"""The longer side of a frame when all of it is searched; faces down to a tenth of that are found."""

REGION_PX = 160
"""The side of a searched region: three box sides, so that the expected face is about 53 px."""

SMALLEST_PX = 16
"""A picture must have this many rows and columns to be searched."""

SURE = 0.7
HINT = 0.4
"""YuNet's own scores that count as a sure face and as a hint."""

LARGEST_MODEL_BYTES = 64 * 1024 * 1024
TIMEOUT_S = 30.0


class YuNetDetector:
    """Faces of any pose from YuNet, through OpenCV's own network engine.

    One instance may be used from several threads.

    Parameters
    ----------
    model : path
        A YuNet ONNX file of OpenCV Zoo (2023mar or a derivative).
    scan_width : int
        The longer side to which a frame is reduced when all of it is searched, px.

    Attributes
    ----------
    path : Path
        The model file.
    sha256 : str
        Its hash; `YUNET_SHA256` for the published file.

    Raises
    ------
    EngineError
        There is no such file, or OpenCV cannot run it as YuNet.
    """

    name = "yunet"

    def __init__(self, model: str | Path, *, scan_width: int = SCAN_WIDTH_PX) -> None:
        if scan_width < 64:
            raise ValueError(f"scan_width must be at least 64 px, not {scan_width}")
        self.path = Path(model)
        self._scan_width = scan_width
        try:
            self.sha256 = _sha256(self.path)
        except OSError as error:
            raise EngineError(f"{self.path}: the model cannot be read: {error.strerror or error}") from None
        try:
            # Two networks, because a change of input size makes OpenCV lay its buffers out anew.
            self._whole = self._network((scan_width, scan_width), SURE)
            self._part = self._network((REGION_PX, REGION_PX), HINT)
            self._part.detect(np.zeros((REGION_PX, REGION_PX, 3), np.uint8))
        except cv2.error as error:
            raise EngineError(f"{self.path}: OpenCV {cv2.__version__} cannot run it as YuNet: {error.err}") from None
        self._whole_size = (scan_width, scan_width)
        self._lock = threading.Lock()

    def _network(self, size: tuple[int, int], threshold: float) -> Any:
        return cv2.FaceDetectorYN.create(str(self.path), "", size, threshold, 0.3, 200)

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
        return self._look(frame, require_box(region, "region"))

    def _scan(self, frame: Image) -> list[Detection]:
        rows, columns = frame.shape[:2]
        scale = min(1.0, self._scan_width / max(rows, columns))
        size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
        if min(size) < SMALLEST_PX:
            return []
        small = resized(frame, size)
        with self._lock:
            if size != self._whole_size:
                self._whole.setInputSize(size)
                self._whole_size = size
            faces = self._whole.detect(small)[1]
        return _detections(faces, size, (columns / size[0], rows / size[1]), (0.0, 0.0))

    def _look(self, frame: Image, region: Box) -> list[Detection]:
        x, y, width, height = region
        side = max(width, height)
        scale = REGION_PX / (3 * side)
        left, top = x + width / 2 - 1.5 * side, y + height / 2 - 1.5 * side
        first_column, first_row = max(0, math.floor(left)), max(0, math.floor(top))
        part = frame[first_row : max(0, math.ceil(top + 3 * side)), first_column : max(0, math.ceil(left + 3 * side))]
        if min(part.shape[:2]) < 2:
            return []
        rows, columns = part.shape[:2]
        size = (min(REGION_PX, max(1, round(columns * scale))), min(REGION_PX, max(1, round(rows * scale))))
        canvas = np.zeros((REGION_PX, REGION_PX, 3), np.uint8)
        canvas[: size[1], : size[0]] = resized(part, size)
        with self._lock:
            faces = self._part.detect(canvas)[1]
        stretch = (columns / size[0], rows / size[1])
        found = _detections(faces, size, stretch, (float(first_column), float(first_row)))
        return [one for one in found if 0.6 <= one.box[2] / side <= 1.7]


def _detections(
    faces: Any, size: tuple[int, int], stretch: tuple[float, float], origin: tuple[float, float]
) -> list[Detection]:
    if faces is None:
        return []
    found = []
    for row in np.asarray(faces, dtype=np.float64):
        points = row[:14].reshape(7, 2)
        middle = points[0] + points[1] / 2
        # On pictures that are nearly empty the network's exponentials overflow to faces beyond all bounds.
        if not np.isfinite(row).all() or (middle < 0).any() or (middle > size).any() or points[1].max() > 2 * max(size):
            continue
        if points[1].min() < 2:
            continue
        found.append(Detection(_box(points * stretch, origin), _score(float(row[14]))))
    return sorted(found, key=lambda one: (-one.score, one.box))


def _box(points: npt.NDArray[np.float64], origin: tuple[float, float]) -> Box:
    """Canonical box from YuNet's row: corner, size, right eye, left eye, nose, right and left mouth corner."""
    corner, size = points[0], points[1]
    eyes, mouth = (points[2] + points[3]) / 2, (points[5] + points[6]) / 2
    distance = float(np.hypot(*(mouth - eyes)))
    # A head that nods away shortens the distance, and a bad landmark falsifies it: YuNet's own box bounds it.
    low, high = 0.75 / SIDE * float(size[1]), 1.15 / SIDE * float(size[1])
    if distance < 0.01 * float(size[1]):
        eyes, mouth = corner + size * (0.5, 0.38), corner + size * (0.5, 0.72)
    elif not low <= distance <= high:
        middle, reach = (eyes + mouth) / 2, (mouth - eyes) / 2 * (min(max(distance, low), high) / distance)
        eyes, mouth = middle - reach, middle + reach
    eyes, mouth = eyes + origin, mouth + origin
    return canonical_box((float(eyes[0]), float(eyes[1])), (float(mouth[0]), float(mouth[1])))


def _score(yunet: float) -> float:
    if yunet >= SURE:
        return min(1.0, 0.5 + 0.5 * (yunet - SURE) / (1 - SURE))
    return max(0.0, 0.5 * yunet / SURE)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def stored_yunet() -> Path | None:
    """Where YuNet lies in the user's store, or None if it isn't there."""
    from emert_edge.bundle import store_dir

    path = store_dir() / "models" / YUNET_FILE
    return path if path.is_file() else None


def fetch_yunet(source: str | Path, *, store: str | Path | None = None, sha256: str = YUNET_SHA256) -> Path:
    """Put YuNet's model file into the user's store, where `open_detector` finds it.

    Nothing is contacted but the address that the caller names.

    Parameters
    ----------
    source : str or path
        A file, or an ``http(s)://`` address.
    store : path, optional
        The folder to put it into; without it `models` in the user's store.
    sha256 : str
        What the file must hash to; the published file's hash by default.

    Returns
    -------
    Path
        The stored file. It appears whole or not at all; a file that was there and is the wanted one stays untouched.

    Raises
    ------
    EngineError
        The source cannot be read, or is not the file that was asked for.
    """
    if store is None:
        from emert_edge.bundle import store_dir

        store = store_dir() / "models"
    folder = Path(store)
    target = folder / YUNET_FILE
    try:
        if target.is_file() and _sha256(target) == sha256.lower():
            return target
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as temporary:
            part = Path(temporary) / YUNET_FILE
            _copy(str(source), part)
            found = _sha256(part)
            if found != sha256.lower():
                raise EngineError(f"{source} is not {YUNET_FILE}: its sha256 is {found}, not {sha256}")
            part.chmod(0o644)
            os.replace(part, target)
    except OSError as error:
        raise EngineError(f"{YUNET_FILE} cannot be stored in {folder}: {error.strerror or error}") from None
    return target


def _copy(source: str, target: Path) -> None:
    # Not at the top: they take longer to import than the rest of this package, and hardly anybody fetches.
    import http.client
    import urllib.error
    import urllib.parse
    import urllib.request

    if "://" not in source:
        try:
            shutil.copyfile(source, target)
        except FileNotFoundError:
            raise EngineError(f"no file at {source}") from None
        return
    if urllib.parse.urlsplit(source).scheme.lower() not in ("http", "https"):
        raise EngineError(f"cannot fetch {source}: only http:// and https:// addresses and files are read")
    try:
        with urllib.request.urlopen(source, timeout=TIMEOUT_S) as answer, target.open("wb") as file:
            size = 0
            while block := answer.read(1 << 16):
                size += len(block)
                if size > LARGEST_MODEL_BYTES:
                    raise EngineError(f"{source} is larger than {LARGEST_MODEL_BYTES >> 20} MiB: not {YUNET_FILE}")
                file.write(block)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        raise EngineError(f"{source} cannot be fetched: {getattr(error, 'reason', error)}") from None
