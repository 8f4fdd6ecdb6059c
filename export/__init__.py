"""From a trained model to a bundle that a device runs: torch to ONNX, checked, then written whole."""

from __future__ import annotations

from .bundle import export_bundle, export_checkpoint
from .graphs import ExportFailed, GraphReport, export_graphs

__all__ = ["ExportFailed", "GraphReport", "export_bundle", "export_checkpoint", "export_graphs"]
