"""Gaze by address: `lsl:…`, `gazepoint:…` and `neon:…` are live trackers, anything else is a recording's path."""

from __future__ import annotations

from collections.abc import Callable

from emert_edge.sources.gazepoint_live import open_gazepoint
from emert_edge.sources.live_gaze import LiveGaze
from emert_edge.sources.lsl import open_lsl
from emert_edge.sources.neon_live import open_neon

__all__ = ["is_live_gaze", "open_live_gaze"]

_OPENERS: dict[str, Callable[[str], LiveGaze]] = {
    "lsl": open_lsl,
    "gazepoint": open_gazepoint,
    "neon": open_neon,
}


def is_live_gaze(address: str) -> bool:
    """Whether an address names a live tracker."""
    return ":" in address and address.partition(":")[0] in _OPENERS


def open_live_gaze(address: str) -> LiveGaze:
    """Connect to a tracker.

    Parameters
    ----------
    address : str
        `lsl:…`, `gazepoint:HOST[:PORT]`, `neon:HOST[:PORT]`: see the modules `lsl`, `gazepoint_live` and `neon_live`.

    Raises
    ------
    SourceError
        If the tracker cannot be reached, or what reads it is not installed.
    GazeFormatError
        If what it sends cannot be read as gaze.
    ValueError
        If the address is none.
    """
    scheme, mark, _ = address.partition(":")
    if not mark or scheme not in _OPENERS:
        raise ValueError(f"{address!r} names no live tracker; there are {', '.join(f'{name}:' for name in _OPENERS)}")
    return _OPENERS[scheme](address)
