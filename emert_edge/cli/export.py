"""`emert-edge export`: a bundle from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emert_edge.errors import EmertError

__all__ = ["export"]


def export(
    checkpoint: Annotated[Path, typer.Argument(readable=False, help="A finished model.pt of `train`.")],
    out: Annotated[
        Path, typer.Option("--out", readable=False, help="The bundle: a folder, or a file that ends in .emert.")
    ],
    name: Annotated[str, typer.Option("--name", help="What the bundle is called.")] = "emert-own",
    version: Annotated[str, typer.Option("--version", help="Its version.")] = "1",
    licence: Annotated[str, typer.Option("--licence", help="Licence of the weights.")] = "Apache-2.0",
) -> None:
    """Export a trained model as a bundle: three ONNX graphs, checked against PyTorch (needs the extra `export`)."""
    try:
        from emert_edge.export import export_checkpoint
    except ModuleNotFoundError as error:
        raise EmertError(f"exporting needs {error.name}: pip install 'emert-edge[export]'") from error
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
        import onnxslim  # noqa: F401
    except ModuleNotFoundError as error:
        raise EmertError(f"exporting needs {error.name}: pip install 'emert-edge[export]'") from error

    bundle = export_checkpoint(checkpoint, out, name=name, version=version, licence=licence)
    parity = {key: value for key, value in bundle.manifest.training.metrics.items() if key.startswith("parity_")}
    typer.echo(f"{bundle.path}: {bundle.manifest.identity}, {len(bundle.manifest.graphs)} graphs")
    typer.echo("largest difference from PyTorch: " + ", ".join(f"{k[7:]} {v:.1e}" for k, v in parity.items()))
