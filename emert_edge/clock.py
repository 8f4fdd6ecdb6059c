"""Clock domains: whose time a datum carries, and how far that clock is from the session's.

A session keeps its own time in int64 nanoseconds. Data from another domain (an eye tracker's clock, say) are moved by
the offset that was last given for it. A clock that drifts is followed by giving its offset anew: what is already in the
session stays where it was put.
"""

from __future__ import annotations

from threading import Lock

__all__ = ["ClockMap"]


class ClockMap:
    """Offsets from named clock domains to a session's own.

    Parameters
    ----------
    own : str
        The session's domain.
    """

    def __init__(self, own: str) -> None:
        self.own = own
        self._offsets: dict[str, int] = {own: 0}
        self._lock = Lock()

    def set_offset(self, domain: str, offset_ns: int) -> None:
        """Declare that session time = time in `domain` + `offset_ns`, from now on.

        Raises
        ------
        ValueError
            The session's own domain is given an offset other than zero.
        """
        if domain == self.own and offset_ns != 0:
            raise ValueError(f"domain {domain!r} is the session's own clock; its offset is 0 by definition")
        with self._lock:
            self._offsets[domain] = offset_ns

    def offset(self, domain: str | None) -> int | None:
        """Return the offset of a domain in nanoseconds; None if it is not known. No domain means the session's own."""
        if domain is None:
            return 0
        with self._lock:
            return self._offsets.get(domain)
