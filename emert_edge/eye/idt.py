"""The dispersion-threshold identification of fixations (I-DT), after Salvucci and Goldberg (2000).

A window of the shortest duration slides over the points; where its dispersion (horizontal plus vertical extent, in
degrees) stays within the threshold it grows as far as it can, and is a fixation.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emert_edge.eye.trace import Trace

__all__ = ["fixation_runs"]

IntArray = npt.NDArray[np.intp]
Float64Array = npt.NDArray[np.float64]

_FIRST_REACH = 64


def fixation_runs(trace: Trace, *, dispersion_deg: float, min_fixation_ms: float) -> tuple[IntArray, IntArray]:
    """First and last place in `trace` of each fixation."""
    count = len(trace)
    if not count:
        none = np.empty(0, dtype=np.intp)
        return none, none
    right, below = trace.geometry.direction_deg(trace.x, trace.y)
    begins = np.flatnonzero(np.diff(trace.segment, prepend=-1))
    stops = np.append(begins[1:], count)[trace.segment]  # one past the end of each point's segment
    least = np.searchsorted(trace.t_ns, trace.t_ns + round(min_fixation_ms * 1e6), side="left")
    reach = np.maximum(least, np.arange(count) + 1)  # a window holds its last point, and two points at least
    possible = reach < stops
    extent = _window_extents(right, reach, possible) + _window_extents(below, reach, possible)
    seeds = np.flatnonzero(possible & (extent <= dispersion_deg))

    firsts, lasts = [], []
    place = 0
    while True:
        at = int(np.searchsorted(seeds, place))
        if at >= seeds.size:
            break
        first = int(seeds[at])
        last = _grown(right, below, first, int(reach[first]), int(stops[first]), dispersion_deg)
        firsts.append(first)
        lasts.append(last)
        place = last + 1
    return np.array(firsts, dtype=np.intp), np.array(lasts, dtype=np.intp)


def _grown(right: Float64Array, below: Float64Array, first: int, last: int, stop: int, limit: float) -> int:
    """The last place up to which all points from `first` stay within the limit; looks twice as far each time."""
    low_x, high_x = right[first : last + 1].min(), right[first : last + 1].max()
    low_y, high_y = below[first : last + 1].min(), below[first : last + 1].max()
    reach = _FIRST_REACH
    while last + 1 < stop:
        ahead = slice(last + 1, min(last + 1 + reach, stop))
        lows_x = np.minimum(np.minimum.accumulate(right[ahead]), low_x)
        highs_x = np.maximum(np.maximum.accumulate(right[ahead]), high_x)
        lows_y = np.minimum(np.minimum.accumulate(below[ahead]), low_y)
        highs_y = np.maximum(np.maximum.accumulate(below[ahead]), high_y)
        beyond = np.flatnonzero((highs_x - lows_x) + (highs_y - lows_y) > limit)
        if beyond.size:
            return last + int(beyond[0])
        last = ahead.stop - 1
        low_x, high_x, low_y, high_y = lows_x[-1], highs_x[-1], lows_y[-1], highs_y[-1]
        reach *= 2
    return last


def _window_extents(values: Float64Array, last: IntArray, possible: npt.NDArray[np.bool_]) -> Float64Array:
    """Largest minus smallest over [i, last[i]] wherever that is possible, infinite elsewhere.

    Two overlapping windows of a power of two cover each window, so only log₂(longest) passes over the data are made.
    """
    extent = np.full(values.size, np.inf)
    first = np.flatnonzero(possible)
    if not first.size:
        return extent
    last = last[first]
    level = np.frexp((last - first + 1).astype(np.float64))[1] - 1  # ⌊log₂ length⌋
    low, high = values, values
    for power in range(int(level.max()) + 1):
        width = 1 << power
        if power:
            low = np.minimum(low[: -(width // 2)], low[width // 2 :])
            high = np.maximum(high[: -(width // 2)], high[width // 2 :])
        here = level == power
        head, tail = first[here], last[here] - width + 1
        extent[head] = np.maximum(high[head], high[tail]) - np.minimum(low[head], low[tail])
    return extent
