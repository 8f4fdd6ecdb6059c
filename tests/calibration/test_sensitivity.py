"""Which layers differ most from the float graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="calibrating needs the extra `export`")

from emert_edge.calibration import placement, placement_cpu
from emert_edge.calibration.ranges import collect_histograms, find_ranges
from emert_edge.calibration.report import worst_layers
from emert_edge.calibration.sensitivity import layer_noise


def ranges_of(network: Any, frames: np.ndarray, target: Any) -> dict[str, tuple[float, float]]:
    seen = collect_histograms(network, target.quantised_tensors(network), {"frame": frames})
    return find_ranges(seen, "minmax", signed=target is placement)


def test_every_quantised_layer_has_a_ratio_near_what_eight_bits_give(network: Any, frames: np.ndarray) -> None:
    for target, place in (
        (placement, placement.place_for_tensorrt),
        (placement_cpu, placement_cpu.place_for_cpu),
    ):
        placed = place(network, ranges_of(network, frames, target))
        found = layer_noise(network, placed, {"frame": frames})
        wanted = ["stem", "one_a", "one_b", "two_project", "two_a", "two_b"]
        # A Gemm stays float on a CPU.
        assert [one.layer for one in found] == wanted + ["project"] * (target is placement)
        assert all(25 < one.decibels < 55 for one in found), found


def test_the_layer_whose_input_was_cut_adds_most(network: Any, frames: np.ndarray) -> None:
    """Not those behind it, whose results are as far off, nor the one before it, whose result is right."""
    ranges = ranges_of(network, frames, placement)
    ranges["one_relu_a_out"] = (0.0, ranges["one_relu_a_out"][1] / 8)  # what one_b takes
    placed = placement.place_for_tensorrt(network, ranges)
    found = {one.layer: one for one in layer_noise(network, placed, {"frame": frames})}
    assert max(found, key=lambda name: found[name].added) == "one_b"
    assert worst_layers(list(found.values()))[0].layer == "one_b"
    assert found["one_a"].decibels > 25
    assert max(found["one_b"].decibels, found["two_a"].decibels) < 15


def test_a_layer_that_stays_float_is_left_out_and_the_next_one_gains(network: Any, frames: np.ndarray) -> None:
    ranges = ranges_of(network, frames, placement)
    whole = layer_noise(network, placement.place_for_tensorrt(network, ranges), {"frame": frames})
    kept = ("stem",)
    placed = placement.place_for_tensorrt(network, ranges, kept)
    found = layer_noise(network, placed, {"frame": frames})
    assert [one.layer for one in found] == [one.layer for one in whole if one.layer != "stem"]
    assert found[0].decibels > whole[1].decibels
