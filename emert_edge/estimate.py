"""What a window says: two answers, the gap between them, and how much evidence there was."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Estimate", "FaceBox", "Quality", "Scores", "TaskEstimate", "jensen_shannon", "softmax"]


class Scores(Mapping[str, float]):
    """Numbers by name, in order; cannot be changed.

    Examples
    --------
    >>> scores = Scores(("positive", "negative"), (0.75, 0.25))
    >>> scores["positive"], list(scores)
    (0.75, ['positive', 'negative'])
    """

    __slots__ = ("_names", "_values")

    def __init__(self, names: Iterable[str], values: Iterable[float]) -> None:
        self._names = tuple(names)
        self._values = tuple(float(value) for value in values)
        if len(self._names) != len(self._values):
            raise ValueError(f"{len(self._names)} names and {len(self._values)} values")

    def __getitem__(self, name: str) -> float:
        try:
            return self._values[self._names.index(name)]
        except ValueError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __hash__(self) -> int:
        return hash((self._names, self._values))

    def __repr__(self) -> str:
        return f"Scores({dict(self)})"


@dataclass(frozen=True, slots=True)
class FaceBox:
    """The face behind the newest face token.

    Attributes
    ----------
    box : tuple of float
        (x, y, width, height) in pixels of the camera frame.
    score : float
        The detector's own score.
    track_id : int
        Stays the same as long as the same person is followed.
    """

    box: tuple[float, float, float, float]
    score: float
    track_id: int


@dataclass(frozen=True, slots=True)
class TaskEstimate:
    """One answer: what is felt (`Estimate.emotion`) or what is shown (`Estimate.expression`).

    Attributes
    ----------
    label : str or None
        The most probable class; None, as the next two, where the bundle has no classes for this task.
    probability : float or None
        Its probability.
    probabilities : mapping of str to float, or None
        All classes in the bundle's order.
    polarity, polarities
        The most probable of positive, negative and neutral, and all three; None without such a head.
    valence, arousal : float or None
        In [-1, 1]; None without such a head.
    intensity : float or None
        Of the expression, in [0, 3]; None for the emotion.
    """

    label: str | None
    probability: float | None
    probabilities: Mapping[str, float] | None
    polarity: str | None
    polarities: Mapping[str, float] | None
    valence: float | None
    arousal: float | None
    intensity: float | None = None


@dataclass(frozen=True, slots=True)
class Quality:
    """How much of the window was really seen.

    Attributes
    ----------
    face, gaze : float
        Share of the window's face tokens that are real; share of its eye tokens with valid gaze.
    skew_ms : float
        Largest distance between a token's time and the datum it took.
    dropped_frames, late_samples : int
        Frames dropped by a full queue, and data that came after their time, since the session began.
    degraded : tuple of str
        Out of no_face, no_gaze, no_pupil, no_scene, stale_face, clock_unsynchronised.
    """

    face: float
    gaze: float
    skew_ms: float
    dropped_frames: int
    late_samples: int
    degraded: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one window says.

    Attributes
    ----------
    time_s, t_ns : float, int
        The instant the estimate is for, in session time.
    window_s : tuple of float
        Start and end of the window.
    sequence : int
        0, 1, 2 … within a session.
    face : FaceBox or None
        The newest face; None where there is none.
    emotion, expression : TaskEstimate or None
        What is felt and what is shown; None where the bundle has no such head.
    gap : float or None
        How far felt and shown lie apart, in [0, 1]: `jensen_shannon` of the two class distributions.
    reactions : mapping of str to float, or None
        Seven reaction intensities in [0, 1].
    quality : Quality
    latency_ms : float or None
        From the estimate's instant to its delivery; live sessions only.
    model : str
        Name and version of the bundle.
    """

    time_s: float
    t_ns: int
    window_s: tuple[float, float]
    sequence: int
    face: FaceBox | None
    emotion: TaskEstimate | None
    expression: TaskEstimate | None
    gap: float | None
    reactions: Mapping[str, float] | None
    quality: Quality
    latency_ms: float | None
    model: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, strings and numbers."""
        plain = _plain(self)
        assert isinstance(plain, dict)
        return plain

    def to_json(self) -> str:
        """Return one line of JSON; the same estimate always gives the same bytes."""
        return json.dumps(self.to_dict(), separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def jensen_shannon(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    """Return the Jensen–Shannon divergence, base 2, of two discrete distributions.

    Parameters
    ----------
    p, q
        `(classes,)` probabilities that sum to one.

    Returns
    -------
    float
        In [0, 1]: 0 for equal, 1 for disjoint distributions.

    References
    ----------
    J. Lin, "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory 37(1), 1991.

    Examples
    --------
    >>> jensen_shannon([1.0, 0.0], [0.0, 1.0])
    1.0
    """
    a, b = np.asarray(p, np.float64), np.asarray(q, np.float64)
    middle = (a + b) / 2

    def divergence(x: npt.NDArray[np.float64]) -> float:
        some = x > 0
        return float(np.sum(x[some] * np.log2(x[some] / middle[some])))

    return min(max((divergence(a) + divergence(b)) / 2, 0.0), 1.0)


def softmax(logits: npt.NDArray[np.floating[Any]], temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Return probabilities along the last axis, in float64."""
    scaled = np.asarray(logits, np.float64) / temperature
    scaled -= scaled.max(axis=-1, keepdims=True)
    exponential = np.exp(scaled)
    return np.asarray(exponential / exponential.sum(axis=-1, keepdims=True))
