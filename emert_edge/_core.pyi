from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

def fixation_map(
    xy: npt.ArrayLike, weight: npt.ArrayLike, shape: Sequence[int], sigma: float
) -> npt.NDArray[np.float32]: ...
def fixation_map_into(out: npt.NDArray[np.float32], xy: npt.ArrayLike, weight: npt.ArrayLike, sigma: float) -> None: ...

class FixationStream:
    def __init__(self, shape: Sequence[int], sigma: float, half_life_s: float) -> None: ...
    def add(self, t_ns: npt.ArrayLike, x: npt.ArrayLike, y: npt.ArrayLike, weight: npt.ArrayLike) -> None: ...
    def read(self, t_ns: int) -> npt.NDArray[np.float32]: ...
    def read_into(self, out: npt.NDArray[np.float32], t_ns: int) -> None: ...
    def reset(self) -> None: ...

def fuse_gaze_frame(
    frame: npt.NDArray[np.uint8],
    fixation_map: npt.NDArray[np.float32],
    size: Sequence[int],
    mean: npt.ArrayLike,
    std: npt.ArrayLike,
    *,
    color: Literal["bgr", "rgb"] = "bgr",
) -> npt.NDArray[np.float32]: ...
def fuse_gaze_frame_into(
    out: npt.NDArray[np.float32],
    frame: npt.NDArray[np.uint8],
    fixation_map: npt.NDArray[np.float32],
    mean: npt.ArrayLike,
    std: npt.ArrayLike,
    *,
    color: Literal["bgr", "rgb"] = "bgr",
) -> None: ...
def crop_normalize(
    frame: npt.NDArray[np.uint8],
    affine: npt.ArrayLike,
    size: Sequence[int],
    mean: npt.ArrayLike,
    std: npt.ArrayLike,
    *,
    color: Literal["bgr", "rgb"] = "bgr",
) -> npt.NDArray[np.float32]: ...
def crop_normalize_into(
    out: npt.NDArray[np.float32],
    frame: npt.NDArray[np.uint8],
    affine: npt.ArrayLike,
    mean: npt.ArrayLike,
    std: npt.ArrayLike,
    *,
    color: Literal["bgr", "rgb"] = "bgr",
) -> None: ...
def isa() -> str: ...
def available_isas() -> list[str]: ...
def choose_isa(name: str) -> None: ...
def text_rows(
    text: bytes, delimiter: str, columns: int, places: Sequence[int], unquote: bool
) -> tuple[
    int,
    npt.NDArray[np.int64],
    npt.NDArray[np.int32],
    npt.NDArray[np.int32],
    tuple[int, int, bool] | None,
]: ...
def cell_numbers(
    text: bytes, begin: npt.NDArray[np.int32], end: npt.NDArray[np.int32], missing: Sequence[str]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]: ...
def cell_times(
    text: bytes, begin: npt.NDArray[np.int32], end: npt.NDArray[np.int32], keep: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]: ...
def cell_bytes(
    text: bytes, begin: npt.NDArray[np.int32], end: npt.NDArray[np.int32], width: int
) -> npt.NDArray[np.uint8]: ...

class EventStream:
    def __init__(
        self,
        *,
        width_mm: float,
        height_mm: float,
        distance_mm: float,
        by_dispersion: bool,
        velocity_deg_s: float,
        window_ms: float,
        gap_ms: float,
        merge_ms: float,
        merge_deg: float,
        min_fixation_ms: float,
        dispersion_deg: float,
    ) -> None: ...
    def push(self, t_ns: npt.NDArray[np.int64], arrays: Sequence[npt.NDArray[np.float32]]) -> None: ...
    def finish(self) -> None: ...
    def take(
        self,
    ) -> tuple[
        tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]],
        tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]],
        list[tuple[int, int, bool]],
    ]: ...
    @property
    def late(self) -> int: ...

def token_features(
    t_ns: npt.NDArray[np.int64],
    arrays: Sequence[npt.NDArray[np.float32]],
    start_ns: int,
    stop_ns: int,
    tokens: int,
) -> npt.NDArray[np.float32]: ...
