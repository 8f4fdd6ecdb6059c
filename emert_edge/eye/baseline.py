"""A subject's own baseline: sizes of pupils and lids as changes from what that person's first seconds showed.

People's pupils differ by more than what they feel changes them, and trackers measure in units of their own. A bundle
that asks for it gets the columns of `BASELINE_FEATURES` less the mean over the first tokens of a session that have
them. Until so many have come the mean is that of those so far, this one included: a token sees nothing of what comes
later, and is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["BASELINE_FEATURES", "SubjectBaseline"]

#: The columns that are sizes in the tracker's own unit, as levels; 0 in any of them means that there was none.
BASELINE_FEATURES = ("pupil_mean", "pupil_left_mean", "pupil_right_mean", "openness_mean", "openness_min")


class SubjectBaseline:
    """Takes a session's baseline out of its feature rows, as they come.

    Parameters
    ----------
    features : sequence of str
        The columns' names, in the order of the rows.
    tokens : int
        How many tokens make the baseline.
    """

    def __init__(self, features: Sequence[str], tokens: int) -> None:
        self._columns = np.array([place for place, name in enumerate(features) if name in BASELINE_FEATURES], np.intp)
        self._tokens = tokens
        self.reset()

    def reset(self) -> None:
        """Begin with another person."""
        self._total = np.zeros(self._columns.size)
        self._number = np.zeros(self._columns.size, np.int64)

    def apply(self, rows: npt.NDArray[np.float32]) -> None:
        """Change the next rows in place.

        Parameters
        ----------
        rows : ndarray, shape (n, columns), float32
            In order of time. A column without data stays 0, which then says: as ever.
        """
        for row in rows:
            sizes = row[self._columns].astype(np.float64)
            seen = sizes != 0
            learns = seen & (self._number < self._tokens)
            self._total[learns] += sizes[learns]
            self._number += learns
            usual = self._total / np.maximum(self._number, 1)
            row[self._columns] = np.where(seen, sizes - usual, 0.0)
