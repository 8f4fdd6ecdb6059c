"""The canonical face box, and the square crop that a model sees.

The canonical box
-----------------
Detectors draw their boxes differently: a Haar cascade's is square and ends at the chin, YuNet's is tall, narrow and
holds the hair line. So that a model sees the same crop whatever found the face, every detector converts its own box to
one canon. With ``e`` the middle between the two eye centres, ``m`` the middle between the two mouth corners and
``d = |m - e|``:

- the box is an upright square with side ``2.6 d``;
- its centre is ``e + 0.29 (m - e)``: a ninth of the side below the eyes.

It reaches from the middle of the forehead to the chin and is about as wide as the face; in an upright face the eyes lie
at 39 % of its height and the mouth at 77 %. This is the box of OpenCV's frontal Haar cascade (measured on 288
photographs and five clips: side 2.5 to 2.8 d, eyes 11 % of the side above the centre), so that detector keeps its own
boxes. FER2013's images are this square enlarged by 1.12 (eyes at 40 %, mouth at 73 % of their height).

Coordinates
-----------
A box is in continuous pixel coordinates: pixel (0, 0) covers [0, 1] × [0, 1]. An affine is in OpenCV's index
coordinates, where that pixel's centre is (0, 0), as ``cv2.warpAffine`` and `emert_edge.kernels.crop_normalize` take it;
`crop_affine` does the half-pixel shifts between the two.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from emert_edge.face.detection import Box, require_box

__all__ = ["canonical_box", "crop_affine", "whole_affine"]

SIDE = 2.6
"""The box's side, in distances between the eyes' and the mouth's middle."""

CENTRE = 0.29
"""Where the centre lies on the way from the eyes' middle to the mouth's."""


def canonical_box(eyes: tuple[float, float], mouth: tuple[float, float]) -> Box:
    """Place the canonical box from a face's landmarks.

    Parameters
    ----------
    eyes : tuple of float
        (x, y) of the middle between the two eye centres, px.
    mouth : tuple of float
        (x, y) of the middle between the two mouth corners, px.

    Returns
    -------
    tuple of float
        (x, y, width, height), a square.

    Raises
    ------
    ValueError
        The two points are one, or not finite.

    Examples
    --------
    >>> canonical_box((50.0, 40.0), (50.0, 80.0))
    (-2.0, -0.4, 104.0, 104.0)
    """
    (eye_x, eye_y), (mouth_x, mouth_y) = eyes, mouth
    distance = math.hypot(mouth_x - eye_x, mouth_y - eye_y)
    if not math.isfinite(distance) or distance <= 0:
        raise ValueError(f"eyes and mouth must be two different finite points, not {eyes} and {mouth}")
    side = SIDE * distance
    x = eye_x + CENTRE * (mouth_x - eye_x) - side / 2
    y = eye_y + CENTRE * (mouth_y - eye_y) - side / 2
    return round(x, 6), round(y, 6), round(side, 6), round(side, 6)


def crop_affine(box: Box, size: tuple[int, int] = (112, 112), scale: float = 1.3) -> npt.NDArray[np.float64]:
    """Map the square around a face to a model's input.

    The square is concentric with the box, its side `scale` times the box's longer side. It fills the whole output, so
    an output that is not square stretches it. It may reach beyond the frame; what to show there is the sampler's
    business (`emert_edge.kernels.crop_normalize` repeats the frame's edge).

    Parameters
    ----------
    box : tuple of float
        (x, y, width, height) in px, canonical.
    size : tuple of int
        (height, width) of the output, px.
    scale : float
        How much larger the square is than the box.

    Returns
    -------
    ndarray
        (2, 3) float64, source to output, in the index coordinates of ``cv2.warpAffine``.

    Raises
    ------
    TypeError, ValueError
        `box` is not four finite numbers with a positive size, `size` not two positive whole numbers, or `scale` not
        positive.

    Examples
    --------
    A box that is the whole output, pixel for pixel:

    >>> crop_affine((0, 0, 8, 8), size=(8, 8), scale=1.0).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    x, y, width, height = require_box(box)
    rows, columns = _require_size(size)
    if not math.isfinite(scale) or scale <= 0:
        raise ValueError(f"scale must be positive and finite, not {scale}")
    side = scale * max(width, height)
    left = x + width / 2 - side / 2
    top = y + height / 2 - side / 2
    scale_x = columns / side
    scale_y = rows / side
    return np.array(
        [
            [scale_x, 0.0, scale_x * (0.5 - left) - 0.5],
            [0.0, scale_y, scale_y * (0.5 - top) - 0.5],
        ]
    )


def _require_size(size: Any) -> tuple[int, int]:
    try:
        rows, columns = size
    except (TypeError, ValueError):
        raise TypeError(f"size must be (height, width), not {size!r}") from None
    if not isinstance(rows, (int, np.integer)) or not isinstance(columns, (int, np.integer)):
        raise TypeError(f"size must be two whole numbers (height, width), not {size!r}")
    if rows < 1 or columns < 1:
        raise ValueError(f"size must be positive, not {size!r}")
    return int(rows), int(columns)


def whole_affine(shape: tuple[int, int], size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Map a whole picture to a whole output, stretched where their shapes differ.

    Parameters
    ----------
    shape : tuple of int
        (height, width) of the picture, px.
    size : tuple of int
        (height, width) of the output, px.

    Returns
    -------
    ndarray
        (2, 3) float64, source to output, in the index coordinates of ``cv2.warpAffine``.
    """
    scale_x, scale_y = size[1] / shape[1], size[0] / shape[0]
    return np.array([[scale_x, 0.0, 0.5 * scale_x - 0.5], [0.0, scale_y, 0.5 * scale_y - 0.5]])
