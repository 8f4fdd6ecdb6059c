"""What all kernels promise at their border: outputs, memory, threads, instruction sets."""

from __future__ import annotations

import sys
import threading
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from emert_edge import _core, kernels

from .frames import MEAN, STD, random_frame

Float32 = npt.NDArray[np.float32]
Into = Callable[[Float32], None]

FRAME = random_frame(40, 50)
MAP = np.random.default_rng(0).random((10, 10), dtype=np.float32)
XY = np.random.default_rng(0).random((64, 2)) * 30
WEIGHT = np.ones(64)
TURNED = np.array([[0.5, 0.1, 0.0], [-0.1, 0.5, 2.0]])
UPRIGHT = np.array([[0.5, 0.0, 0.0], [0.0, 0.5, 2.0]])


def stream() -> kernels.FixationMap:
    one = kernels.FixationMap((20, 30), 2.0, 1.0)
    one.add(0, XY[:, 0], XY[:, 1], WEIGHT)
    return one


READ = stream()
INTO: dict[str, tuple[tuple[int, ...], Into]] = {
    "fixation_map": ((20, 30), lambda out: kernels.fixation_map_into(out, XY, WEIGHT, 2.0)),
    "FixationMap.read": ((20, 30), lambda out: READ.read_into(out, 5)),
    "fuse_gaze_frame": ((4, 20, 30), lambda out: kernels.fuse_gaze_frame_into(out, FRAME, MAP, MEAN, STD)),
    "crop_normalize upright": ((3, 20, 30), lambda out: kernels.crop_normalize_into(out, FRAME, UPRIGHT, MEAN, STD)),
    "crop_normalize turned": ((3, 20, 30), lambda out: kernels.crop_normalize_into(out, FRAME, TURNED, MEAN, STD)),
}


@pytest.fixture(params=INTO)
def into(request: pytest.FixtureRequest) -> tuple[tuple[int, ...], Into]:
    return INTO[request.param]


def test_an_output_of_another_dtype_is_refused(into: tuple[tuple[int, ...], Into]) -> None:
    shape, call = into
    for dtype in (np.float64, np.float16, np.uint8, ">f4"):
        with pytest.raises(TypeError, match="out must be float32"):
            call(np.zeros(shape, dtype))
    with pytest.raises(TypeError, match=r"out must be a numpy\.ndarray"):
        call(np.zeros(shape, np.float32).tolist())


def test_an_output_of_another_shape_is_refused(into: tuple[tuple[int, ...], Into]) -> None:
    shape, call = into
    for wrong in (shape[:-1], (*shape, 1), (0,) * len(shape)):
        with pytest.raises(ValueError, match="out must have"):
            call(np.zeros(wrong, np.float32))


def test_an_output_that_is_not_contiguous_is_refused(into: tuple[tuple[int, ...], Into]) -> None:
    shape, call = into
    wider = np.zeros((*shape[:-1], shape[-1] + 1), np.float32)
    for out in (wider[..., :-1], np.zeros(shape, np.float32)[..., ::-1], np.zeros(shape, np.float32, order="F")):
        with pytest.raises(ValueError, match="out must be C-contiguous"):
            call(out)


def test_a_read_only_output_is_refused(into: tuple[tuple[int, ...], Into]) -> None:
    shape, call = into
    out = np.zeros(shape, np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out must be writable"):
        call(out)


def test_an_output_inside_an_input_is_refused() -> None:
    memory = np.zeros(40 * 50 * 3, np.uint8)
    frame = memory.reshape(40, 50, 3)
    fused = memory[: 4 * 2 * 2 * 4].view(np.float32).reshape(4, 2, 2)
    with pytest.raises(ValueError, match="out must not share memory"):
        kernels.fuse_gaze_frame_into(fused, frame, MAP, MEAN, STD)
    with pytest.raises(ValueError, match="out must not share memory"):
        kernels.fuse_gaze_frame_into(fused, frame[::-1, ::-1], MAP, MEAN, STD)
    with pytest.raises(ValueError, match="out must not share memory"):
        kernels.crop_normalize_into(fused[:3], frame, UPRIGHT, MEAN, STD)
    stacked = np.zeros((5, 10, 10), np.float32)
    with pytest.raises(ValueError, match="out must not share memory"):
        kernels.fuse_gaze_frame_into(stacked[:4], FRAME, stacked[3], MEAN, STD)
    kernels.fuse_gaze_frame_into(stacked[:4], FRAME, stacked[4], MEAN, STD)
    points = np.zeros((10, 2), np.float32)
    with pytest.raises(ValueError, match="out must not share memory"):
        kernels.fixation_map_into(points, points, np.ones(10), 1.0)


def test_a_stream_is_read_only_into_its_own_shape() -> None:
    with pytest.raises(ValueError, match="out must have the map's shape"):
        stream().read_into(np.zeros((30, 20), np.float32), 5)


def test_a_view_into_a_larger_array_is_an_output_and_nothing_beside_it_is_touched(
    isa: str, into: tuple[tuple[int, ...], Into]
) -> None:
    shape, call = into
    memory = np.full((3, *shape), 7, np.float32)
    call(memory[1])
    assert (memory[0] == 7).all()
    assert (memory[2] == 7).all()
    alone = np.empty(shape, np.float32)
    call(alone)
    np.testing.assert_array_equal(memory[1], alone)


def test_into_allocates_nothing(into: tuple[tuple[int, ...], Into]) -> None:
    shape, call = into
    out = np.empty(shape, np.float32)
    call(out)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        call(out)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Less than one row of the output: small Python objects of the call itself.
    assert peak - before < 1024


LARGE = random_frame(1080, 1920)
STREAM = kernels.FixationMap((1000, 1000), 100.0, 1.0)
LONG: dict[str, Callable[[], object]] = {
    "fixation_map": lambda: kernels.fixation_map(np.tile(XY, (30, 1)) * 30, np.tile(WEIGHT, 30), (1000, 1000), 100.0),
    "FixationMap.add": lambda: STREAM.add(np.zeros(2000, np.int64), np.full(2000, 500.0), 500.0, 1.0),
    "fuse_gaze_frame": lambda: kernels.fuse_gaze_frame(LARGE, MAP, (2000, 2000), MEAN, STD),
    "crop_normalize": lambda: kernels.crop_normalize(LARGE, TURNED, (2000, 2000), MEAN, STD),
}


@pytest.mark.parametrize("name", LONG)
def test_other_threads_run_while_a_kernel_does(name: str) -> None:
    # With no forced switches another thread gets its turns only where this one lets go of the GIL.
    turns = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal turns
        while not stop.is_set():
            turns += 1
            time.sleep(0)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    counter = threading.Thread(target=count)
    try:
        counter.start()
        before = turns
        for _ in range(200):
            LONG[name]()
            if turns > before:
                break
        during = turns - before
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        counter.join()
    assert during > 0


def test_threads_do_not_disturb_each_other() -> None:
    wanted = kernels.fuse_gaze_frame(FRAME, MAP, (20, 30), MEAN, STD)
    wrong: list[int] = []

    def work(seed: int) -> None:
        size = (10 + seed, 40 - seed)
        for _ in range(50):
            kernels.fixation_map(XY, WEIGHT, size, 1.0 + seed)
            if not np.array_equal(kernels.fuse_gaze_frame(FRAME, MAP, (20, 30), MEAN, STD), wanted):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_threads_may_add_to_one_stream() -> None:
    one = kernels.FixationMap((20, 30), 2.0, float("inf"))

    def work() -> None:
        for _ in range(100):
            one.add(0, XY[:, 0], XY[:, 1], WEIGHT)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(one.read(0), 400 * kernels.fixation_map(XY, WEIGHT, (20, 30), 2.0), rtol=1e-5)


def test_the_baseline_is_always_there_and_the_fastest_is_in_use() -> None:
    assert _core.available_isas()[0] == "baseline"
    assert kernels.instruction_set() == _core.available_isas()[-1]


def test_an_instruction_set_that_this_cpu_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match='no bodies named "sse9"'):
        _core.choose_isa("sse9")
