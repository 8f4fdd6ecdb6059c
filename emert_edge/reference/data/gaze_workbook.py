"""Tobii exports that were saved as Excel workbooks, through the reader of Tobii's text exports."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from emert_edge.errors import EmertError, GazeFormatError
from emert_edge.reference.data.tables import TextTable, read_text_table
from emert_edge.sources import GazeRecording, open_gaze

__all__ = ["read_gaze_workbook"]

_TIME = re.compile(r"recording timestamp(\s*[\[(].*)?", re.IGNORECASE)
_RESOLUTION = re.compile(r"recording resolution (width|height)(\s*[\[(].*)?", re.IGNORECASE)
_POINT = re.compile(r"gaze point (left |right )?([xy])(\s*[\[(](dacs|adcs)?\s*px[\])])?", re.IGNORECASE)

#: Screens that a workbook without a size may have been recorded on, the usual one first.
_SCREENS = ((1920, 1080), (1920, 1200), (2560, 1440), (3840, 2160))
_WITHIN = 0.99


def read_gaze_workbook(
    path: Path, *, screen_px: tuple[int, int] | None = None, rate_hz: float | None = None
) -> GazeRecording:
    """Read a Tobii export from a workbook's first sheet.

    What the workbook itself says holds; the arguments say what it leaves out.

    Parameters
    ----------
    screen_px : (int, int), optional
        Width and height of the screen. Where neither the workbook nor the caller says it, it is the smallest of
        1920 × 1080, 1920 × 1200, 2560 × 1440 and 3840 × 2160 that holds 99 % of the points.
    rate_hz : float, optional
        Samples a second, for a workbook without `Recording timestamp`.

    Raises
    ------
    EmertError
        If the workbook cannot be read (`GazeFormatError`: is no such export, or lacks times); names line and column.
    """
    table = read_text_table(path)
    columns, rows = list(table.columns), [list(row) for row in table.rows]
    if not any(_TIME.fullmatch(name) for name in columns):
        if rate_hz is None:
            raise GazeFormatError(
                f"{path}: no column 'Recording timestamp'; say how many samples a second it has (gaze_rate_hz)"
            )
        columns.append("Recording timestamp [us]")
        for index, row in enumerate(rows):
            row.append(str(round(index * 1e6 / rate_hz)))
    if not any(_RESOLUTION.fullmatch(name) for name in columns):
        columns += ["Recording resolution width [px]", "Recording resolution height [px]"]
        size = [str(side) for side in screen_px or _screen(table)]
        for row in rows:
            row += size
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, path.stem + ".tsv")
        # Rows stand on the lines that they have in the workbook, so that the reader's messages fit it.
        lines = {1: columns, **dict(zip(table.lines, rows, strict=True))}
        with text.open("w", encoding="utf-8") as file:
            for line in range(1, table.lines[-1] + 1):
                file.write("\t".join(" ".join(cell.split()) for cell in lines.get(line, [])) + "\n")
        try:
            return open_gaze(text, "tobii_pro_lab")
        except EmertError as error:
            raise type(error)(str(error).replace(str(text), str(path))) from None


def _screen(table: TextTable) -> tuple[int, int]:
    points: dict[str, list[float]] = {"x": [], "y": []}
    for place, name in enumerate(table.columns):
        if match := _POINT.fullmatch(name):
            points[match[2].lower()] += [value for row in table.rows if (value := _number(row[place])) is not None]
    for size in _SCREENS:
        sides = zip(points.values(), size, strict=True)
        if all(sum(value <= side for value in values) >= _WITHIN * len(values) for values, side in sides):
            return size
    return _SCREENS[-1]


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None
