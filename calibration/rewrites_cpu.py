"""Convolutions in forms that ONNX Runtime's integer kernels on a CPU are faster at, with the same answers.

Its integer convolution gathers, for each output pixel, the bytes under the kernel, so many at a time as a pixel has
channels, and shares output pixels among threads.

- A strided one of a picture takes blocks of pixels as channels (`in_blocks`): 16 times 12 bytes for an output pixel in
  place of 49 times 3 (ResNet-18's first layer, 162 µs and 261).
- One of few channels without a stride takes strips of a row (`in_strips`): 9 times 4 bytes for four output pixels in
  place of 36 times 1 (`nano`'s first, 27 µs and 70).
- One with few output pixels and large weights becomes a matrix product (`as_products`), which shares output channels
  among threads: of 16 pixels and 2.4 MB each thread reads one half of the weights, and not all (ResNet-18's last, 95 µs
  and 185).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from .layers import Reading

__all__ = ["as_products", "in_blocks", "in_strips", "pad_integers"]

_FEW_CHANNELS = 4
_STRIP = 4  # pixels: 2 gained half as much, 8 no more
_FEW_PIXELS = 32
_LARGE_WEIGHT = 1 << 20  # numbers: a core's own cache holds one or two million bytes


@dataclass(frozen=True, slots=True)
class _Conv:
    """A convolution of two axes in one group, without dilation, whose constants nothing else takes."""

    node: onnx.NodeProto
    last: onnx.NodeProto
    """Itself, or the ReLU that alone takes what it gives."""
    ends: bool
    """Whether what it gives is the graph's output."""
    weight: npt.NDArray[np.float32]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    """Top, left, bottom, right."""
    source: tuple[int, ...]
    """Channels, height and width of its input."""

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of what it gives."""
        top, left, bottom, right = self.pads
        _, height, width = self.source
        rows, columns = self.weight.shape[2:]
        return (
            (height + top + bottom - rows) // self.stride[0] + 1,
            (width + left + right - columns) // self.stride[1] + 1,
        )


def _convolutions(graph: onnx.GraphProto, names: Iterable[str]) -> list[_Conv]:
    """Those of these names whose input's sides are known."""
    reading = Reading(graph)
    shapes = {
        value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info)
    }
    chosen = set(names)
    found = []
    for node in graph.node:
        shape = shapes.get(node.input[0], ())
        if node.op_type != "Conv" or node.name not in chosen or len(shape) != 4 or not all(shape[1:]):
            continue
        said = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        plain = said.get("group", 1) == 1 and set(said.get("dilations", [1])) == {1}
        alone = all(len(reading.consumers[name]) == 1 for name in node.input[1:] if name)
        if said.get("auto_pad", b"NOTSET") != b"NOTSET" or not plain or not alone:
            continue
        takers = reading.consumers.get(node.output[0], [])
        last = takers[0] if len(takers) == 1 and takers[0].op_type == "Relu" else node
        weight = numpy_helper.to_array(reading.initializers[node.input[1]])
        stride, pads = tuple(said.get("strides", [1, 1])), tuple(said.get("pads", [0] * 4))
        ends = bool({node.output[0], last.output[0]} & reading.outputs)
        found.append(_Conv(node, last, ends, weight, stride, pads, shape[1:]))
    return found


def _insert(
    graph: onnx.GraphProto, node: onnx.NodeProto, before: Iterable[onnx.NodeProto], after: Iterable[onnx.NodeProto] = ()
) -> None:
    """Put nodes before and after one."""
    place = [one.name for one in graph.node].index(node.name)
    for new in after:
        place += 1
        graph.node.insert(place, new)
    for new in before:
        graph.node.insert([one.name for one in graph.node].index(node.name), new)


def _forget_shape(graph: onnx.GraphProto, tensor: str) -> None:
    kept = [value for value in graph.value_info if value.name != tensor]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def _integers(graph: onnx.GraphProto, name: str, values: Any) -> str:
    graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    return name


def _set_constant(graph: onnx.GraphProto, name: str, values: npt.NDArray[np.float32]) -> None:
    next(tensor for tensor in graph.initializer if tensor.name == name).CopyFrom(numpy_helper.from_array(values, name))


def _set_attributes(node: onnx.NodeProto, **values: Iterable[int]) -> None:
    node.ClearField("attribute")
    node.attribute.extend(
        onnx.helper.make_attribute(name, [int(one) for one in value]) for name, value in values.items()
    )


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
    inputs = {value.name for value in graph.input}
    made: dict[str, str] = {}
    for conv in _convolutions(graph, names):
        node, stride = conv.node, conv.stride[0]
        outputs, channels, *taps = conv.weight.shape
        source = node.input[0]
        if source not in inputs or source in made or conv.stride != (stride, stride) or stride == 1:
            continue
        if channels > _FEW_CHANNELS or any(side % stride for side in conv.source[1:]):
            continue
        axes = zip(conv.source[1:], taps, conv.pads[:2], conv.pads[2:], strict=True)
        blocks, begins, ends = zip(*(_axis_in_blocks(*axis, stride) for axis in axes), strict=True)
        if min(ends) < 0:
            continue
        moved = np.zeros((outputs, stride * stride * channels, *blocks), np.float32)
        for row in range(taps[0]):
            for column in range(taps[1]):
                down, y = divmod(row - conv.pads[0], stride)
                across, x = divmod(column - conv.pads[1], stride)
                first = (y * stride + x) * channels
                moved[:, first : first + channels, down + begins[0], across + begins[1]] = conv.weight[
                    :, :, row, column
                ]
        _set_constant(graph, node.input[1], moved)
        name = made[source] = f"{source}/blocks"
        before = onnx.helper.make_node("SpaceToDepth", [source], [name], name=name, blocksize=stride)
        _insert(graph, node, [before])
        node.input[0] = name
        _set_attributes(node, kernel_shape=blocks, pads=[*begins, *ends], strides=[1, 1])
    return made


def _axis_in_blocks(side: int, taps: int, before: int, after: int, stride: int) -> tuple[int, int, int]:
    """Taps of an axis in blocks, and its padding before and after; the latter negative where no kernel does it."""
    begin = -(-before // stride)
    blocks = (taps - 1 - before) // stride + begin + 1
    given = (side + before + after - taps) // stride + 1
    return blocks, begin, given - side // stride - begin + blocks - 1


def in_strips(model: onnx.ModelProto, names: Iterable[str]) -> dict[str, str]:
    """Let convolutions of few channels take strips of a row as channels, and give strips, in place.

    Pixels lie beside one another where channels come last, so for ONNX Runtime's integer kernels, which want them
    there, strips are another shape of the same bytes. A tap at column x of the output pixel j of a strip becomes one of
    the strip at ⌊(j + x) / 4⌋, over the channels of its pixel (j + x) mod 4; what it gives is the same, in the same
    place.

    Parameters
    ----------
    names : iterable of str
        Of the nodes that may be changed. One is where it is a Conv without a stride, of few channels, whose output is
        as wide as its input, a multiple of four, and is not the graph's.

    Returns
    -------
    dict of str to str
        The tensor with the same values by each one that was made.
    """
    graph = model.graph
    made: dict[str, str] = {}
    for conv in _convolutions(graph, names):
        node, last = conv.node, conv.last
        outputs, channels, rows, taps = conv.weight.shape
        top, left, bottom, right = conv.pads
        width = conv.source[2]
        if conv.ends or conv.stride != (1, 1) or taps == 1 or left + right != taps - 1:
            continue
        if channels > _FEW_CHANNELS or width % _STRIP:
            continue
        before, after = -(-left // _STRIP), (_STRIP - 1 + right) // _STRIP  # strips beside its own that one needs
        moved = np.zeros((_STRIP, outputs, _STRIP, channels, rows, before + 1 + after), np.float32)
        for pixel in range(_STRIP):
            for tap in range(taps):
                strip, there = divmod(pixel + tap - left, _STRIP)
                moved[pixel, :, there, :, :, strip + before] = conv.weight[:, :, :, tap]
        kernel = moved.reshape(_STRIP * outputs, _STRIP * channels, rows, -1)
        _set_constant(graph, node.input[1], kernel)
        if len(node.input) > 2 and node.input[2]:
            bias = next(tensor for tensor in graph.initializer if tensor.name == node.input[2])
            _set_constant(graph, node.input[2], np.tile(numpy_helper.to_array(bias), _STRIP))

        source, result = node.input[0], last.output[0]
        inner, strips = f"{result}/strips", [conv.source[1], width // _STRIP, _STRIP * channels]
        to_strips = _reshaped(graph, source, strips, f"{source}/{node.name}")
        from_strips = _reshaped(graph, inner, [*conv.sides, outputs], f"{result}/pixels", result)
        made |= dict.fromkeys((one.output[0] for one in to_strips), source)
        made |= dict.fromkeys((inner, *(one.output[0] for one in from_strips[:-1])), result)
        _forget_shape(graph, node.output[0])
        node.input[0] = to_strips[-1].output[0]
        last.output[0] = inner
        _set_attributes(node, kernel_shape=kernel.shape[2:], pads=[top, before, bottom, after], strides=[1, 1])
        _insert(graph, node, to_strips)
        _insert(graph, last, [], from_strips)
    return made


def _reshaped(
    graph: onnx.GraphProto, source: str, shape: list[int], name: str, result: str | None = None
) -> list[onnx.NodeProto]:
    """Nodes that give a tensor another shape (height, width, channels) of the same bytes, as if channels came last."""
    shape_of = _integers(graph, f"{name}/shape", [0, *shape])
    steps = [f"{name}/last", f"{name}/reshaped", result or f"{name}/first"]
    return [
        onnx.helper.make_node("Transpose", [source], steps[:1], name=steps[0], perm=[0, 2, 3, 1]),
        onnx.helper.make_node("Reshape", [steps[0], shape_of], steps[1:2], name=steps[1]),
        onnx.helper.make_node("Transpose", [steps[1]], steps[2:], name=f"{name}/first", perm=[0, 3, 1, 2]),
    ]


def as_products(model: onnx.ModelProto, names: Iterable[str]) -> dict[str, str]:
    """Let convolutions with few output pixels and large weights become matrix products, in place.

    Pixels become rows, with one of zeros behind each picture's; the rows under the kernel are gathered beside one
    another for each output pixel, and a Gemm by the convolution's name multiplies them with the weights.

    Parameters
    ----------
    names : iterable of str
        Of the nodes that may be changed. One is where it is a Conv of more than one tap, whose output is not the
        graph's.

    Returns
    -------
    dict of str to str
        As of `in_strips`; a row of zeros counts as being of the same values.
    """
    graph = model.graph
    made: dict[str, str] = {}
    for conv in _convolutions(graph, names):
        node, last, weight = conv.node, conv.last, conv.weight
        outputs, channels, *taps = weight.shape
        if conv.ends or weight.size < _LARGE_WEIGHT or np.prod(conv.sides) > _FEW_PIXELS or taps == [1, 1]:
            continue
        height, width = conv.source[1:]
        matrix = np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(-1, outputs))
        _set_constant(graph, node.input[1], matrix)
        source, result, name = node.input[0], last.output[0], node.name
        steps: list[onnx.NodeProto] = []
        for kind, what, constant, said in (
            ("Transpose", "last", None, {"perm": [0, 2, 3, 1]}),
            ("Reshape", "rows", [0, height * width, channels], {}),
            ("Pad", "padded", [0, 0, 0, 0, 1, 0], {}),
            ("Gather", "taps", _rows_under(conv), {"axis": 1}),
            ("Reshape", "matrix", [-1, len(matrix)], {}),
        ):
            read = [steps[-1].output[0] if steps else source]
            if constant is not None:
                read.append(_integers(graph, f"{name}/{what}/constant", constant))
            steps.append(onnx.helper.make_node(kind, read, [f"{name}/{what}"], name=f"{name}/{what}", **said))
        made |= dict.fromkeys((one.output[0] for one in steps), source)
        flat, image = f"{result}/flat", f"{result}/image"
        sides = _integers(graph, f"{result}/sides", [-1, *conv.sides, outputs])
        back = [
            onnx.helper.make_node("Reshape", [flat, sides], [image], name=image),
            onnx.helper.make_node("Transpose", [image], [result], name=f"{result}/first", perm=[0, 3, 1, 2]),
        ]
        made |= dict.fromkeys((flat, image), result)
        _forget_shape(graph, node.output[0])
        node.op_type, node.input[0] = "Gemm", steps[-1].output[0]
        node.ClearField("attribute")
        last.output[0] = flat
        _insert(graph, node, steps)
        _insert(graph, last, [], back)
    return made


def _rows_under(conv: _Conv) -> list[int]:
    """Of each output pixel in turn, the pixels under the kernel; behind the last pixel where that is outside."""
    _, height, width = conv.source
    rows, columns = conv.weight.shape[2:]
    (down, across), (top, left, _, _) = conv.stride, conv.pads
    places = []
    for y, x, tap_y, tap_x in np.ndindex(*conv.sides, rows, columns):
        row, column = y * down + tap_y - top, x * across + tap_x - left
        inside = 0 <= row < height and 0 <= column < width
        places.append(row * width + column if inside else height * width)
    return places


def pad_integers(model: onnx.ModelProto) -> None:
    """Let each Pad between Q/DQ pairs of one scale pad the integers themselves, with their zero, in place.

    ONNX Runtime would turn what it pads into float and back.
    """
    graph = model.graph
    reading = Reading(graph)
    for pad in [node for node in graph.node if node.op_type == "Pad"]:
        before = reading.producer.get(pad.input[0])
        takers = reading.consumers.get(pad.output[0], [])
        if (
            before is None
            or before.op_type != "DequantizeLinear"
            or [one.op_type for one in takers] != ["QuantizeLinear"]
        ):
            continue
        (after,) = takers
        if list(before.input[1:]) != list(after.input[1:]) and not _same_scale(reading, before, after):
            continue
        pad.input[0], pad.output[0] = before.input[0], after.output[0]
        pad.input.append(before.input[2])
        graph.node.remove(after)
        if len(reading.consumers[before.output[0]]) == 1:
            graph.node.remove(before)


def _same_scale(reading: Reading, one: onnx.NodeProto, other: onnx.NodeProto) -> bool:
    values = [[numpy_helper.to_array(reading.initializers[name]) for name in node.input[1:]] for node in (one, other)]
    return all(np.array_equal(a, b) for a, b in zip(*values, strict=True))
