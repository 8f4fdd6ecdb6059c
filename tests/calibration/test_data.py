"""What `--data` may be: folders, archives, descriptions, tables, arrays; and what is wrong with it, by name."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("onnx", reason="calibrating needs the extra `export`")
pytest.importorskip("torch", reason="calibrating needs the extra `train`")

from emert_edge.calibration.data import Data, DataSource, Pictures, Recordings, read_data

from emert_edge.bundle import Bundle
from emert_edge.errors import BundleIncompatible, EmertError
from emert_edge.reference.data.sessions import COLUMNS
from emert_edge.simulation import EXPRESSIONS


def read(source: DataSource, bundle: Bundle, most: int = 100) -> Data:
    return read_data(source, bundle.manifest, most=most, seed=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, count in (("happiness", 6), ("angry", 3), ("contempt", 2)):
        (tmp_path / "faces" / name).mkdir(parents=True)
        for index in range(count):
            picture = rng.integers(0, 255, (20, 24, 3)).astype(np.uint8)
            cv2.imwrite(str(tmp_path / "faces" / name / f"{index}.png"), picture)
    return tmp_path / "faces"


def described(file: Path, path: str) -> Path:
    file.write_text(
        "kind: expressions\n"
        "data:\n"
        f"  - {{kind: folder, path: {path}, names: {{angry: anger, contempt: ''}}, licence: our own}}\n"
    )
    return file


def labels_of(data: Data) -> list[str]:
    assert isinstance(data, Pictures)
    return [EXPRESSIONS[label] for label in data.labels]


def test_a_description_names_the_classes_of_folders_and_archives(folder: Path, tmp_path: Path, bundle: Bundle) -> None:
    wanted = ["anger"] * 3 + ["happiness"] * 6
    assert labels_of(read(described(tmp_path / "data.yaml", "faces"), bundle)) == wanted
    with tarfile.open(tmp_path / "faces.tar.gz", "w:gz") as archive:
        archive.add(folder, "faces")
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder))
    for name in ("faces.tar.gz", "faces.zip"):
        assert labels_of(read(described(tmp_path / "data.yaml", name), bundle)) == wanted


def test_a_folder_of_classes_is_data_by_itself(folder: Path, bundle: Bundle) -> None:
    with pytest.raises(EmertError, match="the folder 'angry' is no class"):
        read(folder, bundle)
    for name in ("angry", "contempt"):
        for file in (folder / name).iterdir():
            file.unlink()
    data = read(folder, bundle)
    assert labels_of(data) == ["happiness"] * 6
    assert isinstance(data, Pictures)
    assert data.images[0].shape == (20, 24, 3)
    assert np.array_equal(data.images[2], cv2.imread(str(folder / "happiness" / "2.png")))


def test_pictures_that_lie_bare_have_no_labels(folder: Path, bundle: Bundle) -> None:
    data = read(folder / "happiness", bundle)
    assert isinstance(data, Pictures)
    assert (len(data), set(data.labels.tolist())) == (6, {-1})
    cv2.imwrite(str(folder / "beside.png"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(EmertError, match="beside folders"):
        read(folder, bundle)


def test_of_too_many_some_are_drawn_the_same_each_time(bundle: Bundle) -> None:
    pairs = [(np.full((4, 4, 3), index, np.uint8), EXPRESSIONS[index % 7]) for index in range(200)]
    first, again = (read(pairs, bundle, most=50) for _ in range(2))
    assert isinstance(first, Pictures)
    assert isinstance(again, Pictures)
    numbers = [int(image[0, 0, 0]) for image in first.images]
    assert numbers == [int(image[0, 0, 0]) for image in again.images] == sorted(numbers)
    assert (len(set(numbers)), max(numbers) > 120) == (50, True)
    assert labels_of(first) == [EXPRESSIONS[number % 7] for number in numbers]


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        ([(np.zeros((4, 4), np.uint8), "happiness")], ValueError, r"data\[0\].*\(H, W, 3\)"),
        ([(np.zeros((4, 4, 3), np.float32), None)], ValueError, "uint8"),
        ([(np.zeros((4, 4, 3), np.uint8), "joy")], ValueError, "'joy' is no class"),
        ([np.zeros((4, 4, 3), np.uint8)], TypeError, "pair of a picture and a label"),
        ([], EmertError, "holds no pictures"),
    ],
)
def test_wrong_arrays_are_named(wrong: list[object], kind: type[Exception], words: str, bundle: Bundle) -> None:
    with pytest.raises(kind, match=words):
        read(wrong, bundle)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: expressions\ndata: []\n", "data: Tuple should have at least 1 item"),
        ("kind: faces\ndata: x\n", "kind: Input should be 'expressions' or 'sessions'"),
        ("- a list\n", "not a description of data"),
        ("kind: sessions\ndata: {kind: table, path: none.csv, licence: x}\n", "none.csv"),
        ("kind: expressions\ndata:\n - {kind: folder, path: '${NOWHERE_AT_ALL}', licence: x}\n", "NOWHERE_AT_ALL"),
    ],
)
def test_wrong_descriptions_are_named(text: str, words: str, tmp_path: Path, bundle: Bundle) -> None:
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(EmertError, match=words):
        read(tmp_path / "data.yaml", bundle)


def test_what_is_not_there_is_named(tmp_path: Path, bundle: Bundle) -> None:
    for name in ("nothing", "nothing.yaml", "nothing.csv"):
        with pytest.raises(EmertError, match="nothing"):
            read(tmp_path / name, bundle)


def test_simulated_sessions_are_made_for_the_bundle(tmp_path: Path, bundle: Bundle) -> None:
    (tmp_path / "sessions.yaml").write_text(
        "kind: sessions\ndata: {kind: simulated, sessions: 2, session_s: 4}\n"
    )  # fmt: skip
    data = read(tmp_path / "sessions.yaml", bundle)
    assert isinstance(data, Recordings)
    assert len(data) == 2
    assert data.sessions[0].crops.shape[-2:] == bundle.manifest.face.size


def test_a_table_is_one_of_sessions(tmp_path: Path, bundle: Bundle) -> None:
    assert {"id", "face"} <= set(COLUMNS)
    (tmp_path / "sessions.csv").write_text("id,face\nanna,absent.mp4\n")
    with pytest.raises(EmertError, match=r"column 'face'.*absent\.mp4"):
        read(tmp_path / "sessions.csv", bundle)


def test_a_bundle_without_classes_cannot_be_judged(bundle: Bundle) -> None:
    labels = bundle.manifest.labels.model_copy(update={"expression": None, "emotion": None})
    with pytest.raises(BundleIncompatible, match="no classes"):
        read_data([], bundle.manifest.model_copy(update={"labels": labels}), most=1, seed=0)
