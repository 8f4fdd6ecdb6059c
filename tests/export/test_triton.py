"""A Triton model repository: its configuration is read by Triton's own schema, and says what the graphs are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ort = pytest.importorskip("onnxruntime")
text_format = pytest.importorskip("google.protobuf.text_format", reason="Triton's schema needs protobuf")

from emert_edge.export import export_triton  # noqa: E402
from emert_edge.export.triton import MARKER, MAX_BATCH, QUEUE_DELAY_US  # noqa: E402

from emert_edge import BundleIncompatible, EngineError, EngineMismatch  # noqa: E402
from emert_edge.bundle import Bundle, open_bundle, write_bundle  # noqa: E402
from emert_edge.bundle.manifest import Evidence, FileEntry, Labels  # noqa: E402
from emert_edge.engines.cache import EngineCache, EngineKey, profiles_up_to  # noqa: E402

ROLES = ("face_encoder", "fixation_encoder", "head")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle()


def with_precision(bundle: Bundle, out: Path, precision: Any, target: Any, *, accepted: bool | None) -> Bundle:
    """The FP32 graphs once more under another precision's name: what counts here is what the manifest says of them."""
    full = [graph for graph in bundle.manifest.graphs if graph.precision == "fp32"]
    more = [graph.model_copy(update={"precision": precision, "target": target}) for graph in full]
    named = [graph.model_copy(update={"file": f"{graph.role}.{precision}.onnx"}) for graph in more]
    files = {graph.file: bundle.read(graph.file) for graph in full} | {"card.md": b"# A test"}
    files |= {new.file: bundle.read(old.file) for new, old in zip(named, full, strict=True)}
    evidence = Evidence(
        precision=precision,
        target=target,
        data="nothing",
        samples=1,
        labelled=False,
        figures={},
        accepted=bool(accepted),
    )
    changed = bundle.manifest.model_copy(
        update={
            "graphs": (*full, *named),
            "evidence": () if accepted is None else (evidence,),
            "card": "card.md",
            "files": {name: FileEntry(sha256="0" * 64, size=0) for name in files},
        }
    )
    return write_bundle(out, changed, files)


def parsed(schema: Any, repository: Path, name: str) -> Any:
    """`config.pbtxt` as Triton reads it; a field that the schema does not know is an error."""
    return text_format.Parse((repository / name / "config.pbtxt").read_text(encoding="utf-8"), schema.ModelConfig())


@pytest.mark.parametrize("role", ROLES)
def test_the_configuration_says_what_the_graph_is(schema: Any, bundle: Bundle, role: Any, tmp_path: Path) -> None:
    made = export_triton(bundle, tmp_path / "models", precision="fp32")
    assert made.models == tuple(f"emert-demo_{one}" for one in ROLES)
    name = f"emert-demo_{role}"
    config = parsed(schema, made.path, name)
    assert (config.name, config.backend, config.platform) == (name, "onnxruntime", "")
    model = made.path / name / "1" / config.default_model_filename
    assert model.name == "model.onnx"  # what the backend takes for granted
    assert model.read_bytes() == bundle.read(bundle.graph(role, "fp32", "cpu").file)
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    for told, seen in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [tensor.name for tensor in told] == [tensor.name for tensor in seen]
        for tensor, real in zip(told, seen, strict=True):
            assert list(tensor.dims) == list(real.shape[1:])  # the batch is Triton's own
            assert real.type == "tensor(float)"
            assert tensor.data_type == schema.TYPE_FP32
            assert not tensor.HasField("reshape")


@pytest.mark.parametrize("role", ROLES)
def test_requests_are_batched_and_the_newest_version_is_served(
    schema: Any, bundle: Bundle, role: Any, tmp_path: Path
) -> None:
    config = parsed(schema, export_triton(bundle, tmp_path / "models").path, f"emert-demo_{role}")
    assert config.max_batch_size == MAX_BATCH == 32
    assert config.WhichOneof("scheduling_choice") == "dynamic_batching"
    batching = config.dynamic_batching
    assert list(batching.preferred_batch_size) == [4, 8, 16, 32]
    assert batching.max_queue_delay_microseconds == QUEUE_DELAY_US == 5000
    (group,) = config.instance_group
    assert (group.kind, group.count, list(group.profile)) == (schema.ModelInstanceGroup.KIND_AUTO, 1, [])
    assert config.version_policy.WhichOneof("policy_choice") == "latest"
    assert config.version_policy.latest.num_versions == 1


def test_logits_carry_their_labels(schema: Any, bundle: Bundle, tmp_path: Path) -> None:
    made = export_triton(bundle, tmp_path / "models")
    labels = bundle.manifest.labels
    wanted = {
        "emotion_logits": labels.emotion,
        "expression_logits": labels.expression,
        "emotion_polarity_logits": labels.polarity,
        "expression_polarity_logits": labels.polarity,
    }
    found = set()
    for name in made.models:
        for output in parsed(schema, made.path, name).output:
            if output.name in wanted:
                lines = (made.path / name / output.label_filename).read_text(encoding="utf-8").splitlines()
                assert tuple(lines) == wanted[output.name]
                assert len(lines) == output.dims[0]
                found.add((name, output.name))
            else:
                assert output.label_filename == ""
    assert len(found) == 5  # four of the head, one of the face encoder


@pytest.mark.parametrize(("accepted", "expected"), [(None, "fp32"), (False, "fp32"), (True, "fp16")])
def test_auto_takes_fp16_by_evidence_alone(
    bundle: Bundle, accepted: bool | None, expected: str, tmp_path: Path
) -> None:
    other = with_precision(bundle, tmp_path / "b", "fp16", "any", accepted=accepted)
    assert export_triton(other, tmp_path / "models").precision == expected


def test_int8_of_the_cpu_stays_on_the_cpu(schema: Any, bundle: Bundle, tmp_path: Path) -> None:
    other = with_precision(bundle, tmp_path / "b", "int8", "cpu", accepted=True)
    assert export_triton(other, tmp_path / "models").precision == "fp32"  # auto: a server may have a GPU
    made = export_triton(other, tmp_path / "models", precision="int8")
    (group,) = parsed(schema, made.path, "emert-demo_face_encoder").instance_group
    assert group.kind == schema.ModelInstanceGroup.KIND_CPU


# TensorRT


def built(
    bundle: Bundle, cache: EngineCache, roles: tuple[Any, ...], *, gpu: str = "L4", precision: str = "fp32"
) -> None:
    """Put what stands for engines into a cache, as a build on a server does."""
    for role in roles:
        graph = bundle.graph(role, precision, "tensorrt")  # type: ignore[arg-type]
        key = EngineKey(
            role=role,
            precision=graph.precision,
            onnx_sha256=bundle.manifest.files[graph.file].sha256,
            profiles=profiles_up_to(16),
            tensorrt="10.3.0",
            gpu=gpu,
            sm="8.9",
        )
        with cache.lock():
            cache.store(key, f"plan of {role} for {gpu}".encode(), {})


def test_engines_come_from_the_cache(schema: Any, bundle: Bundle, tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines")
    built(bundle, cache, ROLES, gpu="A2")
    built(bundle, cache, ROLES, gpu="L4")
    built(bundle, cache, ROLES[:2], gpu="H100")  # the newest, but not whole
    made = export_triton(bundle, tmp_path / "models", platform="tensorrt", precision="fp32", cache=cache)
    assert made.built_for == "L4 (compute capability 8.9), TensorRT 10.3.0"
    assert json.loads((made.path / MARKER).read_text())["built_for"] == made.built_for
    for role in ROLES:
        name = f"emert-demo_{role}"
        config = parsed(schema, made.path, name)
        assert (config.backend, config.default_model_filename) == ("tensorrt", "model.plan")
        assert (made.path / name / "1" / "model.plan").read_bytes() == f"plan of {role} for L4".encode()
        assert not (made.path / name / "1" / "model.onnx").exists()
        assert config.max_batch_size == 16  # the profiles', not ours
        assert list(config.dynamic_batching.preferred_batch_size) == [4, 8, 16]
        (group,) = config.instance_group
        assert (group.kind, list(group.profile)) == (schema.ModelInstanceGroup.KIND_GPU, ["0", "1"])
        assert [tensor.name for tensor in config.input]


def test_without_an_engine_it_is_said_what_to_build_and_nothing_is_written(bundle: Bundle, tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines")
    for roles in ((), ("head",), ("face_encoder", "fixation_encoder")):
        built(bundle, cache, roles, gpu=f"GPU {len(roles)}")
        with pytest.raises(EngineMismatch, match=r"all 3 graphs.*emert-edge build .* --precision fp32"):
            export_triton(bundle, tmp_path / "models", platform="tensorrt", precision="fp32", cache=cache)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["engines"]


def test_engines_of_other_graphs_are_not_taken(bundle: Bundle, tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines")
    other = with_precision(bundle, tmp_path / "b", "fp16", "any", accepted=True)
    files = {name: other.read(name) for name in other.manifest.files}
    files["head.fp16.onnx"] += b"\0"  # another graph under the same name
    changed = write_bundle(tmp_path / "c", other.manifest, files)
    built(other, cache, ROLES, precision="fp16")
    with pytest.raises(EngineMismatch, match="--precision fp16"):
        export_triton(changed, tmp_path / "models", platform="tensorrt", precision="fp16", cache=cache)


def test_a_damaged_engine_is_an_error_and_not_served(bundle: Bundle, tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines")
    built(bundle, cache, ROLES)
    (file,) = (path for path, key in cache.entries() if key.role == "head")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(EngineError, match=r"truncated.*emert-edge build"):
        export_triton(bundle, tmp_path / "models", platform="tensorrt", precision="fp32", cache=cache)
    assert not (tmp_path / "models").exists()


# What is refused


def test_a_repository_is_replaced_whole_and_nothing_else_is(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "models"
    out.mkdir()  # an empty folder is nobody's
    export_triton(bundle, out, precision="fp32")
    (out / "emert-demo_head" / "config.pbtxt").write_text("changed")
    export_triton(bundle, out, precision="fp32")
    assert "changed" not in (out / "emert-demo_head" / "config.pbtxt").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["models"]

    (out / "resnet").mkdir()
    (out / "resnet" / "config.pbtxt").write_text("theirs")
    with pytest.raises(FileExistsError, match=r"holds resnet/config\.pbtxt, which emert-edge did not write"):
        export_triton(bundle, out)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("years")
    (tmp_path / "file").write_text("something")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / MARKER).write_text("{")
    for path in (foreign, tmp_path / "file", broken):
        with pytest.raises(FileExistsError, match="no model repository of emert-edge"):
            export_triton(bundle, path)
    assert (foreign / "thesis.tex").read_text() == "years"
    assert (out / "resnet" / "config.pbtxt").read_text() == "theirs"


def test_a_graph_that_does_not_fit_its_manifest_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    labels = Labels(emotion=("joy", "grief"), expression=("joy", "grief"))
    changed = bundle.manifest.model_copy(update={"labels": labels})
    other = write_bundle(tmp_path / "b", changed, {name: bundle.read(name) for name in bundle.manifest.files})
    with pytest.raises(BundleIncompatible, match=r"face_encoder.*'expression_logits' has shape \(\?, 7\)"):
        export_triton(other, tmp_path / "models", precision="fp32")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(("change", "words"), [({"platform": "openvino"}, "openvino"), ({"precision": "fp8"}, "fp8")])
def test_unknown_words_are_refused(bundle: Bundle, change: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        export_triton(bundle, tmp_path / "models", **change)


def test_a_precision_that_the_bundle_lacks_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    graphs = tuple(graph for graph in bundle.manifest.graphs if graph.precision == "fp32")
    bare = bundle.manifest.model_copy(update={"graphs": graphs, "evidence": ()})
    other = write_bundle(tmp_path / "b", bare, {name: bundle.read(name) for name in bundle.manifest.files})
    with pytest.raises(BundleIncompatible, match="no int8 graphs"):
        export_triton(other, tmp_path / "models", precision="int8")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
