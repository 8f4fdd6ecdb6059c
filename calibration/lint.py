"""TensorRT's rules for an explicitly quantised graph, each with a name, and where a graph breaks them.

TensorRT refuses some of what ONNX allows, and silently builds slow or inexact kernels of more of it. The rules are
those of NVIDIA's developer guide (working with quantised types) as of TensorRT 10.3, the oldest that is supported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from .layers import WEIGHTED, Reading, read_layers, weight_axis

__all__ = ["RULES", "Finding", "lint_tensorrt"]

RULES: dict[str, str] = {
    "opset": "The default opset is 13 to 20 and the IR version at most 10: TensorRT 10.3 reads no newer graph, and "
    "scales of channels came with opset 13.",
    "type": "No tensor is of a type that TensorRT lacks (DOUBLE, 16-bit and unsigned integers but UINT8 pictures).",
    "integer-operator": "INT8 is said by Q/DQ pairs of the default domain alone, never by operators that compute in "
    "integers themselves.",
    "unsigned": "Q/DQ pairs quantise to INT8; TensorRT has no unsigned and no 16-bit activations.",
    "zero-point": "Every zero-point is 0: TensorRT quantises symmetrically.",
    "scale": "Every scale is a constant, finite and positive.",
    "pair": "Every QuantizeLinear feeds DequantizeLinear alone, and every DequantizeLinear stands behind a "
    "QuantizeLinear or a stored INT8 weight.",
    "repeated": "Nothing is quantised twice in a row: a second pair rounds again and gains nothing.",
    "activation-axis": "An activation has one scale; scales of channels are for weights.",
    "weight-axis": "A weight's scales lie along its output channels: axis 0 of a Conv.",
    "weight-missing": "Where a layer's input is quantised its weight is too, or the layer stays float.",
    "input-missing": "Where a layer's weight is quantised its input is too, or the layer stays float.",
    "bias": "A bias stays float: TensorRT adds it in the accumulator.",
    "residual-missing": "The identity branch of a residual addition behind a quantised layer is quantised: without "
    "that the layer's output is written in float.",
    "residual-doubled": "The layer's own branch of a residual addition is not quantised: a pair there keeps layer and "
    "addition from becoming one kernel.",
    "recurrent": "LSTM, GRU and RNN stay float: TensorRT has no INT8 kernels for them.",
    "float-operator": "Normalisations, Softmax and activations of their kind take and give float values.",
}
"""What is asked of a graph, by the rule's name."""

OPSETS = range(13, 21)
IR_VERSION = 10
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_FLOAT = frozenset({
    "BatchNormalization", "Erf", "Gelu", "GroupNormalization", "InstanceNormalization", "LayerNormalization",
    "LogSoftmax", "LpNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "Softmax",
})  # fmt: skip
_INTEGER = frozenset({
    "ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul",
})  # fmt: skip
_LACKING = {
    TensorProto.DOUBLE: "DOUBLE", TensorProto.INT16: "INT16", TensorProto.UINT16: "UINT16",
    TensorProto.UINT32: "UINT32", TensorProto.UINT64: "UINT64", TensorProto.COMPLEX64: "COMPLEX64",
    TensorProto.COMPLEX128: "COMPLEX128", TensorProto.STRING: "STRING",
}  # fmt: skip
_QUANTISED = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Finding:
    """A rule that a node breaks."""

    rule: str
    """One of `RULES`."""
    node: str
    """The node's name; of the graph itself ""."""
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.node or 'the graph'}: {self.detail}"


def lint_tensorrt(model: onnx.ModelProto) -> tuple[Finding, ...]:
    """Hold a graph against `RULES`.

    Returns
    -------
    tuple of Finding
        In the order of the rules, then of the nodes; empty if the graph keeps them all. A float graph does.
    """
    found = list(_Linter(model).findings())
    order = {rule: number for number, rule in enumerate(RULES)}
    return tuple(sorted(found, key=lambda finding: order[finding.rule]))


class _Linter:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.reading = Reading(model.graph)

    def findings(self) -> Iterator[Finding]:
        yield from self._form()
        yield from self._types()
        for node in self.model.graph.node:
            if node.op_type in _INTEGER or (node.op_type.startswith("QLinear") or node.domain == "com.microsoft"):
                domain = f" of {node.domain}" if node.domain else ""
                yield Finding("integer-operator", node.name, f"{node.op_type}{domain}")
            elif node.op_type in _QUANTISED:
                yield from self._parameters(node)
                yield from self._pairing(node)
            elif node.op_type in WEIGHTED:
                yield from self._layer(node)
            elif node.op_type in _RECURRENT:
                yield from self._float(node, "recurrent")
            elif node.op_type in _FLOAT:
                yield from self._float(node, "float-operator")
        yield from self._residuals()

    # -- the graph ----------------------------------------------------------------------------------------------------

    def _form(self) -> Iterator[Finding]:
        opset = max((entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
        if opset not in OPSETS:
            yield Finding("opset", "", f"opset {opset}")
        if self.model.ir_version > IR_VERSION:
            yield Finding("opset", "", f"IR version {self.model.ir_version}")

    def _types(self) -> Iterator[Finding]:
        graph = self.model.graph
        for tensor in graph.initializer:
            if tensor.data_type in _LACKING:
                takers = self.reading.consumers.get(tensor.name)
                node = takers[0].name if takers else ""
                yield Finding("type", node, f"{tensor.name} is {_LACKING[tensor.data_type]}")
        for value in (*graph.input, *graph.output):
            if value.type.tensor_type.elem_type in _LACKING:
                yield Finding("type", "", f"{value.name} is {_LACKING[value.type.tensor_type.elem_type]}")
        for node in graph.node:
            for attribute in node.attribute:
                if node.op_type == "Cast" and attribute.name == "to" and attribute.i in _LACKING:
                    yield Finding("type", node.name, f"casts to {_LACKING[attribute.i]}")

    # -- Q/DQ nodes ---------------------------------------------------------------------------------------------------

    def _constant(self, name: str) -> np.ndarray | None:
        if name in self.reading.initializers:
            return numpy_helper.to_array(self.reading.initializers[name])
        if self.reading.is_made_by(name, "Constant"):
            for attribute in self.reading.producer[name].attribute:
                if attribute.name == "value":
                    return numpy_helper.to_array(attribute.t)
        return None

    def _parameters(self, node: onnx.NodeProto) -> Iterator[Finding]:
        scale = self._constant(node.input[1])
        if scale is None:
            yield Finding("scale", node.name, f"{node.input[1]} is computed")
        elif not (np.isfinite(scale).all() and (scale > 0).all()):
            yield Finding("scale", node.name, f"{node.input[1]} is not finite and positive")
        zero = self._constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        stored = self._constant(node.input[0])
        held = stored if stored is not None and node.op_type == "DequantizeLinear" else zero
        if held is None:
            if node.op_type == "QuantizeLinear":
                yield Finding("unsigned", node.name, "without a zero-point it quantises to UINT8")
        elif held.dtype != np.int8 and not (held.dtype == np.int32 and node.op_type == "DequantizeLinear"):
            yield Finding("unsigned", node.name, f"quantises to {str(held.dtype).upper()}")
        if zero is not None and zero.any():
            yield Finding("zero-point", node.name, f"the zero-point is {', '.join(map(str, np.unique(zero)[:4]))}")
        if scale is not None and scale.size > 1 and not self.reading.is_constant(node.input[0]):
            yield Finding("activation-axis", node.name, f"{scale.size} scales for an activation")

    def _pairing(self, node: onnx.NodeProto) -> Iterator[Finding]:
        reading = self.reading
        takers = reading.consumers.get(node.output[0], [])
        if node.op_type == "QuantizeLinear":
            others = [taker.op_type for taker in takers if taker.op_type != "DequantizeLinear"]
            if others or not takers or node.output[0] in reading.outputs:
                yield Finding("pair", node.name, f"no DequantizeLinear before {', '.join(others) or 'the output'}")
            if reading.is_made_by(node.input[0], "DequantizeLinear"):
                yield Finding("repeated", node.name, f"{reading.origin(node.input[0])} is quantised already")
        elif not reading.is_made_by(node.input[0], "QuantizeLinear") and self._constant(node.input[0]) is None:
            yield Finding("pair", node.name, f"{node.input[0]} comes out of no QuantizeLinear")

    # -- what they stand at -------------------------------------------------------------------------------------------

    def _is_quantised(self, tensor: str) -> bool:
        return self.reading.is_made_by(tensor, "DequantizeLinear")

    def _layer(self, node: onnx.NodeProto) -> Iterator[Finding]:
        source, weight = node.input[0], node.input[1]
        if len(node.input) > 2 and node.input[2] and self._is_quantised(node.input[2]):
            yield Finding("bias", node.name, f"{self.reading.origin(node.input[2])} is quantised")
        if not self.reading.is_constant(weight):
            return
        if self._is_quantised(source) and not self._is_quantised(weight):
            yield Finding("weight-missing", node.name, f"{weight} is float, {self.reading.origin(source)} is not")
        if self._is_quantised(weight):
            if not self._is_quantised(source):
                origin = self.reading.origin(weight)
                yield Finding("input-missing", node.name, f"{source} is float, {origin} is not")
            yield from self._axis(node, self.reading.producer[weight])

    def _axis(self, node: onnx.NodeProto, pair: onnx.NodeProto) -> Iterator[Finding]:
        scale = self._constant(pair.input[1])
        values = self._constant(self.reading.origin(pair.output[0]))
        if scale is None or values is None or scale.size == 1:
            return
        given = next((attribute.i for attribute in pair.attribute if attribute.name == "axis"), 1)
        wanted = weight_axis(node, values.ndim)
        if given % values.ndim != wanted or scale.size != values.shape[wanted]:
            yield Finding("weight-axis", node.name, f"{scale.size} scales along axis {given}, not {wanted}")

    def _float(self, node: onnx.NodeProto, rule: str) -> Iterator[Finding]:
        for name in node.input:
            if name and self._is_quantised(name):
                yield Finding(rule, node.name, f"{node.op_type} takes {self.reading.origin(name)} quantised")
        if rule == "recurrent":
            for name in node.output:
                if any(taker.op_type == "QuantizeLinear" for taker in self.reading.consumers.get(name, [])):
                    yield Finding(rule, node.name, f"what {node.op_type} gives ({name}) is quantised")

    @cached_property
    def _quantised_layers(self) -> Sequence[str]:
        layers, _ = read_layers(self.model)
        nodes = {node.name: node for node in self.model.graph.node}
        return [layer.output for layer in layers if self._is_quantised(nodes[layer.name].input[1])]

    def _residuals(self) -> Iterator[Finding]:
        _, additions = read_layers(self.model)
        nodes = {node.name: node for node in self.model.graph.node}
        for addition in additions:
            if addition.main not in self._quantised_layers:
                continue
            quantised = {self.reading.origin(name): self._is_quantised(name) for name in nodes[addition.name].input}
            if not quantised[addition.identity]:
                yield Finding("residual-missing", addition.name, f"the identity branch {addition.identity} is float")
            if quantised[addition.main]:
                yield Finding("residual-doubled", addition.name, f"the layer's branch {addition.main} is quantised")
