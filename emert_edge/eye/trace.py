"""Gaze prepared for event detection: sorted, short gaps filled, long ones marked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emert_edge.eye.geometry import ViewingGeometry
from emert_edge.eye.samples import GazeSamples

__all__ = ["Trace", "runs"]

BoolArray = npt.NDArray[np.bool_]
Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
IntArray = npt.NDArray[np.intp]

_HOLE_STEPS = 4  # a hole in the times is a step so many times the usual one
_WINDOW_TOLERANCE = 0.05  # clocks jitter: samples this much outside the velocity window still belong to it


@dataclass(frozen=True)
class Trace:
    """Points of gaze by rising time.

    Attributes
    ----------
    t_ns : ndarray, shape (n,), int64
        Times; equal ones may follow each other.
    x, y : ndarray, shape (n,), float64
        Points as fractions, all finite.
    segment : ndarray, shape (n,), int
        Number of the unbroken stretch that a point belongs to.
    geometry : ViewingGeometry
        Turns fractions into degrees.
    """

    t_ns: Int64Array
    x: Float64Array
    y: Float64Array
    segment: IntArray
    geometry: ViewingGeometry

    @classmethod
    def of(cls, samples: GazeSamples, geometry: ViewingGeometry, gap_ms: float) -> Trace:
        """The valid samples, with gaps of at most `gap_ms` between valid ones filled along a straight line."""
        ordered = samples.sorted()
        t_ns, valid = ordered.t_ns, ordered.valid
        gap_ns = gap_ms * 1e6
        places = np.flatnonzero(valid)
        if not places.size:
            none = np.empty(0, dtype=np.float64)
            return cls(t_ns[:0], none, none, np.empty(0, dtype=np.intp), geometry)
        elapsed = np.diff(t_ns[places])
        skipped = np.diff(places) > 1
        fillable = skipped & (elapsed <= gap_ns)
        x, y = ordered.x.astype(np.float64), ordered.y.astype(np.float64)
        keep = valid
        if fillable.any():
            # Each invalid sample takes the number of the gap it lies in, to see whether that gap is filled.
            gap = np.cumsum(valid) - 1
            inside = (gap >= 0) & (gap < places.size - 1) & ~valid
            filled = np.zeros(valid.size, dtype=np.bool_)
            filled[inside] = fillable[gap[inside]]
            since = (t_ns - t_ns[places[0]]).astype(np.float64)
            x[filled] = np.interp(since[filled], since[places], x[places])
            y[filled] = np.interp(since[filled], since[places], y[places])
            keep = valid | filled
        usual = elapsed[(elapsed > 0) & ~skipped]
        hole_ns = max(gap_ns, _HOLE_STEPS * float(np.median(usual)) if usual.size else 0.0)
        broken = (skipped & ~fillable) | (elapsed > hole_ns)
        segment_of_valid = np.concatenate([[0], np.cumsum(broken)])
        segment = segment_of_valid[(np.cumsum(valid) - 1)[keep]]
        return cls(t_ns[keep], x[keep], y[keep], segment, geometry)

    def __len__(self) -> int:
        return int(self.t_ns.shape[0])

    def velocity_deg_s(self, window_ms: float) -> Float64Array:
        """Angular velocity at each point, NaN where no time passes around it.

        The angle between the first and last point within half a window before and after (direct neighbours at least),
        over the time between them, within the point's own segment.
        """
        if not len(self):
            return np.empty(0, dtype=np.float64)
        half_ns = round(float(window_ms) * 0.5e6 * (1 + _WINDOW_TOLERANCE))
        index = np.arange(len(self))
        begin = np.minimum(np.searchsorted(self.t_ns, self.t_ns - half_ns, side="left"), index - 1)
        end = np.maximum(np.searchsorted(self.t_ns, self.t_ns + half_ns, side="right") - 1, index + 1)
        firsts = np.flatnonzero(np.diff(self.segment, prepend=-1))
        lasts = np.append(firsts[1:], len(self)) - 1
        begin = np.maximum(begin, firsts[self.segment])
        end = np.minimum(end, lasts[self.segment])
        elapsed = self.t_ns[end] - self.t_ns[begin]
        angle = self.geometry.angle_deg(self.x[begin], self.y[begin], self.x[end], self.y[end])
        velocity = np.full(len(self), np.nan)
        np.divide(angle, elapsed / 1e9, out=velocity, where=elapsed > 0)
        return velocity


def runs(member: BoolArray, segment: IntArray) -> tuple[IntArray, IntArray]:
    """First and last place of each run of members within one segment."""
    if not member.size:
        none = np.empty(0, dtype=np.intp)
        return none, none
    apart = np.ones(member.size, dtype=np.bool_)
    apart[1:] = (segment[1:] != segment[:-1]) | ~member[:-1]
    ends = np.ones(member.size, dtype=np.bool_)
    ends[:-1] = (segment[1:] != segment[:-1]) | ~member[1:]
    return np.flatnonzero(member & apart), np.flatnonzero(member & ends)
