"""Tables that people write (CSV, Parquet, Excel), cell by cell, with the place of every cell that is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emert_edge.errors import EmertError

__all__ = ["Faults", "TableRow", "TextTable", "label_map", "read_rows", "read_text_table"]

_MOST_TOLD = 10


@dataclass
class Faults:
    """All that is wrong with a source, told at once instead of one fault a run."""

    origin: Path
    texts: list[str] = field(default_factory=list)

    def add(self, text: str | None) -> None:
        """Note a fault, if it is one; the text says where."""
        if text is not None:
            self.texts.append(text)

    def settle(self) -> None:
        """Raise `EmertError` if there are faults, with the first ten of them."""
        if self.texts:
            more = len(self.texts) - _MOST_TOLD
            told = "; ".join(self.texts[:_MOST_TOLD]) + (f"; and {more} more" if more > 0 else "")
            raise EmertError(f"{self.origin}: {told}")


@dataclass(frozen=True)
class TextTable:
    """A table as text: empty cells are "", whole numbers have no decimals."""

    path: Path
    columns: tuple[str, ...]
    lines: tuple[int, ...]
    """Where each row stands in the file, counted from 1; the header has its own line."""
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class TableRow:
    """One row, read cell by cell; what is wrong with a cell goes to `faults`, and the cell counts as unknown."""

    place: str
    cells: Mapping[str, str]
    faults: Faults

    def fault(self, column: str, text: str) -> None:
        """Note what is wrong with this row's cell."""
        self.faults.add(f"{self.place}, column {column!r}: {text}")

    def word(self, column: str) -> str | None:
        """A cell's text; None where it is empty or there is no such column."""
        return self.cells.get(column) or None

    def number(self, column: str, low: float = -math.inf, high: float = math.inf) -> float:
        """A cell's number, in [low, high]; NaN where it is unknown."""
        text = self.word(column)
        if text is None:
            return math.nan
        try:
            value = float(text.replace(",", ".") if "." not in text else text)
        except ValueError:
            self.fault(column, f"{text!r} is not a number")
            return math.nan
        if math.isinf(value) or not (math.isnan(value) or low <= value <= high):
            self.fault(column, f"{text} lies outside [{low:g}, {high:g}]")
            return math.nan
        return value

    def label(self, column: str, classes: Sequence[str], labels: Mapping[str, str]) -> int:
        """A cell's class by its own name or by the map, upper and lower case alike; -1 where it is unknown."""
        text = self.word(column)
        meant = None if text is None else labels.get(text.lower(), text.lower())
        if not meant:
            return -1
        if meant not in classes:
            known = ", ".join(classes)
            self.fault(column, f"{text!r} is no class; known are {known}: say with `labels` which one it is")
            return -1
        return classes.index(meant)

    def file(self, column: str, base: Path) -> Path | None:
        """A cell's path, relative to `base`; None where it is empty or nothing lies there."""
        text = self.word(column)
        if text is None:
            return None
        path = base / text
        if not path.exists():
            self.fault(column, f"there is no such file or folder: {path}")
            return None
        return path


def label_map(labels: Mapping[Any, str], classes: Sequence[str], origin: str) -> dict[str, str]:
    """A map of labels to classes as `TableRow.label` takes it; "" leaves a label unknown.

    Raises
    ------
    EmertError
        If a label is mapped to something that is no class.
    """
    made = {str(label).strip().lower(): name.strip().lower() for label, name in labels.items()}
    for label, name in made.items():
        if name and name not in classes:
            raise EmertError(f"{origin}: labels: {label!r} is mapped to {name!r}, no class out of {', '.join(classes)}")
    return made


def read_text_table(path: Path, sheet: str | int = 0) -> TextTable:
    """Read a CSV (comma, semicolon or tab), a Parquet file or an Excel workbook's sheet.

    Raises
    ------
    EmertError
        If the file is missing, is no such table, holds no row, or two of its columns have one name.
    """
    import pandas

    if not path.is_file():
        raise EmertError(f"{path}: there is no such table")
    try:
        if path.suffix.lower() == ".parquet":
            frame = pandas.read_parquet(path)
            head, body, first = list(frame.columns), frame.itertuples(index=False, name=None), 1
        else:
            if path.suffix.lower() in (".xlsx", ".xlsm"):
                frame = pandas.read_excel(path, sheet_name=sheet, header=None, dtype=object, keep_default_na=False)
            else:
                with path.open(encoding="utf-8-sig") as file:
                    start = file.readline()
                frame = pandas.read_csv(
                    path, sep=max(",;\t", key=start.count), header=None, dtype=str, keep_default_na=False,
                    skip_blank_lines=False, encoding="utf-8-sig",
                )  # fmt: skip
            body, first = frame.itertuples(index=False, name=None), 2
            head = list(next(body, ()))
    except Exception as error:  # pandas and its readers raise a dozen kinds
        raise EmertError(f"{path}: not readable as a table ({' '.join(str(error).split())})") from error
    columns = tuple(_text(name) for name in head)
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise EmertError(f"{path}: two columns are called {twice[0]!r}")
    texts = ((line, tuple(map(_text, row))) for line, row in enumerate(body, start=first))
    held = [(line, row) for line, row in texts if any(row)]
    if not held:
        raise EmertError(f"{path}: holds no rows")
    lines, rows = zip(*held, strict=True)
    return TextTable(path, columns, lines, rows)


def read_rows(path: Path, needed: Sequence[str], faults: Faults, sheet: str | int = 0) -> list[TableRow]:
    """Read a table row by row.

    Raises
    ------
    EmertError
        As `read_text_table`, or if a needed column is missing.
    """
    table = read_text_table(path, sheet)
    for column in needed:
        if column not in table.columns:
            raise EmertError(f"{path}: column {column!r} is missing; it has {', '.join(filter(None, table.columns))}")
    word = "row" if path.suffix.lower() == ".parquet" else "line"
    where = "" if path == faults.origin else f"{path.name}, "
    return [
        TableRow(f"{where}{word} {line}", dict(zip(table.columns, row, strict=True)), faults)
        for line, row in zip(table.lines, table.rows, strict=True)
    ]


def _text(value: Any) -> str:
    """A cell as text; what Excel and Parquet hold as a float is a whole number where it has no decimals."""
    if value is None or value != value:  # NaN, NaT
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()
