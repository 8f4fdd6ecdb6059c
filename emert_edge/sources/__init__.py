"""Where data come from: frames and gaze, recorded and live."""

from __future__ import annotations

from emert_edge.sources.frames import Frame, FrameSource, open_frames
from emert_edge.sources.gaze import GazeRecording, GazeSource, open_gaze, read_columns

__all__ = ["Frame", "FrameSource", "GazeRecording", "GazeSource", "open_frames", "open_gaze", "read_columns"]
