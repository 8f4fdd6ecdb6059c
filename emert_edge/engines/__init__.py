"""One protocol, one file a runtime."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emert_edge.bundle.bundle import Bundle
from emert_edge.bundle.manifest import Manifest, Precision, Role, Target
from emert_edge.engines.device import (
    Device,
    cuda_fault,
    default_threads,
    driver_fault,
    parse_device,
    require,
    tensorrt_way,
)
from emert_edge.engines.engine import MAX_BATCH, Engine, EngineDescription, GpuEngine
from emert_edge.engines.onnx_runtime import OnnxRuntimeEngine
from emert_edge.engines.tensors import require_inputs
from emert_edge.errors import BundleIncompatible, DeviceUnavailable, EngineError

if TYPE_CHECKING:
    from emert_edge.kernels import cuda

__all__ = [
    "Device",
    "Engine",
    "EngineDescription",
    "EngineSet",
    "GpuEngine",
    "choose_precision",
    "default_threads",
    "open_engines",
    "tensor_shapes",
]

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")

_log = logging.getLogger("emert_edge")


@dataclass(frozen=True, slots=True)
class EngineSet:
    """The engines of one bundle on one device; a bundle without fixation tokens has no fixation encoder."""

    device: Device
    precision: Precision
    threads: int
    face_encoder: Engine
    fixation_encoder: Engine | None
    head: Engine
    on_gpu: bool = False
    """Whether all of them are `GpuEngine`s, in one stream, beside kernels that can run on their GPU."""
    release: Callable[[], None] = lambda: None
    """Ends what they share, after them."""

    def all(self) -> tuple[Engine, ...]:
        """Return the engines that exist."""
        return tuple(engine for engine in (self.face_encoder, self.fixation_encoder, self.head) if engine is not None)

    def close(self) -> None:
        """Close them all; may be called twice."""
        for engine in self.all():
            engine.close()
        self.release()


def tensor_shapes(manifest: Manifest) -> dict[Role, dict[str, tuple[int, ...]]]:
    """Return the shape of one row of every tensor that a bundle's graphs may have, by role and name."""
    window, labels, width = manifest.window, manifest.labels, manifest.token_width
    head: dict[str, tuple[int, ...]] = {"face_tokens": (window.face_tokens, width), "expression_intensity": (1,)}
    if manifest.eye is not None:
        head["eye_tokens"] = (window.eye_tokens, len(manifest.eye.features))
    if manifest.points is not None:
        head["gaze_points"] = (window.eye_tokens, 2)
    if manifest.fixation is not None:
        head["fixation_tokens"] = (window.face_tokens, width)
    if manifest.profile != "published":  # that code knows no masks
        masks = {name.replace("tokens", "mask"): shape[:1] for name, shape in head.items() if name.endswith("_tokens")}
        head |= masks
    for task, classes in (("emotion", labels.emotion), ("expression", labels.expression)):
        if classes is not None:
            head[f"{task}_logits"] = (len(classes),)
            head[f"{task}_polarity_logits"] = (len(labels.polarity or ()),)
        head |= {f"{task}_valence_arousal": (2,), f"{task}_valence": (1,), f"{task}_arousal": (1,)}
    if labels.reactions is not None:
        head["reactions"] = (len(labels.reactions),)
    face: dict[str, tuple[int, ...]] = {"frame": (3, *manifest.face.size), "face_token": (width,)}
    if labels.expression is not None:
        face["expression_logits"] = (len(labels.expression),)
    fixation: dict[str, tuple[int, ...]] = {}
    if manifest.fixation is not None:
        fixation = {"fused": (4, *manifest.fixation.size), "fixation_token": (width,)}
    return {"face_encoder": face, "fixation_encoder": fixation, "head": head}


def open_engines(
    bundle: Bundle,
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    build_engines: bool = True,
) -> EngineSet:
    """Open a bundle's graphs on a device.

    `auto` chooses TensorRT where engines of all graphs lie in the cache already, else a GPU that ONNX Runtime can use,
    else the CPU; it never builds. Of precisions it takes the fastest that the bundle has evidence for (INT8 on a CPU,
    FP16 on a GPU), and FP32 without any. What is named is had or is an error.

    Parameters
    ----------
    build_engines
        Whether a TensorRT engine that is missing, or does not fit, may be built here, which takes minutes.

    Raises
    ------
    DeviceUnavailable
        The named device cannot be had here, with the reason.
    BundleIncompatible
        The bundle lacks the named precision or a graph.
    EngineMismatch
        An engine that fits is missing, and building was not allowed.
    EngineError
        An engine cannot be built or opened.
    ValueError, TypeError
        A name is unknown, or `threads` is not a positive integer.
    """
    if precision != "auto" and precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is unknown; use auto, {', '.join(PRECISIONS)}")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int)):
        raise TypeError(f"threads must be an integer, not {type(threads).__name__}")
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    wanted = parse_device(device)
    if wanted is not None:
        require(wanted, device)
        return _open(bundle, wanted, precision, threads, build_engines)
    if (engines := _open_built(bundle, precision, threads)) is not None:
        return engines
    return _open(bundle, Device("cpu") if cuda_fault() else Device("cuda"), precision, threads, False)


def choose_precision(bundle: Bundle, device: Device, precision: str) -> Precision:
    """Return the precision that a name stands for on a device; see `open_engines`.

    Raises
    ------
    BundleIncompatible
        The bundle has no graphs in it.
    """
    target = _target(device)
    available = bundle.precisions(target)
    if precision == "auto":
        faster: Precision = "int8" if device.kind == "cpu" else "fp16"
        proven: tuple[Precision, ...] = (faster,) if bundle.manifest.accepts(faster, target) else ()
        preferred: tuple[Precision, ...] = (*proven, "fp32", "fp16")
    else:
        preferred = tuple(known for known in PRECISIONS if known == precision)
    for choice in preferred:
        if choice in available:
            return choice
    raise BundleIncompatible(
        f"{bundle.path}: no {' or '.join(preferred)} graphs for {device}; "
        f"the bundle has {', '.join(available) or 'none'}"
    )


def _target(device: Device) -> Target:
    """Which graphs are made for a device: ONNX Runtime on CUDA runs those of the CPU."""
    return "tensorrt" if device.kind == "tensorrt" else "cpu"


def _open_built(bundle: Bundle, precision: str, threads: int | None) -> EngineSet | None:
    """Open a bundle's engines on TensorRT if all of them lie in the cache and fit."""
    if driver_fault(0):
        return None
    from emert_edge.engines.cache import EngineCache

    if not any(EngineCache().entries()) or tensorrt_way()[0] != "bindings":  # the bindings take a while to load
        return None
    try:
        return _open(bundle, Device("tensorrt"), precision, threads, False)
    except (BundleIncompatible, DeviceUnavailable, EngineError) as error:
        _log.info("device 'auto' passes TensorRT over: %s", error)
        return None


@dataclass(frozen=True, slots=True)
class _Opener:
    """What opens the graphs of one set of engines."""

    open: Callable[[Role, Mapping[str, tuple[int, ...]]], Engine]
    on_gpu: bool
    release: Callable[[], None] = lambda: None


def _opener(bundle: Bundle, device: Device, precision: Precision, threads: int, build_engines: bool) -> _Opener:
    if device.kind == "tensorrt" and tensorrt_way(device.index)[0] == "bindings":
        from emert_edge.engines.provision import EngineSupply

        supply = EngineSupply(device)
        if on_gpu := kernel_fault(device) is None:
            supply.share_stream()
        return _Opener(
            lambda role, shapes: supply.open(bundle, role, precision, shapes, build=build_engines),
            on_gpu,
            supply.close,
        )
    stream = kernel_stream(device)
    return _Opener(
        lambda role, shapes: OnnxRuntimeEngine(
            bundle,
            role,
            precision,
            device=device,
            threads=threads,
            max_batch=MAX_BATCH,
            shapes=shapes,
            stream=stream,
        ),
        stream is not None,
    )


def _open(bundle: Bundle, device: Device, precision: str, threads: int | None, build_engines: bool) -> EngineSet:
    chosen = choose_precision(bundle, device, precision)
    count = threads or default_threads()
    shapes = tensor_shapes(bundle.manifest)
    if missing := [role for role, tensors in shapes.items() if tensors and not bundle.has_role(role)]:
        raise BundleIncompatible(f"{bundle.path}: the bundle has no graph of the {' or the '.join(missing)}")
    opener = _opener(bundle, device, chosen, count, build_engines)
    opened: dict[Role, Engine] = {}
    try:
        for role, tensors in shapes.items():
            if tensors:
                opened[role] = opener.open(role, tensors)
                require_inputs(f"{bundle.path}: the {role}", opened[role].inputs, tensors)
    except BaseException:
        for engine in opened.values():
            engine.close()
        opener.release()
        raise
    return EngineSet(
        device,
        chosen,
        count,
        opened["face_encoder"],
        opened.get("fixation_encoder"),
        opened["head"],
        on_gpu=opener.on_gpu,
        release=opener.release,
    )


def kernel_fault(device: Device) -> str | None:
    """Return why the kernels cannot run on a device beside its engines, so that all goes through the host, or None."""
    from emert_edge.kernels import cuda

    return cuda.fault(device.index)


def kernel_stream(device: Device) -> cuda.Stream | None:
    """Make the stream in which kernels and ONNX Runtime work together, where they can."""
    if device.kind != "cuda" or kernel_fault(device) is not None:
        return None
    from emert_edge.kernels import cuda

    return cuda.Stream(device.index)
