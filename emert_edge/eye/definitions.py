"""What events and features are: plain NumPy float64, for reading and for tests. The compiled core computes the same.

Gaze is prepared first (`trace`). Samples without a point that lie between two points at most `gap_ms` apart are put on
the straight line between them; a longer gap ends a *segment*, and so does a step between neighbours that is longer than
`gap_ms` and than four times the usual step (the lower median of the last 31 steps, this one included) or than a second.
*Velocity* at a point is the angle between the first and the last point within half a window before and after it (its
direct neighbours at least), over their time, within its segment; 5 % more than half a window counts, for clocks jitter.

I-VT (Salvucci and Goldberg, 2000, with the steps and settings of Tobii's filter: A. Olsen, "The Tobii I-VT fixation
filter", 2012): points at or below the threshold are fixation points, and their runs fixations. Neighbouring fixations
that are close in time and whose means are close in angle become one, the points between them included, from the first
on: a merged fixation has a new mean, and it is that which the next one must be near. Short ones are discarded after
that. Saccades are runs of points above the threshold outside of fixations.

I-DT (Salvucci and Goldberg, 2000): a window of the shortest duration slides over the points; where its dispersion
(horizontal plus vertical extent, in degrees) stays within the threshold it grows as far as it can, and is a fixation.
What lies between two fixations of a segment is a saccade.

Blinks: a sample is *closed* where gaze and both pupils are lost together (once a pupil has been seen), or where the
mean openness of the eyes falls under three tenths of the usual one, which is the median of the last ten seconds, one
value every 50 ms; until two seconds have been measured, of those two. Runs of closed samples with open ones on both
sides that last 50–500 ms are blinks, from the last open sample before to the first one after; openings of at most 20 ms
within one are flicker. (Blinks last 100–400 ms; shorter losses are tracking errors, longer ones closed eyes.)

`token_features` is defined column by column in `emert_edge.eye.features`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from emert_edge.eye.events import Blink, Fixation, Saccade
from emert_edge.eye.features import FEATURE_NAMES, token_edges
from emert_edge.eye.geometry import ViewingGeometry
from emert_edge.eye.samples import ARRAY_NAMES, GazeSamples

__all__ = ["Trace", "blinks", "idt", "ivt", "token_features", "trace"]

Float64Array = npt.NDArray[np.float64]
Span = tuple[int, int]  # first and last place


@dataclass(frozen=True)
class Trace:
    """Points of gaze by rising time: int64 times, fractions, the segment of each, degrees a second (NaN: undefined)."""

    t_ns: npt.NDArray[np.int64]
    x: Float64Array
    y: Float64Array
    segment: npt.NDArray[np.int64]
    velocity: Float64Array
    geometry: ViewingGeometry

    def angle(self, first: int, last: int) -> float:
        """Degrees between two points."""
        return _angle(self.geometry, (self.x[first], self.y[first]), (self.x[last], self.y[last]))

    def mean(self, span: Span) -> tuple[float, float]:
        """Mean point."""
        own = slice(span[0], span[1] + 1)
        return float(self.x[own].mean()), float(self.y[own].mean())

    def dispersion(self, span: Span) -> float:
        """Horizontal plus vertical extent, in degrees."""
        own = slice(span[0], span[1] + 1)
        return float(sum(np.ptp(angle) for angle in self.geometry.direction_deg(self.x[own], self.y[own])))

    def fixation(self, span: Span) -> Fixation:
        """The span as a fixation."""
        first, last = span
        return Fixation(int(self.t_ns[first]), int(self.t_ns[last]), *self.mean(span), self.dispersion(span))

    def saccade(self, span: Span, origin: int, goal: int) -> Saccade:
        """The span as a saccade from one place to another."""
        first, last = span
        moving = self.velocity[first : last + 1]
        peak = float(np.nanmax(moving)) if np.isfinite(moving).any() else float("nan")
        ends = (float(value) for value in (self.x[origin], self.y[origin], self.x[goal], self.y[goal]))
        return Saccade(int(self.t_ns[first]), int(self.t_ns[last]), self.angle(origin, goal), peak, *ends)


def _angle(geometry: ViewingGeometry, a: tuple[float, float], b: tuple[float, float]) -> float:
    return float(geometry.angle_deg(*(np.float64(value) for value in (*a, *b))))


def trace(samples: GazeSamples, geometry: ViewingGeometry, *, gap_ms: float = 75, window_ms: float = 20) -> Trace:
    """Points with short gaps filled, segments and velocities."""
    ordered = samples.sorted()
    t, valid = ordered.t_ns.astype(object), ordered.valid  # Python's integers: no difference overflows
    places = np.flatnonzero(valid).tolist()
    points: list[tuple[int, float, float, int]] = []
    segment, steps = 0, list[int]()
    for number, place in enumerate(places):
        if number:
            before = places[number - 1]
            elapsed = t[place] - t[before]
            skipped = place - before > 1
            if not skipped and elapsed > 0:
                steps = [*steps, elapsed][-31:]
            usual = sorted(steps)[(len(steps) - 1) // 2] if steps else 0
            longest = gap_ms * 1e6 if skipped else max(gap_ms * 1e6, min(4 * usual, 1e9))
            if elapsed > longest:
                segment += 1
            elif skipped:
                start, stop = (np.array([ordered.x[at], ordered.y[at]], np.float64) for at in (before, place))
                for lost in range(before + 1, place):
                    share = (t[lost] - t[before]) / elapsed if elapsed else 1.0
                    points.append((t[lost], *(start + share * (stop - start)).tolist(), segment))
        points.append((t[place], float(ordered.x[place]), float(ordered.y[place]), segment))
    columns = list(zip(*points, strict=True)) if points else [(), (), (), ()]
    times, x, y = np.array(columns[0], np.int64), np.array(columns[1], np.float64), np.array(columns[2], np.float64)
    segments = np.array(columns[3], np.int64)
    made = Trace(times, x, y, segments, np.full(len(points), np.nan), geometry)
    half = round(window_ms * 0.5e6 * 1.05)
    for own in (np.flatnonzero(segments == which) for which in range(segment + 1)):
        for at in own.tolist():
            near = [place for place in own.tolist() if abs(columns[0][place] - columns[0][at]) <= half]
            first = max(min(near[0], at - 1), int(own[0]))
            last = min(max(near[-1], at + 1), int(own[-1]))
            if columns[0][last] > columns[0][first]:
                made.velocity[at] = made.angle(first, last) / ((columns[0][last] - columns[0][first]) / 1e9)
    return made


def _runs(member: npt.NDArray[np.bool_], segment: npt.NDArray[np.int64]) -> Iterator[Span]:
    """Runs of members within one segment."""
    first = None
    for at in range(len(member)):
        if first is not None and not (member[at] and segment[at] == segment[at - 1]):
            yield first, at - 1
            first = None
        if member[at] and first is None:
            first = at
    if first is not None:
        yield first, len(member) - 1


def ivt(
    points: Trace,
    *,
    velocity_deg_s: float = 30,
    merge_ms: float = 75,
    merge_deg: float = 0.5,
    min_fixation_ms: float = 60,
) -> tuple[list[Fixation], list[Saccade]]:
    """Fixations and saccades by velocity."""
    t = points.t_ns.astype(object)
    rests: list[Span] = []
    for span in _runs(points.velocity <= velocity_deg_s, points.segment):
        near = bool(rests) and t[span[0]] - t[rests[-1][1]] < merge_ms * 1e6
        if near and _angle(points.geometry, points.mean(rests[-1]), points.mean(span)) < merge_deg:
            rests[-1] = rests[-1][0], span[1]
        else:
            rests.append(span)
    rests = [(first, last) for first, last in rests if t[last] - t[first] >= min_fixation_ms * 1e6]
    jumping = points.velocity > velocity_deg_s
    for first, last in rests:
        jumping[first : last + 1] = False
    jumps = list(_runs(jumping, points.segment))
    return [points.fixation(span) for span in rests], [points.saccade(span, *span) for span in jumps]


def idt(
    points: Trace, *, dispersion_deg: float = 1.0, min_fixation_ms: float = 60
) -> tuple[list[Fixation], list[Saccade]]:
    """Fixations and saccades by dispersion."""
    t, count = points.t_ns.astype(object), len(points.t_ns)
    rests: list[Span] = []
    first = 0
    while first < count:
        stop = int(np.searchsorted(points.segment, points.segment[first], "right"))
        enough = (place for place in range(first + 1, stop) if t[place] - t[first] >= round(min_fixation_ms * 1e6))
        last = next(enough, None)
        if last is None or points.dispersion((first, last)) > dispersion_deg:
            first += 1
            continue
        while last + 1 < stop and points.dispersion((first, last + 1)) <= dispersion_deg:
            last += 1
        rests.append((first, last))
        first = last + 1
    jumps = [
        points.saccade((last + 1, first - 1), last, first)
        for (_, last), (first, _) in pairwise(rests)
        if last + 1 < first and points.segment[last] == points.segment[first]
    ]
    return [points.fixation(span) for span in rests], jumps


def blinks(samples: GazeSamples) -> list[Blink]:
    """Closures of the eyes that are as long as blinks."""
    ordered = samples.sorted()
    t, count = ordered.t_ns.astype(object), len(ordered)
    finite = np.isfinite(ordered.pupil_left) | np.isfinite(ordered.pupil_right)
    with np.errstate(invalid="ignore"):
        pupil = finite & ((ordered.pupil_left > 0) | (ordered.pupil_right > 0))
    lost = np.logical_or.accumulate(finite) & ~(pupil | ordered.valid)
    openness = [
        float(np.mean([lid for lid in lids if np.isfinite(lid)], dtype=np.float64)) if np.isfinite(lids).any() else None
        for lids in zip(ordered.openness_left.tolist(), ordered.openness_right.tolist(), strict=True)
    ]
    lowered = np.zeros(count, bool)
    lately: list[tuple[int, float]] = []
    begun = next((t[at] for at in range(count) if openness[at] is not None), None)
    waiting: list[int] = []

    def judge(places: list[int]) -> None:
        usual = float(np.median([value for _, value in lately]))
        for place in places:
            value = openness[place]
            lowered[place] = value is not None and value < 0.3 * usual

    for at in range(count):
        if begun is None or t[at] < begun:
            continue
        if waiting and t[at] - begun >= 2_000_000_000:
            judge(waiting)
            waiting = []
        value = openness[at]
        if value is not None and (not lately or t[at] - lately[-1][0] >= 50_000_000):
            lately = [(when, earlier) for when, earlier in lately if t[at] - when <= 10_000_000_000] + [(t[at], value)]
        if t[at] - begun < 2_000_000_000:
            waiting.append(at)
        else:
            judge([at])
    if waiting:
        judge(waiting)

    closures: list[Span] = []
    for first, last in _runs(lost | lowered, np.zeros(count, np.int64)):
        if first == 0 or last == count - 1:
            continue
        if closures and t[first] - t[closures[-1][1]] <= 20_000_000:
            closures[-1] = closures[-1][0], last
        else:
            closures.append((first, last))
    return [
        Blink(t[first], t[last], "openness" if lowered[first : last + 1].any() else "pupil")
        for first, last in closures
        if 50_000_000 <= t[last + 1] - t[first - 1] <= 500_000_000
    ]


def token_features(samples: GazeSamples, start_ns: int, stop_ns: int, tokens: int) -> Float64Array:
    """The 39 features, shape (tokens, 39)."""
    edges = token_edges(start_ns, stop_ns, tokens).tolist()
    rows = [_row(samples.between(start, stop).sorted(), start, stop) for start, stop in pairwise(edges)]
    table = np.array([[row.get(name, 0.0) for name in FEATURE_NAMES] for row in rows], np.float64)
    return np.clip(np.nan_to_num(table, nan=0.0, posinf=np.inf, neginf=-np.inf), -1e6, 1e6)


def _row(own: GazeSamples, start_ns: int, stop_ns: int) -> dict[str, float]:
    length_s = (stop_ns - start_ns) / 1e9
    row = {"gap_longest": length_s}
    if not len(own):
        return row
    t = (own.t_ns - start_ns) / 1e9
    arrays = {name: getattr(own, name).astype(np.float64) for name in ARRAY_NAMES}
    valid = own.valid
    pupils = [_pupil(arrays["pupil_left"]), _pupil(arrays["pupil_right"])]
    eyes = [np.isfinite(arrays[f"{eye}_x"]) & np.isfinite(arrays[f"{eye}_y"]) for eye in ("left", "right")]
    seen = [point | np.isfinite(pupil) for point, pupil in zip(eyes, pupils, strict=True)]
    lost = ~(valid | seen[0] | seen[1])
    row |= {
        "sample_rate": len(own) / length_s,
        "gaze_valid_share": valid.mean(),
        "left_valid_share": seen[0].mean(),
        "right_valid_share": seen[1].mean(),
        "blink_share": lost.mean(),
        "blink_count": _count(lost),
    }
    both = eyes[0] & eyes[1]
    if both.any():
        row["disparity"] = (arrays["left_x"] - arrays["right_x"])[both].mean()
    if valid.any():
        row |= _movement(t[valid], own.t_ns[valid] - start_ns, arrays["x"][valid], arrays["y"][valid], length_s)
        for share in ("fixation_share", "saccade_share"):
            row[share] /= len(own)
    if np.isfinite(pupils).any():
        row |= _pupils(t, *pupils)
    lids = np.array([arrays["openness_left"], arrays["openness_right"]])
    lids[~np.isfinite(lids)] = np.nan
    known = np.isfinite(lids).any(0)
    if known.any():
        openness = np.nanmean(lids[:, known], axis=0)
        row |= {
            "openness_mean": openness.mean(), "openness_min": openness.min(), "openness_valid_share": known.mean(),
        }  # fmt: skip
    return row


def _pupil(size: Float64Array) -> Float64Array:
    """Sizes that were measured, NaN elsewhere."""
    return np.where(np.isfinite(size) & (size > 0), size, np.nan)


def _count(member: npt.NDArray[np.bool_]) -> int:
    return int((member & ~np.append(False, member[:-1])).sum())


def _movement(
    t: Float64Array, t_ns: npt.NDArray[np.int64], x: Float64Array, y: Float64Array, length_s: float
) -> dict[str, float]:
    """What the valid samples of one token say; shares are numbers still."""
    points = np.stack([x, 9 / 16 * y], axis=1)
    step = np.linalg.norm(np.diff(points, axis=0), axis=1)
    near = np.diff(t_ns) <= 75_000_000
    velocity = np.full(len(t), np.nan)
    for at in range(len(t)):
        window = np.flatnonzero(np.abs(t_ns - t_ns[at]) <= 10_000_000)
        first, last = max(min(window[0], at - 1), 0), min(max(window[-1], at + 1), len(t) - 1)
        if 0 < t_ns[last] - t_ns[first] <= 75_000_000:
            velocity[at] = np.linalg.norm(points[last] - points[first]) / ((t_ns[last] - t_ns[first]) / 1e9)
    moving = velocity[np.isfinite(velocity)]
    stretch = np.append(0, np.cumsum(~near))  # gaps over 75 ms end runs
    rests, jumps = (list(_runs(member, stretch)) for member in (velocity <= 0.65, velocity > 0.65))
    row = {
        "gaze_x_mean": x.mean(),
        "gaze_y_mean": y.mean(),
        "gaze_x_std": x.std(),
        "gaze_y_std": y.std(),
        "gaze_x_range": np.ptp(x),
        "gaze_y_range": np.ptp(y),
        "gaze_dispersion": np.hypot(x.std(), 9 / 16 * y.std()),
        "gaze_path_length": step[near].sum(),
        "gap_longest": max(np.diff(t, prepend=0.0, append=length_s)),
        "fixation_share": sum(last - first + 1 for first, last in rests),
        "fixation_count": len(rests),
        "saccade_share": sum(last - first + 1 for first, last in jumps),
        "saccade_count": len(jumps),
    }
    if moving.size:
        row |= {"velocity_mean": moving.mean(), "velocity_std": moving.std(), "velocity_max": moving.max()}
    if rests:
        off = [points[first : last + 1] - points[first : last + 1].mean(0) for first, last in rests]
        row["fixation_duration_mean"] = np.mean([t[last] - t[first] for first, last in rests])
        row["fixation_dispersion"] = np.sqrt(np.square(np.concatenate(off)).sum(1).mean())
    if jumps:
        row["saccade_duration_mean"] = np.mean([t[last] - t[first] for first, last in jumps])
        row["saccade_amplitude_mean"] = np.mean([np.linalg.norm(points[last] - points[first]) for first, last in jumps])
        row["saccade_peak_velocity"] = max(velocity[first : last + 1].max() for first, last in jumps)
    return {name: float(value) for name, value in row.items()}


def _pupils(t: Float64Array, left: Float64Array, right: Float64Array) -> dict[str, float]:
    sizes = np.array([left, right])
    measured = np.isfinite(sizes)
    means = [float(size[here].mean()) if here.any() else 0.0 for size, here in zip(sizes, measured, strict=True)]
    either = measured.any(0)
    change = np.nanmean((sizes - np.array(means)[:, None])[:, either], axis=0)  # each eye about its own mean
    change -= change.mean()
    since = t[either] - t[either].mean()
    row = {
        "pupil_left_mean": means[0],
        "pupil_right_mean": means[1],
        "pupil_mean": sum(means) / measured.any(1).sum(),
        "pupil_valid_share": either.mean(),
        "pupil_std": change.std(),
        "pupil_range": np.ptp(change),
    }
    if np.square(since).sum() > 0:
        row["pupil_slope"] = (since * change).sum() / np.square(since).sum()
    if measured.all(0).any():
        row["pupil_difference"] = np.nanmean(left - right)
    return {name: float(value) for name, value in row.items()}
