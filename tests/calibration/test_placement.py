"""Q/DQ for TensorRT: where NVIDIA's guide wants it, clean by the linter, near the float graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="calibrating needs the extra `export`")

from emert_edge.calibration.lint import lint_tensorrt  # noqa: E402
from emert_edge.calibration.placement import QMAX, place_for_tensorrt, quantised_tensors  # noqa: E402
from emert_edge.calibration.ranges import collect_histograms, find_ranges, open_with_outputs  # noqa: E402

from .graphs import GraphMaker  # noqa: E402


def placed_of(model: Any, frames: np.ndarray, keep_float: tuple[str, ...] = ()) -> Any:
    seen = collect_histograms(model, quantised_tensors(model, keep_float), {"frame": frames})
    return place_for_tensorrt(model, find_ranges(seen, "minmax", signed=True), keep_float)


def test_the_placed_graph_keeps_the_rules_and_the_float_graphs_form(network: Any, frames: np.ndarray) -> None:
    placed = placed_of(network, frames)
    onnx.checker.check_model(placed, full_check=True)
    assert lint_tensorrt(placed) == ()
    assert placed.ir_version == network.ir_version
    assert placed.opset_import == network.opset_import
    assert placed.graph.input == network.graph.input
    assert placed.graph.output == network.graph.output
    assert not [node for node in network.graph.node if "Quantize" in node.op_type]  # the given graph is left as it was


def test_pairs_stand_at_layer_inputs_weights_and_identity_branches_alone(network: Any, frames: np.ndarray) -> None:
    placed = placed_of(network, frames)
    takes = {node.name: list(node.input) for node in placed.graph.node}
    quantised = {name: [one for one in inputs if one.endswith("/dequantized")] for name, inputs in takes.items()}
    assert quantised["stem"] == ["frame/dequantized", "stem_w/dequantized"]
    assert takes["stem"][2] == "stem_b"  # the bias is float
    assert quantised["one_add"] == ["pool_out/dequantized"]
    assert quantised["two_add"] == ["two_project_out/dequantized"]
    assert quantised["project"] == ["mean_out/dequantized", "project_w/dequantized"]
    for name in ("classify", "mean", "pool", "one_relu", "token_relu"):
        assert not quantised[name], name
    # One pair serves all that take a tensor.
    assert sum(node.op_type == "QuantizeLinear" for node in placed.graph.node) == len(quantised_tensors(network))


def test_weights_are_stored_in_int8_with_a_scale_a_channel(network: Any, frames: np.ndarray) -> None:
    placed = placed_of(network, frames)
    float_weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in network.graph.initializer}
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in placed.graph.initializer}
    for name in ("stem_w", "one_a_w", "two_project_w", "project_w"):
        weight, values, scale = float_weights[name], held[f"{name}/int8"], held[f"{name}/scale"]
        assert name not in held
        assert (values.dtype, scale.shape) == (np.int8, (weight.shape[0],))
        shape = (-1, *[1] * (weight.ndim - 1))
        assert (np.abs(values * scale.reshape(shape) - weight) <= scale.reshape(shape) * 0.500001).all()
        assert (np.abs(values.reshape(len(values), -1)).max(1) == QMAX).all()
        assert not held[f"{name}/zero"].any()
    assert placed.ByteSize() < 0.6 * network.ByteSize()  # weights are a small part of so small a network


def test_answers_are_near_the_float_graphs(network: Any, frames: np.ndarray) -> None:
    names = ["face_token", "expression_logits"]
    wanted = open_with_outputs(network, names, 1).run(names, {"frame": frames})
    found = open_with_outputs(placed_of(network, frames), names, 1).run(names, {"frame": frames})
    for name, true, tested in zip(names, wanted, found, strict=True):
        assert tested.shape == true.shape
        noise = np.square(true - tested).sum() / np.square(true).sum()
        assert 0 < noise < 2e-3, name


def test_a_layer_that_stays_float_stays_whole(network: Any, frames: np.ndarray) -> None:
    placed = placed_of(network, frames, ("one_b", "project"))
    nodes = {node.name: list(node.input) for node in placed.graph.node}
    assert nodes["one_b"] == ["one_relu_a_out", "one_b_w", "one_b_b"]
    assert nodes["project"][0] == "mean_out"
    assert nodes["one_add"] == ["one_b_out", "pool_out"]
    assert lint_tensorrt(placed) == ()


def test_dead_channels_and_dead_activations_have_scales(network: Any, frames: np.ndarray) -> None:
    for tensor in network.graph.initializer:
        if tensor.name == "one_a_w":
            weight = onnx.numpy_helper.to_array(tensor).copy()
            weight[3] = 0
            tensor.CopyFrom(onnx.numpy_helper.from_array(weight, tensor.name))
    placed = placed_of(network, np.zeros_like(frames))
    assert lint_tensorrt(placed) == ()
    (token,) = open_with_outputs(placed, [], 1).run(["face_token"], {"frame": frames})
    assert np.isfinite(token).all()


def test_a_matmuls_weight_is_scaled_along_its_last_axis() -> None:
    make = GraphMaker()
    weight = make.rng.normal(0, 1, (6, 4)).astype(np.float32) * np.array([1, 10, 100, 1000], np.float32)
    y = make.node("MatMul", ["frame", make.constant("w", weight)], "product")
    model = make.model({"frame": ["batch", 6]}, {"out": y})
    placed = placed_of(model, make.rng.normal(0, 1, (20, 6)).astype(np.float32))
    assert lint_tensorrt(placed) == ()
    scale = next(tensor for tensor in placed.graph.initializer if tensor.name == "w/scale")
    assert onnx.numpy_helper.to_array(scale) == pytest.approx(np.abs(weight).max(0) / QMAX)
