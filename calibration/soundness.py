"""Whether samples can be right at all, and whether ranges fit what the gate saw: causes of a bad calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from .ranges import BINS, Histogram, Range

__all__ = ["picture_faults", "unlike_samples"]

Image = npt.NDArray[np.uint8]

BLANK_SHARE = 0.05
"""Of pictures without any contrast, above which something is wrong with the samples."""
DISTINCT_SHARE = 0.5
"""Of pictures that differ from all others, below which something is wrong."""
BEYOND = 0.02
"""Share of an activation's values outside its range, above which the gate's samples are unlike the calibration's."""
_FLAT = 3.0  # grey levels of standard deviation: what is left of a black frame behind a codec
_EVEN = 1.0  # the same among parts of a picture: noise without anything else
_SAME = 1.0  # grey levels: no part of the picture differs by more
_COLOURED = 4.0  # grey levels between red and blue, in the mean: less is a grey picture
_FEW = 8  # pictures of a kind say nothing yet
_BLUE = -4.0  # skin is redder than blue by 25 grey levels and more


def picture_faults(pictures: Sequence[Image]) -> list[str]:
    """Say what cannot be right with pictures of faces.

    Parameters
    ----------
    pictures : sequence of ndarray
        (H, W, 3) uint8, BGR.

    Returns
    -------
    list of str
        Empty if nothing is found: frames without content, one picture again and again, red and blue exchanged.
    """
    faults = []
    cells = np.array([_cells(picture) for picture in pictures])
    flat = np.array([float(picture.std()) < _FLAT for picture in pictures])
    lively = cells[~flat & (cells.std(axis=1) >= _EVEN)]
    blank = len(cells) - len(lively)
    if blank > BLANK_SHARE * len(pictures):
        faults.append(f"{blank} of {len(pictures)} pictures have no content (black or of one colour)")
    distinct = _distinct(lively)
    if distinct < DISTINCT_SHARE * len(lively):
        faults.append(f"{len(lively)} pictures are {distinct} different ones, the rest are copies")
    warmth = [value for picture in pictures if (value := _warmth(picture)) is not None]
    blue = sum(value < _BLUE for value in warmth)
    if 2 * blue > len(warmth) and blue >= _FEW:
        faults.append(
            f"in {blue} of {len(warmth)} coloured pictures the face is more blue than red: "
            "red and blue are exchanged (BGR written as RGB)"
        )
    return faults


def _cells(picture: Image) -> npt.NDArray[np.float32]:
    """Mean grey levels of 8 × 8 parts of a picture, in one row: what noise hardly moves."""
    small = cv2.resize(picture, (8, 8), interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.asarray(small.mean(axis=2).ravel(), np.float32)


def _distinct(cells: npt.NDArray[np.float32]) -> int:
    """How many pictures there are that no earlier one is nearly the same as."""
    kept = np.empty_like(cells)
    count = 0
    for own in cells:
        if not (np.abs(kept[:count] - own).max(axis=1) < _SAME).any():
            kept[count] = own
            count += 1
    return count


def _warmth(picture: Image) -> float | None:
    """How much redder than blue the middle of a picture is, in grey levels; None for a grey picture."""
    rows, columns = picture.shape[:2]
    values = picture[rows // 4 : max(1, rows - rows // 4), columns // 4 : max(1, columns - columns // 4)]
    blue, red = values[..., 0].astype(np.float32), values[..., 2].astype(np.float32)
    return float((red - blue).mean()) if float(np.abs(red - blue).mean()) > _COLOURED else None


def unlike_samples(ranges: Mapping[str, Range], seen: Mapping[str, Histogram]) -> str | None:
    """Say whether activations of other samples leave the ranges that were found, or None if they keep within.

    Parameters
    ----------
    ranges : mapping
        From the calibration samples, by tensor.
    seen : mapping
        Histograms of the gate's samples.
    """
    worst, tensor = 0.0, ""
    for name, (low, high) in ranges.items():
        histogram = seen[name]
        edges = np.linspace(-histogram.limit, histogram.limit, 2 * BINS + 1)
        outside = histogram.counts[(edges[1:] < low) | (edges[:-1] > high)].sum()
        share = float(outside / max(1, histogram.counts.sum()))
        if share > worst:
            worst, tensor = share, name
    if worst <= BEYOND:
        return None
    return (
        f"the calibration samples are unlike those of the gate: {worst:.0%} of the values of {tensor} lie beyond the "
        "range that was found for it (other light, colour order or crop?)"
    )
