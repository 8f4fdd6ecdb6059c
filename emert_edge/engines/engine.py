"""What every engine is, whatever runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from emert_edge.kernels import cuda

__all__ = ["MAX_BATCH", "Engine", "EngineDescription", "GpuEngine"]

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


class GpuEngine(Engine, Protocol):
    """An engine whose buffers on the GPU others may write and read, in the order of its stream."""

    @property
    def stream(self) -> int:
        """The stream in which it computes, as CUDA's C interface knows it."""

    def on_gpu(self, name: str) -> cuda.DeviceArray:
        """Return an input's or output's buffer on the GPU, `(max_batch, …)` float32."""

    def enqueue(self, batch: int, written: frozenset[str]) -> None:
        """Enqueue a run, and return.

        The inputs that are not `written` on the GPU already are copied there from the host; all outputs are copied to
        the host, too. Until `wait` returns, `inputs` must not be changed and `outputs` mean nothing.
        """

    def wait(self) -> None:
        """Wait until all that was enqueued in the stream is done."""
