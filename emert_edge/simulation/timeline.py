"""How an expression or an emotion changes over time, and what each class stands for on the scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emert_edge.simulation.face import EXPRESSIONS

__all__ = ["AROUSAL", "POLARITIES", "POLARITY", "VALENCE", "Segment", "Timeline"]

Floats = npt.NDArray[np.float64]

POLARITIES = ("positive", "negative", "neutral")

#: Valence, arousal and polarity of the seven classes: the usual places on the circumplex, rounded; a convention of the
#: simulation, not a finding. Surprise has no polarity of its own and counts as positive.
VALENCE: dict[str, float] = dict(zip(EXPRESSIONS, (0.8, -0.7, -0.6, 0.2, -0.7, -0.6, 0.0), strict=True))
AROUSAL: dict[str, float] = dict(zip(EXPRESSIONS, (0.5, -0.5, 0.7, 0.8, 0.2, 0.6, 0.0), strict=True))
POLARITY: dict[str, str] = dict(
    zip(EXPRESSIONS, ("positive", "negative", "negative", "positive", "negative", "negative", "neutral"), strict=True)
)

_NEUTRAL = EXPRESSIONS.index("neutral")
_SCALES = np.array([[VALENCE[name] for name in EXPRESSIONS], [AROUSAL[name] for name in EXPRESSIONS]])


class Segment(NamedTuple):
    """From `start_s` on, until the next segment: a class at an intensity in [0, 1]."""

    start_s: float
    label: str
    intensity: float = 1.0


@dataclass(frozen=True)
class Timeline:
    """Segments that morph into each other.

    Parameters
    ----------
    segments : tuple of Segment
        By rising `start_s`; the first one also holds before its start.
    morph_s : float
        How long the change from one segment to the next takes, centred on the next one's start.

    Raises
    ------
    ValueError
        Without segments, for times that do not rise, for an unknown label, or an intensity outside [0, 1].

    Examples
    --------
    >>> line = Timeline((Segment(0, "neutral"), Segment(4, "fear", 0.8)))
    >>> line.label(1.0, 3.0), line.label(5.0, 7.0)
    ('neutral', 'fear')
    """

    segments: tuple[Segment, ...]
    morph_s: float = 0.6

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", tuple(Segment(*segment) for segment in self.segments))
        if not self.segments:
            raise ValueError("segments: at least one is needed")
        starts = [segment.start_s for segment in self.segments]
        if any(later <= earlier for earlier, later in pairwise(starts)):
            raise ValueError("segments: start_s must rise")
        for segment in self.segments:
            if segment.label not in EXPRESSIONS:
                raise ValueError(f"segments: {segment.label!r} is not one of {', '.join(EXPRESSIONS)}")
            if not 0 <= segment.intensity <= 1:
                raise ValueError(f"segments: intensity must lie in [0, 1], got {segment.intensity}")
        if self.morph_s < 0:
            raise ValueError(f"morph_s must not be negative, got {self.morph_s}")

    @classmethod
    def constant(cls, label: str, intensity: float = 1.0) -> Timeline:
        """One class from beginning to end."""
        return cls((Segment(0.0, label, intensity),))

    def weights(self, t_s: float | Sequence[float] | Floats) -> Floats:
        """Weights over the seven classes at times in seconds.

        Returns
        -------
        ndarray, shape (7,) or (n, 7), float64
            Each row adds up to 1; what an intensity leaves over is neutral.
        """
        times = np.atleast_1d(np.asarray(t_s, dtype=np.float64))
        rows = np.zeros((len(self.segments), len(EXPRESSIONS)))
        for row, segment in zip(rows, self.segments, strict=True):
            row[EXPRESSIONS.index(segment.label)] += segment.intensity
            row[_NEUTRAL] += 1 - segment.intensity
        result = np.broadcast_to(rows[0], (len(times), len(EXPRESSIONS))).copy()
        for earlier, later, segment in zip(rows, rows[1:], self.segments[1:], strict=False):
            ramp = (times - segment.start_s) / self.morph_s + 0.5 if self.morph_s else times >= segment.start_s
            share = np.clip(np.asarray(ramp, dtype=np.float64), 0, 1)
            result += (share * share * (3 - 2 * share))[:, None] * (later - earlier)
        return np.asarray(result[0] if np.ndim(t_s) == 0 else result, dtype=np.float64)

    def mean(self, start_s: float, stop_s: float) -> Floats:
        """Mean weights over a span, shape (7,)."""
        count = max(2, round((stop_s - start_s) / 0.05))
        middle = start_s + (np.arange(count) + 0.5) * (stop_s - start_s) / count
        return np.asarray(self.weights(middle).mean(axis=0), dtype=np.float64)

    def label(self, start_s: float, stop_s: float) -> str:
        """The class whose segments cover most of a span (of two with the same share, the later one)."""
        cover: dict[str, tuple[float, float]] = {}
        edges = [segment.start_s for segment in self.segments] + [float("inf")]
        edges[0] = -float("inf")
        for segment, begin, end in zip(self.segments, edges, edges[1:], strict=False):
            inside = min(end, stop_s) - max(begin, start_s)
            if inside > 0:
                cover[segment.label] = (cover.get(segment.label, (0.0, 0.0))[0] + inside, begin)
        return max(cover, key=lambda name: cover[name]) if cover else self.segments[-1].label

    def valence_arousal(self, start_s: float, stop_s: float) -> tuple[float, float]:
        """Mean valence and arousal over a span, each in [-1, 1]."""
        valence, arousal = (_SCALES @ self.mean(start_s, stop_s)).tolist()
        return float(valence), float(arousal)

    def intensity(self, start_s: float, stop_s: float) -> float:
        """Mean distance from neutral over a span, in [0, 1]."""
        return float(1 - self.mean(start_s, stop_s)[_NEUTRAL])
