"""What data are made for, and recordings to make them from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training data need the extra `train`")

from emert_edge.bundle.manifest import FaceInput, FixationInput, WindowSpec
from emert_edge.simulation import EXPRESSIONS, render_face


@dataclass(frozen=True)
class Made:
    """What data are made for, without a whole configuration around it."""

    classes: tuple[str, ...]
    face: FaceInput
    fixation: FixationInput
    window: WindowSpec


@pytest.fixture(scope="session")
def made() -> Made:
    return Made(EXPRESSIONS, FaceInput(size=(48, 48), scale=1.12), FixationInput(size=(32, 32)), WindowSpec())


@pytest.fixture(scope="session")
def crop() -> np.ndarray:
    """A drawn face that fills its picture."""
    frame, (x, y, side, _) = render_face("happiness", identity=3, size=(240, 320))
    part = frame[round(y) : round(y + side), round(x) : round(x + side)]
    return np.asarray(cv2.resize(part, (64, 64), interpolation=cv2.INTER_AREA))


@pytest.fixture
def frame_folder(crop: np.ndarray) -> Callable[[Path, int], Path]:
    """Makes a folder of crops, each brighter than the one before it; names without leading zeros."""

    def make(folder: Path, count: int) -> Path:
        folder.mkdir(parents=True)
        for index in range(count):
            cv2.imwrite(str(folder / f"frame{index + 1}.png"), np.clip(crop // 2 + index, 0, 255).astype(np.uint8))
        return folder

    return make
