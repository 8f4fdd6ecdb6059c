"""What following a face costs at the cadence of a session, beside a scan of the whole frame by OpenCV alone.

Inside the timing: everything from a decoded BGR frame to the face's box, grey conversion and scaling included.
Outside: decoding the video, loading the detectors, and the first frame (where the tracker must scan; timed on its own).
Every round is one grid frame, twice a second, of a real clip at its own size and, resized beforehand, at 1280 × 720.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from emert_edge.face import FaceDetector, FaceTracker, HaarDetector, YuNetDetector
from emert_edge.sources import open_frames

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
CLIP = SHARED / "data" / "face_clips_pyfeat" / "WolfgangLanger_Pexels.mp4"
YUNET = SHARED / "models" / "yunet_libfacedetection" / "yunet_s_640_640.onnx"
STEP_NS = 500_000_000
LAPS = 6

Image = npt.NDArray[np.uint8]


@pytest.fixture(scope="module", params=["640x360", "1280x720"])
def grid_frames(request: pytest.FixtureRequest) -> list[Image]:
    if not CLIP.is_file():
        pytest.skip(f"no real clip here: {CLIP} is absent")
    size = tuple(int(side) for side in request.param.split("x"))
    frames = []
    due_ns = 0
    for frame in open_frames(CLIP).frames():
        if frame.t_ns >= due_ns:
            frames.append(np.asarray(cv2.resize(frame.image, (size[0], size[1])), dtype=np.uint8))
            due_ns += STEP_NS
    return frames


def open_haar() -> FaceDetector:
    return HaarDetector()


def open_yunet() -> FaceDetector:
    if not YUNET.is_file():
        pytest.skip(f"no YuNet model here: {YUNET} is absent")
    return YuNetDetector(YUNET)


def report(benchmark: Any, found: int) -> None:
    if benchmark.stats is None:  # --benchmark-disable
        return
    laps = np.asarray(benchmark.stats.stats.data)
    benchmark.extra_info["p50_ms"] = round(float(np.percentile(laps, 50)) * 1e3, 2)
    benchmark.extra_info["p99_ms"] = round(float(np.percentile(laps, 99)) * 1e3, 2)
    benchmark.extra_info["found"] = f"{found} of {len(laps)}"


@pytest.mark.benchmark(group="a followed face, a frame each half second")
@pytest.mark.parametrize("open_detector", [open_haar, open_yunet], ids=["haar", "yunet"])
def test_tracker(benchmark: Any, grid_frames: list[Image], open_detector: Callable[[], FaceDetector]) -> None:
    tracker = FaceTracker(open_detector())
    # Back and forth, so that the face never jumps.
    order = [*range(len(grid_frames)), *reversed(range(len(grid_frames)))] * (LAPS // 2)
    assert tracker.update(grid_frames[0], 0) is not None
    steps = iter(enumerate(order, start=1))
    found = []

    def next_frame() -> tuple[tuple[Image, int], dict[str, Any]]:
        step, index = next(steps)
        return (grid_frames[index], step * STEP_NS), {}

    def update(frame: Image, t_ns: int) -> None:
        found.append(tracker.update(frame, t_ns))

    benchmark.pedantic(update, setup=next_frame, rounds=len(order))
    report(benchmark, sum(face is not None for face in found))


@pytest.mark.benchmark(group="a scan of the whole frame")
@pytest.mark.parametrize("open_detector", [open_haar, open_yunet], ids=["haar", "yunet"])
def test_scan(benchmark: Any, grid_frames: list[Image], open_detector: Callable[[], FaceDetector]) -> None:
    detector = open_detector()
    _over(benchmark, grid_frames, lambda frame: bool(detector.detect(frame)))


@pytest.mark.benchmark(group="a scan of the whole frame")
def test_peer_detect_multi_scale(benchmark: Any, grid_frames: list[Image]) -> None:
    """OpenCV's cascade as its tutorials call it, on a copy 480 px wide."""
    cascade = cv2.CascadeClassifier(str(HaarDetector().path))

    def scan(frame: Image) -> bool:
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        scale = 480 / grey.shape[1]
        small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return len(cascade.detectMultiScale(small, scaleFactor=1.1, minNeighbors=5, minSize=(30, 30))) > 0

    _over(benchmark, grid_frames, scan)


def _over(benchmark: Any, frames: list[Image], scan: Callable[[Image], bool]) -> None:
    found = []
    queue = iter([*frames, *frames])

    def next_frame() -> tuple[tuple[Image], dict[str, Any]]:
        return (next(queue),), {}

    def run(frame: Image) -> None:
        found.append(scan(frame))

    benchmark.pedantic(run, setup=next_frame, rounds=2 * len(frames))
    report(benchmark, sum(found))
