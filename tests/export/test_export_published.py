"""The authors' checkpoints as bundles: exact graphs, their preprocessing, and no more claimed than is known."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exporting needs the extra `export`")
onnx = pytest.importorskip("onnx", reason="exporting needs the extra `export`")
pytest.importorskip("onnxscript", reason="exporting needs the extra `export`")
pytest.importorskip("onnxslim", reason="exporting needs the extra `export`")
ort = pytest.importorskip("onnxruntime")

from emert_edge.export import GraphReport, parity  # noqa: E402
from emert_edge.export.published import (  # noqa: E402
    PUBLISHED_LICENCE,
    EyeColumn,
    export_published,
    is_published,
    meaning_of,
    read_eye_columns,
)

from emert_edge import Estimate, Recognizer  # noqa: E402
from emert_edge.bundle import Bundle, Manifest, write_bundle  # noqa: E402
from emert_edge.cli.app import run_command_line  # noqa: E402
from emert_edge.errors import BundleIncompatible, EmertError  # noqa: E402
from emert_edge.eye import FEATURE_NAMES, GazeSamples, eye_features, gaze_points  # noqa: E402
from emert_edge.face import crop_affine  # noqa: E402
from emert_edge.kernels import crop_normalize  # noqa: E402
from emert_edge.reference.checkpoint import save_checkpoint  # noqa: E402
from emert_edge.reference.published import PublishedEmert, PublishedShape, load_published  # noqa: E402
from emert_edge.simulation import EXPRESSIONS, render_face  # noqa: E402

from ..parity import STEMS, drawn_inputs, drawn_weight  # noqa: E402

S = 1_000_000_000
TOLERANCE = 1e-5
ORDER = ("sadness", "happiness", "fear", "neutral", "surprise", "disgust", "anger")
TOLD: dict[str, dict[str, Any]] = {
    "head_model_D_7": {"task": "emotion", "labels": ORDER},
    "head_model_1": {"target": "expression_valence"},
    "head_in_model_7": {"labels": ORDER},
    "y2023_model_D_7": {"task": "expression", "labels": ORDER},
}
OUTPUTS = {
    "head_model_D_7": {"emotion_logits": "out"},
    "head_model_1": {"expression_valence": "out"},
    "head_in_model_7": {"expression_logits": "out", "expression_intensity": "extra"},
    "y2023_model_D_7": {"expression_logits": "out"},
}


class Made(NamedTuple):
    """A checkpoint's model, and the bundle that was made of its file."""

    model: PublishedEmert
    bundle: Bundle
    sessions: dict[str, Any]


@functools.cache
def drawn_state(stem: str) -> dict[str, torch.Tensor]:
    shapes = PublishedEmert(PublishedShape(**STEMS[stem])).state_dict()
    return {name: torch.from_numpy(drawn_weight(name, tuple(value.shape))) for name, value in shapes.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Export a stem's checkpoint, once; the face graph of all is one, since their weights are drawn by name."""
    folder = tmp_path_factory.mktemp("published")

    @functools.cache
    def make(stem: str) -> Made:
        file = folder / f"{stem}.pth"
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in drawn_state(stem).items()}}, file)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parity, "BATCHES", (1,))  # at 3 and 8 the tests look themselves
            bundle = export_published(file, folder / f"{stem}.emert", name=stem, **TOLD[stem])
        sessions = {
            graph.role: ort.InferenceSession(bundle.read(graph.file), providers=["CPUExecutionProvider"])
            for graph in bundle.manifest.graphs
            if graph.precision == "fp32"
        }
        return Made(load_published(drawn_state(stem)), bundle, sessions)

    return make


def chained(sessions: dict[str, Any], face: Any, eye: Any, gaze: Any) -> dict[str, Any]:
    """Both graphs in a row, on what the published forward takes."""
    (tokens,) = sessions["face_encoder"].run(["face_token"], {"frame": face.reshape(-1, 3, 112, 112)})
    names = [output.name for output in sessions["head"].get_outputs()]
    inputs = {"face_tokens": tokens.reshape(len(face), 8, 128), "eye_tokens": eye, "gaze_points": gaze}
    return dict(zip(names, sessions["head"].run(names, inputs), strict=True))


# Parity


@pytest.mark.parametrize("stem", list(STEMS))
def test_the_graphs_in_a_row_give_the_published_outputs(made: Any, stem: str, shared_data: Path) -> None:
    vectors = shared_data.parent / "parity" / f"{stem}.npz"
    if not vectors.is_file():
        pytest.skip(f"no parity vectors here: {vectors} is absent")
    outputs = chained(made(stem).sessions, **drawn_inputs())
    with np.load(vectors) as wanted:
        for name, source in OUTPUTS[stem].items():
            assert np.abs(outputs[name] - wanted[source]).max() <= TOLERANCE, name


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("stem", list(STEMS))
def test_the_graphs_in_a_row_are_the_published_model(made: Any, stem: str, batch: int) -> None:
    model, _, sessions = made(stem)
    rng = np.random.default_rng(batch)
    inputs = {
        "face": rng.random((batch, 8, 3, 112, 112), np.float32),
        "eye": 3 * rng.standard_normal((batch, 32, 39), np.float32),
        "gaze": rng.random((batch, 32, 2), np.float32),
    }
    inputs["eye"][batch // 2 :, :10] = 0  # as a device gives what is missing
    with torch.no_grad():
        wanted = model(**{name: torch.from_numpy(values) for name, values in inputs.items()})
    outputs = chained(sessions, **inputs)
    assert set(outputs) == set(OUTPUTS[stem])
    for name, source in OUTPUTS[stem].items():
        assert outputs[name].shape == tuple(wanted[source].shape)
        assert np.abs(outputs[name] - wanted[source].numpy()).max() <= TOLERANCE, name


@pytest.mark.parametrize("stem", list(STEMS))
def test_batches_are_dynamic_and_token_counts_fixed(made: Any, stem: str) -> None:
    """An exporter that specialises an LSTM's axes would do it here."""
    bundle = made(stem).bundle
    taken = {"frame": [3, 112, 112], "face_tokens": [8, 128], "eye_tokens": [32, 39], "gaze_points": [32, 2]}
    for graph in bundle.manifest.graphs:
        proto = onnx.load_from_string(bundle.read(graph.file))
        for value in proto.graph.input:
            axes = [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
            assert axes == ["batch", *taken[value.name]]


@pytest.mark.parametrize("stem", list(STEMS))
def test_fp16_graphs_with_an_lstm_answer_as_the_fp32_ones(made: Any, stem: str) -> None:
    bundle, full = made(stem).bundle, made(stem).sessions
    half = {role: ort.InferenceSession(bundle.read(f"{role}.fp16.onnx")) for role in full}
    assert "LSTM" in {node.op_type for node in onnx.load_from_string(bundle.read("head.fp16.onnx")).graph.node}
    rng = np.random.default_rng(0)
    inputs = {
        "face": rng.random((3, 8, 3, 112, 112), np.float32),
        "eye": rng.standard_normal((3, 32, 39), np.float32),
        "gaze": rng.random((3, 32, 2), np.float32),
    }
    wanted = chained(full, **inputs)
    for name, got in chained(half, **inputs).items():
        difference = np.abs(got - wanted[name]).max()
        assert 0 < difference <= 2e-3 * max(1.0, np.abs(wanted[name]).max()), name
    assert bundle.manifest.training.metrics["parity_head_fp16"] <= 2e-3


# What the bundle says


def test_the_manifest_carries_the_published_profile(made: Any) -> None:
    bundle = made("head_model_D_7").bundle
    bundle.verify()
    manifest = bundle.manifest
    assert (manifest.profile, manifest.gaze, manifest.size) == ("published", "points", "model_D")
    face, eye, window = manifest.face, manifest.eye, manifest.window
    assert (face.size, face.color, face.mean, face.std) == ((112, 112), "bgr", (0, 0, 0), (1, 1, 1))
    assert (eye.features, set(eye.mean), set(eye.std), eye.clip) == (FEATURE_NAMES, {0.0}, {1.0}, None)
    assert (eye.normalization, eye.assumed) == ("none", True)
    assert (window.face_tokens, window.eye_tokens, window.window_ms) == (8, 32, 9600)
    assert manifest.labels.emotion == ORDER
    assert (manifest.labels.expression, manifest.labels.polarity) == (None, None)
    assert manifest.licence == PUBLISHED_LICENCE
    assert "guess" in bundle.card
    assert "not a person's true emotion" in bundle.card


def test_show_and_describe_tell_the_profile(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = made("head_in_model_7").bundle
    with pytest.raises(SystemExit) as done:
        run_command_line(["bundle", "show", str(bundle.path)])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    assert "profile     published: gaze as points, eye columns guessed" in shown
    with Recognizer(bundle, device="cpu", threads=1) as recognizer:
        told = recognizer.describe()["bundle"]
    assert (told["profile"], told["architecture"]) == ("published", "emert-published-in_model")


# On a device


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    return render_face("happiness", identity=3, size=(240, 320))[0]


def look(seconds: float = 12.0, lost: bool = True) -> GazeSamples:
    t_ns = np.arange(round(seconds * 60)) * (S // 60)
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 1, (2, len(t_ns))).astype(np.float32)
    if lost:
        x[120:200] = np.nan
    return GazeSamples(t_ns=t_ns, x=x, y=y, pupil_left=np.full(len(t_ns), 3.5, np.float32))


def run(recognizer: Recognizer, face: np.ndarray | None, gaze: GazeSamples | None, seconds: int = 12) -> list[Estimate]:
    with recognizer.session() as session:
        if gaze is not None:
            session.push_gaze(gaze)
        for index in range(5 * seconds):
            if face is not None:
                session.push_face(face, index * S // 5)
        session.finish()
        return session.estimates()


def test_frames_and_gaze_reach_the_graphs_as_published(made: Any, face: np.ndarray) -> None:
    with Recognizer(made("head_model_D_7").bundle, device="cpu", threads=1) as recognizer:
        gaze = look()
        taken = run(recognizer, face, gaze)
        engines = recognizer._open_engines()
        row, end = len(taken) - 1, taken[-1].t_ns
        box = taken[-1].face.box
        affine = crop_affine(box, (112, 112), recognizer.bundle.manifest.face.scale)
        rgb = crop_normalize(face, affine, (112, 112), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        assert engines.face_encoder.inputs["frame"][0] == pytest.approx(rgb[::-1], abs=1e-6)
        start = end - 9_600_000_000
        points = gaze_points(gaze, start, end)
        there = np.isfinite(points[:, 0])
        assert 20 < there.sum() < 32
        inputs = engines.head.inputs
        assert set(inputs) == {"face_tokens", "eye_tokens", "gaze_points"}
        assert np.array_equal(inputs["gaze_points"][row], np.nan_to_num(points))
        assert np.array_equal(inputs["eye_tokens"][row][there], eye_features(gaze, start, end)[there])
        assert not inputs["eye_tokens"][row][~there].any()


def test_a_classifiers_bundle_answers_for_its_task_alone(made: Any, face: np.ndarray) -> None:
    with Recognizer(made("head_model_D_7").bundle, device="cpu", threads=1) as recognizer:
        taken = run(recognizer, face, look())
        assert [one.time_s for one in taken] == pytest.approx([4.8, 6.0, 7.2, 8.4, 9.6, 10.8])
        for one in taken:
            assert tuple(one.emotion.probabilities) == ORDER
            assert sum(one.emotion.probabilities.values()) == pytest.approx(1)
            assert one.emotion.label in ORDER
            assert (one.emotion.polarity, one.emotion.valence, one.emotion.intensity) == (None, None, None)
            assert (one.expression, one.gap, one.reactions) == (None, None, None)
            assert one.to_json()
        assert taken[0].quality.face == 5 / 8  # half of the window has not been seen: those tokens are zeros
        assert taken[-1].quality.face == 1.0
        alone = run(recognizer, face, None)
        assert all({"no_gaze", "no_pupil"} == set(one.quality.degraded) for one in alone)
        assert alone[-1].emotion.probabilities != taken[-1].emotion.probabilities
        blind = run(recognizer, None, look(lost=False))
        assert all(math.isfinite(one.emotion.probability) for one in blind)
        with pytest.raises(BundleIncompatible, match="no expression head"):
            recognizer.expressions([face])


def test_many_sessions_share_a_batch(made: Any, face: np.ndarray) -> None:
    with Recognizer(made("y2023_model_D_7").bundle, device="cpu", threads=1) as recognizer:
        alone = [run(recognizer, face, look()), run(recognizer, None, look(lost=False))]
        sessions = [recognizer.session() for _ in alone]
        for session, (frames, gaze) in zip(sessions, ((face, look()), (None, look(lost=False))), strict=True):
            session.push_gaze(gaze)
            for index in range(60 if frames is not None else 0):
                session.push_face(face, index * S // 5)
            session.finish()
        for together, one in zip(recognizer.step(sessions), alone, strict=True):
            assert len(together) == len(one)
            for a, b in zip(together, one, strict=True):
                values = list(b.expression.probabilities.values())
                assert list(a.expression.probabilities.values()) == pytest.approx(values, abs=1e-5)


def test_a_regression_has_a_value_and_no_classes(made: Any, face: np.ndarray) -> None:
    with Recognizer(made("head_model_1").bundle, device="cpu", threads=1) as recognizer:
        for one in run(recognizer, face, look()):
            shown = one.expression
            assert (shown.label, shown.probability, shown.probabilities) == (None, None, None)
            assert -1 <= shown.valence <= 1
            assert (shown.arousal, shown.intensity, one.emotion, one.gap) == (None, None, None, None)


def test_classes_come_with_an_intensity_in_its_range(made: Any, face: np.ndarray) -> None:
    with Recognizer(made("head_in_model_7").bundle, device="cpu", threads=1) as recognizer:
        for one in run(recognizer, face, look()):
            assert 0 <= one.expression.intensity <= 3
            assert one.expression.label in ORDER


@pytest.mark.parametrize(
    ("change", "words"),
    [({"profile": "emert"}, "does not take 'face_mask'"), ({"points": None}, "'gaze_points' is unknown")],
)
def test_a_manifest_that_promises_other_inputs_is_refused(
    made: Any, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    bundle = made("head_model_D_7").bundle
    wrong = Manifest.model_validate(bundle.manifest.model_dump() | change)
    other = write_bundle(tmp_path / "b", wrong, {name: bundle.read(name) for name in bundle.manifest.files})
    with pytest.raises(BundleIncompatible, match=words):
        Recognizer(other, device="cpu")


# What must be told


@pytest.mark.parametrize(
    ("shape", "told", "words"),
    [
        (PublishedShape("model_D", 7), {"task": "emotion"}, r"7 classes .*--labels"),
        (PublishedShape("model_D", 3), {"task": "emotion", "labels": ORDER}, "give 3 different names"),
        (PublishedShape("model_D", 2), {"task": "emotion", "labels": ["a", "a"]}, "give 2 different names"),
        (PublishedShape("model_D", 7), {"labels": ORDER}, "--task emotion or --task expression"),
        (PublishedShape("model_D", 7), {"labels": ORDER, "task": "fer"}, "--task emotion or"),
        (PublishedShape("model_D", 7), {"target": "emotion_valence"}, "give labels"),
        (PublishedShape("model_D", 7), {"labels": ORDER, "task": "emotion", "target_range": (1, 9)}, "classes alone"),
        (PublishedShape("model", 1), {}, r"--target emotion_valence\|"),
        (PublishedShape("model", 1), {"target": "valence"}, "not 'valence'"),
        (PublishedShape("model", 1), {"labels": ["joy"]}, "--target"),
        (PublishedShape("model", 1), {"target": "emotion_valence", "task": "expression"}, "does not fit"),
        (PublishedShape("model", 1), {"target": "emotion_valence", "target_range": (1, 1)}, "no scale"),
        (PublishedShape("in_model", 7), {"labels": ORDER, "task": "emotion"}, "not an emotion"),
        (PublishedShape("in_model", 7, 2), {"labels": ORDER}, "2 intensities"),
    ],
)
def test_what_a_checkpoint_does_not_say_must_be_told(shape: PublishedShape, told: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        meaning_of(shape, **told)


@pytest.mark.parametrize(
    ("target", "scale", "value", "wanted"),
    [
        ("emotion_valence", None, 0.25, 0.25),
        ("emotion_arousal", (1.0, 9.0), 5.0, 0.0),
        ("expression_valence", (1.0, 9.0), 9.0, 1.0),
        ("expression_intensity", None, 2.0, 2.0),
        ("expression_intensity", (0.0, 1.0), 0.5, 1.5),
    ],
)
def test_values_are_brought_to_the_sdks_scale(
    target: str, scale: tuple[float, float] | None, value: float, wanted: float
) -> None:
    (output,) = meaning_of(PublishedShape("model", 1), target=target, target_range=scale).outputs.items()
    name, (source, factor, offset) = output
    assert (name, source) == (target, "out")
    assert value * factor + offset == pytest.approx(wanted)


def test_eye_columns_are_read_with_factors_and_zeros(tmp_path: Path) -> None:
    file = tmp_path / "columns.txt"
    lines = [
        "gaze_x_mean, 1920  # pixels",
        "gaze_y_mean,1080",
        "",
        "# nobody knows the next",
        "-",
        *["pupil_mean"] * 36,
    ]
    file.write_text("\n".join(lines))
    columns = read_eye_columns(file)
    assert columns[:3] == (EyeColumn("gaze_x_mean", 1920.0), EyeColumn("gaze_y_mean", 1080.0), EyeColumn(""))
    for content, words in (
        (lines[:-1], "names 38 eye columns"),
        (["gaze_x_meen", *lines], r"line 1: 'gaze_x_meen'.*is 'gaze_x_mean' meant"),
        (["?", *lines], "line 1: '\\?'"),
        (["pupil_mean, -2", *lines], "line 1: the factor '-2'"),
        (["pupil_mean, nan", *lines], "the factor 'nan'"),
    ):
        file.write_text("\n".join(content))
        with pytest.raises(EmertError, match=words):
            read_eye_columns(file)
    with pytest.raises(EmertError, match=r"absent\.txt"):
        read_eye_columns(tmp_path / "absent.txt")


def test_named_columns_reach_the_head_in_the_checkpoints_order(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = made("head_model_D_7")
    monkeypatch.setattr("emert_edge.export.published.export_parts", lambda parts: reports_of(sound.bundle))
    torch.save(drawn_state("head_model_D_7"), tmp_path / "best.pth")
    columns = (EyeColumn("pupil_left_mean", 10.0), EyeColumn(""), *(EyeColumn("gaze_x_mean", 1920.0),) * 37)
    bundle = export_published(
        tmp_path / "best.pth", tmp_path / "b", name="told", eye_columns=columns, gaze_scale=(1920.0, 1080.0),
        licence="asked and granted", **TOLD["head_model_D_7"],
    )  # fmt: skip
    assert not bundle.manifest.eye.assumed
    assert "a guess" not in bundle.card
    assert "1920 × 1080 pixels" in bundle.card
    assert bundle.manifest.licence == "asked and granted"
    gaze = look(lost=False)
    with Recognizer(bundle, device="cpu", threads=1) as recognizer:
        taken = run(recognizer, None, gaze)
        end = taken[-1].t_ns
        inputs = recognizer._open_engines().head.inputs
        points = gaze_points(gaze, end - 9_600_000_000, end)
        row = len(taken) - 1
        assert inputs["gaze_points"][row] == pytest.approx(points * (1920, 1080), rel=1e-6)
        assert inputs["eye_tokens"][row][:, 0] == pytest.approx(np.full(32, 35.0), rel=1e-6)
        assert not inputs["eye_tokens"][row][:, 1].any()
        assert inputs["eye_tokens"][row][:, 5] == pytest.approx(points[:, 0] * 1920, rel=1e-5)


def reports_of(bundle: Bundle) -> dict[Any, GraphReport]:
    return {
        graph.role: GraphReport(graph.role, bundle.read(graph.file), 0.0)
        for graph in bundle.manifest.graphs
        if graph.precision == "fp32"
    }


# What is refused


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda state: state.pop("proj_v1.bias"), "tensor 'proj_v1.bias' is missing"),
        (lambda state: state.update({"proj_v1.weight": torch.zeros(2, 2)}), r"tensor 'proj_v1.weight' has shape \(2"),
        (lambda state: state.update(more=torch.zeros(1)), "tensor 'more' belongs to no part"),
        (lambda state: state["proj_v1.bias"].fill_(float("nan")), "tensor proj_v1.bias holds values"),
    ],
    ids=["missing", "wrong shape", "surplus", "not finite"],
)
def test_a_wrong_checkpoint_names_the_tensor_and_nothing_is_written(spoil: Any, words: str, tmp_path: Path) -> None:
    state = {name: value.clone() for name, value in drawn_state("head_model_D_7").items()}
    spoil(state)
    torch.save(state, tmp_path / "best.pth")
    with pytest.raises(EmertError, match=words):
        export_published(tmp_path / "best.pth", tmp_path / "made", name="x", **TOLD["head_model_D_7"])
    assert [path.name for path in tmp_path.iterdir()] == ["best.pth"]


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as done:
        run_command_line(list(arguments))
    return int(done.value.code or 0)


def test_the_command_says_in_a_line_what_is_missing_or_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "best.pth", str(tmp_path / "made")
    torch.save({"model": drawn_state("head_model_D_7")}, file)
    columns = tmp_path / "columns.txt"
    columns.write_text("pupil_mean\n")
    for options, status, words in (
        ((), 1, "7 classes"),
        (("--labels", ",".join(ORDER)), 1, "--task emotion"),
        (("--task", "both"), 2, "neither emotion nor expression"),
        (("--target-range", "1"), 2, "two numbers"),
        (("--eye-columns", str(columns)), 1, "names 1 eye columns"),
    ):
        assert command("export", str(file), "--out", out, *options) == status
        error = capsys.readouterr().err
        assert words in error
        assert status == 2 or error.count("\n") == 1
    file.write_bytes(file.read_bytes()[:-100_000])
    assert command("export", str(file), "--out", out, "--labels", ",".join(ORDER)) == 1
    assert "best.pth: not a PyTorch checkpoint of tensors, or one that was cut short" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pth", "columns.txt"]


def test_the_command_tells_the_authors_checkpoints_from_our_own(
    made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = made("y2023_model_D_7")
    monkeypatch.setattr("emert_edge.export.published.export_parts", lambda parts: reports_of(sound.bundle))
    file = tmp_path / "best.pth"
    torch.save(drawn_state("y2023_model_D_7"), file)
    options = ("--task", "expression", "--labels", ", ".join(EXPRESSIONS))
    assert command("export", str(file), "--out", str(tmp_path / "b.emert"), "--name", "theirs", *options) == 0
    told = capsys.readouterr()
    assert "theirs@1, 4 graphs, profile published" in told.out
    assert "guess" in told.err
    assert Bundle.open(tmp_path / "b.emert").manifest.labels.expression == EXPRESSIONS
    own = tmp_path / "model.pt"
    save_checkpoint(own, {"config": {}, "model": {}})
    assert not is_published(own)
    assert command("export", str(own), "--out", str(tmp_path / "c"), *options) == 1
    assert "--task, --labels" in capsys.readouterr().err
