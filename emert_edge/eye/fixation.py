"""Fixation maps of a stretch of gaze: for the model, and as a picture for people."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from emert_edge.eye.events import Fixation
from emert_edge.eye.samples import GazeSamples

__all__ = ["fixation_token_map_into", "heat_overlay", "sample_weights"]

_LONGEST_STEPS = 2.0  # a sample stands for at most so many usual sample intervals: a gap must not weigh
_STRONGEST_HEAT = 0.65
_PATH_OPACITY = 0.7  # the heat must show through it
_PATH_BGR = (255, 255, 255)
_EDGE_BGR = (30, 30, 30)


def sample_weights(t_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Seconds that each sample stands for: up to the next one, at most twice the usual step.

    Parameters
    ----------
    t_ns : ndarray, shape (n,), int64
        Rising times.

    Returns
    -------
    ndarray, shape (n,), float64
        The last sample gets the usual step, the median of those above zero; all get 1 where no step is above zero.
    """
    steps = np.diff(t_ns) / 1e9
    forward = steps[steps > 0]
    if not forward.size:
        return np.ones(t_ns.shape[0])
    low, high = (forward.size - 1) // 2, forward.size // 2
    ordered = np.partition(forward, (low, high))
    usual = 0.5 * (float(ordered[low]) + float(ordered[high]))  # np.median, at an eighth of its price
    return np.append(np.minimum(steps, _LONGEST_STEPS * usual), usual)


def fixation_token_map_into(
    out_map: npt.NDArray[np.float32], samples: GazeSamples, start_ns: int, stop_ns: int, sigma_px: float
) -> bool:
    """Rasterise the gaze within [start_ns, stop_ns), scaled to a maximum of 1.

    Parameters
    ----------
    out_map : ndarray, shape (H, W), float32
        Is overwritten: the map, or zeros.
    samples : GazeSamples
        In any order; those outside the span have no influence. Weights are the intervals between the span's samples.
    start_ns, stop_ns : int
        The span, in nanoseconds.
    sigma_px : float
        Width of each Gaussian, in pixels of the map.

    Returns
    -------
    bool
        Whether any valid gaze reached the map; if not, it is all zeros.
    """
    from emert_edge.kernels import fixation_map_into

    own = samples.between(start_ns, stop_ns).sorted()
    height, width = out_map.shape
    reach = 4.0 * sigma_px + 1.0
    x, y = own.x.astype(np.float64) * width, own.y.astype(np.float64) * height
    near = (x > -reach) & (x < width + reach) & (y > -reach) & (y < height + reach)  # False for NaN
    if not near.any():
        out_map[...] = 0.0
        return False
    points = np.stack([x[near], y[near]], axis=1).astype(np.float32)
    fixation_map_into(out_map, points, sample_weights(own.t_ns)[near].astype(np.float32), sigma_px)
    highest = float(out_map.max())
    if not highest > 0.0:
        out_map[...] = 0.0
        return False
    np.divide(out_map, np.float32(highest), out=out_map)
    return True


def heat_overlay(
    image: npt.NDArray[np.uint8],
    fixation_map: npt.NDArray[np.float32],
    scan_path: Sequence[Fixation] | None = None,
) -> npt.NDArray[np.uint8]:
    """Lay a fixation map over what was looked at, as heat, with the scan path on top.

    Parameters
    ----------
    image : ndarray, shape (H, W, 3), uint8
        BGR.
    fixation_map : ndarray, shape (h, w), float32
        In [0, 1]; is stretched over the image.
    scan_path : sequence of Fixation, optional
        Drawn as numbered circles, larger for longer ones, joined in their order.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
        A new picture, BGR.

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong type or shape.
    """
    import cv2

    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        raise TypeError(f"image must be a uint8 array, not {getattr(image, 'dtype', type(image).__name__)}")
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"image must have shape (H, W, 3), not {image.shape}")
    if fixation_map.ndim != 2 or not fixation_map.size:
        raise ValueError(f"fixation_map must have shape (h, w), not {fixation_map.shape}")
    height, width = image.shape[:2]
    heat = cv2.resize(np.ascontiguousarray(fixation_map, dtype=np.float32), (width, height))
    heat = np.clip(np.nan_to_num(heat, nan=0.0), 0.0, 1.0)
    colours = cv2.applyColorMap(np.round(heat * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    opacity = (_STRONGEST_HEAT * np.sqrt(heat))[:, :, None]  # the root: faint heat must still be seen
    mixed = image * (1.0 - opacity) + colours * opacity
    picture: npt.NDArray[np.uint8] = np.ascontiguousarray(np.round(mixed).astype(np.uint8))
    if scan_path:
        drawn = picture.copy()
        _draw_path(cv2, drawn, scan_path)
        picture = np.asarray(cv2.addWeighted(drawn, _PATH_OPACITY, picture, 1.0 - _PATH_OPACITY, 0.0), dtype=np.uint8)
    return picture


def _draw_path(cv2: Any, picture: npt.NDArray[np.uint8], scan_path: Sequence[Fixation]) -> None:
    height, width = picture.shape[:2]
    unit = max(min(width, height) / 400.0, 1.0)
    shown = [
        (round(fixation.x * width), round(fixation.y * height), fixation.duration_ms)
        for fixation in scan_path
        if abs(fixation.x) < 100 and abs(fixation.y) < 100  # OpenCV's coordinates are 32 bit; NaN is out as well
    ]
    for (x, y, _), (to_x, to_y, _) in pairwise(shown):
        for colour, thick in ((_EDGE_BGR, 2.0), (_PATH_BGR, 0.8)):
            cv2.line(picture, (x, y), (to_x, to_y), colour, max(round(thick * unit), 1), cv2.LINE_AA)
    for number, (x, y, duration_ms) in enumerate(shown, start=1):
        radius = round(unit * (4.0 + min(duration_ms, 1500.0) / 100.0))
        cv2.circle(picture, (x, y), radius, _EDGE_BGR, max(round(2 * unit), 1), cv2.LINE_AA)
        cv2.circle(picture, (x, y), radius, _PATH_BGR, max(round(0.8 * unit), 1), cv2.LINE_AA)
        for colour, thick in ((_EDGE_BGR, 2.0), (_PATH_BGR, 0.8)):
            place = (x + radius, y - radius)
            font = cv2.FONT_HERSHEY_SIMPLEX
            cv2.putText(picture, str(number), place, font, 0.4 * unit, colour, max(round(thick * unit), 1), cv2.LINE_AA)
