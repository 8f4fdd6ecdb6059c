"""What every gaze reader returns, and what a session asks of any source of gaze."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from emert_edge.errors import GazeFormatError
from emert_edge.eye.events import Events
from emert_edge.eye.samples import GazeSamples

__all__ = ["GazeRecording", "GazeSource", "likely_time_unit", "measured", "require_plausible_rate"]

_CHUNK_SAMPLES = 4096
_STRETCH = 1 << 18
_SLOWEST_HZ, _FASTEST_HZ = 5.0, 5000.0
_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


@runtime_checkable
class GazeSource(Protocol):
    """Anything that hands over gaze piece by piece.

    `live` sources run on their own clock and may be late; others are read as fast as they are asked. `clock` names
    the domain of the times, as `GazeSamples.clock` does.
    """

    @property
    def name(self) -> str: ...

    @property
    def live(self) -> bool: ...

    @property
    def clock(self) -> str: ...

    def chunks(self) -> Iterator[GazeSamples]: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class GazeRecording:
    """A gaze recording that was read.

    Attributes
    ----------
    samples : GazeSamples
        Every sample of the recording, as it was recorded, in the file's order.
    vendor : str
        The format's name, one of `GAZE_FORMATS`.
    name : str
        The file's name (for a folder's file, with the folder's).
    events : Events or None
        The vendor's own fixations, saccades and blinks, where the recording has them.
    metadata : mapping
        What else is known: device and software, stated rate, screen, units, rows that are no samples by reason,
        shares that are missing. Its values are plain Python, arrays aside; `summary()` is fit for JSON.
    """

    samples: GazeSamples
    vendor: str
    name: str
    events: Events | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))

    @property
    def live(self) -> bool:
        """Always false: a recording waits."""
        return False

    @property
    def clock(self) -> str:
        """The domain of the recording's times."""
        return self.samples.clock or f"file:{self.name}"

    @property
    def rate_hz(self) -> float | None:
        """Samples a second as measured from the times, gaps left aside; None where there are too few to tell."""
        return self.samples.rate_hz

    def chunks(self) -> Iterator[GazeSamples]:
        """The samples by rising time, in pieces."""
        ordered = self.samples.sorted()
        for first in range(0, len(ordered), _CHUNK_SAMPLES):
            yield ordered.part(first, first + _CHUNK_SAMPLES)

    def close(self) -> None:
        """Nothing is open: the file was read whole."""

    def summary(self) -> dict[str, Any]:
        """Plain values for people and JSON: counts, times, rate, shares, events, metadata."""
        samples = self.samples
        count = len(samples)
        answer: dict[str, Any] = {
            "name": self.name,
            "vendor": self.vendor,
            "samples": count,
            "first_s": int(samples.t_ns.min()) / 1e9 if count else None,
            "last_s": int(samples.t_ns.max()) / 1e9 if count else None,
            "rate_hz": None if self.rate_hz is None else round(self.rate_hz, 3),
            "clock": self.clock,
            "space": samples.space,
            "size_px": samples.size_px,
            "pupil_unit": samples.pupil_unit,
            "missing": missing_shares(samples),
            "events": None,
        }
        if self.events is not None:
            kinds = ("fixations", "saccades", "blinks")
            answer["events"] = {kind: len(getattr(self.events, kind)) for kind in kinds}
        plain = {key: value for key, value in self.metadata.items() if not hasattr(value, "dtype")}
        answer["metadata"] = json.loads(json.dumps(plain, default=str))
        return answer


def missing_shares(samples: GazeSamples) -> dict[str, float]:
    """The share of samples without a value, for gaze, each eye, pupils and openness that the recording has at all."""
    shares = {"gaze": _missing(samples.x, samples.y)}
    for name in ("left_x", "right_x", "pupil_left", "pupil_right", "openness_left", "openness_right"):
        if samples.has(name):
            shares[name] = _missing(getattr(samples, name))
    return {name: round(share, 6) for name, share in shares.items()}


def _missing(*columns: npt.NDArray[np.float32]) -> float:
    """The share of samples that some column has no value for, without an array as long as a whole recording."""
    count = columns[0].shape[0]
    held = sum(
        int(np.logical_and.reduce([np.isfinite(column[first : first + _STRETCH]) for column in columns]).sum())
        for first in range(0, count, _STRETCH)
    )
    return 1.0 - held / count if count else 1.0


def measured(samples: GazeSamples) -> dict[str, Any]:
    """What every recording's metadata say of its samples: rate, screen, clock, units, what is missing."""
    return {
        "rate_hz_measured": None if samples.rate_hz is None else round(samples.rate_hz, 3),
        "screen_size_px": samples.size_px,
        "clock": samples.clock,
        "pupil_unit": samples.pupil_unit,
        "missing": missing_shares(samples),
        "steps_back_in_time": int((samples.t_ns[1:] < samples.t_ns[:-1]).sum()),
    }


def likely_time_unit(samples: GazeSamples, stated: str) -> str | None:
    """The unit that would make times, read as `stated`, those of an eye tracker."""
    rate = samples.rate_hz
    if rate is None:
        return None
    for unit, scale in _NS.items():
        if _SLOWEST_HZ <= rate * _NS[stated] / scale <= _FASTEST_HZ:
            return unit
    return None


def require_plausible_rate(samples: GazeSamples, stated: str, where: str) -> None:
    """Refuse times that no eye tracker gives: nearly always they are in another unit than stated.

    Parameters
    ----------
    samples : GazeSamples
        What was read.
    stated : {"s", "ms", "us", "ns"}
        The unit the times were taken to be in.
    where : str
        File and column, for the message.

    Raises
    ------
    GazeFormatError
        If the measured rate lies outside 5–5000 Hz; the message names the likely unit.
    """
    if len(samples) < 3:
        return
    rate = samples.rate_hz
    if rate is None:
        raise GazeFormatError(
            f"{where}: all {len(samples)} samples have one time; is this the right column, in the right unit?"
        )
    if _SLOWEST_HZ <= rate <= _FASTEST_HZ:
        return
    message = f"{where}: read as {_UNIT_NAMES[stated]}, samples would come {rate:.3g} times a second"
    unit = likely_time_unit(samples, stated)
    if unit is None:
        raise GazeFormatError(f"{message}, which no eye tracker does; is this the right column?")
    shown = rate * _NS[stated] / _NS[unit]
    raise GazeFormatError(f"{message}; they are probably {_UNIT_NAMES[unit]} (that would make {shown:.3g} Hz)")
