"""Delimited text (TSV, CSV) read by column, block by block, with the place of every cell that cannot be read.

The common case (no quotes) never makes a Python object a cell: the compiled core finds where the cells of the columns
that are asked for begin and end, and reads those that are plain numbers or times. All others are judged here, one by
one, by the text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from emert_edge import _core
from emert_edge.errors import GazeFormatError
from emert_edge.sources.text_lines import TextLines

__all__ = ["Block", "Cells", "DelimitedText", "Table", "Titled", "column_of", "listed"]

BytesArray = npt.NDArray[np.bytes_]
Offsets = npt.NDArray[np.int32]

_WIDEST_NUMBER = 64  # bytes; the longest that a tracker writes has 24
_QUOTED_ROWS = 8192


class Titled(Protocol):
    """What cells come from, as messages name it."""

    @property
    def path(self) -> Path: ...

    @property
    def header(self) -> list[str]: ...

    @property
    def encoding(self) -> str: ...


class Table(Titled, Protocol):
    """What holds cells in rows and columns: delimited text, or a workbook's sheet."""

    def column(self, name: str) -> int: ...

    def blocks(self, places: Sequence[int]) -> Iterator[Block]: ...


class DelimitedText:
    """One delimited text file.

    Encoding (UTF-8, UTF-16, UTF-32 by their marks; UTF-16 also without; a Western code page where the header is no
    UTF-8) and delimiter (tab, semicolon, comma) are found from the file itself.

    Attributes
    ----------
    path : Path
        The file.
    header : list of str
        Names of the columns, as they stand in the first line that is not blank.
    encoding, delimiter : str
        What was found.
    """

    def __init__(self, path: Path, *, delimiter: str | None = None) -> None:
        self.path = path
        self._lines = TextLines(path)
        raw = next(self._lines.blocks(), None)
        if raw is None:
            raise GazeFormatError(f"{path}: the file holds no text")
        text, self._header_line = raw
        header = text.lstrip(b"\n").split(b"\n", 1)[0]
        self._header_line += len(text) - len(text.lstrip(b"\n"))
        self._raw_header = header
        if b"\0" in header:
            raise GazeFormatError(f"{path}, line {self._header_line}: NUL bytes; the file is damaged or not text")
        try:
            line = header.decode("utf-8")
        except UnicodeDecodeError:
            self._lines.encoding = "cp1252"
            line = header.decode("cp1252", errors="replace")
        self.delimiter = delimiter or max("\t;,", key=line.count)
        self.header = self._split_header(line)

    @property
    def encoding(self) -> str:
        """The text's encoding, as found."""
        return self._lines.encoding

    def _split_header(self, line: str) -> list[str]:
        if '"' in line and self.delimiter != "\t":
            try:
                cells = next(csv.reader([line], delimiter=self.delimiter, strict=True))
            except csv.Error as error:
                place = f"{self.path}, line {self._header_line}"
                raise GazeFormatError(f"{place}: the header cannot be read: {error}") from None
        else:
            cells = [_unquoted(cell) for cell in line.split(self.delimiter)]
        return [cell.strip() for cell in cells]

    def column(self, name: str) -> int:
        """The place of the column of this name.

        Raises
        ------
        GazeFormatError
            If there is none, or more than one.
        """
        return column_of(self, name)

    def blocks(self, places: Sequence[int]) -> Iterator[Block]:
        """The rows after the header, a block at a time, with the cells of the columns at `places`.

        Raises
        ------
        GazeFormatError
            For a row with too few or too many cells, NUL bytes, an unclosed quote, an endless line; with the line.
        """
        blocks = self._lines.blocks()
        for text, line in blocks:
            if line == 1:  # the block with the header
                skip = len(text) - len(text.lstrip(b"\n"))
                end = text.find(b"\n", skip)
                text = text[end + 1 :] if end >= 0 else b""
                line = self._header_line + 1
            if not text:
                continue
            self._refuse(text, line)
            if b'"' in text and self.delimiter != "\t":
                # From here on every quote counts, wherever blocks end.
                yield from self._quoted(text, blocks, line, places)
                return
            block = self._plain(text, line, places)
            if block is not None:
                yield block

    def _refuse(self, text: bytes, line: int) -> None:
        """What no row may hold: NUL bytes, and the header again."""
        if b"\0" in text:
            at = line + text[: text.index(b"\0")].count(b"\n")
            raise GazeFormatError(f"{self.path}, line {at}: NUL bytes; the file is damaged")
        again = -1 if text.startswith(self._raw_header + b"\n") else text.find(b"\n" + self._raw_header + b"\n")
        if again >= 0 or text.startswith(self._raw_header + b"\n"):
            at = line + text[: again + 1].count(b"\n")
            raise GazeFormatError(f"{self.path}, line {at}: the header again; are these two recordings in one file?")

    def _ragged(self, line: int, cells: int, last: bool) -> GazeFormatError:
        hint = "; the file seems to be cut off" if last and cells < len(self.header) else ""
        return GazeFormatError(f"{self.path}, line {line}: {cells} cells where the header has {len(self.header)}{hint}")

    def _plain(self, text: bytes, first_line: int, places: Sequence[int]) -> Block | None:
        wanted = sorted(set(places))
        quoted = b'"' in text
        count, lines, begin, end, wrong = _core.text_rows(text, self.delimiter, len(self.header), wanted, quoted)
        if wrong is not None:
            line, found, unfinished = wrong
            raise self._ragged(first_line + line, found, unfinished)
        if not count:
            return None
        cells = {place: Cells(text, begin[row, :count], end[row, :count]) for row, place in enumerate(wanted)}
        return Block(self, first_line + lines[:count], cells)

    def _quoted(
        self, text: bytes, blocks: Iterator[tuple[bytes, int]], first_line: int, places: Sequence[int]
    ) -> Iterator[Block]:
        encoding = "cp1252" if self.encoding == "cp1252" else "utf-8"

        def lines() -> Iterator[str]:
            yield from io.StringIO(text.decode(encoding, errors="replace"), newline="\n")
            for more, line in blocks:
                self._refuse(more, line)
                yield from io.StringIO(more.decode(encoding, errors="replace"), newline="\n")

        reader = csv.reader(lines(), delimiter=self.delimiter, strict=True)
        rows: list[list[str]] = []
        numbers: list[int] = []
        begin = 1
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                place = f"{self.path}, line {first_line + begin - 1}"
                raise GazeFormatError(f"{place}: the row that begins here cannot be read: {error}") from None
            if row:
                if len(row) != len(self.header):
                    raise self._ragged(first_line + begin - 1, len(row), False)
                rows.append([row[place] for place in places])
                numbers.append(first_line + begin - 1)
            begin = reader.line_num + 1
            if rows and (row is None or len(rows) >= _QUOTED_ROWS):
                cells = {
                    place: Cells.of([held[column].encode() for held in rows]) for column, place in enumerate(places)
                }
                yield Block(self, np.array(numbers, dtype=np.int64), cells)
                rows, numbers = [], []
            if row is None:
                return


class Cells(NamedTuple):
    """A column's cells: each is the bytes [begin, end) of a text."""

    text: bytes
    begin: Offsets
    end: Offsets

    @classmethod
    def of(cls, cells: Sequence[bytes]) -> Cells:
        """Cells that are there one by one."""
        ends = np.fromiter(accumulate(map(len, cells)), dtype=np.int32, count=len(cells))
        begins = np.zeros_like(ends)
        begins[1:] = ends[:-1]
        return cls(b"".join(cells), begins, ends)

    def cell(self, row: int) -> bytes:
        """One of them."""
        return self.text[self.begin[row] : self.end[row]]


class Block:
    """Some rows of a table: the cells of the columns that were asked for.

    Attributes
    ----------
    lines : ndarray, shape (n,), int64
        The line of the file on which each row begins.
    """

    def __init__(self, table: Titled, lines: npt.NDArray[np.int64], cells: Mapping[int, Cells]) -> None:
        self.table = table
        self.lines = lines
        self._cells = cells

    def __len__(self) -> int:
        return int(self.lines.shape[0])

    def taken(self, chosen: npt.NDArray[np.bool_]) -> Block:
        """The rows that are chosen."""
        if chosen.all():
            return self
        cells = {place: Cells(text, begin[chosen], end[chosen]) for place, (text, begin, end) in self._cells.items()}
        return Block(self.table, self.lines[chosen], cells)

    def text(self, place: int) -> BytesArray:
        """A column's cells as they stand, UTF-8 (or the file's code page). A very wide one is cut."""
        cells = self._cells[place]
        width = max(int((cells.end - cells.begin).max(initial=1)), 1)
        if width > 4 * _WIDEST_NUMBER and width * len(self) > 4 * len(cells.text):
            width = 4 * _WIDEST_NUMBER  # one must not make every cell wide; and no number is so long
        return np.asarray(_core.cell_bytes(*cells, width)).view(f"S{width}").reshape(len(self))

    def decoded(self, cell: bytes) -> str:
        """A cell's text."""
        encoding = "cp1252" if self.table.encoding == "cp1252" else "utf-8"
        return _unquoted(cell.decode(encoding, errors="replace")).strip()

    def place(self, row: int, place: int) -> str:
        """Where a cell stands, for a message."""
        return f"{self.table.path}, line {int(self.lines[row])}, column {self.table.header[place]!r}"

    def numbers(self, place: int, missing: frozenset[str] = frozenset()) -> npt.NDArray[np.float64]:
        """A column's cells as numbers, with point or decimal comma; empty cells, `NaN` and `missing` ones are NaN.

        Raises
        ------
        GazeFormatError
            For a cell that is no number; with its place.
        """
        answer: npt.NDArray[np.float64]
        answer, read = _core.cell_numbers(*self._cells[place], sorted(missing))
        for row in np.flatnonzero(~read).tolist():
            answer[row] = self._number(row, place, missing)
        absent = [known for text in missing if (known := _float(text)) is not None]
        if absent:
            answer[np.isin(answer, absent)] = np.nan
        return answer

    def _number(self, row: int, place: int, missing: frozenset[str]) -> float:
        cell = _unquoted(self.decoded(self._cells[place].cell(row))).strip()
        if not cell or cell in missing or cell.lower() == "nan":
            return float("nan")
        text = cell.replace(",", ".", 1) if "." not in cell else cell
        try:
            if "_" in text or len(text) > _WIDEST_NUMBER:
                raise ValueError
            return float(text)
        except ValueError:
            raise GazeFormatError(f"{self.place(row, place)}: not a number: {_shown(cell)}") from None

    def times_ns(self, place: int, unit_ns: int) -> npt.NDArray[np.int64]:
        """A column's cells as int64 nanoseconds, exact where the cell's digits are; no cell may be empty.

        Parameters
        ----------
        place : int
            The column.
        unit_ns : int
            Nanoseconds in the unit the cells are in (a power of ten).

        Raises
        ------
        GazeFormatError
            For a cell that is no time; with its place.
        """
        answer: npt.NDArray[np.int64]
        answer, read = _core.cell_times(*self._cells[place], len(str(unit_ns)) - 1)
        for row in np.flatnonzero(~read).tolist():
            answer[row] = self._time_ns(row, place, unit_ns)
        return answer

    def _time_ns(self, row: int, place: int, unit_ns: int) -> int:
        cell = _unquoted(self.decoded(self._cells[place].cell(row))).strip()
        text = cell.replace(",", ".", 1) if "." not in cell else cell
        try:
            if "_" in text or len(text) > _WIDEST_NUMBER:
                raise InvalidOperation
            value = Decimal(text)
            if not value.is_finite() or value.adjusted() > 18:
                raise InvalidOperation
            time = int((value * unit_ns).to_integral_value())
        except InvalidOperation:
            raise GazeFormatError(f"{self.place(row, place)}: not a time: {_shown(cell)}") from None
        if not -(2**63) <= time < 2**63:
            raise GazeFormatError(f"{self.place(row, place)}: beyond what nanoseconds can count: {_shown(cell)}")
        return time


def column_of(table: Table, name: str) -> int:
    """The place of the column of this name.

    Raises
    ------
    GazeFormatError
        If there is none, or more than one.
    """
    places = [place for place, held in enumerate(table.header) if held == name]
    if not places:
        raise GazeFormatError(f"{table.path}: there is no column {name!r}; there are {listed(table.header)}")
    if len(places) > 1:
        raise GazeFormatError(f"{table.path}: {len(places)} columns are called {name!r}; which one is meant?")
    return places[0]


def listed(names: Sequence[str], most: int = 12) -> str:
    """Some names for a message."""
    shown = ", ".join(_shown(name) for name in names[:most])
    return f"{shown}, … ({len(names)} in all)" if len(names) > most else shown


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


def _unquoted(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if len(cell) >= 2 and cell[0] == cell[-1] == '"' else cell


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
