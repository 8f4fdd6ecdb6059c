"""How far each activation reaches: histograms of what a float graph computes, and three ways to choose a range of them.

onnxruntime.quantization has calibrators too. Its histogram calibrators hold every activation of every sample in memory
and print as they go, and its entropy calibrator merges 128 bins into 128 levels unless told otherwise, which finds
nothing. So histograms are collected here, once for all three methods; min-max is held against ONNX Runtime's in a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

__all__ = [
    "CALIBRATORS",
    "Calibrator",
    "Histogram",
    "Range",
    "batches_of",
    "collect_histograms",
    "find_ranges",
    "open_with_outputs",
]

Calibrator: TypeAlias = Literal["minmax", "entropy", "percentile"]
CALIBRATORS: tuple[Calibrator, ...] = ("minmax", "entropy", "percentile")
Range: TypeAlias = tuple[float, float]
Inputs: TypeAlias = Mapping[str, npt.NDArray[np.float32]]
Progress: TypeAlias = Callable[[int, int], None]

PERCENTILE = 99.99
"""Share of an activation's values that the percentile calibrator represents; the rest is cut off."""
BINS = 2048
"""On each side of zero."""
BATCH = 8
_STEP = 8  # bins between two thresholds that the entropy calibrator tries


@dataclass(frozen=True)
class Histogram:
    """One activation's values over all samples."""

    lowest: float
    highest: float
    counts: npt.NDArray[np.int64]
    """(2 · BINS,), over [-limit, limit], where limit is the larger of |lowest| and |highest|."""

    @property
    def limit(self) -> float:
        """Where the bins end."""
        return max(-self.lowest, self.highest)

    def minmax(self) -> Range:
        """From the lowest value to the highest."""
        return self.lowest, self.highest

    def percentile(self, share: float = PERCENTILE) -> Range:
        """The range that holds `share` per cent of the values; what is cut is cut from both ends, if there are two."""
        cut = 1 - share / 100
        below = 0.0 if self.lowest >= 0 else cut / 2
        cumulative = np.cumsum(self.counts) / max(1, self.counts.sum())
        edges = np.linspace(-self.limit, self.limit, 2 * BINS + 1)
        low = edges[np.searchsorted(cumulative, below, side="right")] if below else self.lowest
        high = edges[min(int(np.searchsorted(cumulative, 1 - (cut - below))) + 1, 2 * BINS)]
        return max(self.lowest, float(low)), min(self.highest, float(high))

    def entropy(self, levels: int) -> Range:
        """Cut where quantising changes the distribution of absolute values least (Kullback–Leibler divergence).

        Parameters
        ----------
        levels : int
            Steps between zero and the end of the range.
        """
        folded = (self.counts[BINS:] + self.counts[BINS - 1 :: -1]).astype(np.float64)
        folded[0] = folded[1]  # zeros are exact in any range, and there are many of them behind a ReLU
        threshold = self.limit * _least_divergence(folded, levels) / BINS
        return max(self.lowest, -threshold), min(self.highest, threshold)


def _least_divergence(counts: npt.NDArray[np.float64], levels: int) -> int:
    """How many of the bins to keep, so that these in `levels` steps, with all beyond in the last, differ least."""
    best, kept = np.inf, len(counts)
    for stop in range(levels, len(counts) + 1, _STEP):
        cut = counts[:stop].copy()
        cut[-1] += counts[stop:].sum()
        starts = np.arange(levels) * stop // levels
        filled = cut > 0
        mean = np.add.reduceat(counts[:stop], starts) / np.maximum(
            np.add.reduceat(filled.astype(np.float64), starts), 1
        )
        quantised = np.repeat(mean, np.diff(np.append(starts, stop)))[filled]
        if not quantised.all():  # a step without anything in it but what lies beyond the range
            continue
        p, q = cut[filled] / cut.sum(), quantised / quantised.sum()
        divergence = float((p * np.log(p / q)).sum())
        if divergence < best:
            best, kept = divergence, stop
    return kept


def find_ranges(histograms: Mapping[str, Histogram], calibrator: Calibrator, *, signed: bool) -> dict[str, Range]:
    """Choose the range of each activation.

    Parameters
    ----------
    signed : bool
        Whether the range will be made symmetric (TensorRT): a one-sided activation then has half of the levels.
    """
    found = {}
    for name, histogram in histograms.items():
        if calibrator == "entropy":
            found[name] = histogram.entropy(128 if signed or histogram.lowest < 0 else 256)
        else:
            found[name] = histogram.minmax() if calibrator == "minmax" else histogram.percentile()
    return found


def open_with_outputs(model: onnx.ModelProto, tensors: Sequence[str], threads: int) -> Any:
    """A session of a graph that gives these tensors; Q/DQ pairs are computed as they are written, in float.

    Integer kernels may saturate on one processor and not on another; what is measured here must not depend on that.
    """
    import onnxruntime

    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    known = {value.name for value in opened.graph.output}
    opened.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in tensors if name not in known
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])


def batches_of(inputs: Inputs) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
    """The rows of all inputs, a few at a time."""
    count = len(next(iter(inputs.values())))
    for begin in range(0, count, BATCH):
        yield {name: values[begin : begin + BATCH] for name, values in inputs.items()}


def collect_histograms(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    inputs: Inputs,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Histogram]:
    """Run a float graph over samples, twice: for the extremes of each activation, then for its histogram.

    Parameters
    ----------
    tensors : sequence of str
        The activations.
    inputs : mapping
        The graph's inputs, `(samples, …)` float32.
    progress : callable, optional
        Is told how many of how many batches are done.
    """
    names = list(dict.fromkeys(tensors))
    session = open_with_outputs(model, names, threads)
    lowest, highest = dict.fromkeys(names, np.inf), dict.fromkeys(names, -np.inf)
    counts = {name: np.zeros(2 * BINS, np.int64) for name in names}
    parts = list(batches_of(inputs))
    for done, part in enumerate(parts, start=1):
        for name, values in zip(names, session.run(names, part), strict=True):
            lowest[name] = min(lowest[name], float(values.min()))
            highest[name] = max(highest[name], float(values.max()))
        if progress:
            progress(done, 2 * len(parts))
    for done, part in enumerate(parts, start=len(parts) + 1):
        for name, values in zip(names, session.run(names, part), strict=True):
            limit = max(-lowest[name], highest[name])
            if limit > 0:
                place = ((values.ravel() + limit) * (BINS / limit)).astype(np.int32)
                counts[name] += np.bincount(np.minimum(place, 2 * BINS - 1), minlength=2 * BINS)
        if progress:
            progress(done, 2 * len(parts))
    return {name: Histogram(lowest[name], highest[name], counts[name]) for name in names}
