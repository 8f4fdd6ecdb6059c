"""XDF recordings (LabRecorder's): the gaze stream among the streams of a lab.

- The gaze stream is the one of type Gaze (or eye tracking) whose channels make points; where no type tells, the one
  whose channels do. Channels are found by their types, eyes and labels (`emert_edge.sources.gaze_channels`).
- Times are the recorder's LSL clock: each stream's clock offsets are applied as pyxdf does, and jitter is not removed.
- A file that is cut off, or broken between its chunks, is refused with the byte.
"""

from __future__ import annotations

import logging
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import numpy as np

from emert_edge.errors import GazeFormatError, SourceError
from emert_edge.eye.samples import GazeSamples
from emert_edge.sources.delimited_text import listed
from emert_edge.sources.gaze_channels import GazeChannels, is_gaze_type, stream_name, stream_number
from emert_edge.sources.gaze_recording import GazeRecording, measured, require_plausible_rate
from emert_edge.sources.text_lines import opened

__all__ = ["TITLE", "VENDOR", "read", "recognises"]

VENDOR = "xdf"
TITLE = "an XDF recording"

_MAGIC = b"XDF:"
_HEADER, _STREAM, _SAMPLES, _OFFSET, _BOUNDARY, _FOOTER = range(1, 7)
_LENGTHS = {1: "<B", 4: "<I", 8: "<Q"}


def recognises(start: bytes) -> bool:
    """Whether a file that begins so is such a recording."""
    return start.startswith(_MAGIC)


def read(path: Path, name: str) -> GazeRecording:
    """Read the gaze of such a recording.

    Raises
    ------
    GazeFormatError
        If the file is cut off or damaged, holds no gaze stream or several, or does not say what its points are of.
    SourceError
        If pyxdf is not installed.
    """
    streams = _streams(path)
    chosen, channels = _gaze(path, streams)
    info = streams[chosen]
    loaded = _loaded(path, chosen)
    times = np.asarray(loaded["time_stamps"], dtype=np.float64)
    values = np.asarray(loaded["time_series"])
    where = f"{path}, stream {channels.name!r}"
    if not times.size:
        raise GazeFormatError(f"{where}: the stream holds no samples")
    if not (np.isfinite(times).all() and float(np.abs(times).max()) < 9e9):
        raise GazeFormatError(f"{where}: times that are none; the file is damaged")
    try:
        samples: GazeSamples = channels.samples(np.round(times * 1e9).astype(np.int64), values, clock="lsl")
    except ValueError as error:
        raise GazeFormatError(f"{where}: {error}") from None
    require_plausible_rate(samples, "s", where)
    rate = stream_number(info.findtext("nominal_srate"))
    metadata = {
        "device": info.findtext("desc/acquisition/model") or info.findtext("desc/manufacturer") or channels.name,
        "rate_hz_stated": rate or None,
        **measured(samples),
        "time_unit": "s",
        "stream": channels.name,
        "stream_type": info.findtext("type"),
        "source_id": info.findtext("source_id"),
        "host": info.findtext("hostname"),
        "channels": {name: channels.channels[place].label for name, place in channels.places.items()},
        "unused_channels": [
            channel.label for place, channel in enumerate(channels.channels) if place not in channels.places.values()
        ],
        "other_streams": [stream_name(other) for number, other in streams.items() if number != chosen],
        "clock_offsets": len(loaded.get("clock_times", ())),
        "rows_skipped": {},
    }
    return GazeRecording(samples, VENDOR, name, None, metadata)


def _streams(path: Path) -> dict[int, ElementTree.Element]:
    """The streams' headers by their numbers; every chunk must lie whole in the file."""
    streams: dict[int, ElementTree.Element] = {}
    with opened(path) as file:
        try:
            end = file.seek(0, os.SEEK_END)
            at = file.seek(len(_MAGIC))
            while at < end:
                at = _chunk(path, file, at, end, streams)
        except (OSError, EOFError) as error:
            raise GazeFormatError(f"{path}: the file is cut off or damaged: {error}") from None
    return streams


def _chunk(path: Path, file: BinaryIO, at: int, end: int, streams: dict[int, ElementTree.Element]) -> int:
    """Look at the chunk that begins here, and say where the next does."""
    size = file.read(1)[0]
    if size not in _LENGTHS:
        raise GazeFormatError(f"{path}, byte {at}: no chunk begins here; the file is damaged, or two are in one")
    head = file.read(size)
    length = struct.unpack(_LENGTHS[size], head)[0] if len(head) == size else 0
    begin = at + 1 + size
    if len(head) < size or length < 2 or begin + length > end:
        raise GazeFormatError(f"{path}, byte {at}: the chunk that begins here is cut off")
    tag = struct.unpack("<H", file.read(2))[0]
    if not _HEADER <= tag <= _FOOTER:
        raise GazeFormatError(f"{path}, byte {at}: a chunk of unknown kind ({tag}); the file is damaged")
    if tag in (_STREAM, _SAMPLES):
        number = struct.unpack("<I", file.read(4))[0] if length >= 6 else -1
        if tag == _STREAM:
            if number in streams:
                raise GazeFormatError(
                    f"{path}, byte {at}: a second header of stream {number}; are these two recordings?"
                )
            try:
                streams[number] = ElementTree.fromstring(file.read(length - 6))
            except (ElementTree.ParseError, ValueError) as error:
                raise GazeFormatError(f"{path}, byte {at}: a stream's header cannot be read: {error}") from None
        else:
            _require_samples(path, at, file.read(min(length - 6, 9)), length - 6, streams.get(number))
    return file.seek(begin + length)


def _require_samples(path: Path, at: int, head: bytes, length: int, stream: ElementTree.Element | None) -> None:
    """A chunk of samples must be long enough for as many as it says that it holds."""
    if stream is None:
        raise GazeFormatError(f"{path}, byte {at}: samples of a stream without a header; the file is damaged")
    size = head[0] if head else 0
    count = struct.unpack(_LENGTHS[size], head[1 : 1 + size])[0] if size in _LENGTHS and len(head) > size else None
    if count is None or count * (1 + (stream_number(stream.findtext("channel_count")) or 1)) > length - 1 - size:
        raise GazeFormatError(f"{path}, byte {at}: a chunk of samples that does not hold as many as it says")


def _gaze(path: Path, streams: dict[int, ElementTree.Element]) -> tuple[int, GazeChannels]:
    """The stream of gaze, and what its channels are."""
    made = {number: channels for number, info in streams.items() if (channels := GazeChannels.of(info)) is not None}
    told = [number for number in made if is_gaze_type(streams[number])] or list(made)
    if not told:
        held = [f"{stream_name(info)} ({info.findtext('type')})" for info in streams.values()]
        raise GazeFormatError(f"{path}: no stream's channels make points of gaze; there are {listed(held) or 'none'}")
    if len(told) > 1:
        names = listed([made[number].name for number in told])
        raise GazeFormatError(f"{path}: several streams of gaze ({names}); keep one of them in the file")
    return told[0], made[told[0]]


class _Complaints(logging.Handler):
    """What pyxdf only logs: parts of a broken file that it leaves out."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.held: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.held.append(record.getMessage())


def _loaded(path: Path, stream: int) -> dict[str, Any]:
    """One stream's samples, with its clock offsets applied."""
    try:
        import pyxdf
    except ImportError:
        raise SourceError(f"{path}: XDF is read with pyxdf; pip install 'emert-edge[recordings]'") from None
    logger, complaints = logging.getLogger("pyxdf"), _Complaints()
    logger.addHandler(complaints)
    try:
        with opened(path) as file:
            found, _ = pyxdf.load_xdf(file, select_streams=[stream], dejitter_timestamps=False)
    except (OSError, EOFError, MemoryError) as error:
        raise SourceError(f"{path}: cannot be read: {error}") from error
    except Exception as error:  # pyxdf lets anything through that a broken file makes of its parsing
        raise GazeFormatError(f"{path}: the file is damaged: {type(error).__name__}: {error}") from error
    finally:
        logger.removeHandler(complaints)
    if complaints.held:
        raise GazeFormatError(f"{path}: the file is damaged: {complaints.held[0]}")
    loaded: dict[str, Any] = found[0]
    return loaded
