"""Open a gaze recording, whoever's tracker wrote it.

A format is recognised by what a file holds, never by its name. Formats that are known but not read yet are refused
by name, and so is a file that is not what its caller says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from emert_edge.errors import GazeFormatError, SourceError
from emert_edge.sources import plain_table, pupil_core, tobii_pro_lab
from emert_edge.sources.delimited_text import DelimitedText
from emert_edge.sources.gaze_recording import GazeRecording, GazeSource
from emert_edge.sources.plain_table import read_columns

__all__ = ["GAZE_FORMATS", "GazeRecording", "GazeSource", "open_gaze", "read_columns"]

_READERS: dict[str, tuple[Callable[[list[str]], bool], Callable[[DelimitedText, str], GazeRecording]]] = {
    tobii_pro_lab.VENDOR: (tobii_pro_lab.recognises, tobii_pro_lab.read),
    pupil_core.VENDOR: (pupil_core.recognises, pupil_core.read),
}
#: What `open_gaze` takes as `format`.
GAZE_FORMATS = ("auto", *_READERS, plain_table.VENDOR)

_TITLES = {
    tobii_pro_lab.VENDOR: "a Tobii Pro Lab export",
    pupil_core.VENDOR: "a Pupil Core export",
    plain_table.VENDOR: "a plain table with our names",
}
#: Formats that are recognised, to be refused by their name: columns (as patterns) that together give each away.
_UNREAD_TABLES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a Tobii Studio export", (r"RecordingTimestamp", r"GazePoint(Left|Right)?X \(\w+\)")),
    ("a Tobii Studio export", (r"RecordingTimestamp", r"StudioVersionRec|GazeEventType|ValidityLeft")),
    ("a Tobii SDK log", (r"(left|right)_gaze_point_on_display_area(_.*|\[.*)?",)),
    ("a Pupil Cloud export", (r"timestamp \[ns\]|start timestamp \[ns\]",)),
    ("a Pupil Core export of something else than gaze", (r"pupil_timestamp|base_data",)),
    ("a Gazepoint export", (r"TIME(\(.*\))?|TIMETICK.*", r"[FB]POGX")),
)
_REMEDY = "it is not read yet; export it as a plain table and say what its columns are with columns= (--gaze-columns)"


def open_gaze(
    path: str | os.PathLike[str], format: str = "auto", *, columns: Mapping[str, Any] | None = None
) -> GazeRecording:
    """Read a gaze recording.

    Samples come as they were recorded: nothing is interpolated, dropped or smoothed.

    Parameters
    ----------
    path : path
        A file, or for Pupil Core the folder that holds `gaze_positions.csv`.
    format : {"auto", "tobii_pro_lab", "pupil_core", "plain"}
        "auto" recognises the format by the file's content.
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
        If there is no such file, or it may not be read.
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
    file, name = _file_of(path)
    _refuse_binary(file)
    delimiter = None
    if columns is not None:
        delimiter = plain_table.ColumnMap.of(columns).delimiter
    table = DelimitedText(file, delimiter=delimiter)
    if columns is not None:
        return plain_table.read(table, name, _checked(columns, table))
    if format == "auto":
        for recognises, read in _READERS.values():
            if recognises(table.header):
                return read(table, name)
        if plain_table.recognises(table.header):
            return plain_table.read(table, name, plain_table.ColumnMap.of(plain_table.own_columns(table.header)))
        raise _unknown(table)
    if format == plain_table.VENDOR:
        if not plain_table.recognises(table.header):
            raise GazeFormatError(
                f"{file}: a plain table whose headers are not t_ns, x, y … needs columns= (or --gaze-columns FILE), "
                f"which says what its columns are{_looks_like(table)}"
            )
        return plain_table.read(table, name, plain_table.ColumnMap.of(plain_table.own_columns(table.header)))
    recognises, read = _READERS[format]
    if not recognises(table.header):
        raise GazeFormatError(f"{file}: this is not {_TITLES[format]}{_looks_like(table)}")
    return read(table, name)


def _file_of(path: Path) -> tuple[Path, str]:
    """The file to read, and the recording's name."""
    try:
        is_folder = path.is_dir()
        exists = is_folder or path.exists()
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: cannot be read: {error}") from None
    if not exists:
        raise SourceError(f"{path}: there is no such file or folder; check the path")
    if is_folder:
        inner = path / pupil_core.GAZE_FILE
        if inner.is_file():
            return inner, f"{path.resolve().name}/{inner.name}"
        try:
            held = sorted(entry.name for entry in path.iterdir())
        except OSError as error:
            raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from None
        if any(re.fullmatch(r"gaze ps\d+\.raw", entry) for entry in held):
            raise GazeFormatError(f"{path}: this looks like a native Neon recording; {_REMEDY}")
        if "gaze.csv" in held:
            raise GazeFormatError(f"{path}: this looks like a Pupil Cloud export; {_REMEDY}")
        raise GazeFormatError(f"{path}: a folder without {pupil_core.GAZE_FILE}; name the recording's file")
    if not path.is_file():
        raise SourceError(f"{path}: this is no ordinary file")
    if path.name == pupil_core.GAZE_FILE:
        return path, f"{path.resolve().parent.name}/{path.name}"
    return path, path.name


def _refuse_binary(file: Path) -> None:
    """Known formats that are no delimited text, by their first bytes."""
    try:
        with file.open("rb") as opened:
            start = opened.read(4096)
    except OSError as error:
        raise SourceError(f"{file}: cannot be read: {error.strerror or error}") from error
    for magic, title in (
        (b"PK\x03\x04", "an Excel workbook or an archive; save the recording as TSV"),
        (b"XDF:", f"an XDF recording; {_REMEDY}"),
        (b"\x89MCAP0\r\n", f"an MCAP recording; {_REMEDY}"),
        (b"\x1f\x8b", "a compressed file; unpack it first"),
        (b"SR_RESEARCH", "an EyeLink EDF file; convert it with SR Research's edf2asc"),
    ):
        if start.startswith(magic):
            raise GazeFormatError(f"{file}: this looks like {title}")
    if re.match(rb"\s*\*\* (CONVERTED FROM|DATE:)", start) or re.search(
        rb"^(MSG|START|SAMPLES|PRESCALER)\t", start, re.M
    ):
        raise GazeFormatError(f"{file}: this looks like an EyeLink ASC file; {_REMEDY}")


def _checked(columns: Mapping[str, Any], table: DelimitedText) -> plain_table.ColumnMap:
    return plain_table.ColumnMap.of(columns, table.header)


def _looks_like(table: DelimitedText) -> str:
    """What a table looks like instead, for a message."""
    for vendor, (recognises, _) in _READERS.items():
        if recognises(table.header):
            return f"; it looks like {_TITLES[vendor]} (format {vendor!r})"
    if plain_table.recognises(table.header):
        return f"; it looks like {_TITLES[plain_table.VENDOR]} (format {plain_table.VENDOR!r})"
    title = _unread_title(table)
    return f"; it looks like {title}" if title else ""


def _unread_title(table: DelimitedText) -> str | None:
    for title, patterns in _UNREAD_TABLES:
        if all(any(re.fullmatch(pattern, name) for name in table.header) for pattern in patterns):
            return title
    return None


def _unknown(table: DelimitedText) -> GazeFormatError:
    title = _unread_title(table)
    if title is not None:
        return GazeFormatError(f"{table.path}: this looks like {title}; {_REMEDY}")
    return GazeFormatError(plain_table.unknown_table(table))
