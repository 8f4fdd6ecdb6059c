"""Labelled pictures of single faces: folders and archives of classes, tables, and drawings.

Whatever the source, a picture becomes a crop by the function that `Recognizer.expressions` uses on a device, so that
what an encoder learnt is what it will see.
"""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from emert_edge.errors import EmertError
from emert_edge.kernels import crop_normalize
from emert_edge.reference.data.tables import Faults, read_rows
from emert_edge.reference.settings import Settings

__all__ = [
    "DrawnFaces",
    "FaceImages",
    "FaceSource",
    "FolderFaces",
    "TableFaces",
    "cached_faces",
    "folder_pictures",
    "read_face_folder",
    "read_face_table",
    "stratified_split",
    "table_pictures",
]

Image = npt.NDArray[np.uint8]
_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".pgm")


class FolderFaces(Settings):
    """Pictures whose folder is their class: a folder, a zip or a tar archive."""

    kind: Literal["folder"]
    path: Path
    names: dict[str, str] = Field(default_factory=dict, description='folder names to classes; "" leaves one out')
    licence: str = Field(description="under which terms these pictures may be used, for the card")


class TableFaces(Settings):
    """Pictures that a CSV names, or holds as Kaggle's fer2013.csv does."""

    kind: Literal["table"]
    path: Path
    images: Path | None = None
    image_column: str = "image"
    label_column: str = "emotion"
    names: dict[str, str] = Field(default_factory=dict)
    where: dict[str, str] = Field(default_factory=dict, description="columns and the value a row must have")
    licence: str


class DrawnFaces(Settings):
    """Faces drawn by `emert_edge.simulation`."""

    kind: Literal["drawn"]
    count: int = Field(ge=1)


FaceSource = Annotated[FolderFaces | TableFaces | DrawnFaces, Field(discriminator="kind")]


@dataclass(frozen=True)
class FaceImages:
    """Crops of one size and the class of each."""

    crops: npt.NDArray[np.uint8]
    """(n, 3, H, W), RGB planes in [0, 255]."""
    labels: npt.NDArray[np.int64]
    """(n,), index of the class."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: npt.NDArray[np.int64]) -> FaceImages:
        return FaceImages(self.crops[chosen], self.labels[chosen])

    @staticmethod
    def joined(parts: Sequence[FaceImages]) -> FaceImages:
        """One set out of several, in their order."""
        return FaceImages(np.concatenate([part.crops for part in parts]), np.concatenate([p.labels for p in parts]))


def whole_face(image: Image, size: tuple[int, int]) -> Image:
    """A picture that is all face, BGR, as planes (3, rows, columns) RGB: what `Recognizer.expressions` does to it."""
    from emert_edge.face import whole_affine

    planes = crop_normalize(image, whole_affine(image.shape[:2], size), size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return np.rint(planes * 255).astype(np.uint8)


def _entries(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names, with forward slashes, and contents of all pictures, in order of name."""
    try:
        yield from _contents(path)
    except (EOFError, OSError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, EmertError):
            raise
        reason = f" ({error})" if str(error) else ""
        raise EmertError(f"{path}: cut short or damaged{reason}; fetch it again") from error


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in _ENDINGS:
                yield file.relative_to(path).as_posix(), file.read_bytes()
    elif path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if name.lower().endswith(_ENDINGS):
                    yield name, archive.read(name)
    elif path.is_file() and tarfile.is_tarfile(path):
        held: list[tuple[str, bytes]] = []
        with tarfile.open(path) as archive:
            for member in archive:  # in the archive's order: a compressed one cannot be read in another
                if member.isfile() and member.name.lower().endswith(_ENDINGS):
                    handle = archive.extractfile(member)
                    assert handle is not None
                    held.append((member.name.removeprefix("./"), handle.read()))
        yield from sorted(held)
    elif path.exists():
        raise EmertError(f"{path}: neither a folder nor a zip or tar archive of pictures")
    else:
        raise EmertError(f"{path}: there is no such folder or archive of pictures")


def _decode(path: Path, name: str, content: bytes) -> Image:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise EmertError(f"{path}: {name} is not a picture that can be read; mend or remove it")
    return np.asarray(image, np.uint8)


def _class_of(word: str, classes: Sequence[str], names: Mapping[str, str]) -> str | None:
    """The class that a label means, by its own name or by the map."""
    meant = names.get(word, names.get(word.lower(), word.lower()))
    return meant if meant in classes else None


def folder_pictures(
    path: Path, classes: Sequence[str], *, names: Mapping[str, str] | None = None
) -> Iterator[tuple[Image, str]]:
    """Yield pictures (rows, columns, 3), BGR, and their classes; see `read_face_folder`."""
    names = names or {}
    for name, content in _entries(path):
        folder = name.split("/")[-2] if "/" in name else ""
        if names.get(folder) == "":
            continue
        label = _class_of(folder, classes, names)
        if label is None:
            raise EmertError(
                f"{path}: {name}: the folder {folder!r} is no class; known are {', '.join(classes)}. "
                "Say with `names`, in a YAML description of the data, which class it is"
            )
        yield _decode(path, name, content), label


def read_face_folder(
    path: Path, classes: Sequence[str], size: tuple[int, int], *, names: Mapping[str, str] | None = None
) -> FaceImages:
    """Read pictures whose folder is their class, from a folder, a zip or a tar archive.

    Parameters
    ----------
    path : Path
        Holds `CLASS/PICTURE`, at any depth: the picture's own folder counts.
    classes : sequence of str
    size : (int, int)
        Rows and columns of the crops.
    names : mapping, optional
        Folder names to classes, where they differ; a folder mapped to "" is left out.

    Raises
    ------
    EmertError
        If the path is missing, a picture cannot be read, or a folder's name is no class.
    """
    return _crops(path, folder_pictures(path, classes, names=names), classes, size)


def table_pictures(
    table: Path,
    classes: Sequence[str],
    *,
    images: Path | None = None,
    image_column: str = "image",
    label_column: str = "emotion",
    names: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
) -> Iterator[tuple[Image, str]]:
    """Yield pictures (rows, columns, 3), BGR, and their classes; see `read_face_table`."""
    names, where = names or {}, where or {}
    rows = read_rows(table, (image_column, label_column, *where), Faults(table))
    held = dict(_entries(images)) if images is not None else {}
    for row in rows:
        if any(row.cells[column] != value for column, value in where.items()):
            continue
        word = row.cells[label_column]
        if names.get(word, names.get(word.lower())) == "":
            continue
        label = _class_of(word, classes, names)
        if label is None:
            raise EmertError(
                f"{table}: {row.place}, column {label_column!r}: {word!r} is no class; known are "
                f"{', '.join(classes)}. Say with `names`, in a YAML description of the data, which class it is"
            )
        said = row.cells[image_column]
        if images is None:
            values = np.array(said.split(), dtype="U4")
            if len(values) != 48 * 48 or not np.char.isdigit(values).all() or values.astype(int).max() > 255:
                raise EmertError(f"{table}: {row.place}, column {image_column!r}: not 48 × 48 grey values in 0–255")
            yield np.repeat(values.astype(np.uint8).reshape(48, 48, 1), 3, axis=2), label
        elif said not in held:
            raise EmertError(f"{table}: {row.place}, column {image_column!r}: {images} holds no {said}")
        else:
            yield _decode(images, said, held[said]), label


def read_face_table(
    table: Path,
    classes: Sequence[str],
    size: tuple[int, int],
    *,
    images: Path | None = None,
    image_column: str = "image",
    label_column: str = "emotion",
    names: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
) -> FaceImages:
    """Read pictures that a CSV names or holds.

    Parameters
    ----------
    table : Path
        CSV with a header. `image_column` holds a picture's name below `images`, or, as in Kaggle's `fer2013.csv`
        (column `pixels`), 48 × 48 grey values with spaces between.
    images : Path, optional
        Folder or archive of the pictures.
    names : mapping, optional
        Labels to classes, where they differ; a label mapped to "" is left out.
    where : mapping, optional
        Columns and the value that a row must have to be taken, such as `{"Usage": "Training"}`.

    Raises
    ------
    EmertError
        If a file or column is missing, a label is no class, or a picture is missing or unreadable; names the row.
    """
    pictures = table_pictures(
        table, classes, images=images, image_column=image_column, label_column=label_column, names=names, where=where
    )
    return _crops(table, pictures, classes, size)


def _crops(
    source: Path, pictures: Iterator[tuple[Image, str]], classes: Sequence[str], size: tuple[int, int]
) -> FaceImages:
    crops, labels = [], []
    for image, label in pictures:
        crops.append(whole_face(image, size))
        labels.append(classes.index(label))
    if not crops:
        raise EmertError(f"{source}: gives no pictures ({', '.join(_ENDINGS)}, or rows of a table)")
    return FaceImages(np.stack(crops), np.array(labels, np.int64))


def cached_faces(file: Path, make: Callable[[], FaceImages]) -> FaceImages:
    """What `file` holds, or what `make` gives, which is then kept there."""
    try:
        with file.open("rb") as held, np.load(held, allow_pickle=False) as stored:
            return FaceImages(stored["crops"], stored["labels"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # not there, or damaged: made anew
        made = make()
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(file.suffix + ".part")
    with aside.open("wb") as handle:
        np.savez(handle, crops=made.crops, labels=made.labels)
    aside.replace(file)
    return made


def stratified_split(
    labels: npt.NDArray[np.int64], share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices to learn from and indices held out: `share` of each class, at least one of each that has two."""
    rng = np.random.default_rng([seed, 11])
    kept, held = [], []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        count = min(max(1, round(share * len(rows))), len(rows) - 1) if share > 0 else 0
        held.append(rows[:count])
        kept.append(rows[count:])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(held))
