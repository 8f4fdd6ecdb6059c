"""Weights and inputs that a formula defines, the same on every machine; the parity folder's README gives it."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

#: Variant, outputs and intensities behind each of the folder's file stems.
STEMS: dict[str, dict[str, Any]] = {
    "head_model_D_7": {"variant": "model_D", "outputs": 7},
    "head_model_1": {"variant": "model", "outputs": 1},
    "head_in_model_7": {"variant": "in_model", "outputs": 7, "intensities": 1},
    "y2023_model_D_7": {"variant": "model_D_2023", "outputs": 7},
}


def drawn(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """The numbers that the parity folder's README defines for a name."""
    random = np.random.RandomState(zlib.crc32(f"{name}#0".encode()))
    return random.uniform(-1, 1, math.prod(shape)).reshape(shape)


def drawn_weight(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
    v = drawn(name, shape)
    if name.endswith("running_var"):
        value = 1 + 0.5 * np.abs(v)
    elif name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    elif name.endswith("running_mean"):
        value = 0.1 * v
    elif len(shape) == 1 and name.endswith("weight") and any(part in name for part in ("bn", "norm", "downsample.1")):
        value = 1 + 0.2 * v
    elif len(shape) <= 1:
        value = 0.05 * v
    else:
        value = v * math.sqrt(3 / math.prod(shape[1:]))
    return value.astype(np.float32)


def drawn_inputs() -> dict[str, npt.NDArray[np.float32]]:
    face = 0.5 + 0.5 * drawn("input.face", (2, 8, 3, 112, 112))
    eye = 2 * drawn("input.eye", (2, 32, 39))
    gaze = drawn("input.gaze", (2, 32, 2))
    return {name: x.astype(np.float32) for name, x in (("face", face), ("eye", eye), ("gaze", gaze))}
