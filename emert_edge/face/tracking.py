"""Follow one person's face through a stream of frames.

What happens when:

- *No face*: `FaceTracker.update` returns None. It never repeats an old box.
- *Several faces, none followed*: the most prominent is taken, by area, weighed down to half towards the frame's edge.
- *Several faces, one followed*: the one that lies where the followed face was and has its size; another one may be
  larger, or pass by.
- *A missed detection*: the face is bridged for at most `BRIDGE_NS` after it was last surely seen, and only by what the
  frame itself shows: a weaker detection where the face was, or the picture of the face found again there.
- *The face is lost*: for `HOLD_NS` only a face near its last place is taken, and it is the same person. After that any
  face is; one near the last place of somebody who was lost less than `MEMORY_NS` ago is that somebody again, and keeps
  the `track_id`; another one gets a new id.

Identity here means place, size and time. Faces are not compared: the tracker does not recognise who somebody is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from emert_edge.face.detection import SURE, Box, Detection, FaceDetector, Image, require_frame, resized

__all__ = ["FaceTracker", "TrackedFace"]

SECOND = 1_000_000_000

BRIDGE_NS = 6 * SECOND // 10
"""How long after its last sure sighting a face may be followed by weaker evidence: one step of a 2 Hz cadence."""

HOLD_NS = 1 * SECOND
"""How long after its last sighting no other face takes the place of the followed one."""

MEMORY_NS = 10 * SECOND
"""How long after its last sighting a person who returns is the same."""

LARGEST_RATIO = 1.8
"""Of the sizes of one face in two sightings."""

PATCH_PX = 32
CORRELATION = 0.8
"""At least this between a face and its picture half a second before (measured: same face 0.81 and more in still heads,
background after it left at most 0.26)."""

CONTRAST = 6.0
"""Standard deviation that a picture needs to be found again, in grey levels; faces have 20 and more."""


class TrackedFace(NamedTuple):
    """The face of the person being followed.

    Attributes
    ----------
    box : tuple of float
        Canonical box (x, y, width, height), px of the frame; see `emert_edge.face.crop`.
    score : float
        In [0, 1]; below 0.5 the face was bridged by weaker evidence.
    track_id : int
        1, 2, … in the order in which people were first seen.
    """

    box: Box
    score: float
    track_id: int


@dataclass
class _Person:
    track_id: int
    box: Box
    seen_ns: int
    sure_ns: int
    patch: npt.NDArray[np.uint8] | None = None


class FaceTracker:
    """Keep one person one person, from frame to frame.

    Works at any frame rate from about 2 Hz on, and through changes of the frame's size. The same frames give the same
    faces. Not for use by several threads at once; the detector may be shared.

    Parameters
    ----------
    detector : FaceDetector
        What finds faces; see `emert_edge.face.open_detector`.

    Examples
    --------
    >>> import numpy as np
    >>> from emert_edge.face import FaceTracker, open_detector
    >>> tracker = FaceTracker(open_detector())
    >>> tracker.update(np.zeros((360, 640, 3), np.uint8), t_ns=0) is None
    True
    """

    def __init__(self, detector: FaceDetector) -> None:
        self.detector = detector
        self.reset()

    def reset(self) -> None:
        """Forget everybody; ids start at 1 again."""
        self._people: list[_Person] = []  # the last one is, or was last, followed
        self._next_id = 1
        self._t_ns: int | None = None
        self._size: tuple[int, int] | None = None

    def update(self, frame: Image, t_ns: int) -> TrackedFace | None:
        """Look for the followed face in the next frame.

        Parameters
        ----------
        frame : ndarray
            (H, W, 3) uint8, BGR. It is not kept.
        t_ns : int
            The frame's time, ns; not before the last one's.

        Returns
        -------
        TrackedFace or None
            None where the face is not seen.

        Raises
        ------
        TypeError, ValueError
            `frame` is not (H, W, 3) uint8, or `t_ns` lies before the last frame's.
        """
        frame = require_frame(frame)
        t_ns = int(t_ns)
        if self._t_ns is not None and t_ns < self._t_ns:
            raise ValueError(f"t_ns must not go back: {t_ns} after {self._t_ns}; reset() starts anew")
        self._t_ns = t_ns
        self._resize((frame.shape[1], frame.shape[0]))
        self._people = [person for person in self._people if t_ns - person.seen_ns <= MEMORY_NS]
        found = self._follow(frame, t_ns)
        return self._acquire(frame, t_ns) if found is None else found

    def _follow(self, frame: Image, t_ns: int) -> TrackedFace | None:
        if not self._people or t_ns - self._people[-1].seen_ns > HOLD_NS:
            return None
        person = self._people[-1]
        near = [one for one in self.detector.detect(frame, region=person.box) if _same_place(one.box, person, t_ns)]
        sure = [one for one in near if one.score >= SURE]
        if sure:
            return self._sighted(frame, t_ns, person, _nearest(sure, person.box))
        if t_ns - person.sure_ns > BRIDGE_NS:
            return None
        evidence = _nearest(near, person.box) if near else _found_again(frame, person)
        if evidence is None:
            return None
        person.box, person.seen_ns = evidence.box, t_ns
        return TrackedFace(evidence.box, evidence.score, person.track_id)

    def _acquire(self, frame: Image, t_ns: int) -> TrackedFace | None:
        faces = [one for one in self.detector.detect(frame) if one.score >= SURE]
        for person in reversed(self._people):
            back = [one for one in faces if _same_place(one.box, person, t_ns)]
            if back:
                return self._sighted(frame, t_ns, person, _nearest(back, person.box))
            if t_ns - person.seen_ns <= HOLD_NS:
                return None
        if not faces:
            return None
        face = max(faces, key=lambda one: _prominence(one.box, frame.shape[1], frame.shape[0]))
        person = _Person(self._next_id, face.box, t_ns, t_ns)
        self._next_id += 1
        return self._sighted(frame, t_ns, person, face)

    def _sighted(self, frame: Image, t_ns: int, person: _Person, face: Detection) -> TrackedFace:
        person.box, person.seen_ns, person.sure_ns = face.box, t_ns, t_ns
        person.patch = _patch(frame, face.box, 0.0, PATCH_PX)
        self._people = [*(other for other in self._people if other is not person), person]
        return TrackedFace(face.box, face.score, person.track_id)

    def _resize(self, size: tuple[int, int]) -> None:
        if self._size is not None and size != self._size:
            across, down = size[0] / self._size[0], size[1] / self._size[1]
            for person in self._people:
                x, y, width, height = person.box
                side = max(width, height) * math.sqrt(across * down)
                centre_x, centre_y = (x + width / 2) * across, (y + height / 2) * down
                person.box = (centre_x - side / 2, centre_y - side / 2, side, side)
        self._size = size


def _same_place(box: Box, person: _Person, t_ns: int) -> bool:
    """A face moves by less than its own size in half a second; the longer it was not seen, the less is known."""
    reach = min(0.5 + 0.8 * (t_ns - person.seen_ns) / SECOND, 2.0)
    distance, ratio = _apart(box, person.box)
    return distance <= reach and ratio <= math.log(LARGEST_RATIO)


def _nearest(faces: list[Detection], box: Box) -> Detection:
    return min(faces, key=lambda one: (sum(_apart(one.box, box)), -one.score, one.box))


def _apart(one: Box, other: Box) -> tuple[float, float]:
    """How far two boxes lie apart, in box sides, and how much their sizes differ, as a logarithm."""
    side, other_side = max(one[2], one[3]), max(other[2], other[3])
    across = one[0] + one[2] / 2 - other[0] - other[2] / 2
    down = one[1] + one[3] / 2 - other[1] - other[3] / 2
    return math.hypot(across, down) / math.sqrt(side * other_side), abs(math.log(side / other_side))


def _prominence(box: Box, columns: int, rows: int) -> tuple[float, Box]:
    x, y, width, height = box
    off = math.hypot(x + width / 2 - columns / 2, y + height / 2 - rows / 2) / math.hypot(columns / 2, rows / 2)
    return width * height * (1 - 0.5 * min(off, 1.0)), box


def _patch(frame: Image, box: Box, margin: float, size_px: int) -> npt.NDArray[np.uint8] | None:
    """The box's inner part, with a margin in box sides, as a small grey picture; None where it leaves the frame."""
    x, y, width, height = box
    inset = 0.1 - margin  # the corners of a face's box show what is behind it
    left, right = round(x + inset * width), round(x + (1 - inset) * width)
    top, bottom = round(y + inset * height), round(y + (1 - inset) * height)
    if left < 0 or top < 0 or right > frame.shape[1] or bottom > frame.shape[0] or min(right - left, bottom - top) < 8:
        return None
    small = resized(frame[top:bottom, left:right], (size_px, size_px))
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), dtype=np.uint8)


def _found_again(frame: Image, person: _Person) -> Detection | None:
    """Find the picture of a face near where it last was, or nothing."""
    if person.patch is None or (contrast := float(person.patch.std())) < CONTRAST:
        return None
    best: Detection | None = None
    x, y, width, height = person.box
    for zoom in (1.0, 0.92, 1.08):
        side = max(width, height) * zoom
        scale = PATCH_PX / (0.8 * side)
        left = max(0, round(x + width / 2 - 0.9 * side))
        top = max(0, round(y + height / 2 - 0.9 * side))
        part = frame[top : max(0, round(y + height / 2 + 0.9 * side)), left : max(0, round(x + width / 2 + 0.9 * side))]
        size = (round(part.shape[1] * scale), round(part.shape[0] * scale))
        if min(size) < PATCH_PX:
            continue
        grey = cv2.cvtColor(resized(part, size), cv2.COLOR_BGR2GRAY)
        fit = np.nan_to_num(cv2.matchTemplate(grey, person.patch, cv2.TM_CCOEFF_NORMED), nan=-1.0, posinf=-1.0)
        row, column = np.unravel_index(int(np.argmax(fit)), fit.shape)
        score = float(fit[row, column])
        seen = grey[row : row + PATCH_PX, column : column + PATCH_PX]
        if float(seen.std()) < 0.4 * contrast:  # a correlation with almost nothing is chance
            continue
        if score >= CORRELATION and (best is None or 0.5 * score > best.score):
            centre_x = left + (float(column) + PATCH_PX / 2) * part.shape[1] / size[0]
            centre_y = top + (float(row) + PATCH_PX / 2) * part.shape[0] / size[1]
            best = Detection((centre_x - side / 2, centre_y - side / 2, side, side), min(0.5 * score, 0.499))
    return best
