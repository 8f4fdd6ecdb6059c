from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emert_edge import kernels
from emert_edge.kernels import definitions

SECOND = 1_000_000_000
SHAPE = (40, 50)
SIGMA = 2.5
HALF_LIFE_S = 0.7

Samples = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]


def random_samples(count: int, seed: int = 5, seconds: float = 3.0) -> Samples:
    random = np.random.default_rng(seed)
    t_ns = np.sort(random.integers(0, int(seconds * SECOND), count))
    x, y = random.uniform(-10, 60, (2, count))
    return t_ns, x, y, random.uniform(0.1, 1.0, count)


def stream() -> kernels.FixationMap:
    return kernels.FixationMap(SHAPE, SIGMA, HALF_LIFE_S)


def assert_is_definition(
    got: npt.NDArray[np.float32], samples: Samples, read_ns: int, half_life_s: float = HALF_LIFE_S
) -> None:
    wanted = definitions.faded_fixation_map(*samples, SHAPE, SIGMA, half_life_s, read_ns)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-6 * wanted.max() + np.finfo(np.float32).tiny)


def test_reading_equals_recomputing_with_faded_weights(isa: str) -> None:
    samples = random_samples(700)
    one = stream()
    one.add(*samples)
    for later in (0, 1, SECOND // 3, 20 * SECOND):
        read_ns = int(samples[0].max()) + later
        assert_is_definition(one.read(read_ns), samples, read_ns)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(cuts=st.lists(st.integers(0, 200), max_size=6), seed=st.integers(0, 1000))
def test_how_samples_are_split_and_ordered_makes_no_difference(cuts: list[int], seed: int) -> None:
    samples = random_samples(200, seed)
    shuffled = np.random.default_rng(seed).permutation(200)
    read_ns = int(samples[0].max())
    one = stream()
    for piece in np.split(shuffled, sorted(cuts)):
        one.add(*(column[piece] for column in samples))
    assert_is_definition(one.read(read_ns), samples, read_ns)


def test_a_late_sample_has_the_weight_left_to_it(isa: str) -> None:
    one = stream()
    one.add(2 * SECOND, 40.5, 30.5, 1.0)
    one.add(2 * SECOND - int(HALF_LIFE_S * SECOND), 10.5, 10.5, 1.0)
    got = one.read(2 * SECOND)
    assert got[30, 40] == pytest.approx(1.0, rel=1e-6)
    assert got[10, 10] == pytest.approx(0.5, rel=1e-6)


def test_scalars_and_arrays_add_the_same(isa: str) -> None:
    samples = random_samples(50)
    by_one, by_many = stream(), stream()
    for t_ns, x, y, weight in zip(*samples, strict=True):
        by_one.add(int(t_ns), float(x), float(y), float(weight))
    by_many.add(*samples)
    read_ns = int(samples[0].max())
    np.testing.assert_allclose(by_one.read(read_ns), by_many.read(read_ns), rtol=0, atol=2e-6)


def test_a_scalar_goes_with_every_sample() -> None:
    t_ns, x, y, _ = random_samples(20)
    one, other = stream(), stream()
    one.add(t_ns, x, y, 0.25)
    other.add(t_ns, x, y, np.full(20, 0.25))
    np.testing.assert_array_equal(one.read(3 * SECOND), other.read(3 * SECOND))


def test_numpy_scalars_and_other_dtypes_are_taken() -> None:
    one, other = stream(), stream()
    one.add(np.int64(5), np.float32(3.5), np.float32(4.5), np.int32(2))
    one.add(np.array([6], np.int32), np.array([7], np.uint8), [8.0], np.array([1], np.float16))
    other.add([5, 6], [3.5, 7.0], [4.5, 8.0], [2.0, 1.0])
    np.testing.assert_allclose(one.read(6), other.read(6), rtol=0, atol=1e-6)


def test_columns_of_any_stride_are_taken() -> None:
    samples = random_samples(60)
    one, other = stream(), stream()
    table = np.stack(samples[1:], axis=1).astype(np.float32)
    one.add(samples[0][::-2], table[::-2, 0], table[::-2, 1], table[::-2, 2])
    other.add(samples[0][::-2].copy(), *(np.ascontiguousarray(table[::-2, i]) for i in range(3)))
    np.testing.assert_array_equal(one.read(3 * SECOND), other.read(3 * SECOND))


def test_what_is_not_finite_is_skipped_and_its_time_with_it(isa: str) -> None:
    one = stream()
    one.add([1, 2, 3, 4, 5], [5, np.nan, 5, 5, np.inf], [5, 5, np.nan, 5, 5], [1.0, 1, 1, np.inf, 1])
    got = one.read(1)
    assert_is_definition(got, (np.array([1]), np.array([5.0]), np.array([5.0]), np.array([1.0])), 1)


def test_an_empty_stream_reads_zeros_at_any_time(isa: str) -> None:
    one = stream()
    one.add(np.empty(0, np.int64), [], [], [])
    assert one.read(-5 * SECOND).shape == SHAPE
    assert not one.read(-5 * SECOND).any()


def test_reading_before_the_newest_sample_is_an_error() -> None:
    one = stream()
    one.add(100, 5.0, 5.0, 1.0)
    with pytest.raises(ValueError, match="t_ns is before the newest sample"):
        one.read(99)
    assert one.read(100).any()


def test_readings_are_arrays_of_their_own() -> None:
    one = stream()
    one.add(0, 5.5, 5.5, 1.0)
    first = one.read(0)
    first[:] = 7
    one.add(0, 5.5, 5.5, 1.0)
    assert one.read(0)[5, 5] == pytest.approx(2.0)


def test_reset_forgets_samples_and_times() -> None:
    one = stream()
    one.add(10 * SECOND, 5.0, 5.0, 1.0)
    one.reset()
    assert not one.read(0).any()
    one.add(SECOND, 5.5, 5.5, 1.0)
    assert one.read(SECOND)[5, 5] == pytest.approx(1.0)


def test_an_infinite_half_life_never_fades(isa: str) -> None:
    samples = random_samples(300)
    one = kernels.FixationMap(SHAPE, SIGMA, float("inf"))
    one.add(*samples)
    assert_is_definition(one.read(10**15), samples, 10**15, float("inf"))


@pytest.mark.parametrize("half_life_s", [1e-6, 1e-3, 1e6])
def test_gaps_far_longer_or_shorter_than_the_half_life(isa: str, half_life_s: float) -> None:
    samples = random_samples(100)
    one = kernels.FixationMap(SHAPE, SIGMA, half_life_s)
    for sample in zip(*samples, strict=True):
        one.add(*sample)
    read_ns = int(samples[0].max())
    assert_is_definition(one.read(read_ns), samples, read_ns, half_life_s)
    assert np.isfinite(one.read(read_ns + 3600 * SECOND)).all()


def test_times_at_both_ends_of_int64(isa: str) -> None:
    ends = np.iinfo(np.int64)
    one = stream()
    one.add(ends.min, 5.5, 5.5, 1.0)
    one.add(ends.max, 20.5, 20.5, 1.0)
    got = one.read(ends.max)
    assert got[20, 20] == pytest.approx(1.0)
    assert got[5, 5] == 0.0


def test_a_million_samples_stay_finite_and_right(isa: str) -> None:
    # Four thousand half-lives: the reference time moves many times.
    count = 1_000_000
    random = np.random.default_rng(11)
    t_ns = np.arange(count) * 4_000_000
    x, y = random.uniform(0, 50, (2, count))
    weight = np.full(count, 0.004)
    one = kernels.FixationMap(SHAPE, SIGMA, 1.0)
    one.add(t_ns, x, y, weight)
    got = one.read(int(t_ns[-1]))
    assert np.isfinite(got).all()
    # What is older than 40 half-lives weighs less than a millionth of a millionth.
    recent = slice(count - 10_000, count)
    assert_is_definition(got, (t_ns[recent], x[recent], y[recent], weight[recent]), int(t_ns[-1]), 1.0)


def test_read_into_equals_read(isa: str) -> None:
    samples = random_samples(100)
    one = stream()
    one.add(*samples)
    out = np.full(SHAPE, np.nan, np.float32)
    one.read_into(out, 4 * SECOND)
    np.testing.assert_array_equal(out, one.read(4 * SECOND))


def test_its_settings_can_be_read() -> None:
    one = stream()
    assert (one.shape, one.sigma, one.half_life_s) == (SHAPE, SIGMA, HALF_LIFE_S)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (((0, 5), 1.0, 1.0), ValueError, "shape must have"),
        (((5, 5), 0.0, 1.0), ValueError, "sigma must be"),
        (((5, 5), 1.0, 0.0), ValueError, "half_life_s must be"),
        (((5, 5), 1.0, -1.0), ValueError, "half_life_s must be"),
        (((5, 5), 1.0, np.nan), ValueError, "half_life_s must be"),
    ],
)
def test_wrong_settings_are_named(arguments: tuple[object, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        kernels.FixationMap(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1.5, 1.0, 1.0, 1.0), TypeError, "t_ns must hold int64"),
        (([1.5], [1.0], [1.0], [1.0]), TypeError, "t_ns must hold int64"),
        ((np.array([1], np.uint64), [1.0], [1.0], [1.0]), TypeError, "t_ns must hold int64"),
        ((2**63, 1.0, 1.0, 1.0), TypeError, "t_ns must hold int64"),
        (([1, 2], [1.0], [1.0], [1.0]), ValueError, "x must have 2 values"),
        (([1, 2], 1.0, [1.0, 2.0, 3.0], 1.0), ValueError, "y must have 2 values"),
        (([[1]], [1.0], [1.0], [1.0]), ValueError, "t_ns must be a number or one-dimensional"),
        ((1, [[1.0]], 1.0, 1.0), ValueError, "x must be a number or one-dimensional"),
        ((1, 1.0, "y", 1.0), TypeError, "y must hold real numbers"),
        ((1, 1.0, None, 1.0), TypeError, "y must hold real numbers"),
        ((1, 1.0, 1.0, [1j]), TypeError, "weight must hold real numbers"),
        ((1, 1.0, 1.0, 1j), TypeError, "weight must hold real numbers"),
    ],
)
def test_wrong_samples_are_named_and_leave_the_map_as_it_was(
    arguments: tuple[object, ...], error: type[Exception], message: str
) -> None:
    one = stream()
    with pytest.raises(error, match=message):
        one.add(*arguments)  # type: ignore[arg-type]
    assert not one.read(0).any()


def test_a_reading_has_one_time() -> None:
    with pytest.raises(TypeError, match="t_ns must be one time"):
        stream().read([1, 2])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="t_ns must hold int64"):
        stream().read(1.5)  # type: ignore[arg-type]
