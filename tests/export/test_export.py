"""Export: the three graphs are the model, and what is not a model does not become a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exporting needs the extra `export`")
onnx = pytest.importorskip("onnx", reason="exporting needs the extra `export`")
pytest.importorskip("onnxscript", reason="exporting needs the extra `export`")
pytest.importorskip("onnxslim", reason="exporting needs the extra `export`")
ort = pytest.importorskip("onnxruntime")

from emert_edge.export import ExportFailed, GraphReport, export_bundle, export_checkpoint, export_graphs  # noqa: E402
from emert_edge.export import graphs as graphs_module  # noqa: E402
from emert_edge.export.graphs import IR_VERSION, OPSET, check_parity  # noqa: E402

from emert_edge.bundle import Bundle  # noqa: E402
from emert_edge.errors import EmertError  # noqa: E402
from emert_edge.eye import FEATURE_NAMES  # noqa: E402
from emert_edge.reference.checkpoint import save_checkpoint  # noqa: E402
from emert_edge.reference.emert import HEAD_OUTPUTS, Emert, EmertConfig  # noqa: E402

TOLERANCE = 1e-5
STATISTICS = {"eye_mean": [0.0] * 39, "eye_std": [1.0] * 39, "eye_clip": 8.0}
WORDS = {"name": "test", "version": "1", "data": ("nothing",), "licence": "Apache-2.0", "card": "# A test"}


@pytest.fixture(scope="module")
def model() -> Emert:
    torch.manual_seed(1)
    made = Emert(EmertConfig(token_width=32, fused_width=32, heads=4)).train()
    with torch.no_grad():  # so that batch normalisation has statistics worth folding
        made.face_encoder(torch.randn(8, 3, 112, 112) + 0.3)
        made.fixation_encoder(torch.rand(8, 4, 112, 112))
    return made.eval()


@pytest.fixture(scope="module")
def reports(model: Emert) -> dict[Any, GraphReport]:
    return export_graphs(model)


@pytest.fixture(scope="module")
def sessions(reports: dict[Any, GraphReport]) -> dict[str, Any]:
    return {
        role: ort.InferenceSession(report.onnx, providers=["CPUExecutionProvider"]) for role, report in reports.items()
    }


def whole_inputs(batch: int, missing: str, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = {
        "frames": torch.randn(batch, 8, 3, 112, 112, generator=generator),
        "face_mask": (torch.rand(batch, 8, generator=generator) < 0.6).float(),
        "eye_tokens": torch.randn(batch, 32, 39, generator=generator),
        "eye_mask": (torch.rand(batch, 32, generator=generator) < 0.6).float(),
        "fused_frames": torch.rand(batch, 8, 4, 112, 112, generator=generator),
        "fixation_mask": (torch.rand(batch, 8, generator=generator) < 0.6).float(),
    }
    for name in inputs:
        if name.endswith("_mask") and missing in (name, "all"):
            inputs[name] = torch.zeros_like(inputs[name])
    return inputs


@pytest.mark.parametrize("missing", ["nothing", "face_mask", "eye_mask", "fixation_mask", "all"])
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_the_three_graphs_together_are_the_whole_model(
    model: Emert, sessions: dict[str, Any], batch: int, missing: str
) -> None:
    inputs = whole_inputs(batch, missing, seed=batch)
    with torch.no_grad():
        wanted = model(**inputs)
    frames = inputs["frames"].flatten(0, 1).numpy()
    fused = inputs["fused_frames"].flatten(0, 1).numpy()
    head = {name: inputs[name].numpy() for name in ("face_mask", "eye_tokens", "eye_mask", "fixation_mask")}
    head["face_tokens"] = sessions["face_encoder"].run(["face_token"], {"frame": frames})[0].reshape(batch, 8, -1)
    (tokens,) = sessions["fixation_encoder"].run(None, {"fused": fused})
    head["fixation_tokens"] = tokens.reshape(batch, 8, -1)
    for name, got in zip(HEAD_OUTPUTS, sessions["head"].run(list(HEAD_OUTPUTS), head), strict=True):
        assert np.abs(got - wanted[name].numpy()).max() <= TOLERANCE * max(1.0, float(wanted[name].abs().max())), name


def test_garbage_under_a_mask_changes_nothing_in_the_graph(sessions: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    inputs: dict[str, Any] = {}
    for name, shape in (("face", (5, 8, 32)), ("eye", (5, 32, 39)), ("fixation", (5, 8, 32))):
        inputs[f"{name}_tokens"] = rng.standard_normal(shape).astype(np.float32)
        inputs[f"{name}_mask"] = (rng.random(shape[:2]) < 0.5).astype(np.float32)
    clean = sessions["head"].run(None, inputs)
    for name in ("face", "eye", "fixation"):
        inputs[f"{name}_tokens"][inputs[f"{name}_mask"] == 0] = 3e37
    for first, second in zip(clean, sessions["head"].run(None, inputs), strict=True):
        assert np.array_equal(first, second)


def test_graphs_are_what_every_target_can_read(reports: dict[Any, GraphReport]) -> None:
    assert list(reports) == ["face_encoder", "fixation_encoder", "head"]
    for report in reports.values():
        proto = onnx.load_from_string(report.onnx)
        assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", OPSET)]
        assert proto.ir_version <= IR_VERSION
        assert all(value.type.tensor_type.shape.dim[0].dim_param == "batch" for value in proto.graph.input)
        assert report.largest_difference <= TOLERANCE
        assert str(Path(__file__).resolve().parents[2]).encode() not in report.onnx
        assert b"site-packages" not in report.onnx


def test_a_graph_that_is_another_model_is_found_out(model: Emert, reports: dict[Any, GraphReport]) -> None:
    torch.manual_seed(2)
    other = Emert(model.config).eval()
    with pytest.raises(ExportFailed, match="differs from PyTorch"):
        check_parity(other, {role: report.onnx for role, report in reports.items()})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda proto: setattr(proto.opset_import[0], "version", 17), "opset"),
        (lambda proto: setattr(proto, "ir_version", 11), "IR version"),
        (lambda proto: setattr(proto.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 2), "axes"),
        (lambda proto: proto.graph.output.pop(), "outputs are"),
    ],
    ids=["opset", "ir", "frozen batch", "lost output"],
)
def test_a_silent_failure_of_the_exporter_is_found_out(
    model: Emert, reports: dict[Any, GraphReport], spoil: Any, words: str
) -> None:
    proto = onnx.load_from_string(reports["face_encoder"].onnx)
    spoil(proto)
    spec = graphs_module._specs(model)["face_encoder"]
    with pytest.raises(ExportFailed, match=words):
        graphs_module._check_form("face_encoder", spec, proto.SerializeToString())


def test_a_bundle_comes_out_whole(model: Emert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reports: Any) -> None:
    monkeypatch.setattr("emert_edge.export.bundle.export_graphs", lambda model: reports)  # the slow part, done above
    bundle = export_bundle(model, tmp_path / "made", metrics={"face_uar": 0.5}, **WORDS, **STATISTICS)
    bundle.verify()
    manifest = Bundle.open(tmp_path / "made").manifest
    assert manifest.identity == "test@1"
    assert manifest.token_width == 32
    assert manifest.eye is not None
    assert manifest.eye.features == FEATURE_NAMES
    assert {graph.role for graph in manifest.graphs} == {"face_encoder", "fixation_encoder", "head"}
    assert manifest.training.metrics["face_uar"] == 0.5
    assert manifest.training.metrics["parity_head"] <= TOLERANCE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made"]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"eye_mean": [0.0] * 38}, ValueError, "one length"),
        ({"eye_std": [0.0] * 39}, ValueError, "std must be positive"),
        ({"eye_features": FEATURE_NAMES[:5]}, ValueError, "39 columns, 5 are named"),
        ({"reactions": ("Adoration",)}, ValueError, "reactions"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    model: Emert, tmp_path: Path, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        export_bundle(model, tmp_path / "made", **{**WORDS, **STATISTICS, **change})
    assert not list(tmp_path.iterdir())


def test_only_our_models_with_finite_weights_are_exported(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Emert, not Linear"):
        export_graphs(torch.nn.Linear(2, 2))
    broken = Emert(EmertConfig(token_width=16, fused_width=16, heads=2))
    with torch.no_grad():
        broken.head.invariant.bias[0] = float("nan")
    with pytest.raises(ExportFailed, match=r"head\.invariant\.bias"):
        export_graphs(broken)
    other = Emert(EmertConfig(token_width=16, fused_width=16, heads=2, classes=5))
    with pytest.raises(ValueError, match="5 classes"):
        export_bundle(other, tmp_path / "made", **WORDS, **STATISTICS)


def test_weights_alone_do_not_become_a_bundle(model: Emert, tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    save_checkpoint(file, {"config": model.config.to_dict(), "model": model.state_dict()})
    with pytest.raises(EmertError, match="eye_features"):
        export_checkpoint(file, tmp_path / "made", name="test")
