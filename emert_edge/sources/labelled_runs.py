"""A vendor's events where they stand as a label beside every sample: the runs of samples that carry one label."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["LabelledRuns", "Run"]


class Run(NamedTuple):
    """Neighbouring samples of one label and number: places [begin, end), and what stood beside the first and last."""

    label: Any
    number: Any
    begin: int
    end: int
    start_ns: int
    stop_ns: int
    first: tuple[float, ...]
    last: tuple[float, ...]


class LabelledRuns:
    """Runs gathered block by block; a run may reach over the blocks' borders."""

    def __init__(self) -> None:
        self._runs: list[Run] = []
        self._taken = 0

    def add(
        self,
        label: npt.NDArray[Any],
        number: npt.NDArray[Any],
        t_ns: npt.NDArray[np.int64],
        *beside: npt.NDArray[Any],
    ) -> None:
        """Take the next samples.

        Parameters
        ----------
        label, number : ndarray, shape (n,)
            What tells neighbouring events apart: their kind and their number.
        t_ns : ndarray, shape (n,), int64
            Times.
        beside : ndarrays, shape (n,)
            What is kept of a run's first and last sample.
        """
        if not t_ns.size:
            return
        new = np.ones(t_ns.size, dtype=np.bool_)
        new[1:] = (label[1:] != label[:-1]) | (number[1:] != number[:-1])
        firsts = np.flatnonzero(new)
        lasts = np.append(firsts[1:], t_ns.size) - 1
        for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
            values = [tuple(float(column[place]) for column in beside) for place in (first, last)]
            begin, end = self._taken + first, self._taken + last + 1
            run = Run(label[first], number[first], begin, end, int(t_ns[first]), int(t_ns[last]), values[0], values[1])
            held = self._runs[-1] if self._runs and first == 0 else None
            if held is not None and (held.label, held.number) == (run.label, run.number):
                self._runs[-1] = held._replace(end=end, stop_ns=run.stop_ns, last=run.last)
            else:
                self._runs.append(run)
        self._taken += t_ns.size

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)
