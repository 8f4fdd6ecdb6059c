"""Labelled pictures of faces: the same crops from a folder, an archive and a table; what is wrong is named."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training data need the extra `train`")

from emert_edge import Recognizer
from emert_edge.errors import EmertError
from emert_edge.reference.data.faces import (
    FaceImages,
    cached_faces,
    read_face_folder,
    read_face_table,
    stratified_split,
    whole_face,
)
from emert_edge.simulation import EXPRESSIONS

SIZE = (48, 48)


@pytest.fixture
def folder(tmp_path: Path, crop: np.ndarray) -> Path:
    """Three pictures of two classes, one of them in a folder below; and files that are no pictures."""
    root = tmp_path / "faces"
    for index, name in enumerate(("happiness/b.png", "train/Anger/a.png", "train/Anger/c.JPG")):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.clip(crop // 2 + 40 * index, 0, 255).astype(np.uint8))
    (root / "happiness" / "notes.txt").write_text("not a picture", encoding="utf-8")
    return root


def test_a_folder(folder: Path) -> None:
    faces = read_face_folder(folder, EXPRESSIONS, SIZE)
    assert faces.labels.tolist() == [0, 5, 5]
    assert faces.crops.shape == (3, 3, 48, 48)
    assert faces.crops.dtype == np.uint8
    image = cv2.imread(str(folder / "happiness" / "b.png"))
    assert np.array_equal(faces.crops[0], whole_face(image, SIZE))
    chosen = faces[np.array([2, 0])]
    assert chosen.labels.tolist() == [5, 0]
    assert len(FaceImages.joined([faces, chosen])) == 5


def test_crops_are_those_that_a_recognizer_makes_of_pictures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Recognizer(device="cpu", precision="fp32", threads=1) as recognizer:
        spec = recognizer.bundle.manifest.face
        engine = recognizer._open_engines().face_encoder
        run, given = engine.run, []

        def listened(count: int) -> None:
            given.append(engine.inputs["frame"][:count].copy())
            run(count)

        monkeypatch.setattr(engine, "run", listened)
        recognizer.expressions([cv2.imread(str(folder / "happiness" / "b.png"))])
    mean, std = (np.reshape(value, (3, 1, 1)) for value in (spec.mean, spec.std))
    mine = read_face_folder(folder, EXPRESSIONS, spec.size).crops[0] / 255
    assert np.abs(mine - (given[0][0] * std + mean)).max() < 0.51 / 255


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_archives_hold_what_their_folders_hold(kind: str, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / f"faces.{kind}"
    files = sorted((file for file in folder.rglob("*") if file.is_file()), reverse=True)
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in files:
                archive.write(file, file.relative_to(folder))
    else:
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive_tar:
            for file in files:
                archive_tar.add(file, "./" + file.relative_to(folder).as_posix())
    expected, faces = read_face_folder(folder, EXPRESSIONS, SIZE), read_face_folder(path, EXPRESSIONS, SIZE)
    assert np.array_equal(faces.labels, expected.labels)
    assert np.array_equal(faces.crops, expected.crops)


def test_folders_by_other_names(folder: Path) -> None:
    (folder / "train" / "Anger").rename(folder / "train" / "wütend")
    with pytest.raises(EmertError, match=r"faces: train/wütend/a\.png: the folder 'wütend' is no class; .*`names`"):
        read_face_folder(folder, EXPRESSIONS, SIZE)
    assert read_face_folder(folder, EXPRESSIONS, SIZE, names={"wütend": "anger"}).labels.tolist() == [0, 5, 5]
    assert read_face_folder(folder, EXPRESSIONS, SIZE, names={"wütend": ""}).labels.tolist() == [0]


def test_pictures_that_cannot_be_read(folder: Path, tmp_path: Path) -> None:
    (folder / "happiness" / "z.png").write_bytes(b"\x89PNG but not much of it")
    with pytest.raises(EmertError, match=r"faces: happiness/z\.png is not a picture that can be read"):
        read_face_folder(folder, EXPRESSIONS, SIZE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmertError, match="empty: gives no pictures"):
        read_face_folder(tmp_path / "empty", EXPRESSIONS, SIZE)
    with pytest.raises(EmertError, match="away: there is no such folder or archive"):
        read_face_folder(tmp_path / "away", EXPRESSIONS, SIZE)
    (tmp_path / "faces.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(EmertError, match=r"faces\.txt: neither a folder nor a zip or tar archive"):
        read_face_folder(tmp_path / "faces.txt", EXPRESSIONS, SIZE)


# -- tables -----------------------------------------------------------------------------------------------------------


def grey(value: int) -> str:
    return " ".join([str(value)] * (48 * 48))


def test_a_table_that_holds_its_pictures(tmp_path: Path) -> None:
    table = tmp_path / "fer.csv"
    rows = [f"3,{grey(255)},Training", f"0,{grey(10)},PublicTest", "", f"0,{grey(20)},Training", "9,,Training"]
    table.write_text("\n".join(["emotion,pixels,Usage", *rows]) + "\n", encoding="utf-8")
    names = {"0": "anger", "3": "happiness", "9": ""}
    faces = read_face_table(table, EXPRESSIONS, SIZE, image_column="pixels", names=names, where={"Usage": "Training"})
    assert faces.labels.tolist() == [0, 5]
    assert [np.unique(crop).tolist() for crop in faces.crops] == [[255], [20]]


def test_a_table_that_names_its_pictures(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "faces.csv"
    table.write_text("image,emotion\ntrain/Anger/a.png,Happiness\nhappiness/b.png,sadness\n", encoding="utf-8")
    faces = read_face_table(table, EXPRESSIONS, SIZE, images=folder)
    assert faces.labels.tolist() == [0, 1]
    expected = read_face_folder(folder, EXPRESSIONS, SIZE)
    assert np.array_equal(faces.crops, expected.crops[[1, 0]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,label\na.png,anger\n", "column 'emotion' is missing; it has image, label"),
        (
            "image,emotion\ntrain/Anger/a.png,anger\n\ntrain/Anger/c.JPG,rage\n",
            "line 4, column 'emotion': 'rage' is no",
        ),
        (
            "image,emotion\nhappiness/b.png,anger\naway.png,anger\n",
            r"line 3, column .image.: .*holds no away\.png",
        ),
        ("image,emotion\n", r"fer\.csv: holds no rows"),
        ("image,emotion\n,anger,more\n", r"fer\.csv: not readable as a table .*line 2"),
        ("", r"fer\.csv: not readable as a table"),
    ],
)
def test_a_wrong_table_is_named_by_line_and_column(text: str, said: str, folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "fer.csv"
    table.write_text(text, encoding="utf-8")
    with pytest.raises(EmertError, match=said):
        read_face_table(table, EXPRESSIONS, SIZE, images=folder)


@pytest.mark.parametrize("pixels", [grey(7)[:-2], grey(256), grey(-1), "7 8 x"])
def test_pixels_that_are_none(pixels: str, tmp_path: Path) -> None:
    table = tmp_path / "fer.csv"
    table.write_text(f"emotion,pixels\nanger,{pixels}\n", encoding="utf-8")
    with pytest.raises(EmertError, match=r"line 2, column 'pixels': not 48 × 48 grey values in 0–255"):
        read_face_table(table, EXPRESSIONS, SIZE, image_column="pixels")
    with pytest.raises(EmertError, match="there is no such table"):
        read_face_table(tmp_path / "away.csv", EXPRESSIONS, SIZE)


# -- what is done with them -------------------------------------------------------------------------------------------


def test_pictures_are_read_once(folder: Path, tmp_path: Path) -> None:
    calls: list[int] = []

    def make() -> FaceImages:
        calls.append(1)
        return read_face_folder(folder, EXPRESSIONS, SIZE)

    first = cached_faces(tmp_path / "data" / "faces.npz", make)
    again = cached_faces(tmp_path / "data" / "faces.npz", make)
    assert len(calls) == 1
    assert np.array_equal(first.crops, again.crops)
    assert np.array_equal(first.labels, again.labels)
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["faces.npz"]


def test_a_damaged_cache_is_made_anew(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "faces.npz"
    first = cached_faces(file, lambda: read_face_folder(folder, EXPRESSIONS, SIZE))
    for damage in (b"", file.read_bytes()[:100]):
        file.write_bytes(damage)
        again = cached_faces(file, lambda: read_face_folder(folder, EXPRESSIONS, SIZE))
        assert np.array_equal(first.crops, again.crops)


@pytest.mark.parametrize("ending", ["tar.gz", "zip"])
def test_an_archive_that_was_cut_is_named(folder: Path, tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"cut.{ending}"
    if ending == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            for path in folder.rglob("*.png"):
                archive.write(path, path.relative_to(folder))
        content = bytearray(file.read_bytes())
        content[60:80] = bytes(20)  # within the first picture: its checksum fails
        file.write_bytes(content)
    else:
        with tarfile.open(file, "w:gz") as archive:
            archive.add(folder, ".")
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EmertError, match=f"cut.{ending}: cut short or damaged.*fetch it again"):
        read_face_folder(file, EXPRESSIONS, SIZE)


def test_a_split_holds_out_a_share_of_each_class() -> None:
    labels = np.repeat([0, 1, 2], [40, 10, 2])
    learnt, held = stratified_split(labels, 0.2, seed=3)
    assert np.array_equal(np.sort(np.concatenate([learnt, held])), np.arange(52))
    assert np.bincount(labels[held]).tolist() == [8, 2, 1]
    assert np.array_equal(stratified_split(labels, 0.2, seed=3)[1], held)
    assert not np.array_equal(stratified_split(labels, 0.2, seed=4)[1], held)


def test_real_pictures(shared_data: Path, tmp_path: Path) -> None:
    source, few = shared_data / "fer2013_faces" / "fer2013_publictest.tar.gz", tmp_path / "few.tar"
    with tarfile.open(source, "r|gz") as archive, tarfile.open(few, "w") as kept:
        for _, member in zip(range(30), archive, strict=False):
            kept.addfile(member, archive.extractfile(member) if member.isfile() else None)
    with pytest.raises(EmertError, match="the folder 'angry' is no class"):
        read_face_folder(few, EXPRESSIONS, SIZE)
    faces = read_face_folder(few, EXPRESSIONS, SIZE, names={"angry": "anger"})
    assert len(faces) >= 25
    assert set(faces.labels.tolist()) == {5}
    assert (faces.crops[:, 0] == faces.crops[:, 2]).all()  # grey pictures
    assert faces.crops.std() > 30
