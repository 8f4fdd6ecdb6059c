"""A table of luminance over time: what a photometer, or whoever made a stimulus, knows of its light."""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emert_edge.errors import SourceError

__all__ = ["read_luminance"]

_UNITS_NS = {"t_ns": 1, "t_ms": 10**6, "t_s": 10**9}


def read_luminance(path: str | Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Read a CSV with a column ``luminance`` and one of times, ``t_ns``, ``t_ms`` or ``t_s``.

    Returns
    -------
    t_ns : ndarray, shape (n,), int64
    luminance : ndarray, shape (n,), float64
        As `remove_light_response` takes them, which says what it cannot take.

    Raises
    ------
    SourceError
        If it cannot be read, has no such columns or no row, or a cell is no number; with the line.
    """
    path = Path(path)
    times, values = [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            titles = rows.fieldnames or []
            (time, *others) = [title for title in titles if title in _UNITS_NS] or [""]
            if not time or others or "luminance" not in titles:
                raise SourceError(
                    f"{path}, line 1: a column luminance and one of {', '.join(_UNITS_NS)} are needed, not "
                    f"{', '.join(titles) or 'nothing'}"
                )
            for row in rows:
                cells = row[time] or "", row["luminance"] or ""
                t_ns, value = _numbers(*cells, _UNITS_NS[time], f"{path}, line {rows.line_num}")
                times.append(t_ns)
                values.append(value)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path} is no CSV in UTF-8: {error}") from None
    if not times:
        raise SourceError(f"{path}, line 2: there is no luminance; each line needs a time and a value")
    return np.array(times, dtype=np.int64), np.array(values, dtype=np.float64)


def _numbers(time: str, value: str, unit_ns: int, place: str) -> tuple[int, float]:
    try:
        instant, luminance = Decimal(time), float(value)
        if instant.adjusted() > 18:  # int() would write all its digits out
            raise ValueError
        t_ns = int(instant * unit_ns)
        if abs(t_ns) > 2**61 or not 0 <= luminance < float("inf"):
            raise ValueError
        return t_ns, luminance
    except (ArithmeticError, ValueError):
        raise SourceError(f"{place}: {time!r} and {value!r} are no time and luminance") from None
