"""Pupil Cloud's exports of Neon and Pupil Invisible recordings, and of its Marker Mapper: `gaze.csv`, or its folder.

- Time is `timestamp [ns]`: whole nanoseconds since 1970, UTC.
- In a recording's export points are `gaze x [px]` and `gaze y [px]`, pixels of the scene camera from the top left:
  1600 × 1200 of a Neon, 1088 × 1080 of a Pupil Invisible. Which of them it was is read from `info.json` or
  `scene_camera.json` beside the table, else from the point that the table calls straight ahead (`azimuth [deg]`);
  `metadata["scene_size_from"]` says so.
- In a Marker Mapper's export points are fractions of the surface, from the top left, beyond 0 and 1 beside it. They
  are missing where the surface was not found.
- Where `worn` is 0 nobody wore the glasses: point, pupils and apertures are missing.
- Pupil sizes and the eyelids' apertures, millimetres, come from `3d_eye_states.csv` beside it: of the sample with the
  same time. Gaze without such a one has none.
- `fixations.csv`, `saccades.csv` and `blinks.csv` beside it become the recording's events; where neither is there, the
  table's own `fixation id` and `blink id` tell them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from emert_edge.errors import GazeFormatError
from emert_edge.eye.events import Blink, Event, Events, Fixation, Saccade
from emert_edge.eye.samples import GazeSamples
from emert_edge.sources.beside import at_same_time, json_beside, table_beside
from emert_edge.sources.delimited_text import Block, Table, listed
from emert_edge.sources.gaze_recording import GazeRecording, measured, require_plausible_rate
from emert_edge.sources.labelled_runs import LabelledRuns, Run

__all__ = ["GAZE_FILE", "TITLE", "VENDOR", "read", "recognises"]

VENDOR = "pupil_cloud"
TITLE = "a Pupil Cloud export"
GAZE_FILE = "gaze.csv"

_TIME, _RECORDING = "timestamp [ns]", "recording id"
_SCENE = ("gaze x [px]", "gaze y [px]")
_SURFACE = ("gaze position on surface x [normalized]", "gaze position on surface y [normalized]")
_SIZES = {"Neon": (1600, 1200), "Pupil Invisible": (1088, 1080)}
_STRAIGHT_DEG = 15.0  # the lens bends little so near to the middle
_NAN = float("nan")
#: Where a sample's eyes come from, by the columns of `3d_eye_states.csv`; older ones have one pupil for both eyes.
_EYES = {
    "pupil_left": ("pupil diameter left [mm]", "pupil diameter [mm]"),
    "pupil_right": ("pupil diameter right [mm]", "pupil diameter [mm]"),
    "openness_left": ("eyelid aperture left [mm]",),
    "openness_right": ("eyelid aperture right [mm]",),
}
_WORN = {"": True, "1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


def recognises(header: list[str]) -> bool:
    """Whether a table with this header is such an export's gaze."""
    held = set(header)
    return _TIME in held and any(set(pair) <= held for pair in (_SCENE, _SURFACE))


def read(table: Table, name: str) -> GazeRecording:
    """Read such an export, with what lies beside it.

    Raises
    ------
    GazeFormatError
        If columns are missing, a cell cannot be read, the file holds several recordings, or nothing tells the scene
        camera.
    """
    return _Export(table, name).recording()


class _Export:
    def __init__(self, table: Table, name: str) -> None:
        self.table = table
        self.name = name
        self.folder = table.path.parent
        self.surface = set(_SURFACE) <= set(table.header)
        self.time = table.column(_TIME)
        self.points = [table.column(title) for title in (_SURFACE if self.surface else _SCENE)]
        self.worn, self.whose, self.azimuth, self.fixation, self.blink = (
            table.column(title) if title in table.header else None
            for title in ("worn", _RECORDING, "azimuth [deg]", "fixation id", "blink id")
        )
        self.info = json_beside(self.folder / "info.json", dict)
        self.device: str | None = None
        self.told_by: str | None = None
        self.recordings: set[str] = set()
        self.off = 0
        self.runs: dict[str, list[Run]] = {"fixation": [], "blink": []}
        self.labels = {kind: LabelledRuns(runs.append) for kind, runs in self.runs.items()}

    def recording(self) -> GazeRecording:
        self.eyes = self._eye_states()
        samples = GazeSamples.concatenate(self._pieces())
        if not len(samples):
            raise GazeFormatError(f"{self.table.path}: the table holds no gaze samples")
        require_plausible_rate(samples, "ns", f"{self.table.path}, column {_TIME!r}")
        rate = self.info.get("gaze_frequency")
        metadata = {
            "device": self.device,
            "rate_hz_stated": float(rate) if isinstance(rate, int | float) and rate > 0 else None,
            "recording": next(iter(self.recordings), None),
            **{
                ours: self.info[theirs]
                for theirs, ours in (("app_version", "software_version"), ("wearer_name", "participant"))
                if isinstance(self.info.get(theirs), str)
            },
            **measured(samples),
            "time_unit": "ns",
            "encoding": self.table.encoding,
            "rows_skipped": {},
            "points": "surface" if self.surface else "scene",
            "scene_size_from": self.told_by,
            "share_not_worn": round(self.off / len(samples), 6),
        }
        if self.eyes is not None:
            without = float((at_same_time(self.eyes[0], samples.t_ns) < 0).mean())
            metadata["share_without_eye_state"] = round(without, 6)
        return GazeRecording(samples, VENDOR, self.name, self._events(samples), metadata)

    def _pieces(self) -> Iterator[GazeSamples]:
        optional = (self.worn, self.whose, self.azimuth, self.fixation, self.blink)
        places = [self.time, *self.points, *(place for place in optional if place is not None)]
        for block in self.table.blocks(places):
            if self.whose is not None:
                self.recordings.update(block.decoded(cell) for cell in np.unique(block.text(self.whose)))
                if len(self.recordings) > 1:
                    raise GazeFormatError(
                        f"{self.table.path}: the file holds several recordings ({listed(sorted(self.recordings))}); "
                        f"split it by its column {_RECORDING!r}"
                    )
            piece = self._piece(block)
            for kind, place in (("fixation", self.fixation), ("blink", self.blink)):
                if place is not None:
                    number = np.nan_to_num(block.numbers(place), nan=-1.0)
                    self.labels[kind].add(number >= 0, number, piece.t_ns)
            yield piece

    def _piece(self, block: Block) -> GazeSamples:
        t_ns = block.times_ns(self.time, 1)
        x, y = (block.numbers(place) for place in self.points)
        size = None
        if not self.surface:
            if self.device is None:
                self._find_device(block, x)
            assert self.device is not None
            size = _SIZES[self.device]
            x, y = x / size[0], y / size[1]
        named: dict[str, npt.NDArray[Any]] = {"x": x, "y": y}
        if self.eyes is not None:
            place = at_same_time(self.eyes[0], t_ns)
            named |= {key: np.where(place >= 0, held[place], np.nan) for key, held in self.eyes[1].items()}
        if self.worn is not None:
            off = self._not_worn(block, self.worn)
            self.off += int(off.sum())
            for values in named.values():
                values[off] = np.nan
        return GazeSamples(
            t_ns=t_ns,
            **named,
            pupil_unit="mm" if "pupil_left" in named else None,
            space=None if self.surface else "scene",
            size_px=size,
            clock="utc",
        )

    def _not_worn(self, block: Block, place: int) -> npt.NDArray[np.bool_]:
        cells = block.text(place)
        off = np.zeros(len(block), dtype=np.bool_)
        for cell in np.unique(cells).tolist():
            worn = _WORN.get(block.decoded(cell).lower())
            if worn is None:
                row = int(np.flatnonzero(cells == cell)[0])
                raise GazeFormatError(f"{block.place(row, place)}: {block.decoded(cell)!r} is neither worn nor not")
            if not worn:
                off |= cells == cell
        return off

    def _find_device(self, block: Block, x_px: npt.NDArray[np.float64]) -> None:
        """Which glasses these are, and so how large the scene camera's pictures."""
        if "module_serial_number" in self.info:
            self.device, self.told_by = "Neon", "info.json"
        elif "glasses_serial_number" in self.info:
            self.device, self.told_by = "Pupil Invisible", "info.json"
        matrix = json_beside(self.folder / "scene_camera.json", dict).get("camera_matrix")
        match matrix if self.device is None else None:
            case [[int() | float(), int() | float(), int() | float() as middle], *_]:
                self._nearest(float(middle), "scene_camera.json")
        if self.device is None and self.azimuth is not None:
            azimuth = block.numbers(self.azimuth)
            straight = np.isfinite(x_px) & (np.abs(azimuth) < _STRAIGHT_DEG)
            if straight.sum() >= 10 and np.ptp(azimuth[straight]) > 1:
                self._nearest(float(np.polyfit(np.tan(np.radians(azimuth[straight])), x_px[straight], 1)[1]), "azimuth")
        if self.device is None and self.eyes is not None:
            self.device, self.told_by = "Neon", "3d_eye_states.csv"  # Pupil Invisible measures no eyes
        if self.device is None:
            raise GazeFormatError(
                f"{self.table.path}: points are in pixels, and nothing says of which scene camera (info.json or "
                "scene_camera.json beside it, or a column 'azimuth [deg]'); put the export's other files beside it, or "
                "open it as a plain table with columns= (or --gaze-columns) and its size_px"
            )

    def _nearest(self, middle_px: float, told_by: str) -> None:
        for device, (width, _) in _SIZES.items():
            if abs(middle_px - width / 2) < 100:
                self.device, self.told_by = device, told_by

    def _eye_states(self) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.float32]]] | None:
        table = table_beside(self.folder / "3d_eye_states.csv", _TIME)
        if table is None:
            return None
        places = {
            ours: table.column(title)
            for ours, titles in _EYES.items()
            for title in titles[::-1]
            if title in table.header
        }
        if not places:
            return None
        time = table.column(_TIME)
        times: list[npt.NDArray[np.int64]] = []
        held: dict[str, list[npt.NDArray[np.float32]]] = {ours: [] for ours in places}
        for block in table.blocks([time, *places.values()]):
            times.append(block.times_ns(time, 1))
            for ours, place in places.items():
                held[ours].append(block.numbers(place).astype(np.float32))
        if not times:
            return None
        return np.concatenate(times), {ours: np.concatenate(values) for ours, values in held.items()}

    def _events(self, samples: GazeSamples) -> Events | None:
        for labels in self.labels.values():
            labels.finish()
        unit = "normalized" if self.surface else "px"
        width, height = (1, 1) if self.device is None else _SIZES[self.device]
        rows = self._rows("fixations.csv", f"fixation x [{unit}]", f"fixation y [{unit}]")
        if rows is not None:
            fixations = [Fixation(start, stop, x / width, y / height, _NAN) for start, stop, x, y in rows]
        else:
            fixations = [self._fixation_of(run, samples) for run in self.runs["fixation"] if run.label]
        rows = self._rows("saccades.csv", "amplitude [deg]")
        saccades = [Saccade(start, stop, size, _NAN, _NAN, _NAN, _NAN, _NAN) for start, stop, size in rows or ()]
        rows = self._rows("blinks.csv")
        if rows is not None:
            blinks = [Blink(start, stop, "vendor") for start, stop in rows]
        else:
            blinks = [Blink(run.start_ns, run.stop_ns, "vendor") for run in self.runs["blink"] if run.label]
        if not fixations and not saccades and not blinks:
            return None
        return Events(
            tuple(sorted(fixations, key=_start)),
            tuple(sorted(saccades, key=_start)),
            tuple(sorted(blinks, key=_start)),
            method=VENDOR,
        )

    @staticmethod
    def _fixation_of(run: Run, samples: GazeSamples) -> Fixation:
        part = samples.part(run.begin, run.end)
        x, y = (
            float(axis[part.valid].mean(dtype=np.float64)) if part.valid.any() else _NAN for axis in (part.x, part.y)
        )
        return Fixation(run.start_ns, run.stop_ns, x, y, _NAN)

    def _rows(self, name: str, *titles: str) -> list[tuple[Any, ...]] | None:
        """This recording's events in a table beside the gaze: start, stop and some columns; None without the table."""
        table = table_beside(self.folder / name, "start timestamp [ns]", "end timestamp [ns]")
        if table is None:
            return None
        begin, end = table.column("start timestamp [ns]"), table.column("end timestamp [ns]")
        whose = table.column(_RECORDING) if _RECORDING in table.header else None
        places = [table.column(title) if title in table.header else None for title in titles]
        wanted = {place for place in (begin, end, whose, *places) if place is not None}
        found: list[tuple[Any, ...]] = []
        for block in table.blocks(sorted(wanted)):
            if whose is not None and self.recordings:
                cells = block.text(whose)
                mine = [cell for cell in np.unique(cells).tolist() if block.decoded(cell) in self.recordings]
                block = block.taken(np.isin(cells, mine))
            nothing = np.full(len(block), np.nan)
            columns = [nothing if place is None else block.numbers(place) for place in places]
            times = (block.times_ns(begin, 1), block.times_ns(end, 1))
            found.extend(zip(*(column.tolist() for column in (*times, *columns)), strict=True))
        return found


def _start(event: Event) -> int:
    return event.start_ns
