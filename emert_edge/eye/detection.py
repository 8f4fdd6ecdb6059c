"""Event detection: one call for fixations, saccades and blinks."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from emert_edge.eye import idt, ivt
from emert_edge.eye.blinks import detect_blinks
from emert_edge.eye.events import Events, Fixation, Saccade
from emert_edge.eye.geometry import ViewingGeometry
from emert_edge.eye.samples import GazeSamples
from emert_edge.eye.trace import Trace, runs

__all__ = ["detect_events"]

IntArray = npt.NDArray[np.intp]
Float64Array = npt.NDArray[np.float64]


def detect_events(
    samples: GazeSamples,
    method: str = "ivt",
    *,
    screen_size_mm: tuple[float, float] | None = None,
    screen_distance_mm: float | None = None,
    velocity_deg_s: float = 30,
    window_ms: float = 20,
    gap_ms: float = 75,
    merge_ms: float = 75,
    merge_deg: float = 0.5,
    min_fixation_ms: float = 60,
    dispersion_deg: float = 1.0,
) -> Events:
    """Find fixations, saccades and blinks.

    Samples are sorted by time; gaps of at most `gap_ms` between points of gaze are filled along a straight line, for
    detection only; longer ones, and holes in the times, end an event. The defaults are Tobii's published ones.

    Parameters
    ----------
    samples : GazeSamples
        In any order, with times that may repeat and points that may be missing.
    method : {"ivt", "idt"}
        By velocity (`emert_edge.eye.ivt`) or by dispersion (`emert_edge.eye.idt`). With "ivt", saccades are runs of
        points above `velocity_deg_s`; with "idt", runs of points between two fixations, whose end points are theirs.
    screen_size_mm : (width, height), optional
        Size of the screen. Left out: 531 × 299 mm (24 inches); for gaze in a scene camera's picture: 90° across.
    screen_distance_mm : float, optional
        Distance of the eyes from the screen. Left out: 650 mm. `Events.geometry.assumed` says whether either was.
    velocity_deg_s : float
        I-VT's threshold.
    window_ms : float
        The time over which velocity is taken.
    gap_ms : float
        Longest gap that is filled.
    merge_ms, merge_deg : float
        I-VT merges fixations less than this apart in time, and in the angle between their means.
    min_fixation_ms : float
        Shorter fixations are discarded; what they covered belongs to no event.
    dispersion_deg : float
        I-DT's threshold: horizontal plus vertical extent.

    Returns
    -------
    Events
        `fixations`, `saccades`, `blinks`; `start_ns` and `stop_ns` are times of samples, inclusive.

    Raises
    ------
    TypeError
        For an argument of the wrong kind.
    ValueError
        For an unknown method, or a threshold or size that is negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> t = np.arange(100) * 4_000_000
    >>> x = np.where(np.arange(100) < 50, 0.3, 0.6)
    >>> events = detect_events(GazeSamples(t_ns=t, x=x, y=np.full(100, 0.5)))
    >>> len(events.fixations), len(events.saccades), round(events.saccades[0].amplitude_deg)
    (2, 1, 14)
    """
    if not isinstance(samples, GazeSamples):
        raise TypeError(f"samples must be GazeSamples, not {type(samples).__name__}")
    if method not in ("ivt", "idt"):
        raise ValueError(f"method must be 'ivt' or 'idt', not {method!r}")
    settings = {
        "velocity_deg_s": velocity_deg_s,
        "window_ms": window_ms,
        "gap_ms": gap_ms,
        "merge_ms": merge_ms,
        "merge_deg": merge_deg,
        "min_fixation_ms": min_fixation_ms,
        "dispersion_deg": dispersion_deg,
    }
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise TypeError(f"{name} must be a number, not {value!r}")
        if not (math.isfinite(value) and 0 <= value <= 1e9):
            raise ValueError(f"{name} must be between 0 and 1e9, not {value!r}")
    geometry = ViewingGeometry.of(screen_size_mm, screen_distance_mm, space=samples.space)
    with np.errstate(over="ignore", invalid="ignore"):
        trace = Trace.of(samples, geometry, gap_ms)
        velocity = trace.velocity_deg_s(window_ms)
        if method == "ivt":
            fixations = ivt.fixation_runs(
                trace,
                velocity,
                threshold_deg_s=velocity_deg_s,
                merge_ms=merge_ms,
                merge_deg=merge_deg,
                min_fixation_ms=min_fixation_ms,
            )
            jumping = (velocity > velocity_deg_s) & ~_covered(len(trace), *fixations)
            saccades = runs(jumping, trace.segment)
            ends = saccades  # the velocity's window reaches a little further than the jump
        else:
            fixations = idt.fixation_runs(trace, dispersion_deg=dispersion_deg, min_fixation_ms=min_fixation_ms)
            saccades = _between(trace, *fixations)
            ends = saccades[0] - 1, saccades[1] + 1  # from the fixation before to the one after
        return Events(
            fixations=_fixations(trace, *fixations),
            saccades=_saccades(trace, velocity, *saccades, *ends),
            blinks=detect_blinks(samples),
            method=method,
            geometry=geometry,
        )


def _covered(count: int, firsts: IntArray, lasts: IntArray) -> npt.NDArray[np.bool_]:
    """Which places lie within a stretch; stretches don't overlap."""
    change = np.zeros(count + 1, dtype=np.int64)
    change[firsts] += 1
    change[lasts + 1] -= 1
    return np.cumsum(change[:-1]) > 0


def _between(trace: Trace, firsts: IntArray, lasts: IntArray) -> tuple[IntArray, IntArray]:
    """The stretches from one fixation to the next, of one segment, that hold a point."""
    heads, tails = lasts[:-1] + 1, firsts[1:] - 1
    if not heads.size:
        return heads, tails
    held = (heads <= tails) & (trace.segment[lasts[:-1]] == trace.segment[firsts[1:]])
    return heads[held], tails[held]


def _fixations(trace: Trace, firsts: IntArray, lasts: IntArray) -> tuple[Fixation, ...]:
    if not firsts.size:
        return ()
    # reduceat over [first, last + 1) pairs; every other result belongs to the stretch between two fixations.
    edges = np.stack([firsts, lasts + 1], axis=1).ravel()
    edges = edges[:-1] if edges[-1] == len(trace) else edges
    count = lasts - firsts + 1
    x = np.add.reduceat(trace.x, edges)[::2] / count
    y = np.add.reduceat(trace.y, edges)[::2] / count
    right, below = trace.geometry.direction_deg(trace.x, trace.y)
    extent = np.zeros(firsts.size)
    for angle in (right, below):
        extent += np.maximum.reduceat(angle, edges)[::2] - np.minimum.reduceat(angle, edges)[::2]
    columns = (trace.t_ns[firsts], trace.t_ns[lasts], x, y, extent)
    return tuple(Fixation(*row) for row in zip(*(column.tolist() for column in columns), strict=True))


def _saccades(
    trace: Trace, velocity: Float64Array, firsts: IntArray, lasts: IntArray, origins: IntArray, goals: IntArray
) -> tuple[Saccade, ...]:
    if not firsts.size:
        return ()
    edges = np.stack([firsts, lasts + 1], axis=1).ravel()
    edges = edges[:-1] if edges[-1] == len(trace) else edges
    peak = np.fmax.reduceat(velocity, edges)[::2]
    start_x, start_y, end_x, end_y = trace.x[origins], trace.y[origins], trace.x[goals], trace.y[goals]
    amplitude = trace.geometry.angle_deg(start_x, start_y, end_x, end_y)
    columns = (trace.t_ns[firsts], trace.t_ns[lasts], amplitude, peak, start_x, start_y, end_x, end_y)
    return tuple(Saccade(*row) for row in zip(*(column.tolist() for column in columns), strict=True))
