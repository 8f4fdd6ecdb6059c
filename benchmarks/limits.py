"""How near the CPU kernels are to what this machine can do: python benchmarks/limits.py [--json FILE]

Two floors for each kernel, both measured in this run on one thread: the time that a matrix product of 1024 × 1024 takes
for as many multiply-adds (`arithmetic`), and the time that a plain copy takes to move as many bytes, in arrays as large
(`memory`). What a kernel must do is counted from its definition, whatever way it goes about it: a point of a fixation
map multiplies and adds once for each pixel that its Gaussian reaches, an area average adds once for each byte of the
frame that it covers, a map is written once. The larger of the two floors over the kernel's time is the share of the
limit.

A kernel's time is the median of a call from Python into an array that is there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from emert_edge import _core, kernels

MEAN, STD = np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32)


@dataclass(frozen=True)
class Limit:
    """One kernel beside its floors; times in µs."""

    kernel: str
    multiply_adds: float
    bytes: float
    arithmetic_us: float
    memory_us: float
    measured_us: float

    @property
    def share(self) -> float:
        """Of the limit."""
        return max(self.arithmetic_us, self.memory_us) / self.measured_us


def median_us(work: Callable[[], object], seconds: float = 0.5) -> float:
    """Median of one call, of as many as fit."""
    work()
    times: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < 5:
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return 1e6 * statistics.median(times)


def multiply_adds_per_us() -> float:
    """What this machine's one thread does, in the best code for it."""
    torch.set_num_threads(1)
    a, b, out = (torch.randn(1024, 1024) for _ in range(3))
    return 1024**3 / median_us(lambda: torch.mm(a, b, out=out))


def copy_us(moved: float) -> float:
    """Time in which a plain copy reads and writes so many bytes together."""
    a = np.ones(max(1, round(moved / 2)), np.uint8)
    b = np.zeros_like(a)
    return median_us(lambda: np.copyto(b, a), 0.2)


def pixels_reached(xy: np.ndarray, shape: tuple[int, int], sigma: float) -> int:
    """Of all points together."""
    reach = int(np.ceil(4 * sigma))
    cells = np.floor(xy).astype(int)
    spans = [np.minimum(cells[:, axis] + reach + 1, size) - np.maximum(cells[:, axis] - reach, 0)
             for axis, size in ((0, shape[1]), (1, shape[0]))]  # fmt: skip
    return int((spans[0] * spans[1]).sum())


def limits() -> list[Limit]:
    """Measure them all."""
    rng = np.random.default_rng(7)
    peak = multiply_adds_per_us()
    found = []

    def add(kernel: str, work: Callable[[], object], multiply_adds: float, moved: float) -> None:
        found.append(Limit(kernel, multiply_adds, moved, multiply_adds / peak, copy_us(moved), median_us(work)))

    for shape, sigma in (((112, 112), 3.0), ((1080, 1920), 38.0)):
        xy = rng.random((128, 2), np.float32) * np.array(shape[::-1], np.float32)
        weight, out = rng.random(128, np.float32), np.empty(shape, np.float32)
        add(
            f"fixation_map, 128 points, {shape[1]} × {shape[0]}, σ {sigma:g} px",
            lambda out=out, xy=xy, weight=weight, sigma=sigma: kernels.fixation_map_into(out, xy, weight, sigma),
            pixels_reached(xy, shape, sigma),
            out.nbytes,
        )
    frame = rng.integers(0, 256, (720, 1280, 3), np.uint8)
    held, fused = rng.random((112, 112), np.float32), np.empty((4, 112, 112), np.float32)
    add(
        "fuse_gaze_frame, 720p to 112 × 112",
        lambda: kernels.fuse_gaze_frame_into(fused, frame, held, MEAN, STD),
        frame.size,
        frame.nbytes + held.nbytes + fused.nbytes,
    )
    crop = np.empty((3, 112, 112), np.float32)
    for degrees in (0.0, 12.0):
        affine = np.asarray(cv2.getRotationMatrix2D((640, 360), degrees, 112 / 370), np.float64)
        affine[:, 2] += (56 - 640, 56 - 360)
        add(
            f"crop_normalize, a face of 370 px, turned by {degrees:g}°"
            if degrees
            else "crop_normalize, a face of 370 px",
            lambda affine=affine: kernels.crop_normalize_into(crop, frame, affine, MEAN, STD),
            3 * 370**2,
            3 * 370**2 + crop.nbytes,
        )
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = limits()
    print(f"instruction set {_core.isa()}\n")
    print("| kernel | multiply-adds | bytes | arithmetic | memory | measured | share |\n|---|---|---|---|---|---|---|")
    for one in found:
        print(
            f"| {one.kernel} | {one.multiply_adds / 1e3:,.0f} k | {one.bytes / 1e3:,.0f} kB "
            f"| {one.arithmetic_us:.2f} µs | {one.memory_us:.2f} µs | {one.measured_us:.1f} µs "
            f"| {100 * one.share:.0f} % |"
        )
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(one) | {"share": one.share} for one in found], indent=2) + "\n")


if __name__ == "__main__":
    main()
