"""FP32 and INT8 face encoders beside each other in one run: the packaged bundle's `nano`, and `base` (ResNet-18).

Both are made here: ranges are found on a few drawn faces, which says nothing of accuracy and all of speed. `base` has
drawn weights. Outside the timing: preprocessing, quantising, opening. One picture at a time through the engine that a
device uses, the two precisions in turns of ten, so that other load on the machine meets both; a turn's first run is not
timed. INT8 gains most where the processor multiplies bytes (VNNI on x86, dot products on Arm); the figures say whether
it does.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emert_edge.bundle import Bundle, packaged_dir
from emert_edge.engines import tensor_shapes
from emert_edge.engines.device import Device
from emert_edge.engines.onnx_runtime import OnnxRuntimeEngine

ROUNDS, TURN = 200, 10


def processor() -> str:
    """Whether this processor multiplies bytes in one step."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return "unknown"
    return next((name for name in ("avx512_vnni", "avx_vnni", "asimddp", "avx2") if name in flags), "none of them")


def base_graph() -> bytes:
    """ResNet-18 with drawn weights, as `emert-edge export` writes it."""
    pytest.importorskip("onnxscript", reason="exporting needs the extra `export`")
    import torch
    from emert_edge.export import export_graphs

    from emert_edge.reference.emert import Emert, EmertConfig

    torch.manual_seed(0)
    return export_graphs(Emert(EmertConfig(size="base")).eval())["face_encoder"].onnx


def quantised(graph: bytes, frames: np.ndarray) -> bytes:
    """For a CPU, by the extremes of the frames."""
    onnx = pytest.importorskip("onnx", reason="quantising needs the extra `export`")
    from emert_edge.calibration.placement_cpu import place_for_cpu, quantised_tensors
    from emert_edge.calibration.ranges import collect_histograms, find_ranges

    model = onnx.load_from_string(graph)
    seen = collect_histograms(model, quantised_tensors(model), {"frame": frames})
    return place_for_cpu(model, find_ranges(seen, "minmax", signed=False)).SerializeToString()


@pytest.mark.parametrize("size", ["nano", "base"])
def test_int8_beside_fp32(benchmark: Any, size: str) -> None:
    from emert_edge.calibration.candidate import CandidateBundle

    packaged = Bundle.open(packaged_dir() / "emert-demo")
    shapes = dict(tensor_shapes(packaged.manifest)["face_encoder"])
    fp32 = packaged.read(packaged.graph("face_encoder", "fp32", "cpu").file)
    if size == "base":
        fp32 = base_graph()
        shapes["frame"] = (3, 112, 112)
    frames = np.random.default_rng(0).normal(0, 1, (16, *shapes["frame"])).astype(np.float32)
    threads = min(2, os.cpu_count() or 1)
    engines = {}
    graphs = {"FP32": fp32, "INT8": quantised(fp32, frames)}
    for name, content in graphs.items():
        candidate = CandidateBundle(packaged, {"face_encoder": content})
        engines[name] = OnnxRuntimeEngine(
            candidate, "face_encoder", "int8", device=Device("cpu"), threads=threads, max_batch=1, shapes=shapes
        )
        engines[name].inputs["frame"][:] = frames[:1]
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(ROUNDS // TURN):
        for name, engine in engines.items():
            engine.run(1)  # the other's weights are in the cache, and its threads may be awake still
            for _ in range(TURN):
                begin = time.perf_counter()
                engine.run(1)
                times[name].append(time.perf_counter() - begin)
    benchmark(engines["INT8"].run, 1)
    for name, values in times.items():
        p50, p99 = np.percentile(values[TURN:], (50, 99)) * 1000
        benchmark.extra_info[f"{name} ms, p50 / p99"] = f"{p50:.2f} / {p99:.2f}"
    ratios = [float(way(times["FP32"][TURN:]) / way(times["INT8"][TURN:])) for way in (np.median, np.min)]
    benchmark.extra_info["INT8 is faster by, medians / best"] = " / ".join(f"{ratio:.2f}" for ratio in ratios)
    benchmark.extra_info["file, of FP32's"] = f"{100 * len(graphs['INT8']) / len(graphs['FP32']):.1f} %"
    benchmark.extra_info["threads"] = threads
    benchmark.extra_info["processor"] = processor()
    for engine in engines.values():
        engine.close()
