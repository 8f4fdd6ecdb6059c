"""Logs of the Tobii Pro SDK's gaze data as tables, under the SDK's own names.

- Time is `device_time_stamp`, the tracker's clock, else `system_time_stamp`: microseconds from an arbitrary zero.
- Each eye's point is `left_gaze_point_on_display_area`, fractions of the screen from the top left: as two columns
  (`…_x`, `…_y`; `…_0`, `…_1`; `…[0]`, `…[1]`) or as one that holds a pair, `(0.51, 0.48)`. A point of which both are -1
  was not seen. The SDK has no combined point: it is the mean of the eyes that were seen.
- Pupils are millimetres (`left_pupil_diameter`); a size of 0 or less was not measured. Under fast gaze they come more
  slowly (40 Hz under 120 Hz): samples between have none.
- Where an eye's validity flag (`left_gaze_point_validity`, `…_valid`) is 0, its point is missing; likewise its pupil
  and its openness by their flags.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from emert_edge.errors import GazeFormatError
from emert_edge.eye.growing import GrowingArray
from emert_edge.eye.samples import GazeSamples
from emert_edge.sources.delimited_text import Block, Table, column_of, listed
from emert_edge.sources.gaze_recording import GazeRecording, measured, require_plausible_rate

__all__ = ["TITLE", "VENDOR", "read", "recognises"]

VENDOR = "tobii_sdk"
TITLE = "a Tobii SDK log"

Float64Array = npt.NDArray[np.float64]

_EYES = ("left", "right")
_TIMES = ("device_time_stamp", "system_time_stamp")
_POINT = "{}_gaze_point_on_display_area"
_AXES = (("_x", "_y"), ("_0", "_1"), ("[0]", "[1]"), (".x", ".y"), (" x", " y"))
_PAIR = re.compile(r"[(\[]\s*(?P<x>[^\s,;]+)\s*[\s,;]\s*(?P<y>[^\s,;]+)\s*[)\]]")
_FLAGS = {
    "1": True,
    "1.0": True,
    "true": True,
    "valid": True,
    "0": False,
    "0.0": False,
    "false": False,
    "invalid": False,
}


def recognises(header: list[str]) -> bool:
    """Whether a table with this header is such a log."""
    return any(name.startswith(_POINT.format(eye)) for name in header for eye in _EYES)


def read(table: Table, name: str) -> GazeRecording:
    """Read such a log.

    Raises
    ------
    GazeFormatError
        If columns are missing or a cell cannot be read.
    """
    return _Log(table, name).recording()


class _Log:
    def __init__(self, table: Table, name: str) -> None:
        self.table = table
        self.name = name
        times = [title for title in _TIMES if title in table.header]
        if not times:
            raise GazeFormatError(f"{table.path}: no column {' or '.join(_TIMES)}; there are {listed(table.header)}")
        self.time = table.column(times[0])
        self.system_time = table.column(_TIMES[1]) if len(times) == 2 else None
        self.points: dict[str, tuple[int, ...]] = {}
        for eye in _EYES:
            found = self._point(eye)
            if found is not None:
                self.points[eye] = found
        if not self.points:
            raise GazeFormatError(
                f"{table.path}: a point needs two columns ({_POINT.format('left')}_x and _y) or one of pairs; there "
                f"are {listed(table.header)}"
            )
        self.pupil = self._of_eyes("{}_pupil_diameter")
        self.openness = self._of_eyes("{}_eye_openness_value", "{}_eye_openness")
        self.valid = {
            "point": self._of_eyes("{}_gaze_point_validity", "{}_gaze_point_valid"),
            "pupil": self._of_eyes("{}_pupil_validity", "{}_pupil_valid"),
            "openness": self._of_eyes("{}_eye_openness_validity", "{}_eye_openness_valid"),
        }
        self.system_times = GrowingArray(np.int64)

    def _of_eyes(self, *patterns: str) -> dict[str, int]:
        found = {}
        for eye in _EYES:
            for pattern in patterns[::-1]:
                if pattern.format(eye) in self.table.header:
                    found[eye] = column_of(self.table, pattern.format(eye))
        return found

    def _point(self, eye: str) -> tuple[int, ...] | None:
        whole = _POINT.format(eye)
        for across, down in _AXES:
            if {whole + across, whole + down} <= set(self.table.header):
                return self.table.column(whole + across), self.table.column(whole + down)
        return (self.table.column(whole),) if whole in self.table.header else None

    def recording(self) -> GazeRecording:
        samples = GazeSamples.concatenate(self._pieces())
        if not len(samples):
            raise GazeFormatError(f"{self.table.path}: the table holds no gaze samples")
        require_plausible_rate(samples, "us", f"{self.table.path}, column {self.table.header[self.time]!r}")
        metadata = {
            "device": "Tobii",
            "rate_hz_stated": None,
            **measured(samples),
            "time_unit": "us",
            "time_column": self.table.header[self.time],
            "encoding": self.table.encoding,
            "rows_skipped": {},
        }
        if self.system_time is not None:
            metadata["system_time_ns"] = self.system_times.array()
        return GazeRecording(samples, VENDOR, self.name, None, metadata)

    def _pieces(self) -> Iterator[GazeSamples]:
        groups = (*self.points.values(), self.pupil.values(), self.openness.values())
        flags = [place for held in self.valid.values() for place in held.values()]
        times = [place for place in (self.time, self.system_time) if place is not None]
        for block in self.table.blocks(sorted({*times, *flags, *(place for group in groups for place in group)})):
            if self.system_time is not None:
                self.system_times.extend(block.times_ns(self.system_time, 1_000))
            named: dict[str, Any] = {}
            for eye, places in self.points.items():
                x, y = (block.numbers(place) for place in places) if len(places) == 2 else self._pairs(block, places[0])
                unseen = ((x == -1) & (y == -1)) | ~self._holds(block, "point", eye)
                named[f"{eye}_x"], named[f"{eye}_y"] = np.where(unseen, np.nan, x), np.where(unseen, np.nan, y)
            for kind, columns in (("pupil", self.pupil), ("openness", self.openness)):
                for eye, place in columns.items():
                    size = block.numbers(place)
                    held = self._holds(block, kind, eye) & ((size > 0) if kind == "pupil" else (size >= 0))
                    named[f"{kind}_{eye}"] = np.where(held, size, np.nan)
            yield GazeSamples(
                t_ns=block.times_ns(self.time, 1_000),
                **named,
                pupil_unit="mm" if self.pupil else None,
                space="screen",
                clock=f"file:{self.name}",
            )

    def _pairs(self, block: Block, place: int) -> tuple[Float64Array, Float64Array]:
        points = np.full((2, len(block)), np.nan)
        for row, cell in enumerate(block.text(place).tolist()):
            text = block.decoded(cell)
            if not text or text.lower() == "nan":
                continue
            match = _PAIR.fullmatch(text)
            try:
                if match is None or "_" in text:
                    raise ValueError
                points[:, row] = float(match["x"]), float(match["y"])
            except ValueError:
                raise GazeFormatError(f"{block.place(row, place)}: not a pair of numbers: {text[:40]!r}") from None
        return points[0], points[1]

    def _holds(self, block: Block, kind: str, eye: str) -> npt.NDArray[np.bool_]:
        """Where an eye's flag says that a value holds; everywhere, where the log has no such flag."""
        place = self.valid[kind].get(eye)
        answer = np.ones(len(block), dtype=np.bool_)
        if place is None:
            return answer
        cells = block.text(place)
        for cell in np.unique(cells).tolist():
            word = block.decoded(cell).lower()
            flag = (
                False if word in ("", "nan") else _FLAGS.get(word.rpartition(".")[2] if word[-1:].isalpha() else word)
            )
            if flag is None:
                row = int(np.flatnonzero(cells == cell)[0])
                raise GazeFormatError(f"{block.place(row, place)}: {word[:40]!r} is no validity, 0 or 1")
            if not flag:
                answer &= cells != cell
        return answer
