"""`emert-edge run`: estimates of a recording or a live stream, a line each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Annotated, Any, Literal, Protocol

import typer

from emert_edge.cli.lines import open_lines
from emert_edge.cli.options import Bundle, Detector, Device, Precision, Threads
from emert_edge.cli.output import refuse_to_replace
from emert_edge.estimate import Estimate
from emert_edge.live import LiveEstimates

__all__ = ["run"]


def run(
    jsonl: Annotated[str, typer.Option("--jsonl", metavar="OUT", help="Where the lines go; - is standard output.")],
    face: Annotated[
        str | None,
        typer.Option("--face", help="Video, GIF, folder of images, camera:N, rtsp://… or gst:PIPELINE."),
    ] = None,
    gaze: Annotated[
        str | None,
        typer.Option("--gaze", help="Gaze recording (a file or an export's folder), or a live tracker: lsl:…"),
    ] = None,
    scene: Annotated[str | None, typer.Option("--scene", help="What the person saw; as --face.")] = None,
    session: Annotated[str | None, typer.Option("--session", hidden=True)] = None,
    bundle: Bundle = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    detector: Detector = None,
    gaze_offset_ms: Annotated[
        float, typer.Option("--gaze-offset-ms", help="Added to the gaze's times after alignment.")
    ] = 0.0,
    align: Annotated[
        Literal["start", "clock"], typer.Option("--align", help="Lay the starts together, or trust a common clock.")
    ] = "start",
    gaze_format: Annotated[str, typer.Option("--gaze-format", help="The gaze recording's vendor, or auto.")] = "auto",
    gaze_columns: Annotated[
        Path | None,
        typer.Option("--gaze-columns", metavar="FILE", readable=False, help="JSON that maps a plain table's columns."),
    ] = None,
    scene_space: Annotated[
        Literal["scene", "screen"],
        typer.Option("--scene-space", help="scene: a head-worn camera; screen: a recording of the screen."),
    ] = "scene",
    fps: Annotated[
        float, typer.Option("--fps", min=0.1, max=1000, help="Frames a second of a folder of images.")
    ] = 30.0,
    stride_s: Annotated[
        float | None, typer.Option("--stride-s", help="Seconds between estimates; the bundle's own if not given.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Play recordings at their own pace, as if they came from devices.")
    ] = False,
    policy: Annotated[
        Literal["latest", "block", "error"], typer.Option("--policy", help="What a full queue does (live).")
    ] = "latest",
    duration: Annotated[
        float | None, typer.Option("--duration", min=0.0, metavar="S", help="End a live run after this many seconds.")
    ] = None,
) -> None:
    """Estimate a recording or a live stream and write one JSON line an estimate."""
    from emert_edge.recognizer import Recognizer
    from emert_edge.sources import open_frames, open_gaze
    from emert_edge.sources.gaze_addresses import is_live_gaze, open_live_gaze

    if face is None and gaze is None and session is None:
        raise typer.BadParameter("give --face, --gaze or both (or --session)")
    refuse_to_replace(jsonl, face, gaze, scene, session, gaze_columns)
    faces = None if face is None else open_frames(face, fps=fps)
    scenes = None if scene is None else open_frames(scene, fps=fps)
    samples: Any = None
    if gaze is not None and is_live_gaze(gaze):
        samples = open_live_gaze(gaze)
    elif gaze is not None:
        samples = open_gaze(gaze, gaze_format, columns=_columns(gaze_columns))
    streamed = live or any(source is not None and source.live for source in (faces, samples, scenes))
    if duration is not None and not streamed:
        raise typer.BadParameter("--duration ends a live run; a recording ends by itself (--live plays one as if live)")
    options: dict[str, Any] = {
        "session": session,
        "gaze_offset_ms": gaze_offset_ms,
        "align": align,
        "scene_space": scene_space,
        "stride_s": stride_s,
    }
    with (
        Recognizer(bundle, device=device, precision=precision, threads=threads, detector=detector) as recognizer,
        open_lines(jsonl, live=streamed) as write,
        _progress(_length_s(faces)) as progress,
    ):
        if streamed:
            recognizer.warmup()
            estimates = _for_a_while(recognizer.live(faces, samples, scenes, policy=policy, **options), duration)
        else:
            estimates = recognizer.run(faces, samples, scenes, **options)
        for estimate in estimates:
            write(estimate)
            progress(estimate)


def _for_a_while(stream: LiveEstimates, duration_s: float | None) -> Iterator[Estimate]:
    timer = Timer(duration_s, stream.stop) if duration_s is not None else None
    try:
        if timer is not None:
            timer.daemon = True
            timer.start()
        yield from stream
    finally:
        if timer is not None:
            timer.cancel()
        stream.close()


def _columns(file: Path | None) -> Any:
    if file is None:
        return None
    from emert_edge.sources.gaze import read_columns

    return read_columns(file)


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
