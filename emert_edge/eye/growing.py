"""An array that grows at its end, in pages of its own."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["GrowingArray"]

_FIRST = 4096  # elements
_SMALL_BYTES = 1 << 20
_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}


class GrowingArray:
    """Values gathered piece by piece, with hardly more memory than they take at last.

    Large arrays are pages of the system's, not of the heap: what an array has outgrown goes back at once, and room
    that was not yet written takes no memory.

    Parameters
    ----------
    dtype : dtype
        What it holds.
    """

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self._dtype = np.dtype(dtype)
        self._length = 0
        self._room = self._reserved(_FIRST)

    def __len__(self) -> int:
        return self._length

    def extend(self, values: npt.NDArray[Any]) -> None:
        """Append values."""
        end = self._length + values.shape[0]
        self._reserve(end)
        self._room[self._length : end] = values
        self._length = end

    def repeat(self, value: float, count: int) -> None:
        """Append one value some times."""
        end = self._length + count
        self._reserve(end)
        self._room[self._length : end] = value
        self._length = end

    def array(self) -> npt.NDArray[Any]:
        """What was gathered, without a copy."""
        return self._room[: self._length]

    def _reserve(self, count: int) -> None:
        if count > self._room.shape[0]:
            room = self._reserved(max(count, 2 * self._room.shape[0]))
            room[: self._length] = self._room[: self._length]
            self._room = room

    def _reserved(self, count: int) -> npt.NDArray[Any]:
        size = count * self._dtype.itemsize
        if size < _SMALL_BYTES:
            return np.empty(count, dtype=self._dtype)
        return np.frombuffer(mmap.mmap(-1, size, **_PRIVATE), dtype=self._dtype, count=count)
