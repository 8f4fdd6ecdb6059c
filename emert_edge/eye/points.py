"""Gaze points, one a token: where somebody looked, for bundles that take points instead of fixation maps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emert_edge.eye.features import token_edges
from emert_edge.eye.samples import GazeSamples

__all__ = ["gaze_points"]

_LIMIT = 1e6  # as for the features: nothing can be meant beyond it


def gaze_points(samples: GazeSamples, start_ns: int, stop_ns: int, tokens: int = 32) -> npt.NDArray[np.float32]:
    """Average the valid gaze of each of `tokens` equal spans of [start_ns, stop_ns).

    The spans are those of `eye_features`. A point comes from its own span only, so it is the same to the last bit
    whether it was computed alone or among others, streamed or recorded.

    Parameters
    ----------
    samples : GazeSamples
        In any order; only those within the span are looked at.
    start_ns, stop_ns : int
        The span, in nanoseconds.
    tokens : int
        Number of points.

    Returns
    -------
    ndarray, shape (tokens, 2), float32
        x and y as fractions of the space's width and height, origin top left; NaN where a span has no valid gaze.

    Raises
    ------
    TypeError
        If `samples` are no `GazeSamples`, or a number is no integer.
    ValueError
        If there is no token, the span is shorter than one nanosecond a token, or it leaves ±2**61 ns.

    Examples
    --------
    >>> look = GazeSamples(t_ns=[0, 10, 20, 60], x=[0.25, 0.75, float("nan"), 1.0], y=[0.5, 0.5, 0.5, 0.0])
    >>> gaze_points(look, 0, 100, tokens=2).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    if not isinstance(samples, GazeSamples):
        raise TypeError(f"samples must be GazeSamples, not {type(samples).__name__}")
    edges = token_edges(start_ns, stop_ns, tokens)
    count = len(edges) - 1
    own = samples.between(int(edges[0]), int(edges[-1])).sorted()
    valid = own.valid
    token = (np.searchsorted(edges, own.t_ns, side="right") - 1)[valid]
    number = np.bincount(token, minlength=count)
    points = np.full((count, 2), np.nan, dtype=np.float64)
    for column, values in enumerate((own.x, own.y)):
        sums = np.bincount(token, weights=values[valid].astype(np.float64), minlength=count)
        np.divide(sums, number, out=points[:, column], where=number > 0)
    return np.clip(points, -_LIMIT, _LIMIT).astype(np.float32)
