"""The charts of docs/benchmarks.md: `make book` measures them anew, on this machine, one after the other.

Each point is the median of some runs in one process; lines that stand in one chart were measured in turns. Outside of
every timing: making inputs, opening, warming up. Needs matplotlib; OpenCV is the peer of the maps.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from emert_edge import Recognizer
from emert_edge.benchmarking.measure import _Input, _stride_ns
from emert_edge.eye import GazeSamples, eye_features
from emert_edge.kernels import fixation_map_into

ROOT = Path(__file__).resolve().parents[1]
S = 1_000_000_000
Series = dict[str, list[float]]


def median_ms(ways: dict[str, Callable[[], object]], seconds: float = 0.4) -> dict[str, float]:
    """Each way's median in milliseconds, in turns for so long."""
    for work in ways.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in ways}
    until = time.perf_counter() + seconds * len(ways)
    while time.perf_counter() < until or len(next(iter(times.values()))) < 5:
        for name, work in ways.items():
            begun = time.perf_counter()
            work()
            times[name].append(1000 * (time.perf_counter() - begun))
    return {name: float(np.median(values)) for name, values in times.items()}


def gathered(points: Sequence[float], at: Callable[[Any], dict[str, Callable[[], object]]]) -> Series:
    """One line a way over the points."""
    lines: Series = {}
    for point in points:
        for name, value in median_ms(at(point)).items():
            lines.setdefault(name, []).append(value)
    return lines


def map_ways(count: int, side: int, sigma: float) -> dict[str, Callable[[], object]]:
    rng = np.random.default_rng(0)
    xy, weight = rng.random((count, 2)).astype(np.float32) * side, rng.random(count).astype(np.float32)
    out = np.zeros((side, side), np.float32)
    reach = 2 * int(np.ceil(4 * sigma)) + 1

    def peer() -> object:
        impulses = np.zeros((side, side), np.float32)
        np.add.at(impulses, (xy[:, 1].astype(np.intp), xy[:, 0].astype(np.intp)), weight)
        return cv2.GaussianBlur(impulses, (reach, reach), sigma)

    return {"fixation_map": lambda: fixation_map_into(out, xy, weight, sigma), "OpenCV, impulses and blur": peer}


def feature_ways(rate: int) -> dict[str, Callable[[], object]]:
    rng = np.random.default_rng(0)
    walk = 0.5 + np.cumsum(rng.normal(0, 0.002, (2, 4 * rate)), axis=1)
    gaze = GazeSamples(
        t_ns=np.arange(4 * rate) * (S // rate), x=walk[0], y=walk[1], pupil_left=walk[0] + 3, pupil_right=walk[1] + 3
    )
    return {"39 features of 32 tokens": lambda: eye_features(gaze, 0, 4 * S, 32)}


def window_ways(recognizer: Recognizer, faces: int) -> dict[str, Callable[[], object]]:
    engine = recognizer._open_engines().face_encoder

    def anew() -> None:
        for first in range(0, faces, engine.max_batch):
            engine.run(min(engine.max_batch, faces - first))

    return {"every face encoded anew": anew, "streaming: the new one": lambda: engine.run(1)}


def stream_line(recognizer: Recognizer, made: _Input, numbers: Sequence[int]) -> Series:
    """Milliseconds an estimate, sessions stepped together."""
    line = []
    for number in numbers:
        sessions = [recognizer.session() for _ in range(number)]
        spent = []
        for step in range(30):
            for session in sessions:
                made.push(session, step, _stride_ns(recognizer))
            begun = time.perf_counter()
            taken = sum(map(len, recognizer.step(sessions)))
            if taken and step > 8:
                spent.append(1000 * (time.perf_counter() - begun) / taken)
        for session in sessions:
            session.close()
        line.append(float(np.median(spent)))
    return {"ms an estimate": line}


def minutes_lines(recognizer: Recognizer, made: _Input, minutes: int) -> tuple[Series, list[float]]:
    """The cost of an estimate, minute by minute of data time, and the memory after each."""
    stride, p50, memory = _stride_ns(recognizer), [], []
    per_minute = 60 * S // stride
    with recognizer.session() as session:
        for minute in range(minutes):
            spent = []
            for step in range(minute * per_minute, (minute + 1) * per_minute):
                made.push(session, step, stride)
                begun = time.perf_counter()
                session.estimates()
                spent.append(1000 * (time.perf_counter() - begun))
            p50.append(float(np.median(spent)))
            with open("/proc/self/statm", encoding="ascii") as file:
                memory.append(int(file.read().split()[1]) * resource.getpagesize() / 1e6)
    return {"ms an estimate": p50}, memory


def main(out: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    counts, sides = [16, 32, 64, 128, 256, 512, 1024, 2048], [56, 112, 224, 448, 896]
    rates, faces, streams, minutes = [60, 125, 250, 500, 1000, 2000], [2, 4, 8, 16, 32], [1, 2, 4, 8, 16], 20
    made = _Input((640, 360), 250.0)
    with Recognizer(device="cpu", threads=min(2, os.cpu_count() or 1)) as recognizer:
        recognizer.warmup()
        charts: list[tuple[str, str, Sequence[float], Series, bool]] = [
            ("a map of 112 × 112, σ 3", "points of gaze", counts,
             gathered(counts, lambda n: map_ways(n, 112, 3.0)), True),
            ("128 points, σ 3 % of the width", "side of the map, pixels", sides,
             gathered(sides, lambda side: map_ways(128, side, 0.03 * side)), True),
            ("a window of four seconds", "gaze samples a second", rates, gathered(rates, feature_ways), True),
            ("faces of a window", "face tokens", faces, gathered(faces, lambda n: window_ways(recognizer, n)), True),
            ("streams stepped together", "streams", streams, stream_line(recognizer, made, streams), False),
        ]  # fmt: skip
        cost, memory = minutes_lines(recognizer, made, minutes)
        charts.append(("running on", "minutes of data", list(range(1, minutes + 1)), cost, False))
        told = recognizer.describe()
    figure, axes = pyplot.subplots(2, 3, figsize=(13, 7.2), layout="constrained")
    for axis, (title, label, points, lines, logarithmic) in zip(axes.flat, charts, strict=True):
        for name, values in lines.items():
            axis.plot(points, values, marker="o", markersize=3, label=name)
        axis.set(title=title, xlabel=label, ylabel="ms, median")
        if logarithmic:
            axis.set(xscale="log", yscale="log")
            axis.set_xticks(list(points), [f"{point:g}" for point in points])
            axis.minorticks_off()
        else:
            axis.set_ylim(0, 1.3 * max(max(values) for values in lines.values()))
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    beside = axes.flat[5].twinx()
    beside.plot(range(1, minutes + 1), memory, color="tab:red", marker="o", markersize=3)
    beside.set(ylabel="memory, MB (red)", ylim=(0, 1.3 * max(memory)))
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=80)
    held = {title: {"of": label, "at": list(points), **lines} for title, label, points, lines, _ in charts}
    held["running on"]["memory, MB"] = memory
    held["machine"] = {"kernels": told["kernels"], "python": platform.python_version(), "cores": os.cpu_count()}
    out.with_suffix(".json").write_text(json.dumps(held, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{out}: {len(charts)} charts")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images" / "cost.png")
