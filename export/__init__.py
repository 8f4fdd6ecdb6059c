"""From a trained model to a bundle that a device runs: torch to ONNX, checked, then written whole."""

from __future__ import annotations

from .bundle import export_bundle, export_checkpoint
from .graphs import ExportFailed, GraphReport, export_graphs
from .published import export_published

__all__ = ["ExportFailed", "GraphReport", "export_bundle", "export_checkpoint", "export_graphs", "export_published"]
