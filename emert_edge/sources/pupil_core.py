"""Pupil Core's export from Pupil Player: `gaze_positions.csv`, or the folder that holds it.

- Time is `gaze_timestamp`: seconds from an arbitrary zero, kept in the file's order even where it runs backwards.
- Points are `norm_pos_x` and `norm_pos_y`, fractions of the scene camera's picture with their origin at the bottom
  left; `y` is turned over here.
- A sample with confidence 0 was not seen: its point is missing. Lower confidences than about 0.6 are of little use,
  but they are samples; `metadata["confidence"]` holds each sample's, for whoever wants to be stricter.
- Pupil sizes come from `pupil_positions.csv` beside it, where there is one: each gaze sample names the pupil data it
  was made from (`base_data`), and takes each eye's size from there (millimetres of the 3D model where all have them,
  pixels of the eye camera otherwise). Confidence 0 is missing there too.
- `fixations.csv` and `blinks.csv` beside it become the recording's events.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emert_edge.errors import GazeFormatError
from emert_edge.eye.events import Blink, Events, Fixation
from emert_edge.eye.samples import GazeSamples
from emert_edge.sources.beside import table_beside
from emert_edge.sources.delimited_text import Table
from emert_edge.sources.gaze_recording import GazeRecording, measured, require_plausible_rate

__all__ = ["GAZE_FILE", "TITLE", "VENDOR", "read", "recognises"]

VENDOR = "pupil_core"
TITLE = "a Pupil Core export"
GAZE_FILE = "gaze_positions.csv"
_PUPIL_FILE = "pupil_positions.csv"

_NEEDED = ("gaze_timestamp", "confidence", "norm_pos_x", "norm_pos_y")
_SECOND_NS = 1_000_000_000


def recognises(header: list[str]) -> bool:
    """Whether a table with this header is such an export."""
    return set(_NEEDED) <= set(header)


def read(table: Table, name: str) -> GazeRecording:
    """Read such an export, with what lies beside it.

    Raises
    ------
    GazeFormatError
        If columns are missing or a cell cannot be read.
    """
    time, confidence, x, y = (table.column(title) for title in _NEEDED)
    folder = table.path.parent
    has_pupils = (folder / _PUPIL_FILE).is_file() and "base_data" in table.header
    base = table.column("base_data") if has_pupils else None
    places = [place for place in (time, confidence, x, y, base) if place is not None]
    parts: list[tuple[npt.NDArray[Any], ...]] = []
    bases: list[str] = []
    for block in table.blocks(places):
        parts.append((block.times_ns(time, _SECOND_NS), *(block.numbers(place) for place in (confidence, x, y))))
        if base is not None:
            bases.extend(block.decoded(cell) for cell in block.text(base).tolist())
    if not parts:
        raise GazeFormatError(f"{table.path}: the table holds no gaze samples")
    t_ns, sure, across, up = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    unseen = ~(sure > 0)
    across[unseen] = np.nan
    up[unseen] = np.nan
    pupils, pupil_unit = _pupils(folder / _PUPIL_FILE, bases)
    samples = GazeSamples(
        t_ns=t_ns,
        x=across,
        y=1.0 - up,
        **pupils,
        pupil_unit=pupil_unit,
        space="scene",
        clock=f"file:{name}",
    )
    require_plausible_rate(samples, "s", f"{table.path}, column 'gaze_timestamp'")
    fixations = _fixations(folder / "fixations.csv")
    blinks = _blinks(folder / "blinks.csv")
    events = None
    if fixations is not None or blinks is not None:
        events = Events(fixations or (), (), blinks or (), method=VENDOR)
    metadata = {
        "device": "Pupil Core",
        **_export_info(folder / "export_info.csv"),
        "time_unit": "s",
        "encoding": table.encoding,
        "rows_skipped": {},
        **measured(samples),
        "share_confidence_0": round(float(unseen.mean()), 6),
        "share_confidence_below_0.6": round(float((~(sure >= 0.6)).mean()), 6),
        "confidence": sure.astype(np.float32),
    }
    return GazeRecording(samples, VENDOR, name, events, metadata)


def _pupils(path: Path, bases: list[str]) -> tuple[dict[str, Any], str | None]:
    """Each gaze sample's pupil sizes. A gaze sample names its pupil data as "<pupil_timestamp>-<eye>", eye 0 right."""
    table = table_beside(path, "pupil_timestamp", "eye_id", "confidence", "diameter")
    if table is None or not bases:
        return {}, None
    stamp, eye, sure, size_px = (table.column(name) for name in ("pupil_timestamp", "eye_id", "confidence", "diameter"))
    size_mm = table.column("diameter_3d") if "diameter_3d" in table.header else None
    sizes: dict[str, dict[str, float]] = {"px": {}, "mm": {}}
    for block in table.blocks([place for place in (stamp, eye, sure, size_px, size_mm) if place is not None]):
        seen = block.numbers(sure) > 0
        names = [
            f"{_plain_stamp(block.decoded(cell))}-{block.decoded(number)}"
            for cell, number in zip(block.text(stamp).tolist(), block.text(eye).tolist(), strict=True)
        ]
        for unit, place in (("px", size_px), ("mm", size_mm)):
            if place is None:
                continue
            values = block.numbers(place)
            held = seen & (values > 0)
            # The 2D and the 3D detector write a row each, and only the 3D one's has millimetres.
            sizes[unit].update((names[row], float(values[row])) for row in np.flatnonzero(held).tolist())
    unit = "mm" if sizes["mm"] else "px"
    held_sizes = sizes[unit]
    pupils = {side: np.full(len(bases), np.nan) for side in ("pupil_left", "pupil_right")}
    sides = {"0": "pupil_right", "1": "pupil_left"}
    for row, names_of_row in enumerate(bases):
        for part in names_of_row.split():
            time, _, number = part.rpartition("-")
            value = held_sizes.get(f"{_plain_stamp(time)}-{number}")
            if value is not None and number in sides:
                pupils[sides[number]][row] = value
    return (pupils, unit) if held_sizes else ({}, None)


def _plain_stamp(text: str) -> str:
    """A time stamp to the microsecond: `base_data` and `pupil_timestamp` are not always printed with equal digits."""
    try:
        return f"{float(text):.6f}"
    except ValueError:
        return text


def _fixations(path: Path) -> tuple[Fixation, ...] | None:
    names = ("start_timestamp", "duration", "norm_pos_x", "norm_pos_y", "dispersion")
    table = table_beside(path, *names)
    if table is None:
        return None
    places = [table.column(name) for name in names]
    found: list[Fixation] = []
    for block in table.blocks(places):
        start = block.times_ns(places[0], _SECOND_NS)
        length = block.times_ns(places[1], 1_000_000)  # this one column is in milliseconds
        x, y, dispersion = (block.numbers(place) for place in places[2:])
        rows = zip(
            start.tolist(), (start + length).tolist(), x.tolist(), (1.0 - y).tolist(), dispersion.tolist(), strict=True
        )
        found.extend([Fixation(*row) for row in rows])
    return tuple(sorted(found, key=lambda event: event.start_ns))


def _blinks(path: Path) -> tuple[Blink, ...] | None:
    table = table_beside(path, "start_timestamp", "end_timestamp")
    if table is None:
        return None
    begin, end = table.column("start_timestamp"), table.column("end_timestamp")
    found: list[Blink] = []
    for block in table.blocks([begin, end]):
        starts, stops = block.times_ns(begin, _SECOND_NS).tolist(), block.times_ns(end, _SECOND_NS).tolist()
        found.extend(Blink(start, stop, "vendor") for start, stop in zip(starts, stops, strict=True))
    return tuple(sorted(found, key=lambda event: event.start_ns))


def _export_info(path: Path) -> dict[str, str]:
    """The export's own few facts (key, value), where the file is there."""
    table = table_beside(path, "key", "value")
    if table is None or len(table.header) != 2:
        return {}
    wanted = {"Player Software Version": "software_version", "Data Format Version": "data_format_version"}
    facts = {}
    for block in table.blocks([0, 1]):
        for key, value in zip(block.text(0).tolist(), block.text(1).tolist(), strict=True):
            if (name := wanted.get(block.decoded(key))) is not None:
                facts[name] = block.decoded(value)
    return facts
