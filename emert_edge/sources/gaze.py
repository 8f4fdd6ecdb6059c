"""Open a gaze recording, whoever's tracker wrote it.

A format is recognised by what a file holds, never by its name. What is known to be something else than a gaze
recording is refused by name, and so is a file that is not what its caller says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from emert_edge.errors import GazeFormatError, SourceError
from emert_edge.sources import (
    eyelink_asc,
    gazepoint,
    neon_native,
    plain_table,
    pupil_cloud,
    pupil_core,
    tobii_pro_lab,
    tobii_sdk,
    tobii_studio,
    xdf,
)
from emert_edge.sources.delimited_text import DelimitedText, Table
from emert_edge.sources.gaze_recording import GazeRecording, GazeSource
from emert_edge.sources.plain_table import read_columns
from emert_edge.sources.text_lines import first_bytes
from emert_edge.sources.workbook import Workbook, is_workbook

__all__ = ["GAZE_FORMATS", "GazeRecording", "GazeSource", "open_gaze", "read_columns"]


class _Reader(Protocol):
    """A vendor's module."""

    VENDOR: str
    TITLE: str


class _TableReader(_Reader, Protocol):
    """One whose recordings are tables, known by their headers."""

    def recognises(self, header: list[str]) -> bool: ...

    def read(self, table: Table, name: str) -> GazeRecording: ...


class _FileReader(_Reader, Protocol):
    """One whose recordings are files of another kind, known by how they begin."""

    def recognises(self, start: bytes) -> bool: ...

    def read(self, path: Path, name: str) -> GazeRecording: ...


class _FolderReader(_Reader, Protocol):
    """One whose recordings are folders, known by what lies in them."""

    def recognises(self, folder: Path) -> bool: ...

    def read(self, path: Path, name: str) -> GazeRecording: ...


_TABLES: tuple[_TableReader, ...] = (tobii_pro_lab, tobii_studio, pupil_core, pupil_cloud, gazepoint, tobii_sdk)
_FILES: tuple[_FileReader, ...] = (eyelink_asc, xdf)
_FOLDERS: tuple[_FolderReader, ...] = (neon_native,)
_READERS: dict[str, _Reader] = {reader.VENDOR: reader for reader in (*_TABLES, *_FILES, *_FOLDERS)}
#: What `open_gaze` takes as `format`.
GAZE_FORMATS = ("auto", *_READERS, plain_table.VENDOR)

#: Tables that lie in a folder under a name of their own.
_FILES_OF_FOLDERS = (pupil_core.GAZE_FILE, pupil_cloud.GAZE_FILE)
#: Files that are a part of a folder's recording and say nothing alone, by the ends of their names.
_PARTS_OF_FOLDERS = (".raw", ".time")
#: Tables of something else than gaze, to be refused by name: columns (as patterns) that together give each away.
_OTHER_TABLES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        f"a Pupil Core export of something else than gaze; open its {pupil_core.GAZE_FILE}",
        (r"pupil_timestamp|base_data",),
    ),
    (
        f"a Pupil Cloud export of something else than gaze; open its {pupil_cloud.GAZE_FILE}",
        (r"timestamp \[ns\]|start timestamp \[ns\]",),
    ),
)


def open_gaze(
    path: str | os.PathLike[str], format: str = "auto", *, columns: Mapping[str, Any] | None = None
) -> GazeRecording:
    """Read a gaze recording.

    Samples come as they were recorded: nothing is interpolated, dropped or smoothed.

    Parameters
    ----------
    path : path
        A file (text may be packed with gzip), or the folder that a vendor's recording is.
    format : str
        One of `GAZE_FORMATS`; "auto" recognises the format by the file's content.
    columns : mapping, optional
        For a plain table: what its columns are (`emert_edge.sources.plain_table` has the schema).

    Returns
    -------
    GazeRecording
        With `samples` in the file's order, `vendor`, `rate_hz`, `clock`, `events`, `metadata`.

    Raises
    ------
    GazeFormatError
        If it is in no known format or not in the one named, or a part of it cannot be read: with file, line, column.
    SourceError
        If there is no such file, it may not be read, or what reads it is not installed.
    ValueError, TypeError
        For an unknown `format` or a wrong map.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = pathlib.Path(folder, "gaze.csv")
    ...     _ = table.write_text("ms,gx,gy\\n0,960,540\\n4,960,270\\n8,,\\n")
    ...     recording = open_gaze(
    ...         table, columns={"ms": ["t_ns", "ms"], "gx": ["x", "px"], "gy": ["y", "px"], "size_px": [1920, 1080]}
    ...     )
    >>> recording.samples.t_ns.tolist(), recording.samples.y.tolist(), recording.rate_hz
    ([0, 4000000, 8000000], [0.5, 0.25, nan], 250.0)
    """
    if format not in GAZE_FORMATS:
        raise ValueError(f"format must be one of {', '.join(GAZE_FORMATS)}, not {format!r}")
    if columns is not None and format not in ("auto", plain_table.VENDOR):
        raise ValueError(f"columns belong to plain tables; format {format!r} knows its own")
    path = Path(path)
    if path.suffix in _PARTS_OF_FOLDERS and any(reader.recognises(path.parent) for reader in _FOLDERS):
        path = path.parent
    if _is_folder(path):
        for folder_reader in _FOLDERS:
            if folder_reader.recognises(path):
                _require(folder_reader, format, path)
                return folder_reader.read(path, path.resolve().name)
        path = _file_in(path)
    elif not path.is_file():
        raise SourceError(f"{path}: this is no ordinary file")
    name = f"{path.resolve().parent.name}/{path.name}" if path.name in _FILES_OF_FOLDERS else path.name
    start = first_bytes(path)
    for file_reader in _FILES:
        if file_reader.recognises(start):
            _require(file_reader, format, path)
            return file_reader.read(path, name)
    table = _table(path, start, columns)
    if columns is not None:
        return plain_table.read(table, name, plain_table.ColumnMap.of(columns, table.header))
    for table_reader in _TABLES:
        if table_reader.recognises(table.header):
            _require(table_reader, format, path)
            return table_reader.read(table, name)
    if plain_table.recognises(table.header):
        _require(plain_table, format, path)
        return plain_table.read(table, name, plain_table.ColumnMap.of(plain_table.own_columns(table.header)))
    raise _unknown(table, format)


def _require(reader: _Reader, format: str, path: Path) -> None:
    """Refuse a recording of one vendor that is said to be another's."""
    if format in ("auto", reader.VENDOR):
        return
    told = f"it looks like {reader.TITLE} (format {reader.VENDOR!r})"
    if format == plain_table.VENDOR:
        raise GazeFormatError(f"{path}: {_NO_PLAIN_TABLE}; {told}")
    raise GazeFormatError(f"{path}: this is not {_title(format)}; {told}")


_NO_PLAIN_TABLE = (
    "a plain table whose headers are not t_ns, x, y … needs columns= (or --gaze-columns FILE), which says what its "
    "columns are"
)


def _title(format: str) -> str:
    return plain_table.TITLE if format == plain_table.VENDOR else _READERS[format].TITLE


def _is_folder(path: Path) -> bool:
    try:
        is_folder = path.is_dir()
        exists = is_folder or path.exists()
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: cannot be read: {error}") from None
    if not exists:
        raise SourceError(f"{path}: there is no such file or folder; check the path")
    return is_folder


def _file_in(folder: Path) -> Path:
    """The recording's table in a folder."""
    try:
        held = {entry.name for entry in folder.iterdir()}
    except OSError as error:
        raise SourceError(f"{folder}: cannot be read: {error.strerror or error}") from None
    for name in _FILES_OF_FOLDERS:
        if name in held and (folder / name).is_file():
            return folder / name
    raise GazeFormatError(f"{folder}: a folder without {' or '.join(_FILES_OF_FOLDERS)}; name the recording's file")


def _table(path: Path, start: bytes, columns: Mapping[str, Any] | None) -> Table:
    """A file's table; known formats that are none are refused by their first bytes."""
    if start.startswith(b"PK\x03\x04"):
        if is_workbook(path):
            return Workbook(path)
        raise GazeFormatError(f"{path}: this looks like an archive; unpack it first")
    for magic, title in (
        (b"\x89MCAP0\r\n", "an MCAP recording of a whole session; run(session=…) replays it (run --session)"),
        (b"SR_RESEARCH", "an EyeLink EDF file; convert it with SR Research's edf2asc"),
    ):
        if start.startswith(magic):
            raise GazeFormatError(f"{path}: this looks like {title}")
    return DelimitedText(path, delimiter=None if columns is None else plain_table.ColumnMap.of(columns).delimiter)


def _unknown(table: Table, format: str) -> GazeFormatError:
    """What to say of a table that no reader knows."""
    like = ""
    for title, patterns in _OTHER_TABLES:
        if all(any(re.fullmatch(pattern, name) for name in table.header) for pattern in patterns):
            like = f"this looks like {title}"
            break
    if format == plain_table.VENDOR:
        return GazeFormatError(f"{table.path}: {_NO_PLAIN_TABLE}{like and f'; {like}'}")
    if format != "auto":
        return GazeFormatError(f"{table.path}: this is not {_title(format)}{like and f'; {like}'}")
    if like:
        return GazeFormatError(f"{table.path}: {like}")
    return GazeFormatError(plain_table.unknown_table(table))
