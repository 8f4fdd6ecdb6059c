"""Graphs that are not in a bundle yet, run by the engines that run a bundle."""

from __future__ import annotations

from collections.abc import Mapping

from emert_edge.bundle import Bundle
from emert_edge.bundle.manifest import FileEntry, Graph, Precision, Role
from emert_edge.engines import EngineSet, default_threads, open_engines, tensor_shapes
from emert_edge.engines.device import Device
from emert_edge.engines.engine import MAX_BATCH
from emert_edge.engines.onnx_runtime import OnnxRuntimeEngine

__all__ = ["CandidateBundle", "open_candidate", "open_precision"]


class CandidateBundle(Bundle):
    """A bundle with other INT8 graphs than those it holds, in memory.

    Parameters
    ----------
    bundle : Bundle
    graphs : mapping
        The INT8 graphs by role; they are called the CPU's, whatever they were placed for: an engine for the CPU runs
        them.
    """

    def __init__(self, bundle: Bundle, graphs: Mapping[Role, bytes]) -> None:
        manifest = bundle.manifest
        self._contents = {f"{role}.int8.candidate.onnx": content for role, content in graphs.items()}
        kept = [graph for graph in manifest.graphs if graph.precision != "int8"]
        added = [
            Graph(role=role, precision="int8", target="cpu", file=file)
            for role, file in zip(graphs, self._contents, strict=True)
        ]
        entries = {file: FileEntry(sha256="0" * 64, size=len(content)) for file, content in self._contents.items()}
        changed = {"graphs": (*kept, *added), "files": {**manifest.files, **entries}}
        super().__init__(bundle.path, manifest.model_copy(update=changed))
        self._bundle = bundle

    def read(self, name: str) -> bytes:
        """Return one file's bytes."""
        return self._contents[name] if name in self._contents else self._bundle.read(name)


def open_precision(bundle: Bundle, precision: Precision, threads: int | None) -> EngineSet:
    """Open a bundle on the CPU as a device would."""
    return open_engines(bundle, device="cpu", precision=precision, threads=threads)


def open_candidate(bundle: CandidateBundle, target: str, threads: int | None) -> EngineSet:
    """Open candidates: those for the CPU as a device would, those for TensorRT computed as they are written.

    A board adds products of INT8 in 32 bits, which float arithmetic on the Q/DQ pairs equals; the integer kernels of a
    CPU would quantise biases too, and might saturate.
    """
    if target == "cpu":
        return open_precision(bundle, "int8", threads)
    count = threads or default_threads()
    shapes = tensor_shapes(bundle.manifest)
    opened: dict[Role, OnnxRuntimeEngine] = {
        role: OnnxRuntimeEngine(
            bundle,
            role,
            "int8",
            device=Device("cpu"),
            threads=count,
            max_batch=MAX_BATCH,
            shapes=tensors,
            exact=True,
        )
        for role, tensors in shapes.items()
        if tensors
    }
    return EngineSet(
        Device("cpu"), "int8", count, opened["face_encoder"], opened.get("fixation_encoder"), opened["head"]
    )  # fmt: skip
