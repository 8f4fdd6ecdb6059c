"""The kernels beside the OpenCV and NumPy chains that they replace, in one run.

Inside every timing: one whole call from Python, the output's allocation included (``_into`` rows: excluded). Outside:
making the inputs. OpenCV runs with the threads that it takes by itself; the kernels run on one.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from emert_edge import _core, kernels

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
SIZE = (112, 112)
MAPS = {"112x112_sigma3": ((112, 112), 3.0), "1080p_sigma38": ((1080, 1920), 38.0)}
CHUNK = 10_000

Frame = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


@pytest.fixture(params=_core.available_isas())
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _core.isa()
    _core.choose_isa(request.param)
    yield request.param
    _core.choose_isa(before)


def gaze(shape: tuple[int, int], count: int) -> tuple[Float32, Float32]:
    random = np.random.default_rng(7)
    points = random.random((count, 2), dtype=np.float32) * np.array(shape[::-1], np.float32)
    return points, random.random(count, dtype=np.float32)


def frame_720p() -> Frame:
    return np.random.default_rng(7).integers(0, 256, (720, 1280, 3), dtype=np.uint8)


def impulse_and_blur(xy: Float32, weight: Float32, shape: tuple[int, int], sigma: float) -> Float32:
    impulses = np.zeros(shape, np.float32)
    columns, rows = np.floor(xy).astype(np.intp).T
    np.add.at(impulses, (rows, columns), weight)
    side = 2 * int(np.ceil(4 * sigma)) + 1
    blurred = cv2.GaussianBlur(impulses, (side, side), sigma)
    return np.asarray(blurred * np.float32(2 * np.pi * sigma**2), np.float32)


def resize_and_stack(frame: Frame, fixation_map: Float32, interpolation: int) -> Float32:
    small = cv2.resize(frame, SIZE[::-1], interpolation=interpolation)
    rgb = cv2.cvtColor(small, cv2.COLOR_BGR2RGB).astype(np.float32) / 255
    planes = ((rgb - MEAN) / STD).transpose(2, 0, 1)
    return np.concatenate([planes, cv2.resize(fixation_map, SIZE[::-1], interpolation=interpolation)[None]])


def warp_and_normalise(frame: Frame, affine: npt.NDArray[np.float64]) -> Float32:
    crop = cv2.cvtColor(cv2.warpAffine(frame, affine, SIZE[::-1]), cv2.COLOR_BGR2RGB).astype(np.float32) / 255
    return np.ascontiguousarray(((crop - MEAN) / STD).transpose(2, 0, 1))


def face_affine(degrees: float) -> npt.NDArray[np.float64]:
    """A face of 370 pixels in the middle of a 720p frame, turned by some degrees."""
    affine = np.asarray(cv2.getRotationMatrix2D((640, 360), degrees, SIZE[1] / 370), np.float64)
    affine[:, 2] += (SIZE[1] / 2 - 640, SIZE[0] / 2 - 360)
    return affine


@pytest.mark.parametrize("name", MAPS)
def test_fixation_map(benchmark: BenchmarkFixture, instruction_set: str, name: str) -> None:
    benchmark.group = f"fixation_map {name}, 128 points"
    shape, sigma = MAPS[name]
    xy, weight = gaze(shape, 128)
    benchmark(kernels.fixation_map, xy, weight, shape, sigma)


@pytest.mark.parametrize("name", MAPS)
def test_fixation_map_into(benchmark: BenchmarkFixture, name: str) -> None:
    benchmark.group = f"fixation_map {name}, 128 points"
    shape, sigma = MAPS[name]
    xy, weight = gaze(shape, 128)
    benchmark(kernels.fixation_map_into, np.empty(shape, np.float32), xy, weight, sigma)


@pytest.mark.parametrize("name", MAPS)
def test_fixation_map_opencv_impulse_and_blur(benchmark: BenchmarkFixture, name: str) -> None:
    benchmark.group = f"fixation_map {name}, 128 points"
    shape, sigma = MAPS[name]
    xy, weight = gaze(shape, 128)
    benchmark(impulse_and_blur, xy, weight, shape, sigma)


def test_fixation_map_add_in_bulk(benchmark: BenchmarkFixture, instruction_set: str) -> None:
    """The time is that of 10,000 samples."""
    benchmark.group = f"FixationMap.add 112x112 sigma 3, {CHUNK} samples"
    stream = kernels.FixationMap((112, 112), 3.0, half_life_s=2.0)
    xy, weight = gaze((112, 112), CHUNK)
    times = np.arange(CHUNK) * 4_000_000
    benchmark(stream.add, times, xy[:, 0], xy[:, 1], weight)


def test_fixation_map_add_one(benchmark: BenchmarkFixture) -> None:
    benchmark.group = "FixationMap, 112x112 sigma 3: one sample, one reading"
    stream = kernels.FixationMap((112, 112), 3.0, half_life_s=2.0)
    benchmark(stream.add, 4_000_000, 50.3, 60.2, 0.004)


def test_fixation_map_read(benchmark: BenchmarkFixture) -> None:
    benchmark.group = "FixationMap, 112x112 sigma 3: one sample, one reading"
    stream = kernels.FixationMap((112, 112), 3.0, half_life_s=2.0)
    xy, weight = gaze((112, 112), CHUNK)
    stream.add(np.arange(CHUNK) * 4_000_000, xy[:, 0], xy[:, 1], weight)
    benchmark(stream.read, CHUNK * 4_000_000)


@pytest.mark.parametrize("map_shape", [SIZE, (720, 1280)], ids=["map_112", "map_720p"])
def test_fuse_gaze_frame(benchmark: BenchmarkFixture, instruction_set: str, map_shape: tuple[int, int]) -> None:
    benchmark.group = f"fuse_gaze_frame 720p to 112x112, map {map_shape}"
    fixation_map = np.random.default_rng(7).random(map_shape, dtype=np.float32)
    benchmark(kernels.fuse_gaze_frame, frame_720p(), fixation_map, SIZE, MEAN, STD)


@pytest.mark.parametrize("map_shape", [SIZE, (720, 1280)], ids=["map_112", "map_720p"])
@pytest.mark.parametrize("interpolation", [cv2.INTER_AREA, cv2.INTER_LINEAR], ids=["area", "linear"])
def test_fuse_gaze_frame_opencv(benchmark: BenchmarkFixture, interpolation: int, map_shape: tuple[int, int]) -> None:
    benchmark.group = f"fuse_gaze_frame 720p to 112x112, map {map_shape}"
    fixation_map = np.random.default_rng(7).random(map_shape, dtype=np.float32)
    benchmark(resize_and_stack, frame_720p(), fixation_map, interpolation)


@pytest.mark.parametrize("degrees", [0.0, 12.0], ids=["upright", "turned"])
def test_crop_normalize(benchmark: BenchmarkFixture, instruction_set: str, degrees: float) -> None:
    benchmark.group = f"crop_normalize of a 370-pixel face, {degrees:g} degrees"
    benchmark(kernels.crop_normalize, frame_720p(), face_affine(degrees), SIZE, MEAN, STD)


@pytest.mark.parametrize("degrees", [0.0, 12.0], ids=["upright", "turned"])
def test_crop_normalize_opencv(benchmark: BenchmarkFixture, degrees: float) -> None:
    benchmark.group = f"crop_normalize of a 370-pixel face, {degrees:g} degrees"
    benchmark(warp_and_normalise, frame_720p(), face_affine(degrees))
