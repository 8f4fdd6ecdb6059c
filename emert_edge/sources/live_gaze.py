"""Eye trackers that are read as they measure: connected, followed by their clocks, connected again when lost.

A vendor's module knows how to connect and to read; what is the same for all of them stands here. Samples come out in
the monotonic clock of this machine (`time.monotonic_ns`), which live sessions run on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from emert_edge.clock import UNSYNCHRONISED, ClockFollower
from emert_edge.errors import GazeFormatError, SourceError
from emert_edge.eye.samples import GazeSamples

__all__ = ["MONOTONIC", "Connection", "LiveGaze", "host_and_port"]

MONOTONIC = "monotonic"
"""The clock domain of what a live tracker's samples are moved to."""

_NOTHING = GazeSamples(t_ns=[])
_MEASURE_NS = 1_000_000_000


class Connection(Protocol):
    """A tracker that is being read. What fails raises `SourceError`: the tracker is lost."""

    def read(self) -> GazeSamples:
        """What has arrived, in the tracker's own time; after a tenth of a second without anything, nothing."""

    def offset_ns(self) -> int | None:
        """By a round trip: what to add to the tracker's times to have monotonic ones. None where it cannot tell."""

    def close(self) -> None: ...


class LiveGaze:
    """A tracker behind the protocol of gaze sources.

    It is connected when it is opened, so that one that is not there is an error at once. When it is lost later,
    `chunks` raises `SourceError`, and may be called again until the tracker is back: that is what live streams do.

    Parameters
    ----------
    name : str
        What the user called it.
    connect : callable
        Makes the connection; raises `SourceError` if it can't. Its argument says for how many seconds it may try.

    Raises
    ------
    SourceError
        If the tracker cannot be reached.
    GazeFormatError
        If what it sends cannot be read as gaze.
    """

    live = True
    clock = MONOTONIC

    def __init__(self, name: str, connect: Callable[[float], Connection], patience_s: float = 5.0) -> None:
        self.name = name
        self._connect = connect
        self._follower = ClockFollower()
        self._connection: Connection | None = connect(patience_s)

    @property
    def clock_steps(self) -> int:
        """How often the tracker's clock was found to have stepped."""
        return self._follower.steps

    @property
    def drift_ppm(self) -> float:
        """By how many millionths the tracker's clock is slower than this machine's."""
        return self._follower.drift_ppm

    def chunks(self) -> Iterator[GazeSamples]:
        """Yield what arrives, in the monotonic clock, and now and then nothing.

        Samples whose time is only a guess, because the tracker's clock has just stepped or was never measured, are of
        the clock `UNSYNCHRONISED`.

        Raises
        ------
        SourceError
            If the tracker is lost.
        """
        connection = self._connection or self._connect_again()
        self._connection = connection
        try:
            measured_ns = None
            while True:
                now_ns = time.monotonic_ns()
                if measured_ns is None or now_ns - measured_ns >= _MEASURE_NS:
                    measured_ns = now_ns
                    offset_ns = connection.offset_ns()
                    if offset_ns is not None:
                        self._follower.measure(offset_ns, time.monotonic_ns())
                samples = connection.read()
                yield self._placed(samples, time.monotonic_ns()) if len(samples) else _NOTHING
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection; may be called twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect_again(self) -> Connection:
        try:
            return self._connect(0.0)
        except GazeFormatError as error:  # the tracker answered here before: it may be starting
            raise SourceError(str(error)) from error

    def _placed(self, samples: GazeSamples, now_ns: int) -> GazeSamples:
        offset_ns, known = self._follower.place(int(samples.t_ns[0]), int(samples.t_ns[-1]), now_ns)
        return samples.in_clock(MONOTONIC if known else UNSYNCHRONISED, offset_ns)


def host_and_port(address: str, port: int) -> tuple[str, int]:
    """The parts of `SCHEME:HOST[:PORT]`; without a host this machine's.

    Raises
    ------
    ValueError
        If the port is none.
    """
    scheme, _, place = address.partition(":")
    host, mark, number = place.removeprefix("//").rpartition(":")
    if not mark:
        host, number = number, str(port)
    if not number.isdigit() or not 0 < int(number) < 1 << 16:
        raise ValueError(f"{address}: {number!r} is no port; write {scheme}:HOST:PORT")
    return host or "127.0.0.1", int(number)
