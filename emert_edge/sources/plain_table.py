"""Any delimited table of gaze, by a map from its columns to ours.

A map is a mapping (in Python) or a JSON object (in a file) from each column of the table that is wanted to what it
is: the name of one of `GazeSamples`' arrays, alone or with a unit::

    {
        "time": {"name": "t_ns", "unit": "ms"},
        "gx": {"name": "x", "unit": "px"},
        "gy": ["y", "px"],
        "pupil": {"name": "pupil_left", "missing": [0]},
        "size_px": [1920, 1080],
        "pupil_unit": "mm",
        "missing": ["-1", "."],
    }

The other way round, from names to columns, is understood as well: ``{"t_ns": {"column": "time", "unit": "ms"}}``.

=================================  =========================================================================
name                               units
=================================  =========================================================================
``t_ns`` (needed)                  ``"ns"`` (where nothing is said), ``"us"``, ``"ms"``, ``"s"``
``x``, ``y``, ``left_x`` …         ``"fraction"`` (where nothing is said), or ``"px"``, which needs ``size_px``
``pupil_left``, ``pupil_right``    ``"mm"``, ``"px"`` or ``"au"``, the same for both
``openness_left``, ``…_right``     as the tracker gives them
=================================  =========================================================================

Beside the columns a map may hold:

- ``"size_px"``: [width, height] of the screen or scene.
- ``"origin"``: ``"top-left"`` (where nothing is said) or ``"bottom-left"``.
- ``"space"``: ``"screen"`` or ``"scene"``; ``"pupil_unit"``; ``"clock"``: as in `GazeSamples`.
- ``"missing"``: cells that mean "no value" beside empty ones and NaN, as a list of numbers or texts; here for all
  columns, in a column's own entry for that one.
- ``"valid"``: columns that say whether values hold, as ``{"val_left": {"values": ["1"], "of": ["left_x", "left_y"]}}``;
  where the cell is none of the values, those named in ``of`` (all, where it is left out) are missing.
- ``"delimiter"``: where it is neither tab, semicolon nor comma.

A table whose own headers are such names (``t_ns``, ``x``, ``y`` …) needs no map.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emert_edge.errors import GazeFormatError, SourceError
from emert_edge.eye.samples import ARRAY_NAMES, GazeSamples
from emert_edge.sources.delimited_text import Block, Table, listed
from emert_edge.sources.gaze_recording import GazeRecording, measured, require_plausible_rate

__all__ = ["TITLE", "VENDOR", "ColumnMap", "own_columns", "read", "read_columns", "recognises"]

VENDOR = "plain"
TITLE = "a plain table with our names"

NAMES = ("t_ns", *ARRAY_NAMES)
_OPTIONS = ("size_px", "origin", "space", "pupil_unit", "clock", "missing", "valid", "delimiter")
_TIME_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_PUPILS = ("pupil_left", "pupil_right")
_OPENNESS = ("openness_left", "openness_right")
_UNITS: dict[str, tuple[str, ...]] = {
    "t_ns": ("ns", "us", "ms", "s"),
    **dict.fromkeys(_PUPILS, ("mm", "px", "au")),
    **dict.fromkeys(_OPENNESS, ()),
}
_POINT_UNITS = ("fraction", "px")
_POINTS = ("x", "y", "left_x", "left_y", "right_x", "right_y")

LARGEST_MEDIAN_FRACTION = 4.0
"""Beyond so many screens nobody's gaze has its middle."""


@dataclass(frozen=True)
class _Column:
    """One line of a map. `title` is the table's column, `name` the array it becomes."""

    title: str
    name: str
    unit: str | None
    missing: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Validity:
    title: str
    values: frozenset[str]
    of: tuple[str, ...]


@dataclass(frozen=True)
class ColumnMap:
    """A checked map. `ColumnMap.of` makes one from what a caller gives."""

    columns: tuple[_Column, ...]
    size_px: tuple[int, int] | None = None
    origin: str = "top-left"
    space: str | None = None
    pupil_unit: str | None = None
    clock: str | None = None
    missing: frozenset[str] = frozenset()
    valid: tuple[_Validity, ...] = field(default=())
    delimiter: str | None = None

    @classmethod
    def of(cls, columns: Mapping[str, Any], header: list[str] | None = None) -> ColumnMap:
        """Check a map, for a table with this header where it is known.

        Raises
        ------
        TypeError, ValueError
            If the map itself is wrong; the message names the entry.
        """
        if not isinstance(columns, Mapping):
            raise TypeError(f"columns must be a mapping, not {type(columns).__name__}")
        entries: dict[str, Any] = {}
        options: dict[str, Any] = {}
        for key, value in columns.items():
            if not isinstance(key, str):
                raise TypeError(f"columns: keys must be strings, not {key!r}")
            is_option = key in _OPTIONS and not (isinstance(value, str) and value in NAMES)
            (options if is_option else entries)[key] = value
        found = _directed(entries, header)
        names = [column.name for column in found]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"columns: {name!r} is given more than once")
        if "t_ns" not in names:
            raise ValueError("columns: no column is given for 't_ns', the times")
        if not any({f"{eye}x", f"{eye}y"} <= set(names) for eye in ("", "left_", "right_")):
            raise ValueError("columns: no point of gaze: 'x' and 'y' (or those of an eye) must be given")
        for column in found:
            allowed = _UNITS.get(column.name, _POINT_UNITS)
            if column.unit is not None and allowed and column.unit not in allowed:
                raise ValueError(f"columns: {column.name!r} comes in {' or '.join(allowed)}, not {column.unit!r}")
        made = cls(tuple(found), **_options(options))
        if made.size_px is None and any(column.name in ARRAY_NAMES[:6] and column.unit == "px" for column in found):
            raise ValueError("columns: points in px need 'size_px', the width and height they are pixels of")
        pupil_units = {column.unit for column in found if column.name in _PUPILS and column.unit} | (
            {made.pupil_unit} if made.pupil_unit else set()
        )
        if len(pupil_units) > 1:
            raise ValueError(f"columns: pupils have one unit, not {' and '.join(sorted(pupil_units))}")
        return made


def _directed(entries: Mapping[str, Any], header: list[str] | None) -> list[_Column]:
    """The entries as columns, whichever way round the map is written."""
    readings, faults = [], []
    for inner, by_column in (("name", True), ("column", False)):
        try:
            pairs = [(key, *_entry(key, value, inner)) for key, value in entries.items()]
        except ValueError as error:
            faults.append(error)
            continue
        read = [
            _Column(key, other, unit, absent) if by_column else _Column(other, key, unit, absent)
            for key, other, unit, absent in pairs
        ]
        unknown = next((column for column in read if column.name not in NAMES), None)
        if unknown is None:
            readings.append(read)
        else:
            faults.append(ValueError(f"columns: {unknown.name!r} is none of {', '.join(NAMES)}"))
    if not readings:
        raise faults[0]
    if header is not None and len(readings) > 1:
        fitting = [read for read in readings if all(column.title in header for column in read)]
        readings = fitting or readings
    if len(readings) > 1 and readings[0] != readings[1] and header is not None:
        raise ValueError("columns: it cannot be told which are the table's columns; write {'column': …} entries")
    return readings[0]


def _entry(key: str, value: Any, inner: str) -> tuple[str, str | None, frozenset[str]]:
    """What a key is mapped to, its unit, and the cells that mean "no value" in this column."""
    unit: Any = None
    missing: frozenset[str] = frozenset()
    if isinstance(value, str):
        other: Any = value
    elif isinstance(value, Mapping):
        if inner not in value or not set(value) <= {inner, "unit", "missing"}:
            raise ValueError(
                f"columns: the entry {key!r} must hold 'name' (or 'column'), and may hold 'unit' and 'missing'"
            )
        other, unit = value[inner], value.get("unit")
        missing = _cells(value.get("missing"), f"'missing' of {key!r}")
    elif isinstance(value, (list, tuple)) and len(value) == 2:
        other, unit = value
    else:
        raise ValueError(f"columns: the entry {key!r} must be a name, a [name, unit] pair or an object, not {value!r}")
    if not isinstance(other, str) or not isinstance(unit, (str, type(None))):
        raise ValueError(f"columns: in the entry {key!r} name and unit must be strings")
    if unit is not None:
        unit = unit.strip().replace("\u03bc", "u").replace("\u00b5", "u")  # Greek mu, micro sign
    return other, unit, missing


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, choices in (
        ("origin", ("top-left", "bottom-left")),
        ("space", ("screen", "scene")),
        ("pupil_unit", ("mm", "px", "au")),
    ):
        if options.get(key) is not None:
            if options[key] not in choices:
                raise ValueError(f"columns: {key!r} must be {' or '.join(map(repr, choices))}, not {options[key]!r}")
            made[key] = options[key]
    for key in ("clock", "delimiter"):
        if options.get(key) is not None:
            if not isinstance(options[key], str):
                raise ValueError(f"columns: {key!r} must be a string, not {options[key]!r}")
            made[key] = options[key]
    if (
        len(made.get("delimiter", ",")) != 1
        or made.get("delimiter", ",") in '"\r\n'
        or not made.get("delimiter", ",").isascii()
    ):
        raise ValueError(f"columns: 'delimiter' must be one ASCII character, not {made['delimiter']!r}")
    size = options.get("size_px")
    if size is not None:
        if (
            not isinstance(size, (list, tuple))
            or len(size) != 2
            or not all(
                isinstance(side, (int, float)) and not isinstance(side, bool) and 1 <= side < 1e9 for side in size
            )
        ):
            raise ValueError(f"columns: 'size_px' must be [width, height], not {size!r}")
        made["size_px"] = (round(size[0]), round(size[1]))
    made["missing"] = _cells(options.get("missing"), "'missing'")
    valid = options.get("valid")
    if valid is not None:
        made["valid"] = tuple(_validities(valid))
    return made


def _cells(missing: Any, what: str) -> frozenset[str]:
    """Cells that mean "no value", from one or a list of them."""
    cells = [] if missing is None else [missing] if isinstance(missing, (str, int, float)) else missing
    if not isinstance(cells, (list, tuple)) or not all(isinstance(cell, (str, int, float)) for cell in cells):
        raise ValueError(f"columns: {what} must be a list of cells, not {missing!r}")
    return frozenset(str(cell).strip() for cell in cells)


def _validities(valid: Any) -> list[_Validity]:
    if not isinstance(valid, Mapping):
        raise ValueError(f"columns: 'valid' must be an object, not {valid!r}")
    found = []
    for title, rule in valid.items():
        values = rule.get("values") if isinstance(rule, Mapping) else None
        of = rule.get("of", list(ARRAY_NAMES)) if isinstance(rule, Mapping) else None
        if (
            not isinstance(values, (list, tuple))
            or not isinstance(of, (list, tuple))
            or not all(name in ARRAY_NAMES for name in of)
        ):
            raise ValueError(
                f"columns: 'valid' of {title!r} must be {{'values': [cells], 'of': [names]}}, not {rule!r}"
            )
        found.append(_Validity(str(title), frozenset(str(value).strip() for value in values), tuple(of)))
    return found


def read_columns(path: str | Path) -> dict[str, Any]:
    """Read a map from a JSON file, and check it.

    Raises
    ------
    SourceError
        If the file cannot be read (`GazeFormatError`: is no such map); the message names the file.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise GazeFormatError(f"{path}: a column map must be a JSON text in UTF-8") from None
    try:
        columns = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise GazeFormatError(f"{path}: not JSON: {error}") from None
    if not isinstance(columns, dict):
        raise GazeFormatError(f"{path}: a column map is a JSON object")
    try:
        ColumnMap.of(columns)
    except (TypeError, ValueError) as error:
        raise GazeFormatError(f"{path}: {error}") from None
    return columns


def recognises(header: list[str]) -> bool:
    """Whether a table's own headers are names of ours."""
    held = set(header)
    return "t_ns" in held and any({f"{eye}x", f"{eye}y"} <= held for eye in ("", "left_", "right_"))


def own_columns(header: list[str]) -> dict[str, str]:
    """The map of a table whose headers are names of ours."""
    return {title: title for title in header if title in NAMES}


def read(table: Table, name: str, columns: ColumnMap) -> GazeRecording:
    """Read a table by a map.

    Raises
    ------
    GazeFormatError
        If a column is not there or a cell cannot be read.
    """
    places = {column: table.column(column.title) for column in columns.columns}
    validity = {rule: table.column(rule.title) for rule in columns.valid}
    wanted = sorted({*places.values(), *validity.values()})
    time = next(column for column in columns.columns if column.name == "t_ns")
    pupil_unit = columns.pupil_unit or next(
        (column.unit for column in columns.columns if column.name in _PUPILS and column.unit), None
    )
    clock = columns.clock or f"file:{name}"
    labels: dict[str, Any] = {
        "pupil_unit": pupil_unit,
        "space": columns.space,
        "size_px": columns.size_px,
        "clock": clock,
    }
    samples = GazeSamples.concatenate(
        GazeSamples(**_arrays(block, places, validity, columns), **labels) for block in table.blocks(wanted)
    )
    if not len(samples):
        raise GazeFormatError(f"{table.path}: the table holds no gaze samples")
    require_plausible_rate(samples, time.unit or "ns", f"{table.path}, column {time.title!r}")
    for column in columns.columns:
        if column.name in _POINTS and column.unit in (None, "fraction"):
            _require_fractions(getattr(samples, column.name), f"{table.path}, column {column.title!r}")
    metadata = {
        "columns": {column.title: column.name for column in columns.columns},
        "units": {column.name: column.unit for column in columns.columns if column.unit},
        "unused_columns": [title for title in table.header if title not in {c.title for c in columns.columns}],
        "time_unit": time.unit or "ns",
        "encoding": table.encoding,
        "rows_skipped": {},
        **measured(samples),
    }
    return GazeRecording(samples, VENDOR, name, None, metadata)


def _arrays(
    block: Block, places: Mapping[_Column, int], validity: Mapping[_Validity, int], columns: ColumnMap
) -> dict[str, Any]:
    arrays: dict[str, npt.NDArray[Any]] = {}
    for column, place in places.items():
        if column.name == "t_ns":
            arrays["t_ns"] = block.times_ns(place, _TIME_NS[column.unit or "ns"])
            continue
        values = block.numbers(place, columns.missing | column.missing)
        axis = column.name[-1]
        if axis in "xy":
            if column.unit == "px" and columns.size_px is not None:
                values = values / columns.size_px["xy".index(axis)]
            if axis == "y" and columns.origin == "bottom-left":
                values = 1.0 - values
        arrays[column.name] = values
    for rule, place in validity.items():
        cells = block.text(place)
        words = {cell: block.decoded(cell) in rule.values for cell in np.unique(cells).tolist()}
        invalid = np.array([not words[cell] for cell in cells.tolist()], dtype=np.bool_)
        for name in rule.of:
            if name in arrays:
                arrays[name][invalid] = np.nan
    return arrays


def _require_fractions(values: npt.NDArray[Any], where: str) -> None:
    """Refuse points that were written in pixels and read as fractions: they would be wrong without a word."""
    finite = np.abs(values[np.isfinite(values)])
    if finite.size and float(np.median(finite)) > LARGEST_MEDIAN_FRACTION:
        raise GazeFormatError(
            f"{where}: read as fractions of the screen, half of the points lie beyond "
            f"{LARGEST_MEDIAN_FRACTION:g} screens; they are probably pixels: give the column the unit px, and "
            "the table its size_px"
        )


def unknown_table(table: Table) -> str:
    """What to say of a table that no reader knows."""
    return (
        f"{table.path}: no known gaze recording: its columns are {listed(table.header)}; a plain table opens with "
        "columns= (or --gaze-columns FILE), which says what its columns are"
    )
