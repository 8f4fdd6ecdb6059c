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

TOLERANCE = 5e-6

Affine = npt.NDArray[np.float64]


def turned(degrees: float, scale: float, centre: tuple[float, float], size: tuple[int, int]) -> Affine:
    """Turns and scales the frame about `centre`, which comes to the output's middle."""
    affine = np.asarray(cv2.getRotationMatrix2D(centre, degrees, scale), np.float64)
    affine[:, 2] += np.array([size[1], size[0]]) / 2 - 0.5 - np.array(centre)
    return affine


def check(
    frame: Frame,
    affine: npt.ArrayLike,
    size: tuple[int, int],
    color: kernels.Color = "bgr",
    tolerance: float = TOLERANCE,
) -> None:
    got = kernels.crop_normalize(frame, affine, size, MEAN, STD, color=color)
    assert got.dtype == np.float32
    wanted = definitions.crop_normalize(frame, affine, size, MEAN, STD, color=color)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("degrees", [0.0, 12.0, -47.0, 90.0, 180.0])
@pytest.mark.parametrize("scale", [2.5, 1.0, 0.7, 0.31, 0.06])
def test_a_crop_equals_its_definition(isa: str, degrees: float, scale: float) -> None:
    frame = random_frame(240, 320)
    check(frame, turned(degrees, scale, (150.3, 117.8), (56, 48)), (56, 48))
    check(frame, turned(degrees, scale, (3.0, 230.0), (56, 48)), (56, 48), color="rgb")


@pytest.mark.parametrize("centre", [(1e4, 1e4), (-1e4, 50.0), (50.0, -1e6), (-1e9, 1e9)])
@pytest.mark.parametrize("degrees", [0.0, 30.0])
def test_a_crop_far_outside_repeats_the_nearest_edge(isa: str, degrees: float, centre: tuple[float, float]) -> None:
    check(random_frame(60, 80), turned(degrees, 0.4, centre, (9, 11)), (9, 11))


def test_a_box_larger_than_the_frame(isa: str) -> None:
    # Seventy source pixels a side over a frame of 20 x 30.
    for degrees in (0.0, 25.0):
        check(random_frame(20, 30), turned(degrees, 1 / 70, (15.0, 10.0), (3, 3)), (3, 3))


@pytest.mark.parametrize("affine", [[[1e-30, 0, 0], [0, 1e-30, 0]], [[1e30, 0, 0], [0, 1e30, 0]]])
def test_absurd_scales_stay_finite(isa: str, affine: list[list[float]]) -> None:
    assert np.isfinite(kernels.crop_normalize(random_frame(20, 30), affine, (5, 5), MEAN, STD)).all()


@pytest.mark.parametrize(
    "affine",
    [
        [[-0.5, 0, 30], [0, 0.4, 2]],  # mirrored
        [[0, 0.5, 0], [0.5, 0, 0]],  # axes swapped
        [[0.3, 0, 1], [0, 1.8, 1]],  # shrinks across, grows down
        [[0.3, 0.4, 1], [0.0, 0.6, 1]],  # sheared
        [[0.9, 0.1, -3], [-0.7, 0.05, 40]],  # nearly flat
    ],
)
def test_affines_of_every_kind(isa: str, affine: list[list[float]]) -> None:
    check(random_frame(70, 90), affine, (33, 29), tolerance=2e-5)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    frame_size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    degrees=st.one_of(st.just(0.0), st.floats(-180, 180)),
    scale=st.floats(0.05, 4),
    centre=st.tuples(st.floats(-30, 90), st.floats(-30, 90)),
)
def test_any_crop_on_every_instruction_set(
    frame_size: tuple[int, int],
    size: tuple[int, int],
    degrees: float,
    scale: float,
    centre: tuple[float, float],
) -> None:
    before = _core.isa()
    try:
        for name in _core.available_isas():
            _core.choose_isa(name)
            check(random_frame(*frame_size), turned(degrees, scale, centre, size), size)
    finally:
        _core.choose_isa(before)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("degrees", [0.0, 20.0])
def test_frames_of_any_layout(isa: str, layout: str, degrees: float) -> None:
    check(LAYOUTS[layout](50, 61), turned(degrees, 0.4, (30.0, 24.0), (20, 23)), (20, 23))


def test_a_4k_frame(isa: str) -> None:
    frame = random_frame(2160, 3840)
    for degrees in (0.0, 8.0):
        check(frame, turned(degrees, 112 / 900, (1900.0, 1000.0), (112, 112)), (112, 112))


def test_the_identity_only_normalises(isa: str) -> None:
    frame = random_frame(30, 40)
    got = kernels.crop_normalize(frame, [[1, 0, 0], [0, 1, 0]], (30, 40), MEAN, STD)
    wanted = (frame[..., ::-1] / 255 - MEAN) / STD
    np.testing.assert_allclose(got, np.moveaxis(wanted, -1, 0), rtol=0, atol=TOLERANCE)


def test_inside_the_frame_and_without_shrinking_it_is_warp_affine(isa: str) -> None:
    # OpenCV rounds its interpolation weights to 1/32 of a pixel; source points on that grid leave no rounding.
    frame = random_frame(60, 80)
    affine = np.array([[1.0, 0.0, -20.25], [0.0, 1.0, -10.5]])
    peer = cv2.warpAffine(frame.astype(np.float32), affine, (30, 30), flags=cv2.INTER_LINEAR)
    got = kernels.crop_normalize(frame, affine, (30, 30), [0, 0, 0], [1, 1, 1]) * 255
    np.testing.assert_allclose(got, np.moveaxis(peer[..., ::-1], -1, 0), rtol=0, atol=2e-3)


def test_shrinking_to_whole_cells_is_the_area_average(isa: str) -> None:
    frame = random_frame(60, 80)
    # In index coordinates the centre of the first cell of four pixels is 1.5.
    affine = [[0.25, 0, -0.375], [0, 0.25, -0.375]]
    peer = cv2.resize(frame.astype(np.float32), (20, 15), interpolation=cv2.INTER_AREA)
    got = kernels.crop_normalize(frame, affine, (15, 20), [0, 0, 0], [1, 1, 1]) * 255
    np.testing.assert_allclose(got, np.moveaxis(peer[..., ::-1], -1, 0), rtol=0, atol=1e-3)


def test_upright_and_barely_turned_crops_agree(isa: str) -> None:
    frame = random_frame(200, 200)
    upright = kernels.crop_normalize(frame, turned(0.0, 0.3, (100, 100), (40, 40)), (40, 40), MEAN, STD)
    barely = kernels.crop_normalize(frame, turned(1e-9, 0.3, (100, 100), (40, 40)), (40, 40), MEAN, STD)
    np.testing.assert_allclose(upright, barely, rtol=0, atol=TOLERANCE)


def test_into_equals_the_allocating_twin(isa: str) -> None:
    frame = random_frame(70, 90)
    for degrees in (0.0, 15.0):
        affine = turned(degrees, 0.5, (40.0, 40.0), (30, 40))
        out = np.full((3, 30, 40), np.nan, np.float32)
        kernels.crop_normalize_into(out, frame, affine, MEAN, STD, color="rgb")
        np.testing.assert_array_equal(out, kernels.crop_normalize(frame, affine, (30, 40), MEAN, STD, color="rgb"))


GOOD = {
    "frame": np.zeros((6, 8, 3), np.uint8),
    "affine": [[1, 0, 0], [0, 1, 0]],
    "size": (4, 4),
    "mean": [0, 0, 0],
    "std": [1, 1, 1],
}


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("frame", np.zeros((6, 8, 3), np.int8), TypeError, "frame must be uint8"),
        ("frame", np.zeros((6, 8, 1), np.uint8), ValueError, "frame must have shape"),
        ("affine", np.eye(3), ValueError, "affine must have shape"),
        ("affine", [1, 0, 0, 0, 1, 0], ValueError, "affine must have shape"),
        ("affine", [[1, 0, 0], [0, np.nan, 0]], ValueError, "affine must be finite"),
        ("affine", [[1, 0, 0], [0, 0, 0]], ValueError, "affine must be invertible"),
        ("affine", [[1, 2, 0], [2, 4, 0]], ValueError, "affine must be invertible"),
        ("affine", [[1e-300, 0, 0], [0, 1e-300, 0]], ValueError, "affine must be invertible"),
        ("affine", "upright", TypeError, "affine must hold real numbers"),
        ("size", (0, 4), ValueError, "size must have at least"),
        ("mean", [0, 0, 0, 0], ValueError, "mean must have shape"),
        ("std", [0, 1, 1], ValueError, "std must not be 0"),
        ("color", "RGB", ValueError, "color must be"),
    ],
)
def test_wrong_arguments_are_named(name: str, value: object, error: type[Exception], message: str) -> None:
    kernels.crop_normalize(**GOOD)  # type: ignore[arg-type]
    with pytest.raises(error, match=message):
        kernels.crop_normalize(**{**GOOD, name: value})  # type: ignore[arg-type]
