"""One tree of exceptions.

Everything that can go wrong with a user's files, devices or streams derives from `EmertError`; wrong arguments are
`ValueError` or `TypeError`. A message says what is wrong, where (file, line, column or tensor) and what to do.
"""

from __future__ import annotations

__all__ = [
    "BundleCorrupt",
    "BundleError",
    "BundleIncompatible",
    "BundleNotFound",
    "CalibrationRejected",
    "DeviceUnavailable",
    "EmertError",
    "EngineError",
    "EngineMismatch",
    "FrameSourceError",
    "GazeFormatError",
    "QueueOverflow",
    "SessionClosed",
    "SourceError",
]


class EmertError(Exception):
    """Base of every error this package raises on purpose."""


class BundleError(EmertError):
    """A model bundle cannot be used."""


class BundleNotFound(BundleError):
    """No bundle goes by this name or lies at this path."""


class BundleCorrupt(BundleError):
    """A bundle's files are not what its manifest says."""


class BundleIncompatible(BundleError):
    """A sound bundle that lacks what was asked for, or that this version cannot read."""


class SourceError(EmertError):
    """A recording or a live stream cannot be read."""


class GazeFormatError(SourceError):
    """A gaze recording is not in the form it claims, or in none that is known."""


class FrameSourceError(SourceError):
    """A video, image folder or camera cannot be read, or broke off."""


class DeviceUnavailable(EmertError):
    """The device that was named cannot be had here; the message says why."""


class EngineError(EmertError):
    """An inference engine failed."""


class EngineMismatch(EngineError):
    """An engine was built for another version, GPU or graph."""


class CalibrationRejected(EmertError):
    """A quantised graph lost more than its gate allows, or was to be calibrated on samples that cannot be right.

    Attributes
    ----------
    report : emert_edge.calibration.Report or None
        What was measured, with the table and the layers; None where nothing was.
    """

    def __init__(self, message: str, report: object | None = None) -> None:
        super().__init__(message)
        self.report = report


class SessionClosed(EmertError):
    """A session was used after `close()` or after its end."""


class QueueOverflow(EmertError):
    """More data wait than may wait; the consumer is slower than its sources."""
