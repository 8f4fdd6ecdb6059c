"""Ranges of activations: three calibrators over one collection of histograms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="calibrating needs the extra `export`")

from emert_edge.calibration.ranges import (  # noqa: E402
    BINS,
    CALIBRATORS,
    Histogram,
    collect_histograms,
    find_ranges,
)


def histogram_of(values: np.ndarray) -> Histogram:
    limit = float(np.abs(values).max())
    counts, _ = np.histogram(values, 2 * BINS, range=(-limit, limit))
    return Histogram(float(values.min()), float(values.max()), counts)


def test_minmax_is_what_onnx_runtimes_calibrator_finds(network: Any, frames: np.ndarray, tmp_path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, MinMaxCalibrater

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter([{"frame": frames[:20]}, {"frame": frames[20:]}])

        def get_next(self) -> Any:
            return next(self.left, None)

    onnx.save(network, tmp_path / "network.onnx")
    peer = MinMaxCalibrater(
        str(tmp_path / "network.onnx"), augmented_model_path=str(tmp_path / "augmented.onnx")
    )  # fmt: skip
    peer.augment_graph()
    peer.create_inference_session()
    peer.collect_data(Reader())
    wanted = peer.compute_data().data
    tensors = ["frame", "stem_out", "pool_out", "one_add_out", "face_token"]
    found = find_ranges(collect_histograms(network, tensors, {"frame": frames}), "minmax", signed=True)
    for name in tensors:
        assert found[name] == pytest.approx([float(np.ravel(end)[0]) for end in wanted[name].range_value], rel=1e-5), (
            name
        )


def test_histograms_count_every_value_and_progress_is_told(network: Any, frames: np.ndarray) -> None:
    told: list[tuple[int, int]] = []
    found = collect_histograms(
        network, ["one_add_out"], {"frame": frames}, progress=lambda done, total: told.append((done, total))
    )
    assert found["one_add_out"].counts.sum() == 48 * 8 * 8 * 8
    assert told[-1] == (12, 12)
    assert [done for done, _ in told] == list(range(1, 13))


@pytest.mark.parametrize("one_sided", [False, True])
def test_percentile_cuts_the_tails_that_there_are(one_sided: bool) -> None:
    values = np.random.default_rng(0).normal(0, 1, 400_000)
    values = np.abs(values) if one_sided else values
    low, high = histogram_of(values).percentile(99.0)
    wanted = (values.min(), np.quantile(values, 0.99)) if one_sided else np.quantile(values, [0.005, 0.995])
    assert (low, high) == pytest.approx(tuple(wanted), abs=0.01)


def test_entropy_gives_up_outliers_and_keeps_what_has_none() -> None:
    rng = np.random.default_rng(0)
    values = np.abs(rng.laplace(0, 1, 200_000)).clip(0, 12)
    values[:3] = 60.0
    low, high = histogram_of(values).entropy(256)
    assert low == values.min()
    assert 6 < high < 40
    flat = rng.uniform(-1, 1, 200_000)
    low, high = histogram_of(flat).entropy(128)
    assert (low, high) == pytest.approx((-1, 1), abs=0.02)


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_a_range_never_leaves_what_was_seen_and_a_dead_activation_has_one(calibrator: Any) -> None:
    values = np.random.default_rng(1).normal(0.5, 1, 10_000)
    dead = Histogram(0.0, 0.0, np.zeros(2 * BINS, np.int64))
    found = find_ranges({"live": histogram_of(values), "dead": dead}, calibrator, signed=False)
    low, high = found["live"]
    assert values.min() <= low < 0 < high <= values.max()
    assert found["dead"] == (0.0, 0.0)
