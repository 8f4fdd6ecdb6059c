"""From a trained model to a bundle that a device runs: torch to ONNX, checked, then written whole."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bundle import export_bundle, export_checkpoint
    from .failure import ExportFailed
    from .graphs import export_graphs
    from .parity import GraphReport
    from .precision import HalfGraphs, half_graph, half_graphs
    from .published import export_published
    from .triton import TritonRepository, export_triton

__all__ = [
    "ExportFailed",
    "GraphReport",
    "HalfGraphs",
    "TritonRepository",
    "export_bundle",
    "export_checkpoint",
    "export_graphs",
    "export_published",
    "export_triton",
    "half_graph",
    "half_graphs",
]

_HOMES = {
    "ExportFailed": "failure",
    "GraphReport": "parity",
    "HalfGraphs": "precision",
    "TritonRepository": "triton",
    "export_bundle": "bundle",
    "export_checkpoint": "bundle",
    "export_graphs": "graphs",
    "export_published": "published",
    "export_triton": "triton",
    "half_graph": "precision",
    "half_graphs": "precision",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for: what works on a finished bundle needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
