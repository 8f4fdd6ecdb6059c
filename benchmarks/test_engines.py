"""One graph and one window by every way of running them, in turns; and streaming beside the published way.

PyTorch eager and compiled (inductor) have the packaged model's architecture with drawn weights, the published model
too: weights decide nothing about speed. Outside of every timing: making inputs, compiling, opening, warming up. FP16 is
left out on a CPU, which has no arithmetic for it: ONNX Runtime would convert to FP32 and back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import pytest

from emert_edge import Recognizer
from emert_edge.face import FaceTracker
from emert_edge.simulation import SimulatedSession

torch = pytest.importorskip("torch", reason="PyTorch is the peer here")

ROUNDS, RUNS = 8, 10
THREADS = min(2, os.cpu_count() or 1)
S = 1_000_000_000
Ways = dict[str, Callable[[], object]]


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    held = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    with torch.no_grad():
        yield
    torch.set_num_threads(held)


@pytest.fixture(scope="module")
def recognizers() -> Iterator[dict[str, Recognizer]]:
    opened = {
        precision: Recognizer(device="cpu", precision=precision, threads=THREADS) for precision in ("fp32", "int8")
    }
    for one in opened.values():
        one.warmup()
    yield opened
    for one in opened.values():
        one.close()


def in_turns(benchmark: Any, ways: Ways, beside: str) -> dict[str, float]:
    """Run all ways in turn, some runs each; the medians in milliseconds, and how many times `beside` each takes."""
    for work in ways.values():
        for _ in range(3):
            work()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, work in ways.items():
            time.sleep(0.05)  # the pool of threads of the way before spins for a while,
            for number in range(RUNS):
                begun = time.perf_counter()
                work()
                if number >= 2:  # and the own one has gone to sleep
                    times[name].append(1000 * (time.perf_counter() - begun))
    benchmark.pedantic(ways[beside], rounds=5)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    for name, values in times.items():
        p50, p99 = np.percentile(values, (50, 99))
        ratio = medians[name] / medians[beside]
        benchmark.extra_info[name] = f"{p50:.2f} / {p99:.2f} ms, {ratio:.2f} of {beside}"
    return medians


def compiled(module: Any, *inputs: Any, **named: Any) -> Any:
    """By inductor, for these inputs; skips the benchmark where it cannot compile."""
    fast = torch.compile(module, dynamic=False)
    try:
        fast(*inputs, **named)
    except RuntimeError as error:  # no C++ compiler, say
        pytest.skip(f"torch.compile does not work here: {str(error).splitlines()[0]}")
    return fast


def model() -> Any:
    from emert_edge.reference.emert import Emert, EmertConfig

    torch.manual_seed(0)
    return Emert(EmertConfig(size="nano")).eval()


def window_inputs(batch: int = 1) -> dict[str, Any]:
    return {
        "frames": torch.randn(batch, 8, 3, 48, 48), "face_mask": torch.ones(batch, 8),
        "eye_tokens": torch.randn(batch, 32, 39), "eye_mask": torch.ones(batch, 32),
        "fused_frames": torch.randn(batch, 8, 4, 112, 112), "fixation_mask": torch.ones(batch, 8),
    }  # fmt: skip


@pytest.mark.parametrize("role", ["face_encoder", "fixation_encoder"])
def test_an_encoder(
    benchmark: Any, recognizers: dict[str, Recognizer], role: Literal["face_encoder", "fixation_encoder"]
) -> None:
    benchmark.group = f"{role.replace('_', ' ')}, one frame, by every way"
    encoder = getattr(model(), role)
    frame = torch.randn(1, 3, 48, 48) if role == "face_encoder" else torch.randn(1, 4, 112, 112)
    fast = compiled(encoder, frame)
    ways: Ways = {"PyTorch eager": lambda: encoder(frame), "torch.compile": lambda: fast(frame)}
    for name, one in recognizers.items():
        engine = getattr(one._open_engines(), role)
        ways[f"ONNX Runtime {name}"] = lambda engine=engine: engine.run(1)  # type: ignore[misc]
    in_turns(benchmark, ways, "ONNX Runtime int8")


@pytest.mark.benchmark(group="head, one window, by every way")
def test_the_head(benchmark: Any, recognizers: dict[str, Recognizer]) -> None:
    made = model()
    head, width = made.head, made.config.token_width
    tokens = {
        "face_tokens": torch.randn(1, 8, width), "face_mask": torch.ones(1, 8), "eye_tokens": torch.randn(1, 32, 39),
        "eye_mask": torch.ones(1, 32), "fixation_tokens": torch.randn(1, 8, width), "fixation_mask": torch.ones(1, 8),
    }  # fmt: skip
    fast = compiled(head, **tokens)
    ways: Ways = {"PyTorch eager": lambda: head(**tokens), "torch.compile": lambda: fast(**tokens)}
    engine = recognizers["fp32"]._open_engines().head
    ways["ONNX Runtime fp32"] = lambda: engine.run(1)
    in_turns(benchmark, ways, "ONNX Runtime fp32")


@pytest.mark.benchmark(group="a whole window, by every way")
def test_a_whole_window_and_streaming_beside_the_published_way(
    benchmark: Any, recognizers: dict[str, Recognizer]
) -> None:
    """All eight frames and maps encoded, and the head; streaming encodes one of each, and finds the face too."""
    from emert_edge.reference.published import PublishedEmert, PublishedShape

    whole, inputs = model(), window_inputs()
    torch.manual_seed(0)
    published = PublishedEmert(PublishedShape("model")).eval()
    face, eye, gaze = torch.randn(1, 8, 3, 112, 112), torch.randn(1, 32, 39), torch.randn(1, 32, 2)
    fast, fast_published = compiled(whole, **inputs), compiled(published, face, eye, gaze)
    ways: Ways = {
        "published, PyTorch eager": lambda: published(face, eye, gaze),
        "published, torch.compile": lambda: fast_published(face, eye, gaze),
        "ours, PyTorch eager": lambda: whole(**inputs),
        "ours, torch.compile": lambda: fast(**inputs),
    }
    for name, one in recognizers.items():
        engines = one._open_engines()

        def encoded_anew(engines: Any = engines) -> None:
            engines.face_encoder.run(8)
            engines.fixation_encoder.run(8)
            engines.head.run(1)

        ways[f"ours, ONNX Runtime {name}"] = encoded_anew
    simulated = SimulatedSession.from_seed(5, duration_s=10.0, gaze_rate_hz=250.0)
    frames = [simulated.frame(index / 2).image for index in range(20)]
    session = recognizers["int8"].session()
    step = 0

    def push() -> None:
        nonlocal step
        begin = step * S // 2
        session.push_face(frames[step % 20], begin + S // 2 - 1)
        source = (step % 20) * S // 2
        session.push_gaze(simulated.gaze.between(source, source + S // 2).shifted(begin - source))
        step += 1

    def streamed() -> None:
        push()
        session.estimates()

    for _ in range(8):
        streamed()
    ways["streaming, int8"] = streamed
    finding = FaceTracker(recognizers["int8"]._detector)
    looks = iter(range(10**9))
    ways["of that, finding the face"] = lambda: finding.update(frames[(n := next(looks)) % 20], n * S // 2)
    medians = in_turns(benchmark, ways, "streaming, int8")
    whole_way, face_alone = medians["published, PyTorch eager"], medians["of that, finding the face"]
    benchmark.extra_info["streaming, of the published way"] = f"{medians['streaming, int8'] / whole_way:.3f}"
    rest = (medians["streaming, int8"] - face_alone) / whole_way
    benchmark.extra_info["without finding the face, which the published way leaves out"] = f"{rest:.3f}"
    session.close()
