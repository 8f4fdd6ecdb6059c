"""What every engine is, whatever runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_BATCH", "Engine", "EngineDescription"]

MAX_BATCH = 8
"""Rows of an engine's buffers, unless a TensorRT engine was built for another number."""


@dataclass(frozen=True, slots=True)
class EngineDescription:
    """What really runs a graph."""

    role: str
    file: str
    precision: str
    runtime: str
    providers: tuple[str, ...]
    threads: int | None
    max_batch: int
    notes: tuple[str, ...] = ()


class Engine(Protocol):
    """One graph on one device, with buffers that are allocated once.

    A caller fills the first `n` rows of every input, calls `run(n)` and reads the first `n` rows of the outputs. One
    caller at a time: whoever shares an engine holds a lock.
    """

    @property
    def max_batch(self) -> int:
        """The most rows one `run` takes."""

    @property
    def inputs(self) -> Mapping[str, npt.NDArray[np.float32]]:
        """Input buffers by tensor name, `(max_batch, …)` float32, on the host."""

    @property
    def outputs(self) -> Mapping[str, npt.NDArray[np.float32]]:
        """Output buffers by tensor name, `(max_batch, …)` float32, on the host."""

    def run(self, batch: int) -> None:
        """Compute the first `batch` rows of the outputs from the first `batch` rows of the inputs."""

    def describe(self) -> EngineDescription:
        """Say what really runs."""

    def close(self) -> None:
        """Release the runtime; may be called twice."""
