"""The form that every target can read, looked up in the file itself: exporters and converters fail silently."""

from __future__ import annotations

from collections.abc import Mapping

from emert_edge.bundle.manifest import Role

from .failure import ExportFailed

__all__ = ["IR_VERSION", "OPSET", "Shapes", "check_form"]

OPSET = 18
IR_VERSION = 10
"""The newest that ONNX Runtime 1.18 reads, and that can be had on Python 3.10."""

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of tensors by name, in the graph's order, without the batch."""


def check_form(role: Role, inputs: Shapes, outputs: Shapes, data: bytes) -> None:
    """Check opset, IR version, operators, weights, and the names, element types and axes of the border.

    Parameters
    ----------
    role : str
        Of the graph; for messages.
    inputs, outputs : mapping of str to tuple of int
        What the graph must take and give: float32, a batch named ``batch`` first.
    data : bytes
        The ONNX file.

    Raises
    ------
    ExportFailed
        For the first thing that is not as it must be.
    """
    import onnx

    proto = onnx.load_from_string(data)
    opsets = {entry.domain: entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")}
    if list(opsets.values()) != [OPSET]:
        raise ExportFailed(f"{role}: opset {opsets} was written instead of {OPSET}")
    foreign = sorted({node.domain for node in proto.graph.node if node.domain not in ("", "ai.onnx")})
    if foreign:
        raise ExportFailed(f"{role}: operators of {', '.join(foreign)} are in the graph; no engine but one knows them")
    if proto.ir_version > IR_VERSION:
        raise ExportFailed(f"{role}: IR version {proto.ir_version} is newer than {IR_VERSION}")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in proto.graph.initializer):
        raise ExportFailed(f"{role}: weights lie outside of the file")
    for kind, values, wanted in (("input", proto.graph.input, inputs), ("output", proto.graph.output, outputs)):
        names = [value.name for value in values]
        if names != list(wanted):
            raise ExportFailed(f"{role}: {kind}s are {names}, wanted {list(wanted)}")
        for value in values:
            tensor = value.type.tensor_type
            if tensor.elem_type != onnx.TensorProto.FLOAT:
                raise ExportFailed(f"{role}: {kind} {value.name} is not float32")
            axes = [axis.dim_param or axis.dim_value for axis in tensor.shape.dim]
            expected = ["batch", *wanted[value.name]]
            if axes != expected:
                raise ExportFailed(f"{role}: {kind} {value.name} has axes {axes}, wanted {expected}")
    try:
        onnx.checker.check_model(proto, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ExportFailed(f"{role}: the graph is not valid ONNX ({str(error).splitlines()[0]})") from error
