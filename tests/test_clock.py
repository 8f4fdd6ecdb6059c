"""Another clock is followed: its offset, its drift, its steps, by round trips and by arrivals."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emert_edge.clock import ClockFollower

MS = 1_000_000
S = 1_000 * MS
PIECE_NS = 20 * MS


@dataclass
class Device:
    """A device with a clock of its own, whose data take some time to arrive."""

    offset_ns: int
    drift_ppm: float = 0.0
    way_ns: int = 2 * MS
    jitter_ms: float = 1.0
    seed: int = 5
    stamps_off_ns: int = 0
    follower: ClockFollower = field(default_factory=ClockFollower)
    now_ns: int = 900 * S
    made_ns: int | None = None

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.begin_ns = self.now_ns

    def truth(self, now_ns: int) -> int:
        """What to add to the device's time: positive drift is a slow clock."""
        return self.offset_ns + round(self.drift_ppm * 1e-6 * (now_ns - self.begin_ns))

    def measure(self) -> None:
        error = int(self.rng.normal(0, 0.05 * MS))
        self.follower.measure(self.truth(self.now_ns) + error, self.now_ns)

    def send(self, seconds: float, *, measure: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return by how much each piece was misplaced, ns, and whether its place was known."""
        errors, known = [], []
        for piece in range(round(seconds * S / PIECE_NS)):
            if measure and piece % 50 == 0:
                self.measure()
            self.now_ns += PIECE_NS
            arrived = self.now_ns + self.way_ns + int(self.rng.exponential(self.jitter_ms) * MS)
            last = self.now_ns - self.truth(self.now_ns) + self.stamps_off_ns
            offset, sure = self.follower.place(last - PIECE_NS, last, arrived)
            errors.append(last + offset - self.now_ns)
            known.append(sure)
        return np.array(errors), np.array(known)


def test_round_trips_place_data_where_they_were_made() -> None:
    device = Device(offset_ns=-1_700_000_000 * S, drift_ppm=80, way_ns=40 * MS)
    device.measure()
    errors, known = device.send(60, measure=True)
    assert known.all()
    assert np.abs(errors).max() < 0.5 * MS  # the way of 40 ms is no part of it
    assert device.follower.drift_ppm == pytest.approx(80, abs=5)
    assert device.follower.steps == 0


def test_without_round_trips_the_shortest_way_tells_after_half_a_second() -> None:
    device = Device(offset_ns=12 * S, drift_ppm=-50)
    errors, known = device.send(60)
    assert not known[:24].any()
    assert known[26:].all()
    late = errors[known]
    assert (late > 0).all()
    assert late.max() < device.way_ns + 2 * MS
    assert device.follower.by_arrival
    assert device.follower.drift_ppm == pytest.approx(-50, abs=25)


@pytest.mark.parametrize("step_s", [1, -1, 3600, -0.2, 0.2])
@pytest.mark.parametrize("measured", [True, False])
def test_stamps_that_step_are_noticed_at_once_and_known_again_after_half_a_second(
    step_s: float, measured: bool
) -> None:
    device = Device(offset_ns=7 * S)
    if measured:
        device.measure()
    device.send(5, measure=measured)
    device.stamps_off_ns = round(step_s * S)
    errors, known = device.send(2, measure=measured)
    assert not known[:20].any()
    assert known[27:].all()
    assert np.abs(errors).max() < 30 * MS  # even the guess is near
    assert np.abs(errors[known]).max() < 5 * MS
    assert device.follower.steps == 1


def test_a_clock_that_steps_is_known_from_the_next_round_trip_and_stays_known() -> None:
    device = Device(offset_ns=7 * S, way_ns=20 * MS, jitter_ms=0.3)
    device.measure()
    device.send(5, measure=True)
    device.offset_ns -= S
    errors, known = device.send(1)  # noticed by arrivals, before any round trip says it
    assert not known[:20].any()
    assert known[27:].all()
    assert np.abs(errors[known]).max() < 2 * MS
    errors, known = device.send(5, measure=True)
    assert known.all()  # the round trip says what was known already
    assert np.abs(errors).max() < 2 * MS
    assert device.follower.steps == 1


def test_a_round_trip_that_leaps_unannounced_is_believed_and_flagged() -> None:
    device = Device(offset_ns=7 * S)
    device.measure()
    device.send(5, measure=True)
    device.offset_ns += 2 * S  # the device was asleep: its data come two seconds late, and nothing runs backwards
    device.measure()
    errors, known = device.send(2, measure=True)
    assert not known[:20].any()
    assert known[27:].all()
    assert np.abs(errors).max() < 0.5 * MS


def test_stamps_of_another_clock_than_was_measured_are_placed_by_arrival() -> None:
    device = Device(offset_ns=0, stamps_off_ns=1_700_000_000 * S)
    device.measure()
    errors, known = device.send(3, measure=True)
    assert not known[:20].any()
    assert known[27:].all()
    assert device.follower.by_arrival
    assert np.abs(errors).max() < 10 * MS


def test_lateness_is_no_step() -> None:
    device = Device(offset_ns=3 * S, jitter_ms=0.5)
    device.measure()
    device.send(2, measure=True)
    device.way_ns = 700 * MS  # a network that is congested for a while
    errors, known = device.send(3, measure=True)
    device.way_ns = 2 * MS
    again, sure = device.send(3, measure=True)
    assert known.all()
    assert sure.all()
    assert np.abs([*errors, *again]).max() < 0.5 * MS


@settings(max_examples=15, deadline=None)
@given(
    st.integers(-(2**60), 2**60),
    st.floats(-100, 100),
    st.floats(0.01, 20),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_no_two_samples_change_their_order_once_the_clock_is_known(
    offset_ns: int, drift: float, jitter: float, measured: bool, seed: int
) -> None:
    device = Device(offset_ns, drift, jitter_ms=jitter, seed=seed)
    if measured:
        device.measure()
    errors, known = device.send(12, measure=measured)
    steps = np.diff(errors[known])
    assert (
        np.abs(steps) <= 0.25 * MS
    ).all()  # a piece is 20 ms: a quarter of a millisecond bends no sample over another
