from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emert_edge import _core, kernels
from emert_edge.kernels import definitions

# Sums of float32 against the float64 definition, as a share of the map's maximum.
TOLERANCE = 2e-6
SMALLEST_NORMAL = np.finfo(np.float32).tiny


def assert_close(got: npt.NDArray[np.float32], wanted: npt.NDArray[np.float64], tolerance: float = TOLERANCE) -> None:
    assert got.dtype == np.float32
    assert got.shape == wanted.shape
    largest = float(np.abs(wanted).max())
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * largest + SMALLEST_NORMAL)


def check(xy: npt.ArrayLike, weight: npt.ArrayLike, shape: tuple[int, int], sigma: float) -> None:
    assert_close(kernels.fixation_map(xy, weight, shape, sigma), definitions.fixation_map(xy, weight, shape, sigma))


def random_points(
    shape: tuple[int, int], count: int, margin: float = 0.0, seed: int = 3
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    xy = random.uniform([-margin, -margin], [shape[1] + margin, shape[0] + margin], (count, 2))
    return xy, random.uniform(0.1, 1.0, count)


@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.0, 3.0, 11.7, 38.0, 400.0])
@pytest.mark.parametrize("shape", [(112, 112), (61, 203), (8, 16), (1, 1), (1, 300), (300, 1), (33, 5)])
def test_map_equals_its_definition(isa: str, shape: tuple[int, int], sigma: float) -> None:
    check(*random_points(shape, 60, margin=4 * sigma), shape, sigma)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    count=st.integers(0, 40),
    sigma=st.floats(1e-3, 60),
    margin=st.floats(0, 200),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_map_equals_its_definition_on_every_instruction_set(
    height: int, width: int, count: int, sigma: float, margin: float, seed: int
) -> None:
    xy, weight = random_points((height, width), count, margin, seed)
    wanted = definitions.fixation_map(xy, weight, (height, width), sigma)
    before = _core.isa()
    try:
        for name in _core.available_isas():
            _core.choose_isa(name)
            assert_close(kernels.fixation_map(xy, weight, (height, width), sigma), wanted)
    finally:
        _core.choose_isa(before)


def test_instruction_sets_agree() -> None:
    xy, weight = random_points((112, 112), 128)
    before = _core.isa()
    maps = []
    for name in _core.available_isas():
        _core.choose_isa(name)
        maps.append(kernels.fixation_map(xy, weight, (112, 112), 3.0))
    _core.choose_isa(before)
    for one in maps[1:]:
        np.testing.assert_allclose(one, maps[0], rtol=0, atol=1e-6 * maps[0].max())


def test_no_points_give_zeros(isa: str) -> None:
    empty = kernels.fixation_map(np.empty((0, 2)), np.empty(0), (20, 30), 3.0)
    assert empty.shape == (20, 30)
    assert not empty.any()
    assert not kernels.fixation_map([], [], (20, 30), 3.0).any()


def test_what_is_not_finite_is_skipped(isa: str) -> None:
    xy, weight = random_points((40, 40), 5)
    bad_xy = np.array([[np.nan, 5], [5, np.nan], [np.inf, 5], [5, -np.inf], [5, 5], [5, 5]])
    bad_weight = np.array([1, 1, 1, 1, np.nan, np.inf])
    got = kernels.fixation_map(np.concatenate([bad_xy, xy]), np.concatenate([bad_weight, weight]), (40, 40), 3.0)
    np.testing.assert_array_equal(got, kernels.fixation_map(xy, weight, (40, 40), 3.0))
    assert_close(got, definitions.fixation_map(xy, weight, (40, 40), 3.0))


def test_only_points_that_are_not_finite_give_zeros(isa: str) -> None:
    assert not kernels.fixation_map([(np.nan, np.nan)] * 3, [1, 2, 3], (9, 9), 2.0).any()


@pytest.mark.parametrize("far", [1e3, 1e10, 1e300])
def test_points_beyond_their_reach_leave_no_trace(isa: str, far: float) -> None:
    xy = [(far, 5), (-far, 5), (5, far), (5, -far), (-far, far)]
    assert not kernels.fixation_map(xy, np.ones(5), (30, 30), 3.0).any()


def test_a_point_outside_reaches_in_exactly_as_far_as_its_cut(isa: str) -> None:
    # floor(-3.5) = -4 and R = 12: columns up to 8.
    row = kernels.fixation_map([(-3.5, 0.5)], [1.0], (1, 30), 3.0)[0]
    assert (row[:9] > 0).all()
    assert not row[9:].any()
    check([(-3.5, 0.5)], [1.0], (1, 30), 3.0)


def test_a_point_inside_is_cut_to_a_square(isa: str) -> None:
    got = kernels.fixation_map([(50.9, 40.1)], [1.0], (100, 100), 3.0)
    rows, columns = np.nonzero(got)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (28, 52, 38, 62)
    assert np.count_nonzero(got) == 25 * 25


@pytest.mark.parametrize("sigma", [1e-300, 1e-9, 1e-3, 0.05])
def test_tiny_sigma_lights_only_exact_hits(isa: str, sigma: float) -> None:
    xy = [(3.5, 2.5), (7.5 + sigma, 4.5), (1.0, 1.0)]
    check(xy, [1.0, 2.0, 3.0], (10, 20), sigma)
    assert kernels.fixation_map(xy, [1.0, 2.0, 3.0], (10, 20), sigma)[2, 3] == 1.0


@pytest.mark.parametrize("sigma", [1e3, 1e5, 1e9, 1e300])
def test_huge_sigma_is_flat_and_right(isa: str, sigma: float) -> None:
    xy, weight = random_points((40, 300), 30, margin=1000)
    check(xy, weight, (40, 300), sigma)


@pytest.mark.parametrize("scale", [1e-35, 1e-20, 1e20, 1e35, -1.0])
def test_weights_of_any_size_and_sign(isa: str, scale: float) -> None:
    xy, weight = random_points((50, 60), 30)
    check(xy, weight * scale, (50, 60), 4.0)


def test_zero_weights_give_zeros(isa: str) -> None:
    assert not kernels.fixation_map([(3.0, 3.0)], [0.0], (9, 9), 2.0).any()


def test_more_points_than_one_block_holds(isa: str) -> None:
    check(*random_points((40, 50), 9000, margin=5), (40, 50), 2.0)


def test_wide_gaussians_in_a_large_map(isa: str) -> None:
    check(*random_points((700, 900), 80), (700, 900), 150.0)


def test_a_million_equal_points_stay_precise() -> None:
    count = 1_000_000
    xy = np.broadcast_to(np.array([4.3, 4.7], np.float32), (count, 2))
    weight = np.broadcast_to(np.float32(0.7), count)
    got = kernels.fixation_map(xy, weight, (9, 9), 1.0)
    wanted = definitions.fixation_map(xy[:1], weight[:1].astype(np.float64) * count, (9, 9), 1.0)
    assert_close(got, wanted, tolerance=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16, np.uint8, np.int64, ">f8", ">f4"])
def test_points_of_any_real_dtype(dtype: npt.DTypeLike) -> None:
    xy = np.array([[3, 4], [10, 2]], dtype)
    weight = np.array([2, 5], dtype)
    check(xy, weight, (12, 15), 2.0)


def test_points_of_any_stride(isa: str) -> None:
    xy, weight = random_points((30, 30), 40)
    wanted = definitions.fixation_map(xy[::-2], weight[::-2], (30, 30), 2.0)
    assert_close(kernels.fixation_map(xy[::-2], weight[::-2], (30, 30), 2.0), wanted)
    columns = np.ascontiguousarray(xy[::-2].T)
    assert_close(kernels.fixation_map(columns.T, weight[::-2], (30, 30), 2.0), wanted)


def test_into_equals_the_allocating_twin(isa: str) -> None:
    xy, weight = random_points((70, 90), 100, margin=20)
    out = np.full((70, 90), np.nan, np.float32)
    kernels.fixation_map_into(out, xy, weight, 3.0)
    np.testing.assert_array_equal(out, kernels.fixation_map(xy, weight, (70, 90), 3.0))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[1, 2, 3]], [1], (5, 5), 1.0), ValueError, "xy must have shape"),
        (([1, 2], [1], (5, 5), 1.0), ValueError, "xy must have shape"),
        (([[1, 2]], [1, 2], (5, 5), 1.0), ValueError, "weight must have shape"),
        (([[1, 2]], 1.0, (5, 5), 1.0), ValueError, "weight must have shape"),
        (([["a", "b"]], [1], (5, 5), 1.0), TypeError, "xy must hold real numbers"),
        (([[1j, 2]], [1], (5, 5), 1.0), TypeError, "xy must hold real numbers"),
        (([[1, 2]], [None], (5, 5), 1.0), TypeError, "weight must hold real numbers"),
        (([[1, 2]], [1], (5,), 1.0), ValueError, "shape must be"),
        (([[1, 2]], [1], (0, 5), 1.0), ValueError, "shape must have"),
        (([[1, 2]], [1], (5, -5), 1.0), ValueError, "shape must have"),
        (([[1, 2]], [1], (5, 5.5), 1.0), TypeError, "shape must be"),
        (([[1, 2]], [1], 5, 1.0), TypeError, "shape must be"),
        (([[1, 2]], [1], (2**31, 5), 1.0), ValueError, "shape is too large"),
        (([[1, 2]], [1], (5, 5), 0.0), ValueError, "sigma must be"),
        (([[1, 2]], [1], (5, 5), -1.0), ValueError, "sigma must be"),
        (([[1, 2]], [1], (5, 5), np.nan), ValueError, "sigma must be"),
        (([[1, 2]], [1], (5, 5), np.inf), ValueError, "sigma must be"),
        (([[1, 2]], [1], (5, 5), "wide"), TypeError, "sigma"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple[object, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        kernels.fixation_map(*arguments)  # type: ignore[arg-type]
