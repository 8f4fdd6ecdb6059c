"""Temperature scaling: one number that makes a head's probabilities mean what they say.

Guo et al., "On calibration of modern neural networks", ICML 2017 (arXiv 1706.04599). It changes no answer, only how
sure the answer claims to be. It is fitted on validation rows, never on those that are scored.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

__all__ = ["TEMPERATURES", "fit_temperature"]

#: The range that is searched; its ends are reached where the answers are all right, or no better than chance.
TEMPERATURES = (0.05, 20.0)


def fit_temperature(logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> float:
    """Return the temperature T for which softmax(logits / T) gives the labels the highest likelihood.

    Parameters
    ----------
    logits : ndarray
        (n, classes) float.
    labels : ndarray
        (n,) int; rows with a negative one are left out.

    Returns
    -------
    float
        Within `TEMPERATURES`.

    Raises
    ------
    ValueError
        If no row is labelled, or the lengths differ.
    """
    if len(logits) != len(labels):
        raise ValueError(f"logits have {len(logits)} rows, labels {len(labels)}")
    known = labels >= 0
    if not known.any():
        raise ValueError("labels: no row is labelled; a temperature cannot be fitted")
    held, truth = np.asarray(logits[known], np.float64), labels[known]
    rows = np.arange(len(held))

    def surprise(logarithm: float) -> float:
        return -float(log_softmax(held * np.exp(-logarithm), axis=1)[rows, truth].mean())

    # Convex in 1 / T, hence with a single minimum in the logarithm of T as well.
    found = minimize_scalar(surprise, bounds=tuple(np.log(TEMPERATURES)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))
