"""Who is followed, when several faces, none, or a weak one are there: with faces that a script places."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from emert_edge.face import Box, Detection, FaceTracker, TrackedFace

SECOND = 1_000_000_000
Image = npt.NDArray[np.uint8]


class Script:
    """A detector that sees what the test says; in a region, what of it lies near."""

    name = "script"

    def __init__(self) -> None:
        self.faces: list[Detection] = []
        self.scans = 0

    def show(self, *faces: tuple[float, float, float] | tuple[float, float, float, float]) -> None:
        """Each face: centre x, centre y, side, and a score if not 0.9."""
        self.faces = [
            Detection(
                (face[0] - face[2] / 2, face[1] - face[2] / 2, face[2], face[2]), face[3] if len(face) > 3 else 0.9
            )
            for face in faces
        ]

    def detect(self, frame: Image, *, region: Box | None = None) -> list[Detection]:
        if region is None:
            self.scans += 1
            return [one for one in self.faces if one.score >= 0.5]
        x, y, side, _ = region
        return [one for one in self.faces if max(abs(one.box[0] - x), abs(one.box[1] - y)) <= 1.5 * side]


class Stage:
    """A tracker, its script, and blank frames to call it with."""

    def __init__(self, hertz: float) -> None:
        self.script = Script()
        self.tracker = FaceTracker(self.script)
        self.step_ns = round(SECOND / hertz)
        self.t_ns = 0
        self.frame: Image = np.full((360, 640, 3), 90, np.uint8)

    def see(self, *faces: tuple[float, float, float] | tuple[float, float, float, float]) -> TrackedFace | None:
        self.script.show(*faces)
        found = self.tracker.update(self.frame, self.t_ns)
        self.t_ns += self.step_ns
        return found

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds * SECOND / self.step_ns)):
            assert self.see() is None


@pytest.fixture(params=[2.0, 30.0], ids=["2 Hz", "30 Hz"])
def stage(request: pytest.FixtureRequest) -> Stage:
    return Stage(request.param)


def centre(face: TrackedFace | None) -> tuple[float, float]:
    assert face is not None
    return face.box[0] + face.box[2] / 2, face.box[1] + face.box[3] / 2


def test_no_face_is_none(stage: Stage) -> None:
    stage.wait(2)
    assert stage.script.scans == round(2 * SECOND / stage.step_ns)


def test_a_face_is_followed_without_a_scan_of_the_whole_frame(stage: Stage) -> None:
    ids = []
    for step in range(20):
        face = stage.see((200 + 3 * step, 150, 80))
        assert centre(face) == (200 + 3 * step, 150)
        assert face is not None
        ids.append(face.track_id)
    assert set(ids) == {1}
    assert stage.script.scans == 1


def test_the_most_prominent_face_is_taken_first(stage: Stage) -> None:
    assert centre(stage.see((100, 100, 60), (400, 200, 90), (600, 300, 70))) == (400, 200)


def test_of_faces_nearly_as_large_the_central_one_is_taken_first(stage: Stage) -> None:
    assert centre(stage.see((50, 50, 85), (320, 180, 80))) == (320, 180)


def test_a_face_that_is_or_becomes_larger_does_not_take_over(stage: Stage) -> None:
    stage.see((200, 180, 80), (450, 180, 60))
    for step in range(20):
        face = stage.see((200, 180, 80), (450, 180, 60 + 10 * step))
        assert centre(face) == (200, 180)
        assert face is not None
        assert face.track_id == 1


def test_a_face_that_passes_by_does_not_take_over(stage: Stage) -> None:
    stage.see((300, 180, 80))
    for step in range(60):
        face = stage.see((300 + step % 3, 180, 80), (600 - 10 * step, 200, 100))
        assert abs(centre(face)[0] - 300) <= 2


def test_an_unsure_face_starts_no_track(stage: Stage) -> None:
    assert stage.see((300, 180, 80, 0.4)) is None


def test_a_hint_bridges_for_a_moment_and_no_longer(stage: Stage) -> None:
    stage.see((300, 180, 80))
    answers = [stage.see((302, 180, 80, 0.3)) for _ in range(round(2 * SECOND / stage.step_ns))]
    bridged = [face is not None for face in answers]
    times = [(step + 1) * stage.step_ns / SECOND for step in range(len(answers))]
    assert bridged == [t <= 0.6 for t in times]
    assert all(face.score < 0.5 and face.track_id == 1 for face in answers if face is not None)
    assert any(bridged)


def test_a_missed_face_is_not_made_up(stage: Stage) -> None:
    stage.see((300, 180, 80))
    assert stage.see() is None


def test_a_missed_face_is_bridged_by_its_picture() -> None:
    stage = Stage(10)
    picture = np.random.default_rng(3).integers(0, 256, (80, 80, 3), np.uint8)
    picture = np.repeat(np.repeat(picture[::8, ::8], 8, axis=0), 8, axis=1)

    def scene(x: int) -> Image:
        frame = np.full((360, 640, 3), 90, np.uint8)
        frame[140:220, x - 40 : x + 40] = picture
        return frame

    stage.frame = scene(300)
    stage.see((300, 180, 80))
    found = []
    for step in range(1, 10):
        stage.frame = scene(300 + 4 * step)
        found.append(stage.see())
    for step, face in enumerate(found[:6], start=1):
        assert face is not None
        assert face.track_id == 1
        assert face.score < 0.5
        assert centre(face) == pytest.approx((300 + 4 * step, 180), abs=3)
    assert found[6:] == [None, None, None]  # 0.7 s after it was last surely seen


def test_a_picture_that_is_gone_bridges_nothing() -> None:
    stage = Stage(10)
    noise = np.random.default_rng(4)
    stage.frame = noise.integers(0, 256, (360, 640, 3), np.uint8)
    stage.see((300, 180, 80))
    stage.frame = noise.integers(0, 256, (360, 640, 3), np.uint8)
    assert stage.see() is None
    stage.frame = np.zeros((360, 640, 3), np.uint8)
    assert stage.see() is None


def test_who_returns_near_the_old_place_is_the_same(stage: Stage) -> None:
    stage.see((300, 180, 80))
    stage.wait(4)
    face = stage.see((340, 190, 90))
    assert face is not None
    assert face.track_id == 1


def test_who_appears_elsewhere_is_somebody_else(stage: Stage) -> None:
    stage.see((150, 180, 60))
    stage.wait(4)
    face = stage.see((500, 180, 60))
    assert face is not None
    assert face.track_id == 2


def test_who_returns_in_another_size_is_somebody_else(stage: Stage) -> None:
    stage.see((300, 180, 60))
    stage.wait(4)
    face = stage.see((300, 180, 160))
    assert face is not None
    assert face.track_id == 2


def test_who_returns_after_a_long_time_is_somebody_else(stage: Stage) -> None:
    stage.see((300, 180, 80))
    stage.wait(11)
    face = stage.see((300, 180, 80))
    assert face is not None
    assert face.track_id == 2


def test_nobody_steps_in_at_once_for_one_who_was_lost(stage: Stage) -> None:
    stage.see((150, 180, 80), (500, 180, 60))
    answers = [stage.see((500, 180, 60)) for _ in range(round(3 * SECOND / stage.step_ns))]
    times = [(step + 1) * stage.step_ns / SECOND for step in range(len(answers))]
    assert [face is not None for face in answers] == [t > 1 for t in times]
    assert {face.track_id for face in answers if face is not None} == {2}


def test_the_first_person_back_keeps_the_old_id_after_a_second_one_left(stage: Stage) -> None:
    stage.see((150, 180, 80))
    stage.wait(2)
    second = stage.see((500, 180, 80))
    stage.wait(2)
    third = stage.see((150, 180, 80))
    assert second is not None
    assert third is not None
    assert (second.track_id, third.track_id) == (2, 1)


def test_of_two_who_are_back_the_one_followed_last_is_followed(stage: Stage) -> None:
    stage.see((150, 180, 60))
    stage.wait(2)
    face = stage.see((500, 180, 120), (150, 180, 60))
    assert face is not None
    assert face.track_id == 1


def test_a_change_of_the_frames_size_carries_the_face_along(stage: Stage) -> None:
    stage.see((200, 100, 60), (500, 100, 50))
    stage.frame = np.full((720, 1280, 3), 90, np.uint8)
    face = stage.see((400, 200, 120), (1000, 200, 140))
    assert centre(face) == (400, 200)
    assert face is not None
    assert face.track_id == 1


def test_reset_forgets_everybody(stage: Stage) -> None:
    stage.see((150, 180, 80))
    stage.wait(4)
    stage.see((500, 180, 80))
    stage.tracker.reset()
    stage.t_ns = 0
    face = stage.see((500, 180, 80))
    assert face is not None
    assert face.track_id == 1


def test_time_that_goes_back_is_refused(stage: Stage) -> None:
    stage.see((150, 180, 80))
    with pytest.raises(ValueError, match="t_ns"):
        stage.tracker.update(stage.frame, -1)


def test_what_is_no_frame_is_refused(stage: Stage) -> None:
    with pytest.raises(TypeError, match="frame"):
        stage.tracker.update(np.zeros((36, 64, 3), np.float32), 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="frame"):
        stage.tracker.update(np.zeros((36, 64), np.uint8), 0)


def test_a_frame_is_not_kept() -> None:
    stage = Stage(10)
    generator = np.random.default_rng(5)
    stage.frame = generator.integers(0, 256, (360, 640, 3), np.uint8)
    stage.see((300, 180, 80))
    copy = stage.frame.copy()
    stage.frame[:] = 0
    assert stage.see() is None
    stage.frame = copy
    assert stage.see() is not None
