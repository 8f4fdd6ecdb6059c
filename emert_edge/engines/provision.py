"""A TensorRT engine for a graph: from the cache where one fits, else built into it, checked and then opened."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from emert_edge.bundle.bundle import Bundle
from emert_edge.bundle.manifest import Graph, Precision, Role
from emert_edge.engines.cache import CachedEngine, EngineCache, EngineKey, profiles_up_to
from emert_edge.engines.cuda_memory import CudaDevice, CudaStream, open_cuda
from emert_edge.engines.device import Device, gpu
from emert_edge.engines.engine import MAX_BATCH
from emert_edge.engines.tensorrt import TensorRTEngine
from emert_edge.engines.tensorrt_build import Progress, build_engine
from emert_edge.engines.tensorrt_library import tensorrt
from emert_edge.errors import EngineError, EngineMismatch

__all__ = ["EngineSupply", "Platform", "key_of"]

WORST_DIFFERENCE = 0.1
"""Relative root mean square error that a sound engine keeps below in any precision; a broken one is near 1."""

_log = logging.getLogger("emert_edge")


@dataclass(frozen=True, slots=True)
class Platform:
    """Where an engine is built and may run."""

    tensorrt: str
    gpu: str
    sm: str

    @classmethod
    def here(cls, index: int) -> Platform:
        """Ask TensorRT and GPU `index`."""
        found = gpu(index)
        return cls(str(tensorrt().__version__), found.name, found.sm)


def key_of(bundle: Bundle, graph: Graph, platform: Platform, max_batch: int) -> EngineKey:
    """Return the key of a graph's engine."""
    return EngineKey(
        role=graph.role,
        precision=graph.precision,
        onnx_sha256=bundle.manifest.files[graph.file].sha256,
        profiles=profiles_up_to(max_batch),
        tensorrt=platform.tensorrt,
        gpu=platform.gpu,
        sm=platform.sm,
    )


class EngineSupply:
    """Engines for one GPU, from one cache.

    Parameters
    ----------
    device
        `tensorrt:N`, which can be had.
    cache
        The user's cache when None.
    """

    def __init__(self, device: Device, cache: EngineCache | None = None) -> None:
        self.cache = cache if cache is not None else EngineCache()
        self.platform = Platform.here(device.index)
        self._index = device.index
        self._opened: CudaDevice | None = None
        self._stream: CudaStream | None = None

    def share_stream(self) -> None:
        """Let the engines that are opened from now on compute in one stream; `close` ends it."""
        with self._cuda.current(f"GPU {self._index}"):
            self._stream = self._cuda.stream()

    def close(self) -> None:
        """End the shared stream, if there is one; its engines come first. May be called twice."""
        if self._stream is not None:
            with self._cuda.current(f"GPU {self._index}"):
                self._stream.close()
            self._stream = None

    @property
    def _cuda(self) -> CudaDevice:
        if self._opened is None:
            self._opened = open_cuda(self._index)
        return self._opened

    def find(
        self, bundle: Bundle, role: Role, precision: Precision, max_batch: int | None = None
    ) -> tuple[CachedEngine | None, str]:
        """Look for a graph's engine in the cache: for `max_batch` rows, or the one that was built last when None."""
        key = key_of(bundle, bundle.graph(role, precision, "tensorrt"), self.platform, max_batch or MAX_BATCH)
        return self.cache.find(key, any_batch=max_batch is None)

    def open(
        self,
        bundle: Bundle,
        role: Role,
        precision: Precision,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        build: bool = True,
    ) -> TensorRTEngine:
        """Open a graph's engine; build it first where the cache has none that fits.

        Parameters
        ----------
        build
            Whether building, which takes minutes, is allowed.

        Raises
        ------
        EngineMismatch
            No engine fits and building is not allowed; the message says what lies in the cache instead.
        EngineError
            TensorRT cannot build the engine, or what it built computes something else than ONNX Runtime.
        """
        found, reason = self.find(bundle, role, precision)
        if found is not None:
            try:
                return self._engine(bundle, found.plan, found.key, found.notes, shapes)
            except EngineMismatch as error:
                reason = str(error)  # it fits its key, and TensorRT thinks otherwise: a changed driver, say
        if not build:
            raise EngineMismatch(f"{reason}; `emert-edge build {bundle.path}` makes one that fits")
        _log.warning("%s; building one, which takes minutes", reason)
        built = self.build(bundle, role, precision, shapes, force=found is not None)
        return self._engine(bundle, built.plan, built.key, built.notes, shapes)

    def build(
        self,
        bundle: Bundle,
        role: Role,
        precision: Precision,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        max_batch: int = MAX_BATCH,
        force: bool = False,
        progress: Progress | None = None,
    ) -> CachedEngine:
        """Put a graph's engine into the cache, unless it is there; one builder at a time.

        A new engine is run once beside ONNX Runtime before it is kept.

        Parameters
        ----------
        max_batch
            The most rows at once.
        force
            Build even if the cache has it.
        progress
            See `build_engine`.

        Raises
        ------
        EngineError
            As for `open`.
        """
        graph = bundle.graph(role, precision, "tensorrt")
        key = key_of(bundle, graph, self.platform, max_batch)
        where = f"{bundle.path}: {graph.file}"

        def waiting() -> None:
            _log.warning("%s: another process is building; waiting for it", self.cache.folder)
            if progress is not None:
                progress("waiting for another build", 0.0)

        begin = time.time()
        with self.cache.lock(waiting):
            path = self.cache.folder / key.file
            fresh = path.is_file() and path.stat().st_mtime >= begin  # by whom we waited for: no need to do it again
            if not force or fresh:
                found, _ = self.cache.find(key)
                if found is not None:
                    return found
            model = bundle.read(graph.file)
            with self._cuda.current(where):
                built = build_engine(
                    model,
                    where,
                    precision=graph.precision,
                    profiles=key.profiles,
                    shapes=shapes,
                    timings=self.cache.timings(key),
                    progress=progress,
                )
            notes: dict[str, Any] = {
                "bundle": bundle.manifest.identity,
                "file": graph.file,
                "strongly_typed": built.strongly_typed,
                "built": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "build_s": round(time.time() - begin, 1),
            }
            with closing(self._engine(bundle, built.plan, key, notes, shapes)) as engine:
                notes["difference"] = _difference(engine, model, where)
            self.cache.store_timings(key, built.timings)
            return self.cache.store(key, built.plan, notes)

    def _engine(
        self,
        bundle: Bundle,
        plan: bytes | memoryview,
        key: EngineKey,
        notes: Mapping[str, Any],
        shapes: Mapping[str, tuple[int, ...]],
    ) -> TensorRTEngine:
        graph = bundle.graph(key.role, key.precision, "tensorrt")
        typing = "types of the graph" if notes.get("strongly_typed") else "types chosen by TensorRT"
        return TensorRTEngine(
            plan,
            f"{bundle.path}: {graph.file}",
            self._cuda,
            role=key.role,
            file=graph.file,
            precision=key.precision,
            shapes=shapes,
            stream=self._stream,
            notes=(f"{key.gpu}, compute capability {key.sm}", typing),
        )


def _difference(engine: TensorRTEngine, model: bytes, where: str) -> float:
    """Return how far an engine is from ONNX Runtime on the CPU: the worst output's relative root mean square error.

    Raises
    ------
    EngineError
        It is further than a rounding can explain, or not a number.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, sess_options=options, providers=["CPUExecutionProvider"])
    names = list(engine.outputs)
    rng = np.random.default_rng(0)
    worst, culprit = 0.0, ""
    for batch in sorted({1, engine.max_batch}):
        for name, buffer in engine.inputs.items():
            buffer[:batch] = 1 if name.endswith("_mask") else rng.standard_normal(buffer[:batch].shape, np.float32)
        engine.run(batch)
        expected = session.run(names, {name: buffer[:batch] for name, buffer in engine.inputs.items()})
        for name, reference in zip(names, expected, strict=True):
            distance = np.linalg.norm(engine.outputs[name][:batch] - reference)
            error = float(distance) / max(float(np.linalg.norm(reference)), 1e-6)
            if not error <= worst:
                worst, culprit = (error, name) if math.isfinite(error) else (math.inf, name)
    if worst > WORST_DIFFERENCE:
        raise EngineError(
            f"{where}: the engine that TensorRT built gives {culprit!r} {worst:.0%} away from ONNX Runtime; "
            "it is not kept: try another precision, and report this with the output of `emert-edge doctor`"
        )
    return worst
