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

import numpy as np
import numpy.typing as npt

from emert_edge import _core
from emert_edge.eye.samples import ARRAY_NAMES, GazeSamples

__all__ = ["FEATURE_NAMES", "FEATURE_UNITS", "eye_features", "token_edges"]

Int64Array = npt.NDArray[np.int64]

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

_END_NS = 2**61  # 73 years either way: sums of times stay within int64


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
    start, stop, count = _span(start_ns, stop_ns, tokens)
    own = samples if samples.rising else samples.between(start, stop).sorted()
    return _core.token_features(own.t_ns, [getattr(own, name) for name in ARRAY_NAMES], start, stop, count)


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
    start, stop, count = _span(start_ns, stop_ns, tokens)
    return np.array([start + i * (stop - start) // count for i in range(count + 1)], dtype=np.int64)


def _span(start_ns: int, stop_ns: int, tokens: int) -> tuple[int, int, int]:
    """A span and its number of tokens, checked."""
    start, stop, count = operator.index(start_ns), operator.index(stop_ns), operator.index(tokens)
    if count < 1:
        raise ValueError(f"tokens must be at least 1, not {count}")
    if stop - start < count:
        raise ValueError(f"the span [{start}, {stop}) is too short for {count} tokens")
    if start < -_END_NS or stop > _END_NS:
        raise ValueError(f"the span [{start}, {stop}) leaves the times that can be counted, ±{_END_NS} ns")
    return start, stop, count
