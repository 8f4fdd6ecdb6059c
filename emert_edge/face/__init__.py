"""Where the face is: detection, tracking, crops."""

from __future__ import annotations

from pathlib import Path

from emert_edge.face.crop import canonical_box, crop_affine, whole_affine
from emert_edge.face.detection import Box, Detection, FaceDetector
from emert_edge.face.haar import HaarDetector
from emert_edge.face.tracking import FaceTracker, TrackedFace
from emert_edge.face.yunet import YuNetDetector, fetch_yunet, stored_yunet

__all__ = [
    "Box",
    "Detection",
    "FaceDetector",
    "FaceTracker",
    "HaarDetector",
    "TrackedFace",
    "YuNetDetector",
    "canonical_box",
    "crop_affine",
    "fetch_yunet",
    "open_detector",
    "stored_yunet",
    "whole_affine",
]


def open_detector(model: str | Path | None = None) -> FaceDetector:
    """Open the best face detector that can be had.

    Parameters
    ----------
    model : path, optional
        A YuNet model file. Without it, the one in the user's store (see `fetch_yunet`); where there is none, the Haar
        cascade that ships with OpenCV 4.

    Raises
    ------
    EngineError
        The model that was named cannot be used, or there is no detector at all.
    """
    path = stored_yunet() if model is None else model
    return HaarDetector() if path is None else YuNetDetector(path)
