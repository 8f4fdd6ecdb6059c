"""Gaze from the Lab Streaming Layer, which bridges most trackers: Tobii, Pupil, EyeLink, Gazepoint and others.

An address says which stream: `lsl:` is the only one of a gaze type; `lsl:name=Tobii`, `lsl:source_id=…`, `lsl:type=…`,
`lsl:hostname=…` choose, several by commas; `size=1920x1080` says the screen's pixels where the stream does not.

Channels are found by their description, as in XDF recordings (`emert_edge.sources.gaze_channels`). Times are moved to
this machine's clock by LSL's own round trips.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from emert_edge.errors import GazeFormatError, SourceError
from emert_edge.eye.samples import GazeSamples
from emert_edge.sources.gaze_channels import GazeChannels, is_gaze_type
from emert_edge.sources.live_gaze import LiveGaze

if TYPE_CHECKING:
    import pylsl

__all__ = ["open_lsl"]

_KEYS = ("name", "type", "source_id", "hostname")
_NOTHING = GazeSamples(t_ns=[])
_LOOK_S = 1.0  # what every look for streams takes
_WAIT_S = 0.1
_GATHER_S = 0.01  # samples of so long make one piece
_OPEN_S = 5.0
_BUFFER_S = 60  # what liblsl may hold while nobody reads


def open_lsl(address: str) -> LiveGaze:
    """Connect to a gaze stream.

    Parameters
    ----------
    address : str
        `lsl:`, or `lsl:KEY=VALUE,…` as the module's text says.

    Raises
    ------
    SourceError
        If pylsl is not installed, or there is no such stream, or several: the message lists what there is.
    GazeFormatError
        If the stream's channels make no points of gaze.
    ValueError
        For an address that says something else.
    """
    wanted, size_px = _parsed(address)
    try:
        import pylsl
        import pylsl.util
    except ImportError:
        raise SourceError(f"{address}: LSL is read with pylsl; pip install 'emert-edge[lsl]'") from None
    except Exception as error:  # pylsl raises RuntimeError where its library, liblsl, cannot be loaded
        raise SourceError(f"{address}: pylsl is installed but cannot load liblsl: {error}") from None

    def connect(patience_s: float) -> _Inlet:
        return _Inlet(address, _found(address, wanted, patience_s, pylsl), size_px, pylsl)

    return LiveGaze(address, connect)


def _parsed(address: str) -> tuple[dict[str, str], tuple[int, int] | None]:
    wanted: dict[str, str] = {}
    for part in filter(None, address.partition(":")[2].split(",")):
        key, mark, value = part.partition("=")
        key = key.strip() if mark else "name"
        if key not in (*_KEYS, "size"):
            raise ValueError(f"{address}: {key!r} is none of {', '.join(_KEYS)}, size; e.g. lsl:name=Tobii")
        wanted[key] = (value if mark else part).strip()
    size = wanted.pop("size", None)
    if size is None:
        return wanted, None
    width, _, height = size.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise ValueError(f"{address}: size={size} is no WIDTHxHEIGHT in pixels")
    return wanted, (int(width), int(height))


def _found(address: str, wanted: dict[str, str], patience_s: float, pylsl: Any) -> pylsl.StreamInfo:
    """The one stream that is meant; looks once at least."""
    deadline = time.monotonic() + patience_s
    while True:
        streams = pylsl.resolve_streams(wait_time=_LOOK_S)
        if wanted:
            meant = [one for one in streams if all(getattr(one, key)() == value for key, value in wanted.items())]
        else:
            meant = [one for one in streams if is_gaze_type(ElementTree.fromstring(one.as_xml()))]
        if len(meant) == 1:
            return meant[0]
        if len(meant) > 1:
            raise SourceError(f"{address}: several streams fit; choose one, as in {_addresses(meant)}")
        if time.monotonic() >= deadline:
            kind = "such stream" if wanted else "stream of type Gaze"
            there = f"there are {_addresses(streams)}" if streams else "nor any other"
            raise SourceError(
                f"{address}: no {kind} is on the network, {there}; is the tracker's LSL app running, and does LSL's "
                "configuration let the two see each other?"
            )


def _addresses(streams: list[pylsl.StreamInfo]) -> str:
    return ", ".join(f"lsl:name={one.name()} (type {one.type()}, on {one.hostname()})" for one in streams)


class _Inlet:
    """One stream, connected."""

    def __init__(self, address: str, found: pylsl.StreamInfo, size_px: tuple[int, int] | None, pylsl: Any) -> None:
        self._address = address
        self._pylsl = pylsl
        self._inlet = pylsl.StreamInlet(found, max_buflen=_BUFFER_S, recover=False)
        try:
            info = ElementTree.fromstring(self._inlet.info(timeout=_OPEN_S).as_xml())
            self._inlet.open_stream(timeout=_OPEN_S)
        except (pylsl.util.LostError, pylsl.util.TimeoutError) as error:
            self.close()
            raise SourceError(f"{address}: the stream was there and does not answer ({error})") from None
        channels = GazeChannels.of(info)
        if channels is None:
            labels = [channel.findtext("label") or "?" for channel in info.iterfind("desc/channels/channel")]
            self.close()
            raise GazeFormatError(
                f"{address}: the stream's channels make no points of gaze: {', '.join(labels) or 'none is described'}"
            )
        channels.size_px = channels.size_px or size_px
        self._channels = channels

    def read(self) -> GazeSamples:
        try:
            sample, first_s = self._inlet.pull_sample(timeout=_WAIT_S)
            if sample is None:
                return _NOTHING
            time.sleep(_GATHER_S)
            rows, times_s = self._inlet.pull_chunk(timeout=0.0, max_samples=1 << 16)
        except self._pylsl.util.LostError:
            raise SourceError(f"{self._address}: the stream is gone") from None
        values = np.array([sample, *rows], np.float64)
        times = np.round(np.array([first_s, *times_s], np.float64) * 1e9).astype(np.int64)
        try:
            return self._channels.samples(times, values, clock="lsl")
        except ValueError as error:
            raise GazeFormatError(f"{self._address}: {error}; add size=WIDTHxHEIGHT to the address") from None

    def offset_ns(self) -> int | None:
        try:
            correction_s: float = self._inlet.time_correction(timeout=_OPEN_S)
        except self._pylsl.util.TimeoutError:
            return None
        except self._pylsl.util.LostError:
            raise SourceError(f"{self._address}: the stream is gone") from None
        before_ns = time.monotonic_ns()
        here_s: float = self._pylsl.local_clock()
        own_ns = (before_ns + time.monotonic_ns()) // 2 - round(here_s * 1e9)
        return own_ns + round(correction_s * 1e9)

    def close(self) -> None:
        self._inlet.close_stream()
