"""Engines: what is named is had or is an error, and the numbers are ONNX Runtime's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emert_edge.engines.device as device_module
from emert_edge import BundleCorrupt, BundleIncompatible, DeviceUnavailable, EngineError, Recognizer
from emert_edge.bundle import Bundle, open_bundle, write_bundle
from emert_edge.bundle.manifest import Evidence, FileEntry, Graph, Labels, Manifest, Training
from emert_edge.engines import Device, open_engines, tensor_shapes
from emert_edge.engines.device import default_threads, parse_device
from emert_edge.engines.onnx_runtime import OnnxRuntimeEngine


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle()


def engine(bundle: Bundle, role: Any, **options: Any) -> OnnxRuntimeEngine:
    settings = {"device": Device("cpu"), "threads": 1, "max_batch": 5, "shapes": tensor_shapes(bundle.manifest)[role]}
    return OnnxRuntimeEngine(bundle, role, "fp32", **(settings | options))


@pytest.mark.parametrize("role", ["face_encoder", "fixation_encoder", "head"])
def test_bound_buffers_give_what_a_plain_session_gives_at_every_batch(bundle: Bundle, role: Any) -> None:
    import onnxruntime

    tested = engine(bundle, role)
    plain = onnxruntime.InferenceSession(
        bundle.read(bundle.graph(role, "fp32", "cpu").file), providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    for batch in (1, 3, 5, 2, 2, 1):
        for buffer in tested.inputs.values():
            buffer[:] = rng.random(buffer.shape, np.float32)
        tested.run(batch)
        names = [output.name for output in plain.get_outputs()]
        expected = plain.run(names, {name: buffer[:batch] for name, buffer in tested.inputs.items()})
        for name, values in zip(names, expected, strict=True):
            np.testing.assert_allclose(tested.outputs[name][:batch], values, atol=1e-5, rtol=1e-5)


def test_a_batch_out_of_range_and_a_closed_engine_are_errors(bundle: Bundle) -> None:
    tested = engine(bundle, "head")
    for batch in (0, 6, -1):
        with pytest.raises(ValueError, match="batch"):
            tested.run(batch)
    tested.close()
    tested.close()
    with pytest.raises(EngineError, match="closed"):
        tested.run(1)


def test_describe_says_what_really_runs(bundle: Bundle) -> None:
    with Recognizer(device="cpu", threads=1) as recognizer:
        description = recognizer.describe()
        assert (recognizer.device, recognizer.precision) == ("cpu", "int8")
    assert description["threads"] == 1
    assert description["bundle"]["licence"] == bundle.manifest.licence
    assert {one["role"] for one in description["engines"]} == {"face_encoder", "fixation_encoder", "head"}
    for one in description["engines"]:
        assert one["providers"] == ("CPUExecutionProvider",)
        assert one["runtime"].startswith("onnxruntime ")
    recognizer.close()
    with pytest.raises(EngineError, match="closed"):
        recognizer.session()
    with pytest.raises(EngineError, match="closed"):
        recognizer.expressions([])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("auto", None),
        ("cpu", Device("cpu")),
        ("cuda", Device("cuda", 0)),
        ("cuda:3", Device("cuda", 3)),
        ("tensorrt:1", Device("tensorrt", 1)),
    ],
)
def test_device_names(name: str, expected: Device | None) -> None:
    assert parse_device(name) == expected


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", "cpu:0", ""])
def test_unknown_device_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="device"):
        Recognizer(device=name)


def test_a_named_device_that_is_not_there_is_an_error_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "driver_fault", lambda index: "no NVIDIA driver is installed")
    for name in ("cuda", "tensorrt", "cuda:1"):
        with pytest.raises(DeviceUnavailable, match="no NVIDIA driver"):
            Recognizer(device=name)
    with Recognizer(device="auto") as recognizer:
        assert recognizer.device == "cpu"


def test_a_gpu_without_a_gpu_runtime_is_an_error_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(device_module, "driver_fault", lambda index: None)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceUnavailable, match="built without CUDA"):
        Recognizer(device="cuda")
    with pytest.raises(DeviceUnavailable, match="tensorrt"):
        Recognizer(device="tensorrt")


def test_a_provider_that_does_not_start_is_never_a_silent_fallback(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime itself falls back to the CPU when its CUDA libraries do not load; a named GPU must not."""
    import onnxruntime

    monkeypatch.setattr(device_module, "driver_fault", lambda index: None)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    real = onnxruntime.InferenceSession

    def falls_back(model: bytes, sess_options: Any, providers: Any, enable_fallback: int) -> Any:
        assert providers[0] == ("CUDAExecutionProvider", {"device_id": 2})
        assert enable_fallback == 0  # or it would print
        return real(model, sess_options=sess_options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", falls_back)
    with pytest.raises(DeviceUnavailable, match="did not start"):
        open_engines(bundle, device="cuda:2")


def test_a_precision_that_the_bundle_lacks_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    plain = tuple(graph for graph in bundle.manifest.graphs if graph.precision == "fp32")
    names = (*(graph.file for graph in plain), bundle.manifest.card)
    files = {name: FileEntry(sha256="0" * 64, size=0) for name in names}
    lacking = bundle.manifest.model_copy(update={"graphs": plain, "evidence": (), "files": files})
    made = write_bundle(tmp_path / "plain", lacking, {name: bundle.read(name) for name in names})
    for precision in ("fp16", "int8"):
        with pytest.raises(BundleIncompatible, match=precision):
            Recognizer(made, precision=precision)
    with pytest.raises(ValueError, match="precision"):
        Recognizer(precision="fp8")


@pytest.mark.parametrize(("threads", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_wrong_thread_counts_are_refused(threads: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="threads"):
        Recognizer(threads=threads)
    assert 1 <= default_threads() <= 4


def _graph(name: str, row: list[int | str], kind: str) -> bytes:
    onnx = pytest.importorskip("onnx", reason="making a wrong graph needs onnx")
    tensor = getattr(onnx.TensorProto, kind)
    source = onnx.helper.make_tensor_value_info(name, tensor, row)
    result = onnx.helper.make_tensor_value_info("face_token", tensor, row)
    node = onnx.helper.make_node("Identity", [name], ["face_token"])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "wrong", [source], [result]),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
        ir_version=10,
    )
    return bytes(model.SerializeToString())


def _bundle_of(path: Path, graph: bytes) -> Bundle:
    manifest = Manifest(
        name="wrong",
        version="1",
        token_width=8,
        labels=Labels(emotion=None, expression=None),
        training=Training(data=("none",)),
        licence="Apache-2.0",
        graphs=(Graph(role="face_encoder", precision="fp32", file="face.onnx"),),
        files={name: FileEntry(sha256="0" * 64, size=0) for name in ("face.onnx", "card.md")},
    )
    return write_bundle(path, manifest, {"face.onnx": graph, "card.md": b""})


@pytest.mark.parametrize(
    ("name", "row", "kind", "message"),
    [
        ("picture", ["batch", 3, 112, 112], "FLOAT", "'picture' is unknown"),
        ("frame", ["batch", 3, 64, 64], "FLOAT", "manifest asks for"),
        ("frame", [1, 3, 112, 112], "FLOAT", "fixed batch"),
        ("frame", ["batch", 3, 112, 112], "FLOAT16", "float32"),
    ],
)
def test_a_graph_that_does_not_fit_its_manifest_names_the_tensor(
    tmp_path: Path, name: str, row: list[int | str], kind: str, message: str
) -> None:
    wrong = _bundle_of(tmp_path / "b", _graph(name, row, kind))
    with pytest.raises(BundleIncompatible, match=message):
        engine(wrong, "face_encoder")


def test_a_graph_that_is_none_is_an_engine_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"face\.onnx"):
        engine(_bundle_of(tmp_path / "b", b"not a graph"), "face_encoder")


def test_a_damaged_graph_is_a_corrupt_bundle(bundle: Bundle, tmp_path: Path) -> None:
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    damaged = write_bundle(tmp_path / "b", bundle.manifest, files)
    graph = tmp_path / "b" / bundle.graph("head", "fp32", "cpu").file
    content = bytearray(graph.read_bytes())
    content[1000] ^= 4
    graph.write_bytes(content)
    with pytest.raises(BundleCorrupt, match=graph.name):
        Recognizer(damaged)
    graph.unlink()
    with pytest.raises(BundleCorrupt, match="missing"):
        Recognizer(damaged)


def test_a_bundle_without_a_head_is_refused(tmp_path: Path) -> None:
    wrong = _bundle_of(tmp_path / "b", b"")
    with pytest.raises(BundleIncompatible, match="head"):
        open_engines(wrong, device="cpu")


def test_a_bundle_trained_on_other_features_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    content = bundle.manifest.model_dump()
    content["eye"]["features"] = ["brow_height", *content["eye"]["features"][1:]]
    other = write_bundle(
        tmp_path / "b",
        Manifest.model_validate(content),
        {name: bundle.read(name) for name in bundle.manifest.files},
    )
    with pytest.raises(BundleIncompatible, match="brow_height"):
        Recognizer(other)


@pytest.mark.parametrize(("accepted", "expected"), [(None, "fp32"), (False, "fp32"), (True, "int8")])
def test_auto_takes_a_faster_precision_by_evidence_alone(
    bundle: Bundle, accepted: bool | None, expected: str, tmp_path: Path
) -> None:
    """The INT8 graph is the FP32 one under another name: what counts here is what the manifest says of it."""
    manifest = bundle.manifest
    plain = [graph for graph in manifest.graphs if graph.precision == "fp32"]
    quantised = Graph(role="face_encoder", precision="int8", target="cpu", file="face_encoder.int8.cpu.onnx")
    told = Evidence(
        precision="int8", target="cpu", data="pictures", samples=9, labelled=True, figures={"agreement": 0.99},
        accepted=bool(accepted),
    )  # fmt: skip
    files = {name: bundle.read(name) for name in manifest.files}
    files[quantised.file] = bundle.read(bundle.graph("face_encoder", "fp32", "cpu").file)
    changed = manifest.model_copy(
        update={
            "graphs": (*plain, quantised),
            "evidence": () if accepted is None else (told,),
            "files": {name: FileEntry(sha256="0" * 64, size=0) for name in files},
        }
    )
    made = write_bundle(tmp_path / "made", changed, files)
    assert made.manifest.evidence == changed.evidence
    with Recognizer(made, device="cpu") as recognizer:
        assert recognizer.precision == expected
    with Recognizer(made, device="cpu", precision="int8") as recognizer:
        assert recognizer.precision == "int8"
        assert recognizer.describe()["engines"][0]["file"] == quantised.file


def test_evidence_stands_once_for_each_precision_and_target(bundle: Bundle) -> None:
    one = Evidence(precision="fp16", data="pictures", samples=1, labelled=False, figures={}, accepted=True)
    content = bundle.manifest.model_dump() | {"evidence": (one, one)}
    with pytest.raises(ValueError, match="stand twice"):
        Manifest.model_validate(content)
    both = bundle.manifest.model_copy(update={"evidence": (one,)})
    assert both.accepts("fp16", "tensorrt")
    assert not both.accepts("int8", "cpu")
