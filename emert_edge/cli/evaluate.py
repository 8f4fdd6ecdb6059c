"""`emert-edge evaluate`: how good a model is, under splits that say what that means."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import typer

from emert_edge.cli.options import Device, Json, Precision, Threads
from emert_edge.errors import EmertError

__all__ = ["evaluate"]

SplitName = Literal["folds", "subjects", "stimuli"]


def _split_names(given: list[str] | None) -> list[str] | None:
    known = get_args(SplitName)
    if wrong := [name for name in given or () if name not in known]:
        raise typer.BadParameter(f"{wrong[0]!r} is none of {', '.join(known)}")
    return given


def evaluate(
    configuration: Annotated[Path, typer.Argument(readable=False, help="The run, in YAML; docs/training.md.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", readable=False, help="The evaluation's folder; one that lies there goes on."),
    ] = None,
    splits: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            callback=_split_names,
            help="folds, subjects or stimuli; may be repeated. All that the data allow if not given.",
        ),
    ] = None,
    folds: Annotated[
        int | None, typer.Option("--folds", min=2, help="Folds of unseen subjects and of unseen stimuli.")
    ] = None,
    protocol: Annotated[
        list[str] | None, typer.Option("--protocol", help="ER-7, FER-3, er-valence …; may be repeated. All nine.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", readable=False, help="Train nothing; ask this finished model.pt.")
    ] = None,
    bundle: Annotated[
        str | None, typer.Option("--bundle", help="Train nothing; ask this bundle: a name, folder or .emert file.")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", readable=False, help="Folder of this configuration's run: lends its face encoder."),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="In place of the configuration's.")] = None,
    draws: Annotated[int, typer.Option("--draws", min=0, help="Draws of the bootstrap; 0 gives no intervals.")] = 1000,
    as_json: Json = False,
) -> None:
    """Measure (needs the extra `train`): train anew for each fold, or ask a finished model or a bundle.

    Without --model or --bundle the configuration's stage of sessions is trained for each fold of each split, and --out
    is needed. Otherwise all sessions of the configuration are the test, and you vouch that none was trained on.
    """
    if model is not None and bundle is not None:
        raise typer.BadParameter("give --model or --bundle, not both")
    if bundle is None and (device, precision) != ("auto", "auto"):
        raise typer.BadParameter("--device and --precision are of a --bundle; models and training are PyTorch's")
    if model is None and bundle is None:
        if out is None:
            raise typer.BadParameter("training for each fold needs a folder", param_hint="--out")
    elif splits or folds or run:
        raise typer.BadParameter("--split, --folds and --run belong to training; a finished model is asked about all")
    try:
        from emert_edge.reference import evaluate as evaluation
        from emert_edge.reference.assessment.protocols import protocols_by_name
        from emert_edge.reference.assessment.report import assess, markdown, write_report
        from emert_edge.reference.configuration import read_configuration
    except ModuleNotFoundError as error:
        raise EmertError(f"evaluating needs {error.name}: pip install 'emert-edge[train]'") from error

    def report(line: str) -> None:
        typer.echo(line, err=True)

    protocols = protocols_by_name(protocol or [])
    read = read_configuration(configuration)
    given: dict[str, Any] = {} if seed is None else {"seed": seed}
    if threads is not None:
        given["trainer"] = read.trainer.model_copy(update={"threads": threads})
    read = read.model_copy(update=given)
    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        if bundle is not None:
            from emert_edge.bundle import open_bundle

            results, about = evaluation.evaluate_bundle(
                read, open_bundle(bundle), folder, device=device, precision=precision, threads=threads, report=report
            )
        elif model is not None:
            results, about = evaluation.evaluate_model(read, model, folder, report=report)
        else:
            results, about = evaluation.evaluate_training(
                read,
                folder,
                splits=cast("list[SplitName]", splits or []),
                folds=folds,
                run=run,
                report=report,
            )
        measured, pictures = assess(results, about, protocols=protocols, draws=draws, seed=read.seed, report=report)
        if out is not None:
            written = write_report(out / "report", measured, pictures)
            report(f"{written / 'report.md'} is written")
    if as_json:
        typer.echo(json.dumps(measured, allow_nan=False))
    elif out is None:
        typer.echo(markdown(measured))
    else:
        typer.echo(str(out / "report" / "report.md"))
