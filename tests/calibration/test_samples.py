"""Samples: what they are divided into, and that they become the very inputs that a device computes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="calibrating needs the extra `export`")
pytest.importorskip("torch", reason="calibrating needs the extra `train`")

from emert_edge.calibration.data import Pictures, Recordings
from emert_edge.calibration.samples import class_counts, divide, encoder_inputs, stratified

from emert_edge import Recognizer
from emert_edge.bundle import Bundle, packaged_dir
from emert_edge.engines import open_engines
from emert_edge.errors import EmertError
from emert_edge.reference.assessment.bundles import BundleModel
from emert_edge.reference.data.simulated import make_session_data
from emert_edge.reference.data.windows import SessionData
from emert_edge.simulation import EXPRESSIONS


def pictures(counts: list[int], seed: int = 0) -> Pictures:
    labels = np.repeat(np.arange(len(counts)), counts)
    np.random.default_rng(seed).shuffle(labels)
    rng = np.random.default_rng(seed + 1)
    images = [rng.integers(0, 256, (30 + index % 5, 40, 3)).astype(np.uint8) for index in range(len(labels))]
    return Pictures(images, labels.astype(np.int64), "drawn at random")


@pytest.fixture(scope="module")
def sessions() -> list[SessionData]:
    manifest = Bundle.open(packaged_dir() / "emert-demo").manifest
    maps = manifest.fixation
    assert maps is not None
    return make_session_data(4, 5, "train", 6.0, None, manifest.face, manifest.window, maps, lambda _: None)


def test_every_class_keeps_its_share_and_draws_repeat() -> None:
    labels = pictures([400, 100, 10, 1]).labels
    rows = stratified(labels, 100, 0)
    assert np.bincount(labels[rows], minlength=4).tolist() == [78, 20, 2, 1]
    assert np.array_equal(rows, stratified(labels, 100, 0))
    assert not np.array_equal(rows, stratified(labels, 100, 1))
    assert len(stratified(labels, 10_000, 0)) == len(labels)


@pytest.mark.parametrize(("count", "samples"), [([300, 90, 40], 128), ([40, 30, 10], 512), ([9, 8], 4)])
def test_ranges_are_never_judged_on(count: list[int], samples: int) -> None:
    data = pictures(count)
    calibration, comparison, gate = divide(data, samples, 0)
    ids = [{id(image) for image in part.images} for part in (calibration, comparison, gate)]
    assert not ids[0] & ids[1]
    assert not ids[0] & ids[2]
    assert len(ids[2]) >= len(ids[1])
    assert abs(len(ids[0]) - min(samples, len(data)) / 2) <= len(count)
    if len(data) >= 2 * samples:
        assert not ids[1] & ids[2]


def test_too_few_are_an_error() -> None:
    with pytest.raises(EmertError, match="15 pictures are too few"):
        divide(pictures([15]), 8, 0)
    with pytest.raises(EmertError, match="one session alone"):
        divide(Recordings([object()], "one"), 8, 0)  # type: ignore[list-item]


def test_pictures_become_what_a_recognizer_computes(bundle: Bundle) -> None:
    data = pictures([8])
    frames = encoder_inputs(data, bundle.manifest, 99, 0)["face_encoder"]["frame"]
    with Recognizer(bundle, device="cpu", precision="fp32", threads=1) as recognizer:
        recognizer.expressions(list(data.images))
        assert np.array_equal(frames, recognizer._open_engines().face_encoder.inputs["frame"][:8])


def test_sessions_are_divided_whole(sessions: list[SessionData]) -> None:
    parts = divide(Recordings(sessions, "simulated"), 64, 0)
    assert [len(part) for part in parts] == [2, 1, 1]
    seen = [session.id for part in parts for session in part.sessions]
    assert sorted(seen) == sorted(session.id for session in sessions)
    calibration, comparison, _ = divide(Recordings(sessions, "simulated"), 64, 0, own_gate=True)
    assert (len(calibration), len(comparison)) == (2, 2)


def test_frames_of_sessions_become_what_a_device_computes(bundle: Bundle, sessions: list[SessionData]) -> None:
    """Beside `BundleModel`, which is held against a recognizer's own replay."""
    manifest = bundle.manifest
    found = encoder_inputs(Recordings(sessions, "simulated"), manifest, 10_000, 0)
    faces, fused = found["face_encoder"]["frame"], found["fixation_encoder"]["fused"]
    assert len(faces) == sum(int(session.face_mask.sum()) for session in sessions)
    assert len(fused) == sum(int(session.map_mask.sum()) for session in sessions)
    engines = open_engines(bundle, device="cpu", precision="fp32", threads=1)
    try:
        model = BundleModel(bundle, engines, sessions)
        seen: list[np.ndarray] = []
        run = engines.fixation_encoder.run  # type: ignore[union-attr]

        def recording(rows: int) -> None:
            seen.append(engines.fixation_encoder.inputs["fused"][:rows].copy())  # type: ignore[union-attr]
            run(rows)

        engines.fixation_encoder.run = recording  # type: ignore[union-attr, method-assign]
        model.predict()
        device = {frame.tobytes() for frame in np.concatenate(seen)}
        assert {frame.tobytes() for frame in fused[4:]} <= device  # the first half window ends in no estimate
    finally:
        engines.close()
    spec = manifest.face
    first = sessions[0].crops[sessions[0].face_mask][0] / 255.0
    assert (first - np.reshape(spec.mean, (3, 1, 1))) / np.reshape(spec.std, (3, 1, 1)) == pytest.approx(
        faces[0], abs=1e-5
    )


def test_frames_are_drawn_by_class_and_counted(bundle: Bundle, sessions: list[SessionData]) -> None:
    data = Recordings(sessions, "simulated")
    found = encoder_inputs(data, bundle.manifest, 24, 0)["face_encoder"]["frame"]
    assert 16 <= len(found) <= 24 + len(EXPRESSIONS)
    counts = class_counts(data, EXPRESSIONS)
    assert sum(counts.values()) == sum(len(session.face_mask) for session in sessions)
