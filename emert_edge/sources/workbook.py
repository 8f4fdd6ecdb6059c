"""An Excel workbook's first sheet with something in it, as a table."""

from __future__ import annotations

import datetime
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from emert_edge.errors import EmertError, GazeFormatError, SourceError
from emert_edge.sources.delimited_text import Block, Cells, column_of

__all__ = ["Workbook", "is_workbook"]

_ROWS = 4096
_FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    SyntaxError,
)


def is_workbook(path: Path) -> bool:
    """Whether a file that begins like an archive is a workbook (or one that was cut off, which nobody can tell)."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except (zipfile.BadZipFile, ValueError):
        with path.open("rb") as file:
            return b"[Content_Types].xml" in file.read(4096)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error


class Workbook:
    """A workbook's first sheet that is not empty; its first row that is not empty holds the columns' names.

    Attributes
    ----------
    path : Path
        The file.
    header : list of str
        Names of the columns.
    encoding : str
        "xlsx".
    """

    encoding = "xlsx"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: list[str] = []
        for line, row in self._rows():
            self.header = [_text(cell).strip() for cell in row]
            self._header_line = line
            break
        if not self.header:
            raise GazeFormatError(f"{path}: the workbook is empty; export the recording anew")

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
            For a row that is longer than the header, or the header again; with the row.
        """
        rows = self._rows()
        next(rows)
        while part := list(islice(rows, _ROWS)):
            cells: list[list[bytes]] = [[] for _ in places]
            for line, row in part:
                if len(row) > len(self.header):
                    raise GazeFormatError(
                        f"{self.path}, line {line}: {len(row)} cells where the header has {len(self.header)}"
                    )
                texts = [_text(row[place]) if place < len(row) else "" for place in places]
                if texts == [self.header[place] for place in places]:
                    raise GazeFormatError(
                        f"{self.path}, line {line}: the header again; are these two recordings in one file?"
                    )
                for held, text in zip(cells, texts, strict=True):
                    held.append(text.encode())
            lines = np.array([line for line, _ in part], dtype=np.int64)
            yield Block(self, lines, {place: Cells.of(held) for place, held in zip(places, cells, strict=True)})

    def _rows(self) -> Iterator[tuple[int, list[Any]]]:
        """The sheet's rows that hold anything, by their numbers, without the empty cells at their ends."""
        try:
            import openpyxl
        except ImportError:
            raise SourceError(
                f"{self.path}: Excel workbooks are read with openpyxl; pip install 'emert-edge[recordings]', or save "
                "the recording as TSV"
            ) from None
        try:
            with self.path.open("rb") as file:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of styles and extensions, which no recording has
                    book = openpyxl.load_workbook(file, read_only=True, data_only=True)
                found = False
                for sheet in book.worksheets:
                    sheet.reset_dimensions()
                    for line, cells in enumerate(sheet.iter_rows(values_only=True), 1):
                        row = list(cells)
                        while row and (row[-1] is None or row[-1] == ""):
                            row.pop()
                        if row:
                            found = True
                            yield line, row
                    if found:
                        return
        except EmertError:
            raise
        except OSError as error:
            raise SourceError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        except _FAULTS as error:
            raise GazeFormatError(f"{self.path}: the workbook is cut off or damaged: {error}") from None


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return repr(cell).removesuffix(".0")
    if isinstance(cell, datetime.datetime | datetime.date | datetime.time):
        return cell.isoformat()
    return str(cell)
