"""What is quantised in a graph: layers with weights, residual additions by their identity branch, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="calibrating needs the extra `export`")

from emert_edge.calibration.layers import read_layers
from emert_edge.calibration.placement import place_for_tensorrt, quantised_tensors

from .graphs import GraphMaker


def test_layers_and_residual_branches_of_a_residual_network(network: Any) -> None:
    layers, additions = read_layers(network)
    assert [layer.name for layer in layers] == ["stem", "one_a", "one_b", "two_project", "two_a", "two_b", "project"]
    assert {layer.axis for layer in layers} == {0}
    assert next(layer for layer in layers if layer.name == "one_a").result == "one_relu_a_out"
    # Around an identity it is the block's input; where a layer projects it, the branch with fewer layers.
    assert [(one.main, one.identity) for one in additions] == [
        ("one_b_out", "pool_out"),
        ("two_b_out", "two_project_out"),
    ]


def test_the_order_of_an_additions_inputs_does_not_matter(network: Any) -> None:
    wanted = read_layers(network)[1]
    for node in network.graph.node:
        if node.op_type == "Add":
            first, second = node.input
            node.ClearField("input")
            node.input.extend([second, first])
    assert read_layers(network)[1] == wanted


def test_heads_stay_float_and_so_does_what_is_named(network: Any) -> None:
    assert "classify" not in [layer.name for layer in read_layers(network)[0]]
    layers, additions = read_layers(network, ["one_b"])
    assert "one_b" not in [layer.name for layer in layers]
    assert [one.name for one in additions] == ["two_add"]  # the addition behind a float layer is float


def test_a_quantised_graph_has_the_layers_of_the_float_one(network: Any) -> None:
    placed = place_for_tensorrt(network, dict.fromkeys(quantised_tensors(network), (-4.0, 4.0)))
    layers, additions = read_layers(placed)
    wanted_layers, wanted_additions = read_layers(network)
    assert [layer.name for layer in layers] == [layer.name for layer in wanted_layers]
    assert additions == wanted_additions


def test_recurrent_layers_attention_and_normalisations_are_left_alone() -> None:
    make = GraphMaker()
    weight = make.constant("lstm_w", np.ones((1, 16, 8), np.float32))
    recurrence = make.constant("lstm_r", np.ones((1, 16, 4), np.float32))
    x = make.node("LSTM", ["sequence", weight, recurrence], "lstm", hidden_size=4)
    x = make.node("Squeeze", [x, make.constant("axis", np.array([1]))], "squeeze")
    x = make.node("LayerNormalization", [x, make.constant("scale", np.ones(4, np.float32))], "norm")
    query = make.node("MatMul", [x, make.constant("query_w", np.ones((4, 4), np.float32))], "query")
    scores = make.node("MatMul", [query, make.node("Transpose", [x], "turned", perm=[0, 2, 1])], "scores")
    weights = make.node("Softmax", [scores], "softmax")
    model = make.model({"sequence": [6, 2, 8]}, {"out": make.node("MatMul", [weights, x], "mixed")})
    layers, additions = read_layers(model)
    assert [(layer.name, layer.axis) for layer in layers] == [("query", 1)]
    assert not additions


def test_an_addition_of_a_bias_or_of_a_tensor_to_itself_is_no_residual() -> None:
    make = GraphMaker()
    y = make.conv("x", "conv", 3, 3)
    biased = make.node("Add", [y, make.constant("bias", np.ones((3, 1, 1), np.float32))], "biased")
    doubled = make.node("Add", [biased, biased], "doubled")
    assert not read_layers(make.model({"x": ["n", 3, 8, 8]}, {"out": doubled}))[1]
