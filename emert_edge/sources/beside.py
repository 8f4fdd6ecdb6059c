"""What lies beside a recording's gaze: other tables, facts as JSON, and rows that belong to the gaze of their time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emert_edge.errors import GazeFormatError, SourceError
from emert_edge.sources.delimited_text import DelimitedText

__all__ = ["at_same_time", "json_beside", "table_beside"]


def table_beside(path: Path, *columns: str) -> DelimitedText | None:
    """A table, if it is there and has these columns: under its name may lie something else."""
    if not path.is_file() or not path.stat().st_size:
        return None
    table = DelimitedText(path)
    return table if set(columns) <= set(table.header) else None


def json_beside(path: Path, kind: type) -> Any:
    """A JSON file's content, an object (`dict`) or an array (`list`); an empty one where there is no such file.

    Raises
    ------
    GazeFormatError
        If the file holds something else.
    """
    if not path.is_file():
        return kind()
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise GazeFormatError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, kind):
        raise GazeFormatError(f"{path}: a JSON {'object' if kind is dict else 'array'} is expected")
    return content


def at_same_time(held: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Where each wanted time stands among those that are held; -1 where it does not."""
    if not held.size:
        return np.full(wanted.size, -1, dtype=np.intp)
    if (held[1:] >= held[:-1]).all():
        place = np.minimum(np.searchsorted(held, wanted), held.size - 1)
    else:
        order = np.argsort(held, kind="stable")
        place = order[np.minimum(np.searchsorted(held[order], wanted), held.size - 1)]
    return np.where(held[place] == wanted, place, -1)
