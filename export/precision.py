"""FP16 graphs out of FP32 ones: weights and arithmetic in half precision, a float32 border as every engine takes it.

The cast is ONNX Runtime's own converter's. Layer normalisation stays in FP32: its sums of squares are what TensorRT
warns of, and the head comes a third nearer to FP32 by it. Softmax does not gain from that, and the head's masks of -1e4
are finite in half precision. Where rounded weights still cost too much, the few layers that cost most stay in FP32 too.

A CPU says little about half precision: ONNX Runtime computes most operators in FP32 there, between rounded weights. So
each graph is also run with every value inside rounded to half precision, as a GPU keeps it between its FP32 sums, and
must stay near; and no tensor of the FP32 graph may come near 65504, where half precision ends.

Nothing here needs torch.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from emert_edge.bundle.manifest import Evidence, Role

from .failure import ExportFailed
from .form import check_form
from .parity import BATCHES, GraphReport, OpenGraph, Parity, Reference, chained, compare, difference, drawn_inputs

__all__ = [
    "AGREEMENT",
    "LARGEST",
    "ROUNDED_TOLERANCE",
    "TOLERANCE",
    "HalfGraphs",
    "half_graph",
    "half_graphs",
    "largest_value",
    "rounding_graph",
]

TOLERANCE = 2e-3
"""What an output of the FP16 file may differ from FP32's in ONNX Runtime, relative to 1 or its size; 1e-3 is usual."""
ROUNDED_TOLERANCE = 1e-2
"""The same where every value inside is rounded; 1e-3 to 4e-3 is usual."""
AGREEMENT = 0.98
"""The share of rows with classes that must keep every label for the bundle to count FP16 as proven."""
LARGEST = 32752.0
"""Half of what half precision holds: what was not tried may be larger than what was."""

_KEPT_FLOAT = ("LayerNormalization",)
_PRODUCTS = ("Conv", "Gemm", "MatMul")
_MOST_KEPT = 3
_MARGIN = 0.85  # of the tolerance: other inputs differ a little more


class HalfGraphs(NamedTuple):
    """The FP16 graphs of a model, and what was found of them."""

    reports: dict[Role, GraphReport]
    evidence: Evidence


def _converter() -> Any:
    path = list(sys.path)
    # onnx_utils, which onnxruntime.quantization imports, can be loaded only while the package's folder is on the path.
    from onnxruntime.transformers import float16, onnx_utils  # noqa: F401

    sys.path[:] = path  # that package puts its folder on the path, with modules that are called `models` and the like
    return float16


def half_graph(role: Role, data: bytes, kept: Sequence[str] = ()) -> bytes:
    """Cast one FP32 graph to FP16, with float32 inputs and outputs.

    Parameters
    ----------
    role : str
        Of the graph; for messages.
    data : bytes
        The FP32 ONNX file; its border, opset and IR version stay.
    kept : sequence of str
        Names of nodes that stay in FP32.

    Returns
    -------
    bytes
        One ONNX file with typed values throughout.

    Raises
    ------
    ExportFailed
        If what comes out is not what every target can read.
    """
    import onnx

    float16 = _converter()
    proto = onnx.load_from_string(data)
    inputs, outputs = (
        {value.name: tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim[1:]) for value in values}
        for values in (proto.graph.input, proto.graph.output)
    )
    proto = float16.convert_float_to_float16(
        proto,
        keep_io_types=True,
        op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *_KEPT_FLOAT],
        node_block_list=[*_products_of_moved_batches(proto.graph), *kept],
    )
    _sort_nodes(role, proto.graph)
    del proto.graph.value_info[:]  # some were made before their nodes: inferred anew from what stands there now
    try:
        proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        raise ExportFailed(f"{role}: the FP16 graph's types do not fit ({str(error).splitlines()[0]})") from error
    half = bytes(proto.SerializeToString())
    check_form(role, inputs, outputs, half)
    return half


def _near_half_graph(role: Role, data: bytes) -> tuple[bytes, list[str]]:
    """The FP16 graph, and which layers had to stay in FP32 so that it comes near enough; the best of few if none do."""
    import onnx

    full = OpenGraph(data)
    rng = np.random.default_rng(0)
    inputs = [drawn_inputs(full.inputs, batch, rng) for batch in BATCHES]
    wanted = [full(values) for values in inputs]

    def distance(half: bytes) -> float:
        graph = OpenGraph(half)
        return max(
            difference(got, answer[name])
            for values, answer in zip(inputs, wanted, strict=True)
            for name, got in graph(values).items()
        )

    half, kept = half_graph(role, data), list[str]()
    reached = distance(half)
    layers = [node.name for node in onnx.load_from_string(data).graph.node if node.op_type in _PRODUCTS and node.name]
    while reached > _MARGIN * TOLERANCE and len(kept) < _MOST_KEPT and layers:
        tried = {name: half_graph(role, data, [*kept, name]) for name in layers}
        nearest, name = min((distance(graph), name) for name, graph in tried.items())
        if nearest >= reached:
            break
        reached, half = nearest, tried[name]
        kept.append(name)
        layers.remove(name)
    return half, kept


def _products_of_moved_batches(graph: Any) -> list[str]:
    """Names of products that read a transposition which moves the batch, and of those transpositions.

    ONNX Runtime (1.32 at least) fuses the two, has no such operator in half precision on a CPU, and ends the process
    while it loads the graph. Kept in FP32 they do no harm: such pairs stand beside an LSTM alone.
    """
    for index, node in enumerate(graph.node):
        node.name = node.name or f"node_{index}"
    moves = {
        node.output[0]: node.name
        for node in graph.node
        if node.op_type == "Transpose"
        and next((attribute.ints[0] for attribute in node.attribute if attribute.name == "perm"), -1) != 0
    }
    products = {
        node.name: moves.keys() & set(node.input)
        for node in graph.node
        if node.op_type == "MatMul" and moves.keys() & set(node.input)
    }
    return [*products, *{moves[name] for read in products.values() for name in read}]


def _sort_nodes(role: Role, graph: Any) -> None:
    """Put every node behind those that it reads from: the converter appends its casts at the end."""
    known = {"", *(value.name for value in graph.input), *(tensor.name for tensor in graph.initializer)}
    waiting, order = list(graph.node), []
    while waiting:
        later = []
        for node in waiting:
            if known.issuperset(node.input):
                order.append(node)
                known.update(node.output)
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise ExportFailed(f"{role}: node {waiting[0].name!r} of the FP16 graph reads what nothing writes")
        waiting = later
    copies = [type(node).FromString(node.SerializeToString()) for node in order]
    del graph.node[:]
    graph.node.extend(copies)


def rounding_graph(half: bytes) -> bytes:
    """Rewrite an FP16 graph so that it computes in FP32 and rounds every value to half precision and back.

    That is what a GPU does whose products are summed in FP32, but for the order of the sums. ONNX Runtime keeps such
    casts, while it drops those that it puts around operators of FP16 itself.

    Parameters
    ----------
    half : bytes
        The FP16 ONNX file, with its types inferred.
    """
    import onnx

    floats, halves = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    proto = onnx.load_from_string(half)
    graph = proto.graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    for tensor in (
        *graph.initializer,
        *(attribute.t for node in graph.node for attribute in node.attribute if attribute.HasField("t")),
    ):
        if tensor.data_type == halves:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    nodes = []
    for node in graph.node:
        nodes.append(node)
        for index, name in enumerate(node.output):
            if kinds.get(name) == halves:
                full, rounded = f"{name}_full", f"{name}_rounded"
                node.output[index] = full
                nodes.append(onnx.helper.make_node("Cast", [full], [rounded], to=halves))
                nodes.append(onnx.helper.make_node("Cast", [rounded], [name], to=floats))
        for attribute in node.attribute if node.op_type == "Cast" else ():
            if attribute.name == "to" and attribute.i == halves:
                attribute.i = floats
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(copies)
    return bytes(proto.SerializeToString())


def largest_value(data: bytes, *, seed: int = 0) -> tuple[str, float]:
    """Find the tensor of an FP32 graph with the largest value on random inputs, whatever is missing.

    Parameters
    ----------
    data : bytes
        The FP32 ONNX file, with its shapes inferred.

    Returns
    -------
    (str, float)
        The tensor's name, and its largest absolute value; NaN counts as infinite.
    """
    import onnx

    proto = onnx.load_from_string(data)
    given = {value.name for value in proto.graph.output}
    inner = [value for value in proto.graph.value_info if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
    proto.graph.output.extend(value for value in inner if value.name not in given)
    graph = OpenGraph(proto.SerializeToString())
    rng = np.random.default_rng(seed)
    found = ("", 0.0)
    masks = [name for name in graph.inputs if name.endswith("_mask")]
    for missing in ["", *masks, "all"] if masks else [""]:
        for name, values in graph(drawn_inputs(graph.inputs, max(BATCHES), rng, missing)).items():
            largest = float(np.nan_to_num(np.abs(values), nan=np.inf, posinf=np.inf).max(initial=0.0))
            found = max(found, (name, largest), key=lambda one: one[1])
    return found


def _agreement(found: Mapping[Role, Parity]) -> float | None:
    """The share of rows that kept every label; None for a model without classes."""
    labelled = sum(one.labelled for one in found.values())
    return sum(one.agreeing for one in found.values()) / labelled if labelled else None


def _largest(found: Mapping[Role, Parity]) -> float:
    return float(f"{max(one.largest_difference for one in found.values()):.2g}")


def half_graphs(graphs: Mapping[Role, bytes]) -> HalfGraphs:
    """Cast the graphs of a model to FP16, and hold them against the FP32 ones, alone and in a row.

    Parameters
    ----------
    graphs : mapping of role to bytes
        The FP32 ONNX files.

    Raises
    ------
    ExportFailed
        If a tensor's values leave the range of half precision, an output is not finite or differs by more than
        `TOLERANCE`, or by more than `ROUNDED_TOLERANCE` with every value rounded, or a graph is not what every target
        can read.
    """
    for role, data in graphs.items():
        name, largest = largest_value(data)
        if not largest <= LARGEST:
            raise ExportFailed(
                f"{role}: tensor {name} reaches {largest:.3g} in FP32, and half precision ends at 65504; "
                "export this model without FP16 (--no-fp16)"
            )
    near = {role: _near_half_graph(role, data) for role, data in graphs.items()}
    halves = {role: half for role, (half, _) in near.items()}
    opened = {role: OpenGraph(data) for role, data in graphs.items()}
    reference = Reference("the FP32 graph", opened, chained(opened))
    rounding = {role: rounding_graph(data) for role, data in halves.items()}
    try:
        found = compare(halves, reference, TOLERANCE)
        rounded = compare(rounding, reference._replace(name="FP32, every value rounded,"), ROUNDED_TOLERANCE)
    except ExportFailed as error:
        raise ExportFailed(f"FP16: {error}; export this model without FP16 (--no-fp16)") from error
    shares = [share for share in (_agreement(found), _agreement(rounded)) if share is not None]
    evidence = Evidence(
        precision="fp16",
        target="any",
        data=f"random inputs at batches {', '.join(map(str, BATCHES[:-1]))} and {BATCHES[-1]}",
        samples=sum(one.rows for one in found.values()),
        labelled=False,
        figures={
            **({"agreement": round(min(shares), 4)} if shares else {}),
            "largest_difference": _largest(found),
            "largest_difference_rounded": _largest(rounded),
            "layers_kept_float": sum(len(kept) for _, kept in near.values()),
        },
        bounds={
            **({"agreement": AGREEMENT} if shares else {}),
            "largest_difference": TOLERANCE,
            "largest_difference_rounded": ROUNDED_TOLERANCE,
        },
        accepted=min(shares, default=1.0) >= AGREEMENT,
    )
    reports = {
        role: GraphReport(role, halves[role], parity.largest_difference, "fp16") for role, parity in found.items()
    }
    return HalfGraphs(reports, evidence)
