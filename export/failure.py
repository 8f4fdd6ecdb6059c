"""What is raised when a graph did not come out as the model."""

from __future__ import annotations

from emert_edge.errors import EmertError

__all__ = ["ExportFailed"]


class ExportFailed(EmertError):
    """A graph came out of the exporter that is not what the model is."""
