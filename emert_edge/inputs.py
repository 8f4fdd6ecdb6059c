"""What `run` and `live` are given: paths or sources, opened together and closed together."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from emert_edge.errors import SourceError
from emert_edge.estimate import Estimate
from emert_edge.eye.samples import GazeSamples
from emert_edge.recording import is_mcap
from emert_edge.session import Session
from emert_edge.sources import FrameSource, GazeSource, open_frames, open_gaze
from emert_edge.sources.gaze_addresses import is_live_gaze, open_live_gaze

__all__ = [
    "Align",
    "FrameInput",
    "GazeInput",
    "Inputs",
    "Space",
    "close_estimates",
    "gaze_offset_ns",
    "gaze_pieces",
    "is_recording",
    "open_inputs",
]

FrameInput: TypeAlias = "str | Path | int | FrameSource"
GazeInput: TypeAlias = "str | Path | GazeSamples | GazeSource"
Align: TypeAlias = Literal["start", "clock"]
Space: TypeAlias = Literal["scene", "screen"]

_PIECE_NS = 100_000_000


class _HeldSamples:
    """Samples that a caller holds in memory, as a recorded source."""

    name = "gaze samples"
    live = False

    def __init__(self, samples: GazeSamples) -> None:
        self._samples = samples.sorted()
        self.clock = samples.clock or ""

    def chunks(self) -> Iterator[GazeSamples]:
        yield self._samples

    def close(self) -> None:
        """Nothing is held open."""


def gaze_pieces(source: GazeSource) -> Iterator[GazeSamples]:
    """Yield a recording's samples in pieces of a tenth of a second, so that gaze never runs far ahead of faces."""
    for chunk in source.chunks():
        ordered = chunk.sorted()
        times = ordered.t_ns
        first = 0
        while first < len(times):
            start = int(times[first])
            yield ordered.between(start, start + _PIECE_NS)
            first = int(times.searchsorted(start + _PIECE_NS))


@dataclass(frozen=True, slots=True)
class Inputs:
    """The sources of one stream."""

    face: FrameSource | None
    gaze: GazeSource | None
    scene: FrameSource | None
    scene_space: Space

    def close(self) -> None:
        """Close them all."""
        for source in (self.face, self.gaze, self.scene):
            if source is not None:
                source.close()

    def release(self, session: Session) -> None:
        """Close a session and the sources that feed it."""
        try:
            session.close()
        finally:
            self.close()

    def require_recorded(self) -> None:
        """Raise `SourceError` if a source is live."""
        for source in (self.face, self.gaze, self.scene):
            if source is not None and source.live:
                raise SourceError(f"{source.name} is a live source; run() is for recordings: use live()")

    def require_common_clock(self) -> None:
        """Raise `ValueError` unless all sources state one clock domain, or none."""
        clocks = {source.name: source.clock for source in (self.face, self.gaze, self.scene) if source is not None}
        if len({clock for clock in clocks.values() if clock}) > 1:
            listed = ", ".join(f"{name} in {clock!r}" for name, clock in clocks.items())
            raise ValueError(f"align='clock' needs one clock domain; here are {listed}: use align='start'")


def is_recording(path: str | Path) -> bool:
    """Whether a file is an MCAP recording, by how it begins.

    Raises
    ------
    SourceError
        There is no such file, or it may not be read.
    """
    try:
        with Path(path).open("rb") as file:
            return is_mcap(file.read(16))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}; check the path") from None


def open_inputs(
    face: FrameInput | None,
    gaze: GazeInput | None,
    scene: FrameInput | None,
    recorded: str | Path | None,
    scene_space: Space,
    align: str,
    *,
    live: bool,
) -> Inputs:
    """Open what was given; what was opened is closed again if another fails.

    Raises
    ------
    ValueError
        Nothing was given, or an option is unknown.
    SourceError
        Something cannot be opened, or is live where `live` says that only recordings will do.
    """
    if align not in ("start", "clock"):
        raise ValueError(f"align must be 'start' or 'clock', not {align!r}")
    if scene_space not in ("scene", "screen"):
        raise ValueError(f"scene_space must be 'scene' or 'screen', not {scene_space!r}")
    if recorded is not None:
        if gaze is not None:
            raise ValueError(f"{recorded} is a session with gaze of its own: give no other gaze beside it")
        gaze = Path(recorded)
    if face is None and gaze is None:
        raise ValueError("nothing to estimate from: give face, gaze or both")
    inputs = Inputs(None, None, None, scene_space)
    try:
        inputs = replace(inputs, face=None if face is None else open_frames(face))
        inputs = replace(inputs, gaze=None if gaze is None else _open_gaze_source(gaze))
        inputs = replace(inputs, scene=None if scene is None else open_frames(scene))
        if not live:
            inputs.require_recorded()
        if align == "clock":
            inputs.require_common_clock()
    except BaseException:
        inputs.close()
        raise
    return inputs


def _open_gaze_source(gaze: GazeInput) -> GazeSource:
    if isinstance(gaze, GazeSamples):
        return _HeldSamples(gaze)
    if isinstance(gaze, Path):
        return open_gaze(gaze)
    if isinstance(gaze, str):
        return open_live_gaze(gaze) if is_live_gaze(gaze) else open_gaze(gaze)
    if not hasattr(gaze, "chunks"):
        raise TypeError(f"gaze must be a path, GazeSamples or a GazeSource, not {type(gaze).__name__}")
    return gaze


def gaze_offset_ns(offset_ms: float) -> int:
    """Check a gaze offset and return it in nanoseconds."""
    if isinstance(offset_ms, bool) or not isinstance(offset_ms, numbers.Real):
        raise TypeError(f"gaze_offset_ms must be a number, not {type(offset_ms).__name__}")
    if not math.isfinite(offset_ms) or abs(offset_ms) > 3.6e6:
        raise ValueError(f"gaze_offset_ms must be within an hour, not {offset_ms}")
    return round(float(offset_ms) * 1e6)


def close_estimates(estimates: Generator[Estimate, None, None], release: Callable[[], None]) -> None:
    """Close a generator; `release` stands for its `finally`, which does not run where nothing was asked of it."""
    begun = inspect.getgeneratorstate(estimates) != inspect.GEN_CREATED
    estimates.close()
    if not begun:
        release()
