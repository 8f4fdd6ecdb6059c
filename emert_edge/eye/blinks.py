"""Blinks, from pupils that are lost and from eyelids that close.

A sample shows closed eyes where gaze and both pupils are lost together, or where the mean openness of the eyes falls
under three tenths of the recording's median. Stretches of closed samples with open ones on both sides that last
50–500 ms are blinks; openings shorter than 20 ms within one are flicker. The bounds are those usual in the literature
(blinks of 100–400 ms, shorter losses are tracking errors, longer ones closed eyes or a lost tracker).
"""

from __future__ import annotations

import numpy as np

from emert_edge.eye.events import Blink
from emert_edge.eye.samples import GazeSamples
from emert_edge.eye.trace import runs

__all__ = ["detect_blinks"]

_SHORTEST_NS, _LONGEST_NS = 50_000_000, 500_000_000
_FLICKER_NS = 20_000_000
_CLOSED_SHARE = 0.3


def detect_blinks(samples: GazeSamples) -> tuple[Blink, ...]:
    """The blinks of a recording; none where it holds neither pupils nor openness.

    Parameters
    ----------
    samples : GazeSamples
        In any order.

    Returns
    -------
    tuple of Blink
        By rising start; each runs from its first to its last closed sample.
    """
    ordered = samples.sorted()
    count = len(ordered)
    if not count:
        return ()
    lost = np.zeros(count, dtype=np.bool_)
    if samples.has("pupil_left") or samples.has("pupil_right"):
        with np.errstate(invalid="ignore"):
            pupil = (ordered.pupil_left > 0) | (ordered.pupil_right > 0)
        lost = ~(pupil | ordered.valid)
    lowered = np.zeros(count, dtype=np.bool_)
    left, right = ordered.openness_left.astype(np.float64), ordered.openness_right.astype(np.float64)
    number = np.isfinite(left).astype(np.int64) + np.isfinite(right)
    if number.any():
        total = np.where(np.isfinite(left), left, 0.0) + np.where(np.isfinite(right), right, 0.0)
        seen = number > 0
        openness = total[seen] / number[seen]
        lowered[seen] = openness < _CLOSED_SHARE * float(np.median(openness))
    closed = lost | lowered
    firsts, lasts = runs(closed, np.zeros(count, dtype=np.intp))
    inside = (firsts > 0) & (lasts < count - 1)
    firsts, lasts = firsts[inside], lasts[inside]
    if not firsts.size:
        return ()
    apart = ordered.t_ns[firsts[1:]] - ordered.t_ns[lasts[:-1]] > _FLICKER_NS
    firsts, lasts = firsts[np.append(True, apart)], lasts[np.append(apart, True)]
    # From the last open sample before to the first one after: at low rates the closed samples alone fall short.
    elapsed = ordered.t_ns[lasts + 1] - ordered.t_ns[firsts - 1]
    fits = (elapsed >= _SHORTEST_NS) & (elapsed <= _LONGEST_NS)
    return tuple(
        Blink(
            int(ordered.t_ns[first]),
            int(ordered.t_ns[last]),
            "openness" if lowered[first : last + 1].any() else "pupil",
        )
        for first, last in zip(firsts[fits].tolist(), lasts[fits].tolist(), strict=True)
    )
