"""Event detection: fixations, saccades and blinks, of a recording or of a stream."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from emert_edge import _core
from emert_edge.eye.events import Blink, Events, Fixation, Saccade
from emert_edge.eye.geometry import ViewingGeometry
from emert_edge.eye.samples import ARRAY_NAMES, GazeSamples

__all__ = ["EventStream", "detect_events"]


class EventStream:
    """Fixations, saccades and blinks of gaze that arrives piece by piece.

    Every event comes once, as soon as nothing later can change it: a fixation when no other can merge with it any more,
    a gap's neighbours when it is too long to be filled, blinks by openness when two seconds have shown how far the eyes
    are open usually. What is found does not depend on the sizes of the pieces, and is what `detect_events` finds in the
    whole. Memory does not grow with the stream.

    Several threads may push.

    Parameters
    ----------
    method : {"ivt", "idt"}
    screen_size_mm, screen_distance_mm, velocity_deg_s, window_ms, gap_ms, merge_ms, merge_deg, min_fixation_ms, \
dispersion_deg
        As in `detect_events`.
    space : {"screen", "scene"}, optional
        Which default geometry is assumed where none is given.

    Raises
    ------
    TypeError, ValueError
        As `detect_events` does.

    Examples
    --------
    >>> stream = EventStream()
    >>> t = np.arange(100) * 4_000_000
    >>> found = [stream.push(GazeSamples(t_ns=t, x=np.full(100, 0.3), y=np.full(100, 0.5)))]
    >>> found += [stream.push(GazeSamples(t_ns=t + 400_000_000, x=np.full(100, 0.6), y=np.full(100, 0.5)))]
    >>> found += [stream.finish()]
    >>> [len(events.fixations) for events in found]
    [0, 0, 2]
    """

    def __init__(
        self,
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
        space: str | None = None,
    ) -> None:
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
        self._method = method
        self._geometry = ViewingGeometry.of(screen_size_mm, screen_distance_mm, space=space)
        width_mm, height_mm = self._geometry.screen_size_mm
        self._core = _core.EventStream(
            width_mm=width_mm,
            height_mm=height_mm,
            distance_mm=self._geometry.screen_distance_mm,
            by_dispersion=method == "idt",
            **{name: float(value) for name, value in settings.items()},
        )

    @property
    def geometry(self) -> ViewingGeometry:
        """What angles are computed with."""
        return self._geometry

    @property
    def late_samples(self) -> int:
        """How many samples came after one of a later time in an earlier piece; they are left out."""
        return self._core.late

    def push(self, samples: GazeSamples) -> Events:
        """Take samples, and give the events that are certain now.

        Parameters
        ----------
        samples : GazeSamples
            Any number, in any order among themselves.

        Raises
        ------
        TypeError
            If `samples` are no `GazeSamples`.
        """
        self._push(samples)
        return self._found()

    def finish(self) -> Events:
        """End the stream and give its last events; what is pushed afterwards begins another."""
        self._core.finish()
        return self._found()

    def _push(self, samples: GazeSamples) -> None:
        if not isinstance(samples, GazeSamples):
            raise TypeError(f"samples must be GazeSamples, not {type(samples).__name__}")
        ordered = samples.sorted()
        self._core.push(ordered.t_ns, [getattr(ordered, name) for name in ARRAY_NAMES])

    def _found(self) -> Events:
        fixations, saccades, blinks = self._core.take()
        return Events(
            fixations=tuple(Fixation(*row) for row in _rows(fixations)),
            saccades=tuple(Saccade(*row) for row in _rows(saccades)),
            blinks=tuple(Blink(start, stop, "openness" if lowered else "pupil") for start, stop, lowered in blinks),
            method=self._method,
            geometry=self._geometry,
        )


def _rows(table: tuple[Any, Any]) -> Sequence[tuple[Any, ...]]:
    times, values = table
    return list(zip(*times.T.tolist(), *values.T.tolist(), strict=True))


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
    `emert_edge.eye.definitions` spells every step out.

    Parameters
    ----------
    samples : GazeSamples
        In any order, with times that may repeat and points that may be missing.
    method : {"ivt", "idt"}
        By velocity or by dispersion (Salvucci and Goldberg, 2000). With "ivt", saccades are runs of points above
        `velocity_deg_s`; with "idt", runs of points between two fixations, whose end points are theirs.
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
    stream = EventStream(
        method,
        screen_size_mm=screen_size_mm,
        screen_distance_mm=screen_distance_mm,
        velocity_deg_s=velocity_deg_s,
        window_ms=window_ms,
        gap_ms=gap_ms,
        merge_ms=merge_ms,
        merge_deg=merge_deg,
        min_fixation_ms=min_fixation_ms,
        dispersion_deg=dispersion_deg,
        space=samples.space,
    )
    stream._push(samples)
    return stream.finish()
