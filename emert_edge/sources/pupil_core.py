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

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emert_edge.errors import GazeFormatError
from emert_edge.eye.events import Blink, Events, Fixation
from emert_edge.eye.growing import GrowingArray
from emert_edge.eye.samples import GazeSamples
from emert_edge.sources.beside import table_beside
from emert_edge.sources.delimited_text import Block, Table
from emert_edge.sources.gaze_recording import GazeRecording, measured, require_plausible_rate

__all__ = ["GAZE_FILE", "TITLE", "VENDOR", "read", "recognises"]

VENDOR = "pupil_core"
TITLE = "a Pupil Core export"
GAZE_FILE = "gaze_positions.csv"
_PUPIL_FILE = "pupil_positions.csv"

_NEEDED = ("gaze_timestamp", "confidence", "norm_pos_x", "norm_pos_y")
_SECOND_NS = 1_000_000_000
_SIDES = {"0": "pupil_right", "1": "pupil_left"}


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
    base = table.column("base_data") if "base_data" in table.header else None
    pupils = None if base is None else _Pupils.of(folder / _PUPIL_FILE)
    sure = GrowingArray(np.float32)

    def pieces() -> Iterator[GazeSamples]:
        places = [time, confidence, x, y]
        if base is not None and pupils is not None:
            places.append(base)
        for block in table.blocks(places):
            certain, across, up = (block.numbers(place) for place in (confidence, x, y))
            sure.extend(certain)
            unseen = ~(certain > 0)
            across[unseen] = np.nan
            up[unseen] = np.nan
            yield GazeSamples(
                t_ns=block.times_ns(time, _SECOND_NS),
                x=across,
                y=1.0 - up,
                **({} if base is None or pupils is None else pupils.named(block, base)),
                pupil_unit=None if pupils is None else pupils.unit,
                space="scene",
                clock=f"file:{name}",
            )

    samples = GazeSamples.concatenate(pieces())
    if not len(samples):
        raise GazeFormatError(f"{table.path}: the table holds no gaze samples")
    require_plausible_rate(samples, "s", f"{table.path}, column 'gaze_timestamp'")
    certainty = sure.array()
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
        "rate_hz_stated": None,
        "share_confidence_0": round(float((~(certainty > 0)).mean()), 6),
        "share_confidence_below_0.6": round(float((~(certainty >= np.float32(0.6))).mean()), 6),
        "confidence": certainty,
    }
    return GazeRecording(samples, VENDOR, name, events, metadata)


class _Pupils:
    """Pupil sizes by eye and time, as gaze samples name their pupil data: "<pupil_timestamp>-<eye>", eye 0 right."""

    def __init__(self, unit: str, eyes: dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]) -> None:
        self.unit = unit
        self.eyes = eyes

    @classmethod
    def of(cls, path: Path) -> _Pupils | None:
        """From the table beside the gaze; None where there is none, or no size in it."""
        table = table_beside(path, "pupil_timestamp", "eye_id", "confidence", "diameter")
        if table is None:
            return None
        titles = ("pupil_timestamp", "eye_id", "confidence", "diameter")
        stamp, eye, certainty, size_px = (table.column(title) for title in titles)
        columns = {"px": size_px}
        if "diameter_3d" in table.header:
            columns["mm"] = table.column("diameter_3d")
        held = {(unit, side): (GrowingArray(np.int64), GrowingArray(np.float32)) for unit in columns for side in _SIDES}
        for block in table.blocks([stamp, eye, certainty, *columns.values()]):
            seen = block.numbers(certainty) > 0
            micros, number = _micros(block.numbers(stamp)), block.numbers(eye)
            for unit, place in columns.items():
                # The 2D and the 3D detector write a row each, and only the 3D one's has millimetres.
                sizes = block.numbers(place)
                for side, (times, values) in ((side, held[unit, side]) for side in _SIDES):
                    chosen = seen & (sizes > 0) & (number == int(side))
                    times.extend(micros[chosen])
                    values.extend(sizes[chosen])
        for unit in ("mm", "px"):
            if any(len(held[unit, side][0]) for side in _SIDES if (unit, side) in held):
                eyes = {}
                for side, name in _SIDES.items():
                    known, measures = (array.array() for array in held[unit, side])
                    order = np.argsort(known, kind="stable")
                    eyes[name] = (known[order], measures[order])
                return cls(unit, eyes)
        return None

    def named(self, block: Block, base: int) -> dict[str, Any]:
        """Each sample's sizes; of several pupil data of one eye the last with a size."""
        rows: dict[str, list[int]] = {name: [] for name in self.eyes}
        stamps: dict[str, list[float]] = {name: [] for name in self.eyes}
        for row, cell in enumerate(block.text(base).tolist()):
            for part in block.decoded(cell).split():
                time, _, number = part.rpartition("-")
                if (name := _SIDES.get(number)) is not None and (stamp := _stamp(time)) is not None:
                    rows[name].append(row)
                    stamps[name].append(stamp)
        answer = {}
        for name, (times, values) in self.eyes.items():
            found = np.full(len(block), np.nan)
            wanted = _micros(np.array(stamps[name], dtype=np.float64))
            # The last of equal times: the later row of the table.
            place = np.searchsorted(times, wanted, side="right") - 1
            hit = (place >= 0) & (times[place] == wanted) if times.size else np.zeros(wanted.size, dtype=np.bool_)
            found[np.array(rows[name], dtype=np.intp)[hit]] = values[place[hit]]
            answer[name] = found
        return answer


def _micros(seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Times to the microsecond: `base_data` and `pupil_timestamp` are not always printed with equal digits."""
    return np.rint(np.nan_to_num(seconds, nan=-1e9, posinf=-1e9, neginf=-1e9) * 1e6).astype(np.int64)


def _stamp(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


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
