"""Pupils fit for emotion: artefacts rejected, eyes combined, a baseline, and the response to light removed.

Each step is one function's work and leaves a `PupilStep` behind, so that a result says what was done to it. Nothing is
interpolated: what is rejected is NaN.

- *Range and speed* (`M. E. Kret and E. E. Sjak-Shie, "Preprocessing pupil size data: guidelines and code", Behavior
  Research Methods 51, 2019`): sizes outside 1.5–9 mm (where the unit is millimetres) are none; nor is a sample whose
  dilation speed, the larger of the two to its neighbours, lies above median + 16 · MAD of that eye's speeds. Speeds of
  0 don't count, for trackers that give each size several times; nor is the MAD taken for less than a quarter of the
  median, for those that round sizes, so that most speeds are alike.
- *Blink margins* (the same): 50 ms before and after a gap of 75 ms to 2 s, where the lids cover the pupil in part; a
  blink that only the lids show (the pupil was measured, or guessed, all the same) goes with its margins.
- *Eyes*: the mean of both; where one is missing the other, moved by half of the median difference between them.
- *Baseline*: the median over a stretch of time.
- *Light*: brighter scenes make smaller pupils. The logarithm of luminance is convolved with the pupil's impulse
  response (an Erlang gamma function, t^10.1 · exp(−10.1 t / t_max), after B. Hoeks and W. Levelt, Behavior Research
  Methods 25, 1993), fitted to the pupil by least squares with the t_max of 0.4 to 1.4 s that explains most, and its
  part taken out. Where luminance is not known, nor is the pupil without light: it is NaN.
- *Light, without luminance* (after M. Soleymani, M. Pantic and T. Pun, "Multimodal emotion recognition in response to
  videos", IEEE Transactions on Affective Computing 3(2), 2012): of many people who saw one stimulus, what their pupils
  have in common is mostly the light; the rank-one component of all traces is taken out of each. What they all felt
  alike goes with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from emert_edge.eye.detection import detect_events
from emert_edge.eye.samples import ARRAY_NAMES, GazeSamples

__all__ = ["Pupil", "PupilStep", "clean_pupil", "remove_common_response", "remove_light_response", "scene_luminance"]

Float64Array = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_SMALLEST_MM, _LARGEST_MM = 1.5, 9.0
_SHORTEST_GAP_NS, _LONGEST_GAP_NS = 75_000_000, 2_000_000_000
_RESPONSE_HZ = 50.0
_SHAPE = 10.1
_PEAKS_S = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.4)
_LONGEST_S = 200_000.0  # two days: what is longer is a mistake in the times
_DARK = 1e-3  # of full white: below it a camera knows nothing
_GROUP_HZ = 10.0
_FEWEST_SAMPLES = 30


@dataclass(frozen=True)
class PupilStep:
    """One thing that was done: its name, and what it found or used."""

    name: str
    facts: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "facts", MappingProxyType(dict(self.facts)))


@dataclass(frozen=True)
class Pupil:
    """A recording's pupils, cleaned.

    Attributes
    ----------
    t_ns : ndarray, shape (n,), int64
        Times, rising.
    left, right, size : ndarray, shape (n,), float32
        Each eye, and both combined, in `unit`; NaN where rejected or missing.
    unit : {"mm", "px", "au"} or None
        As the samples state it.
    baseline : float
        Subtract it from `size` for the change; NaN where none was asked for or seen.
    steps : tuple of PupilStep
        What was done, in order.
    """

    t_ns: Int64Array
    left: Float32Array
    right: Float32Array
    size: Float32Array
    unit: str | None
    baseline: float = math.nan
    steps: tuple[PupilStep, ...] = ()

    @property
    def change(self) -> Float32Array:
        """`size` less the baseline, shape (n,), float32."""
        return np.asarray(self.size - np.float32(self.baseline), np.float32)

    def put_into(self, samples: GazeSamples) -> GazeSamples:
        """The same samples with these pupils: what features computed from them rest on.

        Raises
        ------
        ValueError
            If they are not the samples that were cleaned, by their times.
        """
        ordered = samples.sorted()
        if not np.array_equal(ordered.t_ns, self.t_ns):
            raise ValueError("samples: these are not the ones whose pupils were cleaned")
        arrays: dict[str, Any] = {name: getattr(ordered, name) for name in ARRAY_NAMES}
        arrays |= {"pupil_left": self.left, "pupil_right": self.right}
        return GazeSamples(
            t_ns=ordered.t_ns, **arrays, pupil_unit=samples.pupil_unit, space=samples.space, size_px=samples.size_px,
            clock=samples.clock,
        )  # fmt: skip


def clean_pupil(
    samples: GazeSamples,
    *,
    outlier_mads: float = 16.0,
    margin_ms: float = 50.0,
    baseline_ns: tuple[int, int] | None = None,
) -> Pupil:
    """Reject artefacts, combine the eyes, take a baseline.

    Parameters
    ----------
    samples : GazeSamples
        In any order.
    outlier_mads : float
        How many median absolute deviations above the median a dilation speed may lie; infinite: any.
    margin_ms : float
        What is rejected on both sides of a gap.
    baseline_ns : (start, stop), optional
        The stretch of time, [start, stop), whose median is the baseline.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, or out of range; the message names it.

    Examples
    --------
    >>> t = np.arange(200) * 10_000_000
    >>> left = np.where(t == 500_000_000, 6.0, 3.0 + 0.1 * np.sin(t / 1e9))
    >>> pupil = clean_pupil(GazeSamples(t_ns=t, pupil_left=left, pupil_unit="mm"))
    >>> int(np.isnan(pupil.size).sum()), [step.name for step in pupil.steps]
    (3, ['range', 'speed', 'margins', 'eyes'])
    """
    if not isinstance(samples, GazeSamples):
        raise TypeError(f"samples must be GazeSamples, not {type(samples).__name__}")
    for name, value in (("outlier_mads", outlier_mads), ("margin_ms", margin_ms)):
        if not value >= 0:
            raise ValueError(f"{name} must not be negative, not {value!r}")
    ordered = samples.sorted()
    t_ns = ordered.t_ns
    margin_ns = round(min(margin_ms * 1e6, _LONGEST_S * 1e9))
    shut = _near_blinks(ordered, margin_ns)
    eyes, counts = [], {"range": 0, "speed": 0, "margins": 0}
    facts: dict[str, dict[str, float]] = {name: {} for name in counts}
    for name in ("left", "right"):
        size = getattr(ordered, f"pupil_{name}").astype(np.float64)
        size[~(np.isfinite(size) & (size > 0))] = np.nan
        outside = _outside(size) if samples.pupil_unit == "mm" else np.zeros(size.size, bool)
        size[outside] = np.nan
        fast, threshold = _too_fast(t_ns, size, outlier_mads)
        size[fast] = np.nan
        near = shut | _near_gaps(t_ns, np.isfinite(size), margin_ns)
        near &= np.isfinite(size)
        size[near] = np.nan
        for step, rejected in (("range", outside), ("speed", fast), ("margins", near)):
            facts[step][f"rejected_{name}"] = int(rejected.sum())
        facts["speed"][f"threshold_{name}"] = threshold
        eyes.append(size)
    size, difference = _combined(*eyes)
    steps = [PupilStep(name, facts[name]) for name in ("range", "speed", "margins")]
    steps.append(PupilStep("eyes", {"difference": difference}))
    baseline = math.nan
    if baseline_ns is not None:
        start, stop = baseline_ns
        held = size[(t_ns >= start) & (t_ns < stop)]
        held = held[np.isfinite(held)]
        baseline = float(np.median(held)) if held.size else math.nan
        steps.append(PupilStep("baseline", {"size": baseline, "samples": held.size}))
    left, right, both = (np.asarray(values, np.float32) for values in (*eyes, size))
    return Pupil(t_ns, left, right, both, samples.pupil_unit, baseline, tuple(steps))


def _outside(size: Float64Array) -> BoolArray:
    with np.errstate(invalid="ignore"):
        return np.asarray((size < _SMALLEST_MM) | (size > _LARGEST_MM))


def _too_fast(t_ns: Int64Array, size: Float64Array, mads: float) -> tuple[BoolArray, float]:
    """Samples whose dilation speed is an outlier, and the threshold in the pupil's unit per second."""
    fast = np.zeros(size.size, bool)
    places = np.flatnonzero(np.isfinite(size))
    if places.size < 3:
        return fast, math.nan
    elapsed = np.diff(t_ns[places]) / 1e9
    forward = elapsed[elapsed > 0]
    if not forward.size:
        return fast, math.nan
    # Clocks jitter: of two samples that came nearly at once the step must not look like a jump.
    between = np.abs(np.diff(size[places])) / np.maximum(elapsed, 0.5 * float(np.median(forward)))
    speed = np.maximum(np.append(between, 0.0), np.insert(between, 0, 0.0))
    moving = speed[speed > 0]
    if not moving.size:
        return fast, math.nan
    middle = float(np.median(moving))
    threshold = middle + mads * max(float(np.median(np.abs(moving - middle))), middle / 4)
    fast[places[speed > threshold]] = True
    return fast, threshold


def _near_blinks(samples: GazeSamples, margin_ns: int) -> BoolArray:
    """Samples within a blink, or close to one, by the lids: a pupil that is lost leaves a gap of its own."""
    if not (samples.has("openness_left") or samples.has("openness_right")):
        return np.zeros(len(samples), bool)
    blinks = detect_events(samples).blinks
    starts, stops = ([getattr(blink, edge) for blink in blinks] for edge in ("start_ns", "stop_ns"))
    return _close_to(samples.t_ns, np.array(starts, np.int64), np.array(stops, np.int64), margin_ns)


def _near_gaps(t_ns: Int64Array, seen: BoolArray, margin_ns: int) -> BoolArray:
    """Samples close to a gap that is as long as blinks are."""
    places = np.flatnonzero(seen)
    if places.size < 2:
        return np.zeros(seen.size, bool)
    elapsed = np.diff(t_ns[places])
    usual = float(np.median(elapsed))
    gaps = np.flatnonzero((elapsed >= max(_SHORTEST_GAP_NS, 3 * usual)) & (elapsed <= _LONGEST_GAP_NS))
    return _close_to(t_ns, t_ns[places[gaps]], t_ns[places[gaps + 1]], margin_ns)


def _close_to(t_ns: Int64Array, starts: Int64Array, stops: Int64Array, margin_ns: int) -> BoolArray:
    """Which times lie within a stretch, or less than a margin from it."""
    close = np.zeros(t_ns.size, bool)
    firsts = np.searchsorted(t_ns, starts - margin_ns, "right")  # whole numbers: floats would copy all times
    lasts = np.searchsorted(t_ns, stops + margin_ns, "left")
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        close[first:last] = True
    return close


def _combined(left: Float64Array, right: Float64Array) -> tuple[Float64Array, float]:
    """The mean of the eyes; a lone eye is moved by half of the median difference, left less right."""
    has_left, has_right = np.isfinite(left), np.isfinite(right)
    both = has_left & has_right
    difference = float(np.median(left[both] - right[both])) if both.any() else 0.0
    size = np.full(left.size, np.nan)
    size[both] = 0.5 * (left[both] + right[both])
    size[has_left & ~has_right] = left[has_left & ~has_right] - 0.5 * difference
    size[has_right & ~has_left] = right[has_right & ~has_left] + 0.5 * difference
    return size, difference


# -- light ------------------------------------------------------------------------------------------------------------


class _Frame(Protocol):
    @property
    def image(self) -> npt.NDArray[np.uint8]: ...

    @property
    def t_ns(self) -> int: ...


def scene_luminance(frames: Iterable[_Frame]) -> tuple[Int64Array, Float64Array]:
    """How bright a scene's frames are: the mean relative luminance (BT.709 primaries, sRGB transfer) of each.

    Parameters
    ----------
    frames : iterable
        With `image`, (H, W, 3) uint8 BGR, and `t_ns`: a `FrameSource`'s frames.

    Returns
    -------
    t_ns : ndarray, shape (n,), int64
    luminance : ndarray, shape (n,), float64
        0 (black) to 1 (white).
    """
    level = np.arange(256) / 255.0
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    weights = np.array([0.0722, 0.7152, 0.2126])  # blue, green, red
    times: list[int] = []
    bright: list[float] = []
    for frame in frames:
        image = frame.image[:: max(frame.image.shape[0] // 90, 1), :: max(frame.image.shape[1] // 160, 1)]
        times.append(frame.t_ns)
        bright.append(float((linear[image].mean((0, 1)) * weights).sum()))
    return np.array(times, np.int64), np.array(bright, np.float64)


def remove_light_response(pupil: Pupil, t_ns: npt.ArrayLike, luminance: npt.ArrayLike) -> Pupil:
    """Take out what the scene's light explains.

    Parameters
    ----------
    pupil : Pupil
        Cleaned.
    t_ns, luminance : array_like, shape (m,)
        Luminance over time, from 0, in any linear unit; in the clock of the pupil's times. A value holds until the
        next, the last one for one usual step, a single one throughout.

    Returns
    -------
    Pupil
        With one step more, `light`: the time of the response's peak, its gain in the pupil's unit per tenfold
        luminance, the share of variance that it explained, and the number of sizes that were rejected because
        luminance is not known at their times. Where brighter does not go with smaller, nothing is taken out, and the
        gain is 0. The mean stays.

    Raises
    ------
    ValueError
        If the series is empty, of two lengths, negative, not finite, or its times fall; if it tells of no moment of
        the pupil's, or the pupil's times span more than two days.
    """
    times, light = np.asarray(t_ns, np.int64), np.asarray(luminance, np.float64)
    if times.ndim != 1 or times.shape != light.shape or not times.size:
        raise ValueError(f"t_ns and luminance must have one length above 0, not {times.shape} and {light.shape}")
    if not (np.isfinite(light).all() and (light >= 0).all()):
        raise ValueError("luminance must be finite and not negative")
    if (np.diff(times) < 0).any():
        raise ValueError("t_ns must not fall")
    known = _known(times, pupil.t_ns)
    measured = np.isfinite(pupil.size)
    seen = known & measured
    if measured.any() and not known.any():
        raise ValueError(
            f"luminance of {times[0]} to {times[-1]} ns tells nothing of a pupil of {pupil.t_ns[0]} to "
            f"{pupil.t_ns[-1]} ns: bring both to one clock"
        )
    peak, gain, share = math.nan, 0.0, 0.0
    taken = np.where(known, 0.0, np.nan)
    if seen.sum() >= _FEWEST_SAMPLES:
        target = pupil.size[seen].astype(np.float64)
        target -= target.mean()
        for candidate in _PEAKS_S:
            expected = _response(times, light, pupil.t_ns, candidate)
            own = expected[seen] - expected[seen].mean()
            power = float(own @ own)
            slope = float(own @ target) / power if power > 1e-12 else 0.0
            explained = slope * float(own @ target) / float(target @ target) if target.any() else 0.0
            if slope < 0 and explained > share:
                peak, gain, share = candidate, slope, explained
                taken = np.where(known, slope * (expected - expected[seen].mean()), np.nan)
    facts = {"peak_s": peak, "gain": gain, "explained": share, "rejected": int((measured & ~known).sum())}
    step = PupilStep("light", facts)
    left, right, size = (np.asarray(eye - taken, np.float32) for eye in (pupil.left, pupil.right, pupil.size))
    return replace(pupil, left=left, right=right, size=size, steps=(*pupil.steps, step))


def _known(times: Int64Array, at_ns: Int64Array) -> BoolArray:
    """Where a series of values, each of which holds until the next, says something."""
    if times.size == 1:
        return np.ones(at_ns.size, bool)
    return np.asarray((at_ns >= times[0]) & (at_ns < int(times[-1]) + max(int(np.median(np.diff(times))), 1)))


def _response(times: Int64Array, light: Float64Array, at_ns: Int64Array, peak_s: float) -> Float64Array:
    """Log luminance after the pupil's impulse response, at some times."""
    if int(at_ns[-1]) - int(at_ns[0]) > _LONGEST_S * 1e9:
        raise ValueError(
            f"the pupil's times span {(int(at_ns[-1]) - int(at_ns[0])) / 3.6e12:.0f} hours; two days at most"
        )
    begin = int(at_ns[0]) - 4_000_000_000
    grid = np.arange(math.ceil((int(at_ns[-1]) - begin) / 1e9 * _RESPONSE_HZ) + 2) / _RESPONSE_HZ
    held = np.clip(np.searchsorted((times - begin) / 1e9, grid, "right") - 1, 0, len(times) - 1)
    level = np.log10(light[held] / max(float(light.max()), 1e-12) + _DARK)
    since = np.arange(1, round(4 * _RESPONSE_HZ)) / _RESPONSE_HZ
    shape = since**_SHAPE * np.exp(-_SHAPE * since / peak_s)
    shape /= shape.sum()
    padded = np.concatenate([np.full(shape.size - 1, level[0]), level])  # as if it had always been so bright
    delayed = np.convolve(padded, shape, "valid")
    return np.interp((at_ns - begin) / 1e9, grid + 1 / _RESPONSE_HZ, delayed)


def remove_common_response(pupils: Sequence[Pupil], start_ns: Sequence[int]) -> list[Pupil]:
    """Take out what the pupils of many people who saw one stimulus have in common.

    Parameters
    ----------
    pupils : sequence of Pupil
        One a person, two at least.
    start_ns : sequence of int
        When the stimulus began, in the clock of each.

    Returns
    -------
    list of Pupil
        With one step more, `common`: each person's loading, in the pupil's unit, and the share of their variance that
        the common component explained.

    Raises
    ------
    ValueError
        If there are fewer than two people, or not as many beginnings.
    """
    if len(pupils) < 2 or len(pupils) != len(start_ns):
        raise ValueError(
            f"two people at least, and each one's beginning: {len(pupils)} pupils, {len(start_ns)} beginnings"
        )
    ends = [(int(pupil.t_ns[-1]) - start) / 1e9 for pupil, start in zip(pupils, start_ns, strict=True)]
    bins = max(1, math.ceil(max(ends) * _GROUP_HZ))
    table = np.full((len(pupils), bins), np.nan)
    for row, (pupil, start) in enumerate(zip(pupils, start_ns, strict=True)):
        place = np.floor((pupil.t_ns - start) / 1e9 * _GROUP_HZ).astype(np.int64)
        good = np.isfinite(pupil.size) & (place >= 0) & (place < bins)
        number = np.bincount(place[good], minlength=bins)
        total = np.bincount(place[good], weights=pupil.size[good], minlength=bins)
        np.divide(total, number, out=table[row], where=number > 0)
    known = np.isfinite(table)
    means = np.array([row[good].mean() if good.any() else 0.0 for row, good in zip(table, known, strict=True)])
    centred = np.where(known, table - means[:, None], 0.0)
    common, loading = _rank_one(centred, known)
    made = []
    for row, (pupil, start) in enumerate(zip(pupils, start_ns, strict=True)):
        middle = (np.arange(bins) + 0.5) / _GROUP_HZ
        taken = loading[row] * np.interp((pupil.t_ns - start) / 1e9, middle, common)
        own = centred[row][known[row]]
        left_over = own - loading[row] * common[known[row]]
        power = float(own @ own)
        share = 1.0 - float(left_over @ left_over) / power if power > 0 else 0.0
        step = PupilStep("common", {"loading": float(loading[row]), "explained": share, "people": len(pupils)})
        left, right, size = (np.asarray(eye - taken, np.float32) for eye in (pupil.left, pupil.right, pupil.size))
        made.append(replace(pupil, left=left, right=right, size=size, steps=(*pupil.steps, step)))
    return made


def _rank_one(table: Float64Array, known: BoolArray) -> tuple[Float64Array, Float64Array]:
    """The rank-one component of a table with holes, by alternating least squares: over time, and each row's loading.

    The component over time has unit variance where it is known; rows that go against the rest have negative loadings.
    """
    scale = np.sqrt(np.square(table).sum(1) / np.maximum(known.sum(1), 1))
    rows = np.divide(table, scale[:, None], out=np.zeros_like(table), where=scale[:, None] > 0)  # nobody outweighs
    loading = (scale > 0).astype(np.float64)
    common = np.zeros(table.shape[1])
    for _ in range(200):
        weight = (np.square(loading)[:, None] * known).sum(0)
        fresh = np.divide((loading[:, None] * rows).sum(0), weight, out=np.zeros_like(common), where=weight > 0)
        size = float(np.sqrt(np.square(fresh).mean()))
        if size <= 0:
            return common, np.zeros(len(table))
        fresh /= size
        power = (np.square(fresh)[None, :] * known).sum(1)
        loading = np.divide((rows * fresh).sum(1), power, out=np.zeros_like(loading), where=power > 0)
        moved = float(np.abs(fresh - common).max())
        common = fresh
        if moved < 1e-10:
            break
    return common, loading * scale
