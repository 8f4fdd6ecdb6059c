"""What is calibrated and judged on: pictures of faces, or sessions."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from emert_edge.bundle.manifest import FaceInput, FixationInput, Manifest, WindowSpec
from emert_edge.errors import BundleIncompatible, EmertError
from emert_edge.reference.configuration import SessionSource, read_settings
from emert_edge.reference.data.emer import EmerSessions, load_emer
from emert_edge.reference.data.faces import DrawnFaces, FaceSource, FolderFaces, folder_pictures, table_pictures
from emert_edge.reference.data.sessions import TableSessions, load_sessions
from emert_edge.reference.data.simulated import load_simulated, read_faces
from emert_edge.reference.data.windows import UNKNOWN, SessionData
from emert_edge.reference.settings import Settings

__all__ = ["Data", "DataSource", "Pictures", "Recordings", "classes_of", "read_data"]

Image: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]
Lines: TypeAlias = Callable[[str], None]
DataSource: TypeAlias = "str | Path | Sequence[tuple[Image, str | None]] | Sequence[SessionData]"
"""A path (see `read_data`), labelled pictures, or sessions."""

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".pgm")
NO_LICENCE = "not stated"


@dataclass(frozen=True)
class Pictures:
    """Pictures that are all face."""

    images: Sequence[Image]
    """(H, W, 3) uint8 each, BGR."""
    labels: Ints
    """(n,), index of the expression; -1 where unknown."""
    words: str
    """What they are, for the report."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Ints) -> Pictures:
        """Some of them."""
        return Pictures([self.images[row] for row in rows], self.labels[rows], self.words)


@dataclass(frozen=True)
class Recordings:
    """Sessions, as a device would gather them."""

    sessions: Sequence[SessionData]
    words: str
    """What they are, for the report."""

    def __len__(self) -> int:
        return len(self.sessions)

    def take(self, rows: Ints) -> Recordings:
        """Some of them."""
        return Recordings([self.sessions[row] for row in rows], self.words)


Data: TypeAlias = Pictures | Recordings


class _Description(Settings):
    """What a YAML description may say: the two fields of a stage of a training configuration that name its data."""

    kind: Literal["expressions", "sessions"]
    data: Any = Field(description="a source, or of pictures a list of them")


class _ExpressionData(Settings):
    kind: Literal["expressions"]
    data: tuple[FaceSource, ...] = Field(min_length=1)


class _SessionsData(Settings):
    kind: Literal["sessions"]
    data: SessionSource


@dataclass(frozen=True)
class _Inputs:
    """What sessions are made for: what a `Configuration` says of it, from a bundle."""

    seed: int
    classes: tuple[str, ...]
    face: FaceInput
    window: WindowSpec
    fixation: FixationInput


def classes_of(manifest: Manifest) -> tuple[str, ...]:
    """The classes that pictures are labelled with.

    Raises
    ------
    BundleIncompatible
        The bundle has none: there is nothing that two precisions could agree on.
    """
    classes = manifest.labels.expression or manifest.labels.emotion
    if not classes:
        raise BundleIncompatible(
            f"{manifest.name}: this bundle estimates values and no classes; a precision is judged by its classes"
        )
    return classes


def read_data(
    source: DataSource, manifest: Manifest, *, most: int, seed: int, report: Lines = lambda line: None
) -> Data:
    """Read what to calibrate or to judge on.

    Parameters
    ----------
    source : path, sequence of (image, label), or sequence of SessionData
        A path is a YAML description (``kind: expressions`` or ``kind: sessions`` and ``data:``, as in a stage of a
        training configuration), a table of sessions (CSV, Parquet, Excel), a folder or archive of pictures in one
        folder a class, or a folder of pictures without labels. Images are (H, W, 3) uint8, BGR; a label may be None.
    manifest : Manifest
        Of the bundle: classes, sizes and windows are its own.
    most : int
        Pictures to keep; of more, so many are drawn.
    report : callable
        Is told what is being read, a line at a time.

    Raises
    ------
    EmertError
        Nothing lies there, or something of it cannot be read or has an unknown label.
    """
    classes = classes_of(manifest)
    if not isinstance(source, str | Path):
        return _given(source, classes, most, seed)
    path = Path(source)
    if path.suffix.lower() in (".yaml", ".yml"):
        return _described(path, manifest, most, seed, report)
    if path.is_file() and path.suffix.lower() in (".csv", ".tsv", ".parquet", ".xlsx"):
        table = TableSessions(kind="table", path=path, licence=NO_LICENCE)
        return _recorded(table, path.name, manifest, seed, report)
    report(f"pictures: {path}")
    if path.is_dir() and (bare := _bare(path)):
        return _drawn(((_read(file), None) for file in bare), path.name, classes, most, seed)
    return _drawn(folder_pictures(path, classes), path.name, classes, most, seed)


def _given(source: Any, classes: Sequence[str], most: int, seed: int) -> Data:
    items = list(source)
    if items and all(isinstance(item, SessionData) for item in items):
        return Recordings(items, "sessions")
    for index, item in enumerate(items):
        if not (isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], np.ndarray)):
            raise TypeError(f"data[{index}] must be a pair of a picture and a label, not {type(item).__name__}")
        if item[0].dtype != np.uint8 or item[0].ndim != 3 or item[0].shape[2] != 3:
            raise ValueError(f"data[{index}]: a picture is (H, W, 3) uint8, not {item[0].shape} {item[0].dtype}")
        if item[1] is not None and item[1] not in classes:
            raise ValueError(f"data[{index}]: {item[1]!r} is no class of the bundle; known are {', '.join(classes)}")
    return _drawn(items, "pictures", classes, most, seed)


def _described(path: Path, manifest: Manifest, most: int, seed: int, report: Lines) -> Data:
    kind = read_settings(path, _Description, "description of data").kind
    if kind == "sessions":
        source = read_settings(path, _SessionsData, "description of data").data
        words = source.path.name if not hasattr(source, "sessions") else source.describe()
        return _recorded(source, words, manifest, seed, report)
    sources = read_settings(path, _ExpressionData, "description of data").data
    words = ", ".join("drawn faces" if isinstance(one, DrawnFaces) else one.path.name for one in sources)
    return _drawn(_pictures(sources, manifest, seed, report), words, classes_of(manifest), most, seed)


def _pictures(
    sources: Sequence[FaceSource], manifest: Manifest, seed: int, report: Lines
) -> Iterator[tuple[Image, str]]:
    classes = classes_of(manifest)
    for source in sources:
        report(f"pictures: {getattr(source, 'path', source.kind)}")
        if isinstance(source, DrawnFaces):
            faces = read_faces(source, seed, classes, manifest.face)
            for crop, label in zip(faces.crops, faces.labels, strict=True):
                yield np.ascontiguousarray(crop[::-1].transpose(1, 2, 0)), classes[label]
        elif isinstance(source, FolderFaces):
            yield from folder_pictures(source.path, classes, names=source.names)
        else:
            yield from table_pictures(
                source.path, classes, images=source.images, image_column=source.image_column,
                label_column=source.label_column, names=source.names, where=source.where,
            )  # fmt: skip


def _recorded(source: Any, words: str, manifest: Manifest, seed: int, report: Lines) -> Recordings:
    inputs = _Inputs(
        seed, classes_of(manifest), manifest.face, manifest.window, manifest.fixation or FixationInput()
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="emert-calibration-") as folder:  # crops of faces are not kept
        if isinstance(source, TableSessions):
            sessions = load_sessions(source, inputs, Path(folder), report)
        elif isinstance(source, EmerSessions):
            sessions = load_emer(source, inputs, Path(folder), report)
        else:
            sessions = load_simulated(source, inputs, Path(folder), report)
    return Recordings(sessions, words)


def _drawn(
    pictures: Iterable[tuple[Image, str | None]], words: str, classes: Sequence[str], most: int, seed: int
) -> Pictures:
    """Keep `most` pictures of a stream, each with the same chance, in their order."""
    rng = np.random.default_rng([seed, 17])
    kept: list[tuple[int, Image, str | None]] = []
    for number, (image, label) in enumerate(pictures):
        if number < most:
            kept.append((number, image, label))
        elif (place := int(rng.integers(number + 1))) < most:
            kept[place] = (number, image, label)
    if not kept:
        raise EmertError(f"{words}: holds no pictures ({', '.join(PICTURE_ENDINGS)})")
    kept.sort(key=lambda entry: entry[0])
    labels = [UNKNOWN if label is None else classes.index(label) for _, _, label in kept]
    return Pictures([image for _, image, _ in kept], np.array(labels, np.int64), words)


def _bare(folder: Path) -> list[Path]:
    """Pictures that lie in a folder itself, and so have no label."""
    bare = sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURE_ENDINGS)
    if bare and any(file.suffix.lower() in PICTURE_ENDINGS for file in folder.rglob("*/*")):
        raise EmertError(
            f"{folder}: holds pictures beside folders of pictures; give one folder a class, or pictures alone"
        )
    return bare


def _read(file: Path) -> Image:
    image = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise EmertError(f"{file}: not a picture that can be read; mend or remove it")
    return cast(Image, np.asarray(image, np.uint8))
