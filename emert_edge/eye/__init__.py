"""Gaze samples, events, and the named features of eye behaviour."""

from __future__ import annotations

from emert_edge.eye.baseline import BASELINE_FEATURES, SubjectBaseline
from emert_edge.eye.detection import EventStream, detect_events
from emert_edge.eye.events import Blink, Events, Fixation, Saccade
from emert_edge.eye.features import FEATURE_NAMES, FEATURE_UNITS, eye_features
from emert_edge.eye.geometry import ViewingGeometry
from emert_edge.eye.points import gaze_points
from emert_edge.eye.pupil import Pupil, clean_pupil, remove_common_response, remove_light_response, scene_luminance
from emert_edge.eye.samples import GazeSamples

__all__ = [
    "BASELINE_FEATURES",
    "FEATURE_NAMES",
    "FEATURE_UNITS",
    "Blink",
    "EventStream",
    "Events",
    "Fixation",
    "GazeSamples",
    "Pupil",
    "Saccade",
    "SubjectBaseline",
    "ViewingGeometry",
    "clean_pupil",
    "detect_events",
    "eye_features",
    "gaze_points",
    "remove_common_response",
    "remove_light_response",
    "scene_luminance",
]
