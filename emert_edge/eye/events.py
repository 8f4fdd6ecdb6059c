"""What fixations, saccades and blinks are, and a set of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from emert_edge.eye.geometry import ViewingGeometry

__all__ = ["Blink", "Event", "Events", "Fixation", "Saccade"]


@dataclass(frozen=True, slots=True)
class Event:
    """A stretch of time, both ends inclusive: the times of its first and last sample, in nanoseconds."""

    start_ns: int
    stop_ns: int

    @property
    def duration_ms(self) -> float:
        """Time from the first to the last sample, in milliseconds."""
        return (self.stop_ns - self.start_ns) / 1e6


@dataclass(frozen=True, slots=True)
class Fixation(Event):
    """The eye rests.

    Attributes
    ----------
    x, y : float
        Mean point, as a fraction, origin top left.
    dispersion_deg : float
        Horizontal plus vertical extent of its samples, in degrees; NaN where it is not known (a vendor's event).
    """

    x: float
    y: float
    dispersion_deg: float


@dataclass(frozen=True, slots=True)
class Saccade(Event):
    """The eye jumps.

    Attributes
    ----------
    amplitude_deg : float
        Visual angle between where it starts and ends; NaN where it is not known.
    peak_velocity_deg_s : float
        Largest velocity of its samples, in degrees per second; NaN where it is not known.
    start_x, start_y, end_x, end_y : float
        Where it comes from and goes to, as fractions; NaN where they are not known.
    """

    amplitude_deg: float
    peak_velocity_deg_s: float
    start_x: float
    start_y: float
    end_x: float
    end_y: float


@dataclass(frozen=True, slots=True)
class Blink(Event):
    """The eyes are closed.

    Attributes
    ----------
    evidence : {"pupil", "openness", "vendor"}
        What showed it: pupils lost together with gaze, eyelids nearly closed, or the vendor's word.
    """

    evidence: str


@dataclass(frozen=True, slots=True)
class Events:
    """Events of one recording, each kind by rising start.

    Attributes
    ----------
    fixations, saccades, blinks : tuples
        The events. Blinks are found apart from the others and may overlap them.
    method : str
        "ivt", "idt", or the vendor's name for its own events.
    geometry : ViewingGeometry or None
        What angles were computed with; `geometry.assumed` tells whether it was stated. None for a vendor's events.
    """

    fixations: tuple[Fixation, ...] = ()
    saccades: tuple[Saccade, ...] = ()
    blinks: tuple[Blink, ...] = ()
    method: str = ""
    geometry: ViewingGeometry | None = None

    def __len__(self) -> int:
        return len(self.fixations) + len(self.saccades) + len(self.blinks)

    def __iter__(self) -> Iterator[Fixation | Saccade | Blink]:
        """All events by rising start."""
        together: list[Fixation | Saccade | Blink] = [*self.fixations, *self.saccades, *self.blinks]
        return iter(sorted(together, key=lambda event: (event.start_ns, event.stop_ns)))
