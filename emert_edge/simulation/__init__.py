"""Simulated sessions: a drawn face and a simulated gaze stream whose truth is known.

They exist so that everything runs without anyone's data. They prove the machinery, never the psychology.
"""

from __future__ import annotations

from emert_edge.simulation.face import (
    EXPRESSIONS,
    FaceIdentity,
    FaceLight,
    FacePose,
    RenderedFace,
    expression_weights,
    render_face,
)
from emert_edge.simulation.gaze import EYE_GROUPS, FELT, GazeStimulus, GazeSubject, SimulatedGaze, simulate_gaze
from emert_edge.simulation.session import MASKED_SHARE, MASKS, SimulatedFrames, SimulatedSession
from emert_edge.simulation.timeline import AROUSAL, POLARITIES, POLARITY, VALENCE, Segment, Timeline

__all__ = [
    "AROUSAL",
    "EXPRESSIONS",
    "EYE_GROUPS",
    "FELT",
    "MASKED_SHARE",
    "MASKS",
    "POLARITIES",
    "POLARITY",
    "VALENCE",
    "FaceIdentity",
    "FaceLight",
    "FacePose",
    "GazeStimulus",
    "GazeSubject",
    "RenderedFace",
    "Segment",
    "SimulatedFrames",
    "SimulatedGaze",
    "SimulatedSession",
    "Timeline",
    "expression_weights",
    "render_face",
    "simulate_gaze",
]
