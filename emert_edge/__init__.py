"""Eye-behaviour-aided emotion recognition for edge devices: what a face shows, and what a person feels."""

from __future__ import annotations

__version__ = "0.1.0"

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from emert_edge.estimate import Estimate, FaceBox, Quality, Scores, TaskEstimate
    from emert_edge.eye import GazeSamples
    from emert_edge.recognizer import Recognizer
    from emert_edge.session import Session

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
    "Scores",
    "Session",
    "SessionClosed",
    "SourceError",
    "TaskEstimate",
    "__version__",
]

_HOMES = {
    "Estimate": "estimate",
    "FaceBox": "estimate",
    "GazeSamples": "eye",
    "Quality": "estimate",
    "Recognizer": "recognizer",
    "Scores": "estimate",
    "Session": "session",
    "TaskEstimate": "estimate",
}
"""Where a public name lives; all others are errors."""

logging.getLogger("emert_edge").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for: a program that needs one part does not wait for the others."""
    if name not in __all__:
        raise AttributeError(f"module 'emert_edge' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"emert_edge.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
