"""`emert-edge run` and `record`: estimates of recordings and live streams, as lines, or in a session file."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import TIMEOUT_MAX, Timer
from typing import Annotated, Any, Literal, Protocol

import typer

from emert_edge.cli.lines import open_lines
from emert_edge.cli.options import Bundle, Detector, Device, Precision, Threads
from emert_edge.cli.output import refuse_to_replace
from emert_edge.estimate import Estimate
from emert_edge.live import LiveEstimates, Policy
from emert_edge.recognizer import Recognizer
from emert_edge.sources import FrameSource, GazeSource, open_frames, open_gaze, read_columns
from emert_edge.sources.gaze_addresses import is_live_gaze, open_live_gaze

__all__ = ["record", "run"]


_Face = Annotated[
    str | None,
    typer.Option("--face", help="Video, GIF, folder of images, camera:N, rtsp://… or gst:PIPELINE."),
]
_Gaze = Annotated[
    str | None,
    typer.Option("--gaze", help="Gaze recording (a file or an export's folder), or a live tracker: lsl:…"),
]
_Scene = Annotated[str | None, typer.Option("--scene", help="What the person saw; as --face.")]
_Offset = Annotated[float, typer.Option("--gaze-offset-ms", help="Added to the gaze's times after alignment.")]
_Align = Annotated[
    Literal["start", "clock"], typer.Option("--align", help="Lay the starts together, or trust a common clock.")
]
_Format = Annotated[str, typer.Option("--gaze-format", help="The gaze recording's vendor, or auto.")]
_Columns = Annotated[
    Path | None,
    typer.Option("--gaze-columns", metavar="FILE", readable=False, help="JSON that maps a plain table's columns."),
]
_SceneSpace = Annotated[
    Literal["scene", "screen"],
    typer.Option("--scene-space", help="scene: a head-worn camera; screen: a recording of the screen."),
]
_Fps = Annotated[float, typer.Option("--fps", min=0.1, max=1000, help="Frames a second of a folder of images.")]
_Stride = Annotated[
    float | None, typer.Option("--stride-s", help="Seconds between estimates; the bundle's own if not given.")
]
_Live = Annotated[bool, typer.Option("--live", help="Play recordings at their own pace, as if they came from devices.")]
_Policy = Annotated[
    Literal["latest", "block", "error"], typer.Option("--policy", help="What a full queue does (live).")
]
_Duration = Annotated[
    float | None, typer.Option("--duration", min=0.0, metavar="S", help="End a live run after this many seconds.")
]


def run(
    jsonl: Annotated[str, typer.Option("--jsonl", metavar="OUT", help="Where the lines go; - is standard output.")],
    face: _Face = None,
    gaze: _Gaze = None,
    scene: _Scene = None,
    session: Annotated[
        str | None, typer.Option("--session", metavar="FILE", help="A recorded session: MCAP, or the gaze of an XDF.")
    ] = None,
    bundle: Bundle = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    detector: Detector = None,
    gaze_offset_ms: _Offset = 0.0,
    align: _Align = "start",
    gaze_format: _Format = "auto",
    gaze_columns: _Columns = None,
    scene_space: _SceneSpace = "scene",
    fps: _Fps = 30.0,
    stride_s: _Stride = None,
    live: _Live = False,
    policy: _Policy = "latest",
    duration: _Duration = None,
) -> None:
    """Estimate a recording or a live stream and write one JSON line an estimate."""
    if face is None and gaze is None and session is None:
        raise typer.BadParameter("give --face, --gaze or both (or --session)")
    refuse_to_replace(jsonl, face, gaze, scene, session, gaze_columns)
    sources = _Sources.of(face, gaze, scene, gaze_format, gaze_columns, fps)
    options: dict[str, Any] = {
        "session": session, "gaze_offset_ms": gaze_offset_ms, "align": align, "scene_space": scene_space,
        "stride_s": stride_s,
    }  # fmt: skip
    streamed = live or sources.live
    _require_stream(duration, streamed)
    with (
        Recognizer(bundle, device=device, precision=precision, threads=threads, detector=detector) as recognizer,
        open_lines(jsonl, live=streamed) as write,
        _progress(_length_s(sources.face)) as progress,
    ):
        for estimate in _estimates(recognizer, sources, streamed, policy, duration, options):
            write(estimate)
            progress(estimate)


def record(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", readable=False, help="The MCAP file to make.")],
    face: _Face = None,
    gaze: _Gaze = None,
    scene: _Scene = None,
    frames: Annotated[
        bool, typer.Option("--frames", help="Keep the pictures, without loss. Left out, nobody's face is in the file.")
    ] = False,
    bundle: Bundle = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    detector: Detector = None,
    gaze_offset_ms: _Offset = 0.0,
    align: _Align = "start",
    gaze_format: _Format = "auto",
    gaze_columns: _Columns = None,
    scene_space: _SceneSpace = "scene",
    fps: _Fps = 30.0,
    stride_s: _Stride = None,
    live: _Live = False,
    policy: _Policy = "latest",
    duration: _Duration = None,
) -> None:
    """Write a session down in one file, with its estimates; `run --session` replays it bit for bit.

    Ctrl-C ends the recording; the file is whole then. After a kill it can be replayed up to its last whole chunk.
    """
    if face is None and gaze is None:
        raise typer.BadParameter("give --face, --gaze or both")
    sources = _Sources.of(face, gaze, scene, gaze_format, gaze_columns, fps)
    options: dict[str, Any] = {
        "gaze_offset_ms": gaze_offset_ms, "align": align, "scene_space": scene_space, "stride_s": stride_s,
        "record": out, "record_frames": frames,
    }  # fmt: skip
    streamed = live or sources.live
    _require_stream(duration, streamed)
    with (
        Recognizer(bundle, device=device, precision=precision, threads=threads, detector=detector) as recognizer,
        _progress(_length_s(sources.face)) as progress,
    ):
        for estimate in _estimates(recognizer, sources, streamed, policy, duration, options):
            progress(estimate)


@dataclass
class _Sources:
    """What the options name, opened."""

    face: FrameSource | None
    gaze: GazeSource | None
    scene: FrameSource | None

    @classmethod
    def of(
        cls,
        face: str | None,
        gaze: str | None,
        scene: str | None,
        gaze_format: str,
        gaze_columns: Path | None,
        fps: float,
    ) -> _Sources:
        faces = None if face is None else open_frames(face, fps=fps)
        scenes = None if scene is None else open_frames(scene, fps=fps)
        samples: GazeSource | None = None
        if gaze is not None and is_live_gaze(gaze):
            samples = open_live_gaze(gaze)
        elif gaze is not None:
            samples = open_gaze(gaze, gaze_format, columns=None if gaze_columns is None else read_columns(gaze_columns))
        return cls(faces, samples, scenes)

    @property
    def live(self) -> bool:
        return any(source is not None and source.live for source in (self.face, self.gaze, self.scene))


def _require_stream(duration: float | None, streamed: bool) -> None:
    if duration is not None and not streamed:
        raise typer.BadParameter("--duration ends a live run; a recording ends by itself (--live plays one as if live)")


def _estimates(
    recognizer: Recognizer,
    sources: _Sources,
    streamed: bool,
    policy: Policy,
    duration: float | None,
    options: dict[str, Any],
) -> Iterator[Estimate]:
    if not streamed:
        yield from recognizer.run(sources.face, sources.gaze, sources.scene, **options)
        return
    recognizer.warmup()
    stream = recognizer.live(sources.face, sources.gaze, sources.scene, policy=policy, **options)
    yield from _for_a_while(stream, duration)


def _for_a_while(stream: LiveEstimates, duration_s: float | None) -> Iterator[Estimate]:
    timer = Timer(min(duration_s, TIMEOUT_MAX), stream.stop) if duration_s is not None else None
    try:
        if timer is not None:
            timer.daemon = True
            timer.start()
        yield from stream
    finally:
        if timer is not None:
            timer.cancel()
        stream.close()


def _length_s(source: Any) -> float | None:
    """Return how long a recording says it is, for progress only."""
    frames, rate = getattr(source, "expected_frames", None), getattr(source, "fps", None)
    return frames / rate if frames and rate else None


class _Progress(Protocol):
    def __call__(self, estimate: Estimate) -> None: ...


@contextmanager
def _progress(length_s: float | None) -> Iterator[_Progress]:
    """Show progress on a terminal, and one closing line anywhere; all of it on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    begin = time.monotonic()
    seen: Counter[str] = Counter()

    def describe(estimate: Estimate) -> str:
        parts = []
        if estimate.emotion is not None:
            parts.append(f"felt {estimate.emotion.label or '-'}")
        if estimate.expression is not None:
            parts.append(f"shown {estimate.expression.label or '-'}")
        return ", ".join(parts)

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.1f} s"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("estimating", total=length_s)

        def advance(estimate: Estimate) -> None:
            seen["estimates"] += 1
            seen.update(estimate.quality.degraded)
            bar.update(task, completed=estimate.time_s, description=describe(estimate))

        interrupted = None
        try:
            yield advance
        except KeyboardInterrupt as error:
            interrupted = error
    # after an error nothing is said here: the error speaks
    count = seen.pop("estimates", 0)
    lines = [f"{count} {'estimate' if count == 1 else 'estimates'} in {time.monotonic() - begin:.1f} s"]
    lines += [f"{name} in {count}" for name, count in sorted(seen.items())]
    typer.echo("; ".join(lines), err=True)
    if interrupted is not None:
        raise interrupted
