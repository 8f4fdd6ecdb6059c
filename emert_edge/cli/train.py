"""`emert-edge train`: a model from a configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from emert_edge.errors import EmertError

__all__ = ["train"]


def train(
    configuration: Annotated[Path, typer.Argument(readable=False, help="The run, in YAML; docs/training.md.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", readable=False, help="The run's folder; a run that lies there goes on. Else runs/NAME."),
    ] = None,
    accelerator: Annotated[str | None, typer.Option("--accelerator", help="auto, cpu or gpu.")] = None,
    devices: Annotated[int | None, typer.Option("--devices", min=1, help="GPUs, or processes on a CPU.")] = None,
    strategy: Annotated[str | None, typer.Option("--strategy", help="auto, or ddp for several processes.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads of torch in a process.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write what was measured as JSON on standard output.")
    ] = False,
) -> None:
    """Train a model (needs the extra `train`); `export` makes a bundle of it, `evaluate` measures it."""
    try:
        from emert_edge.reference.configuration import read_configuration
        from emert_edge.reference.stages.run import train as run
    except ModuleNotFoundError as error:
        raise EmertError(f"training needs {error.name}: pip install 'emert-edge[train]'") from error

    read = read_configuration(configuration)
    given = {"accelerator": accelerator, "devices": devices, "strategy": strategy, "threads": threads}
    settings = read.trainer.model_copy(update={name: value for name, value in given.items() if value is not None})
    folder = out or Path("runs") / read.name
    try:
        finished = run(read.model_copy(update={"trainer": settings}), folder, lambda line: typer.echo(line, err=True))
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from the last whole epoch", err=True)
        raise
    measured = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    if as_json:
        typer.echo(json.dumps({"checkpoint": str(finished), "validation": measured}))
    else:
        typer.echo(str(finished))
