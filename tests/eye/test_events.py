"""Events: known signals, Tobii's own labels, and input that nobody would wish for."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emert_edge.eye import Events, EventStream, GazeSamples, ViewingGeometry, definitions, detect_events
from emert_edge.sources import open_gaze

from .recordings import RECORDINGS

MS = 1_000_000
SCREEN_MM, DISTANCE_MM = (531.0, 299.0), 650.0
METHODS = ("ivt", "idt")

LIKELY = st.one_of(st.floats(0, 1, width=32), st.sampled_from([np.nan, np.inf, -np.inf, 0.5, 0.5, 0.5]))
VALUES = st.one_of(LIKELY, st.sampled_from([3.4e38, -3.4e38]))


def degrees_to_fraction(degrees: float, axis: int = 0) -> float:
    """A small angle around the screen's middle, as a fraction of its width or height."""
    return 2 * float(np.tan(np.radians(degrees / 2))) * DISTANCE_MM / SCREEN_MM[axis]


def scene(rate: int = 500, noise_deg: float = 0.0, seed: int = 0) -> tuple[GazeSamples, list[tuple[float, float]]]:
    """Fixations at known places and times (ms), joined by saccades of 10° that take 40 ms."""
    rng = np.random.default_rng(seed)
    step = degrees_to_fraction(10)
    rests = [(0, 300), (340, 540), (580, 980), (1020, 1200)]
    t = np.arange(round(1.2 * rate)) * (1000 / rate)
    x = np.full(t.size, 0.3)
    for (_, leave), (arrive, _) in pairwise(rests):
        x += step * np.clip((t - leave) / (arrive - leave), 0, 1) * (-1 if leave == 540 else 1)
    x += rng.normal(0, degrees_to_fraction(noise_deg) if noise_deg else 0.0, t.size)
    y = np.full(t.size, 0.5)
    samples = GazeSamples(t_ns=np.round(t * MS).astype(np.int64), x=x, y=y)
    return samples, [(float(a), float(b)) for a, b in rests]


def close(a_ns: int, b_ms: float, tolerance_ms: float) -> bool:
    return abs(a_ns / MS - b_ms) <= tolerance_ms


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("rate", "noise_deg"), [(120, 0.0), (250, 0.02), (500, 0.02), (1000, 0.01)])
def test_known_fixations_and_saccades_are_found(method: str, rate: int, noise_deg: float) -> None:
    samples, rests = scene(rate, noise_deg)
    events = detect_events(samples, method, screen_size_mm=SCREEN_MM, screen_distance_mm=DISTANCE_MM)
    assert len(events.fixations) == len(rests)
    assert len(events.saccades) == len(rests) - 1
    assert events.blinks == ()
    for fixation, (start, stop) in zip(events.fixations, rests, strict=True):
        assert close(fixation.start_ns, start, 12 + 1000 / rate)
        assert close(fixation.stop_ns, stop, 12 + 1000 / rate)
        assert fixation.y == pytest.approx(0.5)
        assert fixation.dispersion_deg <= 1.0
    for saccade in events.saccades:
        # I-DT takes up to its threshold, a degree, of each end of a saccade into the fixations beside it.
        assert (8.5 if method == "ivt" else 7.9) <= saccade.amplitude_deg <= 10.1
        if method == "ivt":
            assert saccade.peak_velocity_deg_s == pytest.approx(10 / 0.040, rel=0.1)
        assert saccade.start_x != saccade.end_x


def test_the_angles_are_those_of_the_geometry() -> None:
    samples, _ = scene()
    here = detect_events(samples, screen_size_mm=SCREEN_MM, screen_distance_mm=DISTANCE_MM)
    far = detect_events(samples, screen_size_mm=SCREEN_MM, screen_distance_mm=2 * DISTANCE_MM)
    assert here.geometry == ViewingGeometry(SCREEN_MM, DISTANCE_MM, assumed=False)
    assert far.saccades[0].amplitude_deg == pytest.approx(here.saccades[0].amplitude_deg / 2, rel=0.02)
    # An independent way: the difference of two arctangents, for points on the horizontal through the middle.
    saccade = here.saccades[0]
    ends = [np.degrees(np.arctan((x - 0.5) * SCREEN_MM[0] / DISTANCE_MM)) for x in (saccade.start_x, saccade.end_x)]
    assert saccade.amplitude_deg == pytest.approx(abs(ends[1] - ends[0]), rel=1e-9)


def test_an_assumed_geometry_says_so() -> None:
    samples, _ = scene()
    for given_parts, assumed in (
        ({}, True),
        ({"screen_size_mm": SCREEN_MM}, True),
        ({"screen_distance_mm": 650}, True),
        ({"screen_size_mm": SCREEN_MM, "screen_distance_mm": 650}, False),
    ):
        geometry = detect_events(samples, **given_parts).geometry
        assert geometry is not None
        assert geometry.assumed is assumed
    in_scene = GazeSamples(t_ns=samples.t_ns, x=samples.x, y=samples.y, space="scene")
    geometry = detect_events(in_scene).geometry
    assert geometry is not None
    across = 2 * np.degrees(np.arctan(geometry.screen_size_mm[0] / 2 / geometry.screen_distance_mm))
    assert across == pytest.approx(90)


def with_hole(samples: GazeSamples, start_ms: float, stop_ms: float, **arrays: object) -> GazeSamples:
    hole = (samples.t_ns >= start_ms * MS) & (samples.t_ns < stop_ms * MS)
    x, y = samples.x.copy(), samples.y.copy()
    x[hole] = np.nan
    y[hole] = np.nan
    made = {name: np.where(hole, lost, kept) for name, (kept, lost) in arrays.items()}  # type: ignore[misc]
    return GazeSamples(t_ns=samples.t_ns, x=x, y=y, **made)


@pytest.mark.parametrize("method", METHODS)
def test_a_short_gap_within_a_fixation_is_bridged_and_a_long_one_divides_it(method: str) -> None:
    samples, rests = scene()
    assert len(detect_events(with_hole(samples, 700, 770), method).fixations) == len(rests)
    divided = detect_events(with_hole(samples, 700, 800), method)
    assert len(divided.fixations) == len(rests) + 1
    assert len(divided.saccades) == len(rests) - 1
    # Rows that are missing altogether divide as rows without gaze do.
    kept = (samples.t_ns < 700 * MS) | (samples.t_ns >= 800 * MS)
    holed = GazeSamples(t_ns=samples.t_ns[kept], x=samples.x[kept], y=samples.y[kept])
    assert detect_events(holed, method).fixations == divided.fixations
    assert len(detect_events(with_hole(samples, 700, 770), method, gap_ms=0, merge_ms=0).fixations) == len(rests) + 1


def test_near_fixations_merge_and_short_ones_go() -> None:
    # A fast step of 0.45° and back: within 0.5°, so it is one fixation; without merging it is more.
    t = np.arange(400) * 2 * MS
    x = np.full(400, 0.5)
    x[200:] += degrees_to_fraction(0.45)
    samples = GazeSamples(t_ns=t, x=x, y=np.full(400, 0.5))
    geometry = {"screen_size_mm": SCREEN_MM, "screen_distance_mm": DISTANCE_MM}
    slow = {"velocity_deg_s": 10, **geometry}
    assert len(detect_events(samples, **slow).fixations) == 1
    assert detect_events(samples, **slow).saccades == ()  # it lies within the fixation now
    apart = detect_events(samples, merge_ms=0, **slow)
    assert len(apart.fixations) == 2
    assert len(apart.saccades) == 1
    assert len(detect_events(samples, merge_deg=0.4, **slow).fixations) == 2
    brief = detect_events(samples.between(0, 50 * MS))
    assert brief.fixations == ()
    assert len(detect_events(samples.between(0, 50 * MS), min_fixation_ms=40).fixations) == 1


def test_chains_of_near_fixations_merge_from_the_first_on() -> None:
    # Five rests of 80 ms, each a step of 0.3° further. The second lies within 0.5° of the first, and the third of
    # their common middle; the fourth is further away than that, and begins anew.
    t = np.arange(200) * 2 * MS
    x = 0.5 + np.repeat(np.arange(5), 40) * degrees_to_fraction(0.3)
    samples = GazeSamples(t_ns=t, x=x, y=np.full(200, 0.5))
    events = detect_events(
        samples, screen_size_mm=SCREEN_MM, screen_distance_mm=DISTANCE_MM, velocity_deg_s=10, min_fixation_ms=30
    )
    starts = [round(fixation.start_ns / MS / 80) for fixation in events.fixations]
    assert starts == [0, 3]


def test_blinks_come_from_lost_pupils() -> None:
    samples, _ = scene()
    blink = detect_events(with_hole(samples, 700, 850, pupil_left=(3.0, np.nan))).blinks
    assert [(event.start_ns, event.stop_ns, event.evidence) for event in blink] == [(700 * MS, 848 * MS, "pupil")]
    for start, stop in ((700, 720), (400, 1000)):  # too short, too long
        assert detect_events(with_hole(samples, start, stop, pupil_left=(3.0, np.nan))).blinks == ()
    # The pupil is there: they look away. Nothing is known of pupils: nothing is claimed.
    assert detect_events(with_hole(samples, 700, 850, pupil_left=(3.0, 3.0))).blinks == ()
    assert detect_events(with_hole(samples, 700, 850)).blinks == ()
    # At the very end it may be a lost tracker.
    assert detect_events(with_hole(samples, 1100, 1300, pupil_left=(3.0, np.nan))).blinks == ()


def test_blinks_come_from_closed_eyelids() -> None:
    samples, _ = scene()
    closed = with_hole(samples, 700, 850, openness_left=(9.0, 0.5), openness_right=(9.5, 0.8), pupil_left=(3.0, 3.0))
    blinks = detect_events(closed).blinks
    assert [(event.start_ns, event.stop_ns, event.evidence) for event in blinks] == [(700 * MS, 848 * MS, "openness")]
    squint = with_hole(samples, 700, 850, openness_left=(9.0, 5.0), pupil_left=(3.0, 3.0))
    assert detect_events(squint).blinks == ()


@st.composite
def wild_samples(draw: st.DrawFn, values: st.SearchStrategy[float] = VALUES) -> GazeSamples:
    count = draw(st.integers(0, 80))
    step = draw(st.sampled_from([1, 1_000, MS, 4 * MS, 2**50]))
    times = draw(st.lists(st.integers(-50, 200), min_size=count, max_size=count))
    arrays = {
        name: np.array(draw(st.lists(values, min_size=count, max_size=count)), dtype=np.float32)
        for name in ("x", "y", "pupil_left", "openness_right")
    }
    return GazeSamples(t_ns=np.array(times, dtype=np.int64) * step, **arrays)


@st.composite
def lively_samples(draw: st.DrawFn) -> GazeSamples:
    """A walk with rests, jumps, gaps, holes in the times, blinks and lids that droop, at some tracker's rate."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(0, 400))
    step_ms = draw(st.sampled_from([1, 4, 16.6, 33, 100]))
    steps = np.where(rng.random(count) < 0.02, rng.integers(1, 40, count), 1) * step_ms
    steps[rng.random(count) < draw(st.sampled_from([0, 0.05]))] = 0
    t_ns = (np.cumsum(steps) * MS).astype(np.int64)
    rest = np.cumsum(rng.random(count) < draw(st.sampled_from([0.01, 0.1])))
    x, y = rng.random((2, count + 1))[:, rest] + rng.normal(0, draw(st.sampled_from([0, 1e-4, 1e-2])), (2, count))

    def lost(share: float, longest: int) -> np.ndarray:
        hit = np.zeros(count, bool)
        for start in np.flatnonzero(rng.random(count) < share).tolist():
            hit[start : start + int(rng.integers(1, longest))] = True
        return hit

    gone, closed, drooping = lost(0.02, 8), lost(0.02, 60), lost(0.01, 60)
    arrays = {
        "x": np.where(gone | closed, np.nan, x),
        "y": np.where(gone | closed, np.nan, y),
        "pupil_left": np.where(closed, draw(st.sampled_from([np.nan, 0.0])), 3.0),
        "openness_left": np.where(drooping, 1.0, rng.normal(9, 1, count)),
        "openness_right": np.where(drooping | gone, np.nan, rng.normal(9, 1, count)),
    }
    left_out = draw(st.sets(st.sampled_from(sorted(arrays))))
    return GazeSamples(t_ns=t_ns, **{name: array for name, array in arrays.items() if name not in left_out})


def pieces(samples: GazeSamples, cuts: list[int]) -> list[GazeSamples]:
    edges = [0, *sorted(cut % (len(samples) + 1) for cut in cuts), len(samples)]
    return [samples.part(first, last) for first, last in pairwise(edges)]


def streamed(parts: list[GazeSamples], method: str, **settings: object) -> Events:
    stream = EventStream(method, **settings)  # type: ignore[arg-type]
    found = [stream.push(part) for part in parts] + [stream.finish()]
    assert stream.late_samples == 0
    joined = {kind: sum((getattr(some, kind) for some in found), ()) for kind in ("fixations", "saccades", "blinks")}
    return Events(**joined, method=method, geometry=stream.geometry)


def alike(found: tuple, defined: list) -> None:
    """The same events; numbers within rounding."""
    assert [(event.start_ns, event.stop_ns) for event in found] == [
        (event.start_ns, event.stop_ns) for event in defined
    ]
    for event, other in zip(found, defined, strict=True):
        for name in event.__dataclass_fields__:
            value, expected = getattr(event, name), getattr(other, name)
            if isinstance(expected, float):
                assert value == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True), name
            else:
                assert value == expected, name


@given(
    samples=st.one_of(lively_samples(), wild_samples(LIKELY)),  # sums of absurd values round as they are ordered
    method=st.sampled_from(METHODS),
    gap_ms=st.sampled_from([0, 30, 75, 1000]),
    merge_ms=st.sampled_from([0, 75, 500]),
    min_fixation_ms=st.sampled_from([0, 20, 60, 150]),
)
@settings(max_examples=150, deadline=None)
def test_the_core_finds_what_the_definitions_find(
    samples: GazeSamples, method: str, gap_ms: float, merge_ms: float, min_fixation_ms: float
) -> None:
    geometry = ViewingGeometry.of()
    with np.errstate(over="ignore", invalid="ignore"):
        points = definitions.trace(samples, geometry, gap_ms=gap_ms)
        if method == "ivt":
            chosen = {"merge_ms": merge_ms, "merge_deg": 2.0, "min_fixation_ms": min_fixation_ms}
            fixations, saccades = definitions.ivt(points, **chosen)  # type: ignore[arg-type]
        else:
            chosen = {"min_fixation_ms": min_fixation_ms}
            fixations, saccades = definitions.idt(points, **chosen)  # type: ignore[arg-type]
    found = detect_events(samples, method, gap_ms=gap_ms, **chosen)  # type: ignore[arg-type]
    alike(found.fixations, fixations)
    alike(found.saccades, saccades)
    alike(found.blinks, definitions.blinks(samples))


@given(samples=lively_samples(), method=st.sampled_from(METHODS), cuts=st.lists(st.integers(0, 2**20), max_size=12))
@settings(max_examples=150, deadline=None)
def test_a_stream_has_the_events_of_the_whole_however_it_is_cut(
    samples: GazeSamples, method: str, cuts: list[int]
) -> None:
    assert streamed(pieces(samples, cuts), method) == detect_events(samples, method)


@pytest.mark.parametrize("name", RECORDINGS)
def test_streams_of_real_recordings_have_the_events_of_the_whole(shared_data: Path, name: str) -> None:
    if not (shared_data / name).exists():
        pytest.skip(f"no real data here: {shared_data / name} is absent")
    samples = open_gaze(shared_data / name).samples.sorted()
    rng = np.random.default_rng(0)
    for method in METHODS:
        whole = detect_events(samples, method)
        for size in (1, 7, 300):  # the mean size of a piece
            few = samples if size > 1 else samples.part(0, 5000)
            cuts = np.cumsum(rng.poisson(size, len(few) // size + 1)).tolist()
            expected = whole if size > 1 else detect_events(few, method)
            assert streamed(pieces(few, [cut for cut in cuts if cut < len(few)]), method, space=few.space) == expected


def test_a_stream_gives_an_event_when_it_is_certain_and_keeps_nothing_of_it() -> None:
    samples, rests = scene(noise_deg=0.01)
    stream = EventStream(screen_size_mm=SCREEN_MM, screen_distance_mm=DISTANCE_MM)
    seen: list[tuple[float, float]] = []
    for part in pieces(samples, list(range(0, len(samples), 5))):
        seen += [(fixation.stop_ns / MS, int(part.t_ns[-1]) / MS) for fixation in stream.push(part).fixations]
    # The mean of the next fixation decides whether the two merge: one is certain when the next has ended.
    assert len(seen) == len(rests) - 2
    for (_, told_ms), (_, next_stop_ms) in zip(seen, rests[1:], strict=False):
        assert abs(told_ms - next_stop_ms) <= 20 + 10  # the velocity's window, a piece
    assert len(stream.finish().fixations) == 2
    assert stream.finish() == Events(method="ivt", geometry=stream.geometry)
    assert streamed([samples], "ivt") == detect_events(samples)
    # after the end another stream may begin, with earlier times
    again = stream.push(samples).fixations + stream.finish().fixations
    assert again == detect_events(samples, screen_size_mm=SCREEN_MM, screen_distance_mm=DISTANCE_MM).fixations


def test_late_samples_are_counted_and_left_out() -> None:
    samples, _ = scene()
    stream = EventStream()
    found = [
        stream.push(samples.part(0, 300)),
        stream.push(samples.part(290, 310)),
        stream.push(samples.part(310, 600)),
    ]
    found.append(stream.finish())
    assert stream.late_samples == 9  # the tenth has the newest one's time
    assert sum((some.saccades for some in found), ()) == detect_events(samples).saccades


def test_usual_openness_follows_the_eyes_and_needs_no_whole_recording() -> None:
    # Eyes half as open from the twentieth second on: a droop is one to a third of what they are then.
    t = np.arange(40 * 100) * 10 * MS
    openness = np.where(t < 20_000 * MS, 10.0, 4.0)
    openness[3500:3512] = 1.1
    blinks = detect_events(GazeSamples(t_ns=t, openness_left=openness)).blinks
    assert [(blink.start_ns, blink.stop_ns) for blink in blinks] == [(35_000 * MS, 35_110 * MS)]
    openness[:] = 10.0
    openness[50:62] = 1.0  # before two seconds have been measured
    samples = GazeSamples(t_ns=t, openness_left=openness)
    stream = EventStream()
    assert stream.push(samples.part(0, 200)).blinks == ()
    assert len(stream.push(samples.part(200, 201)).blinks) == 1
    brief = detect_events(samples.part(0, 100)).blinks
    assert len(brief) == 1


def orderly(events: Events, samples: GazeSamples) -> None:
    times = set(samples.t_ns.tolist())
    for kind in (events.fixations, events.saccades, events.blinks):
        for event in kind:
            assert event.start_ns <= event.stop_ns
            assert {event.start_ns, event.stop_ns} <= times
        for before, after in pairwise(kind):
            assert before.stop_ns <= after.start_ns
    covered = sorted((*events.fixations, *events.saccades), key=lambda event: (event.start_ns, event.stop_ns))
    for before, after in pairwise(covered):
        assert before.stop_ns <= after.start_ns


@given(samples=wild_samples(), method=st.sampled_from(METHODS), gap_ms=st.sampled_from([0, 75, 1e9]))
@settings(max_examples=200, deadline=None)
def test_events_are_orderly_whatever_comes(samples: GazeSamples, method: str, gap_ms: float) -> None:
    events = detect_events(samples, method, gap_ms=gap_ms)
    orderly(events, samples)
    for fixation in events.fixations:
        assert fixation.duration_ms >= 60
        if method == "idt":
            assert fixation.dispersion_deg <= 1.0 + 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_samples_does_not_matter(method: str) -> None:
    samples, _ = scene(noise_deg=0.02)
    order = np.random.default_rng(1).permutation(len(samples))
    mixed = GazeSamples(t_ns=samples.t_ns[order], x=samples.x[order], y=samples.y[order])
    assert detect_events(mixed, method) == detect_events(samples, method)


@pytest.mark.parametrize("method", METHODS)
def test_white_noise_of_a_million_samples_ends(method: str) -> None:
    rng = np.random.default_rng(0)
    noise = rng.random((2, 1_000_000), dtype=np.float32)
    noise[:, rng.random(1_000_000) < 0.1] = np.nan
    samples = GazeSamples(t_ns=np.arange(1_000_000) * MS, x=noise[0], y=noise[1])
    events = detect_events(samples, method)
    assert len(events.fixations) < 100
    still = GazeSamples(t_ns=samples.t_ns, x=np.full(1_000_000, 0.5), y=np.full(1_000_000, 0.5))
    assert len(detect_events(still, method).fixations) == 1


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"method": "hmm"}, ValueError, "method"),
        ({"velocity_deg_s": -1}, ValueError, "velocity_deg_s"),
        ({"gap_ms": np.nan}, ValueError, "gap_ms"),
        ({"merge_ms": "75"}, TypeError, "merge_ms"),
        ({"screen_size_mm": (0, 300)}, ValueError, "screen_size_mm"),
        ({"screen_size_mm": 300}, TypeError, "screen_size_mm"),
        ({"screen_distance_mm": np.inf}, ValueError, "screen_distance_mm"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        detect_events(GazeSamples(t_ns=[0, 1]), **arguments)
    with pytest.raises(TypeError, match="samples"):
        detect_events(np.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(error, match=named):
        EventStream(**arguments)
    with pytest.raises(TypeError, match="samples"):
        EventStream().push(np.zeros(3))  # type: ignore[arg-type]


def test_our_ivt_agrees_with_tobiis_own_on_its_recording(shared_data: Path, record_property: object) -> None:
    path = shared_data / "tobii_prolab_ivt" / "I-VT-normal Data export_short.tsv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["Sensor"] == "Eye Tracker"]
    tobii = np.array([row["Eye movement type"] for row in rows])
    recording = open_gaze(path)
    size, distance = recording.metadata["screen_size_mm"], recording.metadata["screen_distance_mm"]
    assert size == pytest.approx((528, 297), abs=2)  # a 24-inch screen
    assert distance == pytest.approx(560, abs=5)
    events = detect_events(recording.samples, screen_size_mm=size, screen_distance_mm=distance)
    assert events.geometry is not None
    assert not events.geometry.assumed
    ours = np.full(len(rows), "", dtype=tobii.dtype)
    for name, kind in (("Fixation", events.fixations), ("Saccade", events.saccades)):
        for event in kind:
            inside = (recording.samples.t_ns >= event.start_ns) & (recording.samples.t_ns <= event.stop_ns)
            ours[inside] = name
    classed = (tobii == "Fixation") | (tobii == "Saccade")
    agreement = float((ours[classed] == tobii[classed]).mean())
    record_property("agreement", agreement)  # type: ignore[operator]
    assert classed.sum() == 4782
    assert agreement >= 0.985, f"{agreement:.4f}"  # seen: 0.9875
    assert recording.events is not None
    assert abs(len(events.fixations) - len(recording.events.fixations)) <= 2
