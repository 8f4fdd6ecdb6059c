"""A vendor's events where they stand as a label beside every sample: the runs of samples that carry one label."""

from __future__ import annotations

from collections.abc import Callable
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
    """Runs found block by block; a run may reach over the blocks' borders.

    Parameters
    ----------
    ended : callable
        Is given each run as soon as it has ended: an hour's runs take memory.
    """

    def __init__(self, ended: Callable[[Run], None]) -> None:
        self._ended = ended
        self._last: Run | None = None
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
            held = self._last
            if first == 0 and held is not None and (held.label, held.number) == (run.label, run.number):
                run = held._replace(end=end, stop_ns=run.stop_ns, last=run.last)
            elif held is not None:
                self._ended(held)
            self._last = run
        self._taken += t_ns.size

    def finish(self) -> None:
        """There are no more samples: the last run has ended as well."""
        if self._last is not None:
            self._ended(self._last)
            self._last = None
