"""Whole recordings, real ones first."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from emert_edge import FrameSourceError, Recognizer, SourceError
from emert_edge.eye import GazeSamples
from emert_edge.sources import Frame, open_gaze

S = 1_000_000_000


@pytest.fixture(scope="module")
def recognizer() -> Iterator[Recognizer]:
    with Recognizer(device="cpu", threads=2) as opened:
        yield opened


def pupil_core(shared_data: Path) -> Path:
    return shared_data / "pupil_core_export" / "gaze_positions.csv"


def tobii(shared_data: Path) -> Path:
    return next((shared_data / "tobii_prolab_ivt").glob("*.tsv"))


def test_a_real_clip_with_a_tobii_recording(recognizer: Recognizer, shared_data: Path) -> None:
    clip = shared_data / "face_clips_pyfeat" / "WolfgangLanger_Pexels.mp4"
    taken = list(recognizer.run(clip, tobii(shared_data)))
    assert [one.time_s for one in taken] == [2 + index / 2 for index in range(36)]  # the last frame is at 19.64 s
    assert sum(one.face is not None for one in taken) >= 0.95 * len(taken)
    assert len({one.face.track_id for one in taken if one.face is not None}) == 1
    assert taken[0].quality.gaze > 0.3
    assert taken[0].quality.skew_ms < 500
    for one in taken:
        assert one.emotion is not None
        assert one.expression is not None
        assert sum(one.emotion.probabilities.values()) == pytest.approx(1)
        assert -1 <= one.emotion.valence <= 1
        assert 0 <= one.expression.intensity <= 3
        assert 0 <= one.gap <= 1
        assert one.latency_ms is None


def test_a_short_clip_with_a_pupil_core_export(recognizer: Recognizer, shared_data: Path) -> None:
    clip = shared_data / "face_clips_pyfeat" / "single_face.mp4"
    taken = list(recognizer.run(str(clip), str(pupil_core(shared_data)), gaze_offset_ms=-500))
    assert taken[0].face is not None
    assert taken[-1].time_s > 10  # 2.37 s of face; the gaze goes on for longer
    assert "no_face" in taken[-1].quality.degraded


def test_animated_gifs(recognizer: Recognizer, shared_data: Path) -> None:
    for name in ("head-pose-face-detection-female.gif", "face-demographics-walking.gif"):
        taken = list(recognizer.run(shared_data / "face_clips_intel" / name))
        assert [one.time_s for one in taken][:1] == [2.0]
        assert all("no_gaze" in one.quality.degraded for one in taken)


def test_a_folder_of_images(recognizer: Recognizer, shared_data: Path, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    image = cv2.imread(str(shared_data / "face_clips_pyfeat" / "single_face.jpg"))
    for index in range(90):
        cv2.imwrite(str(tmp_path / f"frame{index}.jpg"), image)
    taken = list(recognizer.run(tmp_path))
    assert [one.time_s for one in taken] == [2.0, 2.5]
    assert all(one.face is not None and one.quality.face > 0.5 for one in taken)


def test_no_face_is_ever_seen_in_an_empty_room(recognizer: Recognizer, shared_data: Path) -> None:
    taken = list(recognizer.run(shared_data / "face_clips_pyfeat" / "no_face.mp4"))
    assert len(taken) == 4
    for one in taken:
        assert one.face is None
        assert one.quality.face == 0
        assert {"no_face", "no_gaze"} <= set(one.quality.degraded)


class _TwiceOver:
    """A clip that is played twice, one pass after the other."""

    name = "twice"
    live = False
    clock = "file:twice"
    size = None
    expected_frames = None

    def __init__(self, clip: Path) -> None:
        self._clip = clip

    def frames(self) -> Iterator[Frame]:
        from emert_edge.sources import open_frames

        begin = last = number = 0
        for _ in range(2):
            source = open_frames(self._clip)
            for frame in source.frames():
                last = begin + frame.t_ns
                yield Frame(frame.image, last, number)
                number += 1
            source.close()
            begin = last + S // 30

    def close(self) -> None: ...


def test_a_face_that_leaves_is_missed_and_found_again(recognizer: Recognizer, shared_data: Path) -> None:
    taken = {one.time_s: one for one in recognizer.run(_TwiceOver(shared_data / "face_clips_pyfeat/face_noface.mov"))}
    assert "no_face" not in taken[2.0].quality.degraded  # the face leaves after 2.7 s of 6.4
    for time_s in (3.5, 4.5, 5.5):
        assert "no_face" in taken[time_s].quality.degraded
        assert taken[time_s].face is None
    assert "no_face" not in taken[7.0].quality.degraded
    assert taken[7.0].face is not None


def test_the_same_recording_gives_the_same_bytes(shared_data: Path) -> None:
    clip = shared_data / "face_clips_pyfeat" / "single_face.mp4"

    def lines() -> list[str]:
        with Recognizer(device="cpu") as recognizer:
            return [one.to_json() for one in recognizer.run(clip, tobii(shared_data))]

    assert lines() == lines()


def test_alignment_lays_starts_together_and_the_offset_moves_the_gaze(
    recognizer: Recognizer, shared_data: Path
) -> None:
    clip = shared_data / "face_clips_pyfeat" / "single_face.mp4"
    samples = open_gaze(tobii(shared_data)).samples
    later = samples.shifted(10**15)

    def shares(gaze: GazeSamples, **options: float) -> list[float]:
        return [one.quality.gaze for one in recognizer.run(clip, gaze, **options)]

    assert shares(samples) == shares(later)
    assert shares(samples, gaze_offset_ms=1000)[0] == pytest.approx(shares(samples)[0] - 8 / 32, abs=2 / 32)


def test_a_common_clock_is_asked_for_and_used(recognizer: Recognizer) -> None:
    image = np.full((24, 32, 3), 90, np.uint8)

    class Camera(_TwiceOver):
        clock = "ptp"

        def __init__(self) -> None: ...

        def frames(self) -> Iterator[Frame]:
            for index in range(30):
                yield Frame(image, 100 * S + index * S // 10, index)

    times = 101 * S + np.arange(200) * S // 100
    gaze = GazeSamples(t_ns=times, x=np.full(200, 0.5), y=np.full(200, 0.5), clock="ptp")
    first = next(iter(recognizer.run(Camera(), gaze, align="clock")))
    assert first.time_s == 102.0
    assert first.quality.gaze == 8 / 32
    with pytest.raises(ValueError, match="one clock domain"):
        recognizer.run(Camera(), GazeSamples(t_ns=times, clock="tracker"), align="clock")


def test_gaze_alone_is_enough(recognizer: Recognizer, shared_data: Path) -> None:
    taken = list(recognizer.run(gaze=pupil_core(shared_data)))
    assert len(taken) > 10
    assert all("no_face" in one.quality.degraded for one in taken)


def test_a_scene_in_another_space_is_refused(recognizer: Recognizer, shared_data: Path) -> None:
    clip = shared_data / "face_clips_pyfeat" / "single_face.mp4"
    with pytest.raises(ValueError, match="screen"):
        list(recognizer.run(clip, tobii(shared_data), clip))
    taken = list(recognizer.run(clip, tobii(shared_data), clip, scene_space="screen"))
    assert "no_scene" not in taken[0].quality.degraded


def test_what_cannot_be_run_is_refused_by_name(recognizer: Recognizer, shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="face, gaze"):
        recognizer.run()
    with pytest.raises(SourceError, match=r"session\.mcap"):
        recognizer.run(session="session.mcap")
    with pytest.raises(FrameSourceError, match="nowhere"):
        list(recognizer.run(tmp_path / "nowhere.mp4"))
    camera = _TwiceOver(tmp_path)
    camera.live = True
    with pytest.raises(SourceError, match="live source"):
        list(recognizer.run(camera))


def test_expressions_reads_cropped_faces_in_batches(recognizer: Recognizer) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (19, 48, 40, 3), np.uint8)
    together = recognizer.expressions(images)
    assert together.shape == (19, 7)
    assert together.dtype == np.float32
    assert together.sum(axis=1) == pytest.approx(np.ones(19), abs=1e-5)
    one_by_one = np.concatenate([recognizer.expressions([image]) for image in images])
    assert together == pytest.approx(one_by_one, abs=1e-5)
    assert recognizer.expressions(images[..., ::-1], color="rgb") == pytest.approx(together, abs=1e-6)
    mixed = [images[0], rng.integers(0, 255, (300, 200, 3), np.uint8)]
    assert recognizer.expressions(mixed)[0] == pytest.approx(together[0], abs=1e-5)
    assert recognizer.expressions([]).shape == (0, 7)
    assert recognizer.expressions(np.zeros((0, 9, 9, 3), np.uint8)).shape == (0, 7)


@pytest.mark.parametrize(
    ("images", "error", "name"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), TypeError, r"images\[0\]"),
        (np.zeros((8, 8, 3), np.uint8), ValueError, "images"),
        ([np.zeros((8, 8), np.uint8)], ValueError, r"images\[0\]"),
        ([np.zeros((8, 8, 3), np.uint8), None], TypeError, r"images\[1\]"),
        ("face.jpg", TypeError, "images"),
    ],
)
def test_wrong_images_are_named(recognizer: Recognizer, images: object, error: type, name: str) -> None:
    with pytest.raises(error, match=name):
        recognizer.expressions(images)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="color"):
        recognizer.expressions([], color="grey")


_MEASURE = """
import re, sys
from emert_edge import Recognizer
with Recognizer(device="cpu") as recognizer:
    count = sum(1 for _ in recognizer.run(sys.argv[1]))
assert count == 16, count
with open("/proc/self/status") as status:  # not ru_maxrss: a child begins with its parent's
    print(int(re.search(r"VmHWM:\\s+(\\d+)", status.read())[1]) // 1024)
"""


def test_ten_seconds_of_720p_stay_under_300_mb(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    from emert_edge.simulation import render_face

    image, _ = render_face("happiness", identity=1, size=(720, 1280))
    clip = tmp_path / "hd.mp4"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"mp4v"), 30, (1280, 720))
    for index in range(300):
        writer.write(np.roll(image, index % 20, axis=1))
    writer.release()
    done = subprocess.run([sys.executable, "-c", _MEASURE, str(clip)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300
