"""Real faces, and what reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from emert_edge.face import HaarDetector, YuNetDetector
from emert_edge.sources import open_frames


@pytest.fixture(scope="session")
def clips(shared_data: Path) -> Path:
    return shared_data / "face_clips_pyfeat"


@pytest.fixture(scope="session")
def gifs(shared_data: Path) -> Path:
    return shared_data / "face_clips_intel"


@pytest.fixture(scope="session")
def yunet_model(shared_models: Path) -> Path:
    path = shared_models / "yunet_libfacedetection" / "yunet_s_640_640.onnx"
    if not path.is_file():
        pytest.skip(f"no YuNet model here: {path} is absent")
    return path


@pytest.fixture(scope="session")
def haar() -> HaarDetector:
    return HaarDetector()


@pytest.fixture(scope="session")
def yunet(yunet_model: Path) -> YuNetDetector:
    return YuNetDetector(yunet_model)


@pytest.fixture(scope="session")
def portrait(clips: Path) -> npt.NDArray[np.uint8]:
    """One person, frontal, 562 × 572."""
    return first_frame(clips / "single_face.jpg")


def first_frame(path: Path) -> npt.NDArray[np.uint8]:
    frames: Iterator[object] = open_frames(path).frames()
    return next(frames).image  # type: ignore[attr-defined, no-any-return]
