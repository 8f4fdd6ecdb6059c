"""A bundle is whole, or it is refused by name."""

from __future__ import annotations

import json
import os
import random
import zipfile
from pathlib import Path

import pytest

from emert_edge import Recognizer
from emert_edge.bundle import Bundle, installed_bundles, open_bundle, packaged_dir, write_bundle
from emert_edge.bundle.manifest import (
    EyeInput,
    FileEntry,
    FixationInput,
    Graph,
    Labels,
    Manifest,
    PointInput,
    Training,
    WindowSpec,
    seal_manifest,
)
from emert_edge.errors import BundleCorrupt, BundleIncompatible, BundleNotFound

FILES = {"face.onnx": b"graph" * 100, "int8/face.onnx": b"small", "card.md": "# A bundle — made for a test\n".encode()}


def manifest(**changes: object) -> Manifest:
    fields: dict[str, object] = {
        "name": "tested",
        "version": "1.0.0",
        "token_width": 8,
        "labels": Labels(emotion=("happiness", "sadness"), expression=("happiness", "sadness")),
        "training": Training(data=("none",)),
        "licence": "Apache-2.0",
        "graphs": (
            Graph(role="face_encoder", precision="fp32", file="face.onnx"),
            Graph(role="face_encoder", precision="int8", target="cpu", file="int8/face.onnx"),
        ),
        "files": {name: FileEntry(sha256="0" * 64, size=0) for name in FILES},
    }
    return Manifest.model_validate(fields | changes)


@pytest.fixture(params=["folder", "archive"])
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / ("b.emert" if request.param == "archive" else "b"), manifest(), FILES)


def test_a_written_bundle_is_sound_and_reads_back(bundle: Bundle) -> None:
    bundle.verify()
    assert bundle.read("int8/face.onnx") == b"small"
    assert bundle.card.startswith("# A bundle —")
    again = open_bundle(bundle.path)
    assert again.manifest == bundle.manifest
    assert again.manifest.labels.emotion == ("happiness", "sadness")


def test_gaze_comes_as_maps_or_as_points(tmp_path: Path) -> None:
    eye = EyeInput(features=("gaze_x_mean",), mean=(0.0,), std=(1.0,))
    assert manifest().gaze is None
    assert manifest(fixation=FixationInput(), eye=eye).gaze == "maps"
    assert manifest(points=PointInput(), eye=eye).gaze == "points"
    with pytest.raises(ValueError, match="two ways to give gaze"):
        manifest(points=PointInput(), fixation=FixationInput(), eye=eye)
    with pytest.raises(ValueError, match="points belong to eye tokens"):
        manifest(points=PointInput())


def test_a_manifest_from_before_there_were_points_and_profiles_is_read() -> None:
    content = json.loads(seal_manifest(manifest(fixation=FixationInput())))
    for name in ("points", "profile", "manifest_sha256"):
        content.pop(name)
    old = Manifest.model_validate(content)
    assert (old.gaze, old.profile) == ("maps", "emert")


def test_the_same_content_gives_the_same_archive(tmp_path: Path) -> None:
    first = write_bundle(tmp_path / "a.emert", manifest(), FILES).path.read_bytes()
    assert write_bundle(tmp_path / "b.emert", manifest(), FILES).path.read_bytes() == first


def test_every_flipped_bit_of_every_file_is_found(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "b", manifest(), FILES).path
    chance = random.Random(0)
    for name in [*FILES, "manifest.json"]:
        sound = (path / name).read_bytes()
        places = range(len(sound) * 8)
        for place in places if len(sound) < 100 else chance.sample(places, 400):
            damaged = bytearray(sound)
            damaged[place // 8] ^= 1 << place % 8
            (path / name).write_bytes(damaged)
            with pytest.raises((BundleCorrupt, BundleIncompatible)):
                Bundle.open(path).verify()
        (path / name).write_bytes(sound)
    Bundle.open(path).verify()


def test_flipped_bits_of_an_archive_change_nothing_that_is_read(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "b.emert", manifest(), FILES).path
    sound = path.read_bytes()
    chance = random.Random(1)
    found = 0
    for place in chance.sample(range(len(sound) * 8), 400):
        damaged = bytearray(sound)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            opened = Bundle.open(path)
            opened.verify()
        except (BundleCorrupt, BundleIncompatible):
            found += 1
        else:  # a bit of the archive's own bookkeeping, such as a date
            assert {name: opened.read(name) for name in FILES} == FILES
    assert found > 200


@pytest.mark.parametrize("cut", [0, 10, 200, -5])
def test_a_truncated_archive_is_refused(tmp_path: Path, cut: int) -> None:
    path = write_bundle(tmp_path / "b.emert", manifest(), FILES).path
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BundleCorrupt, match=r"b\.emert"):
        Bundle.open(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "b", manifest(), FILES).path
    (path / "int8" / "face.onnx").unlink()
    with pytest.raises(BundleCorrupt, match=r"int8/face\.onnx is missing"):
        Bundle.open(path).verify()


def reseal(path: Path, **changes: object) -> None:
    """Change a manifest as somebody would who wants it to pass."""
    content = json.loads((path / "manifest.json").read_text())
    content.update(changes)
    (path / "manifest.json").write_bytes(_sealed(content))


def _sealed(content: dict[str, object]) -> bytes:
    from emert_edge.bundle.manifest import _seal_of

    content["manifest_sha256"] = _seal_of(content)
    return json.dumps(content).encode()


@pytest.mark.parametrize("escape", ["../secret", "/etc/passwd", "a/../../b", "a\\..\\b", "C:/x", ""])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, escape: str) -> None:
    path = write_bundle(tmp_path / "b", manifest(), FILES).path
    (tmp_path / "secret").write_bytes(b"")
    files = json.loads((path / "manifest.json").read_text())["files"]
    reseal(path, files={**files, escape: {"sha256": "0" * 64, "size": 0}})
    with pytest.raises(BundleCorrupt, match="do not use this bundle"):
        Bundle.open(path)
    with pytest.raises(ValueError, match="files"):
        write_bundle(tmp_path / "c", manifest(), {**FILES, escape: b""})


def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "b", manifest(), FILES).path
    (tmp_path / "outside").write_bytes(FILES["face.onnx"])
    (path / "face.onnx").unlink()
    (path / "face.onnx").symlink_to(tmp_path / "outside")
    with pytest.raises(BundleCorrupt, match="link that leaves"):
        Bundle.open(path).verify()


def test_an_archive_member_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "b.emert", manifest(), FILES).path
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../evil", b"")
    with pytest.raises(BundleCorrupt, match=r"\.\./evil"):
        Bundle.open(path)


@pytest.mark.parametrize("version", [0, 2, "1", None, True])
def test_an_unknown_format_version_is_refused(tmp_path: Path, version: object) -> None:
    path = write_bundle(tmp_path / "b", manifest(), FILES).path
    reseal(path, format_version=version)
    with pytest.raises(BundleIncompatible, match="format version"):
        Bundle.open(path)


def test_a_manifest_of_the_wrong_form_names_the_field(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "b", manifest(), FILES).path
    reseal(path, token_width=-1)
    with pytest.raises(BundleCorrupt, match="token_width"):
        Bundle.open(path)
    (path / "manifest.json").write_text("[]")
    with pytest.raises(BundleCorrupt, match="object"):
        Bundle.open(path)


def test_a_changed_manifest_breaks_its_seal(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "b", manifest(), FILES).path
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace("happiness", "Happiness"))
    with pytest.raises(BundleCorrupt, match="seal"):
        Bundle.open(path)


def test_writing_replaces_a_bundle_and_nothing_else(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", manifest(), FILES)
    write_bundle(tmp_path / "b", manifest(version="2.0.0"), FILES)
    assert Bundle.open(tmp_path / "b").manifest.version == "2.0.0"
    assert os.listdir(tmp_path) == ["b"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError):
        write_bundle(tmp_path / "mine", manifest(), FILES)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_names_resolve_to_a_path_then_the_store_then_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMERT_EDGE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleNotFound, match="installed: emert-demo"):
        open_bundle("tested")
    stored = write_bundle(tmp_path / "home" / "bundles" / "tested.emert", manifest(), FILES).path
    assert open_bundle("tested").path == stored
    here = write_bundle(tmp_path / "tested", manifest(), FILES).path
    assert open_bundle("tested").path.resolve() == here
    assert ("store", stored) in installed_bundles()
    shadow = write_bundle(tmp_path / "home" / "bundles" / "emert-demo", manifest(name="emert-demo"), FILES).path
    assert open_bundle("emert-demo").path == shadow
    with pytest.raises(TypeError, match="bundle"):
        open_bundle(3)  # type: ignore[arg-type]


def test_the_packaged_bundle_is_sound_and_says_plainly_what_it_is() -> None:
    bundle = open_bundle()
    assert bundle.path.parent == packaged_dir()
    bundle.verify()
    assert bundle.manifest.licence
    assert bundle.precisions("cpu")
    card = bundle.card.lower()
    for word in ("simulated", "licence", "not", "ai act"):
        assert word in card


def test_the_packaged_bundle_ships_every_precision_with_its_evidence() -> None:
    bundle = open_bundle()
    assert bundle.precisions("cpu") == bundle.precisions("tensorrt") == ("fp32", "fp16", "int8")
    sizes = {name: entry.size for name, entry in bundle.manifest.files.items()}
    assert sum(sizes.values()) < 20e6
    assert max(sizes.values()) < 12e6
    for target in ("cpu", "tensorrt"):
        quantised = bundle.graph("face_encoder", "int8", target)
        assert quantised.target == target
        assert sizes[quantised.file] <= 0.3 * sizes[bundle.graph("face_encoder", "fp32", target).file]
        (told,) = (one for one in bundle.manifest.evidence if (one.precision, one.target) == ("int8", target))
        assert told.accepted
        assert told.labelled
        for name in ("accuracy", "uar"):
            assert told.figures[f"fp32_{name}"] - told.figures[name] <= 0.005
    with Recognizer(device="cpu") as recognizer:
        assert recognizer.precision == "int8"


def test_graphs_are_chosen_by_precision_and_target(bundle: Bundle) -> None:
    assert bundle.graph("face_encoder", "int8", "cpu").file == "int8/face.onnx"
    assert bundle.graph("face_encoder", "int8", "tensorrt").file == "face.onnx"
    assert bundle.precisions("tensorrt") == ("fp32",)
    with pytest.raises(BundleIncompatible, match="no fp16 graph"):
        bundle.graph("face_encoder", "fp16", "cpu")


@pytest.mark.parametrize(
    "window",
    [
        {"stride_ms": 400},
        {"face_cadence_ms": 250},
        {"face_cadence_ms": 100, "face_tokens": 40},
        {"eye_tokens": 31, "face_tokens": 31, "face_cadence_ms": 125},
    ],
)
def test_a_window_whose_grids_do_not_fit_is_refused(window: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        WindowSpec(**window)


def test_a_seal_does_not_depend_on_how_the_text_is_laid_out(tmp_path: Path) -> None:
    written = write_bundle(tmp_path / "b", manifest(), FILES)
    file = written.path / "manifest.json"
    before = file.read_text()
    file.write_text(json.dumps(json.loads(before), indent=7))
    again = Bundle.open(written.path)
    assert again.manifest == written.manifest
    assert seal_manifest(again.manifest).decode() == before
