"""Q/DQ pairs where ONNX Runtime's CPU kernels want them, placed by onnxruntime.quantization from our own ranges.

Activations are unsigned and asymmetric, weights signed and symmetric with a scale for each output channel, biases
INT32; layers, ReLUs, residual additions and poolings between them are quantised at both ends, so that ONNX Runtime runs
them as QLinearConv and QLinearAdd and nothing is turned into float between two of them.

Weights use 7 bits. Processors before VNNI (AVX2 alone) add two products of 8 bits each in 16 bits, which saturate:
255 · 127 · 2 is too much, 255 · 64 · 2 is not. So one file gives the same answers on every processor.

Two things are done for speed alone. A Gemm stays float: what it gives is float, and then ONNX Runtime has no integer
kernel for it and turns its weight to float in every run. And some convolutions take a form that its integer kernels are
faster at (`rewrites_cpu`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx

from .layers import Layer, Reading, read_layers
from .placement import without_unused
from .ranges import Range
from .rewrites_cpu import as_products, in_blocks, in_strips, pad_integers

__all__ = ["place_for_cpu", "quantised_layers", "quantised_nodes", "quantised_tensors"]


def quantised_layers(model: onnx.ModelProto) -> list[Layer]:
    """Layers that are quantised where nothing is kept float: all but Gemm."""
    return [layer for layer in read_layers(model)[0] if layer.kind != "Gemm"]


def quantised_nodes(model: onnx.ModelProto, keep_float: Iterable[str] = ()) -> list[onnx.NodeProto]:
    """Layers but Gemm, residual additions, and the ReLUs and poolings that take what one of these gives."""
    _, additions = read_layers(model, keep_float)
    chosen = {layer.name for layer in quantised_layers(model)} - set(keep_float)
    chosen |= {addition.name for addition in additions}
    reading = Reading(model.graph)
    found: list[onnx.NodeProto] = []
    names = set(chosen)
    for node in model.graph.node:
        behind = node.op_type in ("Relu", "MaxPool") and node.input[0] in reading.producer
        if behind and reading.producer[node.input[0]].name in names and node.name:
            names.add(node.name)
        if node.name in names:
            found.append(node)
    return found


def quantised_tensors(model: onnx.ModelProto, keep_float: Iterable[str] = ()) -> list[str]:
    """The activations whose range `place_for_cpu` needs."""
    reading = Reading(model.graph)
    nodes = quantised_nodes(model, keep_float)
    named = [name for node in nodes for name in (*node.input, *node.output) if name and not reading.is_constant(name)]
    return list(dict.fromkeys(named))


def place_for_cpu(
    model: onnx.ModelProto, ranges: Mapping[str, Range], keep_float: Iterable[str] = ()
) -> onnx.ModelProto:
    """Quantise a float graph for ONNX Runtime on a CPU.

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
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import QuantType

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes = quantised_nodes(copy, keep_float)
    names = {node.name for node in nodes}
    before = {node.name for node in copy.graph.node}
    ranges = dict(ranges)
    for source, blocks in in_blocks(copy, names).items():
        ranges[blocks] = ranges[source]
    in_float = {node.name for node in copy.graph.node} - before
    for rewrite in (in_strips, as_products):
        ranges |= {name: ranges[source] for name, source in rewrite(copy, names).items()}
    nodes = [node for node in copy.graph.node if node.name in names or node.name not in before | in_float]
    data = {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in ranges.items()}
    options: dict[str, Any] = {
        "ActivationSymmetric": False,
        "WeightSymmetric": True,
        # A token goes on as float: what 8 bits would save there is nothing.
        "OpTypesToExcludeOutputQuantization": ["MatMul"],
    }
    quantizer = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=[node.name for node in nodes],
        nodes_to_exclude=[],
        op_types_to_quantize=sorted({node.op_type for node in nodes}),
        extra_options=options,
    )
    quantizer.quantize_model()
    pad_integers(quantizer.model.model)
    quantizer.model.topological_sort()
    placed: onnx.ModelProto = quantizer.model.model
    for field in ("producer_name", "producer_version", "metadata_props"):
        placed.ClearField(field)
    placed.producer_name = model.producer_name
    placed.ir_version = model.ir_version
    return without_unused(placed)
