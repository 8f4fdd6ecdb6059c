"""What a window holds: gaze in time order, the newest frame of each grid cell, and the grid itself.

Nothing here grows with the length of a stream: what no later window can need is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emert_edge.bundle.manifest import WindowSpec
from emert_edge.eye.samples import ARRAY_NAMES, GazeSamples

__all__ = ["FrameCells", "GazeStore", "Grid", "HeldFrame", "ordinary_memory"]

_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Grid:
    """A window's geometry in nanoseconds, laid from the session's first datum (`anchor_ns`)."""

    anchor_ns: int
    window_ns: int
    face_tokens: int
    face_cadence_ns: int
    eye_tokens: int
    eye_span_ns: int
    stride_ns: int
    max_wait_ns: int

    @classmethod
    def of(cls, spec: WindowSpec, anchor_ns: int, stride_ns: int | None = None) -> Grid:
        """Lay a bundle's window from an anchor, with another stride if one is given."""
        return cls(
            anchor_ns=anchor_ns,
            window_ns=spec.window_ms * _MS,
            face_tokens=spec.face_tokens,
            face_cadence_ns=spec.face_cadence_ms * _MS,
            eye_tokens=spec.eye_tokens,
            eye_span_ns=spec.eye_span_ms * _MS,
            stride_ns=spec.stride_ms * _MS if stride_ns is None else stride_ns,
            max_wait_ns=spec.max_wait_ms * _MS,
        )

    def due_time(self, number: int) -> int:
        """Return the time of the estimate with this number: half a window after the anchor, then every stride."""
        return self.anchor_ns + self.window_ns // 2 + number * self.stride_ns

    def cell_of(self, t_ns: int) -> int:
        """Return the index of the first grid point at or after a time: whose token that datum may become."""
        return -((self.anchor_ns - t_ns) // self.face_cadence_ns)

    def last_point(self, t_ns: int) -> int:
        """Return the index of the last grid point at or before a time."""
        return (t_ns - self.anchor_ns) // self.face_cadence_ns

    def point_time(self, index: int) -> int:
        """Return a grid point's time."""
        return self.anchor_ns + index * self.face_cadence_ns


def ordinary_memory(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Allocate a frame that the CPU reads."""
    return np.empty(shape, np.uint8)


@dataclass(slots=True)
class HeldFrame:
    """A frame that waits for its place on the grid."""

    image: npt.NDArray[np.uint8]
    t_ns: int
    color: str


class FrameCells:
    """The newest frame of each grid cell that no window has taken yet.

    A cell keeps one frame however many arrive, and buffers are used again, so a steady stream allocates nothing.

    Parameters
    ----------
    allocate : callable
        Makes a uint8 array of a shape: page-locked where a GPU is to read it.
    """

    def __init__(self, allocate: Callable[[tuple[int, ...]], npt.NDArray[np.uint8]] = ordinary_memory) -> None:
        self._allocate = allocate
        self._cells: dict[int, HeldFrame] = {}
        self._free: list[npt.NDArray[np.uint8]] = []
        self.held_bytes = 0

    def put(self, cell: int, image: npt.NDArray[np.uint8], t_ns: int, color: str) -> None:
        """Copy a frame into its cell unless the cell holds one as new: of two with one time the first stays."""
        held = self._cells.get(cell)
        if held is not None and held.t_ns >= t_ns:
            return
        if held is None:
            buffer = self._buffer(image.shape)
        elif held.image.shape == image.shape:
            buffer = held.image
            self.held_bytes -= buffer.nbytes
        else:
            self.release(held)
            self.held_bytes -= held.image.nbytes
            buffer = self._buffer(image.shape)
        np.copyto(buffer, image)
        self.held_bytes += buffer.nbytes
        self._cells[cell] = HeldFrame(buffer, t_ns, color)

    def take(self, cell: int) -> HeldFrame | None:
        """Hand over a cell's frame; give it back with `release` when it has been read."""
        held = self._cells.pop(cell, None)
        if held is not None:
            self.held_bytes -= held.image.nbytes
        return held

    def release(self, held: HeldFrame) -> None:
        """Let a frame's buffer be used again; may be called while another thread puts frames."""
        if len(self._free) < 2:
            self._free.append(held.image)

    def rearrange(self, cell_of: Callable[[int], int]) -> None:
        """Put what is held into the cells of another grid; the newest of each stays."""
        frames = sorted(self._cells.values(), key=lambda held: held.t_ns)
        self._cells = {}
        for held in frames:
            cell = cell_of(held.t_ns)
            if (older := self._cells.get(cell)) is not None:
                self.held_bytes -= older.image.nbytes
                self.release(older)
            self._cells[cell] = held

    def forget(self, before: int) -> None:
        """Drop the cells before an index."""
        for cell in [cell for cell in self._cells if cell < before]:
            held = self.take(cell)
            if held is not None:
                self.release(held)

    def _buffer(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        while self._free:
            buffer = self._free.pop()
            if buffer.shape == shape:
                return buffer
        return self._allocate(shape)

    def __len__(self) -> int:
        return len(self._cells)


class GazeStore:
    """Gaze samples in time order, whatever order they came in; of two with one time the first stays."""

    def __init__(self, capacity: int = 2048) -> None:
        self._t = np.empty(capacity, np.int64)
        self._values = np.empty((len(ARRAY_NAMES), capacity), np.float32)
        self._begin = 0
        self._end = 0
        self._ordered = True
        self._labels: dict[str, str | tuple[int, int]] = {}

    def __len__(self) -> int:
        return self._end - self._begin

    def append(self, t_ns: npt.NDArray[np.int64], samples: GazeSamples, keep: slice | npt.NDArray[np.bool_]) -> None:
        """Copy the samples that `keep` selects, at times `t_ns` (already selected)."""
        count = len(t_ns)
        if not count:
            return
        self._reserve(count)
        stop = self._end + count
        self._t[self._end : stop] = t_ns
        for row, name in enumerate(ARRAY_NAMES):
            self._values[row, self._end : stop] = getattr(samples, name)[keep]
        if self._ordered:
            first = max(self._begin, self._end - 1)
            self._ordered = bool((self._t[first + 1 : stop] > self._t[first : stop - 1]).all())
        self._end = stop
        for label in ("pupil_unit", "space", "size_px"):
            value = getattr(samples, label)
            if value is not None:
                self._labels[label] = value

    def between(self, start_ns: int, stop_ns: int) -> GazeSamples:
        """Return the samples of [start, stop), views into the store that hold until the next `append`."""
        self._settle()
        held = self._t[self._begin : self._end]
        first, last = (self._begin + int(index) for index in np.searchsorted(held, (start_ns, stop_ns)))
        values = self._values[:, first:last]  # of samples: checked, and x and y combined, when they came
        values.flags.writeable = False
        times = self._t[first:last]
        times.flags.writeable = False
        return GazeSamples._checked(times, dict(zip(ARRAY_NAMES, values, strict=True)), **self._labels)  # type: ignore[arg-type]

    def forget(self, before_ns: int) -> None:
        """Drop the samples before a time."""
        self._settle()
        self._begin += int(np.searchsorted(self._t[self._begin : self._end], before_ns))

    def _settle(self) -> None:
        if self._ordered:
            return
        held = slice(self._begin, self._end)
        order = np.argsort(self._t[held], kind="stable")
        times = self._t[held][order]
        first = np.ones(len(times), bool)
        first[1:] = times[1:] != times[:-1]
        order = order[first]
        values = self._values[:, held][:, order]
        self._end = self._begin + len(order)
        self._t[self._begin : self._end] = times[first]
        self._values[:, self._begin : self._end] = values
        self._ordered = True

    def _reserve(self, count: int) -> None:
        if self._end + count <= len(self._t):
            return
        held = len(self)
        capacity = len(self._t)
        while held + count > capacity // 2:  # at least half is free after a move, so moves are rare
            capacity *= 2
        t, values = self._t, self._values
        if capacity != len(t):
            t, values = np.empty(capacity, np.int64), np.empty((len(ARRAY_NAMES), capacity), np.float32)
        t[:held] = self._t[self._begin : self._end].copy()
        values[:, :held] = self._values[:, self._begin : self._end].copy()
        self._t, self._values, self._begin, self._end = t, values, 0, held
