"""Building a TensorRT engine from an ONNX graph: one path for every version and precision.

The graph's types decide (a strongly typed network). TensorRT 10 has flags for FP16 and INT8 as well: they are used on
the same file when a strongly typed build fails there, and the engine says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emert_edge.bundle.manifest import Precision
from emert_edge.engines.cache import Profile
from emert_edge.engines.tensorrt_library import check_binding, take_errors, tensorrt, tensorrt_log
from emert_edge.engines.tensors import require_inputs
from emert_edge.errors import EngineError

__all__ = ["Built", "Progress", "build_engine"]

Progress = Callable[[str, float], None]
"""Called with what TensorRT is at, in its words, and how much of that is done, from 0 to 1; from any thread."""

_log = logging.getLogger("emert_edge")


@dataclass(frozen=True, slots=True)
class Built:
    """A serialised engine, what was measured while building it, and whether the graph's types decided."""

    plan: bytes
    timings: bytes
    strongly_typed: bool


def build_engine(
    model: bytes,
    where: str,
    *,
    precision: Precision,
    profiles: Sequence[Profile],
    shapes: Mapping[str, tuple[int, ...]],
    timings: bytes = b"",
    progress: Progress | None = None,
) -> Built:
    """Build an engine for the GPU that is current.

    Parameters
    ----------
    model
        The ONNX file's content.
    where
        Bundle and file, for messages.
    precision
        Which flags stand in where strong typing fails on TensorRT 10.
    profiles
        Batch sizes.
    shapes
        Shape of one row by tensor name.
    timings
        What earlier builds measured; empty for a start from nothing.

    Raises
    ------
    EngineError
        TensorRT cannot parse the graph, with the nodes' names, or cannot build it, with its own words.
    BundleIncompatible
        A tensor is not what the manifest asks for.
    """
    trt = tensorrt()
    flags = {"fp32": (), "fp16": ("FP16",), "int8": ("FP16", "INT8")}[precision]
    build = _Build(trt, model, where, profiles, shapes, timings, progress)
    try:
        return build.run(strongly_typed=True, flags=())
    except EngineError as error:
        if not hasattr(trt.BuilderFlag, "FP16"):
            raise
        _log.warning("%s; trying again with TensorRT's own choice of types", error)
        try:
            return build.run(strongly_typed=False, flags=flags)
        except EngineError:
            raise error from None  # the first failure is the one to mend


class _Build:
    def __init__(
        self,
        trt: Any,
        model: bytes,
        where: str,
        profiles: Sequence[Profile],
        shapes: Mapping[str, tuple[int, ...]],
        timings: bytes,
        progress: Progress | None,
    ) -> None:
        self._trt, self._model, self._where = trt, model, where
        self._profiles, self._shapes, self._timings, self._progress = profiles, shapes, timings, progress

    def run(self, *, strongly_typed: bool, flags: tuple[str, ...]) -> Built:
        trt = self._trt
        take_errors()
        builder = trt.Builder(tensorrt_log())
        typing = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if strongly_typed else 0
        network = builder.create_network(typing)
        self._parse(network)
        config = builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)  # FP32 means FP32; who wants speed takes an FP16 graph
        for flag in flags:
            config.set_flag(getattr(trt.BuilderFlag, flag))
        self._add_profiles(builder, network, config)
        timings = self._use_timings(config)  # must outlive the build
        monitor = _monitor(trt, self._progress) if self._progress is not None else None
        if monitor is not None:
            config.progress_monitor = monitor
        plan = builder.build_serialized_network(network, config)
        if monitor is not None and monitor.interruption is not None:
            raise monitor.interruption
        if plan is None:
            raise EngineError(f"{self._where}: TensorRT {trt.__version__} could not build the engine: {take_errors()}")
        return Built(bytes(plan), bytes(timings.serialize()), strongly_typed)

    def _parse(self, network: Any) -> None:
        trt = self._trt
        parser = trt.OnnxParser(network, tensorrt_log())
        if parser.parse(self._model):
            inputs = [network.get_input(index) for index in range(network.num_inputs)]
            outputs = [network.get_output(index) for index in range(network.num_outputs)]
            for tensors, taken in ((inputs, True), (outputs, False)):
                for one in tensors:
                    check_binding(self._where, one.name, one.dtype, tuple(one.shape), self._shapes, taken=taken)
            require_inputs(self._where, [one.name for one in inputs], self._shapes)
            return
        faults = []
        for index in range(parser.num_errors):
            error = parser.get_error(index)
            node = f"node {error.node_name()!r} ({error.node_operator()}): " if error.node_name() else ""
            faults.append(f"{node}{error.desc()}")
        said = "; ".join(faults) or take_errors()
        raise EngineError(f"{self._where}: TensorRT {trt.__version__} cannot read this graph: {said}")

    def _add_profiles(self, builder: Any, network: Any, config: Any) -> None:
        for least, best, most in self._profiles:
            profile = builder.create_optimization_profile()
            for index in range(network.num_inputs):
                name = network.get_input(index).name
                row = self._shapes[name]
                profile.set_shape(name, (least, *row), (best, *row), (most, *row))
            if config.add_optimization_profile(profile) < 0:
                raise EngineError(f"{self._where}: TensorRT refuses a profile for batches of {least} to {most}")

    def _use_timings(self, config: Any) -> Any:
        timings = config.create_timing_cache(self._timings)
        # what another driver or GPU measured is refused; then this build measures anew
        if timings is None or not config.set_timing_cache(timings, False):
            timings = config.create_timing_cache(b"")
            config.set_timing_cache(timings, False)
        return timings


def _monitor(trt: Any, progress: Progress) -> Any:
    """Make a monitor that tells the outermost phases, and stops the build when telling fails, after Ctrl-C say."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # a class of the bindings
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interruption: BaseException | None = None
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._tell(phase_name, 0, None if parent_phase else num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return self.interruption is None

        def phase_finish(self, phase_name: str) -> None:
            self._tell(phase_name, self._steps.get(phase_name, 0))

        def _tell(self, phase: str, step: int, steps: int | None = None) -> None:
            try:
                if steps is not None:
                    self._steps[phase] = steps
                if phase in self._steps:
                    progress(phase, step / max(1, self._steps[phase]))
            except BaseException as error:  # an exception must not cross TensorRT's own code
                self.interruption = self.interruption or error

    return Monitor()
