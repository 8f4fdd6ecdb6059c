from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emert_edge import _core, kernels
from emert_edge.kernels import definitions

from .frames import LAYOUTS, MEAN, STD, Frame, random_frame

# (value / 255 - mean) / std in float32, values up to 2.7.
TOLERANCE = 4e-6


def random_map(height: int, width: int, seed: int = 4) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).random((height, width), dtype=np.float32)


def check(
    frame: Frame, fixation_map: npt.NDArray[np.float32], size: tuple[int, int], color: kernels.Color = "bgr"
) -> None:
    got = kernels.fuse_gaze_frame(frame, fixation_map, size, MEAN, STD, color=color)
    assert got.dtype == np.float32
    wanted = definitions.fuse_gaze_frame(frame, fixation_map, size, MEAN, STD, color=color)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("frame_size", "size"),
    [
        ((720, 1280), (112, 112)),  # both shrink
        ((112, 112), (112, 112)),  # neither changes
        ((480, 640), (96, 128)),  # by a whole number
        ((130, 120), (112, 112)),  # by less than two
        ((40, 30), (112, 112)),  # both grow
        ((40, 300), (112, 112)),  # one grows, one shrinks
        ((300, 40), (113, 111)),
        ((1, 1), (5, 7)),
        ((1, 500), (3, 3)),
        ((5, 7), (1, 1)),
        ((900, 40), (2, 3)),  # more rows in a box than 16-bit sums hold
        ((2, 2), (1, 5)),
    ],
)
def test_fusion_equals_its_definition(isa: str, frame_size: tuple[int, int], size: tuple[int, int]) -> None:
    check(random_frame(*frame_size), random_map(*frame_size), size)
    check(random_frame(*frame_size), random_map(*size), size, color="rgb")


def test_a_white_frame_fills_the_16_bit_sums_without_overflow(isa: str) -> None:
    white = kernels.fuse_gaze_frame(
        np.full((600, 700, 3), 255, np.uint8), random_map(1, 1), (1, 2), [0, 0, 0], [1, 1, 1]
    )
    np.testing.assert_allclose(white[:3], 1.0, rtol=0, atol=TOLERANCE)


def test_a_4k_frame_on_every_instruction_set() -> None:
    frame, fixation_map = random_frame(2160, 3840), random_map(540, 960)
    wanted = definitions.fuse_gaze_frame(frame, fixation_map, (112, 112), MEAN, STD)
    before = _core.isa()
    try:
        for name in _core.available_isas():
            _core.choose_isa(name)
            got = kernels.fuse_gaze_frame(frame, fixation_map, (112, 112), MEAN, STD)
            np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE)
    finally:
        _core.choose_isa(before)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    frame_size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    map_size=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_any_sizes_on_every_instruction_set(
    frame_size: tuple[int, int], map_size: tuple[int, int], size: tuple[int, int]
) -> None:
    before = _core.isa()
    try:
        for name in _core.available_isas():
            _core.choose_isa(name)
            check(random_frame(*frame_size), random_map(*map_size), size)
    finally:
        _core.choose_isa(before)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(24, 32), (70, 20)])
def test_frames_of_any_layout(isa: str, layout: str, size: tuple[int, int]) -> None:
    check(LAYOUTS[layout](50, 61), random_map(24, 32), size)


def test_maps_of_any_layout(isa: str) -> None:
    frame = random_frame(40, 40)
    large = random_map(80, 90)
    for fixation_map in (large[::-1], large[:, ::-1], large[::2, 1::3], large.T, np.broadcast_to(large[:1], (80, 90))):
        check(frame, fixation_map, (30, 30))


def test_the_map_is_not_normalised_and_stays_last(isa: str) -> None:
    fused = kernels.fuse_gaze_frame(random_frame(9, 9), np.full((3, 3), 5, np.float32), (4, 4), MEAN, STD)
    np.testing.assert_allclose(fused[3], 5.0, rtol=1e-6)


def test_colour_orders_swap_the_frames_channels(isa: str) -> None:
    frame = random_frame(30, 30)
    fixation_map = random_map(8, 8)
    bgr = kernels.fuse_gaze_frame(frame, fixation_map, (8, 8), MEAN, STD)
    rgb = kernels.fuse_gaze_frame(np.ascontiguousarray(frame[..., ::-1]), fixation_map, (8, 8), MEAN, STD, color="rgb")
    np.testing.assert_array_equal(bgr, rgb)
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 2] = 255
    np.testing.assert_allclose(
        kernels.fuse_gaze_frame(red, fixation_map, (8, 8), [0, 0, 0], [1, 1, 1])[:3, 0, 0], [1, 0, 0], atol=1e-6
    )


@pytest.mark.parametrize("size", [(112, 112), (96, 128), (359, 641)])
def test_shrinking_is_opencvs_area_average_before_rounding(isa: str, size: tuple[int, int]) -> None:
    frame = random_frame(720, 1280)
    peer = cv2.resize(frame.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    got = kernels.fuse_gaze_frame(frame, random_map(*size), size, [0, 0, 0], [1, 1, 1])[:3] * 255
    np.testing.assert_allclose(got, np.moveaxis(peer[..., ::-1], -1, 0), rtol=0, atol=2e-3)


def test_growing_is_opencvs_bilinear_before_rounding(isa: str) -> None:
    frame = random_frame(37, 53)
    peer = cv2.resize(frame.astype(np.float32), (160, 111), interpolation=cv2.INTER_LINEAR)
    got = kernels.fuse_gaze_frame(frame, random_map(5, 5), (111, 160), [0, 0, 0], [1, 1, 1])[:3] * 255
    np.testing.assert_allclose(got, np.moveaxis(peer[..., ::-1], -1, 0), rtol=0, atol=2e-3)


def test_into_equals_the_allocating_twin(isa: str) -> None:
    frame, fixation_map = random_frame(70, 90), random_map(30, 30)
    out = np.full((4, 30, 40), np.nan, np.float32)
    kernels.fuse_gaze_frame_into(out, frame, fixation_map, MEAN, STD, color="rgb")
    np.testing.assert_array_equal(out, kernels.fuse_gaze_frame(frame, fixation_map, (30, 40), MEAN, STD, color="rgb"))


GOOD = {
    "frame": np.zeros((6, 8, 3), np.uint8),
    "fixation_map": np.zeros((4, 4), np.float32),
    "size": (4, 4),
    "mean": [0, 0, 0],
    "std": [1, 1, 1],
    "color": "bgr",
}


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("frame", np.zeros((6, 8, 3), np.float32), TypeError, "frame must be uint8"),
        ("frame", [[[1, 2, 3]]], TypeError, "frame must be a numpy.ndarray"),
        ("frame", None, TypeError, "frame must be a numpy.ndarray"),
        ("frame", np.zeros((6, 8), np.uint8), ValueError, "frame must have shape"),
        ("frame", np.zeros((6, 8, 4), np.uint8), ValueError, "frame must have shape"),
        ("frame", np.zeros((0, 8, 3), np.uint8), ValueError, "frame must have at least"),
        ("frame", np.zeros((6, 0, 3), np.uint8), ValueError, "frame must have at least"),
        ("fixation_map", np.zeros((4, 4)), TypeError, "fixation_map must be float32"),
        ("fixation_map", np.zeros((4, 4, 1), np.float32), ValueError, "fixation_map must have shape"),
        ("fixation_map", np.zeros((4, 0), np.float32), ValueError, "fixation_map must have at least"),
        ("size", (4, 0), ValueError, "size must have at least"),
        ("size", (4, 4, 4), ValueError, "size must be"),
        ("size", 4, TypeError, "size must be"),
        ("size", (4.0, 4.0), TypeError, "size must be"),
        ("mean", [0, 0], ValueError, "mean must have shape"),
        ("mean", [0, 0, np.nan], ValueError, "mean must be finite"),
        ("mean", "rgb", TypeError, "mean must hold real numbers"),
        ("std", [1, 0, 1], ValueError, "std must not be 0"),
        ("std", [1, 1, np.inf], ValueError, "std must be finite"),
        ("std", 1.0, ValueError, "std must have shape"),
        ("color", "gbr", ValueError, "color must be"),
        ("color", None, TypeError, "color"),
    ],
)
def test_wrong_arguments_are_named(name: str, value: object, error: type[Exception], message: str) -> None:
    kernels.fuse_gaze_frame(**GOOD)  # type: ignore[arg-type]
    with pytest.raises(error, match=message):
        kernels.fuse_gaze_frame(**{**GOOD, name: value})  # type: ignore[arg-type]
