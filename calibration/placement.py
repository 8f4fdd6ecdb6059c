"""Q/DQ pairs where TensorRT wants them: an explicitly quantised graph that its builder fuses into INT8 kernels.

- Activations and weights are symmetric INT8: every zero-point is 0. Weights have a scale for each output channel.
- Both inputs of a layer (Conv, Gemm, MatMul with a constant weight) are quantised, its bias and its output are not.
- Of a residual addition the identity branch alone is quantised, so that the other one's layer, the addition and the
  ReLU become one kernel.
- Whatever else takes a quantised tensor takes the float one.

A weight is stored as INT8 with a DequantizeLinear behind it, which TensorRT 10 reads as a pre-quantised weight: the
file is a quarter of the float one, and nobody quantises it anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from .layers import read_layers
from .ranges import Range

__all__ = ["QMAX", "place_for_tensorrt", "quantised_tensors", "without_unused"]

QMAX = 127


def quantised_tensors(model: onnx.ModelProto, keep_float: Iterable[str] = ()) -> list[str]:
    """The activations whose range `place_for_tensorrt` needs."""
    layers, additions = read_layers(model, keep_float)
    named = [layer.source for layer in layers] + [addition.identity for addition in additions]
    return list(dict.fromkeys(named))


def place_for_tensorrt(
    model: onnx.ModelProto, ranges: Mapping[str, Range], keep_float: Iterable[str] = ()
) -> onnx.ModelProto:
    """Quantise a float graph for TensorRT.

    Parameters
    ----------
    model : onnx.ModelProto
        FP32, opset 13 or later.
    ranges : mapping
        Of each of `quantised_tensors`.
    keep_float : iterable of str
        Names of layers that stay float.

    Returns
    -------
    onnx.ModelProto
        A new graph; opset, IR version, inputs and outputs are the float one's.
    """
    placed = onnx.ModelProto()
    placed.CopyFrom(model)
    graph = placed.graph
    layers, additions = read_layers(model, keep_float)
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    taken: dict[str, dict[str, str]] = {}
    """By the name of a node, what it takes instead of what it took."""
    for layer in layers:
        taken[layer.name] = {layer.source: _dequantised(layer.source), layer.weight: _dequantised(layer.weight)}
    for addition in additions:
        taken[addition.name] = {addition.identity: _dequantised(addition.identity)}

    pairs: dict[str, list[onnx.NodeProto]] = {}
    for name in quantised_tensors(model, keep_float):
        scale = max(abs(end) for end in ranges[name]) / QMAX
        graph.initializer.append(numpy_helper.from_array(np.float32(scale or 1 / QMAX), f"{name}/scale"))
        pairs[name] = _pair(name)
    weights = {layer.weight: layer.axis for layer in layers}
    before: list[onnx.NodeProto] = []
    for name, axis in weights.items():
        values, scales = _per_channel(held[name], axis)
        graph.initializer.extend(
            [
                numpy_helper.from_array(values, f"{name}/int8"),
                numpy_helper.from_array(scales, f"{name}/scale"),
                numpy_helper.from_array(np.zeros(len(scales), np.int8), f"{name}/zero"),
            ]
        )
        before.append(
            onnx.helper.make_node(
                "DequantizeLinear",
                [f"{name}/int8", f"{name}/scale", f"{name}/zero"],
                [_dequantised(name)],
                name=f"{name}/dequantize",
                axis=axis,
            )
        )
    graph.initializer.append(numpy_helper.from_array(np.int8(0), _ZERO))

    for value in graph.input:
        before += pairs.get(value.name, [])
    nodes = list(before)
    for node in graph.node:
        instead = taken.get(node.name, {})
        changed = onnx.NodeProto()
        changed.CopyFrom(node)
        changed.ClearField("input")
        changed.input.extend(instead.get(name, name) for name in node.input)
        nodes.append(changed)
        for name in node.output:
            nodes += pairs.get(name, [])
    graph.ClearField("node")
    graph.node.extend(nodes)
    return without_unused(placed)


_ZERO = "int8_zero"


def _dequantised(name: str) -> str:
    return f"{name}/dequantized"


def _pair(name: str) -> list[onnx.NodeProto]:
    parameters = [f"{name}/scale", _ZERO]
    return [
        onnx.helper.make_node("QuantizeLinear", [name, *parameters], [f"{name}/quantized"], name=f"{name}/quantize"),
        onnx.helper.make_node(
            "DequantizeLinear", [f"{name}/quantized", *parameters], [_dequantised(name)], name=f"{name}/dequantize"
        ),
    ]


def _per_channel(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """INT8 values and the scale of each output channel."""
    others = tuple(number for number in range(weight.ndim) if number != axis)
    scales = (np.abs(weight).max(axis=others) / QMAX).astype(np.float32)
    scales[scales == 0] = 1 / QMAX  # a dead channel
    shape = [-1 if number == axis else 1 for number in range(weight.ndim)]
    values = np.rint(weight / scales.reshape(shape))
    return np.clip(values, -QMAX, QMAX).astype(np.int8), scales


def without_unused(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop, in place, initialisers that no node takes and what was said of tensors that are no more."""
    graph = model.graph
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    made = used | {name for node in graph.node for name in node.output}
    for field, there in ((graph.initializer, used), (graph.value_info, made)):
        kept = [entry for entry in field if entry.name in there]
        del field[:]
        field.extend(kept)
    return model
