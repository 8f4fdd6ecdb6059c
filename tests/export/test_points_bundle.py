"""A bundle that takes gaze points, end to end: random weights, real streams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exporting needs the extra `export`")
pytest.importorskip("onnxscript", reason="exporting needs the extra `export`")
pytest.importorskip("onnxslim", reason="exporting needs the extra `export`")

from emert_edge.export import export_bundle, export_triton  # noqa: E402

from emert_edge import Estimate, Recognizer  # noqa: E402
from emert_edge.bundle import Bundle  # noqa: E402
from emert_edge.eye import FEATURE_NAMES, GazeSamples, eye_features, gaze_points  # noqa: E402
from emert_edge.reference.emert import Emert, EmertConfig  # noqa: E402
from emert_edge.simulation import render_face  # noqa: E402

S = 1_000_000_000
SPAN = S // 8
MEAN, STD = np.linspace(-1, 1, 39), np.linspace(0.5, 2, 39)


@pytest.fixture(scope="module")
def model() -> Emert:
    torch.manual_seed(5)
    return Emert(EmertConfig(token_width=16, fused_width=16, heads=2, blocks=1, gaze="points")).eval()


@pytest.fixture(scope="module")
def bundle(model: Emert, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_bundle(
        model, tmp_path_factory.mktemp("points") / "points.emert", name="points", version="1",
        eye_mean=MEAN.tolist(), eye_std=STD.tolist(), eye_clip=8.0, data=("nothing",), licence="none", card="# Points",
    )  # fmt: skip


@pytest.fixture(scope="module")
def recognizer(bundle: Bundle) -> Iterator[Recognizer]:
    with Recognizer(bundle, device="cpu", threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    return render_face("happiness", identity=3, size=(240, 320))[0]


def look(seconds: float = 6.0, seed: int = 0) -> GazeSamples:
    """Gaze with holes: some spans have none."""
    t_ns = np.arange(round(seconds * 100)) * (S // 100)
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 1, (2, len(t_ns))).astype(np.float32)
    x[np.repeat(rng.random(len(t_ns) // 25 + 1) < 0.4, 25)[: len(t_ns)]] = np.nan
    return GazeSamples(t_ns=t_ns, x=x, y=y, pupil_left=np.full(len(t_ns), 3.0, np.float32))


def played(
    session: Any, face: np.ndarray | None, gaze: GazeSamples | None, chunk: int, scene: np.ndarray | None = None
) -> list[Estimate]:
    """Push six seconds, gaze in pieces of so many samples, and take what is due after each piece."""
    taken: list[Estimate] = []
    length = 600
    for begin in range(0, length, chunk):
        if gaze is not None:
            session.push_gaze(gaze.between(begin * S // 100, (begin + chunk) * S // 100))
        for index in range(-(-begin // 20), -(-min(begin + chunk, length) // 20)):  # five frames a second
            if face is not None:
                session.push_face(face, index * S // 5)
            if scene is not None:
                session.push_scene(scene, index * S // 5, space="screen")
        taken += session.estimates()
    session.finish()
    return taken + session.estimates()


def assert_equal(first: list[Estimate], second: list[Estimate], *, tolerance: float = 0.0) -> None:
    assert [one.t_ns for one in first] == [other.t_ns for other in second]
    for one, other in zip(first, second, strict=True):
        assert (one.face, one.quality) == (other.face, other.quality)
        for a, b in ((one.emotion, other.emotion), (one.expression, other.expression)):
            assert list(a.probabilities.values()) == pytest.approx(list(b.probabilities.values()), abs=tolerance)
            assert (a.valence, a.arousal) == pytest.approx((b.valence, b.arousal), abs=tolerance)


def test_the_manifest_says_that_gaze_comes_as_points(bundle: Bundle, recognizer: Recognizer) -> None:
    manifest = bundle.manifest
    assert (manifest.gaze, manifest.fixation) == ("points", None)
    assert {graph.role for graph in manifest.graphs} == {"face_encoder", "head"}
    assert bundle.precisions("cpu") == ("fp32", "fp16")
    described = recognizer.describe()
    assert described["bundle"]["gaze"] == "points"
    assert [engine["role"] for engine in described["engines"]] == ["face_encoder", "head"]


def test_the_head_is_given_the_points_of_the_recorded_gaze(recognizer: Recognizer) -> None:
    gaze = look()
    with recognizer.session() as session:
        taken = played(session, None, gaze, 600)
        last = taken[-1].t_ns
    inputs = recognizer._open_engines().head.inputs
    row = (len(taken) - 1) % 8
    points = gaze_points(gaze, last - 32 * SPAN, last)
    there = np.isfinite(points[:, 0])
    assert 4 < there.sum() < 28
    assert np.array_equal(inputs["eye_mask"][row], there.astype(np.float32))
    assert np.array_equal(inputs["gaze_points"][row], np.nan_to_num(points))
    features = (eye_features(gaze, last - 32 * SPAN, last) - MEAN.astype(np.float32)) / STD.astype(np.float32)
    assert inputs["eye_tokens"][row][there] == pytest.approx(np.clip(features, -8, 8)[there], abs=1e-4)
    assert not inputs["eye_tokens"][row][~there].any()
    assert len(FEATURE_NAMES) == inputs["eye_tokens"].shape[2]


@pytest.mark.parametrize("chunk", [1, 7, 40])
def test_streamed_estimates_are_the_recordings(recognizer: Recognizer, face: np.ndarray, chunk: int) -> None:
    whole = played(recognizer.session(), face, look(), 600)
    assert [one.time_s for one in whole] == [2 + index / 2 for index in range(8)]
    assert_equal(played(recognizer.session(), face, look(), chunk), whole, tolerance=1e-6)


def test_many_sessions_in_one_batch_are_as_each_alone(recognizer: Recognizer, face: np.ndarray) -> None:
    gazes = [look(seed=seed) for seed in range(4)] + [None]
    alone = [played(recognizer.session(), face, gaze, 600) for gaze in gazes]
    sessions = [recognizer.session() for _ in gazes]
    for session, gaze in zip(sessions, gazes, strict=True):
        for index in range(30):
            session.push_face(face, index * S // 5)
        if gaze is not None:
            session.push_gaze(gaze)
        session.finish()
    for together, one in zip(recognizer.step(sessions), alone, strict=True):
        assert_equal(together, one, tolerance=1e-5)
    assert "no_gaze" in alone[-1][0].quality.degraded
    assert alone[0][-1].emotion.probabilities != alone[1][-1].emotion.probabilities


def test_a_scene_is_taken_and_changes_nothing(recognizer: Recognizer, face: np.ndarray) -> None:
    scene = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    session = recognizer.session()
    with_scene = played(session, face, look(), 40, scene)
    assert session._cells["scene"].held_bytes == 0
    assert_equal(with_scene, played(recognizer.session(), face, look(), 40), tolerance=1e-6)
    for one in with_scene:
        assert "no_scene" not in one.quality.degraded  # no estimate of this bundle lacks one
    with pytest.raises(TypeError, match="uint8"):
        recognizer.session().push_scene(scene.astype(np.float32), 0)
    with recognizer.session() as alone:
        alone.push_scene(scene, 0)
        alone.push_scene(scene, 3 * S)
        assert [one.time_s for one in alone.estimates()] == [2.0, 2.5, 3.0]  # its times count as any stream's


def test_whole_recordings_run_from_files(recognizer: Recognizer, face: np.ndarray, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    for index in range(75):
        cv2.imwrite(str(tmp_path / f"frame{index:03}.png"), face)
    taken = list(recognizer.run(tmp_path, look()))
    assert taken[0].face is not None
    assert taken[0].quality.gaze > 0.2
    assert taken[0].gap is not None


def test_what_a_device_answers_is_the_whole_models(model: Emert, recognizer: Recognizer, face: np.ndarray) -> None:
    """From frames and samples through session and engines, beside PyTorch on the same rows."""
    with recognizer.session() as session:
        taken = played(session, face, look(), 600)
    head = recognizer._open_engines().head
    assert len(taken) == 8
    inputs = {name: torch.from_numpy(values[:8].copy()) for name, values in head.inputs.items()}
    assert float(inputs["face_mask"].sum()) > 30
    with torch.no_grad():
        wanted = model.head(**inputs)
    shown = torch.softmax(wanted["expression_logits"], 1).numpy()
    for row, one in enumerate(taken):
        assert list(one.expression.probabilities.values()) == pytest.approx(shown[row], abs=1e-5)
        assert one.emotion.valence == pytest.approx(float(wanted["emotion_valence_arousal"][row, 0]), abs=1e-5)


def test_fp16_answers_as_fp32(bundle: Bundle, recognizer: Recognizer, face: np.ndarray) -> None:
    assert bundle.manifest.accepts("fp16", "tensorrt")
    with Recognizer(bundle, device="cpu", precision="fp16", threads=1) as half:
        taken = played(half.session(), face, look(), 600)
    whole = played(recognizer.session(), face, look(), 600)
    assert_equal(taken, whole, tolerance=3e-3)
    assert taken[0].emotion.probabilities != whole[0].emotion.probabilities


def test_a_server_gets_two_models_in_fp16_by_the_evidence(schema: Any, bundle: Bundle, tmp_path: Path) -> None:
    text_format = pytest.importorskip("google.protobuf.text_format")
    made = export_triton(bundle, tmp_path / "models")
    assert (made.models, made.precision) == (("points_face_encoder", "points_head"), "fp16")
    assert (made.path / "points_head" / "1" / "model.onnx").read_bytes() == bundle.read("head.fp16.onnx")
    text = (made.path / "points_head" / "config.pbtxt").read_text(encoding="utf-8")
    head = text_format.Parse(text, schema.ModelConfig())
    assert {tensor.name: list(tensor.dims) for tensor in head.input}["gaze_points"] == [32, 2]
    assert {tensor.data_type for tensor in (*head.input, *head.output)} == {schema.TYPE_FP32}
    assert export_triton(bundle, tmp_path / "models", precision="fp32").precision == "fp32"
    assert (made.path / "points_head" / "1" / "model.onnx").read_bytes() == bundle.read("head.fp32.onnx")
