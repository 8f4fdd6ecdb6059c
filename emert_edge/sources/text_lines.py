"""A text file as blocks of whole lines, whatever its encoding and line ends, packed with gzip or not."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from emert_edge.errors import GazeFormatError, SourceError

__all__ = ["GZIP", "TextLines", "as_utf8", "first_bytes", "opened"]

GZIP = b"\x1f\x8b"
_BLOCK_BYTES = 1 << 20
_LONGEST_LINE = 32 << 20
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: it begins with the same two bytes
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class TextLines:
    """One text file.

    Attributes
    ----------
    path : Path
        The file.
    encoding : str
        "utf-8", or another Unicode form where its mark (or, for UTF-16, its NULs) says so. Whoever finds that the
        text is no UTF-8 may set "cp1252".
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        start = first_bytes(path)
        if not start:
            raise GazeFormatError(f"{path}: the file is empty; export the recording anew")
        self._mark = 0
        self.encoding = _encoding(start)
        for mark, encoding in _BOMS:
            if start.startswith(mark):
                self.encoding, self._mark = encoding, len(mark)
                break

    def decoded(self, raw: bytes) -> str:
        """A piece of a block as text."""
        return raw.decode("cp1252" if self.encoding == "cp1252" else "utf-8", errors="replace")

    def blocks(self) -> Iterator[tuple[bytes, int]]:
        """Blocks of whole lines as UTF-8 with \\n between lines, and the number of each block's first line.

        Raises
        ------
        GazeFormatError
            For a line without end, text that is not in its encoding, or a packed file that is cut off or damaged.
        """
        line, rest = 1, b""
        for piece in self._pieces():
            piece = rest + piece
            # A carriage return at the very end may have its line feed in the next piece.
            end = piece.rfind(b"\n")
            if end < 0:
                if len(piece) > _LONGEST_LINE:
                    raise GazeFormatError(f"{self.path}, line {line}: the line does not end within {len(piece)} bytes")
                rest = piece
                continue
            rest = piece[end + 1 :]
            whole = piece[: end + 1].replace(b"\r\n", b"\n")
            yield whole, line
            line += whole.count(b"\n")
        if rest:
            yield rest.removesuffix(b"\r"), line

    def _pieces(self) -> Iterator[bytes]:
        """The file's bytes after its mark, as UTF-8 where it says that it is another Unicode form."""
        with opened(self.path) as file:
            _read(file, self._mark, self.path)
            if self.encoding in ("utf-8", "cp1252"):
                while piece := _read(file, _BLOCK_BYTES, self.path):
                    yield piece
                return
            decoder = codecs.getincrementaldecoder(self.encoding)()
            read = self._mark
            while True:
                raw = _read(file, _BLOCK_BYTES, self.path)
                try:
                    piece = decoder.decode(raw, final=not raw).encode("utf-8")
                except UnicodeError as error:
                    raise GazeFormatError(f"{self.path}: not {self.encoding} near byte {read}: {error}") from None
                if piece:
                    yield piece
                if not raw:
                    return
                read += len(raw)


def first_bytes(path: Path, count: int = 4096) -> bytes:
    """How a file begins, unpacked where it is packed with gzip.

    Raises
    ------
    SourceError
        If the file cannot be read.
    """
    with opened(path) as file:
        return _read(file, count, path)


def as_utf8(start: bytes) -> bytes:
    """How a text begins, whatever its Unicode form, without its mark; what cannot be decoded is left out."""
    for mark, encoding in _BOMS:
        if start.startswith(mark):
            return start[len(mark) :].decode(encoding, errors="ignore").encode()
    encoding = _encoding(start)
    return start if encoding == "utf-8" else start.decode(encoding, errors="ignore").encode()


def opened(path: Path) -> BinaryIO:
    """A file to read from, unpacked where it is packed with gzip.

    Raises
    ------
    SourceError
        If the file cannot be opened.
    """
    try:
        file = path.open("rb")
        if file.read(2) == GZIP:
            file.close()
            return cast(BinaryIO, gzip.open(path))
        file.seek(0)
    except FileNotFoundError:
        raise SourceError(f"{path}: there is no such file; check the path") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    return file


def _read(file: BinaryIO, count: int, path: Path) -> bytes:
    try:
        return file.read(count)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise GazeFormatError(f"{path}: the packed file is cut off or damaged: {error}") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error


def _encoding(start: bytes) -> str:
    """UTF-16 without a mark shows itself by a NUL at every other place of its (Latin) header."""
    pairs = len(start) // 2
    if pairs >= 8:
        high, low = start[0 : 2 * pairs : 2].count(0), start[1 : 2 * pairs : 2].count(0)
        if low > 0.8 * pairs and high == 0:
            return "utf-16-le"
        if high > 0.8 * pairs and low == 0:
            return "utf-16-be"
    return "utf-8"
