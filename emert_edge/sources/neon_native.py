"""Pupil Labs' Neon, as its companion app stores a recording: a folder of raw arrays, their times, and their dtypes.

- Times (`.time`) are whole nanoseconds since 1970, UTC, and are never anything but int64 here.
- Gaze is `gaze_200hz.raw` where the recording was processed to have it, else `gaze ps1.raw`, `gaze ps2.raw` … joined in
  the order of their numbers: pixels of the scene camera (1600 × 1200) from the top left, as fractions here.
- Pupil sizes and the eyelids' apertures come from `eye_state`, millimetres: of the sample with the same time. Gaze
  without such a one has none.
- Where `worn` is 0 nobody wore the glasses: point, pupils and apertures are missing.
- `fixations` holds fixations and saccades, `blinks` blinks: the recording's events. Apps before 2.9.31 stored the
  fixations' points without the wearer's gaze offset, which is added here.
- Files that `manifest.json` lists are checked against its sizes and sums.
"""

from __future__ import annotations

import ast
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emert_edge.errors import GazeFormatError, SourceError
from emert_edge.eye.events import Blink, Events, Fixation, Saccade
from emert_edge.eye.samples import GazeSamples
from emert_edge.sources.beside import at_same_time, json_beside
from emert_edge.sources.gaze_recording import GazeRecording, measured, require_plausible_rate

__all__ = ["SCENE_SIZE_PX", "TITLE", "VENDOR", "read", "recognises"]

VENDOR = "neon_native"
TITLE = "a native Neon recording"
SCENE_SIZE_PX = (1600, 1200)

_GAZE = re.compile(r"gaze( ps\d+|_200hz)\.raw")
_SACCADE, _FIXATION = 0, 1
_OFFSET_MISSING_BEFORE = (2, 9, 31)
_EYE_STATE = [
    *(("pupil_diameter_left_mm", "float32"), *((f"left{number}", "float32") for number in range(6))),
    *(("pupil_diameter_right_mm", "float32"), *((f"right{number}", "float32") for number in range(6))),
]
#: What arrays hold where the recording has no `.dtype` file that says it.
_DTYPES: dict[str, list[tuple[str, str]]] = {
    "gaze": [("x", "float32"), ("y", "float32")],
    "worn": [("worn", "uint8")],
    "eye_state": _EYE_STATE,
}
_NEEDED: dict[str, tuple[str, ...]] = {
    "gaze": ("x", "y"),
    "worn": ("worn",),
    "eye_state": (),
    "fixations": ("start_timestamp_ns", "end_timestamp_ns"),
    "blinks": ("start_timestamp_ns", "end_timestamp_ns"),
}
_SCALARS = {"float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
#: Facts of info.json, under the names they get in the metadata.
_FACTS = {
    "app_version": "software_version",
    "pipeline_version": "pipeline_version",
    "data_format_version": "data_format_version",
    "module_serial_number": "serial_number",
    "recording_id": "recording",
    "gaze_mode": "gaze_mode",
    "start_time": "recording_start_ns",
    "duration": "recording_duration_ns",
}


def recognises(folder: Path) -> bool:
    """Whether a folder is such a recording."""
    try:
        return any(_GAZE.fullmatch(entry.name) for entry in folder.iterdir())
    except OSError as error:
        raise SourceError(f"{folder}: cannot be read: {error.strerror or error}") from error


def read(path: Path, name: str) -> GazeRecording:
    """Read such a recording.

    Raises
    ------
    GazeFormatError
        If a file is cut off, changed, or holds something else than its name says.
    """
    return _Recording(path, name).recording()


class _Recording:
    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.info = json_beside(folder / "info.json", dict)
        self.listed = {
            entry["name"]: entry
            for entry in json_beside(folder / "manifest.json", list)
            if isinstance(entry, dict) and isinstance(entry.get("name"), str)
        }

    def recording(self) -> GazeRecording:
        t_ns, gaze, parts = self._timed("gaze")
        if not t_ns.size:
            raise GazeFormatError(f"{self.folder}: the recording holds no gaze samples")
        named: dict[str, npt.NDArray[Any]] = {
            axis: gaze[axis].astype(np.float64) / side for axis, side in zip("xy", SCENE_SIZE_PX, strict=True)
        }
        state_t, state, _ = self._timed("eye_state")
        place = at_same_time(state_t, t_ns)
        for ours, field in (
            *((f"pupil_{eye}", f"pupil_diameter_{eye}_mm") for eye in ("left", "right")),
            *((f"openness_{eye}", f"eyelid_aperture_{eye}_mm") for eye in ("left", "right")),
        ):
            if field in (state.dtype.names or ()):
                named[ours] = np.where(place >= 0, state[field][place], np.nan)
        worn_t, worn, _ = self._timed("worn")
        place = at_same_time(worn_t, t_ns)
        off = np.zeros(t_ns.size, dtype=np.bool_)
        if worn_t.size:
            off = (place >= 0) & (worn["worn"][place] == 0)
        for values in named.values():
            values[off] = np.nan
        samples = GazeSamples(
            t_ns=t_ns,
            **named,
            pupil_unit="mm" if "pupil_left" in named else None,
            space="scene",
            size_px=SCENE_SIZE_PX,
            clock="utc",
        )
        require_plausible_rate(samples, "ns", f"{self.folder}, {parts[0]}")
        wearer = json_beside(self.folder / "wearer.json", dict)
        rate = self.info.get("gaze_frequency")
        metadata = {
            "device": "Neon",
            "rate_hz_stated": float(rate) if isinstance(rate, int | float) and rate > 0 else None,
            **{ours: self.info[theirs] for theirs, ours in _FACTS.items() if theirs in self.info},
            **({"participant": wearer["name"]} if isinstance(wearer.get("name"), str) else {}),
            **measured(samples),
            "time_unit": "ns",
            "files": parts,
            "rows_skipped": {},
            "share_not_worn": round(float(off.mean()), 6),
            "share_without_eye_state": round(float((at_same_time(state_t, t_ns) < 0).mean()), 6),
            **self._messages(),
        }
        return GazeRecording(samples, VENDOR, self.name, self._events(), metadata)

    def _timed(self, kind: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any], list[str]]:
        """The times and items of all parts of a kind; empty where the recording has none."""
        times, items, names = [], [], []
        for raw, time in self._pairs(kind):
            t_ns = np.frombuffer(self._bytes(time, 8), dtype="<i8")
            content = self._bytes(raw, 1)
            dtype = self._dtype(kind, raw, len(content), t_ns.size)
            held = np.frombuffer(content, dtype=dtype)
            if held.size != t_ns.size:
                raise GazeFormatError(
                    f"{self.folder / raw}: {held.size} items where {time} has {t_ns.size} times; one of them is cut off"
                )
            times.append(t_ns)
            items.append(held)
            names.append(raw)
        if not names:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=[("", "u1")]), []
        if len({held.dtype for held in items}) > 1:
            raise GazeFormatError(f"{self.folder}: the parts of {kind} differ in what they hold")
        return np.concatenate(times).astype(np.int64), np.concatenate(items), names

    def _pairs(self, kind: str) -> Iterator[tuple[str, str]]:
        held = {entry.name for entry in self.folder.iterdir()}
        if f"{kind}_200hz.raw" in held and "gaze_200hz.time" in held:
            yield f"{kind}_200hz.raw", "gaze_200hz.time"
            return
        pattern = re.compile(rf"{kind} ps(\d+)\.raw")
        numbers = sorted((int(match[1]), match[0]) for name in held if (match := pattern.fullmatch(name)))
        for number, raw in numbers:
            # `worn` goes with the gaze's times and has none of its own.
            times = [f"{of} ps{number}.time" for of in (kind, "gaze") if f"{of} ps{number}.time" in held]
            if not times or (kind != "worn" and not times[0].startswith(f"{kind} ")):
                raise GazeFormatError(f"{self.folder / raw}: its times are missing ({kind} ps{number}.time)")
            yield raw, times[0]

    def _bytes(self, name: str, item: int) -> bytes:
        path = self.folder / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
        if len(content) % item:
            raise GazeFormatError(f"{path}: {len(content)} bytes are no whole number of {item}; the file is cut off")
        listed = self.listed.get(name)
        if listed is not None:
            if listed.get("size") != len(content):
                raise GazeFormatError(f"{path}: {len(content)} bytes where manifest.json says {listed.get('size')}")
            if listed.get("crc") not in (None, f"{zlib.crc32(content):x}"):
                raise GazeFormatError(f"{path}: not the content that manifest.json tells of; the file is damaged")
        return content

    def _dtype(self, kind: str, raw: str, size: int, count: int) -> np.dtype[Any]:
        path = self.folder / f"{kind}.dtype"
        fields = _DTYPES.get(kind)
        if path.is_file():
            try:
                told = ast.literal_eval(self._bytes(path.name, 1).decode("utf-8").strip())
                fields = [(str(name), str(scalar)) for name, scalar in told]
                if not fields or not all(scalar in _SCALARS for _, scalar in fields):
                    raise ValueError(f"unknown types: {fields}")
                dtype = np.dtype([(name, np.dtype(scalar).newbyteorder("<")) for name, scalar in fields])
            except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
                raise GazeFormatError(f"{path}: says no array's type: {str(error)[:200]}") from None
        elif fields is None:
            raise GazeFormatError(f"{path}: there is no such file, and nothing else says what {raw} holds")
        else:
            dtype = np.dtype([(name, np.dtype(scalar).newbyteorder("<")) for name, scalar in fields])
        for needed in _NEEDED[kind]:
            if needed not in (dtype.names or ()):
                raise GazeFormatError(f"{path}: no field {needed!r}; there are {', '.join(dtype.names or ())}")
        if size % dtype.itemsize:
            raise GazeFormatError(
                f"{self.folder / raw}: {size} bytes are no whole number of items of {dtype.itemsize} bytes; the file "
                f"is cut off ({count} were recorded)"
            )
        return dtype

    def _events(self) -> Events | None:
        _, held, files = self._timed("fixations")
        _, shut, blink_files = self._timed("blinks")
        if not files and not blink_files:
            return None
        fixations, saccades = [], []
        offset = self._missing_offset()
        width, height = SCENE_SIZE_PX
        names = held.dtype.names or ()

        def value(item: Any, field: str) -> float:
            return float(item[field]) if field in names else float("nan")

        for item in held if files else ():
            start, stop = int(item["start_timestamp_ns"]), int(item["end_timestamp_ns"])
            kind = int(item["event_type"]) if "event_type" in names else _FIXATION
            if kind == _FIXATION:
                x, y = (value(item, f"mean_gaze_{axis}") + more for axis, more in zip("xy", offset, strict=True))
                fixations.append(Fixation(start, stop, x / width, y / height, float("nan")))
            elif kind == _SACCADE:
                ends = (
                    value(item, f"{end}_gaze_{axis}") / side
                    for end in ("start", "end")
                    for axis, side in zip("xy", SCENE_SIZE_PX, strict=True)
                )
                saccades.append(Saccade(start, stop, value(item, "amplitude_angle_deg"), float("nan"), *ends))
        blinks = [
            Blink(int(item["start_timestamp_ns"]), int(item["end_timestamp_ns"]), "vendor")
            for item in (shut if blink_files else ())
        ]
        kinds = (sorted(kind, key=lambda event: event.start_ns) for kind in (fixations, saccades, blinks))
        first, second, third = (tuple(kind) for kind in kinds)
        return Events(first, second, third, method=VENDOR)  # type: ignore[arg-type]

    def _missing_offset(self) -> tuple[float, float]:
        version = re.match(r"(\d+)\.(\d+)\.(\d+)", str(self.info.get("app_version", "")))
        offset = self.info.get("gaze_offset")
        if version is None or tuple(map(int, version.groups())) >= _OFFSET_MISSING_BEFORE:
            return 0.0, 0.0
        if (
            not isinstance(offset, list)
            or len(offset) != 2
            or not all(isinstance(side, int | float) for side in offset)
        ):
            return 0.0, 0.0
        return float(offset[0]), float(offset[1])

    def _messages(self) -> dict[str, Any]:
        """The recording's own marks (event.txt), with their times."""
        if not (self.folder / "event.txt").is_file() or not (self.folder / "event.time").is_file():
            return {}
        texts = self._bytes("event.txt", 1).decode("utf-8", errors="replace").splitlines()
        times = np.frombuffer(self._bytes("event.time", 8), dtype="<i8").astype(np.int64)
        if len(texts) != times.size:
            raise GazeFormatError(
                f"{self.folder / 'event.txt'}: {len(texts)} marks where event.time has {times.size} times"
            )
        return {"messages": np.array(texts, dtype=object), "message_times_ns": times}
