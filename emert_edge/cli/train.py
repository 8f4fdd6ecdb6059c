"""`emert-edge train`: a model from simulated sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emert_edge.errors import EmertError

__all__ = ["train"]


def train(
    out: Annotated[
        Path, typer.Option("--out", readable=False, help="Folder for checkpoints; a run that lies there goes on.")
    ],
    size: Annotated[str, typer.Option("--size", help="nano or base.")] = "nano",
    faces: Annotated[int, typer.Option("--faces", min=64, help="Drawn faces for the face encoder.")] = 14000,
    face_epochs: Annotated[int, typer.Option("--face-epochs", min=1)] = 5,
    sessions: Annotated[int, typer.Option("--sessions", min=2, help="Simulated sessions for the rest.")] = 600,
    session_epochs: Annotated[int, typer.Option("--session-epochs", min=1)] = 12,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads for torch.")] = None,
) -> None:
    """Train a model on simulated sessions (needs the extra `train`); `export` makes a bundle of it."""
    if size not in ("nano", "base"):
        raise typer.BadParameter(f"{size!r} is neither nano nor base", param_hint="--size")
    try:
        from emert_edge.reference.plan import TrainingPlan
        from emert_edge.reference.training import train as run
    except ModuleNotFoundError as error:
        raise EmertError(f"training needs {error.name}: pip install 'emert-edge[train]'") from error

    plan = TrainingPlan(
        size="base" if size == "base" else "nano",
        seed=seed,
        faces=faces,
        face_epochs=face_epochs,
        sessions=sessions,
        session_epochs=session_epochs,
    )
    checkpoint = run(plan, out, lambda line: typer.echo(line, err=True), threads=threads)
    typer.echo(str(checkpoint))
