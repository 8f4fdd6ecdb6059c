"""Gazepoint Analysis' exports (CSV): all gaze, or fixations.

- Time is `TIMETICK(f=…)`, ticks of a clock that runs on through the whole recording, over its frequency. `TIME`
  (seconds) restarts with each medium; it is the time only where there are no ticks.
- Points are `BPOGX` and `BPOGY`, the best of both eyes, where `BPOGV` is 1, and each eye's (`LPOGX` …) where the export
  has them: fractions of the screen from the top left. `FPOGX` is the fixation filter's output and no sample; it is read
  only where there is no BPOG, and `metadata["points"]` says which it was. The export does not say how large the screen
  is.
- Pupils are `LPMM` and `RPMM`, millimetres, where `LPMMV` and `RPMMV` are 1; without them `LPD` and `RPD`, pixels of
  the eye camera, where `LPV` and `RPV` are 1.
- The fixations of the filter (`FPOGID` where `FPOGV` is 1, with its start and duration) and the blinks (`BKID`) become
  the recording's events.
- An export of fixations has the same columns and one row a fixation: its rows are its samples, and
  `metadata["content"]` is "fixations".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from emert_edge.errors import GazeFormatError
from emert_edge.eye.events import Blink, Events, Fixation
from emert_edge.eye.samples import GazeSamples
from emert_edge.sources.delimited_text import Block, Table, listed
from emert_edge.sources.gaze_recording import GazeRecording, measured, require_plausible_rate
from emert_edge.sources.labelled_runs import LabelledRuns, Run

__all__ = ["TITLE", "VENDOR", "read", "recognises"]

VENDOR = "gazepoint"
TITLE = "a Gazepoint export"

Float64Array = npt.NDArray[np.float64]

_SECOND_NS = 1_000_000_000
_TIME = re.compile(r"TIME(\((?P<date>.*)\))?")
_TICKS = re.compile(r"TIMETICK\(f=(?P<frequency>\d{1,10})\)")
_POINTS = ("BPOG", "FPOG")
_FASTEST_TICKS_HZ = 9_000_000_000  # a second of nanoseconds times so many fits int64
_FEWEST_FIXATIONS = 3
_FASTEST_FIXATIONS_HZ = 15.0


def recognises(header: list[str]) -> bool:
    """Whether a table with this header is such an export."""
    timed = any(_TIME.fullmatch(name) or name.startswith("TIMETICK") for name in header)
    return timed and any({f"{point}X", f"{point}Y"} <= set(header) for point in _POINTS)


def read(table: Table, name: str) -> GazeRecording:
    """Read such an export.

    Raises
    ------
    GazeFormatError
        If columns are missing or a cell cannot be read.
    """
    return _Export(table, name).recording()


class _Export:
    def __init__(self, table: Table, name: str) -> None:
        self.table = table
        self.name = name
        self.time, self.frequency = self._clock()
        self.columns: dict[str, int] = {}
        for title in table.header:
            if title and not title.startswith("TIME"):
                self.columns[title] = table.column(title)
        self.seconds = next((place for place, title in enumerate(table.header) if _TIME.fullmatch(title)), None)
        self.point = next(point for point in _POINTS if {f"{point}X", f"{point}Y"} <= set(self.columns))
        self.pupil_unit, self.pupils = None, {}
        for unit, sizes in (("mm", ("LPMM", "RPMM")), ("px", ("LPD", "RPD"))):
            held = {eye: title for eye, title in zip(("left", "right"), sizes, strict=True) if title in self.columns}
            if held:
                self.pupil_unit, self.pupils = unit, held
                break
        self.media: dict[str, None] = {}
        self.lost = 0
        self.last_count: float | None = None
        self.fixations: list[Run] = []
        self.blinks: list[Run] = []
        self.fixation_runs = LabelledRuns(self.fixations.append)
        self.blink_runs = LabelledRuns(self.blinks.append)

    def _clock(self) -> tuple[int, int]:
        """The column of the time and its ticks a second; 0 for a column in seconds."""
        ticks = [(place, match) for place, title in enumerate(self.table.header) if (match := _TICKS.fullmatch(title))]
        seconds = [place for place, title in enumerate(self.table.header) if _TIME.fullmatch(title)]
        if len(ticks) > 1 or len(seconds) > 1:
            raise GazeFormatError(
                f"{self.table.path}: several columns are called TIME or TIMETICK; which one is meant?"
            )
        if ticks and int(ticks[0][1]["frequency"]):
            return ticks[0][0], int(ticks[0][1]["frequency"])
        if not seconds:
            raise GazeFormatError(
                f"{self.table.path}: no column TIMETICK(f=…) with its frequency and no TIME; there are "
                f"{listed(self.table.header)}"
            )
        return seconds[0], 0

    def recording(self) -> GazeRecording:
        samples = GazeSamples.concatenate(self._pieces())
        self.fixation_runs.finish()
        self.blink_runs.finish()
        if not len(samples):
            raise GazeFormatError(f"{self.table.path}: the table holds no gaze samples")
        where = f"{self.table.path}, column {self.table.header[self.time]!r}"
        told = [run for run in self.fixations if run.label]
        rate = samples.rate_hz
        only_fixations = (
            len(samples) >= _FEWEST_FIXATIONS
            and len(told) == len(samples)
            and rate is not None
            and rate < _FASTEST_FIXATIONS_HZ
        )
        if not only_fixations:
            require_plausible_rate(samples, "s", where)
        date = None if self.seconds is None else _TIME.fullmatch(self.table.header[self.seconds])
        metadata = {
            "device": "Gazepoint",
            "rate_hz_stated": None,
            "recording_date": None if date is None else date["date"],
            **measured(samples),
            "time_unit": f"1/{self.frequency} s" if self.frequency else "s",
            "encoding": self.table.encoding,
            "rows_skipped": {},
            "content": "fixations" if only_fixations else "gaze",
            "points": self.point,
            "media": list(self.media),
            "records_lost": self.lost,
        }
        return GazeRecording(samples, VENDOR, self.name, self._events(told), metadata)

    def _pieces(self) -> Iterator[GazeSamples]:
        wanted = {self.time, *([] if self.seconds is None else [self.seconds])}
        names = {f"{eye}POG{part}" for eye in "BLR" for part in "XYV"}
        names |= {f"FPOG{part}" for part in ("X", "Y", "V", "S", "D", "ID")}
        names |= {"MEDIA_ID", "MEDIA_NAME", "CNT", "BKID", *self.pupils.values()}
        names |= {f"{title}V" for title in ("LPMM", "RPMM", "LP", "RP")}
        wanted |= {place for title, place in self.columns.items() if title in names}
        for block in self.table.blocks(sorted(wanted)):
            t_ns = self._times(block)
            self._remember(block)
            piece = self._piece(block, t_ns)
            self._add_runs(block, piece)
            yield piece

    def _times(self, block: Block) -> npt.NDArray[np.int64]:
        if not self.frequency:
            return block.times_ns(self.time, _SECOND_NS)
        ticks = block.times_ns(self.time, 1)
        whole, rest = np.divmod(ticks, self.frequency)
        too_far = np.flatnonzero(np.abs(whole) > 2**63 // _SECOND_NS - 1)
        if too_far.size:
            raise GazeFormatError(f"{block.place(int(too_far[0]), self.time)}: beyond what nanoseconds can count")
        return np.asarray(whole * _SECOND_NS + (rest * _SECOND_NS + self.frequency // 2) // self.frequency)

    def _remember(self, block: Block) -> None:
        if (place := self.columns.get("MEDIA_NAME")) is not None and len(self.media) < 1000:
            cells = block.text(place)
            changed = np.append(True, cells[1:] != cells[:-1])
            self.media.update(dict.fromkeys(block.decoded(cell) for cell in cells[changed].tolist()))
        if (place := self.columns.get("CNT")) is not None:
            count = block.numbers(place)
            steps = np.diff(count, prepend=count[0] - 1 if self.last_count is None else self.last_count)
            self.lost += int(np.nansum(np.where(steps > 1, steps - 1, 0)))
            self.last_count = float(count[-1])

    def _valid(self, block: Block, title: str) -> npt.NDArray[np.bool_]:
        """Where a flag is 1; everywhere, where the export has no such flag."""
        place = self.columns.get(title)
        if place is None:
            return np.ones(len(block), dtype=np.bool_)
        flag = block.numbers(place)
        odd = np.flatnonzero((flag != 0) & (flag != 1) & ~np.isnan(flag))
        if odd.size:
            row = int(odd[0])
            cell = block.decoded(block.text(place)[row])
            raise GazeFormatError(f"{block.place(row, place)}: {cell!r} is neither 0 nor 1")
        return np.asarray(flag == 1)

    def _held(self, block: Block, title: str, flag: str) -> Float64Array | None:
        place = self.columns.get(title)
        return None if place is None else np.where(self._valid(block, flag), block.numbers(place), np.nan)

    def _piece(self, block: Block, t_ns: npt.NDArray[np.int64]) -> GazeSamples:
        named: dict[str, Any] = {}
        for ours, theirs in (("", self.point), ("left_", "LPOG"), ("right_", "RPOG")):
            for axis in "xy":
                named[f"{ours}{axis}"] = self._held(block, f"{theirs}{axis.upper()}", f"{theirs}V")
        for eye, title in self.pupils.items():
            flag = f"{title}V" if self.pupil_unit == "mm" else f"{title[0]}PV"
            size = self._held(block, title, flag)
            named[f"pupil_{eye}"] = None if size is None else np.where(size > 0, size, np.nan)
        return GazeSamples(
            t_ns=t_ns,
            **named,
            pupil_unit=self.pupil_unit,
            space="screen",
            clock=f"file:{self.name}",
        )

    def _add_runs(self, block: Block, piece: GazeSamples) -> None:
        columns = self.columns
        nothing = np.full(len(block), np.nan)
        if "FPOGID" in columns:
            number = np.nan_to_num(block.numbers(columns["FPOGID"]), nan=-1.0)
            if "MEDIA_ID" in columns:
                # Numbers begin anew with each medium.
                number = number + 1j * np.nan_to_num(block.numbers(columns["MEDIA_ID"]), nan=-1.0)
            beside = [
                nothing if place is None else block.numbers(place)
                for place in (self.seconds, *(columns.get(f"FPOG{part}") for part in ("S", "D", "X", "Y")))
            ]
            self.fixation_runs.add(self._valid(block, "FPOGV"), number, piece.t_ns, *beside)
        if "BKID" in columns:
            blink = np.nan_to_num(block.numbers(columns["BKID"]))
            self.blink_runs.add(blink > 0, blink, piece.t_ns)

    def _events(self, told: list[Run]) -> Events | None:
        fixations = []
        for run in told:
            now, start, duration, x, y = run.last  # the filter's last word on it
            first, last = run.start_ns, run.stop_ns
            if np.isfinite(now) and np.isfinite(start) and np.isfinite(duration) and 0 <= now - start < 3600:
                first = run.stop_ns - round((now - start) * _SECOND_NS)
                last = first + round(duration * _SECOND_NS)
            fixations.append(Fixation(first, last, x, y, float("nan")))
        blinks = [Blink(run.start_ns, run.stop_ns, "vendor") for run in self.blinks if run.label]
        if not {"FPOGID", "BKID"} & set(self.columns):
            return None
        fixations.sort(key=lambda event: event.start_ns)
        return Events(tuple(fixations), (), tuple(blinks), method=VENDOR)
