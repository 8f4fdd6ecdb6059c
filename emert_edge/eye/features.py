"""The 39 named features of eye behaviour, one row a token.

A token's row comes from the samples of its own span only, so a token that was computed once can be kept while the
window moves on, and streamed rows equal recorded ones to the last bit.

Points are fractions of the screen's (or scene's) width and height, origin top left. Distances are in screen widths,
with heights weighted by 9/16 (a 16:9 screen), so that a step up counts as much as the same step sideways:
d = √(Δx² + (9/16 · Δy)²). A *share* is a number of samples over all samples of the span. A *valid* sample has a point
of gaze. *Velocity* at a valid sample is the distance between the two valid samples of its token that lie within 10 ms
before and after it (its direct neighbours where none lie so close), over their time; undefined where the two are more
than 75 ms apart. What moves across a token's edge belongs to neither token. Valid samples at or below 0.65 widths/s
(30 °/s on a 24-inch screen seen from 65 cm) are *fixation* samples, those above are *saccade* samples; a run is one or
more of a kind with no gap over 75 ms between neighbours. A sample is *lost* when neither eye shows a point or a pupil:
a blink, mostly. An eye's pupil is valid where it is finite and above zero. All standard deviations divide by n. A
feature without data is 0, and the validity shares say so. Pupil and openness stay in the tracker's own unit: making
subjects and trackers comparable (a baseline, training statistics) is the bundle's work. Whoever has removed the light
response hands in the pupil so corrected.

== ========================= ================= ===============================================================
#  name                      unit              definition
== ========================= ================= ===============================================================
0  gaze_x_mean               fraction          mean x of valid samples
1  gaze_y_mean               fraction          mean y of valid samples
2  gaze_x_std                fraction          standard deviation of x
3  gaze_y_std                fraction          standard deviation of y
4  gaze_x_range              fraction          largest minus smallest x
5  gaze_y_range              fraction          largest minus smallest y
6  gaze_dispersion           width             root mean square distance from the mean point
7  gaze_path_length          width             sum of distances between valid neighbours at most 75 ms apart
8  velocity_mean             width/s           mean velocity
9  velocity_std              width/s           standard deviation of velocity
10 velocity_max              width/s           largest velocity
11 fixation_share            share             fixation samples
12 fixation_count            count             runs of fixation samples
13 fixation_duration_mean    s                 mean time from first to last sample of a fixation run
14 fixation_dispersion       width             root mean square distance of fixation samples from their run's mean
15 saccade_share             share             saccade samples
16 saccade_count             count             runs of saccade samples
17 saccade_duration_mean     s                 mean time from first to last sample of a saccade run
18 saccade_amplitude_mean    width             mean distance between first and last sample of a saccade run
19 saccade_peak_velocity     width/s           largest velocity of a saccade sample
20 blink_share               share             lost samples
21 blink_count               count             runs of lost samples
22 gap_longest               s                 longest time without a valid sample, the span's ends included
23 gaze_valid_share          share             valid samples
24 left_valid_share          share             samples whose left eye shows a point or a pupil
25 right_valid_share         share             samples whose right eye shows a point or a pupil
26 disparity                 fraction          mean of left x minus right x, where both eyes have a point
27 pupil_mean                tracker's unit    mean of the eyes' means
28 pupil_left_mean           tracker's unit    mean of the left pupil
29 pupil_right_mean          tracker's unit    mean of the right pupil
30 pupil_std                 tracker's unit    standard deviation of the pupil, each eye about its own mean
31 pupil_range               tracker's unit    largest minus smallest pupil, each eye about its own mean
32 pupil_slope               tracker's unit/s  slope of the pupil over time (least squares), eyes as above
33 pupil_difference          tracker's unit    mean of left minus right, where both are valid
34 pupil_valid_share         share             samples with a valid pupil in either eye
35 openness_mean             tracker's unit    mean openness, the mean of the eyes that have one
36 openness_min              tracker's unit    smallest openness
37 openness_valid_share      share             samples with openness in either eye
38 sample_rate               Hz                samples over the span's length
== ========================= ================= ===============================================================
"""

from __future__ import annotations

import operator
from typing import cast

import numpy as np
import numpy.typing as npt

from emert_edge.eye.samples import GazeSamples

__all__ = ["FEATURE_NAMES", "FEATURE_UNITS", "eye_features", "token_edges"]

Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: Name and unit of each column, in order.
FEATURE_UNITS: dict[str, str] = {
    "gaze_x_mean": "fraction",
    "gaze_y_mean": "fraction",
    "gaze_x_std": "fraction",
    "gaze_y_std": "fraction",
    "gaze_x_range": "fraction",
    "gaze_y_range": "fraction",
    "gaze_dispersion": "width",
    "gaze_path_length": "width",
    "velocity_mean": "width/s",
    "velocity_std": "width/s",
    "velocity_max": "width/s",
    "fixation_share": "share",
    "fixation_count": "count",
    "fixation_duration_mean": "s",
    "fixation_dispersion": "width",
    "saccade_share": "share",
    "saccade_count": "count",
    "saccade_duration_mean": "s",
    "saccade_amplitude_mean": "width",
    "saccade_peak_velocity": "width/s",
    "blink_share": "share",
    "blink_count": "count",
    "gap_longest": "s",
    "gaze_valid_share": "share",
    "left_valid_share": "share",
    "right_valid_share": "share",
    "disparity": "fraction",
    "pupil_mean": "tracker's unit",
    "pupil_left_mean": "tracker's unit",
    "pupil_right_mean": "tracker's unit",
    "pupil_std": "tracker's unit",
    "pupil_range": "tracker's unit",
    "pupil_slope": "tracker's unit/s",
    "pupil_difference": "tracker's unit",
    "pupil_valid_share": "share",
    "openness_mean": "tracker's unit",
    "openness_min": "tracker's unit",
    "openness_valid_share": "share",
    "sample_rate": "Hz",
}

#: The 39 columns of `eye_features`, in order. A bundle's manifest names those it was trained on.
FEATURE_NAMES: tuple[str, ...] = tuple(FEATURE_UNITS)

_COLUMN = {name: column for column, name in enumerate(FEATURE_NAMES)}
_HEIGHT = 9 / 16  # a height, in widths
_HALF_WINDOW_NS = 10_000_000
_GAP_NS = 75_000_000
_SACCADE_VELOCITY = 0.65  # widths/s: 30 °/s in the middle of a 531 mm wide screen, 650 mm away
_END_NS = 2**61  # 73 years either way: sums of times stay within int64
_LIMIT = 1e6  # no column can mean anything beyond it, and garbage must not overflow what reads the rows


def eye_features(samples: GazeSamples, start_ns: int, stop_ns: int, tokens: int = 32) -> npt.NDArray[np.float32]:
    """Describe eye behaviour over [start_ns, stop_ns), one row for each of `tokens` equal spans.

    Token i spans [start + i·(stop − start) // tokens, start + (i + 1)·(stop − start) // tokens), and its row uses
    the samples of that span only. The module's text defines the columns.

    Parameters
    ----------
    samples : GazeSamples
        In any order; only those within the span are looked at.
    start_ns, stop_ns : int
        The span, in nanoseconds.
    tokens : int
        Number of rows.

    Returns
    -------
    ndarray, shape (tokens, 39), float32
        Finite always; columns as in `FEATURE_NAMES`.

    Raises
    ------
    TypeError
        If `samples` are no `GazeSamples`, or a number is no integer.
    ValueError
        If there is no token, the span is shorter than one nanosecond a token, or it leaves ±2**61 ns.

    Examples
    --------
    >>> still = GazeSamples(t_ns=range(0, 125_000_000, 5_000_000), x=[0.25] * 25, y=[0.5] * 25)
    >>> row = dict(zip(FEATURE_NAMES, eye_features(still, 0, 125_000_000, tokens=1)[0].tolist()))
    >>> row["gaze_x_mean"], row["fixation_share"], row["sample_rate"], row["pupil_valid_share"]
    (0.25, 1.0, 200.0, 0.0)
    """
    if not isinstance(samples, GazeSamples):
        raise TypeError(f"samples must be GazeSamples, not {type(samples).__name__}")
    edges = token_edges(start_ns, stop_ns, tokens)
    own = samples.between(int(edges[0]), int(edges[-1])).sorted()
    # To float64 only after the (exact) whole numbers are small: a token's own times, from its start.
    token = np.searchsorted(edges, own.t_ns, side="right") - 1
    rows = _Rows(own, token, own.t_ns - edges[token], (edges[1:] - edges[:-1]))
    return rows.computed()


def token_edges(start_ns: int, stop_ns: int, tokens: int) -> Int64Array:
    """Where [start_ns, stop_ns) is cut into `tokens` equal spans.

    Returns
    -------
    ndarray, shape (tokens + 1,), int64
        Token i spans [edges[i], edges[i + 1]).

    Raises
    ------
    TypeError, ValueError
        As `eye_features` does.
    """
    start, stop, count = operator.index(start_ns), operator.index(stop_ns), operator.index(tokens)
    if count < 1:
        raise ValueError(f"tokens must be at least 1, not {count}")
    if stop - start < count:
        raise ValueError(f"the span [{start}, {stop}) is too short for {count} tokens")
    if start < -_END_NS or stop > _END_NS:
        raise ValueError(f"the span [{start}, {stop}) leaves the times that can be counted, ±{_END_NS} ns")
    return np.array([start + i * (stop - start) // count for i in range(count + 1)], dtype=np.int64)


class _Groups:
    """Some samples, in order, with the token each belongs to.

    Sums go through `bincount`, which adds in sample order whatever the other tokens hold: that is what makes a row the
    same to the last bit, computed alone or among others.
    """

    def __init__(self, token: IntArray, tokens: int) -> None:
        self.token = token
        self.tokens = tokens
        self.number = np.bincount(token, minlength=tokens)

        self._bounds: tuple[IntArray, IntArray, IntArray] | None = None

    @property
    def bounds(self) -> tuple[IntArray, IntArray, IntArray]:
        """The tokens that have samples, and the places of the first and the last sample of each."""
        if self._bounds is None:
            held = self.number.nonzero()[0]
            lasts = self.number.cumsum()[held] - 1
            self._bounds = held, lasts - self.number[held] + 1, lasts
        return self._bounds

    def part(self, chosen: BoolArray) -> _Groups:
        return _Groups(self.token[chosen], self.tokens)

    def sum(self, values: Float64Array) -> Float64Array:
        return cast(Float64Array, np.bincount(self.token, weights=values, minlength=self.tokens))

    def mean(self, values: Float64Array) -> Float64Array:
        """NaN where a token has no samples."""
        means: Float64Array = self.sum(values) / self.number
        return means

    def low(self, values: Float64Array) -> Float64Array:
        """Smallest by token, 0 where a token has no samples."""
        return self._reduced(np.minimum, values)

    def high(self, values: Float64Array) -> Float64Array:
        """Largest by token, 0 where a token has no samples."""
        return self._reduced(np.maximum, values)

    def _reduced(self, reduction: np.ufunc, values: Float64Array) -> Float64Array:
        held, firsts, _ = self.bounds
        reduced = np.zeros(self.tokens)
        if held.size:
            reduced[held] = reduction.reduceat(values, firsts)
        return reduced


class _Rows:
    """One call's work, a column of the answer at a time."""

    def __init__(self, samples: GazeSamples, token: IntArray, t_ns: Int64Array, length_ns: Int64Array):
        self.samples = samples
        self.t_ns = t_ns
        self.length_ns = length_ns
        self.all = _Groups(token, length_ns.shape[0])
        self.out = np.zeros((len(FEATURE_NAMES), length_ns.shape[0]), dtype=np.float64)

    def computed(self) -> npt.NDArray[np.float32]:
        self.put("gap_longest", self.length_ns / 1e9)
        if self.t_ns.size:
            with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
                self.put("sample_rate", self.all.number / (self.length_ns / 1e9))
                self._gaze_and_validity()
                self._pupil()
                self._openness()
        self.out[np.isnan(self.out)] = 0.0  # a mean over nothing
        return np.ascontiguousarray(np.clip(self.out, -_LIMIT, _LIMIT).T, dtype=np.float32)

    def put(self, name: str, values: npt.NDArray[np.floating] | npt.NDArray[np.integer]) -> None:
        self.out[_COLUMN[name]] = values

    def share(self, name: str, chosen: BoolArray) -> None:
        number = np.bincount(self.all.token[chosen], minlength=self.all.tokens)
        self.put(name, number / self.all.number)

    def _gaze_and_validity(self) -> None:
        samples, token = self.samples, self.all.token
        valid = samples.valid
        left_point = np.isfinite(samples.left_x) & np.isfinite(samples.left_y)
        right_point = np.isfinite(samples.right_x) & np.isfinite(samples.right_y)
        left_seen = left_point | _sized(samples.pupil_left)
        right_seen = right_point | _sized(samples.pupil_right)
        self.share("left_valid_share", left_seen)
        self.share("right_valid_share", right_seen)
        self.share("gaze_valid_share", valid)

        lost = ~(valid | left_seen | right_seen)
        if lost.any():
            begins = lost.copy()
            begins[1:] &= ~(lost[:-1] & (token[1:] == token[:-1]))
            self.share("blink_share", lost)
            self.put("blink_count", np.bincount(token[begins], minlength=self.all.tokens))

        both = left_point & right_point
        if both.any():
            apart = samples.left_x[both].astype(np.float64) - samples.right_x[both]
            self.put("disparity", self.all.part(both).mean(apart))

        x, y = samples.x.astype(np.float64), samples.y.astype(np.float64)
        if valid.all():
            self._movement(self.all, self.t_ns, x, y)
        elif valid.any():
            self._movement(self.all.part(valid), self.t_ns[valid], x[valid], y[valid])

    def _movement(self, seen: _Groups, t_ns: Int64Array, x: Float64Array, y: Float64Array) -> None:
        token = seen.token
        x_mean, y_mean = seen.mean(x), seen.mean(y)
        x_variance = seen.mean(np.square(x - x_mean[token]))
        y_variance = seen.mean(np.square(y - y_mean[token]))
        self.put("gaze_x_mean", x_mean)
        self.put("gaze_y_mean", y_mean)
        self.put("gaze_x_std", np.sqrt(x_variance))
        self.put("gaze_y_std", np.sqrt(y_variance))
        self.put("gaze_dispersion", np.sqrt(x_variance + _HEIGHT**2 * y_variance))
        self.put("gaze_x_range", seen.high(x) - seen.low(x))
        self.put("gaze_y_range", seen.high(y) - seen.low(y))

        elapsed = t_ns[1:] - t_ns[:-1]
        same = token[1:] == token[:-1]
        near = same & (elapsed <= _GAP_NS)
        steps = np.sqrt(np.square(x[1:] - x[:-1]) + np.square(_HEIGHT * (y[1:] - y[:-1])))
        # Each step belongs to the token of its second sample; one that is too long counts as none.
        self.put("gaze_path_length", seen.sum(np.append(0.0, np.where(near, steps, 0.0))))

        before = t_ns.copy()  # a token's first gap begins at its start
        before[1:][same] = elapsed[same]
        longest = self.length_ns.copy()
        held, firsts, lasts = seen.bounds
        longest[held] = np.maximum(np.maximum.reduceat(before, firsts), longest[held] - t_ns[lasts])
        self.put("gap_longest", longest / 1e9)

        velocity = self._velocity(seen, t_ns, x, y)
        self._fixations_and_saccades(seen, t_ns, x, y, velocity, near)

    def _velocity(self, seen: _Groups, t_ns: Int64Array, x: Float64Array, y: Float64Array) -> Float64Array:
        """Velocity at each valid sample, NaN where undefined."""
        token = seen.token
        # One rising axis for all tokens, on which no window reaches from one token into the next.
        axis = t_ns + token * (int(self.length_ns.max()) + 2 * _HALF_WINDOW_NS)
        index = np.arange(token.size)
        begin = np.minimum(np.searchsorted(axis, axis - _HALF_WINDOW_NS, side="left"), index - 1)
        end = np.maximum(np.searchsorted(axis, axis + _HALF_WINDOW_NS, side="right") - 1, index + 1)
        # The direct neighbours may be another token's.
        _, firsts, lasts = seen.bounds
        begin[firsts] = firsts
        end[lasts] = lasts
        elapsed = t_ns[end] - t_ns[begin]
        distance = np.sqrt(np.square(x[end] - x[begin]) + np.square(_HEIGHT * (y[end] - y[begin])))
        defined = (elapsed > 0) & (elapsed <= _GAP_NS)
        velocity = np.where(defined, distance / (np.maximum(elapsed, 1) / 1e9), np.nan)
        if defined.any():
            some = not defined.all()
            moved, values = (seen.part(defined), velocity[defined]) if some else (seen, velocity)
            mean = moved.mean(values)
            self.put("velocity_mean", mean)
            self.put("velocity_std", np.sqrt(moved.mean(np.square(values - mean[moved.token]))))
            self.put("velocity_max", moved.high(values))
        return velocity

    def _fixations_and_saccades(
        self, seen: _Groups, t_ns: Int64Array, x: Float64Array, y: Float64Array, velocity: Float64Array, near: BoolArray
    ) -> None:
        token, tokens = seen.token, seen.tokens
        fast = velocity > _SACCADE_VELOCITY
        slow = velocity <= _SACCADE_VELOCITY  # both are False where the velocity is undefined
        begins = np.ones(token.size, dtype=np.bool_)
        begins[1:] = ~near | (fast[1:] != fast[:-1]) | (slow[1:] != slow[:-1])
        firsts = begins.nonzero()[0]
        lasts = np.append(firsts[1:], token.size) - 1
        duration = (t_ns[lasts] - t_ns[firsts]) / 1e9

        fixation = slow[firsts]
        if fixation.any():
            rests, resting = _Groups(token[firsts[fixation]], tokens), seen.part(slow)
            self.put("fixation_share", resting.number / self.all.number)
            self.put("fixation_count", rests.number)
            self.put("fixation_duration_mean", rests.mean(duration[fixation]))
            run = begins.cumsum() - 1
            size = lasts - firsts + 1
            off_x = x - (np.bincount(run, weights=x) / size)[run]
            off_y = y - (np.bincount(run, weights=y) / size)[run]
            off = np.square(off_x) + np.square(_HEIGHT * off_y)
            self.put("fixation_dispersion", np.sqrt(resting.mean(off[slow])))

        saccade = fast[firsts]
        if saccade.any():
            head, tail = firsts[saccade], lasts[saccade]
            jumps, jumping = _Groups(token[head], tokens), seen.part(fast)
            amplitude = np.sqrt(np.square(x[tail] - x[head]) + np.square(_HEIGHT * (y[tail] - y[head])))
            self.put("saccade_share", jumping.number / self.all.number)
            self.put("saccade_count", jumps.number)
            self.put("saccade_duration_mean", jumps.mean(duration[saccade]))
            self.put("saccade_amplitude_mean", jumps.mean(amplitude))
            self.put("saccade_peak_velocity", jumping.high(velocity[fast]))

    def _pupil(self) -> None:
        samples = self.samples
        left_valid, right_valid = _sized(samples.pupil_left), _sized(samples.pupil_right)
        either = left_valid | right_valid
        if not either.any():
            return
        means, eyes = [], np.zeros(self.all.tokens)
        deviations, weights = np.zeros(either.size), np.zeros(either.size)
        for name, valid, values in (
            ("pupil_left_mean", left_valid, samples.pupil_left),
            ("pupil_right_mean", right_valid, samples.pupil_right),
        ):
            own, sizes = self.all.part(valid), values[valid].astype(np.float64)
            mean = own.mean(sizes)
            self.put(name, mean)
            # About its own mean: where one eye drops out, the other's size must not read as a change.
            deviations[valid] += sizes - mean[own.token]
            weights[valid] += 1.0
            means.append(np.where(own.number > 0, mean, 0.0))
            eyes += own.number > 0
        self.put("pupil_mean", (means[0] + means[1]) / eyes)

        own, t = self.all.part(either), self.t_ns[either] / 1e9
        change = deviations[either] / weights[either]
        self.put("pupil_valid_share", own.number / self.all.number)
        change = change - own.mean(change)[own.token]
        self.put("pupil_std", np.sqrt(own.mean(np.square(change))))
        self.put("pupil_range", own.high(change) - own.low(change))
        t = t - own.mean(t)[own.token]
        spread = own.sum(np.square(t))
        self.put("pupil_slope", np.where(spread > 0, own.sum(t * change) / spread, 0.0))

        both = left_valid & right_valid
        if both.any():
            apart = samples.pupil_left[both].astype(np.float64) - samples.pupil_right[both]
            self.put("pupil_difference", self.all.part(both).mean(apart))

    def _openness(self) -> None:
        left, right = self.samples.openness_left, self.samples.openness_right
        left_valid, right_valid = np.isfinite(left), np.isfinite(right)
        either = left_valid | right_valid
        if not either.any():
            return
        total = np.where(left_valid, left, 0.0).astype(np.float64) + np.where(right_valid, right, 0.0)
        own = self.all.part(either)
        values = total[either] / (left_valid[either].astype(np.float64) + right_valid[either])
        self.put("openness_valid_share", own.number / self.all.number)
        self.put("openness_mean", own.mean(values))
        self.put("openness_min", own.low(values))


def _sized(pupil: npt.NDArray[np.float32]) -> BoolArray:
    """Where a pupil is valid: finite and above zero."""
    sized: BoolArray = np.isfinite(pupil) & (pupil > 0)
    return sized
