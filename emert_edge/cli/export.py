"""`emert-edge export`: a bundle from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from emert_edge.errors import EmertError

__all__ = ["export"]

PUBLISHED = "Checkpoints of the authors' published code"


def _pair(name: str, value: str | None) -> tuple[float, float] | None:
    if value is None:
        return None
    try:
        first, second = (float(part) for part in value.split(","))
    except ValueError:
        raise typer.BadParameter(f"{value!r} is not two numbers with a comma between", param_hint=name) from None
    return first, second


def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            readable=False, help="A finished model.pt of `train`, or a checkpoint of the authors' published code."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", readable=False, help="The bundle: a folder, or a file that ends in .emert.")
    ],
    name: Annotated[str, typer.Option("--name", help="What the bundle is called.")] = "emert-own",
    version: Annotated[str, typer.Option("--version", help="Its version.")] = "1",
    licence: Annotated[str | None, typer.Option("--licence", help="Licence of the weights.")] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            help="What it was trained on: emotion (felt, ER) or expression (shown, FER).",
            rich_help_panel=PUBLISHED,
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", help="Its classes in its order: happiness,sadness,…", rich_help_panel=PUBLISHED),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            help="What its one output is: emotion_valence, emotion_arousal, expression_valence, "
            "expression_arousal or expression_intensity.",
            rich_help_panel=PUBLISHED,
        ),
    ] = None,
    target_range: Annotated[
        str | None,
        typer.Option(
            "--target-range",
            help="Ends of the scale of the values it was trained on; -1,1 (of an intensity 0,3) if not given.",
            rich_help_panel=PUBLISHED,
        ),
    ] = None,
    eye_columns: Annotated[
        Path | None,
        typer.Option(
            "--eye-columns",
            readable=False,
            help="Which of our features stands in each of its 39 eye columns: one a line; docs/published.md.",
            rich_help_panel=PUBLISHED,
        ),
    ] = None,
    gaze_scale: Annotated[
        str | None,
        typer.Option(
            "--gaze-scale",
            help="WIDTH,HEIGHT of the screen in pixels, where its gaze points were pixels.",
            rich_help_panel=PUBLISHED,
        ),
    ] = None,
) -> None:
    """Export a model as a bundle of ONNX graphs, checked against PyTorch (needs the extra `export`)."""
    given: dict[str, Any] = {
        "--task": task,
        "--labels": labels,
        "--target": target,
        "--target-range": _pair("--target-range", target_range),
        "--eye-columns": eye_columns,
        "--gaze-scale": _pair("--gaze-scale", gaze_scale),
    }
    if task not in (None, "emotion", "expression"):
        raise typer.BadParameter(f"{task!r} is neither emotion nor expression", param_hint="--task")
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
        import onnxslim  # noqa: F401

        from emert_edge.export.bundle import export_checkpoint
        from emert_edge.export.published import export_published, is_published, read_eye_columns
    except ModuleNotFoundError as error:
        raise EmertError(f"exporting needs {error.name}: pip install 'emert-edge[export]'") from error

    terms: dict[str, Any] = {} if licence is None else {"licence": licence}
    if is_published(checkpoint):
        if given["--gaze-scale"] is not None:
            terms["gaze_scale"] = given["--gaze-scale"]
        bundle = export_published(
            checkpoint,
            out,
            name=name,
            version=version,
            task=task,
            labels=None if labels is None else [label.strip() for label in labels.split(",")],
            target=target,
            target_range=given["--target-range"],
            eye_columns=None if eye_columns is None else read_eye_columns(eye_columns),
            **terms,
        )
    elif told := [option for option, value in given.items() if value is not None]:
        raise EmertError(f"{checkpoint}: a model of our own, which says itself what {', '.join(told)} would tell")
    else:
        bundle = export_checkpoint(checkpoint, out, name=name, version=version, **terms)
    manifest = bundle.manifest
    typer.echo(f"{bundle.path}: {manifest.identity}, {len(manifest.graphs)} graphs, profile {manifest.profile}")
    parity = {key: value for key, value in manifest.training.metrics.items() if key.startswith("parity_")}
    typer.echo("largest difference from PyTorch: " + ", ".join(f"{k[7:]} {v:.1e}" for k, v in parity.items()))
    if manifest.eye is not None and manifest.eye.assumed:
        typer.echo("the eye columns are a guess: our features stand in them (--eye-columns names them)", err=True)
