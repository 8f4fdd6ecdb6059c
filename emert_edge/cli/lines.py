"""Estimates as lines of JSON: whole at the end for recordings, as they come for live streams."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from emert_edge.cli.output import naming, written_aside
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
    path = Path(out)
    if out == "-":
        yield _writer(sys.stdout.buffer, "standard output", flush=True)
        return
    if path.is_dir():
        raise IsADirectoryError(f"{out} is a folder; --jsonl takes a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: there is no such folder to write {path.name} in")
    if live or (path.exists() and not path.is_file()):  # a pipe or a device cannot be replaced
        with path.open("ab", buffering=0) as file:
            yield _writer(file, out, flush=False)
    else:
        with written_aside(path, also_after_interrupt=True) as file:
            yield _writer(file, out, flush=False)


def _writer(file: IO[bytes], name: str, *, flush: bool) -> LineWriter:
    def write(estimate: Estimate) -> None:
        with naming(name):
            file.write(estimate.to_json().encode() + b"\n")
            if flush:
                file.flush()

    return write
