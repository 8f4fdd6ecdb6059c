"""Confusion matrices and reliability diagrams, as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from emert_edge.reference.assessment.metrics import BINS, calibration_error

__all__ = ["confusion_counts", "confusion_picture", "reliability_picture"]

Ints = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]

_BLUE, _RED, _GREY = "#2f6c9f", "#c8553d", "#8a8580"


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=110, metadata={"Software": None})  # the same answers, the same bytes
    return held.getvalue()


def confusion_counts(truth: Ints, said: Ints, count: int) -> Ints:
    """Return how often each class (row) was taken for each (column), (classes, classes)."""
    return np.asarray(confusion_matrix(truth, said, labels=np.arange(count)), np.int64)


def confusion_picture(counts: Ints, classes: Sequence[str], title: str) -> bytes:
    """Draw a confusion matrix: shares of each true class, with the counts.

    Parameters
    ----------
    counts : ndarray
        (classes, classes), the true class in rows.

    Returns
    -------
    bytes
        A PNG.
    """
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 2.2 + 0.75 * len(classes)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        axes.text(
            column, row, f"{shares[row, column]:.0%}\n{counts[row, column]}", ha="center", va="center", fontsize=8,
            color="white" if shares[row, column] > 0.55 else "black",
        )  # fmt: skip
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="answered", ylabel="true", title=title)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    return _png(figure)


def reliability_picture(truth: Ints, unscaled: Probabilities, scaled: Probabilities | None, title: str) -> bytes:
    """Draw how often answers are right against how sure they are, without and with their temperature.

    Parameters
    ----------
    truth : ndarray
        (n,) int64.
    unscaled, scaled : ndarray
        (n, classes) float64; without `scaled` there is one diagram.

    Returns
    -------
    bytes
        A PNG.
    """
    panels = [("temperature 1" if scaled is not None else "as answered", unscaled)]
    panels += [("with its temperature", scaled)] if scaled is not None else []
    figure = Figure(figsize=(4.2 * len(panels) + 0.2, 5.4), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(2, len(panels), sharex=True, squeeze=False, height_ratios=(3, 1))
    for column, (name, probabilities) in enumerate(panels):
        _reliability(grid[0, column], grid[1, column], truth, probabilities, name)
    return _png(figure)


def _reliability(upper: Axes, lower: Axes, truth: Ints, probabilities: Probabilities, name: str) -> None:
    sure = probabilities.max(1)
    right = probabilities.argmax(1) == truth
    place = np.minimum((sure * BINS).astype(np.intp), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    some = count > 0
    mean_right = np.bincount(place, right, minlength=BINS)[some] / count[some]
    mean_sure = np.bincount(place, sure, minlength=BINS)[some] / count[some]
    middle = (np.arange(BINS) + 0.5) / BINS
    upper.bar(middle[some], mean_right, 1 / BINS, color=_BLUE, edgecolor="white", label="right")
    upper.plot(mean_sure, mean_sure, "o", color=_RED, markersize=4, label="mean probability")
    upper.plot([0, 1], [0, 1], "--", color=_GREY, linewidth=1)
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of right answers")
    upper.set_title(f"{name}: ECE {calibration_error(truth, probabilities):.3f}", fontsize=10)
    upper.legend(loc="upper left", fontsize=8)
    lower.bar(middle, count / len(truth), 1 / BINS, color=_GREY, edgecolor="white")
    lower.set(xlabel="probability of the answer", ylabel="share of rows")
