"""A bundle of two graphs of a few nodes: what engines are tested with where the numbers need no meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from emert_edge.bundle import Bundle, write_bundle
from emert_edge.bundle.manifest import Evidence, FaceInput, FileEntry, Graph, Labels, Manifest, Precision, Training

__all__ = ["write_small_bundle"]

WIDTH = 8
SIDE = 6


def write_small_bundle(
    path: Path, precisions: tuple[Precision, ...] = ("fp32",), *, evidence: tuple[Evidence, ...] = (), seed: int = 0
) -> Bundle:
    """Write a bundle whose face encoder is a mean and a matrix, and whose head is a masked mean."""
    files: dict[str, bytes] = {"card.md": b""}
    graphs = []
    for precision in precisions:
        for role, content in (("face_encoder", _face(precision, seed)), ("head", _head(precision))):
            if precision == "int8" and role == "head":
                continue  # stays in float, as in any INT8 set
            file = f"{role}.{precision}.onnx"
            files[file] = content
            target = "tensorrt" if precision == "int8" else "any"
            graphs.append(Graph(role=role, precision=precision, target=target, file=file))  # type: ignore[arg-type]
    manifest = Manifest(
        name="small",
        version="1",
        token_width=WIDTH,
        labels=Labels(emotion=None, expression=None),
        face=FaceInput(size=(SIDE, SIDE)),
        training=Training(data=("none",)),
        licence="Apache-2.0",
        graphs=tuple(graphs),
        evidence=evidence,
        files={name: FileEntry(sha256="0" * 64, size=0) for name in files},
    )
    return write_bundle(path, manifest, files)


def _face(precision: Precision, seed: int) -> bytes:
    import onnx
    from onnx import helper

    weights = np.random.default_rng(seed).standard_normal((3 * SIDE * SIDE, WIDTH)).astype(np.float32)
    half = precision == "fp16"
    nodes = [
        helper.make_node("Flatten", ["frame"], ["flat"], "flatten"),
        *([helper.make_node("Cast", ["flat"], ["flat16"], to=onnx.TensorProto.FLOAT16)] if half else []),
        helper.make_node("MatMul", ["flat16" if half else "flat", "weights"], ["raw" if half else "sums"], "multiply"),
        *([helper.make_node("Cast", ["raw"], ["sums"], to=onnx.TensorProto.FLOAT)] if half else []),
        helper.make_node("Tanh", ["sums"], ["face_token"], "squash"),
    ]
    matrix = onnx.numpy_helper.from_array(weights.astype(np.float16) if half else weights, "weights")
    return _model(nodes, {"frame": (3, SIDE, SIDE)}, {"face_token": (WIDTH,)}, [matrix])


def _head(precision: Precision) -> bytes:
    import onnx
    from onnx import helper

    constants = [
        onnx.numpy_helper.from_array(np.asarray([2], np.int64), "last"),
        onnx.numpy_helper.from_array(np.asarray([1, 2], np.int64), "both"),
        onnx.numpy_helper.from_array(np.asarray([3 if precision == "fp16" else 2], np.float32), "factor"),
    ]
    nodes = [
        helper.make_node("Unsqueeze", ["face_mask", "last"], ["mask"]),
        helper.make_node("Mul", ["face_tokens", "mask"], ["masked"]),
        helper.make_node("ReduceMean", ["masked", "both"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "factor"], ["scaled"]),
        helper.make_node("Unsqueeze", ["scaled", "one"], ["expression_intensity"]),
    ]
    constants.append(onnx.numpy_helper.from_array(np.asarray([1], np.int64), "one"))
    return _model(nodes, {"face_tokens": (8, WIDTH), "face_mask": (8,)}, {"expression_intensity": (1,)}, constants)


def _model(nodes: list[Any], inputs: Any, outputs: Any, constants: list[Any]) -> bytes:
    import onnx
    from onnx import helper

    def info(tensors: dict[str, tuple[int, ...]]) -> list[Any]:
        return [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *row])
            for name, row in tensors.items()
        ]

    graph = helper.make_graph(nodes, "small", info(inputs), info(outputs), constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
