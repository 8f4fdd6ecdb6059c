"""Delimited text (TSV, CSV) read by column, block by block, with the place of every cell that cannot be read.

The common case (no quotes) never makes a Python object a cell: line ends and delimiters are found over a block's
bytes, and a column is gathered into one fixed-width array of bytes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from emert_edge.errors import GazeFormatError
from emert_edge.sources.text_lines import TextLines

__all__ = ["Block", "DelimitedText", "Table", "Titled", "column_of", "gathered", "listed"]

BytesArray = npt.NDArray[np.bytes_]

_WIDEST_NUMBER = 64  # bytes; the longest that a tracker writes has 24
_QUOTED_ROWS = 8192
_EXACT_DIGITS = 18  # whole numbers of so many digits fit int64
_FLOAT_DIGITS = 15  # and so many float64, exactly
_POWERS = 10.0 ** np.arange(_FLOAT_DIGITS + 1)
_NUMBER_BYTES = np.zeros(256, dtype=np.bool_)
_NUMBER_BYTES[[0, *b"0123456789+-.eE"]] = True


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
        whole = text if text.endswith(b"\n") else text + b"\n"
        data = np.frombuffer(whole, dtype=np.uint8)
        ends = np.flatnonzero(data == ord("\n"))
        starts = np.empty_like(ends)
        starts[0] = 0
        starts[1:] = ends[:-1] + 1
        lines = first_line + np.arange(ends.size)
        held = ends > starts
        if not held.all():
            starts, ends, lines = starts[held], ends[held], lines[held]
        if not ends.size:
            return None
        marks = np.flatnonzero(data == ord(self.delimiter))
        number = np.searchsorted(marks, ends) - np.searchsorted(marks, starts)
        wrong = np.flatnonzero(number != len(self.header) - 1)
        if wrong.size:
            at = int(wrong[0])
            raise self._ragged(int(lines[at]), int(number[at]) + 1, whole is not text and at == ends.size - 1)
        table = marks.reshape(ends.size, len(self.header) - 1)
        quoted = b'"' in text
        cells = {}
        for place in places:
            begin = starts if place == 0 else table[:, place - 1] + 1
            end = ends if place == len(self.header) - 1 else table[:, place]
            if quoted:
                bare = (end - begin >= 2) & (data[begin] == ord('"')) & (data[np.maximum(end, 1) - 1] == ord('"'))
                begin, end = begin + bare, end - bare
            cells[place] = gathered(data, begin, end)
        return Block(self, lines, cells)

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
                    place: np.array([held[column].encode() for held in rows], dtype=np.bytes_)
                    for column, place in enumerate(places)
                }
                yield Block(self, np.array(numbers, dtype=np.int64), cells)
                rows, numbers = [], []
            if row is None:
                return


class Block:
    """Some rows of a table: the cells of the columns that were asked for, as bytes.

    Attributes
    ----------
    lines : ndarray, shape (n,), int64
        The line of the file on which each row begins.
    """

    def __init__(self, table: Titled, lines: npt.NDArray[np.int64], cells: dict[int, BytesArray]) -> None:
        self.table = table
        self.lines = lines
        self._cells = cells

    def __len__(self) -> int:
        return int(self.lines.shape[0])

    def taken(self, chosen: npt.NDArray[np.bool_]) -> Block:
        """The rows that are chosen."""
        if chosen.all():
            return self
        return Block(self.table, self.lines[chosen], {place: cells[chosen] for place, cells in self._cells.items()})

    def text(self, place: int) -> BytesArray:
        """A column's cells as they stand, UTF-8 (or the file's code page)."""
        return self._cells[place]

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
        cells = self._cells[place]
        prepared, plain, empty = _prepared(cells)
        for text in missing:
            empty |= cells == text.encode()
        answer, done = _decimals(prepared)
        answer[empty] = np.nan
        done = done & plain | empty
        rest = np.flatnonzero(plain & ~done)  # exponents, many digits, no numbers
        if rest.size:
            try:
                answer[rest] = prepared[rest].astype(np.float64)
            except ValueError:
                plain[rest] = False
        for row in np.flatnonzero(~plain & ~done).tolist():
            answer[row] = self._number(row, place, missing)
        absent = [known for text in missing if (known := _float(text)) is not None]
        if absent:
            answer[np.isin(answer, absent)] = np.nan
        return answer

    def _number(self, row: int, place: int, missing: frozenset[str]) -> float:
        cell = _unquoted(self.decoded(self._cells[place][row])).strip()
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
        prepared, plain, empty = _prepared(self._cells[place])
        answer, done = _decimal_times(prepared, unit_ns)
        done &= plain & ~empty
        for row in np.flatnonzero(~done).tolist():
            answer[row] = self._time_ns(row, place, unit_ns)
        return answer

    def _time_ns(self, row: int, place: int, unit_ns: int) -> int:
        cell = _unquoted(self.decoded(self._cells[place][row])).strip()
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


def gathered(data: npt.NDArray[np.uint8], begin: npt.NDArray[np.intp], end: npt.NDArray[np.intp]) -> BytesArray:
    """The cells [begin, end) as one array of bytes. A very wide cell must not make every cell wide."""
    length = end - begin
    width = max(int(length.max()), 1)
    if width > 4 * _WIDEST_NUMBER and width * length.size > 4 * data.size:
        clipped = np.minimum(length, 4 * _WIDEST_NUMBER)  # too long for any number, and still seen to be so
        return gathered(data, begin, begin + clipped)
    # Whole stretches of `width` bytes are copied: from the text's end none can begin, and those few are put in apart.
    near = np.minimum(begin, data.size - width)
    cells = sliding_window_view(data, width)[near]
    for row in np.flatnonzero(near < begin).tolist():
        cells[row, : length[row]] = data[begin[row] : end[row]]
    cells *= np.arange(width) < length[:, None]
    return np.ascontiguousarray(cells).view(f"S{width}").ravel()


def _matrix(cells: BytesArray) -> npt.NDArray[np.uint8]:
    width = cells.dtype.itemsize
    return cells.view(np.uint8).reshape(cells.size, width)


def _prepared(cells: BytesArray) -> tuple[BytesArray, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """A copy with points for commas, which cells look like plain numbers, and which are empty."""
    width = cells.dtype.itemsize
    prepared = cells.astype(f"S{max(width, 3)}")
    matrix = _matrix(prepared)
    commas = matrix == ord(",")
    if commas.any():
        # One decimal comma is a point; a comma beside a point, or two, is for the careful path to judge.
        matrix[commas & ((commas | (matrix == ord("."))).sum(axis=1) == 1)[:, None]] = ord(".")
    plain: npt.NDArray[np.bool_] = np.asarray(_NUMBER_BYTES[matrix].all(axis=1))
    if width > _WIDEST_NUMBER:
        plain &= np.char.str_len(prepared) <= _WIDEST_NUMBER
    empty = matrix[:, 0] == 0
    return prepared, plain, empty


def _decimals(cells: BytesArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Plain decimals ([-]digits[.digits]) of at most 15 digits, correctly rounded, and which cells were of that kind.

    Both the digits as a whole number and the power of ten are exact in float64, so that their quotient is the nearest
    number to the cell.
    """
    columns = np.ascontiguousarray(_matrix(cells).T)
    value = np.zeros(cells.size, dtype=np.int64)
    digits = np.zeros(cells.size, dtype=np.int16)
    decimals = np.zeros(cells.size, dtype=np.int16)
    point = np.zeros(cells.size, dtype=np.bool_)
    negative = columns[0] == ord("-")
    good = np.ones(cells.size, dtype=np.bool_)
    for place, byte in enumerate(columns):
        digit = byte - np.uint8(ord("0"))
        is_digit = digit <= 9
        is_point = byte == ord(".")
        good &= is_digit | is_point & ~point | (byte == 0) | (negative if place == 0 else False)
        value = np.where(is_digit, 10 * value + digit, value)
        digits += is_digit
        decimals += is_digit & point
        point |= is_point
    good &= (digits > 0) & (digits <= _FLOAT_DIGITS)
    answer = value / _POWERS[np.minimum(decimals, _FLOAT_DIGITS)]
    return np.where(negative, -answer, answer), good


def _decimal_times(cells: BytesArray, unit_ns: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Plain decimals ([-]digits[.digits]) as whole nanoseconds, halves to even, and which cells were of that kind."""
    matrix = _matrix(cells)
    keep = len(str(unit_ns)) - 1  # digits after the point that are whole nanoseconds
    count = cells.size
    value = np.zeros(count, dtype=np.int64)
    digits = np.zeros(count, dtype=np.int64)
    decimals = np.zeros(count, dtype=np.int64)
    first_cut = np.zeros(count, dtype=np.int64)
    beyond = np.zeros(count, dtype=np.bool_)  # anything but 0 after the first digit that is cut
    point = np.zeros(count, dtype=np.bool_)
    good = np.ones(count, dtype=np.bool_)
    negative = matrix[:, 0] == ord("-")
    for place in range(matrix.shape[1]):
        byte = matrix[:, place]
        digit = byte.astype(np.int64) - ord("0")
        is_digit = (digit >= 0) & (digit <= 9)
        is_point = byte == ord(".")
        good &= is_digit | is_point & ~point | (byte == 0) | (negative if place == 0 else False)
        whole = is_digit & (~point | (decimals < keep))
        value = np.where(whole & (digits < _EXACT_DIGITS), value * 10 + digit, value)
        digits += whole
        cut = is_digit & point & ~whole
        first_cut = np.where(cut & (decimals == keep), digit, first_cut)
        beyond |= cut & (decimals > keep) & (digit > 0)
        decimals += is_digit & point
        point |= is_point
    kept = np.minimum(decimals, keep)
    good &= (digits > 0) & (digits + keep - kept <= _EXACT_DIGITS)
    value *= 10 ** np.minimum(keep - kept, _EXACT_DIGITS)
    value += (first_cut > 5) | ((first_cut == 5) & (beyond | (value % 2 == 1)))
    return np.where(negative, -value, value), good


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
