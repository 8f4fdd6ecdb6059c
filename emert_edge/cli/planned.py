"""Commands whose names are fixed and whose work comes with a later version: they say so and fail."""

from __future__ import annotations

from collections.abc import Callable

from emert_edge import __version__
from emert_edge.errors import EmertError

__all__ = ["COMMANDS"]


def _planned(name: str, instead: str) -> Callable[[], None]:
    def command() -> None:
        raise EmertError(f"`{name}` is not part of version {__version__}; {instead}")

    command.__doc__ = "Not part of this version."
    return command


COMMANDS: dict[str, Callable[[], None]] = {
    "bench": _planned("bench", "`make bench` in a checkout measures the SDK"),
}
