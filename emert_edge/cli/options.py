"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Bundle", "Detector", "Device", "Json", "Precision", "Threads"]

PRECISIONS = ("auto", "fp32", "fp16", "int8")


def _device(value: str) -> str:
    from emert_edge.engines.device import parse_device  # late: doctor must load where half of the libraries are missing

    try:
        parse_device(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return value


def _precision(value: str) -> str:
    if value not in PRECISIONS:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(PRECISIONS)}")
    return value


Bundle = Annotated[
    str | None, typer.Option("--bundle", help="Name, folder or .emert file; the packaged one if not given.")
]
Device = Annotated[
    str, typer.Option("--device", callback=_device, help="auto, cpu, cuda, cuda:N, tensorrt or tensorrt:N.")
]
Precision = Annotated[str, typer.Option("--precision", callback=_precision, help="auto, fp32, fp16 or int8.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads of the inference runtime.")]
Detector = Annotated[Path | None, typer.Option("--detector", readable=False, help="A YuNet model for finding faces.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
