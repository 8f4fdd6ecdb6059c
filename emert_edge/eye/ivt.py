"""The velocity-threshold identification of fixations (I-VT).

After Salvucci and Goldberg (2000), with the steps and settings of Tobii's filter (A. Olsen, "The Tobii I-VT fixation
filter", 2012): velocity over a window, a threshold, fixations merged when they are close in time and space, short
ones discarded.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emert_edge.eye.trace import Trace, runs

__all__ = ["fixation_runs"]

IntArray = npt.NDArray[np.intp]
Float64Array = npt.NDArray[np.float64]


def fixation_runs(
    trace: Trace,
    velocity_deg_s: Float64Array,
    *,
    threshold_deg_s: float,
    merge_ms: float,
    merge_deg: float,
    min_fixation_ms: float,
) -> tuple[IntArray, IntArray]:
    """First and last place in `trace` of each fixation.

    Points at or below the threshold are fixation points; a point without a velocity is none.
    """
    firsts, lasts = runs(velocity_deg_s <= threshold_deg_s, trace.segment)
    firsts, lasts = _merged(trace, firsts, lasts, merge_ms * 1e6, merge_deg)
    long_enough = trace.t_ns[lasts] - trace.t_ns[firsts] >= min_fixation_ms * 1e6
    return firsts[long_enough], lasts[long_enough]


def _merged(
    trace: Trace, firsts: IntArray, lasts: IntArray, merge_ns: float, merge_deg: float
) -> tuple[IntArray, IntArray]:
    """Neighbours closer than this become one, the points between them included, from the first fixation on: a merged
    fixation has a new middle, and it is that which the next one must be near."""
    if firsts.size < 2:
        return firsts, lasts
    sum_x, sum_y = np.append(0.0, np.cumsum(trace.x)), np.append(0.0, np.cumsum(trace.y))
    count = lasts - firsts + 1
    x = (sum_x[lasts + 1] - sum_x[firsts]) / count
    y = (sum_y[lasts + 1] - sum_y[firsts]) / count
    soon = trace.t_ns[firsts[1:]] - trace.t_ns[lasts[:-1]] < merge_ns
    near = soon & (trace.geometry.angle_deg(x[:-1], y[:-1], x[1:], y[1:]) < merge_deg)
    joined = near.copy()
    head = -1  # the first part of the fixation that the last pair merged into
    for pair in (np.flatnonzero(soon) if near.any() else firsts[:0]).tolist():
        if pair and joined[pair - 1]:
            size = lasts[pair] + 1 - firsts[head]
            own_x = (sum_x[lasts[pair] + 1] - sum_x[firsts[head]]) / size
            own_y = (sum_y[lasts[pair] + 1] - sum_y[firsts[head]]) / size
            joined[pair] = trace.geometry.angle_deg(own_x, own_y, x[pair + 1], y[pair + 1]) < merge_deg
        else:
            head = pair
    return firsts[np.append(True, ~joined)], lasts[np.append(~joined, True)]
