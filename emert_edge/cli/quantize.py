"""`emert-edge quantize`: INT8 graphs for a bundle, if they may take FP32's place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from emert_edge.cli.options import Json, Threads
from emert_edge.errors import CalibrationRejected, EmertError

__all__ = ["quantize"]

GATE = "The gate"


def quantize(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="Name, folder or .emert file, with FP32 graphs.")],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            readable=False,
            help="What to find ranges on: a folder or archive of pictures, one folder a class; a table of sessions; "
            "or a YAML description; docs/quantization.md.",
        ),
    ],
    target: Annotated[
        Literal["cpu", "tensorrt"], typer.Option("--target", help="Which engine the graphs are placed for.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", readable=False, help="Where the bundle is written; in its own place if not given."),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", min=16, help="Samples for ranges and for comparing calibrators, half each.")
    ] = 512,
    calibrator: Annotated[
        Literal["minmax", "entropy", "percentile", "compare"],
        typer.Option("--calibrator", help="How ranges are found; compare tries all three and names the best."),
    ] = "compare",
    keep_float: Annotated[
        list[str] | None,
        typer.Option("--keep-float", metavar="LAYER", help="A layer (node) that stays float; may be repeated."),
    ] = None,
    gate_data: Annotated[
        Path | None,
        typer.Option(
            "--gate-data",
            readable=False,
            help="Judge on these, as --data; what of --data was not used for ranges if not given.",
            rich_help_panel=GATE,
        ),
    ] = None,
    max_uar_drop: Annotated[
        float, typer.Option("--max-uar-drop", min=0, max=100, help="In points.", rich_help_panel=GATE)
    ] = 0.5,
    min_agreement: Annotated[
        float, typer.Option("--min-agreement", min=0, max=100, help="In per cent.", rich_help_panel=GATE)
    ] = 98.0,
    max_ece_rise: Annotated[
        float, typer.Option("--max-ece-rise", min=0, max=100, help="In points.", rich_help_panel=GATE)
    ] = 1.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of every draw.")] = 0,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Quantise a bundle's encoders to INT8 and judge them beside FP32 (needs the extras `train` and `export`).

    Written, with the evidence, only if unweighted recall, agreement with FP32 and calibration error keep their bounds.
    """
    try:
        import onnx  # noqa: F401

        from emert_edge.calibration import Bounds, Report
        from emert_edge.calibration import quantize as run
    except ModuleNotFoundError as error:
        raise EmertError(f"quantising needs {error.name}: pip install 'emert-edge[train,export]'") from error

    bounds = Bounds(max_uar_drop=max_uar_drop, min_agreement=min_agreement, max_ece_rise=max_ece_rise)
    try:
        with _progress() as (report, progress):
            made = run(
                bundle,
                data,
                target,
                gate_data=gate_data,
                out=out,
                samples=samples,
                calibrator=calibrator,
                keep_float=keep_float or (),
                bounds=bounds,
                seed=seed,
                threads=threads,
                report=report,
                progress=progress,
            )
    except CalibrationRejected as error:
        if isinstance(error.report, Report):
            if as_json:
                typer.echo(json.dumps(error.report.to_dict(), indent=2))
            else:
                typer.echo(error.report.text(), err=True)
        raise
    typer.echo(json.dumps(made.to_dict(), indent=2) if as_json else made.text())


@contextmanager
def _progress() -> Iterator[tuple[Callable[[str], None], Callable[[str, int, int], None]]]:
    """A bar on a terminal, plain lines elsewhere; both on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("quantising", total=None)

        def report(line: str) -> None:
            if console.is_terminal:
                bar.update(task, description=line, completed=0, total=None)
            else:
                typer.echo(line, err=True)

        def progress(step: str, done: int, total: int) -> None:
            bar.update(task, description=step, completed=done, total=total)

        yield report, progress
