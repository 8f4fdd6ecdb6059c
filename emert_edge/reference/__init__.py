"""The PyTorch EMERT: model, training, evaluation. Needs the extra `train`; nothing on the device imports it.

Importing this package loads no torch; its modules do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emert_edge.reference.published import load_published

__all__ = ["load_published"]


def __getattr__(name: str) -> Any:
    if name == "load_published":  # late, so that the package loads no torch
        from emert_edge.reference.published import load_published

        return load_published
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
