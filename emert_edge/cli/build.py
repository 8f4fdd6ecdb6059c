"""`emert-edge build`: TensorRT engines of a bundle, into the cache that `Recognizer(device="tensorrt")` looks in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emert_edge.cli.options import Json, Precision
from emert_edge.errors import DeviceUnavailable

if TYPE_CHECKING:
    from emert_edge.bundle import Bundle
    from emert_edge.bundle.manifest import Precision as PrecisionName
    from emert_edge.engines import Device
    from emert_edge.engines.cache import EngineCache
    from emert_edge.engines.provision import EngineSupply

__all__ = ["build"]


def _tensorrt(value: str) -> str:
    from emert_edge.engines.device import parse_device

    try:
        device = parse_device(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if device is None or device.kind != "tensorrt":
        raise typer.BadParameter(f"{value!r} takes no engine; engines are for tensorrt or tensorrt:N")
    return value


def build(
    bundle: Annotated[
        str | None,
        typer.Argument(metavar="BUNDLE", help="Name, folder or .emert file; the packaged one if not given."),
    ] = None,
    precision: Precision = "auto",
    max_batch: Annotated[
        int, typer.Option("--max-batch", min=1, metavar="N", help="Most rows at once: faces, or streams in step.")
    ] = 8,
    device: Annotated[
        str, typer.Option("--device", callback=_tensorrt, help="tensorrt or tensorrt:N, the GPU to build on and for.")
    ] = "tensorrt",
    cache: Annotated[
        Path | None,
        typer.Option("--cache", "--out", readable=False, help="Another folder than the user's cache of engines."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Build even what the cache has.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be built and why; needs neither TensorRT nor a GPU.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Build a bundle's TensorRT engines on this machine, for its GPU; each takes minutes, once."""
    from emert_edge.bundle import open_bundle
    from emert_edge.engines import choose_precision
    from emert_edge.engines.cache import EngineCache
    from emert_edge.engines.device import parse_device, require, tensorrt_way

    opened = open_bundle(bundle)
    wanted = parse_device(device)
    assert wanted is not None  # the option's callback saw to it
    chosen = choose_precision(opened, wanted, precision)
    engines = EngineCache(cache)
    report = _plan(opened, wanted, chosen, precision, max_batch, engines, force)
    if dry_run:
        _tell(report, as_json)
        return
    require(wanted, device)
    if tensorrt_way(wanted.index)[0] != "bindings":
        raise DeviceUnavailable(f"engines cannot be built here: {report['reason']}")
    from emert_edge.engines.provision import EngineSupply

    _build(opened, chosen, max_batch, EngineSupply(wanted, engines), force, report)
    _tell(report, as_json)


def _plan(
    bundle: Bundle,
    device: Device,
    chosen: PrecisionName,
    asked: str,
    max_batch: int,
    cache: EngineCache,
    force: bool,
) -> dict[str, Any]:
    """Say what a build makes of which graph, as far as this machine can tell."""
    from emert_edge.engines import tensor_shapes
    from emert_edge.engines.cache import profiles_up_to
    from emert_edge.engines.device import driver_fault, gpu, tensorrt_way
    from emert_edge.engines.provision import Platform, key_of

    way, fault = tensorrt_way(device.index)
    if way == "provider":
        fault = (
            "TensorRT is here as a provider of ONNX Runtime alone, which builds its own engines when a Recognizer "
            "first opens a bundle"
        )
    known = None if driver_fault(device.index) else gpu(device.index)
    platform = Platform.here(device.index) if way == "bindings" else None
    rows = []
    for role, tensors in tensor_shapes(bundle.manifest).items():
        if not tensors:
            continue
        graph = bundle.graph(role, chosen, "tensorrt")
        row: dict[str, Any] = {
            "role": role,
            "file": graph.file,
            "precision": graph.precision,
            "target": graph.target,
            "onnx_bytes": len(bundle.read(graph.file)),
            "onnx_sha256": bundle.manifest.files[graph.file].sha256,
            "profiles": [list(profile) for profile in profiles_up_to(max_batch)],
            "state": "unknown",
            "why": "which engine would fit is known where TensorRT and the GPU are",
        }
        if platform is not None:
            found, reason = cache.find(key_of(bundle, graph, platform, max_batch))
            if found is not None:
                row |= {"path": str(found.path), "engine_bytes": len(found.plan), **found.notes}
            row["state"] = "cached" if found is not None and not force else "to build"
            row["why"] = "the cache has it, but --force was given" if found is not None and force else reason
        rows.append(row)
    return {
        "bundle": bundle.manifest.identity,
        "path": str(bundle.path),
        "device": str(device),
        "precision": chosen,
        "precision_reason": _why(bundle, chosen, asked),
        "platform": {
            "tensorrt": None if platform is None else platform.tensorrt,
            "gpu": None if known is None else known.name,
            "sm": None if known is None else known.sm,
        },
        "cache": str(cache.folder),
        "can_build": fault is None,
        "reason": fault,
        "engines": rows,
    }


def _why(bundle: Bundle, chosen: str, asked: str) -> str:
    if asked != "auto":
        return "it was asked for"
    if chosen == "fp16" and bundle.manifest.accepts("fp16", "tensorrt"):
        return "the bundle's evidence for fp16 on TensorRT was accepted"
    if "fp16" not in bundle.precisions("tensorrt"):
        return "the bundle has no fp16 graphs for TensorRT"
    return f"the bundle has no accepted evidence for {'fp16 on TensorRT' if chosen == 'fp32' else 'fp32 graphs'}"


def _build(
    bundle: Bundle,
    chosen: PrecisionName,
    max_batch: int,
    supply: EngineSupply,
    force: bool,
    report: dict[str, Any],
) -> None:
    from emert_edge.engines import tensor_shapes

    shapes = tensor_shapes(bundle.manifest)
    with _progress() as begin:
        for row in report["engines"]:
            role = row["role"]
            built = supply.build(
                bundle,
                role,
                chosen,
                shapes[role],
                max_batch=max_batch,
                force=force,
                progress=begin(f"{row['file']} for {supply.platform.gpu}"),
            )
            row |= {"path": str(built.path), "engine_bytes": len(built.plan), **built.notes}
            row["state"] = "cached" if row["state"] == "cached" else "built"


@contextmanager
def _progress() -> Iterator[Callable[[str], Callable[[str, float], None]]]:
    """Show what TensorRT is at: a bar on a terminal, a line a phase elsewhere; on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:

        def begin(subject: str) -> Callable[[str, float], None]:
            task = bar.add_task(subject, total=1.0)
            seen: set[str] = set()

            def advance(phase: str, done: float) -> None:
                bar.update(task, completed=done, description=f"{subject}: {phase}")
                if phase not in seen and not console.is_terminal:
                    typer.echo(f"{subject}: {phase}", err=True)
                seen.add(phase)

            return advance

        yield begin


def _tell(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    platform = report["platform"]
    gpu = f"{platform['gpu']}, compute capability {platform['sm']}" if platform["gpu"] else "not known here"
    for name, value in (
        ("bundle", f"{report['bundle']}  {report['path']}"),
        ("precision", f"{report['precision']}: {report['precision_reason']}"),
        ("TensorRT", platform["tensorrt"] or "not known here"),
        ("GPU", gpu),
        ("cache", report["cache"]),
    ):
        typer.echo(f"{name:17} {value}")
    for row in report["engines"]:
        batches = " and ".join(f"{low}" if low == high else f"{low} to {high}" for low, _, high in row["profiles"])
        typer.echo(
            f"{row['role']:17} {row['state']}: {row['file']} ({row['onnx_bytes'] / 1e6:.2f} MB, {row['precision']}), "
            f"batches of {batches}"
        )
        if row["state"] in ("built", "cached"):
            typing = "the graph's types" if row["strongly_typed"] else "types chosen by TensorRT"
            typer.echo(
                f"{'':17} {row['path']} ({row['engine_bytes'] / 1e6:.2f} MB), {typing}, "
                f"{row['difference']:.1e} from ONNX Runtime, built in {row['build_s']:.0f} s"
            )
        else:
            typer.echo(f"{'':17} {row['why']}")
    if not report["can_build"]:
        typer.echo(f"{'cannot be built':17} {report['reason']}")
