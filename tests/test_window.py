"""The grid, the newest frame of each cell, and gaze in time order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emert_edge.bundle.manifest import WindowSpec
from emert_edge.clock import ClockMap
from emert_edge.eye import GazeSamples
from emert_edge.window import FrameCells, GazeStore, Grid

MS = 1_000_000


@pytest.mark.parametrize("anchor", [0, 7, -(10**15), 1_760_000_000_000_000_123])
def test_a_datum_belongs_to_the_first_grid_point_at_or_after_it(anchor: int) -> None:
    grid = Grid.of(WindowSpec(), anchor)
    assert grid.cell_of(anchor) == 0
    assert grid.cell_of(anchor + 1) == 1
    assert grid.cell_of(anchor + 500 * MS) == 1
    assert grid.cell_of(anchor - 1) == 0
    assert grid.cell_of(anchor - 500 * MS) == -1
    assert grid.last_point(anchor + 499 * MS) == 0
    assert grid.last_point(anchor - 1) == -1
    assert grid.due_time(0) == anchor + 2000 * MS
    assert grid.due_time(3) == anchor + 3500 * MS


def frame(value: int, shape: tuple[int, ...] = (2, 3, 3)) -> np.ndarray:
    return np.full(shape, value, np.uint8)


def test_a_cell_keeps_the_newest_frame_and_of_one_time_the_first() -> None:
    cells = FrameCells()
    for t_ns, value in ((10, 1), (30, 3), (20, 2), (30, 4)):
        cells.put(0, frame(value), t_ns, "bgr")
    held = cells.take(0)
    assert held is not None
    assert (held.t_ns, held.image[0, 0, 0]) == (30, 3)
    assert cells.take(0) is None
    assert cells.held_bytes == 0


def test_cells_copy_what_they_keep_and_use_buffers_again() -> None:
    cells = FrameCells()
    mine = frame(1)
    cells.put(0, mine, 0, "bgr")
    mine[:] = 9
    held = cells.take(0)
    assert held is not None
    assert held.image.max() == 1
    cells.release(held)
    cells.put(1, frame(5), 1, "rgb")
    again = cells.take(1)
    assert again is not None
    assert again.image is held.image
    cells.put(2, frame(5), 1, "rgb")
    cells.put(2, frame(6, (4, 4, 3)), 2, "rgb")  # the camera changed its size
    assert cells.held_bytes == 48
    cells.forget(3)
    assert (len(cells), cells.held_bytes) == (0, 0)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    st.lists(st.lists(st.integers(-50, 50), max_size=12), max_size=12),
    st.lists(st.integers(-60, 60), min_size=2, max_size=2),
)
def test_the_store_returns_what_a_sorted_set_would(chunks: list[list[int]], span: list[int]) -> None:
    store = GazeStore(capacity=4)
    first: dict[int, int] = {}
    number = 0
    for chunk in chunks:
        values = np.arange(number, number + len(chunk))
        samples = GazeSamples(t_ns=np.array(chunk, np.int64), x=values.astype(np.float32), y=values.astype(np.float32))
        for t_ns, value in zip(chunk, values, strict=True):
            first.setdefault(t_ns, int(value))
        store.append(samples.t_ns, samples, slice(None))
        number += len(chunk)
    start, stop = sorted(span)
    got = store.between(start, stop)
    expected = [(t_ns, value) for t_ns, value in sorted(first.items()) if start <= t_ns < stop]
    assert list(zip(got.t_ns.tolist(), got.x.tolist(), strict=True)) == expected
    store.forget(start)
    assert len(store) == sum(t_ns >= start for t_ns in first)


def test_the_store_does_not_grow_with_the_stream() -> None:
    store = GazeStore(capacity=64)
    for begin in range(0, 100_000, 25):
        times = np.arange(begin, begin + 25, dtype=np.int64)
        store.append(times, GazeSamples(t_ns=times), slice(None))
        store.forget(begin - 50)
    assert len(store) <= 100
    assert len(store._t) <= 512


def test_clock_offsets_are_known_or_not() -> None:
    clocks = ClockMap("monotonic")
    assert clocks.offset(None) == clocks.offset("monotonic") == 0
    assert clocks.offset("tracker") is None
    clocks.set_offset("tracker", 5)
    clocks.set_offset("tracker", 7)
    assert clocks.offset("tracker") == 7
    with pytest.raises(ValueError, match="own clock"):
        clocks.set_offset("monotonic", 1)
