"""The measurement itself: one session's stages one by one, estimates end to end, many sessions, and minutes of it.

The input is a drawn face and invented gaze (`emert_edge.simulation`), made before anything is timed. What is outside of
each timing stands in the result, beside its figures.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from emert_edge.benchmarking.board import Board
from emert_edge.errors import EmertError
from emert_edge.eye import GazeSamples, eye_features
from emert_edge.eye.fixation import fixation_token_map_into
from emert_edge.face import FaceTracker
from emert_edge.face.crop import crop_affine
from emert_edge.kernels import crop_normalize_into, fuse_gaze_frame_into
from emert_edge.recognizer import Recognizer
from emert_edge.session import Session
from emert_edge.simulation import SimulatedSession

__all__ = ["measure"]

Image = npt.NDArray[np.uint8]
Report = Callable[[str], None]

_S = 1_000_000_000
_FPS = 10
_CLIP_S = 8.0
_WARM = 3


class _Input:
    """Frames, scenes and gaze of some seconds, repeated for as long as one likes."""

    def __init__(self, size: tuple[int, int], gaze_hz: float) -> None:
        made = SimulatedSession.from_seed(5, duration_s=_CLIP_S, gaze_rate_hz=gaze_hz, scene=True)
        made = SimulatedSession(
            made.shown, made.felt, _CLIP_S, 5, made.subject, size=(size[1], size[0]), gaze_rate_hz=gaze_hz, scene=True
        )
        self.frames = [made.frame(index / 4).image for index in range(round(4 * _CLIP_S))]
        self.scenes = [made.scene_frame(index / 2) for index in range(round(2 * _CLIP_S))]
        self.gaze = made.gaze

    def gaze_between(self, start_ns: int, stop_ns: int) -> GazeSamples:
        """Samples of a stretch of the endless stream; it must not pass the end of a round."""
        turn = int(_CLIP_S * _S)
        rounds = start_ns // turn
        part = self.gaze.between(start_ns - rounds * turn, stop_ns - rounds * turn)
        return part.shifted(rounds * turn)

    def push(self, session: Session, step: int, stride_ns: int) -> None:
        """What a camera, a scene camera and a tracker bring during one stride."""
        begin = step * stride_ns
        for index in range(max(1, round(_FPS * stride_ns / _S))):
            t_ns = begin + index * _S // _FPS
            session.push_face(self.frames[(4 * t_ns // _S) % len(self.frames)], t_ns)
        session.push_scene(self.scenes[(2 * begin // _S) % len(self.scenes)], begin)
        session.push_gaze(self.gaze_between(begin, begin + stride_ns))


def measure(
    recognizer: Recognizer,
    *,
    size: tuple[int, int] = (1280, 720),
    gaze_hz: float = 120.0,
    repeats: int = 100,
    streams: Sequence[int] = (1, 2, 4),
    minutes: float = 0.0,
    board: Board | None = None,
    report: Report = lambda line: None,
) -> dict[str, Any]:
    """Measure a recognizer where it runs.

    Parameters
    ----------
    recognizer : Recognizer
        Its bundle, device and precision are what is measured.
    size : (width, height)
        Of the face camera's frames.
    gaze_hz : float
        Samples a second.
    repeats : int
        How often each stage is timed, and how many estimates are.
    streams : sequence of int
        Numbers of sessions that are stepped together.
    minutes : float
        For how long one session then runs at its own pace, to see memory and heat; 0: not at all.
    board : Board, optional
        Where power, clocks and temperatures are read; the machine's own.
    report : callable
        Takes lines of progress.

    Returns
    -------
    dict
        `what`, `board`, `stages`, `estimate`, `streams`, `running`, `memory_mb`; plain values, fit for JSON. Times are
        milliseconds with `p50`, `p90`, `p99` and `mean`; `outside` says what a timing leaves out.
    """
    if repeats < 1 or minutes < 0 or any(number < 1 for number in streams):
        raise ValueError("repeats and streams must be at least 1, minutes not negative")
    board = board or Board()
    made = _Input(size, gaze_hz)
    recognizer.warmup()
    before_mb = _resident_mb()
    answer: dict[str, Any] = {
        "what": _what(recognizer, size, gaze_hz, repeats),
        "board": board.describe(),
    }
    with board.watched() as states:
        report("each stage")
        answer["stages"] = _stages(recognizer, made, repeats)
        report("one stream")
        answer["estimate"] = _estimates(recognizer, made, repeats)
        answer["streams"] = {}
        for number in streams:
            report(f"{number} streams")
            answer["streams"][str(number)] = _many(recognizer, made, number, max(repeats // number, 4))
        if minutes:
            report(f"running for {minutes:g} minutes")
            answer["running"] = _running(recognizer, made, minutes, report)
    # The kernel counts resident pages in lots, so that its peak can lie a little below what it said before.
    answer["memory_mb"] = {"before": before_mb, "after": _resident_mb(), "peak": max(before_mb, _peak_mb())}
    answer["state"] = {
        name: {"mean": float(np.mean(values)), "largest": float(np.max(values))}
        for name, values in _columns(states).items()
    }
    return answer


def _what(recognizer: Recognizer, size: tuple[int, int], gaze_hz: float, repeats: int) -> dict[str, Any]:
    told = recognizer.describe()
    return {
        "emert_edge": told["emert_edge"],
        "bundle": f"{told['bundle']['name']}@{told['bundle']['version']}",
        "device": recognizer.device,
        "precision": recognizer.precision,
        "threads": told["threads"],
        "kernels": told["kernels"],
        "detector": told["detector"],
        "frames": f"{size[0]}x{size[1]}",
        "gaze_hz": gaze_hz,
        "repeats": repeats,
        "python": sys.version.split()[0],
    }


def _times(seconds: Sequence[float], outside: str) -> dict[str, Any]:
    values = 1000 * np.asarray(seconds)
    p50, p90, p99 = (float(value) for value in np.percentile(values, (50, 90, 99)))
    return {"p50": p50, "p90": p90, "p99": p99, "mean": float(values.mean()), "outside": outside}


def _timed(work: Callable[[int], object], repeats: int, outside: str = "") -> dict[str, Any]:
    seconds = []
    for number in range(repeats + _WARM):
        begun = time.perf_counter()
        work(number)
        seconds.append(time.perf_counter() - begun)
    return _times(seconds[_WARM:], outside)


def _stages(recognizer: Recognizer, made: _Input, repeats: int) -> dict[str, Any]:
    """Each part by itself, as a session calls it."""
    manifest = recognizer.bundle.manifest
    engines = recognizer._open_engines()
    face = manifest.face
    tracker = FaceTracker(recognizer._detector)
    found = [tracker.update(frame, index * _S // 4) for index, frame in enumerate(made.frames)]
    box = next((one.box for one in found if one is not None), None)
    if box is None:
        raise EmertError("no face is found in the drawn frames; give larger frames (--size)")
    affine = crop_affine(box, face.size, face.scale)
    stages: dict[str, Any] = {
        "find the face": _timed(
            lambda n: tracker.update(made.frames[n % len(made.frames)], (n + len(made.frames)) * _S // 4), repeats
        )
    }
    row = engines.face_encoder.inputs["frame"][0]
    stages["crop"] = _timed(
        lambda n: crop_normalize_into(row, made.frames[n % len(made.frames)], affine, face.mean, face.std), repeats
    )
    stages["face encoder"] = _timed(lambda _: engines.face_encoder.run(1), repeats)
    if manifest.eye is not None:
        span = manifest.window.eye_span_ms * 1_000_000
        tokens = manifest.window.stride_ms // manifest.window.eye_span_ms
        stages[f"{tokens} eye tokens"] = _timed(
            lambda _: eye_features(made.gaze, _S, _S + tokens * span, tokens), repeats
        )
    if manifest.fixation is not None and engines.fixation_encoder is not None:
        spec, fixation = manifest.fixation, np.zeros(manifest.fixation.size, np.float32)
        stop = _S + manifest.window.face_cadence_ms * 1_000_000
        fused = engines.fixation_encoder.inputs["fused"][0]
        stages["fixation map"] = _timed(
            lambda _: fixation_token_map_into(fixation, made.gaze, _S, stop, spec.sigma_px), repeats
        )
        stages["fusion with the scene"] = _timed(
            lambda n: fuse_gaze_frame_into(fused, made.scenes[n % len(made.scenes)], fixation, spec.mean, spec.std),
            repeats,
        )
        encoder = engines.fixation_encoder
        stages["fixation encoder"] = _timed(lambda _: encoder.run(1), repeats)
    stages["head"] = _timed(lambda _: engines.head.run(1), repeats)
    return stages


def _stride_ns(recognizer: Recognizer) -> int:
    return recognizer.bundle.manifest.window.stride_ms * 1_000_000


def _estimates(recognizer: Recognizer, made: _Input, repeats: int) -> dict[str, Any]:
    stride, seconds = _stride_ns(recognizer), []
    with recognizer.session() as session:
        for step in _steps(recognizer, repeats):
            made.push(session, step, stride)
            begun = time.perf_counter()
            taken = session.estimates()
            if taken:
                seconds.append((time.perf_counter() - begun) / len(taken))
    return _times(seconds[_WARM:], "pushing, which copies frames; drawing the input")


def _steps(recognizer: Recognizer, repeats: int) -> Iterator[int]:
    """Strides until so many estimates have come: the first one comes after half a window."""
    window = recognizer.bundle.manifest.window
    yield from range(window.window_ms // 2 // window.stride_ms + repeats + _WARM + 1)


def _many(recognizer: Recognizer, made: _Input, number: int, repeats: int) -> dict[str, Any]:
    stride, seconds, taken = _stride_ns(recognizer), [], 0
    sessions = [recognizer.session() for _ in range(number)]
    try:
        for step in _steps(recognizer, repeats):
            for session in sessions:
                made.push(session, step, stride)
            begun = time.perf_counter()
            results = recognizer.step(sessions)
            spent = time.perf_counter() - begun
            if all(results):
                taken += sum(map(len, results))
                seconds.append(spent)
    finally:
        for session in sessions:
            session.close()
    times = _times(seconds, "pushing; drawing the input")
    rate = taken / sum(seconds)
    return times | {"estimates_per_second": rate, "streams_in_real_time": rate * stride / _S}


def _running(recognizer: Recognizer, made: _Input, minutes: float, report: Report) -> dict[str, Any]:
    """One session at its own pace; what each minute took, and the memory after it."""
    stride, held, rows = _stride_ns(recognizer), [], []
    per_minute = round(60 * _S / stride)
    begun = time.monotonic()
    with recognizer.session() as session:
        total = max(1, round(minutes * per_minute))
        for step in range(total):
            made.push(session, step, stride)
            left = begun + (step + 1) * stride / _S - time.monotonic()
            if left > 0:
                time.sleep(left)
            started = time.perf_counter()
            if session.estimates():
                held.append(time.perf_counter() - started)
            if held and ((step + 1) % per_minute == 0 or step + 1 == total):
                rows.append({**_times(held, "pushing; drawing the input"), "memory_mb": _resident_mb()})
                report(f"minute {len(rows)}: p99 {rows[-1]['p99']:.1f} ms, {rows[-1]['memory_mb']:.0f} MB")
                held = []
    return {"minutes": rows}


def _columns(states: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    columns: dict[str, list[float]] = {}
    for state in list(states):
        for name, value in state.items():
            columns.setdefault(name, []).append(value)
    return columns


def _resident_mb() -> float:
    """Memory of this process, MB; the largest so far where the system does not tell the present one."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 1e6
    except OSError:
        return _peak_mb()


def _peak_mb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
