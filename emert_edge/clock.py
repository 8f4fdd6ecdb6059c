"""Clock domains: whose time a datum carries, and how far that clock is from the session's.

A session keeps its own time in int64 nanoseconds. Data from another domain (an eye tracker's clock, say) are moved by
the offset that was last given for it. A clock that drifts is followed by giving its offset anew: what is already in the
session stays where it was put.

Live sources follow their device's clock themselves, with a `ClockFollower`, and hand over data in the session's time.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from threading import Lock

__all__ = ["UNSYNCHRONISED", "ClockFollower", "ClockMap"]

UNSYNCHRONISED = "unsynchronised"
"""The domain of data whose clock a source does not know yet: a session takes their times as they are, and says so."""

STEP_NS = 50_000_000
"""What a clock may seem to leap by before it counts as stepped."""

SETTLE_NS = 500_000_000
"""How long arrivals are looked at before they tell where a clock stands."""

LATEST_NS = 10_000_000_000
"""No stream is later than this: its times are of another clock than was measured."""

SLEW = 1e-3
"""How fast an offset that is known better now is approached: slowly enough that no two samples change their order."""

_BLOCK_NS = 1_000_000_000
_POINTS = 60  # what is remembered of a clock: a minute of blocks
_DRIFT_AFTER_NS = 10_000_000_000
_LARGEST_DRIFT = 5e-4  # crystals stay within a tenth of it


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


class _Track:
    """What was seen of an offset lately, as a line: where it is now and how fast it moves."""

    def __init__(self) -> None:
        self._points: deque[tuple[int, int]] = deque(maxlen=_POINTS)

    def __bool__(self) -> bool:
        return bool(self._points)

    def clear(self) -> None:
        self._points.clear()

    def add(self, now_ns: int, offset_ns: int) -> None:
        self._points.append((now_ns, offset_ns))

    def lower(self, now_ns: int, offset_ns: int) -> None:
        """Keep the least of each second."""
        if self._points and now_ns - self._points[-1][0] < _BLOCK_NS:
            begin, least = self._points[-1]
            self._points[-1] = begin, min(least, offset_ns)
        else:
            self.add(now_ns, offset_ns)

    @property
    def slope(self) -> float:
        """The line's slope by least squares; 0 until ten seconds have been seen."""
        points = self._points
        if len(points) < 3 or points[-1][0] - points[0][0] < _DRIFT_AFTER_NS:
            return 0.0
        # exact integers first: the offset of a clock that counts from 1970 has more digits than a float
        times = [(t - points[0][0]) / 1e9 for t, _ in points]
        offsets = [float(offset - points[0][1]) for _, offset in points]
        middle, level = sum(times) / len(times), sum(offsets) / len(offsets)
        above = sum((t - middle) * (offset - level) for t, offset in zip(times, offsets, strict=True))
        slope = above / sum((t - middle) ** 2 for t in times) / 1e9
        return min(max(slope, -_LARGEST_DRIFT), _LARGEST_DRIFT)

    def at(self, now_ns: int) -> int:
        """The offset now, in the middle of what was seen; of the last three alone before a drift is known."""
        slope = self.slope
        recent = list(self._points) if slope else list(self._points)[-3:]
        return round(median(offset + round(slope * (now_ns - t)) for t, offset in recent))

    def floor(self, now_ns: int) -> int:
        """The offset now, at the lower edge of what was seen."""
        slope = self.slope
        return min(offset + round(slope * (now_ns - t)) for t, offset in self._points)


class ClockFollower:
    """Where a device's clock stands against our own: offset and drift, and whether it stepped.

    There are two kinds of evidence. Round trips (`measure`) tell the offset to a fraction of the trip. Arrivals tell it
    from above: no datum comes before it was made, so the least of arrival − time is the offset plus the shortest way.
    Where round trips are measured they decide, and arrivals only watch over them: data from the future, or times that
    run backwards, mean that the clock stepped. Where there are none, or the data's times cannot be of the clock that
    was measured, arrivals decide.

    A clock that stepped is not known until arrivals have told, half a second long, where it stands now; by how much
    data were late before is taken to hold after. In between the best guess is given, and called that.

    All times are int64 nanoseconds; `now_ns` is our own clock's, which must not run backwards.

    Attributes
    ----------
    steps : int
        How often the clock was found to have stepped.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._trips = _Track()
        self._arrivals = _Track()
        self._shift_ns = 0  # what the data's times are off the measured clock, since they stepped alone
        self._by_arrival = True
        self._newest_ns: int | None = None
        self._settled_ns: int | None = None  # until when arrivals are looked at
        self._usual_ns: int | None = None  # the least way of the data before the clock stepped, on the old offset
        self._given: tuple[int, int] | None = None

    @property
    def synchronised(self) -> bool:
        """Whether the offset is known."""
        return self._newest_ns is not None and self._settled_ns is None

    @property
    def by_arrival(self) -> bool:
        """Whether the offset rests on arrivals alone, and so holds the shortest way that data took."""
        return self._by_arrival

    @property
    def drift_ppm(self) -> float:
        """By how many millionths the device's clock is slower than ours; 0 until ten seconds have been seen."""
        return (self._arrivals if self._by_arrival else self._trips).slope * 1e6

    def measure(self, offset_ns: int, now_ns: int) -> None:
        """Take the result of a round trip: own time = device's time + `offset_ns`."""
        leapt = bool(self._trips) and abs(offset_ns - self._trips.at(now_ns)) > STEP_NS
        if leapt:
            noticed = not self._by_arrival and abs(offset_ns - self._trips.at(now_ns) - self._shift_ns) <= STEP_NS
            self._trips.clear()
            self._shift_ns, self._usual_ns = 0, None
            if not noticed:  # otherwise arrivals have told it already, and the data are where they belong
                self._begin_anew(now_ns)
        self._trips.add(now_ns, offset_ns)
        if self._by_arrival and self._arrivals and self._settled_ns is None:
            self._by_arrival = not self._plausible(self._arrivals.floor(now_ns), now_ns)

    def place(self, first_ns: int, last_ns: int, now_ns: int) -> tuple[int, bool]:
        """Say what to add to the times of data that have just arrived, and whether that is known or a guess.

        Parameters
        ----------
        first_ns, last_ns
            The device's times of the first and the last datum.
        now_ns
            When the last one arrived.
        """
        way = now_ns - last_ns
        if self._newest_ns is None:
            self._by_arrival = not (bool(self._trips) and self._plausible(way, now_ns))
            if self._by_arrival:
                self._settled_ns = now_ns + SETTLE_NS
        elif first_ns < self._newest_ns - STEP_NS or (self._arrivals and way < self._offset(now_ns) - STEP_NS):
            if not self._by_arrival and self._usual_ns is None and self._arrivals:
                self._usual_ns = self._arrivals.floor(now_ns) - self._shift_ns
            self._begin_anew(now_ns)
        self._newest_ns = last_ns
        self._arrivals.lower(now_ns, way)
        settled = self._settled_ns is None or now_ns >= self._settled_ns
        if self._settled_ns is not None:
            self._reckon(now_ns)
            self._given = None
        if settled:
            self._settled_ns = self._usual_ns = None
        return self._slewed(self._offset(now_ns), now_ns), settled

    def _begin_anew(self, now_ns: int) -> None:
        self.steps += self._settled_ns is None
        self._arrivals.clear()
        self._settled_ns = now_ns + SETTLE_NS

    def _reckon(self, now_ns: int) -> None:
        """Say where the clock stands by what has arrived since it stepped."""
        least = self._arrivals.floor(now_ns)
        if self._trips and self._usual_ns is not None:
            shift = least - self._usual_ns
            self._shift_ns = shift if abs(shift) > STEP_NS else 0
        else:
            self._by_arrival = not (bool(self._trips) and self._plausible(least, now_ns))

    def _plausible(self, way_ns: int, now_ns: int) -> bool:
        """Whether data that came so may carry times of the clock that was measured."""
        return -STEP_NS <= way_ns - self._trips.at(now_ns) <= LATEST_NS

    def _offset(self, now_ns: int) -> int:
        """The offset, which is also the least that arrival − time can be."""
        if self._by_arrival:
            return self._arrivals.floor(now_ns)
        return self._trips.at(now_ns) + self._shift_ns

    def _slewed(self, offset_ns: int, now_ns: int) -> int:
        if self._given is not None:
            then_ns, given_ns = self._given
            most = round(SLEW * max(0, now_ns - then_ns))
            offset_ns = min(max(offset_ns, given_ns - most), given_ns + most)
        self._given = now_ns, offset_ns
        return offset_ns
