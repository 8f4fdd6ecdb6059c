"""ONNX Runtime: the embedded default, on the CPU or through its CUDA or its TensorRT provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from emert_edge.bundle.bundle import Bundle
from emert_edge.bundle.manifest import Precision, Role
from emert_edge.engines.device import Device
from emert_edge.engines.engine import EngineDescription
from emert_edge.engines.tensors import check_tensor
from emert_edge.errors import DeviceUnavailable, EngineError

if TYPE_CHECKING:
    from emert_edge.kernels import cuda

__all__ = ["OnnxRuntimeEngine"]


class OnnxRuntimeEngine:
    """One graph in one `onnxruntime.InferenceSession`, bound to preallocated buffers.

    Parameters
    ----------
    bundle, role, precision
        Which graph.
    device
        `cpu`, `cuda:N` or `tensorrt:N`. A named GPU whose provider does not come up is an error, never a fallback;
        TensorRT's provider builds its engine when it first opens a graph, and takes the whole graph or none of it.
    threads
        Threads of one operator.
    max_batch
        Rows of the preallocated buffers.
    shapes
        Shape of one row by tensor name, for checking the graph against the manifest.
    stream
        Of the GPU, to compute in, with buffers there which others may write and read; without one all goes through the
        host.
    exact
        Compute Q/DQ pairs as they are written, in float: what a board computes of a graph that was placed for it, where
        the kernels of this CPU would quantise biases too and saturate.
    """

    def __init__(
        self,
        bundle: Bundle,
        role: Role,
        precision: Precision,
        *,
        device: Device,
        threads: int,
        max_batch: int,
        shapes: Mapping[str, tuple[int, ...]],
        stream: cuda.Stream | None = None,
        exact: bool = False,
    ) -> None:
        import onnxruntime

        graph = bundle.graph(role, precision, "tensorrt" if device.kind == "tensorrt" else "cpu")
        where = f"{bundle.path}: {graph.file}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        # Threads wait for their next layer awake, a layer being shorter than a wake-up, and sleep between two runs.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        content = bundle.read(graph.file)
        if device.kind == "tensorrt":
            from emert_edge.engines.tensorrt_provider import provider_engine

            sha256 = bundle.manifest.files[graph.file].sha256
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            with provider_engine(device.index, sha256, shapes, max_batch) as provider:
                session = _open_session(where, content, options, [("TensorrtExecutionProvider", provider)], device)
        else:
            providers: list[Any] = ["CPUExecutionProvider"]
            if device.kind == "cuda":
                provider = {"device_id": device.index}
                if stream is not None:
                    provider["user_compute_stream"] = str(stream.handle)
                providers.insert(0, ("CUDAExecutionProvider", provider))
            session = _open_session(where, content, options, providers, device)
        self._session: Any = session
        self._providers = tuple(session.get_providers())
        self._description = EngineDescription(
            role=role,
            file=graph.file,
            precision=graph.precision,
            runtime=f"onnxruntime {onnxruntime.__version__}",
            providers=self._providers,
            threads=threads,
            max_batch=max_batch,
        )
        self._device, self._stream, self._max_batch = device, stream, max_batch
        self._inputs = self._allocate(where, session.get_inputs(), shapes)
        self._outputs = self._allocate(where, session.get_outputs(), shapes)
        self._on_gpu: dict[str, cuda.DeviceArray] = {}
        self._options: Any = None
        if stream is not None:
            from emert_edge.kernels import cuda

            for name, host in (*self._inputs.items(), *self._outputs.items()):
                self._on_gpu[name] = cuda.empty(host.shape, device=device.index)
            self._options = onnxruntime.RunOptions()
            self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._binding: Any = session.io_binding()
        self._bound = 0

    def _allocate(
        self, where: str, tensors: Any, shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, npt.NDArray[np.float32]]:
        allocate: Any = np.empty
        if self._stream is not None:
            from emert_edge.kernels.cuda import pinned as allocate
        buffers = {}
        for tensor in tensors:
            kind = "float32" if tensor.type == "tensor(float)" else tensor.type
            shape = [size if isinstance(size, int) else None for size in tensor.shape]
            row = check_tensor(where, tensor.name, shape, kind, shapes)
            buffers[tensor.name] = allocate((self._max_batch, *row), np.float32)
            buffers[tensor.name][:] = 0
        return buffers

    @property
    def max_batch(self) -> int:
        """The most rows one `run` takes."""
        return self._max_batch

    @property
    def inputs(self) -> Mapping[str, npt.NDArray[np.float32]]:
        """Input buffers by tensor name, `(max_batch, …)` float32, on the host."""
        return self._inputs

    @property
    def outputs(self) -> Mapping[str, npt.NDArray[np.float32]]:
        """Output buffers by tensor name, `(max_batch, …)` float32, on the host."""
        return self._outputs

    def run(self, batch: int) -> None:
        """Compute the first `batch` rows of the outputs.

        Raises
        ------
        ValueError
            `batch` is not within 1 and `max_batch`.
        EngineError
            ONNX Runtime failed.
        """
        if self._stream is None:
            self._compute(batch)
        else:
            self.enqueue(batch, frozenset())
            self.wait()

    def _require(self, batch: int) -> None:
        if not 1 <= batch <= self._max_batch:
            raise ValueError(f"batch must be within 1 and {self._max_batch}, not {batch}")
        if self._session is None:
            raise EngineError(f"the engine of {self._description.file} is closed")

    def _compute(self, batch: int) -> None:
        self._require(batch)
        try:
            # A binding stays true while the batch does, but for a GPU provider's to memory of the host: it copies
            # inputs when they are bound.
            if self._bound != batch or (self._stream is None and self._device.kind != "cpu"):
                self._bind(batch)
            self._session.run_with_iobinding(self._binding, self._options)
        except Exception as error:  # see above
            self._bound = 0
            raise EngineError(f"ONNX Runtime failed in {self._description.file}: {_first_line(error)}") from error

    def _bind(self, batch: int) -> None:
        for buffers, bind in ((self._inputs, self._binding.bind_input), (self._outputs, self._binding.bind_output)):
            for name, buffer in buffers.items():
                kind, index, address = "cpu", 0, buffer.ctypes.data
                if name in self._on_gpu:
                    kind, index, address = self._device.kind, self._device.index, self._on_gpu[name].address
                bind(name, kind, index, np.float32, (batch, *buffer.shape[1:]), address)
        self._bound = batch

    # -- on the GPU ---------------------------------------------------------------------------------------------------

    @property
    def stream(self) -> int:
        """The stream in which it computes."""
        assert self._stream is not None
        return self._stream.handle

    def on_gpu(self, name: str) -> cuda.DeviceArray:
        """Return an input's or output's buffer on the GPU, `(max_batch, …)` float32."""
        return self._on_gpu[name]

    def enqueue(self, batch: int, written: frozenset[str]) -> None:
        """Enqueue a run, and return; see `GpuEngine`.

        Raises
        ------
        ValueError, EngineError
            As `run`.
        """
        from emert_edge.kernels import cuda

        self._require(batch)
        for name, host in self._inputs.items():
            if name not in written:
                cuda.copy(self._first(name, batch), host[:batch], stream=self._stream)
        self._compute(batch)
        for name, host in self._outputs.items():
            cuda.copy(host[:batch], self._first(name, batch), stream=self._stream)

    def wait(self) -> None:
        """Wait until all that was enqueued in the stream is done."""
        assert self._stream is not None
        self._stream.synchronize()

    def _first(self, name: str, batch: int) -> cuda.DeviceArray:
        return self._on_gpu[name].first(batch)

    # -- end ----------------------------------------------------------------------------------------------------------

    def describe(self) -> EngineDescription:
        """Say what really runs."""
        return self._description

    def close(self) -> None:
        """Release the session; may be called twice."""
        self._binding = None
        self._session = None
        self._on_gpu.clear()


def _open_session(where: str, content: bytes, options: Any, providers: list[Any], device: Device) -> Any:
    import onnxruntime

    # left to itself it would tell of a failure by printing, and go on on the CPU
    settings: dict[str, Any] = {} if device.kind == "cpu" else {"enable_fallback": 0}
    try:
        session = onnxruntime.InferenceSession(content, sess_options=options, providers=providers, **settings)
    except Exception as error:  # onnxruntime raises its own kinds, which derive from nothing in common
        raise EngineError(f"{where}: ONNX Runtime cannot load it on {device}: {_first_line(error)}") from error
    name = {"cpu": "CPU", "cuda": "CUDA", "tensorrt": "Tensorrt"}[device.kind]
    if f"{name}ExecutionProvider" not in session.get_providers():
        raise DeviceUnavailable(
            f"device {str(device)!r} cannot be had: ONNX Runtime's {name} provider did not start for {where} "
            "(its CUDA, cuDNN or TensorRT libraries do not fit; run `emert-edge doctor`)"
        )
    return session


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
