"""A model repository for NVIDIA's Triton Inference Server: one server for many edge boxes.

Each graph of a bundle becomes a model of its own, since each is due at another time: an encoder once a frame, the head
once an estimate. Requests of several boxes are joined into batches by the server. docs/triton.md tells what runs where.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from emert_edge.bundle import Bundle
from emert_edge.bundle.bundle import write_folder
from emert_edge.bundle.manifest import ROLES, Graph, Labels, Precision, Role, Target
from emert_edge.engines import choose_precision, tensor_shapes
from emert_edge.engines.cache import CachedEngine, EngineCache, EngineKey, read_engine
from emert_edge.engines.device import Device
from emert_edge.engines.tensors import check_tensor, require_inputs
from emert_edge.errors import EngineError, EngineMismatch

from .form import Shapes
from .parity import OpenGraph

__all__ = ["MARKER", "MAX_BATCH", "Platform", "TritonRepository", "config_text", "export_triton", "model_name"]

Platform = Literal["onnxruntime", "tensorrt"]

MARKER = "emert-edge.json"
"""A file beside the models, which Triton passes over: it tells what the repository is, so that it may be replaced."""
MAX_BATCH = 32
QUEUE_DELAY_US = 5000
"""How long a request waits for others. An estimate is due every half second: this is not felt."""

_FILES: dict[Platform, str] = {"onnxruntime": "model.onnx", "tensorrt": "model.plan"}


class TritonRepository(NamedTuple):
    """What was written."""

    path: Path
    models: tuple[str, ...]
    precision: Precision
    platform: Platform
    built_for: str
    """GPU and TensorRT version of the engines; empty for ONNX files."""


def model_name(bundle: Bundle, role: Role) -> str:
    """What a graph is called on the server."""
    return f"{bundle.name}_{role}"


def _border(bundle: Bundle, role: Role, graph: Graph) -> tuple[Shapes, Shapes]:
    """Inputs and outputs of a graph, each with the shape that the manifest gives it."""
    where = f"{bundle.path}: {graph.file}"
    shapes = tensor_shapes(bundle.manifest)[role]
    opened = OpenGraph(bundle.read(graph.file))
    for name, shape in (opened.inputs | opened.outputs).items():
        check_tensor(where, name, (None, *shape), opened.kinds[name], shapes)
    require_inputs(where, opened.inputs, shapes)
    return opened.inputs, opened.outputs


def _label_files(labels: Labels, outputs: Sequence[str]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """The labels' file of each output of logits, and the labels."""
    known = {
        "emotion_logits": ("emotion_labels.txt", labels.emotion),
        "expression_logits": ("expression_labels.txt", labels.expression),
        "emotion_polarity_logits": ("polarity_labels.txt", labels.polarity),
        "expression_polarity_logits": ("polarity_labels.txt", labels.polarity),
    }
    return {name: (file, names) for name, (file, names) in known.items() if name in outputs and names}


def config_text(
    name: str,
    platform: Platform,
    inputs: Shapes,
    outputs: Shapes,
    labels: Mapping[str, str],
    *,
    max_batch: int,
    kind: str,
    profiles: int = 0,
) -> str:
    """Write a model's `config.pbtxt`.

    Parameters
    ----------
    name : str
        The model's; also its folder's.
    platform : {"onnxruntime", "tensorrt"}
        The backend.
    inputs, outputs : mapping of str to tuple of int
        Shapes without the batch; all are float32.
    labels : mapping of str to str
        The labels' file by the name of the output.
    max_batch : int
        The largest batch.
    kind : str
        Where the instance runs: ``KIND_AUTO``, ``KIND_GPU`` or ``KIND_CPU``.
    profiles : int
        How many optimisation profiles an engine has; the server takes the first alone unless all are named.
    """

    def tensors(field: str, shapes: Shapes) -> str:
        entries = [
            f'  {{ name: "{tensor}" data_type: TYPE_FP32 dims: [ {", ".join(map(str, shape))} ]'
            + (f' label_filename: "{labels[tensor]}"' if tensor in labels else "")
            + " }"
            for tensor, shape in shapes.items()
        ]
        return f"{field} [\n" + ",\n".join(entries) + "\n]\n"

    preferred = [size for size in (4, 8, 16, 32, 64, 128) if size < max_batch] + [max_batch]
    named = ", ".join(f'"{index}"' for index in range(profiles))
    return (
        f'name: "{name}"\n'
        f'backend: "{platform}"\n'
        f'default_model_filename: "{_FILES[platform]}"\n'
        f"max_batch_size: {max_batch}\n"
        + tensors("input", inputs)
        + tensors("output", outputs)
        + f"dynamic_batching {{\n  preferred_batch_size: [ {', '.join(map(str, preferred))} ]\n"
        f"  max_queue_delay_microseconds: {QUEUE_DELAY_US}\n}}\n"
        f"instance_group [\n  {{ kind: {kind} count: 1{f' profile: [ {named} ]' if named else ''} }}\n]\n"
        "version_policy { latest { num_versions: 1 } }\n"
    )


def _require_replaceable(out: Path) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        known = {MARKER, *json.loads((out / MARKER).read_text(encoding="utf-8"))["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise FileExistsError(f"{out} exists and is no model repository of emert-edge; it is not overwritten") from None
    present = {file.relative_to(out).as_posix() for file in out.rglob("*") if not file.is_dir()}
    if foreign := sorted(present - known):
        raise FileExistsError(
            f"{out} holds {foreign[0]}, which emert-edge did not write; give it a folder of its own "
            "(tritonserver takes --model-repository more than once)"
        )


def _engines(bundle: Bundle, graphs: Mapping[Role, Graph], cache: EngineCache) -> dict[Role, CachedEngine]:
    """The newest engines in the cache that were built of these graphs, all for one GPU and one TensorRT."""
    wanted = {(role, bundle.manifest.files[graph.file].sha256): role for role, graph in graphs.items()}
    found: dict[tuple[str, str, str], dict[Role, tuple[int, Path]]] = {}
    for path, key in cache.entries():
        if role := wanted.get((key.role, key.onnx_sha256)):
            of_place = found.setdefault(_place(key), {})
            of_place[role] = max(of_place.get(role, (0, path)), (path.stat().st_mtime_ns, path))
    whole = [engines for engines in found.values() if len(engines) == len(graphs)]
    if not whole:
        precision = graphs["face_encoder"].precision
        raise EngineMismatch(
            f"{cache.folder}: no TensorRT engines of all {len(graphs)} graphs in {precision} lie here. An engine runs "
            "on the GPU and under the TensorRT that built it alone: on the server, with the TensorRT of its Triton, "
            f"run `emert-edge build {bundle.path} --precision {precision}`, then this command again"
        )
    newest = max(whole, key=lambda engines: min(time for time, _ in engines.values()))
    opened: dict[Role, CachedEngine] = {}
    for role, (_, path) in newest.items():
        engine = read_engine(path)
        if isinstance(engine, str):
            raise EngineError(f"{engine}; build it anew with `emert-edge build {bundle.path} --force`")
        opened[role] = engine
    return opened


def _place(key: EngineKey) -> tuple[str, str, str]:
    return key.gpu, key.sm, key.tensorrt


def export_triton(
    bundle: Bundle,
    out: str | Path,
    *,
    precision: str = "auto",
    platform: Platform = "onnxruntime",
    cache: EngineCache | None = None,
) -> TritonRepository:
    """Write a bundle's graphs as a model repository for Triton, whole or not at all.

    Parameters
    ----------
    bundle : Bundle
    out : path
        The repository's folder; one that this function wrote before is replaced.
    precision : {"auto", "fp32", "fp16", "int8"}
        `auto` takes FP16 where the bundle has accepted evidence for it, else FP32.
    platform : {"onnxruntime", "tensorrt"}
        ONNX files for Triton's ONNX Runtime backend, or engines for its TensorRT backend, which `emert-edge build` has
        put into the cache.
    cache : EngineCache, optional
        Where engines are looked for; the user's if not given.

    Raises
    ------
    EngineMismatch
        If an engine of a graph is not in the cache; the message says how it is built.
    EngineError
        If an engine in the cache is damaged.
    BundleIncompatible
        If the bundle lacks the precision, or a graph does not fit its manifest.
    FileExistsError
        If something else than such a repository lies at `out`, or it holds files of somebody else.
    ValueError
        If `platform` or `precision` is unknown.
    """
    out = Path(out)
    if platform not in _FILES:
        raise ValueError(f"platform must be onnxruntime or tensorrt, not {platform!r}")
    if precision not in ("auto", "fp32", "fp16", "int8"):
        raise ValueError(f"precision must be auto, fp32, fp16 or int8, not {precision!r}")
    _require_replaceable(out)
    target: Target = "tensorrt" if platform == "tensorrt" else "cpu"
    chosen = choose_precision(bundle, Device("tensorrt" if platform == "tensorrt" else "cuda"), precision)
    graphs: dict[Role, Graph] = {role: bundle.graph(role, chosen, target) for role in ROLES if bundle.has_role(role)}
    engines = _engines(bundle, graphs, cache or EngineCache()) if platform == "tensorrt" else {}
    # An INT8 graph of target `cpu` is placed for a CPU's kernels: a GPU would be slower with it.
    kind = "KIND_GPU" if engines else "KIND_CPU" if chosen == "int8" else "KIND_AUTO"

    members: dict[str, bytes] = {}
    for role, graph in graphs.items():
        name, engine = model_name(bundle, role), engines.get(role)
        inputs, outputs = _border(bundle, role, graph)
        labels = _label_files(bundle.manifest.labels, tuple(outputs))
        members |= {
            f"{name}/{file}": "".join(f"{label}\n" for label in known).encode() for file, known in labels.values()
        }
        members[f"{name}/1/{_FILES[platform]}"] = bytes(engine.plan) if engine else bundle.read(graph.file)
        members[f"{name}/config.pbtxt"] = config_text(
            name,
            platform,
            inputs,
            outputs,
            {output: file for output, (file, _) in labels.items()},
            max_batch=engine.key.max_batch if engine else MAX_BATCH,
            kind=kind,
            profiles=len(engine.key.profiles) if engine else 0,
        ).encode()
    gpu, sm, version = _place(engines["head"].key) if engines else ("", "", "")
    built_for = f"{gpu} (compute capability {sm}), TensorRT {version}" if engines else ""
    told = {
        "bundle": bundle.manifest.identity,
        "licence": bundle.manifest.licence,
        "platform": platform,
        "precision": {role: graph.precision for role, graph in graphs.items()},
        "built_for": built_for,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(members.items())},
    }
    members[MARKER] = (json.dumps(told, indent=2) + "\n").encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    write_folder(out, members)
    return TritonRepository(out, tuple(model_name(bundle, role) for role in graphs), chosen, platform, built_for)
