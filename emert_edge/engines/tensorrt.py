"""TensorRT through its own bindings: an engine, its buffers on both sides, and a CUDA graph for each batch size."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emert_edge.bundle.manifest import Role
from emert_edge.engines.cache import Profile
from emert_edge.engines.cuda_memory import CudaDevice, CudaGraph, CudaStream, DeviceMemory
from emert_edge.engines.engine import EngineDescription
from emert_edge.engines.tensorrt_library import check_binding, take_errors, tensorrt, tensorrt_log
from emert_edge.errors import BundleIncompatible, EngineError, EngineMismatch
from emert_edge.kernels.cuda import DeviceArray

__all__ = ["TensorRTEngine"]

FloatArray = npt.NDArray[np.float32]

_log = logging.getLogger("emert_edge")


@dataclass(slots=True)
class _Batch:
    """What one batch size needs.

    It has an execution context of its own, as has each choice of inputs that are written on the GPU: a captured graph
    is true only as long as nothing is changed about the context that it was captured from.
    """

    context: Any
    uploads: list[tuple[DeviceMemory, FloatArray]]
    downloads: list[tuple[FloatArray, DeviceMemory]]
    graph: CudaGraph | None = None


class TensorRTEngine:
    """One serialised engine on one GPU, a `GpuEngine`.

    `inputs` and `outputs` are page-locked, so the GPU copies from and into the very arrays that callers see. Memory is
    allocated when the engine is opened, and an execution context when a batch size is first seen; that first run also
    captures copies and kernels as a CUDA graph, which later runs replay. Where capture fails, every run enqueues them
    one by one; the log and `describe` say so.

    Parameters
    ----------
    plan
        The serialised engine.
    where
        Bundle and file, for messages.
    cuda
        The GPU.
    role, file, precision
        What `describe` says.
    shapes
        Shape of one row by tensor name, for checking the engine against the manifest.
    stream
        To compute in, shared with other engines; one of its own when None.
    notes
        More for `describe`.

    Raises
    ------
    EngineMismatch
        TensorRT cannot read the engine: it was built by another version or for another GPU.
    BundleIncompatible
        A tensor is not what the manifest asks for.
    EngineError
        The GPU's memory does not suffice, or CUDA failed.
    """

    def __init__(
        self,
        plan: bytes | memoryview,
        where: str,
        cuda: CudaDevice,
        *,
        role: Role,
        file: str,
        precision: str,
        shapes: Mapping[str, tuple[int, ...]],
        stream: CudaStream | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        trt = tensorrt()
        self._where, self._cuda = where, cuda
        self._role, self._file, self._precision, self._notes = role, file, precision, notes
        self._version = str(trt.__version__)
        self._memory: dict[str, DeviceMemory] = {}
        self._scratch: DeviceMemory | None = None
        self._batches: dict[tuple[int, frozenset[str]], _Batch] = {}
        self._inputs: dict[str, FloatArray] = {}
        self._outputs: dict[str, FloatArray] = {}
        self._engine: Any = None
        self._own_stream = stream is None
        self._stream: Any = stream
        try:
            with cuda.current(where):
                self._runtime: Any = trt.Runtime(tensorrt_log())
                take_errors()
                self._engine = self._runtime.deserialize_cuda_engine(plan)
                if self._engine is None:
                    raise EngineMismatch(
                        f"{where}: TensorRT {trt.__version__} cannot read this engine: {take_errors()}"
                    )
                self._profiles = self._read_profiles(trt, shapes)
                self._max_batch = max(profile.most for profile in self._profiles)
                self._allocate(trt, shapes)
        except BaseException:
            self.close()
            raise

    def _read_profiles(self, trt: Any, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Profile, ...]:
        engine = self._engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        for name in names:
            dims = tuple(engine.get_tensor_shape(name))
            check_binding(self._where, name, engine.get_tensor_dtype(name), dims, shapes, taken=name in inputs)
        if not inputs:
            raise BundleIncompatible(f"{self._where}: the engine takes no input")
        return tuple(
            Profile(*(int(shape[0]) for shape in engine.get_tensor_profile_shape(inputs[0], index)))
            for index in range(engine.num_optimization_profiles)
        )

    def _allocate(self, trt: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
        engine, cuda = self._engine, self._cuda
        if self._own_stream:
            self._stream = cuda.stream()
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            host = cuda.pinned((self._max_batch, *shapes[name]))
            self._memory[name] = cuda.allocate(host.nbytes)
            taken = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            (self._inputs if taken else self._outputs)[name] = host
        if engine.device_memory_size_v2:
            # one run at a time, so all batch sizes compute in the same memory
            self._scratch = cuda.allocate(engine.device_memory_size_v2)

    @property
    def max_batch(self) -> int:
        """The most rows one `run` takes."""
        return self._max_batch

    @property
    def inputs(self) -> Mapping[str, FloatArray]:
        """Input buffers by tensor name, `(max_batch, …)` float32, page-locked."""
        return self._inputs

    @property
    def outputs(self) -> Mapping[str, FloatArray]:
        """Output buffers by tensor name, `(max_batch, …)` float32, page-locked."""
        return self._outputs

    def run(self, batch: int) -> None:
        """Compute the first `batch` rows of the outputs.

        Raises
        ------
        ValueError
            `batch` is not within 1 and `max_batch`.
        EngineError
            TensorRT or CUDA failed, or the engine is closed.
        """
        self.enqueue(batch, frozenset())
        self.wait()

    @property
    def stream(self) -> int:
        """The stream in which it computes."""
        return int(self._stream.handle)

    def on_gpu(self, name: str) -> DeviceArray:
        """Return an input's or output's buffer on the GPU, `(max_batch, …)` float32."""
        host = self._inputs[name] if name in self._inputs else self._outputs[name]
        return DeviceArray(self._memory[name].address, host.shape, host.dtype)

    def enqueue(self, batch: int, written: frozenset[str]) -> None:
        """Enqueue a run, and return; see `GpuEngine`. The first of its kind waits.

        Raises
        ------
        ValueError, EngineError
            As `run`.
        """
        if not 1 <= batch <= self._max_batch:
            raise ValueError(f"batch must be within 1 and {self._max_batch}, not {batch}")
        if self._engine is None:
            raise EngineError(f"the engine of {self._file} is closed")
        with self._cuda.current(self._where):
            known = self._batches.get((batch, written))
            if known is None:
                self._first_run(batch, written)
            elif known.graph is not None:
                known.graph.launch()
            else:
                self._enqueue(known)

    def wait(self) -> None:
        """Wait until all that was enqueued in the stream is done."""
        with self._cuda.current(self._where):
            self._stream.synchronize()

    def _first_run(self, batch: int, written: frozenset[str]) -> None:
        new = self._open_batch(batch, written)
        self._enqueue(new)  # TensorRT finishes its own preparations in here, which must not be captured
        self._stream.synchronize()
        self._batches[batch, written] = new
        try:
            new.graph = self._stream.capture(lambda: self._enqueue(new))
        except EngineError as error:
            _log.warning("%s: no CUDA graph for batches of %d, kernels start singly: %s", self._where, batch, error)

    def _open_batch(self, batch: int, written: frozenset[str]) -> _Batch:
        context = self._engine.create_execution_context(tensorrt().ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            raise self._refusal(f"gives no context for batches of {batch}")
        if self._scratch is not None:
            context.set_device_memory(self._scratch.address, self._engine.device_memory_size_v2)
        fitting = [index for index, one in enumerate(self._profiles) if one.least <= batch <= one.most]
        if not fitting or not context.set_optimization_profile_async(fitting[0], self._stream.handle):
            raise self._refusal(f"has no profile for batches of {batch}")
        self._stream.synchronize()
        for name, memory in self._memory.items():
            if name in self._inputs and not context.set_input_shape(name, (batch, *self._inputs[name].shape[1:])):
                raise self._refusal(f"refuses {batch} rows of {name!r}")
            if not context.set_tensor_address(name, memory.address):
                raise self._refusal(f"refuses the memory of {name!r}")
        for name, host in self._outputs.items():
            if (shape := tuple(context.get_tensor_shape(name))) != (batch, *host.shape[1:]):
                raise self._refusal(f"gives {name!r} in shape {shape} for {batch} rows")
        return _Batch(
            context,
            [(self._memory[name], host[:batch]) for name, host in self._inputs.items() if name not in written],
            [(host[:batch], self._memory[name]) for name, host in self._outputs.items()],
        )

    def _enqueue(self, batch: _Batch) -> None:
        for memory, host in batch.uploads:
            self._stream.upload(memory, host)
        if not batch.context.execute_async_v3(self._stream.handle):
            raise self._refusal("could not run the engine")
        for host, memory in batch.downloads:
            self._stream.download(host, memory)

    def _refusal(self, what: str) -> EngineError:
        return EngineError(f"{self._where}: TensorRT {self._version} {what}: {take_errors()}")

    def describe(self) -> EngineDescription:
        """Say what really runs."""
        captured = {batch for (batch, _), known in self._batches.items() if known.graph is not None}
        replayed = [str(batch) for batch in sorted(captured)]
        single = [str(batch) for batch in sorted({batch for batch, _ in self._batches} - captured)]
        notes = [*self._notes]
        if replayed:
            notes.append(f"CUDA graph for batches of {', '.join(replayed)}")
        if single:
            notes.append(f"no CUDA graph for batches of {', '.join(single)}: capture failed")
        return EngineDescription(
            role=self._role,
            file=self._file,
            precision=self._precision,
            runtime=f"tensorrt {self._version}",
            providers=("TensorRT",),
            threads=None,
            max_batch=self._max_batch,
            notes=tuple(notes),
        )

    def close(self) -> None:
        """Release the engine and its memory on the GPU; may be called twice.

        `inputs` and `outputs` stay readable as long as somebody holds them.
        """
        if self._engine is None:
            return
        with self._cuda.current(self._where):
            for batch in self._batches.values():
                if batch.graph is not None:
                    batch.graph.close()
            self._batches.clear()  # contexts go before their engine, the engine before its runtime
            self._engine = None
            self._runtime = None
            for memory in (*self._memory.values(), *(() if self._scratch is None else (self._scratch,))):
                memory.free()
            self._memory.clear()
            self._scratch = None
            if self._stream is not None and self._own_stream:
                self._stream.close()
            self._stream = None
