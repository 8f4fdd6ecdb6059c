"""TensorRT's Python bindings as far as this package uses them, computing with ONNX Runtime on the CPU.

Names are the bindings' own: `test_tensorrt_contract.py` holds every class, member and call of this double against the
real bindings of each version. It is stricter than the real thing where a mistake would be silent there: a context that
changes after its graph was captured, preparations that would be captured, an engine read without a CUDA context.
"""

from __future__ import annotations

import enum
import functools
import pickle
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from .cuda_double import FakeGpu

__all__ = ["Call", "make_tensorrt"]


class Call(NamedTuple):
    """A call of the bindings: class, member, how many arguments by place, and which by name."""

    kind: str
    member: str
    places: int
    names: tuple[str, ...]


def make_tensorrt(version: str, gpu: FakeGpu) -> ModuleType:
    """Return a module `tensorrt` of a version, on a GPU.

    The module's `calls` lists what was called. `faults` may be filled: "parse" with (node, operator, words), "build"
    with words, "strong typing" with words for strongly typed networks alone, "timings" with a number that the GPU's
    other driver has measured under, "context", "run" and "read" with words, "wrong" with what is added to every output.
    """
    module = ModuleType("tensorrt")
    module.__spec__ = ModuleSpec("tensorrt", None)
    calls: list[Call] = []
    faults: dict[str, Any] = {}
    old = int(version.split(".")[0]) < 11

    def recorded(method: Callable[..., Any]) -> Callable[..., Any]:
        kind, member = method.__qualname__.split(".")[-2:]

        @functools.wraps(method)
        def call(self: Any, *places: Any, **names: Any) -> Any:
            calls.append(Call(kind, member, len(places), tuple(names)))
            return method(self, *places, **names)

        return call

    class Severity(enum.IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    class ILogger:
        @recorded
        def __init__(self) -> None:
            pass

        def log(self, severity: Severity, msg: str) -> None:
            raise NotImplementedError

    ILogger.Severity = Severity  # type: ignore[attr-defined]

    class IProgressMonitor:
        @recorded
        def __init__(self) -> None:
            pass

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            raise NotImplementedError

        def step_complete(self, phase_name: str, step: int) -> bool:
            raise NotImplementedError

        def phase_finish(self, phase_name: str) -> None:
            raise NotImplementedError

    data_type = enum.Enum("DataType", ("FLOAT", "HALF", "INT64"))
    io_mode = enum.Enum("TensorIOMode", ("NONE", "INPUT", "OUTPUT"))
    strategy = enum.Enum("ExecutionContextAllocationStrategy", ("STATIC", "ON_PROFILE_CHANGE", "USER_MANAGED"))
    builder_flag = enum.Enum("BuilderFlag", ("TF32", *(("FP16", "INT8") if old else ())))
    network_flag = enum.IntEnum("NetworkDefinitionCreationFlag", {"STRONGLY_TYPED": 1})

    class ITensor:
        def __init__(self, name: str, kind: str, shape: list[Any]) -> None:
            self._name, self._shape = name, tuple(size if isinstance(size, int) else -1 for size in shape)
            self._dtype = {"tensor(float)": data_type.FLOAT, "tensor(float16)": data_type.HALF}.get(
                kind, data_type.INT64
            )

        @property
        def name(self) -> str:
            return self._name

        @property
        def dtype(self) -> Any:
            return self._dtype

        @property
        def shape(self) -> tuple[int, ...]:
            return self._shape

    class INetworkDefinition:
        def __init__(self, flags: int) -> None:
            self._strong = bool(flags & (1 << int(network_flag.STRONGLY_TYPED)))
            self._model = b""
            self._inputs: list[ITensor] = []
            self._outputs: list[ITensor] = []

        @property
        def num_inputs(self) -> int:
            return len(self._inputs)

        @property
        def num_outputs(self) -> int:
            return len(self._outputs)

        @recorded
        def get_input(self, index: int) -> ITensor:
            return self._inputs[index]

        @recorded
        def get_output(self, index: int) -> ITensor:
            return self._outputs[index]

    class ParserError:
        def __init__(self, node: str, operator: str, words: str) -> None:
            self._node, self._operator, self._words = node, operator, words

        @recorded
        def desc(self) -> str:
            return self._words

        @recorded
        def node_name(self) -> str:
            return self._node

        @recorded
        def node_operator(self) -> str:
            return self._operator

    class OnnxParser:
        @recorded
        def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
            self._network, self._errors = network, list[ParserError]()

        @recorded
        def parse(self, model: bytes) -> bool:
            if fault := faults.get("parse"):
                self._errors.append(ParserError(*fault))
                return False
            session = _session(model)
            self._network._model = bytes(model)
            self._network._inputs = [ITensor(one.name, one.type, one.shape) for one in session.get_inputs()]
            self._network._outputs = [ITensor(one.name, one.type, one.shape) for one in session.get_outputs()]
            return True

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        @recorded
        def get_error(self, index: int) -> ParserError:
            return self._errors[index]

    class IOptimizationProfile:
        def __init__(self) -> None:
            self._shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

        @recorded
        def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # the bindings' names
            self._shapes[input] = (tuple(min), tuple(opt), tuple(max))

    class ITimingCache:
        def __init__(self, content: bytes) -> None:
            self._content = content

        @recorded
        def serialize(self) -> bytes:
            return self._content

    class IBuilderConfig:
        def __init__(self) -> None:
            self._flags = {builder_flag.TF32}
            self._profiles: list[IOptimizationProfile] = []
            self._timings: ITimingCache | None = None
            self._monitor: IProgressMonitor | None = None

        @recorded
        def set_flag(self, flag: Any) -> None:
            self._flags.add(builder_flag(flag))

        @recorded
        def clear_flag(self, flag: Any) -> None:
            self._flags.discard(builder_flag(flag))

        @recorded
        def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
            sound = profile._shapes and all(low <= best <= high for low, best, high in profile._shapes.values())
            self._profiles.append(profile)
            return len(self._profiles) - 1 if sound else -1

        @recorded
        def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
            return ITimingCache(bytes(serialized_timing_cache))

        @recorded
        def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
            if cache._content and not cache._content.startswith(_measured()):
                return False
            self._timings = cache
            return True

        @property
        def progress_monitor(self) -> IProgressMonitor | None:
            return self._monitor

        @progress_monitor.setter
        def progress_monitor(self, monitor: IProgressMonitor) -> None:
            self._monitor = monitor

    def _measured() -> bytes:
        return f"{gpu.name} {version} {faults.get('timings', 0)}:".encode()

    class Builder:
        @recorded
        def __init__(self, logger: ILogger) -> None:
            assert isinstance(logger, ILogger)
            self._logger = logger

        @recorded
        def create_network(self, flags: int = 0) -> INetworkDefinition:
            return INetworkDefinition(flags)

        @recorded
        def create_builder_config(self) -> IBuilderConfig:
            return IBuilderConfig()

        @recorded
        def create_optimization_profile(self) -> IOptimizationProfile:
            return IOptimizationProfile()

        @recorded
        def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytes | None:
            gpu.require_context()
            monitor = config._monitor
            if monitor is not None:
                monitor.phase_start("Building", None, 2)
                monitor.phase_start("Timing", "Building", 1)
                go_on = monitor.step_complete("Timing", 0)
                monitor.phase_finish("Timing")
                go_on = go_on and monitor.step_complete("Building", 0) and monitor.step_complete("Building", 1)
                monitor.phase_finish("Building")
                if not go_on:
                    return None
            words = faults.get("build") or (faults.get("strong typing") if network._strong else None)
            if words:
                self._logger.log(Severity.ERROR, words)
                return None
            assert network._strong or old, "TensorRT 11 knows strongly typed networks alone"
            assert config._timings is not None
            config._timings._content = (config._timings._content or _measured()) + b"+"
            return pickle.dumps(
                {
                    "version": version,
                    "gpu": (gpu.name, gpu.sm),
                    "model": network._model,
                    "profiles": [profile._shapes for profile in config._profiles],
                    "strong": network._strong,
                    "flags": sorted(flag.name for flag in config._flags),
                }
            )

    class IExecutionContext:
        def __init__(self, engine: ICudaEngine) -> None:
            self._engine = engine
            self._scratch = 0
            self._profile: int | None = None
            self._shapes: dict[str, tuple[int, ...]] = {}
            self._addresses: dict[str, int] = {}
            self._prepared = self._captured = False

        def _change(self) -> None:
            assert not self._captured, "a context is changed after its graph was captured"
            self._prepared = False

        @recorded
        def set_device_memory(self, memory: int, size: int) -> None:
            self._change()
            assert len(gpu.memory[memory]) >= size
            self._scratch = size

        @recorded
        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            self._change()
            self._profile = profile_index
            return 0 <= profile_index < self._engine.num_optimization_profiles

        @recorded
        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            self._change()
            assert self._profile is not None
            low, _, high = self._engine._plan["profiles"][self._profile][name]
            self._shapes[name] = shape
            return bool(low <= shape <= high)

        @recorded
        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._change()
            self._addresses[name] = memory
            return True

        @recorded
        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            batch = next(iter(self._shapes.values()))[0]
            return (batch, *self._engine.get_tensor_shape(name)[1:])

        @recorded
        def execute_async_v3(self, stream_handle: int) -> bool:
            if faults.get("run"):
                self._engine._logger.log(Severity.ERROR, faults["run"])
                return False
            capturing = gpu.streams[stream_handle].captured is not None
            assert not capturing or self._prepared, "TensorRT's own preparations would be captured"
            assert self._scratch >= self._engine.device_memory_size_v2
            self._prepared, self._captured = True, self._captured or capturing
            session, shapes, addresses = self._engine._session, dict(self._shapes), dict(self._addresses)
            results = [one.name for one in session.get_outputs()]
            sizes = {name: self.get_tensor_shape(name) for name in results}

            def compute() -> None:
                given = {
                    name: gpu.at(addresses[name], 4 * int(np.prod(shape))).view(np.float32).reshape(shape)
                    for name, shape in shapes.items()
                }
                for name, values in zip(results, session.run(results, given), strict=True):
                    target = gpu.at(addresses[name], 4 * int(np.prod(sizes[name]))).view(np.float32)
                    target[:] = values.reshape(-1) + faults.get("wrong", 0)

            gpu.enqueue(stream_handle, "execute", compute)
            return True

    class ICudaEngine:
        def __init__(self, plan: dict[str, Any], logger: ILogger) -> None:
            self._plan, self._logger = plan, logger
            self._session = _session(plan["model"])
            self._tensors = {
                one.name: (mode, ITensor(one.name, one.type, one.shape))
                for mode, tensors in (
                    (io_mode.INPUT, self._session.get_inputs()),
                    (io_mode.OUTPUT, self._session.get_outputs()),
                )
                for one in tensors
            }

        @property
        def num_io_tensors(self) -> int:
            return len(self._tensors)

        @property
        def num_optimization_profiles(self) -> int:
            return len(self._plan["profiles"])

        @property
        def device_memory_size_v2(self) -> int:
            return 4096

        @recorded
        def get_tensor_name(self, index: int) -> str:
            return list(self._tensors)[index]

        @recorded
        def get_tensor_mode(self, name: str) -> Any:
            return self._tensors[name][0]

        @recorded
        def get_tensor_dtype(self, name: str) -> Any:
            return self._tensors[name][1].dtype

        @recorded
        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self._tensors[name][1].shape

        @recorded
        def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
            return list(self._plan["profiles"][profile_index][name])

        @recorded
        def create_execution_context(self, strategy: Any) -> IExecutionContext | None:
            assert strategy.name == "USER_MANAGED"
            if words := faults.get("context"):
                self._logger.log(Severity.ERROR, words)
                return None
            return IExecutionContext(self)

    class Runtime:
        @recorded
        def __init__(self, logger: ILogger) -> None:
            self._logger = logger

        @recorded
        def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
            gpu.require_context()  # where the real one ends the process
            plan = pickle.loads(serialized_engine)
            if plan["version"] != version or plan["gpu"] != (gpu.name, gpu.sm) or faults.get("read"):
                self._logger.log(Severity.ERROR, faults.get("read") or "The engine plan file is not compatible")
                return None
            return ICudaEngine(plan, self._logger)

    members = {
        kind.__name__: kind
        for kind in (
            ILogger, IProgressMonitor, ITensor, INetworkDefinition, ParserError, OnnxParser, IOptimizationProfile,
            ITimingCache, IBuilderConfig, Builder, IExecutionContext, ICudaEngine, Runtime, data_type, io_mode,
            strategy, builder_flag, network_flag,
        )
    }  # fmt: skip
    for name, member in (*members.items(), ("__version__", version), ("calls", calls), ("faults", faults)):
        setattr(module, name, member)
    return module


def _session(model: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(bytes(model), sess_options=options, providers=["CPUExecutionProvider"])
