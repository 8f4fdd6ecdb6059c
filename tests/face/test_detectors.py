"""Both detectors keep one promise: canonical boxes, sure faces from a scan, hints only near a known face."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

import emert_edge.face.haar as haar_module
from emert_edge.errors import EngineError
from emert_edge.face import Box, Detection, FaceDetector, FaceTracker, HaarDetector, YuNetDetector, open_detector
from emert_edge.face.yunet import YUNET_FILE, YUNET_SHA256
from emert_edge.sources import open_frames

Image = npt.NDArray[np.uint8]


@pytest.fixture(params=["haar", "yunet"])
def detector(request: pytest.FixtureRequest) -> FaceDetector:
    found: FaceDetector = request.getfixturevalue(request.param)
    return found


def apart(one: Box, other: Box) -> tuple[float, float]:
    """Distance of two boxes' centres, and the ratio of their sides, in the second one's sides."""
    across = one[0] + one[2] / 2 - other[0] - other[2] / 2
    down = one[1] + one[3] / 2 - other[1] - other[3] / 2
    return math.hypot(across, down) / other[2], one[2] / other[2]


def test_both_are_face_detectors(detector: FaceDetector) -> None:
    assert isinstance(detector, FaceDetector)


def test_a_portrait_has_one_sure_face(detector: FaceDetector, portrait: Image) -> None:
    faces = detector.detect(portrait)
    assert len(faces) == 1
    assert 0.5 <= faces[0].score <= 1
    x, y, width, height = faces[0].box
    assert width == pytest.approx(height)
    assert 0 <= x < x + width <= portrait.shape[1]
    assert 0 <= y < y + height <= portrait.shape[0]


def test_a_group_has_several_faces_best_first(detector: FaceDetector, clips: Path) -> None:
    faces = detector.detect(next(iter(open_frames(clips / "multi_face.jpg").frames())).image)
    assert len(faces) >= 4
    assert [one.score for one in faces] == sorted((one.score for one in faces), reverse=True)


def test_an_empty_room_has_none(detector: FaceDetector, clips: Path) -> None:
    seen = 0
    for frame in open_frames(clips / "no_face.mp4").frames():
        seen += 1
        assert detector.detect(frame.image) == []
    assert seen == 95


def test_a_look_at_a_region_finds_the_scans_face_in_the_frames_coordinates(
    detector: FaceDetector, portrait: Image
) -> None:
    scanned = detector.detect(portrait)[0].box
    side = scanned[2]
    for shift_x, shift_y, zoom in ((0, 0, 1), (0.3, -0.2, 1.2), (-0.4, 0.3, 0.85)):
        region = (scanned[0] + shift_x * side, scanned[1] + shift_y * side, zoom * side, zoom * side)
        looked = detector.detect(portrait, region=region)
        assert looked, (shift_x, shift_y, zoom)
        distance, ratio = apart(looked[0].box, scanned)
        assert distance < 0.1
        assert 0.85 < ratio < 1.18


@pytest.mark.parametrize(("shift", "zoom", "searches"), [(0.0, 1.0, 1), (0.04, 1.03, 1), (0.3, 1.0, 2), (0.0, 1.3, 2)])
def test_a_face_that_hardly_moved_is_searched_once(
    haar: HaarDetector, portrait: Image, monkeypatch: pytest.MonkeyPatch, shift: float, zoom: float, searches: int
) -> None:
    box = haar.detect(portrait, region=haar.detect(portrait)[0].box)[0].box
    done: list[object] = []
    search = HaarDetector._search

    def counted(self: HaarDetector, *given: Any) -> list[Detection]:
        done.append(given)
        return search(self, *given)

    monkeypatch.setattr(HaarDetector, "_search", counted)
    side = zoom * box[2]
    region = (box[0] + (box[2] - side) / 2 + shift * side, box[1] + (box[2] - side) / 2, side, side)
    found = haar.detect(portrait, region=region)
    assert len(done) == searches
    distance, ratio = apart(found[0].box, box)
    assert distance < 0.05
    assert 0.9 < ratio < 1.1


def test_a_still_look_places_boxes_as_well_as_a_near_one(
    haar: HaarDetector, yunet: YuNetDetector, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both beside the network's landmarks, in steps of an eighth of a second: the spread of places and of sizes."""

    def spread() -> tuple[float, float, int]:
        errors, tracker = [], FaceTracker(haar)
        for frame in frames:
            found = tracker.update(frame.image, frame.t_ns)
            if found is not None:
                (x, y, side, _), (true_x, true_y, true_side, _) = found.box, truth[frame.sequence]
                across, down = x + side / 2 - true_x - true_side / 2, y + side / 2 - true_y - true_side / 2
                errors.append((across / true_side, down / true_side, np.log(side / true_side)))
        across, down, size = np.std(errors, axis=0)
        return float(np.hypot(across, down)), float(size), len(errors)

    for clip in ("single_face.mp4", "WolfgangLanger_Pexels.mp4"):
        frames = [frame for frame in open_frames(clips / clip).frames() if frame.sequence % 3 == 0]
        truth = {frame.sequence: yunet.detect(frame.image)[0].box for frame in frames}
        still = spread()
        with monkeypatch.context() as without:
            without.setattr(haar_module, "STILL_SHIFT", -1.0)
            near = spread()
        assert still[0] < 1.25 * near[0] + 0.005
        assert still[1] < 1.25 * near[1] + 0.005
        assert still[2] >= near[2] >= 0.9 * len(frames)


def test_a_look_elsewhere_finds_nothing(detector: FaceDetector, portrait: Image) -> None:
    rows, columns = portrait.shape[:2]
    wide = np.zeros((rows, 4 * columns, 3), np.uint8)
    wide[:, :columns] = portrait
    side = detector.detect(portrait)[0].box[2]
    assert detector.detect(wide, region=(3 * columns, rows / 3, side, side)) == []
    assert detector.detect(wide, region=(50 * columns, rows / 3, side, side)) == []
    assert detector.detect(wide, region=(-50 * columns, -9 * rows, side, side)) == []


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 700, 3), (700, 5, 3), (23, 23, 3), (30, 40, 3)])
def test_a_frame_too_small_for_a_face_has_none(detector: FaceDetector, shape: tuple[int, ...]) -> None:
    assert detector.detect(np.full(shape, 128, np.uint8)) == []
    assert detector.detect(np.full(shape, 128, np.uint8), region=(0, 0, 2, 2)) == []


def test_a_view_of_a_larger_picture_is_a_frame(detector: FaceDetector, portrait: Image) -> None:
    rows, columns = portrait.shape[:2]
    larger = np.zeros((rows + 20, 2 * columns, 3), np.uint8)
    larger[10:-10, ::2] = portrait
    assert detector.detect(larger[10:-10, ::2]) == detector.detect(portrait)


def test_threads_and_repetitions_find_the_same(detector: FaceDetector, clips: Path) -> None:
    group = next(iter(open_frames(clips / "multi_face.jpg").frames())).image
    expected = detector.detect(group)
    with ThreadPoolExecutor(4) as pool:
        assert all(found == expected for found in pool.map(detector.detect, [group] * 8))


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (None, TypeError),
        ([[1, 2, 3]], TypeError),
        (np.zeros((8, 8, 3), np.float32), TypeError),
        (np.zeros((8, 8), np.uint8), ValueError),
        (np.zeros((8, 8, 4), np.uint8), ValueError),
        (np.zeros((0, 8, 3), np.uint8), ValueError),
    ],
)
def test_what_is_no_frame_is_refused(detector: FaceDetector, frame: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="frame"):
        detector.detect(frame)


def test_a_region_without_a_size_is_refused(detector: FaceDetector, portrait: Image) -> None:
    with pytest.raises(ValueError, match="region"):
        detector.detect(portrait, region=(10, 10, 0, 0))


@pytest.mark.parametrize("clip", ["single_face.mp4", "WolfgangLanger_Pexels.mp4", "single_face.jpg"])
def test_both_detectors_draw_the_same_canonical_box(
    haar: HaarDetector, yunet: YuNetDetector, clips: Path, clip: str
) -> None:
    distances, ratios = [], []
    for frame in open_frames(clips / clip).frames():
        if frame.sequence % 8:
            continue
        network = yunet.detect(frame.image)
        cascade = [one for one in haar.detect(frame.image, region=network[0].box) if one.score >= 0.5]
        if cascade:
            distance, ratio = apart(cascade[0].box, network[0].box)
            distances.append(distance)
            ratios.append(ratio)
    assert len(distances) >= (frame.sequence // 8 + 1) * 0.9
    assert np.mean(distances) < 0.08
    assert abs(np.mean(ratios) - 1) < 0.15


def test_the_haar_cascade_is_found_where_systems_keep_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    packaged = haar_module.find_cascade().parent
    monkeypatch.setattr(haar_module, "SYSTEM_FOLDERS", (str(packaged),))
    monkeypatch.setattr(cv2, "data", SimpleNamespace(), raising=False)  # as in Debian's OpenCV
    assert HaarDetector().path.parent == packaged
    monkeypatch.setattr(haar_module, "SYSTEM_FOLDERS", (str(tmp_path),))
    with pytest.raises(EngineError, match=f"haarcascade.*{tmp_path}.*YuNet"):
        HaarDetector()


def _missing(folder: Path) -> Path:
    return folder / "missing"


def _text(folder: Path) -> Path:
    (folder / "text").write_text("not a model\n")
    return folder / "text"


def _empty(folder: Path) -> Path:
    (folder / "empty").touch()
    return folder / "empty"


def _folder(folder: Path) -> Path:
    return folder


@pytest.mark.parametrize("kind", [HaarDetector, YuNetDetector])
@pytest.mark.parametrize("make", [_missing, _text, _empty, _folder])
def test_a_file_that_is_no_model_is_refused(
    kind: type[HaarDetector] | type[YuNetDetector],
    make: Callable[[Path], Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = make(tmp_path)
    with pytest.raises(EngineError, match=str(path)):
        kind(path)
    assert capfd.readouterr() == ("", "")


def test_the_published_yunet_is_known_by_its_hash(yunet: YuNetDetector) -> None:
    assert yunet.sha256 == YUNET_SHA256


def test_open_detector_takes_yunet_where_it_is_and_haar_otherwise(
    yunet_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMERT_EDGE_HOME", str(tmp_path))
    assert open_detector().name == "haar"
    assert open_detector(yunet_model).name == "yunet"
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / YUNET_FILE).write_bytes(yunet_model.read_bytes())
    assert open_detector().name == "yunet"
    with pytest.raises(EngineError):
        open_detector(tmp_path / "missing.onnx")
