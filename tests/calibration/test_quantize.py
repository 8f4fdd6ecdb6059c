"""The whole of it: INT8 graphs in the bundle with their evidence, or the reason why not and nothing written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="calibrating needs the extra `export`")
pytest.importorskip("torch", reason="calibrating needs the extra `train`")

from emert_edge.calibration import Bounds, Report, lint_tensorrt, quantization, quantize  # noqa: E402
from emert_edge.calibration.ranges import open_with_outputs  # noqa: E402

from emert_edge import Recognizer  # noqa: E402
from emert_edge.bundle import Bundle, write_bundle  # noqa: E402
from emert_edge.bundle.manifest import Evidence, FileEntry, Graph  # noqa: E402
from emert_edge.cli.app import run_command_line  # noqa: E402
from emert_edge.errors import BundleIncompatible, CalibrationRejected, EmertError  # noqa: E402

from .conftest import Pictures  # noqa: E402
from .graphs import small_bundle  # noqa: E402

LOOSE = Bounds(max_uar_drop=6, min_agreement=92, max_ece_rise=6)
"""A hundred samples count a point each."""


def quick(bundle: Any, data: Any, target: Any = "cpu", **options: Any) -> Report:
    settings = {"samples": 64, "calibrator": "minmax", "bounds": LOOSE, "threads": 1}
    return quantize(bundle, data, target, **(settings | options))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


# Accepted


def test_int8_graphs_stand_in_the_bundle_and_are_chosen_by_their_evidence(bundle: Bundle, faces: Pictures) -> None:
    before = contents(bundle.path)
    report = quick(bundle.path, faces, calibrator="compare")
    opened = Bundle.open(bundle.path)
    opened.verify()
    kept = contents(bundle.path)
    assert {name: kept[name] for name in before if name != "manifest.json"} == {
        name: content for name, content in before.items() if name != "manifest.json"
    }
    assert [score.calibrator for score in report.scores] == ["minmax", "entropy", "percentile"]
    assert report.chosen == min(report.scores, key=lambda score: score.divergence).calibrator
    fp32, int8 = report.sizes["face_encoder"]
    assert int8 <= 0.3 * fp32
    assert int8 == opened.manifest.files["face_encoder.int8.cpu.onnx"].size
    (evidence,) = opened.manifest.evidence
    assert (evidence.precision, evidence.target, evidence.labelled, evidence.accepted) == ("int8", "cpu", True, True)
    assert evidence.method.startswith(f"calibrator {report.chosen}, samples of pictures")
    assert evidence.figures == report.verdicts[0].figures()
    assert "fixation_encoder" in report.kept_float
    with (
        Recognizer(opened, device="cpu", threads=1) as chosen,
        Recognizer(opened, device="cpu", precision="fp32", threads=1) as exact,
    ):
        assert (chosen.precision, exact.precision) == ("int8", "fp32")
        files = {one["role"]: one["file"] for one in chosen.describe()["engines"]}
        assert files["face_encoder"] == "face_encoder.int8.cpu.onnx"
        images = [image for image, _ in faces]
        agreement = (chosen.expressions(images).argmax(1) == exact.expressions(images).argmax(1)).mean()
        assert agreement >= 0.92


def test_a_second_target_leaves_the_first_as_it_was(bundle: Bundle, faces: Pictures) -> None:
    quick(bundle.path, faces)
    first, last = contents(bundle.path), len(faces) % 8
    report = quick(bundle.path, faces, "tensorrt")
    opened = Bundle.open(bundle.path)
    assert contents(bundle.path)["face_encoder.int8.cpu.onnx"] == first["face_encoder.int8.cpu.onnx"]
    assert {(one.precision, one.target) for one in opened.manifest.evidence} == {("int8", "cpu"), ("int8", "tensorrt")}
    graph = opened.graph("face_encoder", "int8", "tensorrt")
    assert (graph.file, graph.target) == ("face_encoder.int8.tensorrt.onnx", "tensorrt")
    model = onnx.load_from_string(opened.read(graph.file))
    assert lint_tensorrt(model) == ()
    assert "rules are kept" in report.text()
    assert opened.graph("face_encoder", "int8", "cpu").target == "cpu"
    # The very file computes what the gate saw: near what FP32 says, on the last batch of faces.
    with Recognizer(opened, device="cpu", precision="fp32", threads=1) as recognizer:
        said = recognizer.expressions([image for image, _ in faces]).argmax(1)[-last:]
        frames = recognizer._open_engines().face_encoder.inputs["frame"][:last].copy()
    (logits,) = open_with_outputs(model, [], 1).run(["expression_logits"], {"frame": frames})
    assert (logits.argmax(1) == said).mean() >= 0.8
    assert report.verdicts[0].heads[0].agreement >= 0.92


def test_a_graph_that_breaks_tensorrts_rules_is_not_written(
    small: Bundle, waves: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = quantization.place_for_tensorrt

    def misplaced(*arguments: Any) -> Any:
        placed = place(*arguments)
        pair = next(node for node in placed.graph.node if node.op_type == "QuantizeLinear")
        zero = next(tensor for tensor in placed.graph.initializer if tensor.name == pair.input[2])
        zero.CopyFrom(onnx.numpy_helper.from_array(np.array(3, np.int8), zero.name))
        return placed

    monkeypatch.setattr(quantization, "place_for_tensorrt", misplaced)
    with pytest.raises(CalibrationRejected, match=r"the face_encoder breaks TensorRT's rules: .*zero"):
        quick(small, waves, "tensorrt", out=tmp_path / "never.emert")
    assert not (tmp_path / "never.emert").exists()


def test_progress_is_told_step_by_step_to_its_end(small: Bundle, waves: Pictures, tmp_path: Path) -> None:
    told: dict[str, list[tuple[int, int]]] = {}
    quick(
        small,
        waves,
        out=tmp_path / "made.emert",
        progress=lambda step, done, total: told.setdefault(step, []).append((done, total)),
    )
    assert set(told) == {"ranges of the face encoder", "gate"}
    for steps in told.values():
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert steps[-1][0] == steps[-1][1] > 0


def test_a_gate_that_is_not_there_is_said_before_anything_is_read(small: Bundle, tmp_path: Path) -> None:
    with pytest.raises((EmertError, OSError), match="nowhere"):
        quick(small, tmp_path / "not-looked-at", gate_data=tmp_path / "nowhere")


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_the_same_data_and_seed_give_the_same_bytes(
    small: Bundle, waves: Pictures, tmp_path: Path, target: str
) -> None:
    for name in ("one", "two"):
        quick(small, waves, target, out=tmp_path / f"{name}.emert")
    assert (tmp_path / "one.emert").read_bytes() == (tmp_path / "two.emert").read_bytes()
    assert not Bundle.open(small.path).manifest.evidence  # the bundle itself is left alone


def test_sessions_quantise_the_fixation_encoder_too(bundle: Bundle, tmp_path: Path) -> None:
    description = tmp_path / "sessions.yaml"
    description.write_text("kind: sessions\ndata: {kind: simulated, sessions: 12, session_s: 6}\n")
    anything = Bounds(max_uar_drop=100, min_agreement=50, max_ece_rise=100)  # of some thirty windows
    report = quick(bundle, description, out=tmp_path / "out", samples=48, bounds=anything)
    written = Bundle.open(tmp_path / "out")
    assert set(report.layers) == {"face_encoder", "fixation_encoder"}
    assert written.graph("fixation_encoder", "int8", "cpu").precision == "int8"
    assert [head.head for head in report.verdicts[0].heads] == ["expression", "emotion"]
    assert {"agreement", "emotion_uar", "emotion_fp32_uar", "expression_ece"} <= set(
        written.manifest.evidence[0].figures
    )
    alone = quick(
        bundle, description, out=tmp_path / "alone", samples=48, bounds=anything, keep_float=["fixation_encoder"]
    )
    assert set(alone.layers) == {"face_encoder"}
    assert Bundle.open(tmp_path / "alone").graph("fixation_encoder", "int8", "cpu").precision == "fp32"


def test_a_layer_stays_float_when_told(small: Bundle, waves: Pictures, tmp_path: Path) -> None:
    report = quick(small, waves, out=tmp_path / "kept", keep_float=["one_b"])
    layers = [layer.layer for layer in report.layers["face_encoder"]]
    assert layers == ["stem", "one_a", "two_project", "two_a", "two_b"]  # nor is a Gemm, on a CPU
    model = onnx.load_from_string(Bundle.open(tmp_path / "kept").read("face_encoder.int8.cpu.onnx"))
    (node,) = (node for node in model.graph.node if node.name == "one_b")
    assert node.input[1] == "one_b_w"
    assert "one_b" in report.method
    with pytest.raises(ValueError, match="'one_bb' is no layer that would be quantised; is 'one_b' meant"):
        quick(small, waves, keep_float=["one_bb"])
    with pytest.raises(ValueError, match="no layer is left"):
        quick(small, waves, keep_float=[*layers, "one_b"])


@pytest.mark.parametrize("exported", [True, False])
def test_fp16_is_judged_on_the_same_samples_beside_what_its_export_found(
    small: Bundle, waves: Pictures, tmp_path: Path, exported: bool
) -> None:
    """The graphs here are FP32's under another name: they agree in everything."""
    roles: Any = {graph.role: small.read(graph.file) for graph in small.manifest.graphs}
    files = {name: small.read(name) for name in small.manifest.files} | {
        f"{role}.fp16.onnx": content for role, content in roles.items()
    }
    graphs = [Graph(role=role, precision="fp16", file=f"{role}.fp16.onnx") for role in roles]
    old = Evidence(
        precision="fp16", data="random inputs", samples=1, labelled=False, figures={"largest_difference": 1e-3},
        accepted=False, method="cast", bounds={"largest_difference": 2e-3},
    )  # fmt: skip
    update = {"graphs": (*small.manifest.graphs, *graphs), "evidence": (old,) if exported else ()}
    entries = {name: FileEntry(sha256="0" * 64, size=0) for name in files}
    manifest = small.manifest.model_copy(update=update | {"files": entries})
    report = quick(write_bundle(tmp_path / "half", manifest, files), waves)
    assert [verdict.precision for verdict in report.verdicts] == ["int8", "fp16"]
    held = {one.precision: one for one in Bundle.open(tmp_path / "half").manifest.evidence}
    fp16, int8 = held["fp16"], held["int8"]
    assert (fp16.target, fp16.data, fp16.method) == ("any", "pictures, pictures", "cast" if exported else "")
    assert fp16.figures.get("largest_difference") == (1e-3 if exported else None)
    assert fp16.bounds.get("largest_difference") == (2e-3 if exported else None)
    assert fp16.samples == int8.samples > 100
    assert fp16.figures["agreement"] == 1.0
    assert fp16.accepted


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_an_encoder_without_an_expression_head_is_judged_by_what_the_head_says(
    patterns: list[np.ndarray], tmp_path: Path, target: str
) -> None:
    """As the authors' checkpoints are: the face encoder gives a token and nothing else. There are no labels either."""
    manifest, files, _ = small_bundle(patterns, own_head=False)
    bare = write_bundle(tmp_path / "bare", manifest, files)
    report = quick(bare, [(picture, None) for picture in patterns], target)
    (head,) = report.verdicts[0].heads
    assert (head.head, head.labelled) == ("expression", False)
    assert head.answered > 1
    assert Bundle.open(bare.path).manifest.evidence[0].labelled is False


# Rejected


def test_ranges_of_other_light_are_rejected_with_cause_and_layers(bundle: Bundle, faces: Pictures) -> None:
    before = contents(bundle.path)
    dark = [(image // 10, label) for image, label in faces]
    with pytest.raises(CalibrationRejected) as raised:
        quick(bundle.path, dark, gate_data=faces)
    said = str(raised.value)
    assert "agreement" in said
    assert "the calibration samples are unlike those of the gate" in said
    assert "Layers to look at: node_" in said
    report = raised.value.report
    assert isinstance(report, Report)
    assert not report.accepted
    assert "rejected" in report.text()
    assert report.written is None
    assert contents(bundle.path) == before


@pytest.mark.parametrize(
    ("poison", "cause"),
    [
        (lambda image: np.zeros_like(image), "no content"),
        (lambda image: None, "copies"),
        (lambda image: np.ascontiguousarray(image[..., ::-1]), "red and blue are exchanged"),
    ],
    ids=["black frames", "one image repeated", "wrong colour order"],
)
def test_a_poisoned_calibration_set_is_rejected_by_its_cause(
    bundle: Bundle, faces: Pictures, poison: Any, cause: str
) -> None:
    before = contents(bundle.path)
    poisoned = [(faces[0][0] if (made := poison(image)) is None else made, label) for image, label in faces]
    with pytest.raises(CalibrationRejected, match=cause):
        quick(bundle.path, poisoned)
    with pytest.raises(CalibrationRejected, match=cause):  # nor is anything judged on it
        quick(bundle.path, faces, gate_data=poisoned)
    assert contents(bundle.path) == before


def test_wrong_arguments_are_named(small: Bundle, waves: Pictures) -> None:
    with pytest.raises(ValueError, match="target must be cpu or tensorrt"):
        quick(small, waves, "gpu")
    with pytest.raises(ValueError, match="calibrator must be"):
        quick(small, waves, calibrator="median")
    with pytest.raises(ValueError, match="samples must be at least 16"):
        quick(small, waves, samples=8)


def test_a_graph_that_is_quantised_already_is_refused(small: Bundle, waves: Pictures, tmp_path: Path) -> None:
    quick(small, waves, out=tmp_path / "made")
    made = Bundle.open(tmp_path / "made")
    files = {name: made.read(name) for name in small.manifest.files}
    files["face.onnx"] = made.read("face_encoder.int8.cpu.onnx")
    with pytest.raises(BundleIncompatible, match="quantised already"):
        quick(write_bundle(tmp_path / "wrong", small.manifest, files), waves)


# The command


@pytest.fixture
def folder(waves: Pictures, tmp_path: Path) -> Path:
    for number, (image, label) in enumerate(waves):
        for place, picture in (("waves", image), ("dark", image // 3)):
            (tmp_path / place / label).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / place / label / f"{number}.png"), picture)
    return tmp_path / "waves"


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as done:
        run_command_line(["quantize", *map(str, arguments)])
    return int(done.value.code or 0)


def test_the_command_writes_the_bundle_and_tells_what_it_found(
    small: Bundle, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.emert"
    bounds = ("--max-uar-drop", 5, "--min-agreement", 90, "--max-ece-rise", 5)
    options = ("--target", "cpu", "--out", out, "--calibrator", "percentile", "--samples", 64, "--threads", 1, "--json")
    assert command(small.path, "--data", folder, *options, *bounds) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert (found["accepted"], found["chosen"], found["written"]) == (True, "percentile", str(out))
    assert found["verdicts"][0]["bounds"] == {"max_uar_drop": 5, "min_agreement": 90, "max_ece_rise": 5}
    assert "gate: FP32 and INT8 on" in told.err
    assert Bundle.open(out).manifest.accepts("int8", "cpu")


def test_the_command_fails_with_the_table_and_one_line(
    small: Bundle, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dark = folder.parent / "dark"
    options = ("--target", "tensorrt", "--calibrator", "minmax", "--samples", 64, "--threads", 1)
    assert command(small.path, "--data", dark, "--gate-data", folder, *options) == 1
    told = capsys.readouterr()
    assert not told.out
    assert "INT8 (tensorrt): rejected" in told.err
    assert "nothing was written" in told.err
    assert told.err.splitlines()[-1].startswith("emert-edge: INT8 for tensorrt is rejected")
    assert command(small.path, "--data", folder, "--target", "gpu") == 2
