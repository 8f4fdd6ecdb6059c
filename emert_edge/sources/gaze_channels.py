"""What the channels of a gaze stream are, from their descriptions, whatever words a vendor's app describes them with.

A channel's `type` and `eye` come first, as the Gaze meta-data of XDF names them (ScreenX, ScreenY, Diameter …; left,
right, both). Where they say nothing, its label does, by the names that vendors' apps use. Recorded streams (XDF) and
live ones (LSL) carry the same description.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
import numpy.typing as npt

from emert_edge.eye.samples import GazeSamples

__all__ = ["Channel", "GazeChannels", "is_gaze_type", "stream_name", "stream_number"]

Float64Array = npt.NDArray[np.float64]

_X = (
    "x", "gx", "gazex", "xgaze", "gazepointx", "gazeposx", "gazepositionx", "xpos", "posx", "normposx", "screenx",
    "pogx", "fpogx", "porx", "gazepointondisplayareax", "gazepointondisplayarea0", "gaze2dx", "gazepoint2dx",
)  # fmt: skip
_PUPIL = (
    "pupil", "pupildiameter", "diameter", "pupilsize", "pupilarea", "pmm", "pd", "pupild", "pupildiametermm",
    "diameter3d", "diameter2d", "diameter03d", "diameter13d", "diameter02d", "diameter12d", "pupilmm",
)  # fmt: skip
_OPENNESS = ("openness", "opennessvalue", "lidaperture", "aperture", "lidopenness")
_VALID = (
    "valid", "validity", "pogv", "fpogv", "gazevalid", "gazevalidity", "gazepointvalidity", "gazepointvalid",
    "confidence",
)  # fmt: skip
_PUPIL_VALID = ("pmmv", "pupilvalid", "pupilvalidity", "pupildiametervalid", "pupildiametervalidity")
_LABELS: dict[str, str] = {
    **dict.fromkeys(_X, "x"),
    **{name[:-1] + {"x": "y", "0": "1"}[name[-1]]: "y" for name in _X if name[-1] in "x0"},
    **{"y" + name[1:]: "y" for name in _X if name[0] == "x"},
    **dict.fromkeys(_PUPIL, "pupil"),
    **dict.fromkeys(_OPENNESS, "openness"),
    **dict.fromkeys(_VALID, "valid"),
    **dict.fromkeys(_PUPIL_VALID, "pupil_valid"),
}
_TYPES = {
    "screenx": "x", "screeny": "y", "gazex": "x", "gazey": "y", "diameter": "pupil", "pupildiameter": "pupil",
    "pupilsize": "pupil", "pupilarea": "pupil", "openness": "openness", "eyeopenness": "openness",
    "confidence": "valid", "validity": "valid",
}  # fmt: skip
_PIXELS = ("px", "pixel", "pixels", "pix")
_FRACTIONS = ("normalized", "normalised", "norm", "fraction", "percent", "relative", "unitless", "none", "")
_MILLIMETRES = ("mm", "millimeter", "millimetre", "millimeters", "millimetres")
_GAZE_TYPES = ("gaze", "eyetracking", "eyetracker", "eyegaze", "eye", "et", "eyedata")
_SIDES = {"width": r"width|(^|_|resolution)x$|horizontal", "height": r"height|(^|_|resolution)y$|vertical"}
_GLASSES = {"invisible": (1088, 1080), "neon": (1600, 1200)}  # pixels of their scene cameras
_NOT_SEEN = -32768.0  # EyeLink's word for a missing value
_LARGEST_FRACTION = 4.0


@dataclass(frozen=True)
class Channel:
    """One channel, as its stream describes it; what it does not say is empty."""

    label: str
    type: str = ""
    eye: str = ""
    unit: str = ""

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Channel:
        """From the children of a `channel` element, by their names."""

        def said(*names: str) -> str:
            return next((str(description[name]).strip() for name in names if description.get(name)), "")

        return cls(said("label", "name"), said("type", "metatype"), said("eye"), said("unit", "units"))

    @property
    def side(self) -> str:
        """Whose eye's it is: "left", "right" or "" for both."""
        if self.eye.lower() in ("left", "right"):
            return self.eye.lower()
        label = self.label.lower()
        for word in ("left", "right"):
            if word in label:
                return word
        if match := re.match(r"([LR])(POG|PMM|PD|Pupil|Eye|Gaze)", self.label):
            return {"L": "left", "R": "right"}[match[1]]
        if match := re.fullmatch(r"diameter([01])_[23]d", label):
            return {"0": "right", "1": "left"}[match[1]]  # Pupil Core counts its eyes from the right one
        return ""

    @property
    def what(self) -> str:
        """What it holds: "x", "y", "pupil", "openness", "valid", "pupil_valid"; "" for anything else."""
        if known := _TYPES.get(re.sub(r"[^a-z]", "", self.type.lower())):
            return known
        label = re.sub(r"^[LRB](?=POG|PMM|PD\b|Pupil|Eye|Gaze)", "", self.label)
        label = re.sub(r"left|right|both|binocular|eye|_?(\[px\]|\[mm\])", "", label.lower())
        return _LABELS.get(re.sub(r"[^a-z0-9]", "", label), "")


@dataclass
class GazeChannels:
    """The channels of one stream that make gaze samples.

    Parameters
    ----------
    channels : list of Channel
        All of the stream's, in their order.
    name : str
        The stream's name.
    size_px : (width, height), optional
        The screen's size, where the stream's description says it.
    """

    channels: list[Channel]
    name: str = ""
    size_px: tuple[int, int] | None = None
    places: dict[str, int] = field(init=False, default_factory=dict)
    _codes: set[int] = field(init=False, default_factory=set)  # flags that were seen to be codes
    _pixels: bool | None = field(init=False, default=None)  # whether points without a unit are in pixels

    @classmethod
    def of(cls, info: Element) -> GazeChannels | None:
        """The channels of a stream that its `info` element describes; None unless they make points of gaze."""
        told_of = info.iterfind("desc/channels/channel")
        described = [Channel.of({child.tag: child.text for child in channel}) for channel in told_of]
        if not described or len(described) != stream_number(info.findtext("channel_count")):
            return None
        if info.findtext("channel_format") == "string":
            return None
        channels = cls(described, stream_name(info), _screen(info))
        return channels if channels.has_gaze else None

    def __post_init__(self) -> None:
        def rank(place: int) -> tuple[bool, bool]:
            """Samples before a filter's output, and millimetres before other sizes; of twins the first."""
            channel = self.channels[place]
            return channel.label.startswith("FPOG"), channel.unit.lower() not in _MILLIMETRES

        for place in sorted(range(len(self.channels)), key=rank):
            channel = self.channels[place]
            if channel.what:
                name = f"{channel.side} {channel.what}".strip()
                self.places.setdefault(name, place)

    @property
    def has_gaze(self) -> bool:
        """Whether some eye, or both together, has a point."""
        return any({f"{eye}x", f"{eye}y"} <= set(self.places) for eye in ("", "left ", "right "))

    @property
    def scene(self) -> bool:
        """Whether points are those of a scene camera's picture."""
        point = self.channels[self.places.get("x", 0)]
        return point.label.lower().startswith("norm_pos") or bool(
            re.search(r"neon|invisible", self.name, re.IGNORECASE)
        )

    def samples(self, t_ns: npt.NDArray[np.int64], values: Float64Array, clock: str) -> GazeSamples:
        """Samples of these channels' values.

        Of a stream that comes in pieces, what the values of one have told (whether points without a unit are pixels,
        whether a validity is Tobii's old code) holds for those that follow.

        Parameters
        ----------
        t_ns : ndarray, shape (n,), int64
            Times.
        values : ndarray, shape (n, channels)
            What the stream brought.
        clock : str
            The domain of the times.

        Raises
        ------
        ValueError
            If points are in pixels of a screen whose size nothing says, or pupils in different units.
        """
        size = self._size(values)
        named: dict[str, Any] = {}
        units = set()
        # What belongs to one eye comes before what belongs to both.
        for name, place in sorted(self.places.items(), key=lambda item: " " not in item[0]):
            eye, _, what = name.rpartition(" ")
            if what in ("valid", "pupil_valid"):
                continue
            channel, column = self.channels[place], values[:, place].astype(np.float64)
            column[column == _NOT_SEEN] = np.nan
            flag = self.places.get(f"{eye} {'pupil_valid' if what == 'pupil' else 'valid'}".strip())
            if flag is not None and what != "openness":
                column[~self._holds(values[:, flag], flag)] = np.nan
            if what in ("x", "y"):
                if size is not None and self._in_pixels(channel, values):
                    column /= size["xy".index(what)]
                if what == "y" and channel.label.lower().startswith("norm_pos"):
                    column = 1.0 - column  # Pupil Core's origin is at the bottom left
                named[f"{eye}_{what}" if eye else what] = column
            elif what == "pupil":
                column[column <= 0] = np.nan
                units.add(self._pupil_unit(channel))
                for one in (eye,) if eye else ("left", "right"):
                    named.setdefault(f"pupil_{one}", column)
            elif eye:
                named[f"openness_{eye}"] = column
        if len(units) > 1:
            raise ValueError(f"pupils come in different units: {', '.join(sorted(map(str, units)))}")
        return GazeSamples(
            t_ns=t_ns,
            **named,
            pupil_unit=units.pop() if units else None,
            space="scene" if self.scene else "screen",
            size_px=size,
            clock=clock,
        )

    def _points(self) -> Iterable[int]:
        return (place for name, place in self.places.items() if name.rpartition(" ")[2] in ("x", "y"))

    def _in_pixels(self, channel: Channel, values: Float64Array) -> bool:
        if channel.unit.lower() in _PIXELS:
            return True
        if channel.unit:
            return channel.unit.lower() not in _FRACTIONS
        # Nothing said: half of the points beyond some screens are no fractions.
        if self._pixels is None:
            held = np.abs(values[:, list(self._points())].astype(np.float64))
            held = held[np.isfinite(held) & (held != -_NOT_SEEN)]
            if held.size:
                self._pixels = float(np.median(held)) > _LARGEST_FRACTION
        return bool(self._pixels)

    def _holds(self, flag: Float64Array, place: int) -> npt.NDArray[np.bool_]:
        """Where a flag (0, 1), a confidence (0 to 1) or Tobii's old code (from 0, the best, to 4) says yes."""
        if np.nanmax(flag, initial=0.0) > 1:
            self._codes.add(place)
        return np.asarray(flag < 2) if place in self._codes else np.asarray(flag > 0)

    def _size(self, values: Float64Array) -> tuple[int, int] | None:
        size = self.size_px
        if size is None and self.scene:
            size = next((held for word, held in _GLASSES.items() if word in self.name.lower()), None)
        if size is None and any(self._in_pixels(self.channels[place], values) for place in self._points()):
            raise ValueError("points are in pixels, and the stream does not say of how many")
        return size

    @staticmethod
    def _pupil_unit(channel: Channel) -> str:
        unit = channel.unit.lower()
        if unit in _MILLIMETRES or (not unit and re.search(r"mm|_3d", channel.label.lower())):
            return "mm"
        if unit in _PIXELS or (not unit and channel.label.lower().endswith("_2d")):
            return "px"
        return "au"


def is_gaze_type(info: Element) -> bool:
    """Whether a stream's type says that it is gaze."""
    return re.sub(r"[^a-z]", "", (info.findtext("type") or "").lower()) in _GAZE_TYPES


def stream_name(info: Element) -> str:
    """A stream's name, "?" where it has none."""
    return info.findtext("name") or "?"


def stream_number(text: str | None) -> float:
    """A number of a description; 0 for anything else."""
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return value if 0 <= value < 1e9 else 0.0


def _screen(info: Element) -> tuple[int, int] | None:
    """The screen's pixels, where some part of the description says them."""
    found: dict[str, int] = {}
    for parent in info.iter():
        for child in parent:
            words = f"{parent.tag} {child.tag}".lower()
            if not re.search(r"screen|display|resolution|monitor", words) or re.search(r"mm|cm|meter|phys", words):
                continue
            for side, pattern in _SIDES.items():
                if re.search(pattern, child.tag.lower()) and 100 <= stream_number(child.text) < 100_000:
                    found.setdefault(side, round(stream_number(child.text)))
    return (found["width"], found["height"]) if len(found) == 2 else None
