"""Metrics of a protocol: pooled over all rows, with an interval, and beside that averaged in the published way.

WAR is the weighted average recall, which is the accuracy; UAR the unweighted one. The formulas are torchmetrics' and
scikit-learn's. What is done here: every edge case has a value, or is a NaN whose reason is told, and never a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score
from torchmetrics.functional import concordance_corrcoef, mean_absolute_error, mean_squared_error, pearson_corrcoef
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_f1_score,
    multiclass_recall,
)

__all__ = [
    "BINS",
    "LEVEL",
    "Figure",
    "Layout",
    "Scored",
    "area_under_roc",
    "bootstrap",
    "calibration_error",
    "chance_of_classes",
    "chance_of_values",
    "class_scores",
    "figures",
    "published_averages",
    "value_scores",
]

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]
NAN = float("nan")

#: Bins of the expected calibration error.
BINS = 15
#: How much of the bootstrap's distribution an interval holds.
LEVEL = 0.95


class Scored(NamedTuple):
    """Metrics by name; what is undefined, or must be read with care, has its reason under the same name."""

    values: dict[str, float]
    reasons: dict[str, str]


Score = Callable[[Ints], Scored]
"""Metrics of some rows, given by their numbers."""


def class_scores(truth: Ints, said: Ints, classes: Sequence[str]) -> Scored:
    """Score classes.

    Parameters
    ----------
    truth, said : ndarray
        (n,) int64, n ≥ 1.
    classes : sequence of str
        Their names.

    Returns
    -------
    Scored
        `WAR`, accuracy; `UAR`, mean recall of the classes that occur; `weighted F1`, mean F1 weighted by how often a
        class occurs. All in [0, 1].
    """
    right, answers, count = torch.from_numpy(truth), torch.from_numpy(said), len(classes)
    recalls = multiclass_recall(answers, right, count, average="none", validate_args=False).numpy()
    occurs = np.bincount(truth, minlength=count) > 0
    values = {
        "WAR": float(multiclass_accuracy(answers, right, count, average="micro", validate_args=False)),
        "UAR": float(recalls[occurs].mean(dtype=np.float64)),
        "weighted F1": float(multiclass_f1_score(answers, right, count, average="weighted", validate_args=False)),
    }
    absent = [name for name, there in zip(classes, occurs, strict=True) if not there]
    return Scored(values, {"UAR": f"no row is {' or '.join(absent)}: the mean is over the others"} if absent else {})


def _constant(values: Floats) -> bool:
    return bool(np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())))


def value_scores(truth: Floats, said: Floats) -> Scored:
    """Score values.

    Parameters
    ----------
    truth, said : ndarray
        (n,) float64, n ≥ 1, finite.

    Returns
    -------
    Scored
        `MAE`, `MSE`, `RMSE` in the values' own units; `CCC` (Lin 1989, with variances over n - 1) and `PCC` (Pearson)
        in [-1, 1]. A constant has no PCC; its CCC with what varies is 0.
    """
    x, y = torch.from_numpy(np.asarray(said, np.float64)), torch.from_numpy(np.asarray(truth, np.float64))
    squared = float(mean_squared_error(x, y))
    values = {"MAE": float(mean_absolute_error(x, y)), "MSE": squared, "RMSE": float(np.sqrt(squared))}
    constant = [name for name, column in (("answer", said), ("true value", truth)) if _constant(column)]
    if not constant:
        values |= {"CCC": float(concordance_corrcoef(x, y)), "PCC": float(pearson_corrcoef(x, y))}
        return Scored(values, {})
    reason = "there is one row" if len(truth) == 1 else f"every {' and every '.join(constant)} is the same"
    # Lin's formula has the covariance above and what varies below.
    varies = len(constant) == 1
    values |= {"CCC": 0.0 if varies else NAN, "PCC": NAN}
    return Scored(values, {"PCC": reason} | ({} if varies else {"CCC": reason}))


def calibration_error(truth: Ints, probabilities: npt.NDArray[np.float64]) -> float:
    """Return the expected calibration error (ECE) of the most probable class, in `BINS` bins of one width.

    Parameters
    ----------
    truth : ndarray
        (n,) int64, n ≥ 1.
    probabilities : ndarray
        (n, classes) float64.
    """
    return float(
        multiclass_calibration_error(
            torch.from_numpy(probabilities), torch.from_numpy(truth), probabilities.shape[1], n_bins=BINS,
            validate_args=False,
        )
    )  # fmt: skip


def area_under_roc(positive: npt.NDArray[np.bool_], score: Floats) -> Scored:
    """Return the probability that a positive scores higher than a negative, ties counted half, as `ROC AUC`."""
    if positive.all() or not positive.any():
        return Scored({"ROC AUC": NAN}, {"ROC AUC": f"all of the rows are {'' if positive.all() else 'not '}positive"})
    return Scored({"ROC AUC": float(roc_auc_score(positive, score))}, {})


def chance_of_classes(truth: Ints, classes: Sequence[str]) -> dict[str, float]:
    """Score always answering with the most frequent class."""
    most = np.bincount(truth, minlength=len(classes)).argmax()
    return class_scores(truth, np.full_like(truth, most), classes).values


def chance_of_values(truth: Floats) -> dict[str, float]:
    """Score always answering with the mean of the truth; what is uncorrelated has a CCC and a PCC of 0."""
    return value_scores(truth, np.full(len(truth), truth.mean())).values | {"CCC": 0.0, "PCC": 0.0}


class Layout(NamedTuple):
    """How a protocol's rows hang together."""

    cluster: npt.NDArray[np.str_]
    """(m,), whose row it is: what a bootstrap draws whole."""
    fold: Ints
    """(m,)."""
    batch: Ints
    """(m,), in which batch of its fold a row was computed."""

    def of(self, rows: Ints) -> Layout:
        """Return that of some rows."""
        return Layout(self.cluster[rows], self.fold[rows], self.batch[rows])


@dataclass(frozen=True)
class Figure:
    """One measured figure: pooled, its interval, and the published average of the same."""

    value: float
    low: float = NAN
    high: float = NAN
    per_batch: float = NAN
    reasons: tuple[str, ...] = ()


def bootstrap(
    score: Score, cluster: npt.NDArray[np.str_], draws: int, seed: int = 0
) -> tuple[dict[str, tuple[float, float]], dict[str, str]]:
    """Return percentile intervals by drawing whole clusters with replacement.

    Windows of one person are alike: drawing them one by one would make the interval far too narrow.

    Parameters
    ----------
    score : callable
    cluster : ndarray
        (m,), whose row it is.
    draws : int
    seed : int

    Returns
    -------
    dict of str to tuple
        (low, high) by metric, of the draws in which it is defined; NaN with fewer than two clusters, or without draws.
    dict of str to str
        What must be said of a metric's interval.
    """
    _, number = np.unique(cluster, return_inverse=True)
    members = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
    if len(members) < 2 or not draws:
        return {}, {"": "there is no interval with one group of rows"} if draws else {}
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {}
    for _ in range(draws):
        rows = np.concatenate([members[index] for index in rng.integers(len(members), size=len(members))])
        for name, value in score(rows).values.items():
            drawn.setdefault(name, []).append(value)
    intervals, reasons = {}, {}
    for name, values in drawn.items():
        defined = np.array(values)[np.isfinite(values)]
        if len(defined) < draws:
            reasons[name] = f"undefined in {draws - len(defined)} of {draws} draws of the bootstrap"
        if len(defined):
            low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            intervals[name] = (float(low), float(high))
    return intervals, reasons


def published_averages(score: Score, fold: Ints, batch: Ints) -> tuple[dict[str, float], dict[str, str]]:
    """Average as the published code does: over the batches of a fold, then over the folds.

    A batch in which a metric is undefined is left out, and that is said.
    """
    of_fold: dict[str, list[float]] = {}
    left_out: dict[str, int] = {}
    batches = 0
    for number in np.unique(fold):
        of_batch: dict[str, list[float]] = {}
        for part in np.unique(batch[fold == number]):
            batches += 1
            for name, value in score(np.flatnonzero((fold == number) & (batch == part))).values.items():
                if np.isfinite(value):
                    of_batch.setdefault(name, []).append(value)
                else:
                    left_out[name] = left_out.get(name, 0) + 1
        for name, values in of_batch.items():
            of_fold.setdefault(name, []).append(float(np.mean(values)))
    reasons = {name: f"undefined in {count} of {batches} batches" for name, count in left_out.items()}
    return {name: float(np.mean(values)) for name, values in of_fold.items()}, reasons


def figures(score: Score, layout: Layout, draws: int, seed: int = 0, *, published: bool = True) -> dict[str, Figure]:
    """Measure every metric of a score on all rows of a layout.

    Parameters
    ----------
    draws : int
        Of the bootstrap; 0 gives no intervals.
    published : bool
        Whether the published average is given beside.
    """
    pooled = score(np.arange(len(layout.cluster)))
    intervals, of_draws = bootstrap(score, layout.cluster, draws, seed)
    averages, of_batches = published_averages(score, layout.fold, layout.batch) if published else ({}, {})
    return {
        name: Figure(
            value,
            *intervals.get(name, (NAN, NAN)),
            per_batch=averages.get(name, NAN),
            reasons=tuple(
                reasons[key]
                for reasons, key in (
                    (pooled.reasons, name), (of_draws, ""), (of_draws, name), (of_batches, name)
                )
                if key in reasons
            ),
        )
        for name, value in pooled.values.items()
    }  # fmt: skip
