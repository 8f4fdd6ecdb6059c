"""Which rows make which batch: the same in every run with a seed, shared out among processes, resumable by epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed
from torch.utils.data import DataLoader, Dataset, Sampler

__all__ = ["BatchNumbers", "batches", "chance_of"]


class BatchNumbers(Sampler[npt.NDArray[np.int64]]):
    """Row numbers of each batch of this process.

    Parameters
    ----------
    count : int
        Rows.
    batch : int
        Rows in a batch of one process.
    seed : int, optional
        Shuffles, differently each epoch, and leaves a last short batch away; without it all rows come in order.
    """

    def __init__(self, count: int, batch: int, seed: int | None = None) -> None:
        self.count, self.batch, self.seed, self.epoch = count, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning says which epoch begins."""
        self.epoch = epoch

    @staticmethod
    def _place() -> tuple[int, int]:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1

    def __len__(self) -> int:
        _, processes = self._place()
        if self.seed is None:
            return -(-self.count // (self.batch * processes))
        return max(1, self.count // (self.batch * processes))

    def __iter__(self) -> Iterator[npt.NDArray[np.int64]]:
        rank, processes = self._place()
        rows = np.arange(self.count)
        if self.seed is not None:
            rows = np.random.default_rng([self.seed, self.epoch, 7]).permutation(self.count)
        for number in range(len(self)):
            first = number * self.batch * processes
            # One step's rows, dealt out among the processes; with too few left, some process takes the first again.
            step = rows[first : first + self.batch * processes][rank::processes]
            yield step if len(step) else rows[:1]


def batches(data: Dataset[Any], count: int, batch: int, seed: int | None = None) -> DataLoader[Any]:
    """Loader of whole batches; `data` is indexed with an array of rows."""
    return DataLoader(data, batch_size=None, sampler=BatchNumbers(count, batch, seed))


def chance_of(seed: int, epoch: int, batch: int, process: int) -> torch.Generator:
    """Tie all chance of one training step to the run's seed and the step's place.

    A resumed run then goes on as it would have: what Lightning and the loader draw in between does not matter. Torch's
    global generator (dropout, mixing) is seeded, and one for what is drawn on the CPU is returned.
    """
    words = np.random.SeedSequence([seed, epoch, batch, process]).generate_state(2, np.uint64)
    torch.manual_seed(int(words[0] >> np.uint64(1)))
    return torch.Generator().manual_seed(int(words[1] >> np.uint64(1)))
