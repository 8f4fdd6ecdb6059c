"""`emert-edge export`: a bundle from a checkpoint, a server's model repository from either."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from emert_edge.bundle import Bundle, open_bundle, require_place
from emert_edge.bundle.bundle import MANIFEST
from emert_edge.cli.options import PRECISIONS
from emert_edge.errors import EmertError

__all__ = ["export"]

PUBLISHED = "Checkpoints of the authors' published code"
SERVER = "For NVIDIA Triton"


def _pair(name: str, value: str | None) -> tuple[float, float] | None:
    if value is None:
        return None
    try:
        first, second = (float(part) for part in value.split(","))
    except ValueError:
        raise typer.BadParameter(f"{value!r} is not two numbers with a comma between", param_hint=name) from None
    return first, second


def export(
    source: Annotated[
        Path,
        typer.Argument(
            readable=False,
            help="A finished model.pt of `train` or a checkpoint of the authors' published code; for --triton without "
            "--out a bundle: its name, folder or .emert file.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", readable=False, help="The bundle: a folder, or a file that ends in .emert."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="What the bundle is called; emert-own if not given.")
    ] = None,
    version: Annotated[str | None, typer.Option("--version", help="Its version; 1 if not given.")] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="Licence of the weights.")] = None,
    fp16: Annotated[
        bool | None, typer.Option("--fp16/--no-fp16", help="FP16 graphs beside the FP32 ones, which is the default.")
    ] = None,
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
    triton: Annotated[
        Path | None,
        typer.Option(
            "--triton",
            readable=False,
            help="A folder for a Triton model repository of the bundle.",
            rich_help_panel=SERVER,
        ),
    ] = None,
    platform: Annotated[
        str | None,
        typer.Option(
            "--platform",
            help="onnxruntime, which is the default, or tensorrt with the engines that `emert-edge build` has put into "
            "the cache.",
            rich_help_panel=SERVER,
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            help="auto, which is the default (FP16 where the bundle has evidence for it), fp32, fp16 or int8.",
            rich_help_panel=SERVER,
        ),
    ] = None,
) -> None:
    """Export a model as a bundle of ONNX graphs, checked against PyTorch, or a bundle for a Triton server.

    A checkpoint becomes a bundle with --out (needs the extra `export`); --triton writes a model repository of that
    bundle, or of the one that is named where there is no --out.
    """
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
    if platform not in (None, "onnxruntime", "tensorrt"):
        raise typer.BadParameter(f"{platform!r} is neither onnxruntime nor tensorrt", param_hint="--platform")
    if precision not in (None, *PRECISIONS):
        raise typer.BadParameter(f"{precision!r} is none of {', '.join(PRECISIONS)}", param_hint="--precision")
    if triton is None and (platform or precision):
        raise typer.BadParameter(
            "--platform and --precision are its own: a bundle gets FP32 and FP16", param_hint="--triton"
        )
    if out is None:
        if triton is None:
            raise typer.BadParameter(
                "a checkpoint becomes a bundle there; or --triton for a bundle", param_hint="--out"
            )
        of_checkpoints = given | {"--name": name, "--version": version, "--licence": licence, "--fp16": fp16}
        if told := [option for option, value in of_checkpoints.items() if value is not None]:
            raise typer.BadParameter(f"without it {', '.join(told)} has no meaning", param_hint="--out")
        if source.is_file() and source.suffix != ".emert":
            raise typer.BadParameter(f"{source} is no bundle; a checkpoint becomes one here", param_hint="--out")
        bundle = open_bundle(str(source))
    else:
        if (source / MANIFEST).is_file() or source.suffix == ".emert" or _names_a_bundle(source):
            raise typer.BadParameter(f"{source} is a bundle already; leave --out out", param_hint="--out")
        terms = {"name": name, "version": version, "licence": licence, "fp16": fp16}
        bundle = _bundle_of(source, out, given, {key: value for key, value in terms.items() if value is not None})
        _tell(bundle)
    if triton is not None:
        _export_triton(bundle, triton, platform or "onnxruntime", precision or "auto")


def _names_a_bundle(source: Path) -> bool:
    """Whether something that is no file or folder is a bundle's name."""
    if source.exists():
        return False
    try:
        open_bundle(str(source))
    except EmertError:
        return False
    return True


def _bundle_of(checkpoint: Path, out: Path, given: dict[str, Any], terms: dict[str, Any]) -> Bundle:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
        import onnxslim  # noqa: F401

        from emert_edge.export.bundle import export_checkpoint
        from emert_edge.export.published import export_published, is_published, read_eye_columns
    except ModuleNotFoundError as error:
        raise EmertError(f"exporting needs {error.name}: pip install 'emert-edge[export]'") from error

    made: Bundle
    require_place(out)
    terms = {"name": "emert-own", **terms}
    if is_published(checkpoint):
        labels, columns = given["--labels"], given["--eye-columns"]
        if given["--gaze-scale"] is not None:
            terms["gaze_scale"] = given["--gaze-scale"]
        made = export_published(
            checkpoint,
            out,
            task=given["--task"],
            labels=None if labels is None else [label.strip() for label in labels.split(",")],
            target=given["--target"],
            target_range=given["--target-range"],
            eye_columns=None if columns is None else read_eye_columns(columns),
            **terms,
        )
    elif told := [option for option, value in given.items() if value is not None]:
        raise EmertError(f"{checkpoint}: a model of our own, which says itself what {', '.join(told)} would tell")
    else:
        made = export_checkpoint(checkpoint, out, **terms)
    return made


def _tell(bundle: Bundle) -> None:
    manifest = bundle.manifest
    metrics = manifest.training.metrics
    typer.echo(f"{bundle.path}: {manifest.identity}, {len(manifest.graphs)} graphs, profile {manifest.profile}")
    for graph in manifest.graphs:
        measured = f"parity_{graph.role}" + ("" if graph.precision == "fp32" else f"_{graph.precision}")
        beside = "PyTorch" if graph.precision == "fp32" else "FP32"
        typer.echo(
            f"  {graph.file:27} {manifest.files[graph.file].size / 1e6:7.2f} MB, "
            f"largest difference from {beside} {metrics[measured]:.1e}"
        )
    for one in manifest.evidence:
        figures = ", ".join(f"{figure.replace('_', ' ')} {value:g}" for figure, value in one.figures.items())
        verdict = "accepted" if one.accepted else "not accepted: `auto` does not take it"
        typer.echo(f"  {one.precision} on {one.data}: {figures}; {verdict}")
    if manifest.eye is not None and manifest.eye.assumed:
        typer.echo("the eye columns are a guess: our features stand in them (--eye-columns names them)", err=True)


def _export_triton(bundle: Bundle, out: Path, platform: str, precision: str) -> None:
    from emert_edge.export.triton import export_triton

    made = export_triton(bundle, out, platform=platform, precision=precision)
    built_for = f", built for {made.built_for}" if made.built_for else ""
    typer.echo(f"{made.path}: {', '.join(made.models)} for Triton, {made.platform}, {made.precision}{built_for}")
    typer.echo(f"  tritonserver --model-repository={made.path.resolve()}")
