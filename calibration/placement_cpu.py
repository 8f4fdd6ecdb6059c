"""Q/DQ pairs where ONNX Runtime's CPU kernels want them, placed by onnxruntime.quantization from our own ranges.

Activations are unsigned and asymmetric, weights signed and symmetric with a scale for each output channel, biases
INT32; layers, ReLUs, residual additions and poolings between them are quantised at both ends, so that ONNX Runtime runs
them as QLinearConv and QLinearAdd and nothing is turned into float between two of them.

Weights use 7 bits. Processors before VNNI (AVX2 alone) add two products of 8 bits each in 16 bits, which saturate:
255 · 127 · 2 is too much, 255 · 64 · 2 is not. So one file gives the same answers on every processor.

Two things are done for speed alone. A Gemm stays float: what it gives is float, and then ONNX Runtime has no integer
kernel for it and turns its weight to float in every run. And a strided convolution of a picture takes blocks of pixels
as channels (`in_blocks`): what gathers 49 times 3 bytes for each output pixel takes as long as the float convolution,
16 times 12 less than two thirds of it (ResNet-18's, 261 and 162 µs).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from .layers import Layer, Reading, read_layers
from .placement import without_unused
from .ranges import Range

__all__ = ["in_blocks", "place_for_cpu", "quantised_layers", "quantised_nodes", "quantised_tensors"]

_FEW_CHANNELS = 4


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


def in_blocks(model: onnx.ModelProto, names: Iterable[str]) -> dict[str, str]:
    """Let strided convolutions of a picture take its blocks of stride × stride pixels as channels, in place.

    A tap at (y, x) of a kernel with stride s becomes one at (⌊y / s⌋, ⌊x / s⌋) of a kernel with stride 1, over the
    channels of the pixel (y mod s, x mod s) of a block; what it gives is the same.

    Parameters
    ----------
    names : iterable of str
        Of the nodes that may be changed. One is where it is a Conv with a stride over few channels of a graph input
        whose sides are multiples of the stride.

    Returns
    -------
    dict of str to str
        The tensor of blocks by the input that it was made of.
    """
    graph = model.graph
    reading = Reading(graph)
    shapes = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim] for value in graph.input
    }  # fmt: skip
    chosen = set(names)
    made: dict[str, str] = {}
    for node in list(graph.node):
        if node.op_type != "Conv" or node.name not in chosen or node.input[0] not in shapes:
            continue
        said = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        strides, pads = said.get("strides", [1, 1]), said.get("pads", [0] * 4)
        plain = said.get("group", 1) == 1 and set(said.get("dilations", [1])) == {1}
        if said.get("auto_pad", b"NOTSET") != b"NOTSET" or len(strides) != 2 or not plain or strides[0] != strides[1]:
            continue
        weight = numpy_helper.to_array(reading.initializers[node.input[1]])
        outputs, channels, rows, columns = weight.shape
        stride, sides = int(strides[0]), shapes[node.input[0]][2:]
        if stride == 1 or channels > _FEW_CHANNELS or not all(side and side % stride == 0 for side in sides):
            continue
        if len(reading.consumers[node.input[1]]) > 1 or made.get(node.input[0]):
            continue
        axes = zip(sides, (rows, columns), pads[:2], pads[2:], strict=True)
        blocks, begins, ends = zip(*(_axis_in_blocks(*axis, stride) for axis in axes), strict=True)
        if min(ends) < 0:
            continue
        moved = np.zeros((outputs, stride * stride * channels, *blocks), weight.dtype)
        for row in range(rows):
            for column in range(columns):
                down, y = divmod(row - pads[0], stride)
                across, x = divmod(column - pads[1], stride)
                first = (y * stride + x) * channels
                moved[:, first : first + channels, down + begins[0], across + begins[1]] = weight[:, :, row, column]
        reading.initializers[node.input[1]].CopyFrom(numpy_helper.from_array(moved, node.input[1]))
        source, name = node.input[0], f"{node.input[0]}/blocks"
        made[source] = name
        before = onnx.helper.make_node("SpaceToDepth", [source], [name], name=name, blocksize=stride)
        graph.node.insert(list(graph.node).index(node), before)
        node.input[0] = name
        node.ClearField("attribute")
        for key, value in (("kernel_shape", blocks), ("pads", [*begins, *ends]), ("strides", [1, 1])):
            node.attribute.append(onnx.helper.make_attribute(key, value))
    return made


def _axis_in_blocks(side: int, taps: int, before: int, after: int, stride: int) -> tuple[int, int, int]:
    """Taps of an axis in blocks, and its padding before and after; the latter negative where no kernel does it."""
    begin = -(-before // stride)
    blocks = (taps - 1 - before) // stride + begin + 1
    given = (side + before + after - taps) // stride + 1
    return blocks, begin, given - side // stride - begin + blocks - 1


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
    ranges = dict(ranges)
    for source, blocks in in_blocks(copy, [node.name for node in nodes]).items():
        ranges[blocks] = ranges[source]
    data = {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in ranges.items()}
    options: dict[str, Any] = {
        "ActivationSymmetric": False,
        "WeightSymmetric": True,
        # A token goes on as float: what 8 bits would save there is nothing.
        "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
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
    quantizer.model.topological_sort()
    placed: onnx.ModelProto = quantizer.model.model
    for field in ("producer_name", "producer_version", "metadata_props"):
        placed.ClearField(field)
    placed.producer_name = model.producer_name
    placed.ir_version = model.ir_version
    return without_unused(placed)
