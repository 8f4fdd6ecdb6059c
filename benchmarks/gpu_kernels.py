"""The kernels on a GPU beside PyTorch and CuPy doing the same work, and beside the time that their bytes take.

Run by `tests/gpu/run.py`; prints a Markdown table and writes JSON. Inside every timing: the GPU's time, by events
around replays of a CUDA graph of several calls (CuPy: around the calls themselves, its launches included); every call
has buffers of its own, so that together they exceed the L2 cache. Outside: making the inputs, copies from the host,
Python. The floor is the bytes that must be read and written once, over the bandwidth of a device-to-device copy that is
measured in the same run. A row gives the median of nine.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from emert_edge.kernels import cuda

try:
    import cupy
except ImportError:
    cupy = None

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
L2_BYTES = 256 << 20
ROUNDS = 9


def timed(calls: list[Callable[[Any], None]], graph: bool = True) -> float:
    """Microseconds a call, the median over rounds; each call takes the stream."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for call in calls[:2]:
            call(stream)
    torch.cuda.synchronize()
    replay: Callable[[], None]
    if graph:
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured, stream=stream):
            for call in calls:
                call(stream)
        replay = captured.replay
    else:

        def replay() -> None:
            for call in calls:
                call(stream)

    times = []
    with torch.cuda.stream(stream):
        for _ in range(ROUNDS + 2):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record(stream)
            replay()
            end.record(stream)
            end.synchronize()
            times.append(1000 * begin.elapsed_time(end) / len(calls))
    return float(np.median(times[2:]))


def bandwidth() -> float:
    """Bytes a microsecond of a large copy, read and written."""
    source = torch.randint(0, 255, (1 << 30,), dtype=torch.uint8, device="cuda")
    to = torch.empty_like(source)
    return 2 * source.numel() / timed([lambda stream: to.copy_(source)])


def sets(each: int) -> int:
    """How many sets of buffers of so many bytes exceed the cache."""
    return max(3, min(64, -(-L2_BYTES // each)))


def box_weights(source: int, target: int) -> torch.Tensor:
    """(target, source) float32: the share of each source pixel in each target pixel's box, or its bilinear weights."""
    scale = source / target
    edges = torch.arange(target + 1, dtype=torch.float64) * scale
    low, high = edges[:-1, None], edges[1:, None]
    pixel = torch.arange(source, dtype=torch.float64)
    cover = (torch.minimum(high, pixel + 1) - torch.maximum(low, pixel)).clamp(min=0)
    return (cover / cover.sum(1, keepdim=True)).float().cuda()


def fusion(batch: int, rows: list[dict[str, Any]], speed: float) -> None:
    shape, size = (720, 1280), (112, 112)
    each = batch * (shape[0] * shape[1] * 3 + size[0] * size[1] * 4 * 5)
    count = sets(each)
    data = [
        (
            torch.randint(0, 256, (batch, *shape, 3), dtype=torch.uint8, device="cuda"),
            torch.rand((batch, *size), device="cuda"),
            torch.empty((batch, 4, *size), device="cuda"),
        )
        for _ in range(count)
    ]

    def ours(frame: Any, gaze: Any, out: Any) -> Callable[[Any], None]:
        return lambda stream: cuda.fuse_gaze_frame_into(out, frame, gaze, MEAN, STD, color="rgb", stream=stream)

    mean, std = (torch.tensor(value, device="cuda", dtype=torch.float32).view(1, 3, 1, 1) for value in (MEAN, STD))

    def by_interpolation(frame: Any, gaze: Any, out: Any) -> Callable[[Any], None]:
        def call(_: Any) -> None:
            small = F.interpolate(frame.permute(0, 3, 1, 2).float(), size, mode="bilinear", antialias=True)
            out[:, :3] = (small / 255 - mean) / std
            out[:, 3] = gaze

        return call

    down, across = box_weights(shape[0], size[0]), box_weights(shape[1], size[1])

    def by_products(frame: Any, gaze: Any, out: Any) -> Callable[[Any], None]:
        def call(_: Any) -> None:
            out[:, :3] = (down @ frame.permute(0, 3, 1, 2).float() @ across.T / 255 - mean) / std
            out[:, 3] = gaze

        return call

    def by_cupy(frame: Any, gaze: Any, out: Any) -> Callable[[Any], None]:
        pixels, plane, filled = cupy.asarray(frame), cupy.asarray(gaze), cupy.asarray(out)
        low, side = cupy.asarray(down), cupy.asarray(across)
        middle, spread = cupy.asarray(mean), cupy.asarray(std)

        def call(stream: Any) -> None:
            with cupy.cuda.ExternalStream(stream.cuda_stream):
                small = low @ pixels.transpose(0, 3, 1, 2).astype(cupy.float32) @ side.T
                filled[:, :3] = (small / 255 - middle) / spread
                filled[:, 3] = plane

        return call

    peers = {"PyTorch, antialiased interpolation": by_interpolation, "PyTorch, box as products": by_products}
    compare("fuse_gaze_frame 720p to 112 x 112", batch, each, ours, peers, by_cupy, data, rows, speed)


def crops(batch: int, size: tuple[int, int], rows: list[dict[str, Any]], speed: float) -> None:
    shape, side = (480, 640), 370
    each = batch * (side * side * 3 + size[0] * size[1] * 12)
    affine = np.array([[size[1] / side, 0, -100 * size[1] / side], [0, size[0] / side, -60 * size[0] / side]])
    count = max(3, min(64, -(-L2_BYTES // (batch * shape[0] * shape[1] * 3))))
    affines = torch.tensor(np.repeat(affine[None], batch, 0), device="cuda")
    data = [
        (
            torch.randint(0, 256, (batch, *shape, 3), dtype=torch.uint8, device="cuda"),
            torch.empty((batch, 3, *size), device="cuda"),
        )
        for _ in range(count)
    ]

    def ours(frame: Any, out: Any) -> Callable[[Any], None]:
        return lambda stream: cuda.crop_normalize_into(out, frame, affines, MEAN, STD, color="rgb", stream=stream)

    mean, std = (torch.tensor(value, device="cuda", dtype=torch.float32).view(1, 3, 1, 1) for value in (MEAN, STD))

    def by_interpolation(frame: Any, out: Any) -> Callable[[Any], None]:
        def call(_: Any) -> None:
            face = frame[:, 60 : 60 + side, 100 : 100 + side].permute(0, 3, 1, 2).float()
            torch.div(F.interpolate(face, size, mode="bilinear", antialias=True) / 255 - mean, std, out=out)

        return call

    down, across = box_weights(side, size[0]), box_weights(side, size[1])

    def by_cupy(frame: Any, out: Any) -> Callable[[Any], None]:
        pixels, filled = cupy.asarray(frame), cupy.asarray(out)
        low, right = cupy.asarray(down), cupy.asarray(across)
        middle, spread = cupy.asarray(mean), cupy.asarray(std)

        def call(stream: Any) -> None:
            with cupy.cuda.ExternalStream(stream.cuda_stream):
                face = pixels[:, 60 : 60 + side, 100 : 100 + side].transpose(0, 3, 1, 2).astype(cupy.float32)
                filled[:] = ((low @ face @ right.T) / 255 - middle) / spread

        return call

    peers = {"PyTorch, antialiased interpolation": by_interpolation}
    compare(f"crop_normalize 370 pixels to {size[0]}", batch, each, ours, peers, by_cupy, data, rows, speed)


def maps(batch: int, shape: tuple[int, int], sigma: float, rows: list[dict[str, Any]], speed: float) -> None:
    points = 128
    each = batch * (shape[0] * shape[1] * 4 + points * 12)
    extent = torch.tensor([shape[1], shape[0]], device="cuda", dtype=torch.float32)
    data = [
        (
            torch.rand((batch, points, 2), device="cuda") * extent,
            torch.rand((batch, points), device="cuda"),
            torch.empty((batch, *shape), device="cuda"),
        )
        for _ in range(sets(each))
    ]

    def ours(xy: Any, weight: Any, out: Any) -> Callable[[Any], None]:
        return lambda stream: cuda.fixation_map_into(out, xy, weight, sigma, stream=stream)

    x, y = (torch.arange(side, device="cuda", dtype=torch.float32) + 0.5 for side in (shape[1], shape[0]))

    def by_products(xy: Any, weight: Any, out: Any) -> Callable[[Any], None]:
        def call(_: Any) -> None:
            across = torch.exp(-((x - xy[..., :1]) ** 2) / (2 * sigma**2))
            down = torch.exp(-((y - xy[..., 1:]) ** 2) / (2 * sigma**2)) * weight[..., None]
            torch.bmm(down.transpose(1, 2), across, out=out)

        return call

    def by_cupy(xy: Any, weight: Any, out: Any) -> Callable[[Any], None]:
        at, weights, filled, right, below = (cupy.asarray(value) for value in (xy, weight, out, x, y))

        def call(stream: Any) -> None:
            with cupy.cuda.ExternalStream(stream.cuda_stream):
                across = cupy.exp(-((right - at[..., :1]) ** 2) / (2 * sigma**2))
                down = cupy.exp(-((below - at[..., 1:]) ** 2) / (2 * sigma**2)) * weights[..., None]
                cupy.matmul(down.transpose(0, 2, 1), across, out=filled)

        return call

    peers = {"PyTorch, outer products": by_products}
    name = f"fixation_map {shape[0]} x {shape[1]}, 128 points, sigma {sigma:g}"
    compare(name, batch, each, ours, peers, by_cupy, data, rows, speed)


def tokens(batch: int, rows: list[dict[str, Any]], speed: float) -> None:
    places, length, capacity = 16, 128, 4096
    each = batch * places * (length * 8 + 8)
    data = [
        (
            torch.randn((capacity, length), device="cuda"),
            torch.randint(-1, capacity, (batch, places), device="cuda", dtype=torch.int32),
            torch.empty((batch, places, length), device="cuda"),
            torch.empty((batch, places), device="cuda"),
        )
        for _ in range(sets(each + capacity * length * 4))
    ]

    def ours(store: Any, index: Any, out: Any, mask: Any) -> Callable[[Any], None]:
        return lambda stream: cuda.assemble_tokens_into(out, mask, store, index, stream=stream)

    def by_gather(store: Any, index: Any, out: Any, mask: Any) -> Callable[[Any], None]:
        def call(_: Any) -> None:
            stands = index >= 0
            mask.copy_(stands)
            torch.mul(store[index.clamp(min=0).long()], mask[..., None], out=out)

        return call

    compare("assemble_tokens, 16 of 128", batch, each, ours, {"PyTorch, gather": by_gather}, None, data, rows, speed)


def compare(
    name: str, batch: int, each: int, ours: Any, peers: dict[str, Any], by_cupy: Any, data: list[Any],
    rows: list[dict[str, Any]], speed: float,
) -> None:  # fmt: skip
    """Time ours and the others over the same data; results must agree where the work is the same."""
    floor = each / speed
    own = timed([ours(*one) for one in data])
    wanted = data[0][-1].clone() if "tokens" not in name else data[0][2].clone()
    rows.append({"kernel": name, "batch": batch, "who": "emert_edge", "us": own, "floor_us": floor})
    for who, peer in peers.items():
        calls = [peer(*one) for one in data]
        rows.append({"kernel": name, "batch": batch, "who": who, "us": timed(calls), "floor_us": floor})
        calls[0](torch.cuda.current_stream())
        torch.cuda.synchronize()
        got = data[0][-1] if "tokens" not in name else data[0][2]
        rows[-1]["differs"] = float((got - wanted).abs().max())
    if cupy is not None and by_cupy is not None:
        calls = [by_cupy(*one) for one in data]
        rows.append({"kernel": name, "batch": batch, "who": "CuPy", "us": timed(calls, graph=False), "floor_us": floor})
    for row in rows[-(2 + len(peers)) :]:
        if row["kernel"] == name and row["batch"] == batch:
            print(
                f"| {name} | {batch} | {row['who']} | {row['us']:.2f} | {row['us'] / own:.1f} | {floor:.2f} "
                f"| {100 * floor / row['us']:.0f} % | {row.get('differs', 0):.1e} |",
                flush=True,
            )


def main() -> None:
    """Print and write the table."""
    torch.backends.cuda.matmul.allow_tf32 = False
    speed = bandwidth()
    properties = torch.cuda.get_device_properties(0)
    print(f"{properties.name}, {properties.multi_processor_count} multiprocessors; a copy moves {speed / 1e6:.2f} TB/s")
    print("| kernel | batch | who | µs a call | times ours | floor, µs | of the floor | differs |")
    print("|---|---|---|---|---|---|---|---|")
    rows: list[dict[str, Any]] = []
    for batch in (1, 8, 64):
        fusion(batch, rows, speed)
    for size in ((48, 48), (112, 112)):
        for batch in (1, 8, 64, 256):
            crops(batch, size, rows, speed)
    for batch in (1, 64, 1024):
        maps(batch, (112, 112), 3.0, rows, speed)
    for batch in (1, 8):
        maps(batch, (1080, 1920), 38.0, rows, speed)
    for batch in (1, 64, 1024):
        tokens(batch, rows, speed)
    out = {"device": properties.name, "copy_bytes_per_us": speed, "rows": rows}
    Path(sys.argv[1]).write_text(json.dumps(out, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
