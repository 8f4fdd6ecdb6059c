"""TensorRT through its own bindings, with doubles in the place of the GPU and the bindings.

The double computes with ONNX Runtime, so numbers are real; what it cannot show is TensorRT's own speed and rounding.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import emert_edge.engines.device as device_module
from emert_edge import BundleIncompatible, DeviceUnavailable, EngineError, EngineMismatch, Recognizer
from emert_edge.bundle import Bundle
from emert_edge.bundle.manifest import Evidence
from emert_edge.engines import Device, EngineSet, open_engines, tensor_shapes
from emert_edge.engines.cache import EngineCache
from emert_edge.engines.provision import EngineSupply
from emert_edge.engines.tensorrt import TensorRTEngine

from .board import PREAMBLE, Board, board
from .small_bundle import write_small_bundle

VERSIONS = ("10.3.0", "11.4.1.2")


@pytest.fixture(params=VERSIONS)
def orin(request: pytest.FixtureRequest, home: Path) -> Any:
    """A board of each generation of TensorRT."""
    with board(request.param) as made:
        yield made


@pytest.fixture
def ten(home: Path) -> Any:
    with board("10.3.0") as made:
        yield made


def open_on(bundle: Bundle, precision: str = "fp32", **options: Any) -> EngineSet:
    return open_engines(bundle, device="tensorrt", precision=precision, **options)


def plain(bundle: Bundle, role: Any, precision: Any, inputs: dict[str, Any], batch: int) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(
        bundle.read(bundle.graph(role, precision, "tensorrt").file), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {name: buffer[:batch] for name, buffer in inputs.items()})
    return dict(zip(names, values, strict=True))


def run_and_compare(engine: Any, bundle: Bundle, role: Any, precision: Any, batch: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for buffer in engine.inputs.values():
        buffer[:] = rng.standard_normal(buffer.shape, np.float32)
    engine.run(batch)
    for name, expected in plain(bundle, role, precision, engine.inputs, batch).items():
        np.testing.assert_allclose(engine.outputs[name][:batch], expected, atol=1e-6)


def builds(made: Board) -> int:
    return sum(call.member == "build_serialized_network" for call in made.trt.calls)


# -- running ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_outputs_are_onnx_runtimes_at_every_batch_first_run_and_replayed(
    orin: Board, small: Bundle, precision: str
) -> None:
    engines = open_on(small, precision)
    for role, engine in (("face_encoder", engines.face_encoder), ("head", engines.head)):
        for seed, batch in enumerate((1, 3, 8, 3, 1, 2, 8, 1)):
            run_and_compare(engine, small, role, precision, batch, seed)
    assert (str(engines.device), engines.precision) == ("tensorrt:0", precision)
    engines.close()
    assert not orin.gpu.contexts


def test_a_recognizer_estimates_what_it_estimates_on_the_cpu(ten: Board) -> None:
    images = np.random.default_rng(0).integers(0, 255, (11, 60, 60, 3), np.uint8)
    with Recognizer(device="cpu", precision="fp16") as recognizer:
        expected = recognizer.expressions(images)
    with Recognizer(device="tensorrt") as recognizer:
        assert (recognizer.device, recognizer.precision) == ("tensorrt:0", "fp16")
        np.testing.assert_allclose(recognizer.expressions(images), expected, atol=1e-6)
        recognizer.warmup()
        told = recognizer.describe()
    assert {one["role"] for one in told["engines"]} == {"face_encoder", "fixation_encoder", "head"}
    for one in told["engines"]:
        assert one["runtime"] == "tensorrt 10.3.0"
        assert one["providers"] == ("TensorRT",)
        assert one["max_batch"] == 8
        assert "Orin, compute capability 8.7" in one["notes"]
    assert any(note.startswith("CUDA graph for batches of 1, 3, 8") for note in told["engines"][0]["notes"])
    json.dumps(told)


def test_the_first_run_of_a_batch_captures_and_later_ones_replay_without_allocating(orin: Board, small: Bundle) -> None:
    head = open_on(small).head
    orin.gpu.events.clear()
    head.run(2)
    assert orin.gpu.events == [
        "synchronize", "upload", "upload", "execute", "download", "synchronize",
        "begin capture", "capture upload", "capture upload", "capture execute", "capture download", "end capture",
        "synchronize",
    ]  # fmt: skip
    orin.gpu.events.clear()
    allocations, calls = orin.gpu.allocations, len(orin.trt.calls)
    for _ in range(5):
        head.run(2)
    assert orin.gpu.events == ["launch", "synchronize"] * 5
    assert orin.gpu.allocations == allocations
    assert len(orin.trt.calls) == calls


def test_what_was_written_on_the_gpu_is_not_copied_there(orin: Board, small: Bundle) -> None:
    head = open_on(small).head
    rng = np.random.default_rng(0)
    tokens, mask = (rng.standard_normal(head.inputs[name].shape, np.float32) for name in ("face_tokens", "face_mask"))
    head.inputs["face_tokens"][:] = 7  # stays on the host
    written = frozenset({"face_tokens"})
    for batch in (3, 3, 1):  # enqueued, replayed from a graph, and another size
        there = head.on_gpu("face_tokens")
        assert there.shape == tokens.shape
        orin.gpu.at(there.address, tokens.nbytes)[:] = tokens.reshape(-1).view(np.uint8)
        head.inputs["face_mask"][:] = mask
        orin.gpu.events.clear()
        head.enqueue(batch, written)
        head.wait()
        assert sum("upload" in event and "capture" not in event for event in orin.gpu.events) <= 1
        expected = plain(small, "head", "fp32", {"face_tokens": tokens, "face_mask": mask}, batch)
        for name, values in expected.items():
            np.testing.assert_allclose(head.outputs[name][:batch], values, atol=1e-6)
    run_and_compare(head, small, "head", "fp32", 3, 1)  # and all from the host, as ever


def test_engines_that_share_a_stream_leave_it_to_the_set(
    orin: Board, small: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emert_edge.engines.kernel_fault", lambda device: None)
    with closing(open_on(small)) as engines:
        assert engines.on_gpu
        assert len({engine.stream for engine in engines.all()}) == 1
        run_and_compare(engines.head, small, "head", "fp32", 2, 0)
        engines.face_encoder.close()
        run_and_compare(engines.head, small, "head", "fp32", 2, 1)
    engines.close()  # twice does no harm
    assert not orin.gpu.memory
    assert not orin.gpu.contexts


def test_buffers_are_the_page_locked_ones_and_start_at_zero(orin: Board, small: Bundle) -> None:
    engine = open_on(small).face_encoder
    for buffer in (*engine.inputs.values(), *engine.outputs.values()):
        assert buffer.ctypes.data in orin.gpu.pinned
        assert buffer.dtype == np.float32
        assert not buffer.any()


def test_a_failed_capture_is_logged_and_left_alone(
    orin: Board, small: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    orin.gpu.capture_fails = True
    engine = open_on(small).face_encoder
    with caplog.at_level(logging.WARNING, "emert_edge"):
        run_and_compare(engine, small, "face_encoder", "fp32", 3, seed=1)
    assert "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED" in caplog.text
    orin.gpu.capture_fails = False
    orin.gpu.events.clear()
    run_and_compare(engine, small, "face_encoder", "fp32", 3, seed=2)
    assert orin.gpu.events == ["upload", "execute", "download", "synchronize"]
    assert "no CUDA graph for batches of 3" in engine.describe().notes[-1]


def test_a_batch_out_of_range_and_a_closed_engine_are_errors(orin: Board, small: Bundle) -> None:
    engine = open_on(small).head
    for batch in (0, 9, -1):
        with pytest.raises(ValueError, match="batch"):
            engine.run(batch)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run(1)


def test_closing_frees_the_gpu_and_arrays_live_as_long_as_they_are_held(orin: Board, small: Bundle) -> None:
    engines = open_on(small)
    engines.head.run(3)
    kept = engines.face_encoder.inputs["frame"]
    kept[:] = 5
    engines.close()
    assert not orin.gpu.memory
    del engines
    gc.collect()
    assert list(orin.gpu.pinned) == [kept.ctypes.data]
    assert (kept == 5).all()
    dropped: list[Any] = [kept]
    del kept
    thread = threading.Thread(target=dropped.clear)  # in a thread that has never seen CUDA
    thread.start()
    thread.join()
    assert not orin.gpu.pinned
    assert not orin.gpu.contexts


def test_engines_of_one_bundle_run_in_threads_of_their_own(orin: Board, small: Bundle) -> None:
    sets = [open_on(small) for _ in range(3)]
    faults: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for seed in range(6):
                engine = sets[number].face_encoder
                run_and_compare(engine, small, "face_encoder", "fp32", 1 + (seed + number) % 8, seed * 10 + number)
            assert not orin.gpu.contexts
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not faults
    assert len({id(one) for one in sets}) == 3
    for one in sets:
        one.close()
    assert not orin.gpu.memory


def test_the_gpus_memory_is_exhausted(orin: Board, small: Bundle) -> None:
    open_on(small).close()
    orin.gpu.limit = 4000
    with pytest.raises(EngineError, match="memory of GPU 0 is exhausted"):
        open_on(small)
    assert not orin.gpu.memory
    assert not orin.gpu.contexts


def test_a_build_whose_check_exhausts_the_memory_keeps_nothing(orin: Board, small: Bundle) -> None:
    orin.gpu.limit = 200
    with pytest.raises(EngineError, match="memory of GPU 0 is exhausted"):
        open_on(small)
    assert builds(orin) == 1
    assert not list(EngineCache().folder.glob("*.engine"))
    assert not orin.gpu.memory
    orin.gpu.limit = 1 << 30
    open_on(small).close()


@pytest.mark.parametrize("fault", ["run", "context"])
def test_what_tensorrt_says_of_a_failed_run_reaches_the_caller(orin: Board, small: Bundle, fault: str) -> None:
    engine = open_on(small).head
    orin.trt.faults[fault] = "an illegal memory access was encountered"
    with pytest.raises(EngineError, match=r"head\.fp32\.onnx.*illegal memory access"):
        engine.run(1)
    orin.trt.faults.clear()
    run_and_compare(engine, small, "head", "fp32", 1, seed=0)


def test_an_engine_that_does_not_fit_its_manifest_names_the_tensor(orin: Board, small: Bundle) -> None:
    supply = EngineSupply(Device("tensorrt"))
    shapes = tensor_shapes(small.manifest)
    plan = supply.build(small, "head", "fp32", shapes["head"]).plan
    for change, words in (
        ({"face_tokens": (8, 16)}, "'face_tokens' has shape"),
        ({"other": (1,)}, "'face_tokens' is unknown"),
    ):
        wrong = shapes["head"] | change if "other" not in change else change
        with pytest.raises(BundleIncompatible, match=words):
            TensorRTEngine(
                plan, "b: h.onnx", supply._cuda, role="head", file="h.onnx", precision="fp32", shapes=wrong
            )  # fmt: skip
    assert not orin.gpu.memory


# -- building ---------------------------------------------------------------------------------------------------------


def test_an_engine_is_built_once_and_found_ever_after(orin: Board, small: Bundle) -> None:
    open_on(small).close()
    assert builds(orin) == 2
    with closing(open_on(small)) as engines:
        run_and_compare(engines.head, small, "head", "fp32", 2, seed=0)
    assert builds(orin) == 2
    assert len(list(EngineCache().entries())) == 2


def test_a_build_is_strongly_typed_with_two_profiles_and_without_tf32(orin: Board, small: Bundle) -> None:
    supply = EngineSupply(Device("tensorrt"))
    built = supply.build(small, "head", "fp16", tensor_shapes(small.manifest)["head"], max_batch=5)
    plan = pickle.loads(built.plan)
    assert plan["strong"] is True
    assert plan["flags"] == []
    assert [profile["face_mask"] for profile in plan["profiles"]] == [
        ((1, 8), (1, 8), (1, 8)),
        ((2, 8), (5, 8), (5, 8)),
    ]
    assert built.notes["strongly_typed"] is True
    assert built.notes["difference"] < 1e-6
    assert built.key.max_batch == 5


def test_the_batch_that_was_built_is_the_batch_that_runs(ten: Board, small: Bundle) -> None:
    supply = EngineSupply(Device("tensorrt"))
    for role in ("face_encoder", "head"):
        supply.build(small, role, "fp32", tensor_shapes(small.manifest)[role], max_batch=3)  # type: ignore[arg-type,index]
    engines = open_on(small, build_engines=False)
    assert engines.head.max_batch == engines.face_encoder.max_batch == 3
    run_and_compare(engines.head, small, "head", "fp32", 3, seed=0)


def test_a_graph_that_tensorrt_cannot_read_names_its_nodes(orin: Board, small: Bundle) -> None:
    orin.trt.faults["parse"] = ("/layer3/Einsum", "Einsum", "unsupported equation")
    with pytest.raises(EngineError, match=r"face_encoder\.fp32\.onnx.*node '/layer3/Einsum' \(Einsum\): unsupported"):
        open_on(small)
    assert not list(EngineCache().entries())


def test_a_failed_build_says_what_tensorrt_said_and_leaves_nothing(orin: Board, small: Bundle) -> None:
    orin.trt.faults["build"] = "Could not find any implementation for node squash"
    with pytest.raises(EngineError, match="any implementation for node squash"):
        open_on(small)
    assert not list(EngineCache().entries())
    assert not orin.gpu.contexts
    orin.trt.faults.clear()
    open_on(small).close()


def test_where_strong_typing_fails_tensorrt_10_builds_with_flags_and_says_so(
    ten: Board, small: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    ten.trt.faults["strong typing"] = "type mismatch at multiply"
    with caplog.at_level(logging.WARNING, "emert_edge"):
        engines = open_on(small, "int8")
    assert "type mismatch at multiply" in caplog.text
    assert "types chosen by TensorRT" in engines.face_encoder.describe().notes
    flags = {
        key.precision: pickle.loads(EngineCache().find(key)[0].plan)["flags"] for _, key in EngineCache().entries()
    }  # type: ignore[union-attr]
    assert flags == {"int8": ["FP16", "INT8"], "fp32": []}


def test_where_strong_typing_fails_tensorrt_11_has_no_other_way(small: Bundle, home: Path) -> None:
    with board("11.4.1") as made:
        made.trt.faults["strong typing"] = "type mismatch at multiply"
        with pytest.raises(EngineError, match="type mismatch at multiply"):
            open_on(small)
        assert builds(made) == 1


def test_an_engine_that_computes_something_else_is_not_kept(orin: Board, small: Bundle) -> None:
    for wrong in (3.0, np.nan):
        orin.trt.faults["wrong"] = wrong
        with pytest.raises(EngineError, match=r"'face_token' .* away from ONNX Runtime"):
            open_on(small)
    assert not list(EngineCache().entries())


def test_progress_is_told_and_ctrl_c_stops_a_build(orin: Board, small: Bundle) -> None:
    supply = EngineSupply(Device("tensorrt"))
    shapes = tensor_shapes(small.manifest)["head"]
    told: list[tuple[str, float]] = []

    def interrupted(phase: str, done: float) -> None:
        told.append((phase, done))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        supply.build(small, "head", "fp32", shapes, progress=interrupted)
    assert not list(supply.cache.entries())
    told.clear()
    supply.build(small, "head", "fp32", shapes, progress=lambda phase, done: told.append((phase, done)))
    assert told == [("Building", 0.0), ("Building", 0.5), ("Building", 1.0), ("Building", 1.0)]
    assert builds(orin) == 2


def test_timings_are_kept_and_begun_anew_where_they_do_not_fit(ten: Board, small: Bundle) -> None:
    supply = EngineSupply(Device("tensorrt"))
    shapes = tensor_shapes(small.manifest)
    supply.build(small, "head", "fp32", shapes["head"])
    built = supply.build(small, "face_encoder", "fp32", shapes["face_encoder"])
    assert supply.cache.timings(built.key) == b"Orin 10.3.0 0:++"
    ten.trt.faults["timings"] = 1  # another driver
    supply.build(small, "head", "fp32", shapes["head"], force=True)
    assert supply.cache.timings(built.key) == b"Orin 10.3.0 1:+"


# -- what fits and what does not --------------------------------------------------------------------------------------


def test_another_version_another_gpu_or_another_graph_is_built_anew_or_refused(small: Bundle, home: Path) -> None:
    with board("10.3.0"):
        open_on(small).close()
    for version, gpu, sm, words in (
        ("10.13.3", "Orin", (8, 7), r"for TensorRT 10\.3\.0, this is 10\.13\.3"),
        ("10.3.0", "NVIDIA L4", (8, 9), "for Orin, this is NVIDIA L4"),
    ):
        with board(version, gpu=gpu, sm=sm) as made:
            with pytest.raises(EngineMismatch, match=words):
                open_on(small, build_engines=False)
            assert builds(made) == 0
            open_on(small).close()
            assert builds(made) == 2
    with board("10.3.0") as made:
        open_on(small, build_engines=False).close()
        other = write_small_bundle(home / "other", seed=1)
        with pytest.raises(EngineMismatch, match="emert-edge build"):
            open_on(other, build_engines=False)
        engines = open_on(other)
        assert builds(made) == 1  # its head is the same file
        run_and_compare(engines.face_encoder, other, "face_encoder", "fp32", 2, seed=0)


def test_a_damaged_engine_is_built_anew_or_refused(ten: Board, small: Bundle) -> None:
    open_on(small).close()
    path = next(path for path, key in EngineCache().entries() if key.role == "head")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EngineMismatch, match="truncated"):
        open_on(small, build_engines=False)
    open_on(small).close()
    assert builds(ten) == 3
    open_on(small, build_engines=False).close()


def test_an_engine_that_tensorrt_cannot_read_in_spite_of_its_key_is_built_anew_or_refused(
    ten: Board, small: Bundle
) -> None:
    open_on(small).close()
    ten.trt.faults["read"] = "the engine was built under another driver"
    with pytest.raises(EngineMismatch, match="another driver"):
        open_on(small, build_engines=False)
    with pytest.raises(EngineMismatch, match="another driver"):
        open_on(small)  # and what was built anew cannot be read either
    ten.trt.faults.clear()
    assert builds(ten) == 3
    open_on(small, build_engines=False).close()


def test_a_recognizer_may_forbid_building(ten: Board, small: Bundle) -> None:
    with pytest.raises(EngineMismatch, match=r"no engine of this graph.*emert-edge build"):
        Recognizer(device="tensorrt", build_engines=False)
    assert builds(ten) == 0


def test_fp16_is_taken_by_evidence_and_int8_by_name_alone(ten: Board, tmp_path: Path) -> None:
    def bundle(name: str, *evidence: Evidence) -> Bundle:
        return write_small_bundle(tmp_path / name, ("fp32", "fp16", "int8"), evidence=evidence)

    def accepted(precision: Any, target: Any) -> Evidence:
        return Evidence(
            precision=precision, target=target, data="d", samples=1, labelled=False, figures={}, accepted=True
        )  # fmt: skip

    assert open_on(bundle("none"), "auto").precision == "fp32"
    assert open_on(bundle("cpu", accepted("fp16", "cpu")), "auto").precision == "fp32"
    assert open_on(bundle("int8", accepted("int8", "tensorrt")), "auto").precision == "fp32"
    assert open_on(bundle("any", accepted("fp16", "any")), "auto").precision == "fp16"
    engines = open_on(bundle("int8"), "int8")
    assert [engine.describe().precision for engine in engines.all()] == ["int8", "fp32"]
    with pytest.raises(BundleIncompatible, match="no fp16 graphs for tensorrt:0"):
        open_on(write_small_bundle(tmp_path / "single"), "fp16")


def test_auto_takes_tensorrt_where_engines_are_built_and_never_builds(ten: Board, small: Bundle) -> None:
    assert str(open_engines(small).device) == "cpu"
    supply = EngineSupply(Device("tensorrt"))
    supply.build(small, "head", "fp32", tensor_shapes(small.manifest)["head"])
    assert str(open_engines(small).device) == "cpu"
    built = supply.build(small, "face_encoder", "fp32", tensor_shapes(small.manifest)["face_encoder"])
    assert str(open_engines(small).device) == "tensorrt:0"
    built.path.write_bytes(built.path.read_bytes()[:-1])
    assert str(open_engines(small).device) == "cpu"
    assert builds(ten) == 2


# -- two processes ----------------------------------------------------------------------------------------------------

BUILDER = """
import time
from emert_edge.bundle import Bundle
from emert_edge.engines import Device, tensor_shapes
from emert_edge.engines.provision import EngineSupply
with board() as made:
    bundle = Bundle.open({bundle!r})
    def progress(phase, done):
        print(phase, flush=True)
        sys.stdin.readline()
    EngineSupply(Device("tensorrt")).build(
        bundle, "head", "fp32", tensor_shapes(bundle.manifest)["head"], progress=progress
    )
    print("built", sum(call.member == "build_serialized_network" for call in made.trt.calls), flush=True)
"""


def start_builder(bundle: Bundle) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + BUILDER.format(bundle=str(bundle.path))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def told(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_of_two_processes_one_builds_and_the_other_waits_for_it(small: Bundle, home: Path) -> None:
    first, second = start_builder(small), start_builder(small)
    assert told(first) in ("Building", "waiting for another build")
    assert told(second) in ("Building", "waiting for another build")
    for process in (first, second):
        assert process.stdin is not None
        process.stdin.close()  # go on
    results = []
    for process in (first, second):
        assert process.stdout is not None
        with process.stdout:
            results.append(process.stdout.read().split("built")[-1].strip())
        assert process.wait(60) == 0
    assert sorted(results) == ["0", "1"]
    assert len(list(EngineCache().entries())) == 1


def test_a_builder_that_is_killed_leaves_nothing_and_holds_up_nobody(ten: Board, small: Bundle) -> None:
    process = start_builder(small)
    assert told(process) == "Building"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list(EngineCache().entries())
    EngineSupply(Device("tensorrt")).build(small, "head", "fp32", tensor_shapes(small.manifest)["head"])
    assert builds(ten) == 1


# -- what is there and what is not ------------------------------------------------------------------------------------


def test_without_a_driver_tensorrt_is_refused_before_it_is_loaded(
    ten: Board, small: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_module, "driver_fault", lambda index: "no NVIDIA driver is installed")
    with pytest.raises(DeviceUnavailable, match="no NVIDIA driver"):
        open_on(small)
    assert not ten.trt.calls


def test_a_gpu_that_is_not_there_is_refused(ten: Board, small: Bundle) -> None:
    with pytest.raises(DeviceUnavailable, match="GPU 3 was asked for and the driver sees 1"):
        open_engines(small, device="tensorrt:3")


@pytest.mark.parametrize(
    ("module", "words"),
    [("tensorrt", "TensorRT's Python bindings are not installed"), ("pycuda", "pycuda is not installed")],
)
def test_what_is_missing_is_named(
    ten: Board, small: Bundle, module: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DeviceUnavailable, match=f"{words}.*; and the installed ONNX Runtime .* without TensorRT"):
        open_on(small)


def test_a_tensorrt_that_is_too_old_is_refused(small: Bundle, home: Path) -> None:
    with board("8.6.1"), pytest.raises(DeviceUnavailable, match=r"TensorRT 8\.6\.1 is too old; 10\.3"):
        open_on(small)


# -- through ONNX Runtime ---------------------------------------------------------------------------------------------


@pytest.fixture
def provider(ten: Board, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """ONNX Runtime with TensorRT's provider and a driver, but without TensorRT's own bindings."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["TensorrtExecutionProvider"])
    real = onnxruntime.InferenceSession
    seen: list[dict[str, Any]] = []

    class Session:
        def __init__(self, model: bytes, sess_options: Any, providers: Any, enable_fallback: int) -> None:
            (name, options), = providers  # fmt: skip
            fallback = sess_options.get_session_config_entry("session.disable_cpu_ep_fallback")
            seen.append({"name": name, "fallback": (enable_fallback, fallback)} | options)
            Path(options["trt_engine_cache_path"], "graph.engine").write_text("engine")
            sess_options.add_session_config_entry("session.disable_cpu_ep_fallback", "0")
            self._real = real(model, sess_options=sess_options, providers=["CPUExecutionProvider"])

        def get_providers(self) -> list[str]:
            return ["TensorrtExecutionProvider", "CPUExecutionProvider"]

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    return seen


def test_without_bindings_tensorrt_runs_through_onnx_runtimes_provider(
    provider: list[dict[str, Any]], small: Bundle, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = open_on(small, "fp16")
    face, head = provider
    assert face["name"] == "TensorrtExecutionProvider"
    assert face["fallback"] == (0, "1")  # neither the session nor a node of it falls back
    assert (face["trt_fp16_enable"], face["trt_int8_enable"], face["device_id"]) == (False, False, 0)
    assert face["trt_profile_min_shapes"] == "frame:1x3x6x6"
    assert face["trt_profile_max_shapes"] == "frame:8x3x6x6"
    assert head["trt_profile_max_shapes"] == "face_tokens:8x8x8,face_mask:8x8"
    described = engines.face_encoder.describe()
    assert described.providers[0] == "TensorrtExecutionProvider"
    assert described.runtime.startswith("onnxruntime ")
    assert described.file == "face_encoder.fp16.onnx"
    engines.face_encoder.inputs["frame"][:] = 1
    engines.face_encoder.run(2)
    assert engines.face_encoder.outputs["face_token"][:2].any()


def test_the_providers_engines_lie_in_a_folder_of_their_graph(
    provider: list[dict[str, Any]], small: Bundle, home: Path
) -> None:
    open_on(small)
    folders = sorted((home / "engines" / "onnxruntime").iterdir())
    assert len(folders) == 2
    assert all(not folder.name.startswith(".") for folder in folders)
    assert all((folder / "graph.engine").is_file() for folder in folders)
    open_on(small)
    assert {one["trt_engine_cache_path"] for one in provider[2:]} == {str(folder) for folder in folders}


def test_a_provider_that_fails_leaves_no_folder_and_is_never_a_silent_fallback(
    provider: list[dict[str, Any]], small: Bundle, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: bytes, sess_options: Any, providers: Any, enable_fallback: int) -> Any:
        Path(providers[0][1]["trt_engine_cache_path"], "graph.engine").write_text("half")
        raise RuntimeError("libnvinfer.so.10: cannot open shared object file")

    monkeypatch.setattr(onnxruntime, "InferenceSession", broken)
    with pytest.raises(EngineError, match=r"face_encoder\.fp32\.onnx.*libnvinfer"):
        open_on(small)
    assert not list((home / "engines" / "onnxruntime").iterdir())

    class Fallen:
        def __init__(self, *arguments: Any, **options: Any) -> None: ...

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Fallen)
    with pytest.raises(DeviceUnavailable, match="Tensorrt provider did not start"):
        open_on(small)
    assert not list((home / "engines" / "onnxruntime").iterdir())
