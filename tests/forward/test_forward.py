"""The way over a GPU beside the way through the host: the same estimates, and what is freed when.

"host": the GPU is this process, the kernels' bodies are compiled for it, and ONNX Runtime computes in the same memory.
What that cannot show is work that is still under way when the host goes on. "gpu": a GPU, where frames, maps and tokens
lie; the graphs alone are computed by the CPU, between two copies, so that no provider for GPUs need be there.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emert_edge.engines
import emert_edge.recognizer
from emert_edge import Estimate, Recognizer
from emert_edge.engines.onnx_runtime import OnnxRuntimeEngine
from emert_edge.face import Box, Detection
from emert_edge.forward.gpu import GpuForward
from emert_edge.kernels import cuda
from emert_edge.simulation import SimulatedSession

from ..kernels.cuda_devices import module_of

S = 1_000_000_000


class ComputedByTheCpu(OnnxRuntimeEngine):
    """Buffers on a GPU, and no provider that could compute there."""

    def enqueue(self, batch: int, written: frozenset[str]) -> None:
        self._require(batch)
        for name in written:
            cuda.copy(self._inputs[name][:batch], self.on_gpu(name).first(batch), stream=self._stream)
        self.wait()
        on_gpu, self._on_gpu = self._on_gpu, {}
        try:
            self._compute(batch)
        finally:
            self._on_gpu = on_gpu
        for name, host in self._outputs.items():
            cuda.copy(self.on_gpu(name).first(batch), host[:batch], stream=self._stream)


class StillFace:
    """Finds the drawn faces where they rest: a machine with a GPU may have an OpenCV without cascades."""

    name = "still"

    def __init__(self) -> None:
        self.found = [Detection(SimulatedSession.from_seed(0).frame(0.0).box, 1.0)]

    def detect(self, frame: Any, *, region: Box | None = None) -> list[Detection]:
        return self.found


@pytest.fixture(scope="module", autouse=True)
def detector() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emert_edge.recognizer, "open_detector", lambda model: StillFace())
        yield


@pytest.fixture(scope="module", params=["host", "gpu"])
def stand_in(request: pytest.FixtureRequest) -> Iterator[None]:
    """Kernels, for engines on the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "_cuda", module_of(request.param))
        patch.setattr(emert_edge.engines, "kernel_stream", lambda device: cuda.Stream(0))
        if request.param == "gpu":
            patch.setattr(emert_edge.engines, "OnnxRuntimeEngine", ComputedByTheCpu)
        yield


@pytest.fixture(scope="module")
def host() -> Iterator[Recognizer]:
    with Recognizer(device="cpu", precision="fp32", threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def gpu(host: Recognizer, stand_in: None) -> Iterator[Recognizer]:
    with Recognizer(device="cpu", precision="fp32", threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def people() -> list[tuple[SimulatedSession, list[Any]]]:
    made = [SimulatedSession.from_seed(seed, duration_s=6.0, fps=4) for seed in range(3)]
    return [(person, list(person.frames())) for person in made]


def push(session: Any, person: tuple[SimulatedSession, list[Any]], *, scene: bool = True, color: str = "bgr") -> None:
    made, frames = person
    session.push_gaze(made.gaze)
    for frame in frames:
        image = frame.image if color == "bgr" else frame.image[:, :, ::-1]
        session.push_face(image, frame.t_ns, color=color)
        if scene:
            session.push_scene(np.ascontiguousarray(image[::4, ::4]), frame.t_ns, color=color, space="screen")
    session.finish()


def same(ours: list[Estimate], theirs: list[Estimate]) -> None:
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert (one.t_ns, one.face, one.quality) == (other.t_ns, other.face, other.quality)
        for task in ("emotion", "expression"):
            values = [list(getattr(estimate, task).probabilities.values()) for estimate in (one, other)]
            np.testing.assert_allclose(*values, atol=1e-5)


def test_the_recognizer_says_where_frames_and_tokens_lie(host: Recognizer, gpu: Recognizer) -> None:
    assert host.describe()["frames_and_tokens"] == "host"
    assert gpu.describe()["frames_and_tokens"] == "GPU"
    assert isinstance(gpu._forward, GpuForward)


@pytest.mark.parametrize(("scene", "color"), [(True, "bgr"), (True, "rgb"), (False, "bgr")])
def test_a_session_estimates_what_it_estimates_on_the_host(
    host: Recognizer, gpu: Recognizer, people: Any, scene: bool, color: str
) -> None:
    found = []
    for recognizer in (host, gpu):
        with recognizer.session() as session:
            push(session, people[0], scene=scene, color=color)
            found.append(session.estimates())
    same(*found)


def test_many_sessions_share_batches_and_the_store_of_tokens(host: Recognizer, gpu: Recognizer, people: Any) -> None:
    expected = []
    for person in people:
        with host.session() as session:
            push(session, person, scene=False)
            expected.append(session.estimates())
    forward: Any = gpu._forward
    sessions = [gpu.session() for _ in range(5)]
    for number, session in enumerate(sessions):
        push(session, people[number % 3], scene=False)
    for number, estimates in enumerate(gpu.step(sessions)):
        same(estimates, expected[number % 3])
    rows = forward._store.memory.shape[0]
    assert rows == 128, "five sessions of eight faces and eight maps: the store grew, and no further"
    for session in sessions:
        session.close()
    assert sorted(forward._store._free) == list(range(rows)), "closed sessions give their tokens' places back"
    with gpu.session() as session:
        push(session, people[1], scene=False)
        same(session.estimates(), expected[1])
    assert forward._store.memory.shape[0] == rows


def test_a_frame_is_given_back_when_it_has_been_read(
    gpu: Recognizer, people: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    waits, crops = cuda.Stream.synchronize, cuda.crop_normalize_into
    monkeypatch.setattr(cuda.Stream, "synchronize", lambda stream: (told.append("wait"), waits(stream))[1])
    monkeypatch.setattr(cuda, "crop_normalize_into", lambda *a, **k: (told.append("crop"), crops(*a, **k))[1])
    with gpu.session() as session:
        cells = session._cells["face"]
        release = cells.release
        monkeypatch.setattr(cells, "release", lambda held: (told.append("release"), release(held))[1])
        push(session, people[0])
        assert session.estimates()
    assert "crop" in told
    under_way = 0
    for what in told:
        under_way = {"crop": under_way + 1, "wait": 0}.get(what, under_way)
        assert what != "release" or under_way == 0
    assert told.count("release") >= told.count("crop")


def test_what_a_session_holds_is_page_locked(gpu: Recognizer, people: Any) -> None:
    with gpu.session() as session:
        frame = people[0][1][0]
        session.push_face(frame.image, frame.t_ns)
        (held,) = session._cells["face"]._cells.values()
        assert cuda._module().device_of(held.image, "frame") == -1, "every GPU may read it"


def test_single_faces_are_read_as_on_the_host(host: Recognizer, gpu: Recognizer, people: Any) -> None:
    faces = [frame.image[40:440, 120:520] for frame in people[0][1][:11]]
    np.testing.assert_allclose(gpu.expressions(faces), host.expressions(faces), atol=1e-5)


def test_a_recorded_session_without_frames_brings_its_tokens(
    host: Recognizer, gpu: Recognizer, people: Any, tmp_path: Path
) -> None:
    for recorder, reader in ((host, gpu), (gpu, host)):
        file = tmp_path / f"{recorder is gpu}.mcap"
        with recorder.session(record=file) as session:
            push(session, people[2])
            expected = session.estimates()
        same(list(reader.run(session=file)), expected)


def test_a_failed_run_leaves_the_next_one_right(
    host: Recognizer, gpu: Recognizer, people: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emert_edge import EngineError

    head = gpu._open_engines().head
    with gpu.session() as session:
        push(session, people[0])
        with monkeypatch.context() as patch:
            patch.setattr(type(head), "wait", lambda engine: (_ for _ in ()).throw(EngineError("lost")))
            with pytest.raises(EngineError, match="lost"):
                session.estimates()
    found = []
    for recognizer in (host, gpu):
        with recognizer.session() as session:
            push(session, people[1])
            found.append(session.estimates())
    same(*found)


def test_an_encoder_that_failed_once_spoils_no_later_session(
    host: Recognizer, gpu: Recognizer, people: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emert_edge import EngineError

    faces = gpu._open_engines().face_encoder
    enqueue = type(faces).enqueue

    def failing(engine: Any, *given: Any) -> None:
        if engine is faces:
            raise EngineError("lost")
        enqueue(engine, *given)

    with monkeypatch.context() as patch, gpu.session() as session:
        patch.setattr(type(faces), "enqueue", failing)
        push(session, people[0])
        with pytest.raises(EngineError, match="lost"):
            session.estimates()
    found = []
    for recognizer in (host, gpu):
        with recognizer.session() as session:
            push(session, people[1])
            found.append(session.estimates())
    same(*found)


def test_after_a_warmup_a_session_estimates_the_same(host: Recognizer, gpu: Recognizer, people: Any) -> None:
    found = []
    for recognizer in (host, gpu):
        with recognizer.session() as session:
            push(session, people[0], scene=False)
            recognizer.warmup()
            found.append(session.estimates())
    same(*found)


def test_batches_out_of_range_and_closed_engines_are_refused(stand_in: None) -> None:
    from emert_edge import EngineError

    with Recognizer(device="cpu", precision="fp32", threads=1) as recognizer:
        head: Any = recognizer._open_engines().head
        with pytest.raises(ValueError, match="batch must be within 1 and 8, not 9"):
            head.enqueue(9, frozenset())
    with pytest.raises(EngineError, match="closed"):
        head.enqueue(1, frozenset())


def test_on_a_cpu_nothing_of_cuda_is_loaded() -> None:
    script = """
import sys
from emert_edge import Recognizer
with Recognizer(device="cpu") as recognizer, recognizer.session() as session:
    session.estimates()
assert not {"emert_edge._cuda", "emert_edge.kernels.cuda", "pycuda"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
