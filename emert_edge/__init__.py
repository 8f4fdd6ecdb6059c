"""Eye-behaviour-aided emotion recognition for edge devices: what a face shows, and what a person feels."""

from __future__ import annotations

__version__ = "0.1.0"

import logging as _logging

from emert_edge.errors import (
    BundleCorrupt,
    BundleError,
    BundleIncompatible,
    BundleNotFound,
    CalibrationRejected,
    DeviceUnavailable,
    EmertError,
    EngineError,
    EngineMismatch,
    FrameSourceError,
    GazeFormatError,
    QueueOverflow,
    SessionClosed,
    SourceError,
)
from emert_edge.estimate import Estimate, FaceBox, Quality, TaskEstimate
from emert_edge.eye import GazeSamples
from emert_edge.recognizer import Recognizer
from emert_edge.session import Session

_logging.getLogger("emert_edge").addHandler(_logging.NullHandler())

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
    "Estimate",
    "FaceBox",
    "FrameSourceError",
    "GazeFormatError",
    "GazeSamples",
    "Quality",
    "QueueOverflow",
    "Recognizer",
    "Session",
    "SessionClosed",
    "SourceError",
    "TaskEstimate",
    "__version__",
]
