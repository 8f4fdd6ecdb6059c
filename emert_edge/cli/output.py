"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

__all__ = ["naming", "publish", "refuse_to_replace", "written_aside"]


@contextlib.contextmanager
def naming(out: str | Path) -> Iterator[None]:
    """Give a file's name to an `OSError` of what is done inside: a failed write itself knows none."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(out)) from error


@contextlib.contextmanager
def written_aside(out: Path, *, also_after_interrupt: bool = False) -> Iterator[IO[bytes]]:
    """Open a file beside `out` that takes its place when the work inside is done.

    Parameters
    ----------
    out
        The file; a link is followed. What stands there stays until the new content is whole.
    also_after_interrupt
        Whether Ctrl-C publishes what was written so far.
    """
    place = Path(os.path.realpath(out))
    with naming(out):
        descriptor, name = tempfile.mkstemp(prefix=f".{place.name}.", suffix=".part", dir=place.parent)
    aside = Path(name)
    file = os.fdopen(descriptor, "wb")
    try:
        interrupt = None
        try:
            yield file
        except KeyboardInterrupt as error:
            if not also_after_interrupt:
                raise
            interrupt = error
        with naming(out):
            file.flush()
            os.fsync(file.fileno())
            file.close()
            mask = os.umask(0)
            os.umask(mask)
            aside.chmod(place.stat().st_mode & 0o777 if place.exists() else 0o666 & ~mask)
            aside.replace(place)
        if interrupt is not None:
            raise interrupt
    finally:
        with contextlib.suppress(OSError):  # it was told already
            file.close()
        aside.unlink(missing_ok=True)


def refuse_to_replace(out: str | Path, *inputs: str | Path | None) -> None:
    """Raise `ValueError` if an output would be written over an input."""
    place = os.path.realpath(out)
    for source in inputs:
        if source is not None and os.path.realpath(source) == place:
            raise ValueError(f"{out} is an input of this very command; write the result elsewhere")


def publish(out: Path, content: bytes) -> None:
    """Write a whole file."""
    with written_aside(out) as file, naming(out):
        file.write(content)
