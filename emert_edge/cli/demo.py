"""`emert-edge demo`: the main job on a session made on the spot, with a picture of the result."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from emert_edge.cli.lines import open_lines
from emert_edge.cli.options import Bundle, Detector, Device, Precision, Threads
from emert_edge.cli.output import publish
from emert_edge.cli.picture import draw_session
from emert_edge.errors import EmertError
from emert_edge.estimate import Estimate
from emert_edge.recognizer import Recognizer
from emert_edge.simulation import Segment, SimulatedSession, Timeline

__all__ = ["demo", "demo_session"]

FELT = ((0.0, "neutral"), (5.0, "happiness"), (11.0, "sadness"), (18.0, "surprise"), (23.0, "anger"))
SHOWN = ((0.0, "neutral"), (5.0, "happiness"), (18.0, "surprise"), (23.0, "neutral"))
"""The face goes on smiling while the eyes grow sad, and stays calm over anger at the end."""

SECONDS = 30.0
MOST_ROWS = 28
TRUTH_SPAN_S = 2.0  # an estimate answers for the end of its window: what held for most of its last two seconds


def demo_session(seconds: float = SECONDS) -> SimulatedSession:
    """Make the demo's session: a drawn face, simulated gaze on a scene, and what is truly shown and felt."""
    return SimulatedSession(
        shown=Timeline(tuple(Segment(start, label) for start, label in SHOWN)),
        felt=Timeline(tuple(Segment(start, label) for start, label in FELT)),
        duration_s=seconds,
        seed=7,
        subject=3,
        stimulus=11,
        scene=True,
    )


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the picture and the lines go.")] = Path(
        "emert-edge-demo"
    ),
    seconds: Annotated[float, typer.Option("--seconds", min=0.5, max=600.0, help="Length of the session.")] = SECONDS,
    bundle: Bundle = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    detector: Detector = None,
) -> None:
    """Make a session on the spot, estimate it, and draw what was shown, felt and looked at.

    The face is drawn and the gaze invented: this shows that the machinery works, and nothing about people.
    """
    session = demo_session(seconds)
    console = Console()
    if not console.is_terminal:
        console.width = 100
    with Recognizer(bundle, device=device, precision=precision, threads=threads, detector=detector) as recognizer:
        description = recognizer.describe()
        console.print(
            f"bundle {description['bundle']['name']} {description['bundle']['version']} on {description['device']} "
            f"({description['precision']}), kernels {description['kernels']}, detector {description['detector']}"
        )
        out.mkdir(parents=True, exist_ok=True)
        begin = time.perf_counter()
        with open_lines(str(out / "estimates.jsonl"), live=False) as write:
            estimates = []
            for estimate in _shown_progress(console, recognizer, session):
                write(estimate)
                estimates.append(estimate)
        spent = time.perf_counter() - begin
    console.print(_table(estimates, session))
    _report_truth(console, estimates, session)
    console.print(f"{seconds:g} s of video and gaze in {spent:.1f} s, drawing the face included")
    picture = draw_session(session, estimates)
    publish(out / "demo.png", _png(picture))
    console.print(f"picture  {out / 'demo.png'}\nlines    {out / 'estimates.jsonl'}")


def _shown_progress(console: Console, recognizer: Recognizer, session: SimulatedSession) -> Iterator[Estimate]:
    columns = (
        TextColumn("{task.description:36}"),
        BarColumn(),
        TextColumn("{task.completed:.1f} s"),
        TimeElapsedColumn(),
    )
    stream = recognizer.run(session.face_source(), session.gaze, session.scene_source())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("estimating", total=session.duration_s)
        for estimate in stream:
            bar.update(task, completed=estimate.time_s, description=_in_words(estimate))
            yield estimate


def _in_words(estimate: Estimate) -> str:
    shown = estimate.expression.label if estimate.expression is not None else "?"
    felt = estimate.emotion.label if estimate.emotion is not None else "?"
    return f"shown {shown}, felt {felt}"


def _table(estimates: list[Estimate], session: SimulatedSession) -> Table:
    table = Table("time", "shown", "truly", "felt", "truly", "gap", "face", "gaze", title="felt and shown")
    for estimate in estimates[:: max(1, len(estimates) // MOST_ROWS)]:
        cells = [f"{estimate.time_s:.1f} s"]
        for part, truth in ((estimate.expression, session.shown), (estimate.emotion, session.felt)):
            cells.append("-" if part is None or part.probability is None else f"{part.label} {part.probability:.2f}")
            cells.append(_truth(truth, estimate))
        gap = f"{estimate.gap:.2f}" if estimate.gap is not None else "-"
        table.add_row(*cells, gap, f"{estimate.quality.face:.0%}", f"{estimate.quality.gaze:.0%}")
    return table


def _truth(timeline: Timeline, estimate: Estimate) -> str:
    return timeline.label(max(0.0, estimate.time_s - TRUTH_SPAN_S), max(estimate.time_s, 1e-3))


def _report_truth(console: Console, estimates: list[Estimate], session: SimulatedSession) -> None:
    for name, truth in (("expression", session.shown), ("emotion", session.felt)):
        right = total = 0
        for estimate in estimates:
            part = getattr(estimate, name)
            if part is not None:
                total += 1
                right += part.label == _truth(truth, estimate)
        if total:
            console.print(f"{name:10} read rightly in {right} of {total} estimates (of a drawn face and invented gaze)")


def _png(picture: npt.NDArray[np.uint8]) -> bytes:
    encoded, data = cv2.imencode(".png", picture)
    if not encoded:
        raise EmertError("the picture could not be encoded as PNG")
    return data.tobytes()
