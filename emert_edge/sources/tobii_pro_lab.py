"""Tobii Pro Lab's data export (TSV, CSV or XLSX), with units in its headers or without.

A sample is a row of the sensor "Eye Tracker". Rows of other sensors and of events are counted in the metadata.

- Time is `Recording timestamp`: milliseconds or microseconds as the header says; where an older export says nothing,
  whichever makes the rate that of an eye tracker.
- Points are `Gaze point X` and `Y`, and per eye, in pixels of the display (DACS px) from the top left, divided by
  `Recording resolution width` and `height`.
- Where `Validity left` or `right` is Invalid, that eye's point and pupil are missing. Openness is the eyelids' own
  measure and stays, also where the gaze is invalid: that is what a blink looks like.
- Tobii's own fixations and saccades (`Eye movement type` with its index) become the recording's events.
- An export that has a column only filtered or smoothed (`Pupil diameter filtered`) is read from that, and
  `metadata["filtered_columns"]` says so; a filtered pupil is one for both eyes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from emert_edge.errors import GazeFormatError
from emert_edge.eye.events import Blink, Events, Fixation, Saccade
from emert_edge.eye.growing import GrowingArray
from emert_edge.eye.samples import GazeSamples
from emert_edge.sources.delimited_text import Block, Table, listed
from emert_edge.sources.gaze_recording import (
    GazeRecording,
    likely_time_unit,
    measured,
    require_plausible_rate,
)
from emert_edge.sources.labelled_runs import LabelledRuns, Run
from emert_edge.sources.tobii_columns import UnitColumns, base_and_unit, screen_side_mm

__all__ = ["TITLE", "VENDOR", "read", "recognises"]

VENDOR = "tobii_pro_lab"
TITLE = "a Tobii Pro Lab export"

Float64Array = npt.NDArray[np.float64]

_TIME = "Recording timestamp"
_NS = {"ms": 1_000_000, "us": 1_000}
_NAN = float("nan")
_GEOMETRY_BLOCKS = 16  # so many are looked through for points far enough apart to tell the screen's size
_EYES = ("left", "right")
_TREATED = (" filtered", " smoothed", " (filtered)", " (smoothed)")
_PIXELS = ("dacspx", "adcspx", "px", "")  # as newer and older versions write the display's pixels
#: Cells that hold for the whole recording, under the names they get in the metadata.
_CONSTANTS = {
    "Recording name": "recording",
    "Participant name": "participant",
    "Project name": "project",
    "Recording software version": "software_version",
    "Eyetracker name": "device",
    "Recording Eye tracker name": "device",
    "Recording Fixation filter name": "fixation_filter",
    "Recording duration": "recording_duration_ms",
    "Recording date UTC": "recording_date_utc",
    "Recording start time UTC": "recording_start_time_utc",
    "Average validation accuracy [°]": "validation_accuracy_deg",
}


def recognises(header: list[str]) -> bool:
    """Whether a table with this header is such an export."""
    columns = UnitColumns(header)
    return _TIME.lower() in columns.units and any(
        name in columns.units for name in ("gaze point x", "gaze point left x", "gaze point right x", "sensor")
    )


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
        time = columns.find(_TIME)
        if time is None:
            raise GazeFormatError(f"no column {_TIME!r}; there are {listed(table.header)}")
        self.time = time
        self.time_unit = base_and_unit(table.header[time])[1]
        if self.time_unit not in ("", "ms", "us"):
            raise GazeFormatError(f"column {table.header[time]!r}: times are read in ms or µs")
        self.points = {
            eye: tuple(columns.find(f"Gaze point{eye and ' '}{eye} {axis}", *_PIXELS) for axis in "XY")
            for eye in ("", *_EYES)
        }
        self.filtered: list[str] = []
        for treated in _TREATED:
            if not any(None not in pair for pair in self.points.values()):
                found = tuple(columns.find(f"Gaze point {axis}{treated}", *_PIXELS) for axis in "XY")
                self.points[""] = found
                self.filtered += [table.header[place] for place in found if place is not None]
        if not any(None not in pair for pair in self.points.values()):
            raise GazeFormatError(
                "no gaze columns: neither 'Gaze point X [DACS px]' and 'Gaze point Y [DACS px]' nor those of an eye; "
                "choose them when exporting from Tobii Pro Lab"
            )
        self.validity = {eye: columns.find(f"Validity {eye}", "") for eye in _EYES}
        self.pupil = {eye: columns.find(f"Pupil diameter {eye}", "mm", "") for eye in _EYES}
        self.openness = {eye: columns.find(f"Eye openness {eye}", "mm", "") for eye in _EYES}
        for sizes, name in ((self.pupil, "Pupil diameter"), (self.openness, "Eye openness")):
            both = columns.find(f"{name} filtered", "mm", "")
            if both is not None and not any(place is not None for place in sizes.values()):
                sizes.update(dict.fromkeys(_EYES, both))
                self.filtered.append(table.header[both])
        self.width = columns.find("Recording resolution width", "px", "")
        self.height = columns.find("Recording resolution height", "px", "")
        self.sensor = columns.find("Sensor", "")
        self.event = columns.find("Event", "")
        self.type = columns.find("Eye movement type", "")
        # What tells two neighbouring events of one type apart: the event's number, else its duration.
        told_by = ("Eye movement type index", "Eye movement event duration", "Gaze event duration")
        self.type_index = next((place for title in told_by if (place := columns.find(title)) is not None), None)
        self.fixation_point = (
            columns.find("Fixation point X", *_PIXELS),
            columns.find("Fixation point Y", *_PIXELS),
        )
        self.device_time = columns.find("Eyetracker timestamp", "us", "")
        self.eye_z = [columns.find(f"Eye position {eye} Z", "dacsmm", "") for eye in _EYES]
        self.screen_mm = [
            (
                columns.find(f"Gaze point {eye} {axis}", "dacsmm"),
                columns.find(f"Gaze point {eye} {axis}", *_PIXELS),
            )
            for axis in "XY"
            for eye in _EYES
        ]
        self.constants: dict[str, int] = {}
        for title, key in _CONSTANTS.items():
            base, unit = base_and_unit(title)
            place = columns.find(base, unit) if unit else columns.find(base)
            if place is not None:
                self.constants.setdefault(key, place)
        self.skipped: Counter[str] = Counter()
        self.held: dict[str, set[str]] = {}

    def _places(self) -> list[int]:
        single = (
            self.time, self.width, self.height, self.sensor, self.event, self.type, self.type_index, self.device_time,
        )  # fmt: skip
        groups = (
            *self.points.values(), self.validity.values(), self.pupil.values(), self.openness.values(),
            self.fixation_point, self.eye_z, *self.screen_mm, self.constants.values(), single,
        )  # fmt: skip
        return sorted({place for group in groups for place in group if place is not None})

    def recording(self) -> GazeRecording:
        self.geometry: dict[str, Any] = {}
        self.fixations: list[Fixation] = []
        self.saccades: list[Saccade] = []
        self.blinks: list[Blink] = []
        self.other_types: Counter[str] = Counter()
        self.runs = LabelledRuns(self._event)
        self.device_times = GrowingArray(np.float64)
        samples = GazeSamples.concatenate(self._pieces())
        self.runs.finish()
        if not len(samples):
            skipped = ", ".join(f"{count} of {sensor}" for sensor, count in self.skipped.items())
            raise GazeFormatError(f"no row holds a gaze sample{f' (rows: {skipped})' if skipped else ''}")
        for key in ("recording", "participant"):
            if len(self.held.get(key, ())) > 1:
                raise GazeFormatError(
                    f"the file holds several recordings ({key}s {listed(sorted(self.held[key]))}); "
                    "export one recording a file"
                )
        require_plausible_rate(samples, self.unit, f"{self.table.path}, column {self.table.header[self.time]!r}")
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
            "time_unit": self.unit,
            "time_unit_stated": bool(self.time_unit),
            "encoding": self.table.encoding,
            "rows_skipped": dict(self.skipped),
            "filtered_columns": self.filtered,
            "other_eye_movement_types": dict(self.other_types),
        }
        if self.device_time is not None:
            metadata["device_time_us"] = self.device_times.array()
        events = None
        if self.type is not None:
            events = Events(tuple(self.fixations), tuple(self.saccades), tuple(self.blinks), method=VENDOR)
        return GazeRecording(samples, VENDOR, self.name, events, metadata)

    def _pieces(self) -> Iterator[GazeSamples]:
        self.unit = self.time_unit
        for number, block in enumerate(self.table.blocks(self._places())):
            self._remember(block)
            sampled = block.taken(self._is_sample(block))
            if not len(sampled):
                continue
            size = self._size()
            piece = self._piece(sampled, size)
            if "screen_size_mm" not in self.geometry and number < _GEOMETRY_BLOCKS:
                self.geometry = self._geometry(sampled) | self.geometry
            if self.device_time is not None:
                self.device_times.extend(sampled.numbers(self.device_time))
            self._add_runs(sampled, piece, size)
            yield piece

    def _remember(self, block: Block) -> None:
        """Gather the cells that should be the same all over; too many different ones don't describe a recording."""
        for key, place in (*self.constants.items(), ("width", self.width), ("height", self.height)):
            if place is None:
                continue
            cells = block.text(place)
            # Nearly always a block holds one value: comparing neighbours is cheaper than sorting.
            different = np.append(True, cells[1:] != cells[:-1])
            held = self.held.setdefault(key, set())
            if len(held) < 100:
                held.update(text for cell in cells[different].tolist()[:100] if (text := block.decoded(cell)))

    def _is_sample(self, block: Block) -> npt.NDArray[np.bool_]:
        count = len(block)
        if self.sensor is not None:
            sensor = block.text(self.sensor)
            chosen: npt.NDArray[np.bool_] = np.asarray(sensor == b"Eye Tracker") | (sensor == b'"Eye Tracker"')
            others = np.unique(sensor[~chosen], return_counts=True)
            for cell, number in zip(*(values.tolist() for values in others), strict=True):
                word = block.decoded(cell)
                if word.casefold() == "eye tracker":
                    chosen |= np.asarray(sensor == cell)
                else:
                    self.skipped[word or "event"] += number
            return chosen
        # Older exports without the column: an event's row names it, a mouse's row has no time of the eye tracker's.
        chosen = np.ones(count, dtype=np.bool_)
        if self.event is not None:
            chosen &= block.text(self.event) == b""
        marks = [place for place in (self.device_time, *self.validity.values()) if place is not None]
        if marks:
            chosen &= np.logical_or.reduce([block.text(place) != b"" for place in marks])
        if not chosen.all():
            self.skipped["no eye tracker row"] += int(count - chosen.sum())
        return chosen

    def _piece(self, block: Block, size: tuple[int, int]) -> GazeSamples:
        invalid = {eye: self._invalid(block, eye) for eye in _EYES}
        named: dict[str, Float64Array] = {}
        for eye, pair in self.points.items():
            for axis, place, side in zip("xy", pair, size, strict=True):
                if place is not None:
                    named[f"{eye}_{axis}" if eye else axis] = block.numbers(place) / side
        for eye in _EYES:
            for kind, place in (("pupil", self.pupil[eye]), ("openness", self.openness[eye])):
                if place is not None:
                    named[f"{kind}_{eye}"] = block.numbers(place)
            bad = invalid[eye]
            if bad is not None:
                for key in (f"{eye}_x", f"{eye}_y", f"pupil_{eye}"):
                    if key in named:
                        named[key][bad] = np.nan
        left, right = invalid["left"], invalid["right"]
        if left is not None and right is not None:
            for axis in "xy":
                if axis in named:
                    named[axis][left & right] = np.nan

        def made(unit: str) -> GazeSamples:
            return GazeSamples(
                t_ns=block.times_ns(self.time, _NS[unit]),
                **named,
                pupil_unit="mm" if any(place is not None for place in self.pupil.values()) else None,
                space="screen",
                size_px=size,
                clock=f"file:{self.name}",
            )

        if not self.unit:  # the first samples tell
            piece = made("ms")
            self.unit = "us" if likely_time_unit(piece, "ms") == "us" else "ms"
            if self.unit == "ms":
                return piece
        return made(self.unit)

    def _invalid(self, block: Block, eye: str) -> npt.NDArray[np.bool_] | None:
        place = self.validity[eye]
        if place is None:
            return None
        cells = block.text(place)
        valid = np.asarray(cells == b"Valid")
        invalid = np.asarray(cells == b"Invalid")
        for row in np.flatnonzero(~valid & ~invalid).tolist():
            word = block.decoded(cells[row])
            if word not in ("", "Valid", "Invalid"):
                raise GazeFormatError(f"{block.place(row, place)}: {word!r} is neither 'Valid' nor 'Invalid'")
            invalid[row] = word != "Valid"
        return invalid

    def _size(self) -> tuple[int, int]:
        sides = []
        for key in ("width", "height"):
            values = sorted(self.held.get(key, ()))
            title = f"Recording resolution {key}"
            if not values:
                raise GazeFormatError(
                    f"points are in pixels, and no '{title} [px]' says of how many; export that column too, or open "
                    "the file as a plain table with columns= (or --gaze-columns) and its size_px"
                )
            if len(values) > 1:
                raise GazeFormatError(f"'{title}' changes within the file: {listed(values)}")
            side = values[0].replace(",", ".")
            if not side.replace(".", "", 1).isdecimal() or float(side) <= 0:
                raise GazeFormatError(f"'{title}' is no size: {values[0]!r}")
            sides.append(round(float(side)))
        return sides[0], sides[1]

    def _geometry(self, block: Block) -> dict[str, Any]:
        """Size of the screen, from points given in millimetres and in pixels, and distance of the eyes from it."""
        answer: dict[str, Any] = {}
        sides = []
        for axis, side in enumerate((self.width, self.height)):
            lengths = []
            for millimetres, pixels in self.screen_mm[2 * axis : 2 * axis + 2]:
                if millimetres is None or pixels is None or side is None:
                    continue
                length = float(block.numbers(side)[0])
                mm, px = block.numbers(millimetres), block.numbers(pixels)
                side_mm = screen_side_mm(mm, px, length)
                if side_mm is not None:
                    lengths.append(side_mm)
            if lengths:
                sides.append(round(float(np.mean(lengths)), 1))
        if len(sides) == 2 and min(sides) > 0:
            answer["screen_size_mm"] = tuple(sides)
        depths = [block.numbers(place) for place in self.eye_z if place is not None]
        if depths and any(np.isfinite(depth).any() for depth in depths):
            answer["screen_distance_mm"] = round(float(np.nanmedian(np.concatenate(depths))), 1)
        return answer

    def _add_runs(self, block: Block, piece: GazeSamples, size: tuple[int, int]) -> None:
        if self.type is None:
            return
        nothing = np.full(len(block), np.nan)
        words, which = np.unique(block.text(self.type), return_inverse=True)
        kinds = np.array([block.decoded(word) for word in words.tolist()], dtype=object)[which]
        told = self.type_index
        index = np.zeros(len(block)) if told is None else np.nan_to_num(block.numbers(told), nan=-1.0)
        fixation = [
            nothing if place is None else block.numbers(place) / side
            for place, side in zip(self.fixation_point, size, strict=True)
        ]
        self.runs.add(kinds, index, piece.t_ns, piece.x, piece.y, *fixation)

    def _event(self, run: Run) -> None:
        start, stop = run.start_ns, run.stop_ns
        if run.label == "Fixation":
            self.fixations.append(Fixation(start, stop, run.first[2], run.first[3], _NAN))
        elif run.label == "Saccade":
            self.saccades.append(Saccade(start, stop, _NAN, _NAN, *run.first[:2], *run.last[:2]))
        elif run.label == "Blink":
            self.blinks.append(Blink(start, stop, "vendor"))
        elif run.label:
            self.other_types[run.label] += 1
