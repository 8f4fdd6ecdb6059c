"""The drawn face: found by detectors, moved by expressions, the same every time."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from emert_edge.face import open_detector
from emert_edge.simulation import EXPRESSIONS, FaceIdentity, FaceLight, FacePose, expression_weights, render_face

Image = npt.NDArray[np.uint8]


def plain_haar(image: Image) -> list[npt.NDArray[np.float64]]:
    """The cascade as its users call it: on grey, equalised, 480 pixels wide."""
    cascade = cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"))
    factor = image.shape[1] / 480
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    grey = cv2.resize(grey, (480, round(image.shape[0] / factor)), interpolation=cv2.INTER_AREA)
    found = cascade.detectMultiScale(cv2.equalizeHist(grey), scaleFactor=1.1, minNeighbors=5, minSize=(40, 40))
    return [np.asarray(box) * factor for box in found]


def overlap(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    (ax, ay, aw, ah), (bx, by, bw, bh) = np.asarray(a), np.asarray(b)
    wide = max(0.0, min(ax + aw, bx + bw) - max(ax, bx))
    high = max(0.0, min(ay + ah, by + bh) - max(ay, by))
    return wide * high / (aw * ah + bw * bh - wide * high)


def test_opencvs_haar_cascade_finds_nearly_every_drawn_face() -> None:
    found = 0
    count = 105
    for number in range(count):
        frame, box = render_face(
            EXPRESSIONS[number % 7],
            identity=number // 7 * 31,
            intensity=0.6 + 0.4 * (number % 3) / 2,
            pose=FacePose(0.05 * np.sin(number), 0.03 * np.cos(number), 0.9 + 0.02 * (number % 10), number % 7 - 3),
            light=FaceLight(0.9 + 0.02 * (number % 10), 0.4 * np.sin(2 * number)),
            noise=3,
        )
        found += any(overlap(candidate, box) > 0.5 for candidate in plain_haar(frame))  # the usual mark of a detection
    assert found >= 0.98 * count


def test_the_packages_own_detector_finds_one_face_and_agrees_on_its_box() -> None:
    detector = open_detector()
    for number, expression in enumerate(EXPRESSIONS):
        frame, box = render_face(expression, identity=100 + number)
        faces = detector.detect(frame)
        assert len(faces) == 1, expression
        assert overlap(faces[0].box, box) > 0.65, expression


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_frame_depends_on_its_arguments_alone(expression: str) -> None:
    first = render_face(expression, identity=5, size=(240, 320), noise=2, rng=np.random.default_rng(1))
    render_face("surprise", identity=77, size=(240, 320))
    again = render_face(expression, identity=5, size=(240, 320), noise=2, rng=np.random.default_rng(1))
    assert np.array_equal(first.image, again.image)
    assert first.box == again.box


def test_every_two_expressions_look_different() -> None:
    frames = [render_face(name, identity=2, size=(240, 320)).image.astype(int) for name in EXPRESSIONS]
    for first in range(7):
        for second in range(first):
            changed = (np.abs(frames[first] - frames[second]).max(axis=2) > 12).sum()
            assert changed > 60, (EXPRESSIONS[first], EXPRESSIONS[second])


def test_a_morph_moves_by_small_steps() -> None:
    shares = np.linspace(0, 1, 21)
    frames = [
        render_face({"happiness": 1 - share, "sadness": share}, identity=2, size=(240, 320)).image.astype(float)
        for share in shares
    ]
    steps = [np.abs(later - earlier).mean() for earlier, later in itertools.pairwise(frames)]
    assert max(steps) < 0.25 * np.abs(frames[-1] - frames[0]).mean()


def test_intensity_zero_is_the_face_at_rest() -> None:
    resting = render_face("neutral", identity=4, size=(120, 160)).image
    assert np.array_equal(render_face("anger", intensity=0.0, identity=4, size=(120, 160)).image, resting)


def test_the_box_follows_the_pose() -> None:
    _, centred = render_face(identity=1, size=(480, 640))
    _, moved = render_face(identity=1, size=(480, 640), pose=FacePose(0.1, -0.05, 0.5))
    assert moved[2] == pytest.approx(0.5 * centred[2], rel=1e-6)
    assert moved[0] + moved[2] / 2 == pytest.approx(centred[0] + centred[2] / 2 + 64, abs=1)
    assert moved[1] < centred[1] + centred[3]


def test_people_differ_and_keep_their_looks() -> None:
    assert FaceIdentity.from_seed(3) == FaceIdentity.from_seed(3)
    assert len({FaceIdentity.from_seed(seed).skin for seed in range(40)}) > 20


def test_a_face_beyond_the_frame_leaves_the_background_alone() -> None:
    room = np.full((120, 160, 3), 90, np.uint8)
    frame, _ = render_face(size=(120, 160), pose=FacePose(5.0, -9.0), background=room)
    assert np.array_equal(frame, room)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="expression: 'joy'"):
        render_face("joy")
    with pytest.raises(ValueError, match="seven weights"):
        expression_weights([1.0, 0.0])
    with pytest.raises(ValueError, match="finite"):
        expression_weights({"fear": float("nan")})
    with pytest.raises(ValueError, match="size"):
        render_face(size=(8, 8))
    with pytest.raises(ValueError, match="background"):
        render_face(size=(64, 64), background=np.zeros((3, 3, 3), np.uint8))


def test_yunet_finds_it_as_well(shared_models: Path) -> None:
    model = shared_models / "yunet_libfacedetection" / "yunet_s_640_640.onnx"
    detector = open_detector(model)
    for number, expression in enumerate(EXPRESSIONS):
        frame, box = render_face(expression, identity=200 + number)
        assert any(overlap(face.box, box) > 0.6 for face in detector.detect(frame)), expression
