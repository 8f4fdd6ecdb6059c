"""`emert-edge bundle`: list, show, verify."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from emert_edge.bundle import Bundle, installed_bundles, open_bundle, store_dir
from emert_edge.cli.options import Json
from emert_edge.errors import BundleError

__all__ = ["app"]

app = typer.Typer(help="Model bundles: what is installed, what one holds, whether it is sound.", no_args_is_help=True)

Which = Annotated[str | None, typer.Argument(metavar="BUNDLE", help="Name, folder or .emert file.")]


@app.command("list")
def list_bundles(as_json: Json = False) -> None:
    """List the bundles that go by a name."""
    rows: list[dict[str, Any]] = []
    for place, path in installed_bundles():
        row = {"name": path.stem if path.suffix == ".emert" else path.name, "place": place, "path": str(path)}
        try:
            manifest = Bundle.open(path).manifest
        except BundleError as error:
            row["error"] = str(error)
        else:
            row |= {"version": manifest.version, "licence": manifest.licence, "description": manifest.description}
        rows.append(row)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        typer.echo(f"{row['name']}  {row.get('version', 'damaged')}  {row['place']}  {row['path']}")
        typer.echo(f"    {row.get('error') or row['description']}")
    if not rows:
        typer.echo(f"no bundles in {store_dir() / 'bundles'} or the package")


@app.command("show")
def show(bundle: Which = None, as_json: Json = False) -> None:
    """Show a bundle's manifest and card."""
    opened = open_bundle(bundle)
    if as_json:
        typer.echo(opened.manifest.model_dump_json(indent=2))
        return
    manifest = opened.manifest
    typer.echo(f"{manifest.identity}  {opened.path}")
    typer.echo(f"licence     {manifest.licence}")
    typer.echo(f"model       {manifest.architecture}-{manifest.size}, {manifest.token_width} wide")
    guessed = ", eye columns guessed" if manifest.eye is not None and manifest.eye.assumed else ""
    typer.echo(f"profile     {manifest.profile}: gaze as {manifest.gaze or 'eye features alone'}{guessed}")
    window = manifest.window
    typer.echo(
        f"window      {window.window_ms / 1000:g} s, an estimate every {window.stride_ms / 1000:g} s, "
        f"face tokens every {window.face_cadence_ms / 1000:g} s, eye tokens of {window.eye_span_ms} ms"
    )
    for graph in manifest.graphs:
        size = manifest.files[graph.file].size
        typer.echo(
            f"graph       {graph.role:17} {graph.precision:5} {graph.target:9} {graph.file} ({size / 1e6:.2f} MB)"
        )
    for one in manifest.evidence:
        figures = ", ".join(f"{name} {value:.4f}" for name, value in one.figures.items())
        verdict = "accepted" if one.accepted else "refused"
        typer.echo(f"evidence    {one.precision:5} {one.target:9} {verdict} on {one.data} ({one.samples}): {figures}")
    typer.echo("")
    typer.echo(opened.card)


@app.command("verify")
def verify(bundle: Which = None, as_json: Json = False) -> None:
    """Check every file of a bundle against its manifest."""
    try:
        opened = open_bundle(bundle)
        opened.verify()
    except BundleError as error:
        if as_json:
            typer.echo(json.dumps({"sound": False, "error": str(error)}, indent=2))
        raise
    count = len(opened.manifest.files)
    if as_json:
        typer.echo(json.dumps({"sound": True, "path": str(opened.path), "files": count}, indent=2))
    else:
        typer.echo(f"{opened.path}: sound, {count} files")
