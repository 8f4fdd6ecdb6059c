"""Sessions in one file: MCAP, the container of the robotics world, written as they run and replayed bit for bit."""

from __future__ import annotations

from emert_edge.recording.reader import Recording, is_mcap
from emert_edge.recording.recorder import Recorder

__all__ = ["Recorder", "Recording", "is_mcap"]
