"""What is quantised in a graph: layers with weights, residual additions by their identity branch, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="calibrating needs the extra `export`")

from emert_edge.calibration import lint_tensorrt, placement, placement_cpu
from emert_edge.calibration.layers import read_layers
from emert_edge.calibration.placement import place_for_tensorrt, quantised_tensors
from emert_edge.calibration.ranges import collect_histograms, find_ranges, open_with_outputs

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


def recurrent() -> Any:
    """A recurrent layer, a normalisation and attention, with one matrix between them that is quantised."""
    rng = np.random.default_rng(0)
    make = GraphMaker()
    weight = make.constant("lstm_w", rng.normal(0, 0.5, (1, 16, 8)).astype(np.float32))
    recurrence = make.constant("lstm_r", rng.normal(0, 0.5, (1, 16, 4)).astype(np.float32))
    x = make.node("LSTM", ["sequence", weight, recurrence], "lstm", hidden_size=4)
    x = make.node("Squeeze", [x, make.constant("axis", np.array([1]))], "squeeze")
    x = make.node("LayerNormalization", [x, make.constant("scale", np.ones(4, np.float32))], "norm")
    query = make.node("MatMul", [x, make.constant("query_w", rng.normal(0, 1, (4, 4)).astype(np.float32))], "query")
    scores = make.node("MatMul", [query, make.node("Transpose", [x], "turned", perm=[0, 2, 1])], "scores")
    weights = make.node("Softmax", [scores], "softmax")
    return make.model({"sequence": [6, 2, 8]}, {"out": make.node("MatMul", [weights, x], "mixed")})


def test_recurrent_layers_attention_and_normalisations_are_left_alone() -> None:
    layers, additions = read_layers(recurrent())
    assert [(layer.name, layer.axis) for layer in layers] == [("query", 1)]
    assert not additions


@pytest.mark.parametrize("target", [placement, placement_cpu])
def test_both_placements_leave_them_alone(target: Any) -> None:
    model = recurrent()
    inputs = {"sequence": np.random.default_rng(1).normal(0, 1, (6, 2, 8)).astype(np.float32)}
    seen = collect_histograms(model, target.quantised_tensors(model), inputs)
    place = placement.place_for_tensorrt if target is placement else placement_cpu.place_for_cpu
    placed = place(model, find_ranges(seen, "minmax", signed=target is placement))
    fed = {
        node.name: [placed_input for placed_input in node.input if "lstm" in placed_input or "scale" in placed_input]
        for node in placed.graph.node
        if node.op_type in ("LSTM", "LayerNormalization")
    }
    assert fed == {"lstm": ["lstm_w", "lstm_r"], "norm": ["scale"]}
    quantised = {node.input[0] for node in placed.graph.node if node.op_type == "QuantizeLinear"}
    assert quantised <= {"norm_out"}
    if target is placement:
        assert lint_tensorrt(placed) == ()
    (wanted,) = open_with_outputs(model, [], 1).run(["out"], inputs)
    (found,) = open_with_outputs(placed, [], 1).run(["out"], inputs)
    assert 0 < np.square(found - wanted).mean() < 1e-3 * np.square(wanted).mean()
