"""One protocol, one file a runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emert_edge.bundle.bundle import Bundle
from emert_edge.bundle.manifest import Manifest, Precision, Role
from emert_edge.engines.device import Device, cuda_fault, default_threads, parse_device, require
from emert_edge.engines.engine import Engine, EngineDescription
from emert_edge.engines.onnx_runtime import OnnxRuntimeEngine
from emert_edge.errors import BundleIncompatible

__all__ = ["Device", "Engine", "EngineDescription", "EngineSet", "default_threads", "open_engines", "tensor_shapes"]

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
MAX_BATCH = 8


@dataclass(frozen=True, slots=True)
class EngineSet:
    """The engines of one bundle on one device; a bundle without fixation tokens has no fixation encoder."""

    device: Device
    precision: Precision
    threads: int
    face_encoder: Engine
    fixation_encoder: Engine | None
    head: Engine

    def all(self) -> tuple[Engine, ...]:
        """Return the engines that exist."""
        return tuple(engine for engine in (self.face_encoder, self.fixation_encoder, self.head) if engine is not None)

    def close(self) -> None:
        """Close them all; may be called twice."""
        for engine in self.all():
            engine.close()


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
    bundle: Bundle, *, device: str = "auto", precision: str = "auto", threads: int | None = None
) -> EngineSet:
    """Open a bundle's graphs on a device.

    `auto` chooses a GPU where ONNX Runtime can use one and the CPU elsewhere; of precisions the fastest that the bundle
    has evidence for (INT8 on a CPU, FP16 on a GPU), and FP32 without any; what is named is had or is an error.

    Raises
    ------
    DeviceUnavailable
        The named device cannot be had here, with the reason.
    BundleIncompatible
        The bundle lacks the named precision or a graph.
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
        return _open(bundle, wanted, precision, threads)
    if cuda_fault() is None:
        return _open(bundle, Device("cuda"), precision, threads)
    return _open(bundle, Device("cpu"), precision, threads)


def _choose_precision(bundle: Bundle, device: Device, precision: str) -> Precision:
    available = bundle.precisions("cpu")
    if precision == "auto":
        faster: Precision = "int8" if device.kind == "cpu" else "fp16"
        proven: tuple[Precision, ...] = (faster,) if bundle.manifest.accepts(faster, "cpu") else ()
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


def _open(bundle: Bundle, device: Device, precision: str, threads: int | None) -> EngineSet:
    chosen = _choose_precision(bundle, device, precision)
    count = threads or default_threads()
    shapes = tensor_shapes(bundle.manifest)
    if missing := [role for role, tensors in shapes.items() if tensors and not bundle.has_role(role)]:
        raise BundleIncompatible(f"{bundle.path}: the bundle has no graph of the {' or the '.join(missing)}")
    opened: dict[Role, Engine] = {}
    try:
        for role, tensors in shapes.items():
            if tensors:
                opened[role] = OnnxRuntimeEngine(
                    bundle, role, chosen, device=device, threads=count, max_batch=MAX_BATCH, shapes=tensors
                )
                _require_inputs(bundle, role, opened[role], tensors)
    except BaseException:
        for engine in opened.values():
            engine.close()
        raise
    return EngineSet(device, chosen, count, opened["face_encoder"], opened.get("fixation_encoder"), opened["head"])


def _require_inputs(bundle: Bundle, role: Role, engine: Engine, tensors: Mapping[str, tuple[int, ...]]) -> None:
    """A graph without, say, its masks would run, and take what is missing for real."""
    for name in tensors:
        if name.endswith(("frame", "fused", "_tokens", "_mask", "_points")) and name not in engine.inputs:
            raise BundleIncompatible(
                f"{bundle.path}: the {role} does not take {name!r}, which the manifest gives it; export the bundle anew"
            )
