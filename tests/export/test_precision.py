"""FP16: the same graph in half precision, as near as asked for, and refused where half precision is not enough."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="exporting needs the extra `export`")
ort = pytest.importorskip("onnxruntime")

from emert_edge.export import ExportFailed, half_graph, half_graphs  # noqa: E402
from emert_edge.export.bundle import Exported  # noqa: E402
from emert_edge.export.form import IR_VERSION, OPSET  # noqa: E402
from emert_edge.export.parity import GraphReport, OpenGraph, drawn_inputs  # noqa: E402
from emert_edge.export.precision import LARGEST, HalfGraphs, largest_value, rounding_graph  # noqa: E402

from emert_edge import Recognizer  # noqa: E402
from emert_edge.bundle import Bundle, open_bundle, write_bundle  # noqa: E402
from emert_edge.recognizer import write_whole_faces  # noqa: E402
from emert_edge.simulation import SimulatedSession  # noqa: E402

TOLERANCE = 2e-3
ROLES = ("face_encoder", "fixation_encoder", "head")


@functools.cache
def full() -> dict[Any, bytes]:
    """The packaged bundle's FP32 graphs."""
    bundle = open_bundle()
    return {role: bundle.read(bundle.graph(role, "fp32", "cpu").file) for role in ROLES}


@functools.cache
def half() -> HalfGraphs:
    return half_graphs(full())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The packaged bundle, with FP16 made of its FP32 graphs."""
    packaged = open_bundle()
    reports = [GraphReport(role, data, 0.0) for role, data in full().items()]
    exported = Exported((*reports, *half().reports.values()), (half().evidence,))
    manifest = packaged.manifest.model_copy(update=exported.entries())
    return write_bundle(tmp_path_factory.mktemp("half") / "half.emert", manifest, exported.files(packaged.card))


def border(proto: Any) -> list[bytes]:
    return [value.SerializeToString() for value in (*proto.graph.input, *proto.graph.output)]


@pytest.mark.parametrize("role", ROLES)
def test_an_fp16_graph_keeps_its_border_and_what_every_target_can_read(role: Any) -> None:
    before, after = (onnx.load_from_string(data) for data in (full()[role], half().reports[role].onnx))
    assert border(after) == border(before)
    assert [(entry.domain, entry.version) for entry in after.opset_import] == [("", OPSET)]
    assert after.ir_version <= IR_VERSION
    assert (after.graph.name, after.producer_name) == (before.graph.name, before.producer_name)
    onnx.checker.check_model(after, full_check=True)
    assert len(half().reports[role].onnx) < 0.55 * len(full()[role])


@pytest.mark.parametrize("role", ROLES)
def test_all_but_the_norms_is_half_and_every_value_is_typed(role: Any) -> None:
    graph = onnx.load_from_string(half().reports[role].onnx).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    floats = {node.op_type for node in graph.node if any(kinds[name] == onnx.TensorProto.FLOAT for name in node.output)}
    assert floats <= {"Cast", "LayerNormalization"}
    assert ("LayerNormalization" in floats) == (role == "head")
    assert all(value.type.tensor_type.shape.dim for value in graph.value_info if value.name not in scalars(graph))
    read_in_float = {
        name for node in graph.node if node.op_type == "LayerNormalization" for name in node.input if name in kinds
    }
    assert {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT} <= read_in_float


def scalars(graph: Any) -> set[str]:
    """Values without axes, which is what an index is."""
    return {value.name for value in graph.value_info if value.type.tensor_type.HasField("shape")} - {
        value.name for value in graph.value_info if value.type.tensor_type.shape.dim
    }


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("role", ROLES)
def test_fp16_answers_as_fp32_whatever_is_missing(role: Any, batch: int) -> None:
    one, other = OpenGraph(full()[role]), OpenGraph(half().reports[role].onnx)
    masks = [name for name in one.inputs if name.endswith("_mask")]
    rng = np.random.default_rng(batch)
    for missing in ("", *masks, "all"):
        inputs = drawn_inputs(one.inputs, batch, rng, missing)
        wanted = one(inputs)
        for name, got in other(inputs).items():
            assert got.dtype == np.float32
            assert np.isfinite(got).all()
            assert np.abs(got - wanted[name]).max() <= TOLERANCE * max(1.0, np.abs(wanted[name]).max()), name


def test_garbage_under_a_mask_changes_nothing_though_half_precision_cannot_hold_it() -> None:
    head = OpenGraph(half().reports["head"].onnx)
    inputs = drawn_inputs(head.inputs, 5, np.random.default_rng(0))
    clean = head(inputs)
    for name in ("face_tokens", "eye_tokens", "fixation_tokens"):
        inputs[name][inputs[name.replace("tokens", "mask")] == 0] = 3e37
    for name, got in head(inputs).items():
        assert np.array_equal(got, clean[name])


@pytest.mark.parametrize("role", ["face_encoder", "head"])
def test_half_precision_all_through_stays_near(role: Any) -> None:
    """NumPy computes every operator in half precision, as a GPU does; ONNX Runtime on a CPU mostly does not."""
    reference = pytest.importorskip("onnx.reference")
    truly = reference.ReferenceEvaluator(onnx.load_from_string(half().reports[role].onnx))
    graph = OpenGraph(full()[role])
    inputs = drawn_inputs(graph.inputs, 1 if role == "face_encoder" else 6, np.random.default_rng(7))
    for (name, wanted), got in zip(graph(inputs).items(), truly.run(None, inputs), strict=True):
        assert np.abs(got - wanted).max() <= 2 * TOLERANCE * max(1.0, np.abs(wanted).max()), name


def test_the_evidence_says_what_was_seen(bundle: Bundle) -> None:
    (evidence,) = bundle.manifest.evidence
    assert (evidence.precision, evidence.target, evidence.labelled) == ("fp16", "any", False)
    assert evidence.data == "random inputs at batches 1, 3 and 8"
    assert evidence.samples == 12 + 12 + 12 * 5 + 12  # two encoders, the head with each thing missing, all in a row
    assert evidence.figures["agreement"] >= evidence.bounds["agreement"] == 0.98
    assert evidence.figures["largest_difference"] <= evidence.bounds["largest_difference"] == TOLERANCE
    # a CPU's answers flatter: ONNX Runtime computes in FP32 there
    assert evidence.figures["largest_difference"] < evidence.figures["largest_difference_rounded"] <= 1e-2
    assert evidence.accepted
    assert bundle.manifest.accepts("fp16", "tensorrt")
    worst = max(report.largest_difference for report in half().reports.values())
    assert evidence.figures["largest_difference"] == pytest.approx(worst, rel=0.05)


def linear(weight: Any, *, offset: float = 0.0, back: float = 0.0, name: str = "emotion_logits") -> bytes:
    """A head of one product: eye tokens (1, 4) to logits, an offset added and another one taken away."""
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Flatten", ["eye_tokens"], ["rows"], axis=1),
        helper.make_node("MatMul", ["rows", "weight"], ["product"]),
        helper.make_node("Add", ["product", "offset"], ["raised"]),
        helper.make_node("Sub", ["raised", "back"], [name]),
    ]
    constants = {"weight": np.asarray(weight, np.float32), "offset": np.float32([offset]), "back": np.float32([back])}
    graph = helper.make_graph(
        nodes,
        "emert_head",
        [helper.make_tensor_value_info("eye_tokens", floats, ["batch", 1, 4])],
        [helper.make_tensor_value_info(name, floats, ["batch", 4])],
        [onnx.numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return bytes(onnx.shape_inference.infer_shapes(proto, strict_mode=True).SerializeToString())


def test_values_that_half_precision_cannot_hold_are_found_inside_the_graph() -> None:
    """The output is small again, and a CPU computes it well: only a GPU would run into infinity."""
    data = linear(3e4 * np.eye(4), offset=0.0)
    proto = onnx.load_from_string(data)
    proto.graph.node[2].CopyFrom(onnx.helper.make_node("Mul", ["product", "offset"], ["raised"]))
    proto.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(np.float32([1e-4]), "offset"))
    name, value = largest_value(proto.SerializeToString())
    assert (name, value > LARGEST) == ("product", True)
    with pytest.raises(ExportFailed, match=r"head: tensor product reaches .*half precision ends at 65504.*--no-fp16"):
        half_graphs({"head": proto.SerializeToString()})


def test_a_model_that_half_precision_spoils_is_refused() -> None:
    """Whatever is behind the point is gone after the sum; ONNX Runtime on a CPU would not show it."""
    with pytest.raises(ExportFailed, match=r"FP16: head: output emotion_logits .*every value rounded.*--no-fp16"):
        half_graphs({"head": linear(np.eye(4), offset=1000.0, back=1000.0)})
    with pytest.raises(ExportFailed, match=r"FP16: head: output emotion_logits differs from the FP32 graph.*--no-fp16"):
        half_graphs({"head": linear(np.eye(4), offset=1000.2, back=999.6)})


def test_the_layer_that_costs_most_stays_in_full_precision() -> None:
    """Of two layers one is exact in half precision; the other's weights are all rounded towards zero, and cancel."""
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    signs = np.random.default_rng(0).choice(np.float32([-1, 1]), (1024, 4))
    weights = {"exact": np.eye(1024, dtype=np.float32), "rounded": signs + np.float32(0.49 * 2.0**-10)}
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["eye_tokens"], ["rows"], axis=1),
            helper.make_node("MatMul", ["rows", "exact"], ["product"], name="exact_layer"),
            helper.make_node("Relu", ["product"], ["positive"], name="relu"),
            helper.make_node("MatMul", ["positive", "rounded"], ["emotion_logits"], name="rounded_layer"),
        ],
        "emert_head",
        [helper.make_tensor_value_info("eye_tokens", floats, ["batch", 1, 1024])],
        [helper.make_tensor_value_info("emotion_logits", floats, ["batch", 4])],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    found = half_graphs({"head": bytes(onnx.shape_inference.infer_shapes(proto, strict_mode=True).SerializeToString())})
    assert found.evidence.figures["layers_kept_float"] == 1
    assert found.evidence.figures["largest_difference"] < TOLERANCE / 2
    held = {value.name: value for value in onnx.load_from_string(found.reports["head"].onnx).graph.initializer}
    assert np.array_equal(onnx.numpy_helper.to_array(held["rounded"]), weights["rounded"])
    assert onnx.numpy_helper.to_array(held["exact"]).dtype == np.float16


def test_a_rounding_graph_computes_in_half_precision() -> None:
    data = half_graph("head", linear(np.eye(4), offset=1000.0, back=1000.0))
    rows = np.float32([[[0.1, 0.2, 0.3, 0.4]]])
    (got,) = OpenGraph(rounding_graph(data))({"eye_tokens": rows}).values()
    half = np.float16
    assert np.array_equal(got, (half(rows[:, 0]) + half(1000) - half(1000)).astype(np.float32))


def test_labels_that_change_are_evidence_against_fp16() -> None:
    """Differences far below the tolerance, and yet half precision cannot tell the classes apart."""
    near = half_graphs({"head": linear(1e-5 * np.eye(4), offset=1.0)}).evidence
    assert near.figures["largest_difference"] <= TOLERANCE
    assert near.figures["agreement"] < 0.9
    assert not near.accepted
    apart = half_graphs({"head": linear(np.eye(4))}).evidence
    assert apart.accepted


def test_a_model_without_classes_claims_no_agreement() -> None:
    evidence = half_graphs({"head": linear(np.eye(4), name="reactions")}).evidence
    assert "agreement" not in evidence.figures
    assert "agreement" not in evidence.bounds
    assert evidence.figures["largest_difference"] <= TOLERANCE
    assert evidence.accepted


def test_a_graph_that_reads_what_nothing_writes_is_refused() -> None:
    proto = onnx.load_from_string(linear(np.eye(4)))
    proto.graph.node[1].input[0] = "nowhere"
    with pytest.raises((ExportFailed, onnx.shape_inference.InferenceError), match=r"nowhere|reads what nothing writes"):
        half_graph("head", proto.SerializeToString())


def test_a_product_behind_a_moved_batch_does_not_end_the_process(tmp_path: Path) -> None:
    """ONNX Runtime 1.32 crashes while it loads such a pair in half precision; the heads with an LSTM have six."""
    helper = onnx.helper
    proto = onnx.load_from_string(linear(np.eye(4)))
    del proto.graph.node[:], proto.graph.value_info[:]
    proto.graph.node.extend(
        [
            helper.make_node("Transpose", ["eye_tokens"], ["turned"], perm=[1, 0, 2]),
            helper.make_node("MatMul", ["turned", "weight"], ["product"]),
            helper.make_node("Squeeze", ["product", "first"], ["emotion_logits"]),
        ]
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.int64([0]), "first"))
    file = tmp_path / "half.onnx"
    file.write_bytes(half_graph("head", onnx.shape_inference.infer_shapes(proto).SerializeToString()))
    code = f"import onnxruntime; onnxruntime.InferenceSession({str(file)!r}, providers=['CPUExecutionProvider'])"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    (got,) = OpenGraph(file.read_bytes())({"eye_tokens": np.float32([[[1, 2, 3, 4]], [[5, 6, 7, 8]]])}).values()
    assert got.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_the_converter_leaves_the_path_alone() -> None:
    before = list(sys.path)
    half_graph("head", linear(np.eye(4)))
    assert sys.path == before


def test_a_recognizer_runs_fp16_on_a_cpu(bundle: Bundle) -> None:
    session = SimulatedSession.from_seed(3, subject=1, stimulus=1, duration_s=6.0, fps=6.0)
    taken = {}
    for precision in ("fp32", "fp16"):
        with Recognizer(bundle, device="cpu", precision=precision, threads=1) as recognizer:
            assert recognizer.precision == precision
            assert {engine["file"] for engine in recognizer.describe()["engines"]} == {
                f"{role}.{precision}.onnx" for role in ROLES
            }
            taken[precision] = list(recognizer.run(face=session.face_source(), gaze=session.gaze))
    assert len(taken["fp32"]) == len(taken["fp16"]) > 5
    differences = []
    for one, other in zip(taken["fp32"], taken["fp16"], strict=True):
        assert (one.t_ns, one.quality) == (other.t_ns, other.quality)
        assert one.emotion is not None
        assert other.emotion is not None
        wanted = list(one.emotion.probabilities.values())
        assert list(other.emotion.probabilities.values()) == pytest.approx(wanted, abs=5e-3)
        differences.append(max(abs(a - b) for a, b in zip(other.emotion.probabilities.values(), wanted, strict=True)))
    assert max(differences) > 0  # it was another graph


def test_no_more_than_two_labels_in_a_thousand_faces_change(bundle: Bundle, shared_data: Path) -> None:
    faces = pytest.importorskip("emert_edge.reference.data.faces", reason="reading faces needs the extra `train`")
    archive = shared_data / "fer2013_faces" / "fer2013_publictest.tar.gz"
    if not archive.is_file():
        pytest.skip(f"no real faces here: {archive} is absent")
    classes = bundle.manifest.labels.expression
    assert classes is not None
    names = {"angry": "anger", "happy": "happiness", "sad": "sadness"}
    pictures = [image for image, _ in faces.folder_pictures(archive, classes, names=names)][::3][:1000]
    answers = {}
    for precision in ("fp32", "fp16"):
        with Recognizer(bundle, device="cpu", precision=precision, threads=1) as recognizer:
            answers[precision] = recognizer.expressions(pictures)
    assert len(pictures) == 1000
    assert np.isfinite(answers["fp16"]).all()
    kept = answers["fp16"].argmax(1) == answers["fp32"].argmax(1)
    assert kept.mean() >= 0.998
    assert np.abs(answers["fp16"] - answers["fp32"]).max() > 0


def test_the_packaged_fp16_changes_hardly_a_label_of_the_public_test(shared_data: Path) -> None:
    faces = pytest.importorskip("emert_edge.reference.data.faces", reason="reading faces needs the extra `train`")
    archive = shared_data / "fer2013_faces" / "fer2013_publictest.tar.gz"
    if not archive.is_file():
        pytest.skip(f"no real faces here: {archive} is absent")
    packaged = open_bundle()
    names = {"angry": "anger", "happy": "happiness", "sad": "sadness"}
    pictures = [image for image, _ in faces.folder_pictures(archive, packaged.manifest.labels.expression, names=names)]
    assert len(pictures) == 3589
    logits: dict[str, list[np.ndarray]] = {}
    for precision in ("fp32", "fp16"):
        with Recognizer(packaged, device="cpu", precision=precision, threads=2) as recognizer:
            engine = recognizer._open_engines().face_encoder
            for first in range(0, len(pictures), engine.max_batch):
                part = pictures[first : first + engine.max_batch]
                write_whole_faces(engine.inputs["frame"], part, packaged.manifest.face)
                engine.run(len(part))
                logits.setdefault(precision, []).append(engine.outputs["expression_logits"][: len(part)].copy())
    for exact, half in zip(logits["fp32"], logits["fp16"], strict=True):
        # As the export measures it: of the largest value of a batch.
        assert np.abs(half - exact).max() <= TOLERANCE * np.abs(exact).max()
    kept = np.concatenate(logits["fp16"]).argmax(1) == np.concatenate(logits["fp32"]).argmax(1)
    assert kept.mean() >= 0.998


def test_what_else_onnxruntime_offers_can_be_imported_afterwards() -> None:
    code = (
        "import sys; from emert_edge.export.precision import _converter; before = list(sys.path); _converter()\n"
        "assert sys.path == before\n"
        "import onnxruntime.quantization"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
