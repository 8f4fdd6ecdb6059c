"""Which nodes of a graph are quantised, and what they are to each other: layers, residual additions, what follows them.

Both placements and the linter read a graph through this, so that they mean the same by "the identity branch". A graph
is read as if it had no Q/DQ pairs in it, so a quantised graph has the same layers as the float one it came from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx

__all__ = ["Addition", "Layer", "Reading", "read_layers", "weight_axis"]

WEIGHTED = ("Conv", "Gemm", "MatMul")
HEAD_SUFFIX = "_logits"
"""Ending of the graph outputs whose layers are heads: they stay float."""


@dataclass(frozen=True)
class Layer:
    """One node with a constant weight."""

    name: str
    kind: str
    source: str
    """The activation that it takes."""
    weight: str
    """The initialiser that it takes, behind its DequantizeLinear where it has one."""
    axis: int
    """The weight's axis of output channels."""
    output: str
    result: str
    """What it gives to the rest of the graph: its output, or that of the ReLU that alone takes it."""


@dataclass(frozen=True)
class Addition:
    """A residual addition: a layer's own output and a branch around that layer."""

    name: str
    main: str
    """The tensor that a layer ends, which nothing else takes."""
    identity: str
    """The tensor of the branch with fewer layers."""
    output: str
    result: str


class Reading:
    """A graph by names: who makes a tensor, who takes it, what is constant."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.outputs = {value.name for value in graph.output}
        self.producer: dict[str, onnx.NodeProto] = {}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.output:
                self.producer[name] = node
            for name in node.input:
                if name:
                    self.consumers.setdefault(name, []).append(node)
        self._upstream: dict[str, frozenset[str]] = {}

    def is_made_by(self, tensor: str, *kinds: str) -> bool:
        """Whether a node of one of these kinds makes a tensor."""
        node = self.producer.get(tensor)
        return node is not None and node.op_type in kinds

    def origin(self, tensor: str) -> str:
        """The tensor, or what went into the Q/DQ pairs that it comes out of."""
        while self.is_made_by(tensor, "DequantizeLinear", "QuantizeLinear"):
            tensor = self.producer[tensor].input[0]
        return tensor

    def is_constant(self, tensor: str) -> bool:
        """Whether a tensor's origin is an initialiser or a constant."""
        origin = self.origin(tensor)
        return origin in self.initializers or self.is_made_by(origin, "Constant")

    def takers(self, tensor: str) -> list[onnx.NodeProto]:
        """The nodes that take a tensor, Q/DQ pairs left out."""
        found = []
        for node in self.consumers.get(tensor, []):
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                found += self.takers(node.output[0])
            else:
                found.append(node)
        return found

    def rectified(self, tensor: str) -> str:
        """The output of the ReLU that alone takes a tensor, or the tensor."""
        takers = self.takers(tensor)
        if len(takers) == 1 and takers[0].op_type == "Relu" and tensor not in self.outputs:
            return str(takers[0].output[0])
        return tensor

    def upstream(self, tensor: str) -> frozenset[str]:
        """Outputs of all nodes with constant weights that a tensor depends on."""
        known = self._upstream
        waiting = [tensor]
        while waiting:
            current = waiting[-1]
            node = self.producer.get(current)
            missing = [name for name in (node.input if node else ()) if name and name not in known]
            if missing:
                waiting += missing
                continue
            waiting.pop()
            if current not in known:
                above = frozenset[str]().union(*(known[name] for name in (node.input if node else ()) if name))
                own = node is not None and node.op_type in WEIGHTED and self.is_constant(node.input[1])
                known[current] = above | {current} if own else above
        return known[tensor]


def weight_axis(node: onnx.NodeProto, rank: int) -> int:
    """The axis of a weight's output channels."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if any(attribute.name == "transB" and attribute.i for attribute in node.attribute) else 1
    return rank - 1


def read_layers(model: onnx.ModelProto, keep_float: Iterable[str] = ()) -> tuple[list[Layer], list[Addition]]:
    """Find what may be quantised in a graph, in its order.

    Layers are Conv, Gemm and MatMul with a constant weight, without those that end in a head (a graph output
    ``…_logits``). Additions are residual ones behind a layer; where the layer stays float they do too. Everything
    else (LSTM, LayerNorm, Softmax, the products of attention, which multiply activations) stays float.

    Parameters
    ----------
    model : onnx.ModelProto
        A float graph, or one that was quantised.
    keep_float : iterable of str
        Names of nodes that are left out.
    """
    kept = set(keep_float)
    reading = Reading(model.graph)
    layers = []
    for node in model.graph.node:
        if node.op_type not in WEIGHTED or node.name in kept:
            continue
        weight = reading.origin(node.input[1])
        turned = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        if weight not in reading.initializers or reading.is_constant(node.input[0]) or turned:
            continue
        output = str(node.output[0])
        if output in reading.outputs and output.endswith(HEAD_SUFFIX):
            continue
        axis = weight_axis(node, len(reading.initializers[weight].dims))
        source = reading.origin(node.input[0])
        layers.append(
            Layer(node.name, node.op_type, source, weight, axis, output, reading.rectified(output))
        )  # fmt: skip
    ends = {layer.output for layer in layers}
    additions = []
    for node in model.graph.node:
        if node.op_type != "Add" or any(reading.is_constant(name) for name in node.input):
            continue
        branches = [reading.origin(name) for name in node.input]
        own = [name for name in branches if name in ends and len(reading.takers(name)) == 1]
        if not own or branches[0] == branches[1]:
            continue
        # Where layers end both branches, the longer one is the main branch: the other projects the identity.
        main = max(own, key=lambda name: len(reading.upstream(name)))
        identity = branches[1] if main == branches[0] else branches[0]
        output = str(node.output[0])
        additions.append(Addition(node.name, main, identity, output, reading.rectified(output)))
    return layers, additions
