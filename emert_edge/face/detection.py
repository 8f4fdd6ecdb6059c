"""What every face detector promises, and what it returns."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import cv2
import numpy as np
import numpy.typing as npt

Box: TypeAlias = tuple[float, float, float, float]
"""(x, y, width, height) in px; (x, y) is the top left corner, and pixel (0, 0) covers [0, 1] × [0, 1]."""

SURE = 0.5
"""From this score on a detection may start or renew a track (see `Detection`)."""

Image: TypeAlias = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, BGR."""


class Detection(NamedTuple):
    """One face in one frame.

    Attributes
    ----------
    box : tuple of float
        The canonical box (see `emert_edge.face.crop`), (x, y, width, height) in px of the frame that was searched, also
        when only a region of it was. It may reach beyond the frame's edge.
    score : float
        Confidence in [0, 1], on a scale of the detector's own, laid so that 0.5 or more is sure enough to start
        following a face. Less is a hint: a detector gives hints only inside a `region`, where a face was just seen.
    """

    box: Box
    score: float


@runtime_checkable
class FaceDetector(Protocol):
    """Finds faces in one frame; knows nothing of the frame before."""

    @property
    def name(self) -> str:
        """What found the faces, for reports: "haar", "yunet"."""
        ...

    def detect(self, frame: Image, *, region: Box | None = None) -> list[Detection]:
        """Find faces.

        Parameters
        ----------
        frame : ndarray
            (H, W, 3) uint8, BGR.
        region : tuple of float, optional
            The canonical box of a face that was just seen: look for faces near it (whose centre lies within about one
            box size of its own) and about as large (0.6 to 1.7 times), and return hints too. Without it the whole
            frame is searched.

        Returns
        -------
        list of Detection
            Best first; empty when there is none. Coordinates are the frame's, with and without `region`.
        """
        ...


def require_frame(frame: Any, name: str = "frame") -> Image:
    """Return `frame` if it is an (H, W, 3) uint8 array with at least one pixel.

    Raises
    ------
    TypeError
        `frame` is not a uint8 array.
    ValueError
        Its shape is not (H, W, 3).
    """
    if not isinstance(frame, np.ndarray):
        raise TypeError(f"{name} must be a uint8 array of shape (H, W, 3), not {type(frame).__name__}")
    if frame.dtype != np.uint8:
        raise TypeError(f"{name} must be uint8, not {frame.dtype}")
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
        raise ValueError(f"{name} must have the shape (H, W, 3), not {frame.shape}")
    return frame


def resized(image: Image, size: tuple[int, int]) -> Image:
    """Scale a picture to `size` (width, height) for a detector, at a cost that hardly depends on its own size.

    A strong reduction first samples twice the wanted size, then averages: not every pixel of a large frame needs to be
    read to find a face in a small copy.
    """
    rows, columns = image.shape[:2]
    if (columns, rows) == size:
        return image
    reduction = min(columns / size[0], rows / size[1])
    if reduction > 2:
        image = np.asarray(cv2.resize(image, (2 * size[0], 2 * size[1]), interpolation=cv2.INTER_LINEAR), np.uint8)
    method = cv2.INTER_AREA if reduction > 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=method), dtype=np.uint8)


def require_box(box: Any, name: str = "box") -> Box:
    """Return `box` as four floats if it is a finite box with a positive size.

    Raises
    ------
    TypeError
        `box` is not four numbers.
    ValueError
        A number is not finite, or the width or height not positive.
    """
    try:
        x, y, width, height = (float(value) for value in box)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be (x, y, width, height), not {box!r}") from None
    if not all(np.isfinite(value) for value in (x, y, width, height)) or width <= 0 or height <= 0:
        raise ValueError(f"{name} must be finite with a positive width and height, not {(x, y, width, height)}")
    return x, y, width, height
