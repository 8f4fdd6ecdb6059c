"""GazeSamples: what they take, what they refuse, and what they answer."""

from __future__ import annotations

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emert_edge.eye import GazeSamples
from emert_edge.eye.samples import ARRAY_NAMES

TIMES = st.lists(st.integers(-(2**62), 2**62), max_size=40)


def test_what_is_left_out_reads_as_nan_without_memory() -> None:
    samples = GazeSamples(t_ns=np.arange(1000))
    for name in ARRAY_NAMES:
        array = getattr(samples, name)
        assert array.shape == (1000,)
        assert array.dtype == np.float32
        assert np.isnan(array).all()
        assert array.strides == (0,)
        assert not samples.has(name)
    assert not samples.valid.any()


def test_an_array_of_the_right_type_is_not_copied_and_cannot_be_written_through() -> None:
    t_ns, x = np.arange(5), np.linspace(0, 1, 5, dtype=np.float32)
    samples = GazeSamples(t_ns=t_ns, x=x, y=x)
    assert np.shares_memory(samples.t_ns, t_ns)
    assert np.shares_memory(samples.x, x)
    with pytest.raises(ValueError, match="read-only"):
        samples.x[0] = 1.0
    with pytest.raises(AttributeError, match="frozen"):
        samples.clock = "other"
    x[0] = 0.5  # the owner still may


def test_without_a_combined_point_the_mean_of_the_valid_eyes_takes_its_place() -> None:
    nan = np.nan
    samples = GazeSamples(
        t_ns=[0, 1, 2, 3],
        left_x=[0.2, nan, 0.2, nan],
        left_y=[0.4, nan, nan, nan],
        right_x=[0.4, 0.4, 0.4, nan],
        right_y=[0.6, 0.6, 0.6, nan],
    )
    np.testing.assert_allclose(samples.x, [0.3, 0.4, 0.4, nan], rtol=1e-6)
    np.testing.assert_allclose(samples.y, [0.5, 0.6, 0.6, nan], rtol=1e-6)


def test_a_combined_point_of_only_nan_equals_one_left_out() -> None:
    eyes = {"left_x": [0.2, 0.3], "left_y": [0.4, 0.5]}
    without = GazeSamples(t_ns=[0, 1], **eyes)
    with_nan = GazeSamples(t_ns=[0, 1], x=[np.nan] * 2, y=[np.nan] * 2, **eyes)
    np.testing.assert_array_equal(without.x, with_nan.x)
    np.testing.assert_array_equal(without.y, with_nan.y)


def test_the_vendors_combined_point_is_kept_where_there_is_one() -> None:
    samples = GazeSamples(t_ns=[0, 1], x=[0.9, np.nan], y=[0.9, 0.1], left_x=[0.1, 0.2], left_y=[0.1, 0.2])
    np.testing.assert_allclose(samples.x, [0.9, 0.2], rtol=1e-6)
    np.testing.assert_allclose(samples.y, [0.9, 0.2], rtol=1e-6)


def test_points_beside_the_screen_are_kept() -> None:
    samples = GazeSamples(t_ns=[0, 1], x=[-0.5, 1.5], y=[2.0, -3.0])
    assert samples.x.tolist() == [-0.5, 1.5]
    assert samples.valid.all()


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"t_ns": [0.5, 1.0]}, TypeError, "t_ns"),
        ({"t_ns": np.zeros((2, 2), dtype=np.int64)}, ValueError, "t_ns"),
        ({"t_ns": 5}, ValueError, "t_ns"),
        ({"t_ns": np.array([2**63], dtype=np.uint64)}, ValueError, "t_ns"),
        ({"t_ns": [0, 1], "x": [0.5]}, ValueError, "x"),
        ({"t_ns": [0, 1], "pupil_left": [[1.0, 2.0]]}, ValueError, "pupil_left"),
        ({"t_ns": [0, 1], "y": ["a", "b"]}, TypeError, "y"),
        ({"t_ns": [0, 1], "x": np.array([1j, 2j])}, TypeError, "x"),
        ({"t_ns": [0], "pupil_unit": "cm"}, ValueError, "pupil_unit"),
        ({"t_ns": [0], "space": "room"}, ValueError, "space"),
        ({"t_ns": [0], "size_px": (0, 10)}, ValueError, "size_px"),
        ({"t_ns": [0], "size_px": 10}, TypeError, "size_px"),
        ({"t_ns": [0], "clock": 3}, TypeError, "clock"),
        ({}, TypeError, "t_ns"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        GazeSamples(**arguments)


def test_positional_arguments_are_refused() -> None:
    with pytest.raises(TypeError):
        GazeSamples([0, 1])  # type: ignore[misc]


@given(times=TIMES, start=st.integers(-(2**63), 2**63), length=st.integers(0, 2**63))
def test_between_keeps_the_order_and_takes_half_open_spans(times: list[int], start: int, length: int) -> None:
    place = np.arange(len(times), dtype=np.float32)
    samples = GazeSamples(t_ns=times, x=place, y=place, clock="a")
    for held in (samples, samples.sorted()):
        cut = held.between(start, start + length)
        inside = [(int(t), float(x)) for t, x in zip(held.t_ns, held.x, strict=True) if start <= t < start + length]
        assert list(zip(cut.t_ns.tolist(), cut.x.tolist(), strict=True)) == inside
        assert cut.clock == "a"


@given(times=TIMES)
def test_sorting_is_stable(times: list[int]) -> None:
    place = np.arange(len(times), dtype=np.float32)
    ordered = GazeSamples(t_ns=times, x=place).sorted()
    assert list(zip(ordered.t_ns.tolist(), ordered.x.tolist(), strict=True)) == sorted(
        zip(times, place.tolist(), strict=True)
    )
    assert ordered.rising


@given(times=TIMES, cuts=st.lists(st.integers(0, 40), max_size=4))
def test_pieces_put_together_are_the_whole(times: list[int], cuts: list[int]) -> None:
    place = np.arange(len(times), dtype=np.float32)
    whole = GazeSamples(t_ns=times, left_x=place, left_y=place, pupil_left=place, pupil_unit="px")
    edges = [0, *sorted(min(cut, len(times)) for cut in cuts), len(times)]
    together = GazeSamples.concatenate(whole.part(a, b) for a, b in pairwise(edges))
    assert together.pupil_unit == "px"
    np.testing.assert_array_equal(together.t_ns, whole.t_ns)
    for name in ARRAY_NAMES:
        np.testing.assert_array_equal(getattr(together, name), getattr(whole, name))


def test_pieces_that_differ_in_a_label_do_not_go_together() -> None:
    millimetres, pixels = (GazeSamples(t_ns=[0], pupil_unit=unit) for unit in ("mm", "px"))
    with pytest.raises(ValueError, match="pupil_unit"):
        GazeSamples.concatenate([millimetres, pixels])
    assert GazeSamples.concatenate([millimetres, GazeSamples(t_ns=[1])]).pupil_unit == "mm"
    assert len(GazeSamples.concatenate([])) == 0


def test_shifting_moves_times_only_and_refuses_to_overflow() -> None:
    samples = GazeSamples(t_ns=[0, 10], x=[0.1, 0.2], y=[0.3, 0.4])
    moved = samples.shifted(-5)
    assert moved.t_ns.tolist() == [-5, 5]
    np.testing.assert_array_equal(moved.x, samples.x)
    with pytest.raises(ValueError, match="offset_ns"):
        samples.shifted(2**63 - 1)
    assert len(GazeSamples(t_ns=[]).shifted(2**80)) == 0


def test_samples_survive_pickling() -> None:
    samples = GazeSamples(
        t_ns=[0, 5], x=[0.1, np.nan], y=[0.2, 0.3], pupil_left=[3.0, 3.1], pupil_unit="mm", size_px=(4, 3), clock="c"
    )
    again = pickle.loads(pickle.dumps(samples))
    for name in ("t_ns", *ARRAY_NAMES):
        np.testing.assert_array_equal(getattr(again, name), getattr(samples, name))
    assert (again.pupil_unit, again.size_px, again.clock) == ("mm", (4, 3), "c")


def test_the_rate_is_measured_without_gaps_steps_back_and_with_doubled_times() -> None:
    steady = np.arange(1000) * 4_000_000
    assert GazeSamples(t_ns=steady).rate_hz == pytest.approx(250)
    holed = np.concatenate([steady, steady + 60_000_000_000])
    assert GazeSamples(t_ns=holed).rate_hz == pytest.approx(250)
    assert GazeSamples(t_ns=np.concatenate([steady, steady])).rate_hz == pytest.approx(250)
    # EyeLink at 2 kHz may write each millisecond twice.
    assert GazeSamples(t_ns=np.repeat(np.arange(1000), 2) * 1_000_000).rate_hz == pytest.approx(2000, rel=1e-2)
    assert GazeSamples(t_ns=steady[::-1]).rate_hz == pytest.approx(250)
    assert GazeSamples(t_ns=np.random.default_rng(0).permutation(steady)).rate_hz == pytest.approx(250)
    assert GazeSamples(t_ns=[]).rate_hz is None
    assert GazeSamples(t_ns=[3, 3, 3]).rate_hz is None
