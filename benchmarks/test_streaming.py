"""The streaming path: a whole recording, one estimate, and whether either grows with the stream.

Peer, in the same run: the whole window encoded anew for every estimate, with the same graphs on the same threads, which
is what a program does that keeps no features. Inside every timing of one estimate: face detection in the one new frame,
crop, eye features, fixation map, the three graphs. Outside: pushing (a copy of the frame) and drawing the input.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from emert_edge import Recognizer, Session
from emert_edge.eye import GazeSamples
from emert_edge.simulation import SimulatedSession

S = 1_000_000_000
FPS = 30
GAZE_HZ = 250


@pytest.fixture(scope="module")
def recognizer() -> Iterator[Recognizer]:
    with Recognizer(device="cpu", threads=2) as opened:
        opened.warmup()
        yield opened


class Feed:
    """Half a second of video and gaze at a time, for as long as one likes: ten seconds of face, forward and back."""

    def __init__(self, size: tuple[int, int]) -> None:
        simulated = SimulatedSession.from_seed(5, duration_s=10.0, gaze_rate_hz=GAZE_HZ)
        simulated = SimulatedSession(
            simulated.shown, simulated.felt, 10.0, 5, simulated.subject, size=size, gaze_rate_hz=GAZE_HZ
        )
        self._frames = [simulated.frame(index / 4).image for index in range(40)]
        self._gaze = simulated.gaze
        self._step = 0

    def push(self, session: Session) -> None:
        begin = self._step * S // 2
        for index in range(FPS // 2):
            at = self._step * 2 + index // 8  # a new picture four times a second is enough for one frame a stride
            turn = at % (2 * len(self._frames) - 2)
            frame = self._frames[min(turn, 2 * len(self._frames) - 2 - turn)]
            session.push_face(frame, begin + index * S // FPS)
        source = (self._step % 20) * S // 2
        samples = self._gaze.between(source, source + S // 2)
        values = {name: getattr(samples, name) for name in ("x", "y", "pupil_left", "pupil_right")}
        session.push_gaze(GazeSamples(t_ns=samples.t_ns + (begin - source), **values))
        self._step += 1


def percentiles(seconds: npt.ArrayLike) -> dict[str, str]:
    p50, p90, p99 = np.percentile(np.asarray(seconds), (50, 90, 99)) * 1e3
    return {"p50": f"{p50:.2f} ms", "p90": f"{p90:.2f} ms", "p99": f"{p99:.2f} ms"}


def resident_mb() -> float:
    return psutil.Process().memory_info().rss / 2**20


@pytest.mark.benchmark(group="recorded run")
def test_recorded_run(benchmark: BenchmarkFixture, recognizer: Recognizer, shared_data: Path) -> None:
    """Nothing is outside: decoding, detection, gaze reading, all of it."""
    clip = shared_data / "face_clips_pyfeat" / "WolfgangLanger_Pexels.mp4"
    gaze = next((shared_data / "tobii_prolab_ivt").glob("*.tsv"))
    taken = benchmark.pedantic(lambda: list(recognizer.run(clip, gaze)), rounds=5, warmup_rounds=1)
    length = 472 / 23.976
    assert taken[-1].time_s > 19
    benchmark.extra_info["times real time"] = f"{length / benchmark.stats.stats.median:.1f}"
    benchmark.extra_info["estimates"] = len(taken)


@pytest.mark.benchmark(group="one estimate")
@pytest.mark.parametrize("size", [(360, 640), (720, 1280)], ids=["360p", "720p"])
def test_one_estimate(benchmark: BenchmarkFixture, recognizer: Recognizer, size: tuple[int, int]) -> None:
    session, feed = recognizer.session(), Feed(size)
    for _ in range(9):
        feed.push(session)
    session.estimates()

    def prepare() -> None:
        feed.push(session)

    def estimate() -> None:
        (one,) = session.estimates()
        assert one.face is not None

    benchmark.pedantic(estimate, setup=prepare, rounds=300)
    benchmark.extra_info.update(percentiles(benchmark.stats.stats.data))


@pytest.mark.benchmark(group="one estimate")
def test_one_estimate_with_the_whole_window_encoded_anew(benchmark: BenchmarkFixture, recognizer: Recognizer) -> None:
    """The peer; detection and eye features are not even counted."""
    engines = recognizer._open_engines()
    tokens = recognizer.bundle.manifest.window.face_tokens

    def estimate() -> None:
        engines.face_encoder.run(tokens)
        if engines.fixation_encoder is not None:
            engines.fixation_encoder.run(tokens)
        engines.head.run(1)

    benchmark.pedantic(estimate, rounds=100, warmup_rounds=3)
    benchmark.extra_info.update(percentiles(benchmark.stats.stats.data))


@pytest.mark.benchmark(group="streams")
@pytest.mark.parametrize("streams", [1, 4, 8])
def test_a_step_of_many_streams(benchmark: BenchmarkFixture, recognizer: Recognizer, streams: int) -> None:
    sessions = [recognizer.session() for _ in range(streams)]
    feeds = [Feed((360, 640)) for _ in sessions]
    for feed, session in zip(feeds, sessions, strict=True):
        for _ in range(9):
            feed.push(session)
    recognizer.step(sessions)

    def prepare() -> None:
        for feed, session in zip(feeds, sessions, strict=True):
            feed.push(session)

    benchmark.pedantic(lambda: recognizer.step(sessions), setup=prepare, rounds=60)
    benchmark.extra_info["per stream"] = f"{benchmark.stats.stats.median / streams * 1e3:.2f} ms"
    benchmark.extra_info.update(percentiles(benchmark.stats.stats.data))


@pytest.mark.benchmark(group="half an hour")
def test_cost_and_memory_after_thirty_simulated_minutes(benchmark: BenchmarkFixture, recognizer: Recognizer) -> None:
    """Thirty minutes at 30 fps and 250 Hz: the median cost of an estimate in the first and in the last minute."""
    session, feed = recognizer.session(), Feed((360, 640))
    costs: list[float] = []
    memory: list[float] = []

    def half_an_hour() -> None:
        for step in range(30 * 60 * 2):
            feed.push(session)
            begin = time.perf_counter()
            session.estimates()
            costs.append(time.perf_counter() - begin)
            if step in (2 * 60, 30 * 60 * 2 - 1):
                memory.append(resident_mb())

    benchmark.pedantic(half_an_hour, rounds=1)
    first, last = np.median(costs[8:128]), np.median(costs[-120:])
    benchmark.extra_info["first minute"] = f"{first * 1e3:.2f} ms an estimate"
    benchmark.extra_info["last minute"] = f"{last * 1e3:.2f} ms ({last / first:.3f} of the first)"
    benchmark.extra_info["resident after one and thirty minutes"] = f"{memory[0]:.0f} and {memory[1]:.0f} MB"
    benchmark.extra_info["peak"] = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"


@pytest.mark.benchmark(group="import")
def test_importing_the_package(benchmark: BenchmarkFixture) -> None:
    """A whole interpreter, started, and the package imported; beside it an empty interpreter's start."""
    import subprocess
    import sys

    def start(code: str) -> float:
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - begin

    bare = np.median([start("pass") for _ in range(5)])
    benchmark.pedantic(lambda: start("from emert_edge import Recognizer"), rounds=5, warmup_rounds=1)
    benchmark.extra_info["import alone"] = f"{benchmark.stats.stats.median - bare:.2f} s"
