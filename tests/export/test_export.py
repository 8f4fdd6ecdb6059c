"""Export: the three graphs are the model, and what is not a model does not become a bundle."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exporting needs the extra `export`")
onnx = pytest.importorskip("onnx", reason="exporting needs the extra `export`")
pytest.importorskip("onnxscript", reason="exporting needs the extra `export`")
pytest.importorskip("onnxslim", reason="exporting needs the extra `export`")
ort = pytest.importorskip("onnxruntime")

from emert_edge.export import ExportFailed, GraphReport, export_bundle, export_checkpoint, export_graphs  # noqa: E402
from emert_edge.export import parity as parity_module  # noqa: E402
from emert_edge.export.form import IR_VERSION, OPSET, check_form  # noqa: E402
from emert_edge.export.graphs import check_parity, emert_parts  # noqa: E402

from emert_edge.bundle import Bundle  # noqa: E402
from emert_edge.bundle.manifest import WindowSpec  # noqa: E402
from emert_edge.errors import EmertError  # noqa: E402
from emert_edge.eye import FEATURE_NAMES  # noqa: E402
from emert_edge.face import FaceTracker, HaarDetector, crop_affine  # noqa: E402
from emert_edge.kernels import crop_normalize, fixation_map, fuse_gaze_frame  # noqa: E402
from emert_edge.reference.checkpoint import save_checkpoint  # noqa: E402
from emert_edge.reference.configuration import face_input  # noqa: E402
from emert_edge.reference.emert import HEAD_OUTPUTS, Emert, EmertConfig, FusionHead  # noqa: E402
from emert_edge.reference.face_encoder import FACE_SIZES, FixationEncoder  # noqa: E402
from emert_edge.reference.reactions import REACTIONS  # noqa: E402
from emert_edge.sources import open_frames  # noqa: E402

TOLERANCE = 1e-5
STATISTICS = {"eye_mean": [0.0] * 39, "eye_std": [1.0] * 39, "eye_clip": 8.0}
WORDS = {"name": "test", "version": "1", "data": ("nothing",), "licence": "Apache-2.0", "card": "# A test"}


NARROW: dict[str, Any] = {"token_width": 32, "fused_width": 32, "heads": 4, "reactions": 7}
CONFIGURATIONS = {
    "nano": EmertConfig(**NARROW),
    "nano-points": EmertConfig(**NARROW, gaze="points"),
    "base": EmertConfig(**NARROW, size="base"),
    "base-points": EmertConfig(**NARROW, size="base", gaze="points"),
}


class Exported(NamedTuple):
    """A model, its graphs, and sessions that run them."""

    model: Emert
    reports: dict[Any, GraphReport]
    sessions: dict[Any, Any]


@functools.cache
def exported(name: str) -> Exported:
    torch.manual_seed(1)
    model = Emert(CONFIGURATIONS[name]).train()
    torch.manual_seed(2)  # parts of one kind are then the same whatever stands beside them, and exported once
    model.head = FusionHead(model.config)
    if model.fixation_encoder is not None:
        model.fixation_encoder = FixationEncoder(model.config.token_width)
    torch.manual_seed(3)
    with torch.no_grad():  # so that batch normalisation has statistics worth folding
        model.face_encoder(torch.randn(8, 3, *FACE_SIZES[model.config.size]) + 0.3)
        if model.fixation_encoder is not None:
            model.fixation_encoder(torch.rand(8, 4, 112, 112))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity_module, "BATCHES", (1,))  # at 3 and 8 the tests below look themselves
        reports = export_graphs(model)
    assert not model.training
    return Exported(
        model,
        reports,
        {
            role: ort.InferenceSession(report.onnx, providers=["CPUExecutionProvider"])
            for role, report in reports.items()
        },
    )


@pytest.fixture(scope="module")
def model() -> Emert:
    return exported("nano").model


@pytest.fixture(scope="module")
def reports() -> dict[Any, GraphReport]:
    return exported("nano").reports


def whole_inputs(config: EmertConfig, batch: int, missing: str, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = {
        "frames": torch.randn(batch, 8, 3, *FACE_SIZES[config.size], generator=generator),
        "face_mask": (torch.rand(batch, 8, generator=generator) < 0.6).float(),
        "eye_tokens": torch.randn(batch, 32, 39, generator=generator),
        "eye_mask": (torch.rand(batch, 32, generator=generator) < 0.6).float(),
    }
    if config.gaze == "points":
        inputs["gaze_points"] = torch.rand(batch, 32, 2, generator=generator)
    else:
        inputs["fused_frames"] = torch.rand(batch, 8, 4, 112, 112, generator=generator)
        inputs["fixation_mask"] = (torch.rand(batch, 8, generator=generator) < 0.6).float()
    masks = [name for name in inputs if name.endswith("_mask")]
    for row in range(batch):
        lost = [*masks, "all", "nothing"][row % (len(masks) + 2)] if missing == "each in turn" else missing
        for name in masks:
            inputs[name][row] *= lost not in (name, "all")
    return inputs


# Every combination for the small encoder; for the large one, whose frames take long, what is missing changes by row.
TOGETHER = [
    (name, batch, missing)
    for name in ("nano", "nano-points")
    for batch in (1, 3, 8)
    for missing in ("nothing", "face_mask", "eye_mask", "fixation_mask", "all")
    if (name, missing) != ("nano-points", "fixation_mask")
] + [("base", batch, "each in turn") for batch in (1, 3, 8)]
TOGETHER += [("base-points", batch, "each in turn") for batch in (1, 3)]


@pytest.mark.parametrize(("name", "batch", "missing"), TOGETHER)
def test_the_graphs_in_a_row_are_the_whole_model(name: str, batch: int, missing: str) -> None:
    model, _, sessions = exported(name)
    inputs = whole_inputs(model.config, batch, missing, seed=batch)
    with torch.no_grad():
        wanted = model(**inputs)
    head = {key: value.numpy() for key, value in inputs.items() if key not in ("frames", "fused_frames")}
    frames = inputs["frames"].flatten(0, 1).numpy()
    head["face_tokens"] = sessions["face_encoder"].run(["face_token"], {"frame": frames})[0].reshape(batch, 8, -1)
    if "fused_frames" in inputs:
        (tokens,) = sessions["fixation_encoder"].run(None, {"fused": inputs["fused_frames"].flatten(0, 1).numpy()})
        head["fixation_tokens"] = tokens.reshape(batch, 8, -1)
    assert list(wanted) == [*HEAD_OUTPUTS, *(["reactions"] if model.config.reactions else [])]
    for key, got in zip(wanted, sessions["head"].run(list(wanted), head), strict=True):
        assert np.abs(got - wanted[key].numpy()).max() <= TOLERANCE * max(1.0, float(wanted[key].abs().max())), key


@pytest.mark.parametrize("name", ["nano", "base"])
def test_on_real_faces_and_scenes_the_graphs_are_the_model(name: str, shared_data: Path) -> None:
    """Crops and fused frames of a clip, as a session makes them; one face after the other, and all in a batch."""
    clip = shared_data / "face_clips_pyfeat" / "single_face.mp4"
    if not clip.is_file():
        pytest.skip(f"no real faces here: {clip} is absent")
    model, _, sessions = exported(name)
    spec = face_input(model.config.size)
    tracker, crops, fused = FaceTracker(HaarDetector()), [], []
    for frame in open_frames(clip).frames():
        if frame.sequence % 8:
            continue
        face = tracker.update(frame.image, frame.t_ns)
        assert face is not None
        affine = crop_affine(face.box, spec.size, spec.scale)
        crops.append(crop_normalize(frame.image, affine, spec.size, spec.mean, spec.std, color=spec.color))
        centre = (56.0 + 3 * len(crops), 48.0)
        looked_at = fixation_map([centre], [1.0], (112, 112), 8.0)
        fused.append(fuse_gaze_frame(frame.image, looked_at, (112, 112), spec.mean, spec.std))
    assert len(crops) >= 8
    for role, encoder, pictures in (
        ("face_encoder", model.face_encoder, np.stack(crops)),
        ("fixation_encoder", model.fixation_encoder, np.stack(fused)),
    ):
        source = sessions[role].get_inputs()[0].name
        names = [output.name for output in sessions[role].get_outputs()]
        with torch.no_grad():
            answer = encoder(torch.from_numpy(pictures))
        wanted = [part.numpy() for part in (answer if isinstance(answer, tuple) else (answer,))]
        together = sessions[role].run(names, {source: pictures})
        alone = [sessions[role].run(names, {source: one[None]}) for one in pictures]
        for index, values in enumerate(wanted):
            bound = TOLERANCE * max(1.0, float(np.abs(values).max()))
            assert np.abs(together[index] - values).max() <= bound, names[index]
            assert np.abs(np.concatenate([one[index] for one in alone]) - values).max() <= bound, names[index]


def test_the_last_comparison_would_see_a_difference() -> None:
    model = exported("nano").model
    inputs = whole_inputs(model.config, 3, "nothing", seed=3)
    with torch.no_grad():
        first = model(**inputs)
        inputs["face_mask"] = 1 - inputs["face_mask"]
        second = model(**inputs)
    assert all((first[name] - second[name]).abs().max() > 100 * TOLERANCE for name in first)


@pytest.mark.parametrize("name", ["nano", "nano-points"])
def test_garbage_under_a_mask_changes_nothing_in_the_graph(name: str) -> None:
    head = exported(name).sessions["head"]
    rng = np.random.default_rng(0)
    inputs: dict[str, Any] = {
        tensor.name: rng.standard_normal((5, *tensor.shape[1:])).astype(np.float32) for tensor in head.get_inputs()
    }
    for key in inputs:
        if key.endswith("_mask"):
            inputs[key] = (inputs[key] > 0).astype(np.float32)
    clean = head.run(None, inputs)
    for key in inputs:
        if not key.endswith("_mask"):
            mask = "eye_mask" if key == "gaze_points" else key.replace("tokens", "mask")
            inputs[key][inputs[mask] == 0] = 3e37
    for first, second in zip(clean, head.run(None, inputs), strict=True):
        assert np.array_equal(first, second)


@pytest.mark.parametrize("name", list(CONFIGURATIONS))
def test_graphs_are_what_every_target_can_read(name: str) -> None:
    model, reports, _ = exported(name)
    maps = ["fixation_encoder"] if model.config.gaze == "maps" else []
    assert list(reports) == ["face_encoder", *maps, "head"]
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
        check_parity(emert_parts(other), {role: report.onnx for role, report in reports.items()})


def test_an_encoder_that_is_another_one_is_found_behind_it(model: Emert, reports: dict[Any, GraphReport]) -> None:
    """Each graph beside its own module may fit, and the row of them still be another model's."""
    torch.manual_seed(2)
    other = Emert(model.config).eval()
    parts = emert_parts(model)
    with pytest.raises(ExportFailed, match="behind the encoders' graphs"):
        check_parity(
            parts._replace(whole=emert_parts(other).whole), {role: report.onnx for role, report in reports.items()}
        )


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda proto: setattr(proto.opset_import[0], "version", 17), "opset"),
        (lambda proto: setattr(proto, "ir_version", 11), "IR version"),
        (lambda proto: setattr(proto.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 2), "axes"),
        (lambda proto: proto.graph.output.pop(), "outputs are"),
        (lambda proto: setattr(proto.graph.output[0].type.tensor_type.shape.dim[1], "dim_value", 9), "output .* axes"),
        (lambda proto: setattr(proto.graph.output[0].type.tensor_type, "elem_type", 10), "is not float32"),
    ],
    ids=["opset", "ir", "frozen batch", "lost output", "another width", "half precision"],
)
def test_a_silent_failure_of_the_exporter_is_found_out(
    model: Emert, reports: dict[Any, GraphReport], spoil: Any, words: str
) -> None:
    proto = onnx.load_from_string(reports["face_encoder"].onnx)
    spoil(proto)
    spec = emert_parts(model).graphs["face_encoder"]
    with pytest.raises(ExportFailed, match=words):
        check_form("face_encoder", spec.inputs, spec.outputs, proto.SerializeToString())


def test_a_graph_is_simplified_and_tells_its_shapes(reports: dict[Any, GraphReport]) -> None:
    for role, report in reports.items():
        graph = onnx.load_from_string(report.onnx).graph
        kinds = {node.op_type for node in graph.node}
        assert not kinds & {"Identity", "Constant", "Dropout", "BatchNormalization"}, role
        told = {value.name for value in graph.value_info} | {value.name for value in graph.output}
        assert {name for node in graph.node for name in node.output} <= told, role


def test_a_bundle_comes_out_whole(model: Emert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reports: Any) -> None:
    monkeypatch.setattr("emert_edge.export.bundle.export_graphs", lambda model: reports)  # the slow part, done above
    bundle = export_bundle(
        model, tmp_path / "made", metrics={"face_uar": 0.5}, reactions=REACTIONS, **WORDS, **STATISTICS
    )
    bundle.verify()
    manifest = Bundle.open(tmp_path / "made").manifest
    assert manifest.identity == "test@1"
    assert manifest.token_width == 32
    assert manifest.face == face_input("nano")
    assert manifest.face.size == (48, 48)
    assert (manifest.profile, manifest.gaze) == ("emert", "maps")
    assert manifest.labels.reactions == REACTIONS
    assert manifest.eye is not None
    assert manifest.eye.features == FEATURE_NAMES
    roles = ("face_encoder", "fixation_encoder", "head")
    assert {graph.file for graph in manifest.graphs} == {
        f"{role}.{kind}.onnx" for role in roles for kind in ("fp32", "fp16")
    }
    assert bundle.precisions("cpu") == bundle.precisions("tensorrt") == ("fp32", "fp16")
    assert manifest.training.metrics["face_uar"] == 0.5
    for role in roles:
        assert manifest.training.metrics[f"parity_{role}"] <= TOLERANCE
        assert TOLERANCE < manifest.training.metrics[f"parity_{role}_fp16"] <= 2e-3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made"]


def test_fp16_can_be_left_out(model: Emert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reports: Any) -> None:
    monkeypatch.setattr("emert_edge.export.bundle.export_graphs", lambda model: reports)
    bundle = export_bundle(model, tmp_path / "made", reactions=REACTIONS, fp16=False, **WORDS, **STATISTICS)
    assert bundle.precisions("cpu") == ("fp32",)
    assert bundle.manifest.evidence == ()
    assert not [name for name in (*bundle.manifest.files, *bundle.manifest.training.metrics) if "fp16" in name]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"eye_mean": [0.0] * 38}, ValueError, "one length"),
        ({"eye_std": [0.0] * 39}, ValueError, "std must be positive"),
        ({"eye_features": FEATURE_NAMES[:5]}, ValueError, "39 columns, 5 are named"),
        ({"reactions": ("Adoration",)}, ValueError, "reactions"),
        ({"classes": ("happiness", "sadness")}, ValueError, "2 and 3 are named"),
        ({"window": WindowSpec(face_tokens=4, eye_tokens=16)}, ValueError, "4 and 16"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    model: Emert, tmp_path: Path, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        export_bundle(model, tmp_path / "made", **{**WORDS, **STATISTICS, "reactions": REACTIONS, **change})
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
