"""TensorRT's rules: a graph that keeps them all, and for each rule graphs that break it, made by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="calibrating needs the extra `export`")

from emert_edge.calibration.lint import RULES, lint_tensorrt  # noqa: E402

from .graphs import GraphMaker  # noqa: E402

ZERO, SCALE = np.int8(0), np.float32(0.1)


class PairMaker(GraphMaker):
    """With Q/DQ pairs of any kind."""

    def pair(self, tensor: str, name: str, *, zero: Any = ZERO, scale: Any = SCALE, **axis: int) -> str:
        parameters = [self.constant(f"{name}_scale", scale), self.constant(f"{name}_zero", zero)]
        quantised = self.node("QuantizeLinear", [tensor, *parameters], f"{name}_q", **axis)
        return self.node("DequantizeLinear", [quantised, *parameters], f"{name}_dq", **axis)

    def weight(self, name: str, shape: tuple[int, ...], axis: int = 0, channels: int | None = None) -> str:
        count = channels or shape[axis]
        parameters = [
            self.constant(f"{name}_int8", self.rng.integers(-127, 128, shape).astype(np.int8)),
            self.constant(f"{name}_scale", np.full(count, 0.01, np.float32)),
            self.constant(f"{name}_zero", np.zeros(count, np.int8)),
        ]
        return self.node("DequantizeLinear", parameters, f"{name}_dq", axis=axis)

    def layer(self, source: str, name: str, width: int = 4, **weight: Any) -> str:
        bias = self.constant(f"{name}_b", np.zeros(width, np.float32))
        inputs = [source, self.weight(f"{name}_w", (width, 4, 3, 3), **weight), bias]
        return self.node("Conv", inputs, name, pads=[1] * 4)


SHAPE = {"x": ["batch", 4, 8, 8]}


def block(make: PairMaker, *, identity: bool = True, own: bool = False) -> str:
    """A residual block behind a quantised layer; which branches of its addition are quantised."""
    x = make.node("Relu", [make.layer(make.pair("x", "input"), "first")], "first_relu")
    y = make.layer(make.pair(x, "inner"), "second")
    branches = [make.pair(y, "own") if own else y, make.pair(x, "identity") if identity else x]
    return make.node("Relu", [make.node("Add", branches, "add")], "add_relu")


def right() -> Any:
    make = PairMaker()
    return make.model(SHAPE, {"y": block(make)})


def found_in(model: Any) -> list[tuple[str, str]]:
    return [(finding.rule, finding.node) for finding in lint_tensorrt(model)]


def test_a_right_graph_and_a_float_graph_keep_every_rule(network: Any) -> None:
    onnx.checker.check_model(right())
    assert lint_tensorrt(right()) == ()
    assert lint_tensorrt(network) == ()


def test_every_rule_says_what_it_asks_for() -> None:
    assert all(sentence.endswith(".") and len(sentence) > 40 for sentence in RULES.values())


# Graphs that break one rule each


def newer_opset() -> Any:
    model = right()
    model.opset_import[0].version = 21
    return model


def newer_ir() -> Any:
    model = right()
    model.ir_version = 11
    return model


def double_constant() -> Any:
    make = PairMaker()
    wide = make.node("Cast", ["x"], "widen", to=onnx.TensorProto.DOUBLE)
    wide = make.node("Mul", [wide, make.constant("factor", np.float64(2))], "double_mul")
    return make.model(SHAPE, {"y": make.node("Cast", [wide], "narrow", to=onnx.TensorProto.FLOAT)})


def integer_convolution() -> Any:
    make = PairMaker()
    zero, scale = make.constant("zero", np.int8(0)), make.constant("scale", np.float32(0.1))
    x = make.node("QuantizeLinear", ["x", scale, zero], "quantize")
    weight = make.constant("w", np.ones((4, 4, 3, 3), np.int8))
    y = make.node("QLinearConv", [x, scale, zero, weight, scale, zero, scale, zero], "integer")
    return make.model(SHAPE, {"y": make.node("DequantizeLinear", [y, scale, zero], "dequantize")})


def dynamic() -> Any:
    make = PairMaker()
    make.nodes.append(onnx.helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"], name="dynamic"))
    return make.model(SHAPE, {"y": make.node("DequantizeLinear", ["q", "scale", "zero"], "dequantize")})


def unsigned_activation() -> Any:
    make = PairMaker()
    return make.model(SHAPE, {"y": make.layer(make.pair("x", "input", zero=np.uint8(0)), "conv")})


def zero_point_left_out() -> Any:
    make = PairMaker()
    scale = make.constant("scale", np.float32(0.1))
    quantised = make.node("QuantizeLinear", ["x", scale], "input_q")
    return make.model(
        SHAPE, {"y": make.layer(make.node("DequantizeLinear", [quantised, scale], "input_dq"), "conv")}
    )  # fmt: skip


def shifted_activation() -> Any:
    make = PairMaker()
    return make.model(SHAPE, {"y": make.layer(make.pair("x", "input", zero=np.int8(-3)), "conv")})


def shifted_weight() -> Any:
    model = right()
    for tensor in model.graph.initializer:
        if tensor.name == "second_w_zero":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([0, 0, 1, 0], np.int8), tensor.name))
    return model


def scale_of(value: float) -> Callable[[], Any]:
    def make_graph() -> Any:
        make = PairMaker()
        return make.model(SHAPE, {"y": make.layer(make.pair("x", "input", scale=np.float32(value)), "conv")})

    return make_graph


def computed_scale() -> Any:
    make = PairMaker()
    scale = make.node("ReduceMax", ["x"], "largest", keepdims=0)
    zero = make.constant("zero", np.int8(0))
    quantised = make.node("QuantizeLinear", ["x", scale, zero], "input_q")
    return make.model(
        SHAPE, {"y": make.layer(make.node("DequantizeLinear", [quantised, scale, zero], "input_dq"), "conv")}
    )  # fmt: skip


def quantised_and_never_back() -> Any:
    make = PairMaker()
    scale, zero = make.constant("scale", np.float32(0.1)), make.constant("zero", np.int8(0))
    quantised = make.node("QuantizeLinear", ["x", scale, zero], "quantize")
    return make.model(SHAPE, {"y": make.node("Cast", [quantised], "cast", to=onnx.TensorProto.FLOAT)})


def back_without_having_gone() -> Any:
    make = PairMaker()
    scale, zero = make.constant("scale", np.float32(0.1)), make.constant("zero", np.int8(0))
    cast = make.node("Cast", ["x"], "cast", to=onnx.TensorProto.INT8)
    return make.model(SHAPE, {"y": make.layer(make.node("DequantizeLinear", [cast, scale, zero], "input_dq"), "conv")})


def quantised_twice() -> Any:
    make = PairMaker()
    return make.model(SHAPE, {"y": make.layer(make.pair(make.pair("x", "once"), "again"), "conv")})


def activation_by_channels() -> Any:
    make = PairMaker()
    x = make.pair("x", "input", scale=np.full(4, 0.1, np.float32), zero=np.zeros(4, np.int8), axis=1)
    return make.model(SHAPE, {"y": make.layer(x, "conv")})


def weight_by_inputs() -> Any:
    make = PairMaker()
    return make.model(SHAPE, {"y": make.layer(make.pair("x", "input"), "conv", axis=1)})


def gemm_by_inputs() -> Any:
    make = PairMaker()
    x = make.pair(make.node("Flatten", ["x"], "flat"), "input")
    weight = make.weight("w", (6, 256), axis=1)
    return make.model(SHAPE, {"y": make.node("Gemm", [x, weight], "gemm", transB=1)})


def float_weight() -> Any:
    make = PairMaker()
    return make.model(SHAPE, {"y": make.conv(make.pair("x", "input"), "conv", 4, 4)})


def float_input() -> Any:
    make = PairMaker()
    return make.model(SHAPE, {"y": make.layer("x", "conv")})


def quantised_bias() -> Any:
    make = PairMaker()
    values = make.constant("b_int32", np.arange(4, dtype=np.int32))
    bias = make.node("DequantizeLinear", [values, make.constant("b_scale", np.float32(0.001))], "b_dq")
    inputs = [make.pair("x", "input"), make.weight("w", (4, 4, 3, 3)), bias]
    return make.model(SHAPE, {"y": make.node("Conv", inputs, "conv", pads=[1] * 4)})


def residual(**branches: bool) -> Callable[[], Any]:
    def make_graph() -> Any:
        make = PairMaker()
        return make.model(SHAPE, {"y": block(make, **branches)})

    return make_graph


def recurrent(kind: str, gates: int, behind: bool) -> Callable[[], Any]:
    def make_graph() -> Any:
        make = PairMaker()
        weights = [
            make.constant("w", np.ones((1, 3 * gates, 4), np.float32)),
            make.constant("r", np.ones((1, 3 * gates, 3), np.float32)),
        ]
        x = "sequence" if behind else make.pair("sequence", "input")
        y = make.node(kind, [x, *weights], "recurrent", hidden_size=3)
        return make.model({"sequence": [5, "batch", 4]}, {"y": make.pair(y, "output") if behind else y})

    return make_graph


def normalised(kind: str) -> Callable[[], Any]:
    def make_graph() -> Any:
        make = PairMaker()
        scale = [make.constant("norm_scale", np.ones(8, np.float32))] if kind == "LayerNormalization" else []
        return make.model(SHAPE, {"y": make.node(kind, [make.pair("x", "input"), *scale], "norm")})

    return make_graph


BROKEN: list[tuple[str, str, Callable[[], Any]]] = [
    ("opset", "", newer_opset),
    ("opset", "", newer_ir),
    ("type", "double_mul", double_constant),
    ("integer-operator", "integer", integer_convolution),
    ("integer-operator", "dynamic", dynamic),
    ("unsigned", "input_q", unsigned_activation),
    ("unsigned", "input_q", zero_point_left_out),
    ("zero-point", "input_q", shifted_activation),
    ("zero-point", "second_w_dq", shifted_weight),
    ("scale", "input_q", scale_of(0.0)),
    ("scale", "input_q", scale_of(float("nan"))),
    ("scale", "input_q", computed_scale),
    ("pair", "quantize", quantised_and_never_back),
    ("pair", "input_dq", back_without_having_gone),
    ("repeated", "again_q", quantised_twice),
    ("activation-axis", "input_q", activation_by_channels),
    ("weight-axis", "conv", weight_by_inputs),
    ("weight-axis", "gemm", gemm_by_inputs),
    ("weight-missing", "conv", float_weight),
    ("input-missing", "conv", float_input),
    ("bias", "conv", quantised_bias),
    ("residual-missing", "add", residual(identity=False)),
    ("residual-doubled", "add", residual(own=True)),
    ("recurrent", "recurrent", recurrent("LSTM", 4, behind=False)),
    ("recurrent", "recurrent", recurrent("GRU", 3, behind=False)),
    ("recurrent", "recurrent", recurrent("RNN", 1, behind=True)),
    ("float-operator", "norm", normalised("LayerNormalization")),
    ("float-operator", "norm", normalised("Softmax")),
]


def test_every_rule_has_a_graph_that_breaks_it() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


@pytest.mark.parametrize(
    ("rule", "node", "make"), BROKEN, ids=[f"{rule}-{number}" for number, (rule, _, _) in enumerate(BROKEN)]
)
def test_a_graph_that_breaks_a_rule_is_found_by_the_nodes_name(rule: str, node: str, make: Callable[[], Any]) -> None:
    found = found_in(make())
    assert (rule, node) in found
    others = {broken for broken, _ in found} - {rule}
    assert not others or rule == "integer-operator"  # what computes in integers leaves pairs torn apart
    assert str(lint_tensorrt(make())[0]).count(":") >= 2


def test_a_residual_addition_behind_a_float_layer_asks_for_nothing() -> None:
    make = PairMaker()
    x = make.node("Relu", [make.layer(make.pair("x", "input"), "first")], "first_relu")
    y = make.node("Add", [make.conv(x, "second", 4, 4), x], "add")
    assert lint_tensorrt(make.model(SHAPE, {"y": y})) == ()


def test_onnx_runtimes_own_placement_for_the_cpu_breaks_the_rules_it_should(network: Any) -> None:
    from emert_edge.calibration.placement_cpu import place_for_cpu, quantised_tensors

    placed = place_for_cpu(network, dict.fromkeys(quantised_tensors(network), (-3.0, 5.0)))
    broken = {rule for rule, _ in found_in(placed)}
    assert {"unsigned", "zero-point", "bias", "residual-doubled"} <= broken
