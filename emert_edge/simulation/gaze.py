"""A simulated gaze stream in an eye tracker's terms, coloured by a felt emotion.

Fixations and saccades on the main sequence, blinks, a pupil that answers to light and to arousal, two eyes with noise,
subjects and stimuli that differ.

**The relation between emotion and eyes is invented.** The table `FELT` below says exactly what each felt class does to
the eyes here. It is loosely in the spirit of what is written about eye behaviour (wide pupils in arousal, lowered lids
and gaze in sadness), but its numbers were chosen for what they ask of a model. The classes fall into three groups
(`EYE_GROUPS`) that differ much in how eyes behave, while classes of one group differ little: eyes tell which group is
felt, and hardly which class of it. A face tells classes apart, but may show something else than is felt. So neither is
enough, and a model has to bring the two together. What it learns from this proves that the machinery fuses two sources;
it says nothing about people.

What is realistic in form: the main sequence (a saccade lasts 21 ms + 2.2 ms a degree; Carpenter, *Movements of the
Eyes*, 1988), a pupil that follows light with a lag of about half a second, gaze and pupil missing in a blink.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emert_edge.eye import GazeSamples
from emert_edge.simulation.face import EXPRESSIONS

__all__ = ["EYE_GROUPS", "FELT", "GazeStimulus", "GazeSubject", "SimulatedGaze", "simulate_gaze"]

Floats = npt.NDArray[np.float64]


class FeltEyes(NamedTuple):
    """What a felt class does to the eyes of an average subject."""

    fixation_s: float
    """Median length of a fixation."""
    amplitude: float
    """Median length of a saccade, in widths of the screen."""
    x: float
    """Where the gaze tends to, as a fraction of the screen."""
    y: float
    spread: float
    """How far around it the gaze roams (standard deviation, fraction of the screen)."""
    pupil_mm: float
    """Added to the pupil's diameter."""
    blinks_per_minute: float
    openness: float
    """Factor on the opening of the lids."""


#: Classes that are much alike to the eyes: drawn to what is there (gaze rests in the middle: long fixations, short
#: saccades), on the alert (wide lids and pupils, fast and far scanning, few blinks), and turned away (gaze sinks, the
#: pupil stays small, more blinks).
EYE_GROUPS: dict[str, tuple[str, ...]] = {
    "drawn": ("happiness", "anger"),
    "alert": ("fear", "surprise"),
    "turned_away": ("sadness", "disgust", "neutral"),
}

#: The invented relation. One row a class.
FELT: dict[str, FeltEyes] = {
    "happiness": FeltEyes(0.38, 0.090, 0.50, 0.445, 0.080, 0.30, 11, 1.03),
    "sadness": FeltEyes(0.29, 0.120, 0.49, 0.60, 0.130, -0.05, 18, 0.94),
    "fear": FeltEyes(0.18, 0.225, 0.50, 0.475, 0.200, 0.56, 7, 1.22),
    "surprise": FeltEyes(0.195, 0.205, 0.50, 0.455, 0.185, 0.52, 6, 1.25),
    "disgust": FeltEyes(0.265, 0.135, 0.51, 0.59, 0.135, 0.01, 21, 0.94),
    "anger": FeltEyes(0.415, 0.082, 0.50, 0.46, 0.076, 0.33, 9, 1.00),
    "neutral": FeltEyes(0.28, 0.130, 0.50, 0.57, 0.140, 0.00, 16, 1.00),
}
_TABLE = np.array([FELT[name] for name in EXPRESSIONS])

_DEGREES_PER_WIDTH = 44.4  # a 24-inch screen seen from 65 cm
_HEIGHT = 9 / 16


@dataclass(frozen=True)
class GazeSubject:
    """How one person's eyes differ from the average; `GazeSubject.from_seed` invents one."""

    fixation: float = 1.0
    amplitude: float = 1.0
    x: float = 0.0
    y: float = 0.0
    spread: float = 1.0
    pupil_mm: float = 3.4
    pupil_gain: float = 1.0
    anisocoria_mm: float = 0.0
    blinks: float = 1.0
    openness_mm: float = 9.5
    noise: float = 0.003
    loss: float = 0.0
    """Share of time in which the tracker loses both eyes."""

    @classmethod
    def from_seed(cls, seed: int) -> GazeSubject:
        """The subject that belongs to a number, always the same one."""
        rng = np.random.default_rng([15485863, int(seed)])

        def factor(spread: float) -> float:
            return float(np.exp(spread * np.clip(rng.standard_normal(), -2, 2)))

        return cls(
            fixation=factor(0.12),
            amplitude=factor(0.14),
            x=float(rng.normal(0, 0.025)),
            y=float(rng.normal(0, 0.03)),
            spread=factor(0.12),
            pupil_mm=float(np.clip(rng.normal(3.4, 0.35), 2.4, 4.6)),
            pupil_gain=factor(0.2),
            anisocoria_mm=float(rng.normal(0, 0.08)),
            blinks=factor(0.35),
            openness_mm=float(np.clip(rng.normal(9.5, 0.6), 7.5, 11.5)),
            noise=float(rng.uniform(0.0015, 0.006)),
            loss=float(rng.uniform(0, 0.04)),
        )


@dataclass(frozen=True)
class GazeStimulus:
    """What is looked at: places that draw the eye, and how bright it is; `GazeStimulus.from_seed` invents one."""

    places: tuple[tuple[float, float, float], ...] = ((0.5, 0.5, 1.0),)
    """x, y (fractions) and weight of each place."""
    draw: float = 0.3
    """Probability that a saccade goes to one of the places."""
    luminance: float = 0.5
    """Mean brightness in [0, 1]."""
    flicker: float = 0.2
    """How much the brightness changes."""
    period_s: float = 7.0
    phase: float = 0.0

    @classmethod
    def from_seed(cls, seed: int) -> GazeStimulus:
        """The stimulus that belongs to a number, always the same one."""
        rng = np.random.default_rng([32452843, int(seed)])
        places = rng.uniform((0.2, 0.2, 0.4), (0.8, 0.8, 1.0), (int(rng.integers(2, 6)), 3))
        return cls(
            places=tuple((float(x), float(y), float(weight)) for x, y, weight in places),
            draw=float(rng.uniform(0.1, 0.35)),
            luminance=float(rng.uniform(0.25, 0.75)),
            flicker=float(rng.uniform(0.05, 0.3)),
            period_s=float(rng.uniform(4, 12)),
            phase=float(rng.uniform(0, 2 * np.pi)),
        )

    def brightness(self, t_s: Floats | float) -> Floats:
        """Brightness over time in [0.02, 1]."""
        wave = np.sin(2 * np.pi * np.asarray(t_s, dtype=np.float64) / self.period_s + self.phase)
        return np.clip(self.luminance * (1 + self.flicker * wave), 0.02, 1.0)


_AVERAGE = GazeSubject()
_PLAIN = GazeStimulus()


class SimulatedGaze(NamedTuple):
    """A stream and what made it."""

    samples: GazeSamples
    fixations: Floats
    """(n, 4) start_s, stop_s, x, y of each fixation."""
    blinks: Floats
    """(n, 2) start_s, stop_s of each blink."""


def simulate_gaze(
    duration_s: float,
    felt: Callable[[Floats], Floats],
    *,
    rng: np.random.Generator,
    subject: GazeSubject = _AVERAGE,
    stimulus: GazeStimulus = _PLAIN,
    rate_hz: float = 120.0,
    start_ns: int = 0,
    space: str | None = "screen",
    clock: str | None = None,
) -> SimulatedGaze:
    """Make a gaze stream.

    Parameters
    ----------
    duration_s : float
        Length in seconds.
    felt : callable
        Times in seconds, shape (n,), to weights over the seven classes, shape (n, 7): `Timeline.weights`.
    rng : numpy.random.Generator
        All chance comes from here.
    subject, stimulus
        Who looks at what.
    rate_hz : float
        Samples a second.
    start_ns : int
        Time of the first sample.
    space, clock
        Handed on to `GazeSamples`.

    Returns
    -------
    SimulatedGaze
        Samples with per-eye points, pupils in mm and openness in mm; points may leave 0–1 by a little, as real ones do.

    Raises
    ------
    ValueError
        If `duration_s` or `rate_hz` is not positive.
    """
    if not (duration_s > 0 and np.isfinite(duration_s)):
        raise ValueError(f"duration_s must be positive, got {duration_s}")
    if not (rate_hz > 0 and np.isfinite(rate_hz)):
        raise ValueError(f"rate_hz must be positive, got {rate_hz}")
    count = max(1, round(duration_s * rate_hz))
    t_s = np.arange(count) / rate_hz
    eyes = felt(t_s) @ _TABLE  # (n, 8)

    def params(at_s: float) -> Floats:
        return np.asarray(eyes[min(count - 1, int(at_s * rate_hz))], dtype=np.float64)

    fixations, path_t, path_xy = _scan_path(duration_s, params, subject, stimulus, rng)
    x = np.interp(t_s, path_t, path_xy[:, 0])
    y = np.interp(t_s, path_t, path_xy[:, 1])
    blinks = _blinks(duration_s, params, subject, rng)
    closing = np.zeros(count)
    for begin, end in blinks:
        middle, half = (begin + end) / 2, (end - begin) / 2
        closing = np.maximum(closing, np.clip(1.6 * (1 - ((t_s - middle) / half) ** 2), 0, 1))
    closed = closing > 0.75

    pupil = _pupil(t_s, eyes[:, 5] * subject.pupil_gain, stimulus, subject, rng)
    lids = _smooth(subject.openness_mm * eyes[:, 7], 0.25 * rate_hz) * (1 - closing)
    lost = np.zeros(count, dtype=bool)
    for _ in range(rng.poisson(subject.loss * duration_s / 0.25)):
        begin = rng.uniform(0, duration_s)
        lost |= (t_s >= begin) & (t_s < begin + rng.exponential(0.25))

    columns: dict[str, npt.NDArray[np.float32]] = {}
    disparity = rng.normal(0, 0.004, 2)
    for eye, sign in (("left", -1), ("right", 1)):
        single = rng.random(count) < 0.004  # one eye alone drops out now and then
        missing = closed | lost | single
        noise = rng.normal(0, subject.noise, (2, count))
        columns[f"{eye}_x"] = np.where(missing, np.nan, x + sign * disparity[0] + noise[0]).astype(np.float32)
        columns[f"{eye}_y"] = np.where(missing, np.nan, y + sign * disparity[1] + noise[1]).astype(np.float32)
        size = pupil + sign * subject.anisocoria_mm / 2 + rng.normal(0, 0.012, count)
        columns[f"pupil_{eye}"] = np.where(missing, np.nan, size).astype(np.float32)
        opening = np.maximum(0.0, lids + rng.normal(0, 0.08, count))
        columns[f"openness_{eye}"] = np.where(lost, np.nan, opening).astype(np.float32)
    samples = GazeSamples(
        t_ns=start_ns + np.rint(t_s * 1e9).astype(np.int64),
        **columns,
        pupil_unit="mm",
        space=space,
        size_px=(1920, 1080),
        clock=clock,
    )
    return SimulatedGaze(samples, fixations, blinks)


def _scan_path(
    duration_s: float,
    params: Callable[[float], Floats],
    subject: GazeSubject,
    stimulus: GazeStimulus,
    rng: np.random.Generator,
) -> tuple[Floats, Floats, Floats]:
    """Fixations, and the corners of the gaze's path over time."""
    weight = np.array([place[2] for place in stimulus.places])
    places = np.array([place[:2] for place in stimulus.places])
    now, at = 0.0, np.array([0.5, 0.5]) + rng.normal(0, 0.05, 2)
    fixations, times, points = [], [], []
    # Minimum-jerk profile of a saccade.
    u = np.linspace(0, 1, 9)[1:-1]
    profile = (10 * u**3 - 15 * u**4 + 6 * u**5)[:, None]
    while now < duration_s:
        fixation_s, amplitude, cx, cy, spread, *_ = params(now)
        length = max(0.07, fixation_s * subject.fixation * np.exp(0.35 * rng.standard_normal()))
        fixations.append((now, min(now + length, duration_s), at[0], at[1]))
        drift = at + rng.normal(0, 0.0025, 2)
        times += [now, now + length]
        points += [at, drift]
        now, at = now + length, drift
        if rng.random() < stimulus.draw:
            goal = places[rng.choice(len(places), p=weight / weight.sum())] + rng.normal(0, 0.03, 2)
        else:
            home = np.array([cx + subject.x, cy + subject.y])
            goal = home + spread * subject.spread * rng.standard_normal(2)
        step = goal - at
        reach = float(np.hypot(step[0], _HEIGHT * step[1])) + 1e-9
        wanted = amplitude * subject.amplitude * np.exp(0.4 * rng.standard_normal())
        target = np.clip(at + step * min(1.6, wanted / reach), -0.02, 1.02)
        degrees = _DEGREES_PER_WIDTH * float(np.hypot(target[0] - at[0], _HEIGHT * (target[1] - at[1])))
        flight = 0.021 + 0.0022 * degrees
        times += list(now + u * flight)
        points += list(at + profile * (target - at))
        now, at = now + flight, target
    return np.array(fixations), np.array(times), np.array(points)


def _blinks(
    duration_s: float, params: Callable[[float], Floats], subject: GazeSubject, rng: np.random.Generator
) -> Floats:
    blinks = []
    now = 0.0
    while True:
        # Thinning by short steps: the rate changes with the felt emotion.
        now += 0.1
        if now >= duration_s:
            break
        if rng.random() < 0.1 * params(now)[6] * subject.blinks / 60:
            length = rng.uniform(0.12, 0.26)
            blinks.append((now, min(duration_s, now + length)))
            now += length + 0.15
    return np.array(blinks).reshape(-1, 2)


def _pupil(
    t_s: Floats, felt_mm: Floats, stimulus: GazeStimulus, subject: GazeSubject, rng: np.random.Generator
) -> Floats:
    rate = 1 / (t_s[1] - t_s[0]) if len(t_s) > 1 else 1.0
    light = -0.45 * np.log2(stimulus.brightness(t_s - 0.25) / 0.5)  # a latency of a quarter of a second
    wander = _smooth(rng.standard_normal(len(t_s)), 0.7 * rate)
    scale = wander.std()
    slow = 0.06 * wander / scale if scale > 0 else 0.0
    return np.clip(subject.pupil_mm + _smooth(light, 0.3 * rate) + _smooth(felt_mm, 0.4 * rate) + slow, 1.5, 8.0)


def _smooth(values: Floats, samples: float) -> Floats:
    """A causal mean over about `samples` samples, begun in its steady state."""
    width = max(1, round(samples))
    padded = np.concatenate([np.full(width - 1, values[0]), values])
    total = np.cumsum(np.concatenate([[0.0], padded]))
    return np.asarray((total[width:] - total[:-width]) / width, dtype=np.float64)
