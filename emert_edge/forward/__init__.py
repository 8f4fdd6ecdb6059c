"""The model over windows: encoders for what is new, then the head, with all that goes between them."""

from __future__ import annotations

from emert_edge.engines import EngineSet
from emert_edge.forward.host import HostForward
from emert_edge.forward.passing import Forward

__all__ = ["Forward", "open_forward"]


def open_forward(engines: EngineSet) -> Forward:
    """Return the way through a set of engines: on the GPU if all of them lay their buffers open there."""
    if not engines.on_gpu:
        return HostForward(engines)
    from emert_edge.forward.gpu import GpuForward

    return GpuForward(engines)
