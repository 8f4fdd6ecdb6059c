"""One person stays one person in real clips, at full frame rate and twice a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from emert_edge.face import FaceDetector, FaceTracker, HaarDetector, TrackedFace, YuNetDetector
from emert_edge.sources import Frame, open_frames

Frames = Callable[[Path], Iterator[Frame]]
HALF_SECOND = 500_000_000


@pytest.fixture(params=["haar", "yunet"])
def detector(request: pytest.FixtureRequest) -> FaceDetector:
    found: FaceDetector = request.getfixturevalue(request.param)
    return found


def every_frame(path: Path) -> Iterator[Frame]:
    yield from open_frames(path).frames()


def twice_a_second(path: Path, phase_ns: int = 0) -> Iterator[Frame]:
    due_ns = phase_ns
    for frame in every_frame(path):
        if frame.t_ns >= due_ns:
            yield frame
            due_ns += HALF_SECOND


def follow(detector: FaceDetector, frames: Iterator[Frame]) -> list[TrackedFace | None]:
    tracker = FaceTracker(detector)
    return [tracker.update(frame.image, frame.t_ns) for frame in frames]


def ids(faces: list[TrackedFace | None]) -> set[int]:
    return {face.track_id for face in faces if face is not None}


@pytest.mark.parametrize("clip", ["single_face.mp4", "WolfgangLanger_Pexels.mp4"])
def test_the_face_is_found_in_nearly_every_frame_and_is_one_person(
    detector: FaceDetector, clips: Path, clip: str
) -> None:
    faces = follow(detector, every_frame(clips / clip))
    assert sum(face is not None for face in faces) >= 0.95 * len(faces)
    assert ids(faces) == {1}


@pytest.mark.parametrize("clip", ["single_face.mp4", "WolfgangLanger_Pexels.mp4"])
@pytest.mark.parametrize("phase_ms", [0, 125, 250, 375])
def test_the_face_is_found_twice_a_second(detector: FaceDetector, clips: Path, clip: str, phase_ms: int) -> None:
    faces = follow(detector, twice_a_second(clips / clip, phase_ms * 1_000_000))
    assert len(faces) >= 4
    assert sum(face is not None for face in faces) >= len(faces) - 1
    assert ids(faces) == {1}


def test_yunet_follows_a_head_that_turns(yunet: YuNetDetector, gifs: Path) -> None:
    faces = follow(yunet, every_frame(gifs / "head-pose-face-detection-female.gif"))
    assert sum(face is not None for face in faces) >= 0.95 * len(faces)
    assert ids(faces) == {1}


@pytest.mark.parametrize("frames", [every_frame, twice_a_second])
def test_nobody_is_seen_in_an_empty_room(detector: FaceDetector, clips: Path, frames: Frames) -> None:
    faces = follow(detector, frames(clips / "no_face.mp4"))
    assert len(faces) >= 8
    assert faces == [None] * len(faces)


@pytest.mark.parametrize("frames", [every_frame, twice_a_second])
def test_a_face_leaves_and_is_the_same_when_it_returns(detector: FaceDetector, clips: Path, frames: Frames) -> None:
    clip = clips / "face_noface.mov"

    times: list[int] = []

    def replayed() -> Iterator[Frame]:
        for start_ns in (0, 7_000_000_000):
            for frame in frames(clip):
                times.append(start_ns + frame.t_ns)
                yield Frame(frame.image, times[-1], frame.sequence)

    faces = follow(detector, replayed())
    there = [face is not None for face in faces]
    half = len(faces) // 2
    assert there[:half] == there[half:]
    left = there.index(False)
    assert 2.0 < times[left] / 1e9 < 3.0
    assert not any(there[left:half])
    assert ids(faces) == {1}


def test_of_two_who_walk_one_is_followed(yunet: YuNetDetector, gifs: Path) -> None:
    faces = follow(yunet, every_frame(gifs / "face-demographics-walking.gif"))
    found = [face for face in faces if face is not None]
    assert len(found) >= 0.75 * len(faces)
    assert ids(faces) == {1}
    sides = [face.box[2] for face in found]
    assert np.median(sides[-5:]) > np.median(sides[:5])  # they come nearer
    steps = [abs(one.box[0] - other.box[0]) / other.box[2] for one, other in zip(found[1:], found, strict=False)]
    assert max(steps) < 1  # the other one walks two face widths beside


def test_of_a_group_one_is_followed(detector: FaceDetector, clips: Path) -> None:
    frame = next(every_frame(clips / "multi_face.jpg"))
    assert len(detector.detect(frame.image)) >= 4
    tracker = FaceTracker(detector)
    faces = [tracker.update(frame.image, step * HALF_SECOND) for step in range(6)]
    first = faces[0]
    assert first is not None
    for face in faces[1:]:
        assert face is not None
        assert face.track_id == 1
        assert abs(face.box[0] - first.box[0]) < 0.2 * first.box[2]


def test_a_larger_face_that_passes_does_not_take_over(haar: HaarDetector, portrait: npt.NDArray[np.uint8]) -> None:
    small, large = portrait[::4, ::4], portrait[::3, ::3]
    tracker = FaceTracker(haar)
    for step in range(24):
        frame = np.full((360, 640, 3), 110, np.uint8)
        frame[20 : 20 + small.shape[0], 60 : 60 + small.shape[1]] = small
        if step:
            left = 440 - 15 * step
            frame[160 : 160 + large.shape[0], left : left + large.shape[1]] = large
        face = tracker.update(frame, step * HALF_SECOND)
        assert face is not None
        assert face.track_id == 1
        assert face.box[0] + face.box[2] / 2 == pytest.approx(60 + small.shape[1] / 2, abs=15)
        assert face.box[1] + face.box[3] / 2 == pytest.approx(20 + small.shape[0] / 2, abs=15)


def test_the_same_frames_give_the_same_faces(detector: FaceDetector, clips: Path) -> None:
    path = clips / "face_noface.mov"
    assert follow(detector, twice_a_second(path)) == follow(detector, twice_a_second(path))


def test_frames_that_change_their_size_keep_the_person(detector: FaceDetector, clips: Path) -> None:
    tracker = FaceTracker(detector)
    for frame in twice_a_second(clips / "single_face.mp4"):
        step = 1 + frame.sequence % 2
        face = tracker.update(frame.image[::step, ::step], frame.t_ns)
        assert face is not None
        assert face.track_id == 1
