"""TensorRT as a provider of ONNX Runtime: where its engines lie and how it builds them.

The provider keeps its own engines, and tells one graph from another by its nodes alone, not by its weights. So each
graph gets a folder of its own, filled aside and put in place when the engine is built.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emert_edge.engines.cache import EngineCache
from emert_edge.engines.device import gpu
from emert_edge.engines.tensors import is_input

__all__ = ["provider_engine"]


@contextmanager
def provider_engine(
    index: int, onnx_sha256: str, shapes: Mapping[str, tuple[int, ...]], max_batch: int
) -> Iterator[dict[str, Any]]:
    """Give the provider's options for making a session inside; one process at a time builds.

    The graph's own types decide: the provider builds a strongly typed network when its flags for FP16 and INT8 are off.

    Parameters
    ----------
    index
        The GPU.
    onnx_sha256
        Of the graph.
    shapes
        Shape of one row by tensor name.
    max_batch
        The most rows at once.
    """
    import onnxruntime

    cache = EngineCache()
    parts = (onnx_sha256, str(gpu(index)), onnxruntime.__version__, str(max_batch))
    place = cache.folder / "onnxruntime" / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
    with cache.lock():
        ready = place.is_dir()
        place.parent.mkdir(exist_ok=True)
        folder = place if ready else Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
        try:
            yield _options(index, folder, shapes, max_batch)
            if not ready:
                folder.rename(place)
        finally:
            if not ready:
                shutil.rmtree(folder, ignore_errors=True)


def _options(index: int, folder: Path, shapes: Mapping[str, tuple[int, ...]], max_batch: int) -> dict[str, Any]:
    def profile(batch: int) -> str:
        return ",".join(f"{name}:{'x'.join(map(str, (batch, *row)))}" for name, row in shapes.items() if is_input(name))

    return {
        "device_id": index,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(folder),
        "trt_fp16_enable": False,
        "trt_int8_enable": False,
        "trt_profile_min_shapes": profile(1),
        "trt_profile_opt_shapes": profile(1),  # a single stream is the common case
        "trt_profile_max_shapes": profile(max_batch),
    }
