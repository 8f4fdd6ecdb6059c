"""ONNX Runtime: the embedded default, on the CPU or through its CUDA or its TensorRT provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from emert_edge.bundle.bundle import Bundle
from emert_edge.bundle.manifest import Precision, Role
from emert_edge.engines.device import Device
from emert_edge.engines.engine import EngineDescription
from emert_edge.engines.tensors import check_tensor
from emert_edge.errors import DeviceUnavailable, EngineError

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
                providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index}))
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
        self._max_batch = max_batch
        self._inputs = self._allocate(where, session.get_inputs(), shapes)
        self._outputs = self._allocate(where, session.get_outputs(), shapes)
        self._binding: Any = session.io_binding()
        self._bound = 0

    def _allocate(
        self, where: str, tensors: Any, shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, npt.NDArray[np.float32]]:
        buffers = {}
        for tensor in tensors:
            kind = "float32" if tensor.type == "tensor(float)" else tensor.type
            shape = [size if isinstance(size, int) else None for size in tensor.shape]
            row = check_tensor(where, tensor.name, shape, kind, shapes)
            buffers[tensor.name] = np.zeros((self._max_batch, *row), np.float32)
        return buffers

    @property
    def max_batch(self) -> int:
        """The most rows one `run` takes."""
        return self._max_batch

    @property
    def inputs(self) -> Mapping[str, npt.NDArray[np.float32]]:
        """Input buffers by tensor name, `(max_batch, …)` float32."""
        return self._inputs

    @property
    def outputs(self) -> Mapping[str, npt.NDArray[np.float32]]:
        """Output buffers by tensor name, `(max_batch, …)` float32."""
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
        if not 1 <= batch <= self._max_batch:
            raise ValueError(f"batch must be within 1 and {self._max_batch}, not {batch}")
        if self._session is None:
            raise EngineError(f"the engine of {self._description.file} is closed")
        try:
            if self._bound != batch or self._providers[0] != "CPUExecutionProvider":
                self._bind(batch)
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # see above
            self._bound = 0
            raise EngineError(f"ONNX Runtime failed in {self._description.file}: {_first_line(error)}") from error

    def _bind(self, batch: int) -> None:
        # On the CPU a binding stays true while the batch does. A GPU provider copies inputs when they are bound, so
        # they are bound anew for each run.
        for name, buffer in self._inputs.items():
            self._binding.bind_input(name, "cpu", 0, np.float32, (batch, *buffer.shape[1:]), buffer.ctypes.data)
        for name, buffer in self._outputs.items():
            self._binding.bind_output(name, "cpu", 0, np.float32, (batch, *buffer.shape[1:]), buffer.ctypes.data)
        self._bound = batch

    def describe(self) -> EngineDescription:
        """Say what really runs."""
        return self._description

    def close(self) -> None:
        """Release the session; may be called twice."""
        self._binding = None
        self._session = None


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
