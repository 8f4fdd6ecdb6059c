"""`emert-edge bench`: what a bundle takes on this device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from emert_edge.cli.options import Bundle, Detector, Device, Json, Precision, Threads
from emert_edge.cli.output import publish

__all__ = ["bench"]


def bench(
    bundle: Bundle = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    detector: Detector = None,
    compare: Annotated[
        str | None,
        typer.Option("--compare", metavar="P,…", help="Other precisions to measure beside, in the same run."),
    ] = None,
    size: Annotated[str, typer.Option("--size", metavar="WxH", help="The face camera's frames.")] = "1280x720",
    gaze_hz: Annotated[float, typer.Option("--gaze-hz", min=10, max=2000, help="Gaze samples a second.")] = 120.0,
    repeats: Annotated[int, typer.Option("--repeats", min=5, max=100_000, help="How often each is timed.")] = 100,
    streams: Annotated[str, typer.Option("--streams", metavar="N,…", help="Numbers of streams together.")] = "1,2,4",
    minutes: Annotated[
        float, typer.Option("--minutes", min=0, help="Let one stream run for so long at its own pace.")
    ] = 0.0,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", readable=False, help="Write the figures there, as JSON.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure each stage, an estimate, many streams and memory; on a Jetson power, clocks and heat as well."""
    from emert_edge.benchmarking import measure
    from emert_edge.recognizer import Recognizer

    frame = _size(size)
    numbers = _numbers(streams)
    results = []
    for chosen in dict.fromkeys([precision, *(part.strip() for part in (compare or "").split(",") if part.strip())]):
        with Recognizer(bundle, device=device, precision=chosen, threads=threads, detector=detector) as recognizer:
            results.append(
                measure(
                    recognizer, size=frame, gaze_hz=gaze_hz, repeats=repeats, streams=numbers, minutes=minutes,
                    report=lambda line: typer.echo(line, err=True),
                )
            )  # fmt: skip
    text = json.dumps(results, indent=1)
    if out is not None:
        publish(out, text.encode() + b"\n")
    if as_json:
        typer.echo(text)
        return
    _show(results)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().replace("×", "x").partition("x")
    if not (width.isdigit() and height.isdigit() and 32 <= int(width) <= 8192 and 32 <= int(height) <= 8192):
        raise typer.BadParameter(f"{text!r} is no WIDTHxHEIGHT between 32 and 8192", param_hint="--size")
    return int(width), int(height)


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and 1 <= int(part) <= 256 for part in parts):
        raise typer.BadParameter(f"{text!r}: numbers from 1 to 256, as in 1,2,4", param_hint="--streams")
    return [int(part) for part in parts]


def _show(results: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for result in results:
        what, board = result["what"], result["board"]
        console.print(
            f"{what['bundle']}, {what['precision']} on {what['device']} ({what['kernels']}), {what['frames']}, "
            f"gaze {what['gaze_hz']:g} Hz; {board.get('model') or board.get('processor') or board['machine']}, "
            f"{board['cores']} cores" + (f", power mode {board['power_mode']}" if "power_mode" in board else "")
        )
        table = Table("", "p50 ms", "p90", "p99", "outside the timing")
        rows = [*result["stages"].items(), ("an estimate, end to end", result["estimate"])]
        rows += [(f"{number} streams together", one) for number, one in result["streams"].items()]
        rows += [(f"minute {n}", one) for n, one in enumerate(result.get("running", {}).get("minutes", []), start=1)]
        for name, one in rows:
            table.add_row(name, *(f"{one[share]:.3f}" for share in ("p50", "p90", "p99")), one["outside"])
        console.print(table)
        for number, one in result["streams"].items():
            console.print(
                f"{number} streams: {one['estimates_per_second']:.0f} estimates a second, enough for "
                f"{one['streams_in_real_time']:.0f} in real time"
            )
        memory = result["memory_mb"]
        console.print(
            f"memory {memory['before']:.0f} MB, then {memory['after']:.0f} MB, at most {memory['peak']:.0f} MB"
        )
        for name, one in result["state"].items():
            console.print(f"{name}: mean {one['mean']:.1f}, at most {one['largest']:.1f}")
