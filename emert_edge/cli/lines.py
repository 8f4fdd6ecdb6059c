"""Estimates as lines of JSON: whole at the end for recordings, as they come for live streams."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from emert_edge.estimate import Estimate

__all__ = ["LineWriter", "open_lines"]


class LineWriter(Protocol):
    """Takes estimates, one a line."""

    def __call__(self, estimate: Estimate) -> None:
        """Write one line."""


@contextmanager
def open_lines(out: str, *, live: bool) -> Iterator[LineWriter]:
    """Open a place for lines: a file, or "-" for standard output.

    A recording's file is written aside and put in place when the work ends: whole after success, with the whole lines
    so far after Ctrl-C, and not at all after an error. A live stream's lines are appended as they come.
    """
    if out == "-":
        yield _writer(sys.stdout, flush=live)
        sys.stdout.flush()
        return
    path = Path(out)
    if path.is_dir():
        raise IsADirectoryError(f"{out} is a folder; --jsonl takes a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: there is no such folder to write {path.name} in")
    if live or (path.exists() and not path.is_file()):  # a pipe or a device cannot be replaced
        with path.open("a", encoding="utf-8") as file:
            yield _writer(file, flush=True)
        return
    handle, aside_name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    aside = Path(aside_name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            try:
                yield _writer(file, flush=False)
            except KeyboardInterrupt:
                _publish(file, aside, path)
                raise
            _publish(file, aside, path)
    except OSError as error:
        if error.filename is None:  # a write knows no name
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        aside.unlink(missing_ok=True)


def _publish(file: IO[str], aside: Path, path: Path) -> None:
    file.flush()
    os.fsync(file.fileno())
    mask = os.umask(0)
    os.umask(mask)
    aside.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~mask)
    aside.replace(path)


def _writer(file: IO[str], *, flush: bool) -> LineWriter:
    def write(estimate: Estimate) -> None:
        file.write(estimate.to_json() + "\n")
        if flush:
            file.flush()

    return write
