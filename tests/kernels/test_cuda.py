"""The CUDA bodies against their definitions: on a GPU where there is one, everywhere compiled for the host."""

from __future__ import annotations

import ctypes
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emert_edge.errors import DeviceUnavailable
from emert_edge.kernels import cuda, definitions

from .cuda_devices import Strided, device, down, gpu, up  # noqa: F401
from .frames import LAYOUTS, MEAN, STD, random_frame
from .test_crop_normalize import turned
from .test_fixation_map import random_points
from .test_fixation_map_stream import SECOND, random_samples

TOLERANCE = {np.float32: 1e-5, np.float16: 1e-3}
DTYPES = (np.float32, np.float16)
EXAMPLES = settings(derandomize=True, deadline=None, max_examples=15, suppress_health_check=[*HealthCheck])


@pytest.fixture
def stream(device: str) -> cuda.Stream:  # noqa: F811
    return cuda.Stream()


def assert_close(got: npt.NDArray[Any], wanted: npt.NDArray[np.float64], dtype: Any = np.float32) -> None:
    """To 1e-5, and 1e-3 in half precision: of the largest value, as definitions round nothing."""
    assert got.dtype == dtype
    assert got.shape == wanted.shape
    largest = max(1e-30, float(np.abs(wanted).max(initial=0.0)))
    np.testing.assert_allclose(got.astype(np.float64), wanted, rtol=0, atol=TOLERANCE[dtype] * largest + 1e-37)


# -- fixation maps ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.3, 3.0, 38.0])
@pytest.mark.parametrize("shape", [(112, 112), (61, 203), (1, 1), (1, 300), (33, 5)])
def test_a_map_equals_its_definition(stream: cuda.Stream, shape: tuple[int, int], sigma: float) -> None:
    xy, weight = random_points(shape, 150, margin=4 * sigma)
    wanted = definitions.fixation_map(xy, weight, shape, sigma)
    for dtype in DTYPES:
        got = cuda.fixation_map(up(xy, stream), up(weight, stream), shape, sigma, dtype=dtype, stream=stream)
        assert_close(down(got, stream), wanted, dtype)


def test_sets_of_points_in_a_batch_and_points_that_are_no_numbers(stream: cuda.Stream) -> None:
    sets = [random_points((40, 60), count, margin=5, seed=count) for count in (70, 3, 0, 129)]
    xy, weight = np.full((4, 129, 2), np.nan, np.float32), np.ones((4, 129), np.float32)
    for row, (points, weights) in enumerate(sets):
        xy[row, : len(points)], weight[row, : len(points)] = points, weights
    got = down(cuda.fixation_map(up(xy, stream), up(weight, stream), (40, 60), 2.5, stream=stream), stream)
    for row, (points, weights) in enumerate(sets):
        wanted = definitions.fixation_map(points.astype(np.float32), weights.astype(np.float32), (40, 60), 2.5)
        assert_close(got[row], wanted)


def test_columns_of_a_wider_table_and_one_weight_for_all_sets(stream: cuda.Stream) -> None:
    table = np.random.default_rng(2).uniform(0, 30, (3, 50, 7)).astype(np.float32)
    weight = np.random.default_rng(3).random(100)[::2]
    got = down(
        cuda.fixation_map(
            Strided(table[:, ::2, 5:1:-3], stream), Strided(weight[:25], stream), (30, 31), 1.7, stream=stream
        ),
        stream,
    )
    for row in range(3):
        assert_close(got[row], definitions.fixation_map(table[row, ::2, 5:1:-3], weight[:25], (30, 31), 1.7))


@EXAMPLES
@given(
    height=st.integers(1, 70), width=st.integers(1, 70), count=st.integers(0, 90), sigma=st.floats(1e-3, 60),
    margin=st.floats(0, 200), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_any_map_equals_its_definition(
    stream: cuda.Stream, height: int, width: int, count: int, sigma: float, margin: float, seed: int
) -> None:
    xy, weight = random_points((height, width), count, margin, seed)
    got = cuda.fixation_map(up(xy, stream), up(weight, stream), (height, width), sigma, stream=stream)
    assert_close(down(got, stream), definitions.fixation_map(xy, weight, (height, width), sigma))


# -- fading maps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half_life_s", [0.7, np.inf])
def test_a_fading_map_equals_its_definition(stream: cuda.Stream, half_life_s: float) -> None:
    samples = random_samples(700)
    one = cuda.FixationMap((40, 50), 2.5, half_life_s, stream=stream)
    for part in np.array_split(np.random.default_rng(0).permutation(700), 5):
        one.add(*(column[part] for column in samples), stream=stream)
    for later in (0, SECOND // 3, 20 * SECOND):
        read_ns = int(samples[0].max()) + later
        wanted = definitions.faded_fixation_map(*samples, (40, 50), 2.5, half_life_s, read_ns)
        assert_close(down(one.read(read_ns, stream=stream), stream), wanted)
        if later == 0:
            assert_close(down(one.read(read_ns, dtype=np.float16, stream=stream), stream), wanted, np.float16)
    with pytest.raises(ValueError, match="before the newest sample"):
        one.read(0, stream=stream)
    one.reset(stream=stream)
    assert not down(one.read(0, stream=stream), stream).any()


def test_years_apart_what_was_seen_is_gone_and_nothing_overflows(stream: cuda.Stream) -> None:
    one = cuda.FixationMap((8, 8), 1.0, 0.1, stream=stream)
    one.add(0, 2.5, 2.5, 1.0, stream=stream)
    one.add(10**18, 5.5, 5.5, 1.0, stream=stream)
    got = down(one.read(10**18, stream=stream), stream)
    assert_close(got, definitions.fixation_map([[5.5, 5.5]], [1.0], (8, 8), 1.0))


# -- fused frames -----------------------------------------------------------------------------------------------------


def random_map(*shape: int, seed: int = 4) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


@pytest.mark.parametrize(
    ("frame_size", "size"),
    [
        ((360, 640), (112, 112)),
        ((112, 112), (112, 112)),
        ((130, 121), (112, 112)),
        ((40, 30), (112, 112)),
        ((40, 300), (113, 111)),
        ((1, 1), (5, 7)),
        ((1, 500), (3, 3)),
        ((5, 7), (1, 1)),
        ((900, 40), (2, 3)),
        ((512, 32), (2, 3)),  # as many rows under a box as fit 16 bits, and one more
        ((514, 32), (2, 3)),
        ((30, 3000), (2, 2)),  # more columns under a tile than are added up in a pass
        ((9, 4112), (5, 3)),
        ((20, 31), (9, 257)),  # several tiles side by side, not of one width
        ((50, 640), (5, 129)),
    ],
)
def test_fusion_equals_its_definition(stream: cuda.Stream, frame_size: tuple[int, int], size: tuple[int, int]) -> None:
    frame, fixation_map = random_frame(*frame_size), random_map(*frame_size)
    wanted = definitions.fuse_gaze_frame(frame, fixation_map, size, MEAN, STD, color="rgb")
    for dtype in DTYPES:
        got = cuda.fuse_gaze_frame(
            up(frame, stream), up(fixation_map, stream), size, MEAN, STD, color="rgb", dtype=dtype, stream=stream
        )
        assert_close(down(got, stream), wanted, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fusion_takes_frames_as_they_lie(stream: cuda.Stream, layout: str) -> None:
    frame, fixation_map = LAYOUTS[layout](70, 90), random_map(20, 60)[::-1, ::2]
    got = cuda.fuse_gaze_frame(
        Strided(frame, stream), Strided(fixation_map, stream), (31, 65), MEAN, STD, stream=stream
    )
    assert_close(down(got, stream), definitions.fuse_gaze_frame(frame, fixation_map, (31, 65), MEAN, STD))


# Stride, offset and size (height, width) of frames whose rows lie `stride` apart and the first `offset` bytes after a
# multiple of sixteen: sixteen bytes can be read at once, or four, or one; at the ends of rows fewer.
PLACES = {
    "sixteen": (192, 0, (21, 64)),
    "sixteen, padded rows": (208, 0, (21, 62)),
    "sixteen, from anywhere": (208, 5, (21, 64)),
    "sixteen, upside down": (-208, 9, (21, 64)),
    "sixteen, rows of fewer": (32, 11, (21, 5)),
    "sixteen, rows of one pixel": (16, 7, (21, 1)),
    "sixteen, a row repeated": (0, 3, (21, 64)),
    "four": (204, 0, (21, 68)),
    "four, from anywhere": (204, 3, (21, 66)),
    "four, upside down": (-204, 2, (21, 66)),
    "one": (195, 0, (21, 65)),
}


def placed(stride: int, offset: int, size: tuple[int, int], step: int | None = None, count: int = 3) -> Any:
    """A frame, or with a step a batch of them, in a buffer that ends with it."""
    height, width = size
    reach = abs(stride) * (height - 1) + 3 * width
    begin = offset + (reach - 3 * width if stride < 0 else 0)
    total = -(-(offset + reach + (0 if step is None else step * (count - 1))) // 16) * 16
    buffer = np.random.default_rng(5).integers(0, 256, total, dtype=np.uint8)
    shape, strides = (height, width, 3), (stride, 3, 1)
    if step is not None:
        shape, strides = (count, *shape), (step, *strides)
    return np.ndarray(shape, np.uint8, buffer, begin, strides)


@pytest.mark.parametrize("place", PLACES)
def test_frames_are_read_from_wherever_their_rows_begin(stream: cuda.Stream, place: str) -> None:
    frame = placed(*PLACES[place])
    on_gpu, gaze = Strided(frame, stream), random_map(8, 9)
    for size in ((5, 9), (33, 70)):
        got = cuda.fuse_gaze_frame(on_gpu, up(gaze, stream), size, MEAN, STD, stream=stream)
        assert_close(down(got, stream), definitions.fuse_gaze_frame(frame, gaze, size, MEAN, STD))
    middle = (0.6 * frame.shape[1], 12.0)
    for scale in (0.21, 1.0, 1.7):
        affine = turned(0.0, scale, middle, (10, 13))
        got = cuda.crop_normalize(on_gpu, affine, (10, 13), MEAN, STD, stream=stream)
        assert_close(down(got, stream), definitions.crop_normalize(frame, affine, (10, 13), MEAN, STD))


@pytest.mark.parametrize("height", [512, 514, 516, 1200])
def test_no_sum_of_rows_overflows(stream: cuda.Stream, height: int) -> None:
    frame = np.full((height, 16, 3), 255, np.uint8)
    got = cuda.fuse_gaze_frame(up(frame, stream), up(random_map(4, 4), stream), (2, 3), MEAN, STD, stream=stream)
    assert_close(down(got, stream), definitions.fuse_gaze_frame(frame, random_map(4, 4), (2, 3), MEAN, STD))


@pytest.mark.parametrize("step", [21 * 208, 21 * 208 + 4, 21 * 208 + 1, -21 * 208, 0])
def test_images_of_a_batch_lie_any_step_apart(stream: cuda.Stream, step: int) -> None:
    frames = placed(208, 5, (21, 64), abs(step))[:: -1 if step < 0 else 1]
    gaze = random_map(3, 8, 9)[::-1]
    got = cuda.fuse_gaze_frame(Strided(frames, stream), Strided(gaze, stream), (5, 9), MEAN, STD, stream=stream)
    for row, image in enumerate(down(got, stream)):
        assert_close(image, definitions.fuse_gaze_frame(frames[row], gaze[row], (5, 9), MEAN, STD))


@pytest.mark.parametrize("map_size", [(5, 600), (3, 2600), (700, 3), (1, 1)])
def test_maps_of_any_size_are_fused(stream: cuda.Stream, map_size: tuple[int, int]) -> None:
    frame, gaze = random_frame(20, 48), random_map(*map_size)
    got = cuda.fuse_gaze_frame(up(frame, stream), up(gaze, stream), (10, 21), MEAN, STD, stream=stream)
    assert_close(down(got, stream), definitions.fuse_gaze_frame(frame, gaze, (10, 21), MEAN, STD))


def test_a_batch_of_frames_with_maps_of_their_own_or_one_for_all(stream: cuda.Stream) -> None:
    frames = np.stack([random_frame(50, 70, seed=seed) for seed in range(5)])
    maps = random_map(5, 50, 70)
    own = down(cuda.fuse_gaze_frame(up(frames, stream), up(maps, stream), (20, 30), MEAN, STD, stream=stream), stream)
    one = down(
        cuda.fuse_gaze_frame(up(frames, stream), up(maps[0], stream), (20, 30), MEAN, STD, stream=stream), stream
    )
    for row, frame in enumerate(frames):
        assert_close(own[row], definitions.fuse_gaze_frame(frame, maps[row], (20, 30), MEAN, STD))
        assert_close(one[row], definitions.fuse_gaze_frame(frame, maps[0], (20, 30), MEAN, STD))


# -- face crops -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [0.0, 12.0, 90.0, 180.0])
@pytest.mark.parametrize("scale", [2.5, 1.0, 0.31, 0.06])
def test_a_crop_equals_its_definition(stream: cuda.Stream, degrees: float, scale: float) -> None:
    frame = random_frame(240, 320)
    for centre in ((150.3, 117.8), (3.0, 230.0)):
        affine = turned(degrees, scale, centre, (56, 48))
        wanted = definitions.crop_normalize(frame, affine, (56, 48), MEAN, STD)
        for dtype in DTYPES:
            got = cuda.crop_normalize(up(frame, stream), affine, (56, 48), MEAN, STD, dtype=dtype, stream=stream)
            assert_close(down(got, stream), wanted, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_crops_are_taken_from_frames_as_they_lie(stream: cuda.Stream, layout: str) -> None:
    frame = LAYOUTS[layout](70, 90)
    for degrees in (0.0, 30.0):
        affine = turned(degrees, 0.4, (40.0, 30.0), (31, 67))
        got = cuda.crop_normalize(Strided(frame, stream), affine, (31, 67), MEAN, STD, stream=stream)
        assert_close(down(got, stream), definitions.crop_normalize(frame, affine, (31, 67), MEAN, STD))


@pytest.mark.parametrize(("width", "across"), [(512, 0.2), (1024, 0.018), (1024, -0.013), (4112, 0.003), (720, 0.7)])
def test_upright_crops_of_wide_frames(stream: cuda.Stream, width: int, across: float) -> None:
    """Their sums take one pass, several of some rows each, or several of some columns each."""
    frame = random_frame(40, width)
    size = (7, 300) if across > 0.1 else (7, 13)
    affine = np.array([[across, 0, size[1] / 2 - across * width / 2], [0, -0.3, 9.0]])
    for given_affine in (affine, up(affine, stream)):
        got = cuda.crop_normalize(up(frame, stream), given_affine, size, MEAN, STD, stream=stream)
        assert_close(down(got, stream), definitions.crop_normalize(frame, affine, size, MEAN, STD))


def test_where_blocks_are_many_each_takes_more_rows(stream: cuda.Stream) -> None:
    frame, size = random_frame(9, 32), (24577, 2)
    affine = np.array([[0.06, 0, 0], [0, size[0] / 9, 0]])
    got = cuda.crop_normalize(up(frame, stream), affine, size, MEAN, STD, stream=stream)
    assert_close(down(got, stream), definitions.crop_normalize(frame, affine, size, MEAN, STD))


def test_many_crops_of_one_frame_and_of_a_frame_each(stream: cuda.Stream) -> None:
    frames = np.stack([random_frame(60, 80, seed=seed) for seed in range(37)])
    affines = np.stack([turned(5.0 * row, 0.3 + 0.05 * row, (40.0, 30.0), (12, 10)) for row in range(37)])
    own = down(cuda.crop_normalize(up(frames, stream), affines, (12, 10), MEAN, STD, stream=stream), stream)
    one = down(cuda.crop_normalize(up(frames[0], stream), affines, (12, 10), MEAN, STD, stream=stream), stream)
    for row in range(37):
        assert_close(own[row], definitions.crop_normalize(frames[row], affines[row], (12, 10), MEAN, STD))
        assert_close(one[row], definitions.crop_normalize(frames[0], affines[row], (12, 10), MEAN, STD))


def test_affines_on_the_gpu_and_one_without_an_inverse(stream: cuda.Stream) -> None:
    frame = random_frame(60, 80)
    good = [turned(20.0, 0.5, (40.0, 30.0), (12, 10)), turned(0.0, 1.5, (40.0, 30.0), (12, 10))]
    bad = [np.zeros((2, 3)), np.ones((2, 3)), np.full((2, 3), np.nan), np.array([[0.5, 0, 0], [0, 1e-101, 0]])]
    affines = np.stack([*good, *bad])
    got = down(cuda.crop_normalize(up(frame, stream), up(affines, stream), (12, 10), MEAN, STD, stream=stream), stream)
    for row, affine in enumerate(good):
        assert_close(got[row], definitions.crop_normalize(frame, affine, (12, 10), MEAN, STD))
    assert np.isnan(got[len(good) :]).all()
    with pytest.raises(ValueError, match="invertible"):
        cuda.crop_normalize(up(frame, stream), affines, (12, 10), MEAN, STD, stream=stream)


# -- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_tokens_are_laid_out_in_the_places_of_a_window(stream: cuda.Stream, stored: Any, dtype: Any) -> None:
    tokens = np.random.default_rng(1).standard_normal((9, 300)).astype(stored)
    index = np.array([[0, 8, -1, 3], [9, 3, 2**31 - 1, -(2**31)]], np.int32)
    out, mask = cuda.assemble_tokens(up(tokens, stream), up(index, stream), dtype=dtype, stream=stream)
    values, stands = definitions.assemble_tokens(tokens, index)
    assert_close(down(out, stream), values, dtype)
    assert np.array_equal(down(mask, stream), stands)


# -- arguments --------------------------------------------------------------------------------------------------------


def test_outputs_lie_on_the_gpu_in_page_locked_memory_or_at_an_address(stream: cuda.Stream) -> None:
    xy, weight = random_points((20, 30), 40)
    wanted = definitions.fixation_map(xy, weight, (20, 30), 2.0)
    points = up(xy, stream), up(weight, stream)
    host = cuda.pinned((20, 30))
    owned = cuda.empty((20, 30))
    for out in (host, cuda.at(owned.address, (20, 30)), owned):
        cuda.fixation_map_into(out, *points, 2.0, stream=stream)
    stream.synchronize()
    assert_close(host, wanted)
    assert_close(down(owned, stream), wanted)


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"xy": np.zeros((4, 2))}, TypeError, "xy lies in ordinary host memory.*pinned"),
        ({"xy": "points"}, TypeError, "xy must be an array"),
        ({"xy": ("up", np.zeros((4, 3)))}, ValueError, r"xy must have shape \(count, 2\)"),
        ({"xy": ("up", np.zeros((4, 2), np.int32))}, TypeError, "xy must be float32 or float64, not int32"),
        ({"weight": ("up", np.zeros(3))}, ValueError, r"weight must have shape \(4,\)"),
        ({"out": ("up", np.zeros((5, 6), np.float64))}, TypeError, "out must be float32 or float16"),
        ({"out": ("up", np.zeros((2, 5, 6), np.float32)), "xy": ("up", np.zeros((3, 4, 2)))}, ValueError, "batch of 3"),
        ({"sigma": 0.0}, ValueError, "sigma"),
        ({"stream": None}, TypeError, "stream must be a CUDA stream or its handle"),
        ({"stream": True}, TypeError, "stream must be a CUDA stream or its handle"),
    ],
)
def test_what_is_wrong_with_an_argument_is_named(
    stream: cuda.Stream, change: dict[str, Any], error: type[Exception], told: str
) -> None:
    good: dict[str, Any] = {
        "out": ("up", np.zeros((5, 6), np.float32)), "xy": ("up", np.zeros((4, 2))), "weight": ("up", np.zeros(4)),
        "sigma": 1.0, "stream": stream,
    }  # fmt: skip
    given_ = {
        name: up(value[1], stream) if isinstance(value, tuple) else value for name, value in (good | change).items()
    }
    with pytest.raises(error, match=told):
        cuda.fixation_map_into(**given_)


def test_an_output_over_its_input_is_refused(stream: cuda.Stream) -> None:
    memory = cuda.empty((4, 20, 20))
    with pytest.raises(ValueError, match="out must not share memory with an input"):
        cuda.fuse_gaze_frame_into(
            memory, up(random_frame(20, 20), stream), cuda.at(memory.address, (20, 20)), MEAN, STD, stream=stream
        )


def test_without_a_gpu_the_module_says_so() -> None:
    fault = cuda.fault()
    if fault is None:
        pytest.skip("there is a GPU here")
    with pytest.raises(DeviceUnavailable, match=re.escape(fault)):
        cuda.empty((3,))


# -- whatever else lives on a GPU -------------------------------------------------------------------------------------


def test_pytorchs_and_cupys_arrays_and_streams_are_taken(gpu: str) -> None:  # noqa: F811
    xy, weight = random_points((20, 30), 40)
    wanted = definitions.fixation_map(xy.astype(np.float32), weight.astype(np.float32), (20, 30), 2.0)
    torch = pytest.importorskip("torch")
    with torch.cuda.stream(torch.cuda.Stream()):
        out = torch.empty((20, 30), device="cuda")
        own = torch.as_tensor(xy.astype(np.float32)).cuda(), torch.as_tensor(weight.astype(np.float32)).cuda()
        cuda.fixation_map_into(out, *own, 2.0, stream=torch.cuda.current_stream())
        assert_close(out.cpu().numpy(), wanted)
        half = torch.empty((20, 30), device="cuda", dtype=torch.float16)
        cuda.fixation_map_into(half, *own, 2.0, stream=torch.cuda.current_stream())
        assert_close(half.cpu().numpy(), wanted, np.float16)
    cupy = pytest.importorskip("cupy")
    with cupy.cuda.Stream(non_blocking=True) as own_stream:
        filled = cupy.empty((20, 30), cupy.float32)
        cuda.fixation_map_into(
            filled, cupy.asarray(xy, cupy.float32), cupy.asarray(weight, cupy.float32), 2.0, stream=own_stream
        )
        assert_close(cupy.asnumpy(filled), wanted)


def test_a_cuda_graph_captures_the_whole_way_and_reads_anew_at_each_replay(gpu: str) -> None:  # noqa: F811
    """From a camera's frame and an affine on the GPU to an engine's inputs; nothing allocates or waits in between."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    frame = torch.zeros((240, 320, 3), dtype=torch.uint8, device="cuda")
    points = torch.full((64, 2), float("nan"), device="cuda")
    weight = torch.ones(64, device="cuda")
    affine = torch.zeros((2, 3), dtype=torch.float64, device="cuda")
    gaze, fused = torch.empty((240, 320), device="cuda"), torch.empty((4, 112, 112), device="cuda")
    crop = torch.empty((3, 48, 48), dtype=torch.float16, device="cuda")
    index = torch.full((4,), -1, dtype=torch.int32, device="cuda")
    tokens, out = torch.randn((8, 128), device="cuda"), torch.empty((4, 128), device="cuda")
    mask = torch.empty(4, device="cuda")
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.graph(graph, stream=side):
        cuda.fixation_map_into(gaze, points, weight, 9.0, stream=side)
        cuda.fuse_gaze_frame_into(fused, frame, gaze, MEAN, STD, stream=side)
        cuda.crop_normalize_into(crop, frame, affine, MEAN, STD, stream=side)
        cuda.assemble_tokens_into(out, mask, tokens, index, stream=side)
    for turn in range(3):
        picture = random_frame(240, 320, seed=turn)
        xy = rng.uniform(0, 240, (64, 2)).astype(np.float32)
        matrix = turned(10.0 * turn, 0.4, (150.0, 120.0), (48, 48))
        places = rng.integers(-1, 8, 4).astype(np.int32)
        for target, value in ((frame, picture), (points, xy), (affine, matrix), (index, places)):
            target.copy_(torch.as_tensor(value))
        graph.replay()
        torch.cuda.synchronize()
        wanted = definitions.fixation_map(xy, np.ones(64), (240, 320), 9.0)
        assert_close(gaze.cpu().numpy(), wanted)
        assert_close(fused.cpu().numpy(), definitions.fuse_gaze_frame(picture, wanted, (112, 112), MEAN, STD))
        assert_close(crop.cpu().numpy(), definitions.crop_normalize(picture, matrix, (48, 48), MEAN, STD), np.float16)
        values, stands = definitions.assemble_tokens(tokens.cpu().numpy(), places)
        assert_close(out.cpu().numpy(), values)
        assert np.array_equal(mask.cpu().numpy(), stands)


def test_the_order_in_which_threads_take_turns_changes_no_bit(device: str) -> None:  # noqa: F811
    if device != "host":
        pytest.skip("a GPU's order cannot be chosen")
    order = ctypes.CDLL(str(cuda._cuda.__file__)).emert_turn_order
    one = cuda.Stream()
    xy, weight = up(random_points((50, 70), 200)[0], one), up(np.ones(200), one)
    frame, gaze = up(random_frame(60, 90), one), up(random_map(60, 90), one)
    affine = turned(0.0, 0.4, (40.0, 30.0), (31, 67))
    results = []
    try:
        for turn in range(3):  # rising, falling, shuffled
            order(turn)
            made = (
                cuda.fixation_map(xy, weight, (50, 70), 3.0, stream=one),
                cuda.fuse_gaze_frame(frame, gaze, (31, 65), MEAN, STD, stream=one),
                cuda.crop_normalize(frame, affine, (31, 67), MEAN, STD, stream=one),
            )
            results.append([down(array, one) for array in made])
    finally:
        order(0)
    assert all(np.array_equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


def test_the_same_input_gives_the_same_bits(stream: cuda.Stream) -> None:
    xy, weight = random_points((100, 140), 500)
    points = up(xy, stream), up(weight, stream)
    first, *others = (down(cuda.fixation_map(*points, (100, 140), 6.0, stream=stream), stream) for _ in range(4))
    assert all(np.array_equal(first, other) for other in others)
