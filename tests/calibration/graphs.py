"""Small graphs made by hand, with drawn weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx


class GraphMaker:
    """Nodes and weights of a graph, one call each; the weights are drawn."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def constant(self, name: str, value: Any) -> str:
        self.weights.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(onnx.helper.make_node(kind, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def conv(self, source: str, name: str, width_in: int, width: int, side: int = 3, stride: int = 1) -> str:
        scale = np.sqrt(2 / (width_in * side * side))
        weight = self.rng.normal(0, scale, (width, width_in, side, side)) * self.rng.uniform(0.3, 2, (width, 1, 1, 1))
        inputs = [
            source,
            self.constant(f"{name}_w", weight.astype(np.float32)),
            self.constant(f"{name}_b", self.rng.normal(0, 0.1, width).astype(np.float32)),
        ]
        return self.node("Conv", inputs, name, strides=[stride] * 2, pads=[side // 2] * 4)

    def gemm(self, source: str, name: str, width_in: int, width: int) -> str:
        weight = self.rng.normal(0, 1 / np.sqrt(width_in), (width, width_in)).astype(np.float32)
        bias = self.rng.normal(0, 0.1, width).astype(np.float32)
        return self.node(
            "Gemm", [source, self.constant(f"{name}_w", weight), self.constant(f"{name}_b", bias)], name, transB=1
        )

    def model(self, inputs: dict[str, list[Any]], outputs: dict[str, str], opset: int = 18) -> Any:
        """`outputs`: what each graph output is called, and the tensor it is."""
        for node in self.nodes:
            for index, name in enumerate(node.output):
                for called, tensor in outputs.items():
                    if name == tensor:
                        node.output[index] = called
            for index, name in enumerate(node.input):
                for called, tensor in outputs.items():
                    if name == tensor:
                        node.input[index] = called
        values = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            self.nodes,
            "made",
            [values(name, onnx.TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            [values(name, onnx.TensorProto.FLOAT, None) for name in outputs],
            self.weights,
        )
        made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)
        whole = onnx.shape_inference.infer_shapes(made)
        onnx.checker.check_model(whole)
        return whole


def centred(model: Any, output: str, inputs: dict[str, np.ndarray]) -> None:
    """Move, in place, a Gemm's bias so that each of its outputs is 0 in the mean: all classes then occur."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (values,) = session.run([output], inputs)
    (node,) = (node for node in model.graph.node if node.output[0] == output)
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == node.input[2])
    moved = onnx.numpy_helper.to_array(bias) - values.mean(0)
    bias.CopyFrom(onnx.numpy_helper.from_array(moved.astype(np.float32), bias.name))


def small_bundle(pictures: list[np.ndarray], *, own_head: bool = True) -> tuple[Any, dict[str, bytes], list[str]]:
    """Manifest and files of a bundle around `residual_network`, and what its FP32 graphs say of pictures.

    `own_head`: whether the face encoder has an expression head; the authors' checkpoints have none.
    """
    from emert_edge.bundle.manifest import FaceInput, FileEntry, Graph, Labels, Manifest, Training
    from emert_edge.recognizer import write_whole_faces
    from emert_edge.simulation import EXPRESSIONS

    classes = EXPRESSIONS[:5]
    face = FaceInput(size=(16, 16), color="bgr")
    frames = np.empty((len(pictures), 3, 16, 16), np.float32)
    write_whole_faces(frames, pictures, face)
    network = residual_network()
    centred(network, "face_token", {"frame": frames})
    centred(network, "expression_logits", {"frame": frames})
    make = GraphMaker(4)
    mean = make.node("ReduceMean", ["face_tokens", make.constant("axes", np.array([1]))], "mean", keepdims=0)
    logits = make.gemm(mean, "said", 12, 5)
    head = make.model({"face_tokens": ["batch", 8, 12]}, {"expression_logits": logits})
    if not own_head:
        while network.graph.node[-1].output[0] != "face_token":
            network.graph.node.pop()
        network.graph.output.pop()
    files = {"face.onnx": network.SerializeToString(), "head.onnx": head.SerializeToString(), "card.md": b""}
    manifest = Manifest(
        name="small", version="1", token_width=12, profile="published", face=face,
        labels=Labels(emotion=None, expression=classes, polarity=None),
        training=Training(data=("none",)), licence="Apache-2.0",
        graphs=(
            Graph(role="face_encoder", precision="fp32", file="face.onnx"),
            Graph(role="head", precision="fp32", file="head.onnx"),
        ),
        files={name: FileEntry(sha256="0" * 64, size=0) for name in files},
    )  # fmt: skip
    if not own_head:
        return manifest, files, []
    import onnxruntime

    session = onnxruntime.InferenceSession(files["face.onnx"], providers=["CPUExecutionProvider"])
    (values,) = session.run(["expression_logits"], {"frame": frames})
    return manifest, files, [classes[index] for index in values.argmax(1)]


def residual_network(seed: int = 0) -> Any:
    """ResNet in small: a stem with a pooling, a block with an identity, one with a projection, a token and logits."""
    make = GraphMaker(seed)
    x = make.node("Relu", [make.conv("frame", "stem", 3, 8)], "stem_relu")
    x = make.node("MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    a = make.node("Relu", [make.conv(x, "one_a", 8, 8)], "one_relu_a")
    b = make.node("Add", [make.conv(a, "one_b", 8, 8), x], "one_add")
    x = make.node("Relu", [b], "one_relu")
    shortcut = make.conv(x, "two_project", 8, 16, side=1, stride=2)
    a = make.node("Relu", [make.conv(x, "two_a", 8, 16, stride=2)], "two_relu_a")
    b = make.node("Add", [shortcut, make.conv(a, "two_b", 16, 16)], "two_add")
    x = make.node("Relu", [b], "two_relu")
    x = make.node("ReduceMean", [x, make.constant("axes", np.array([2, 3]))], "mean", keepdims=0)
    token = make.gemm(x, "project", 16, 12)
    logits = make.gemm(make.node("Relu", [token], "token_relu"), "classify", 12, 5)
    return make.model({"frame": ["batch", 3, 16, 16]}, {"face_token": token, "expression_logits": logits})
