"""Tobii Studio's data export (TSV), with units in its headers or without.

- A sample is a row with something of the eye tracker's (`GazePointIndex`, `EyeTrackerTimestamp`, `ValidityLeft` or
  `ValidityRight`). Rows of the mouse, of keys and of Studio's own events are counted in the metadata.
- Time is `RecordingTimestamp`, milliseconds.
- Points are `GazePointX (ADCSpx)` and `Y`, and per eye, in pixels of the display from the top left, divided by
  `RecordingResolution`.
- `ValidityLeft` and `ValidityRight` go from 0 (surely this eye) to 4 (not found). From 2 on it is not known whose eye
  was seen: that eye's point and pupil are missing. The combined point stays, unless neither eye was found. A pupil of
  -1 was not measured.
- Studio's own fixations and saccades (`GazeEventType` with `FixationIndex`, `SaccadeIndex`) become the recording's
  events. Studio places fixations in the medium's coordinates only, so their point here is the mean of their samples.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from emert_edge.errors import GazeFormatError
from emert_edge.eye.events import Events, Fixation, Saccade
from emert_edge.eye.growing import GrowingArray
from emert_edge.eye.samples import GazeSamples
from emert_edge.sources.delimited_text import Block, Table, listed
from emert_edge.sources.gaze_recording import GazeRecording, measured, require_plausible_rate
from emert_edge.sources.labelled_runs import LabelledRuns, Run
from emert_edge.sources.tobii_columns import UnitColumns, screen_side_mm

__all__ = ["TITLE", "VENDOR", "read", "recognises"]

VENDOR = "tobii_studio"
TITLE = "a Tobii Studio export"

_TIME = "RecordingTimestamp"
_SIZE = "RecordingResolution"
_EYES = ("Left", "Right")
_PIXELS = ("adcspx", "px", "")
_MARKS = ("GazePointIndex", "EyeTrackerTimestamp", "ValidityLeft", "ValidityRight")
_OTHERS = ("StudioEvent", "KeyPressEvent", "MouseEvent", "ExternalEvent")
_UNSURE, _NOT_FOUND = 2, 4
_GEOMETRY_BLOCKS = 16  # so many are looked through for points far enough apart to tell the screen's size
_UNMEASURED = frozenset({"-1", "-1.00"})
#: Cells that hold for the whole recording, under the names they get in the metadata.
_CONSTANTS = {
    "RecordingName": "recording",
    "ParticipantName": "participant",
    "StudioProjectName": "project",
    "StudioTestName": "test",
    "StudioVersionRec": "software_version",
    "FixationFilter": "fixation_filter",
    "RecordingDuration": "recording_duration_ms",
    "RecordingDate": "recording_date",
}


def recognises(header: list[str]) -> bool:
    """Whether a table with this header is such an export."""
    names = UnitColumns(header).units
    marks = ("gazepointx", "gazepointleftx", "gazepointrightx", "gazeeventtype", "studioversionrec", "validityleft")
    return _TIME.lower() in names and any(mark in names for mark in marks)


def read(table: Table, name: str) -> GazeRecording:
    """Read such an export.

    Raises
    ------
    GazeFormatError
        If columns are missing, a cell cannot be read, or the file holds several recordings.
    """
    try:
        return _Export(table, name).recording()
    except GazeFormatError as error:
        if str(error).startswith(str(table.path)):
            raise
        raise GazeFormatError(f"{table.path}: {error}") from None


class _Export:
    def __init__(self, table: Table, name: str) -> None:
        self.table = table
        self.name = name
        columns = UnitColumns(table.header)
        time = columns.find(_TIME, "ms", "")
        if time is None:
            raise GazeFormatError(f"no column {_TIME!r} in milliseconds; there are {listed(table.header)}")
        self.time = time
        self.points = {
            eye: tuple(columns.find(f"GazePoint{eye}{axis}", *_PIXELS) for axis in "XY") for eye in ("", *_EYES)
        }
        if not any(None not in pair for pair in self.points.values()):
            raise GazeFormatError(
                "no gaze columns: neither 'GazePointX (ADCSpx)' and 'GazePointY (ADCSpx)' nor those of an eye; choose "
                "them when exporting from Tobii Studio"
            )
        self.size_column = columns.find(_SIZE)
        if self.size_column is None:
            raise GazeFormatError(
                f"points are in pixels, and no {_SIZE!r} says of how many; export that column too, or open the file as "
                "a plain table with columns= (or --gaze-columns) and its size_px"
            )
        self.validity = {eye: columns.find(f"Validity{eye}", "") for eye in _EYES}
        self.pupil = {eye: columns.find(f"Pupil{eye}", "mm", "") for eye in _EYES}
        self.marks = [place for title in _MARKS if (place := columns.find(title, "")) is not None]
        self.others = {title: place for title in _OTHERS if (place := columns.find(title, "")) is not None}
        self.type = columns.find("GazeEventType", "")
        self.index = {kind: columns.find(f"{kind}Index", "") for kind in ("Fixation", "Saccade")}
        self.device_time = columns.find("EyeTrackerTimestamp", "")
        self.screen_mm = [
            (columns.find(f"GazePoint{eye}{axis}", "adcsmm"), self.points[eye][number])
            for number, axis in enumerate("XY")
            for eye in _EYES
        ]
        self.distance = [columns.find(f"Distance{eye}") for eye in _EYES]
        self.constants = {
            key: place for title, key in _CONSTANTS.items() if (place := columns.find(title, "")) is not None
        }
        self.skipped: Counter[str] = Counter()
        self.held: dict[str, set[str]] = {}
        self.found: list[Run] = []
        self.runs = LabelledRuns(self.found.append)
        self.device_times = GrowingArray(np.float64)
        self.geometry: dict[str, Any] = {}

    def _places(self) -> list[int]:
        groups = (
            (self.time, self.size_column, self.type, self.device_time), *self.points.values(), self.validity.values(),
            self.pupil.values(), self.marks, self.others.values(), self.index.values(), *self.screen_mm, self.distance,
            self.constants.values(),
        )  # fmt: skip
        return sorted({place for group in groups for place in group if place is not None})

    def recording(self) -> GazeRecording:
        samples = GazeSamples.concatenate(self._pieces())
        self.runs.finish()
        if not len(samples):
            raise GazeFormatError(f"no row holds a gaze sample{f' ({dict(self.skipped)})' if self.skipped else ''}")
        for key in ("recording", "participant"):
            if len(self.held.get(key, ())) > 1:
                raise GazeFormatError(
                    f"the file holds several recordings ({key}s {listed(sorted(self.held[key]))}); "
                    "export one recording a file"
                )
        require_plausible_rate(samples, "ms", f"{self.table.path}, column {self.table.header[self.time]!r}")
        events, others = self._events(samples)
        metadata: dict[str, Any] = {
            "device": None,
            "rate_hz_stated": None,
            **{
                key: next(iter(values))
                for key, values in self.held.items()
                if len(values) == 1 and key in self.constants
            },
            **measured(samples),
            **self.geometry,
            "time_unit": "ms",
            "encoding": self.table.encoding,
            "rows_skipped": dict(self.skipped),
            "other_eye_movement_types": others,
        }
        if self.device_time is not None:
            metadata["device_time_us"] = self.device_times.array()
        return GazeRecording(samples, VENDOR, self.name, events, metadata)

    def _pieces(self) -> Iterator[GazeSamples]:
        for number, block in enumerate(self.table.blocks(self._places())):
            for key, place in (*self.constants.items(), ("size", self.size_column)):
                assert place is not None
                held = self.held.setdefault(key, set())
                if len(held) < 100:
                    held.update(text for cell in np.unique(block.text(place)) if (text := block.decoded(cell)))
            sampled = block.taken(self._is_sample(block))
            if not len(sampled):
                continue
            size = self._size()
            piece = self._piece(sampled, size)
            if "screen_size_mm" not in self.geometry and number < _GEOMETRY_BLOCKS:
                self.geometry = self._geometry(sampled, size) | self.geometry
            if self.device_time is not None:
                self.device_times.extend(sampled.numbers(self.device_time))
            if self.type is not None:
                self._add_runs(sampled, piece)
            yield piece

    def _is_sample(self, block: Block) -> npt.NDArray[np.bool_]:
        if self.marks:
            chosen = np.logical_or.reduce([block.text(place) != b"" for place in self.marks])
        else:
            points = [place for pair in self.points.values() for place in pair if place is not None]
            seen = np.logical_or.reduce([block.text(place) != b"" for place in points])
            told = [block.text(place) != b"" for place in self.others.values()]
            chosen = seen | ~np.logical_or.reduce([np.zeros(len(block), dtype=np.bool_), *told])
        left_out = ~chosen
        for title, place in self.others.items():
            of_kind = left_out & (block.text(place) != b"")
            self.skipped[title] += int(of_kind.sum())
            left_out &= ~of_kind
        self.skipped["other"] += int(left_out.sum())
        self.skipped = +self.skipped
        return np.asarray(chosen)

    def _size(self) -> tuple[int, int]:
        values = sorted(self.held.get("size", ()))
        if len(values) != 1:
            problem = f"changes within the file: {listed(values)}" if values else "is empty"
            raise GazeFormatError(f"{_SIZE!r} {problem}")
        match = re.fullmatch(r"(\d{1,6})\s*[x×,;]\s*(\d{1,6})", values[0], re.IGNORECASE)
        if match is None or not int(match[1]) or not int(match[2]):
            raise GazeFormatError(f"{_SIZE!r} is no size: {values[0]!r}")
        return int(match[1]), int(match[2])

    def _piece(self, block: Block, size: tuple[int, int]) -> GazeSamples:
        validity = {eye: self._validity(block, place) for eye, place in self.validity.items() if place is not None}
        named: dict[str, npt.NDArray[np.float64]] = {}
        for eye, pair in self.points.items():
            for axis, place, side in zip("xy", pair, size, strict=True):
                if place is not None:
                    named[f"{eye.lower()}_{axis}" if eye else axis] = block.numbers(place) / side
        for eye, place in self.pupil.items():
            if place is not None:
                named[f"pupil_{eye.lower()}"] = block.numbers(place, _UNMEASURED)
        for eye, code in validity.items():
            for key in (f"{eye.lower()}_x", f"{eye.lower()}_y", f"pupil_{eye.lower()}"):
                if key in named:
                    named[key][~(code < _UNSURE)] = np.nan
        if len(validity) == 2:
            neither = np.logical_and.reduce([~(code < _NOT_FOUND) for code in validity.values()])
            for axis in "xy":
                if axis in named:
                    named[axis][neither] = np.nan
        return GazeSamples(
            t_ns=block.times_ns(self.time, 1_000_000),
            **named,
            pupil_unit="mm" if any(place is not None for place in self.pupil.values()) else None,
            space="screen",
            size_px=size,
            clock=f"file:{self.name}",
        )

    def _validity(self, block: Block, place: int) -> npt.NDArray[np.float64]:
        code = block.numbers(place)
        wrong = np.flatnonzero(~np.isnan(code) & ~np.isin(code, (0, 1, 2, 3, 4)))
        if wrong.size:
            row = int(wrong[0])
            raise GazeFormatError(
                f"{block.place(row, place)}: {block.decoded(block.text(place)[row])!r} is none of 0 to 4"
            )
        return code

    def _geometry(self, block: Block, size: tuple[int, int]) -> dict[str, Any]:
        """Size of the screen, from points given in millimetres and in pixels, and distance of the eyes from it."""
        answer: dict[str, Any] = {}
        sides = []
        for axis, length in enumerate(size):
            found = [
                screen_side_mm(block.numbers(mm), block.numbers(px), length)
                for mm, px in self.screen_mm[2 * axis : 2 * axis + 2]
                if mm is not None and px is not None
            ]
            known = [side for side in found if side]
            if known:
                sides.append(round(float(np.mean(known)), 1))
        if len(sides) == 2:
            answer["screen_size_mm"] = tuple(sides)
        depths = [block.numbers(place) for place in self.distance if place is not None]
        if depths and any(np.isfinite(depth).any() for depth in depths):
            answer["screen_distance_mm"] = round(float(np.nanmedian(np.concatenate(depths))), 1)
        return answer

    def _add_runs(self, block: Block, piece: GazeSamples) -> None:
        assert self.type is not None
        words, which = np.unique(block.text(self.type), return_inverse=True)
        kinds = np.array([block.decoded(word) for word in words.tolist()], dtype=object)[which]
        number = np.zeros(len(block))
        for kind, place in self.index.items():
            if place is not None:
                mine = np.asarray(kinds == kind)
                number[mine] = np.nan_to_num(block.numbers(place), nan=-1.0)[mine]
        self.runs.add(kinds, number, piece.t_ns, piece.x, piece.y)

    def _events(self, samples: GazeSamples) -> tuple[Events | None, dict[str, int]]:
        if self.type is None:
            return None, {}
        fixations, saccades = [], []
        others: Counter[str] = Counter()
        nan = float("nan")
        for run in self.found:
            if run.label == "Fixation":
                seen = samples.part(run.begin, run.end).valid
                x, y = (
                    float(axis[run.begin : run.end][seen].mean(dtype=np.float64)) if seen.any() else nan
                    for axis in (samples.x, samples.y)
                )
                fixations.append(Fixation(run.start_ns, run.stop_ns, x, y, nan))
            elif run.label == "Saccade":
                saccades.append(Saccade(run.start_ns, run.stop_ns, nan, nan, *run.first, *run.last))
            elif run.label:
                others[run.label] += 1
        return Events(tuple(fixations), tuple(saccades), (), method=VENDOR), dict(others)
