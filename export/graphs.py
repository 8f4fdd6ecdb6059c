"""The ONNX graphs of one model, each checked before it may be called one.

Exporters fail silently: a time axis specialises to the example's length, an opset is written that nobody asked for, a
batch is frozen into a reshape. So nothing is taken on trust here: opset, IR version, names, types and axes of every
graph are read back, its outputs are held against PyTorch's at batches that the example did not have, and so are those
of all graphs in a row against the whole model's.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from emert_edge.bundle.manifest import FixationInput, Role
from emert_edge.reference.configuration import face_input
from emert_edge.reference.emert import HEAD_OUTPUTS, Emert

from .failure import ExportFailed
from .form import IR_VERSION, OPSET, Shapes, check_form
from .parity import Answers, GraphReport, Reference, compare, drawn_inputs

__all__ = [
    "TOLERANCE",
    "GraphSpec",
    "HeadGraph",
    "Parts",
    "check_parity",
    "emert_parts",
    "export_graphs",
    "export_parts",
    "require_finite",
]

TOLERANCE = 1e-5
_EXAMPLE_BATCH = 2

FloatArray = npt.NDArray[np.float32]


class GraphSpec(NamedTuple):
    """One part of a model that becomes a graph."""

    module: nn.Module
    """Takes the inputs by position, gives the outputs as a tensor or a tuple of tensors."""
    inputs: Shapes
    outputs: Shapes


class Parts(NamedTuple):
    """A model as its graphs, and as a whole."""

    graphs: dict[Role, GraphSpec]
    whole: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    """The model's answers, by the names of the head's outputs. It is given the head's inputs, but in the place of
    `face_tokens` the `frame` of each, (batch, tokens, …), and of `fixation_tokens` the `fused` of each."""


class HeadGraph(nn.Module):
    """A head with its inputs by position and its outputs as a tuple, in the graph's order."""

    def __init__(self, head: nn.Module, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.head = head
        self.inputs = inputs
        self.outputs = outputs

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Tensors in the order of `inputs` to tensors in the order of `outputs`."""
        answers = self.head(**dict(zip(self.inputs, tensors, strict=True)))
        return tuple(answers[name] for name in self.outputs)


def emert_parts(model: Emert) -> Parts:
    """The graphs of the dual-task EMERT, and itself."""
    config = model.config
    faces, spans, width = config.face_tokens, config.eye_tokens, config.token_width
    outputs: dict[str, tuple[int, ...]] = {}
    for task in ("emotion", "expression"):
        outputs[f"{task}_logits"] = (config.classes,)
        outputs[f"{task}_polarity_logits"] = (config.polarities,)
        outputs[f"{task}_valence_arousal"] = (2,)
    outputs["expression_intensity"] = (1,)
    if config.reactions:
        outputs["reactions"] = (config.reactions,)
    names = tuple(name for name in (*HEAD_OUTPUTS, "reactions") if name in outputs)
    shapes: dict[str, tuple[int, ...]] = {
        "face_tokens": (faces, width),
        "eye_tokens": (spans, config.eye_features),
        "gaze_points": (spans, 2),
        "fixation_tokens": (faces, width),
    }
    shapes |= {name.replace("tokens", "mask"): shape[:1] for name, shape in shapes.items() if name != "gaze_points"}
    graphs: dict[Role, GraphSpec] = {
        "face_encoder": GraphSpec(
            model.face_encoder,
            {"frame": (3, *face_input(config.size).size)},
            {"face_token": (width,), "expression_logits": (config.classes,)},
        )
    }
    if model.fixation_encoder is not None:
        fused = {"fused": (4, *FixationInput().size)}
        graphs["fixation_encoder"] = GraphSpec(model.fixation_encoder, fused, {"fixation_token": (width,)})
    taken = model.head.input_names
    graphs["head"] = GraphSpec(
        HeadGraph(model.head, taken, names),
        {name: shapes[name] for name in taken},
        {name: outputs[name] for name in names},
    )

    def whole(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        rest = {name: value for name, value in inputs.items() if name not in ("frame", "fused")}
        answers: dict[str, Tensor] = model(inputs["frame"], fused_frames=inputs.get("fused"), **rest)
        return answers

    return Parts(graphs, whole)


def _exported(role: Role, spec: GraphSpec) -> bytes:
    rng = np.random.default_rng(0)
    example = drawn_inputs(spec.inputs, _EXAMPLE_BATCH, rng)
    axes = {name: {0: torch.export.Dim("batch")} for name in spec.inputs}
    spec.module.eval()
    arguments = tuple(torch.from_numpy(example[name]) for name in spec.inputs)
    dynamic: Any = (tuple(axes.values()),) if role == "head" else tuple(axes.values())  # *inputs is one argument
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # The exporter's own copies of nodes and its use of deprecated pytree calls are none of a user's business.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                spec.module,
                arguments,
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                input_names=list(spec.inputs),
                output_names=list(spec.outputs),
                dynamic_shapes=dynamic,
                optimize=True,
                verbose=False,
            )
    except Exception as error:  # whatever torch raises, and it raises much: the user needs the first line
        raise ExportFailed(f"{role}: torch could not export it ({str(error).splitlines()[0]})") from error
    finally:
        quiet.setLevel(level)
    if program is None:
        raise ExportFailed(f"{role}: torch returned no graph")
    proto = _slimmed(role, program.model_proto)
    proto.ir_version = min(proto.ir_version, IR_VERSION)
    proto.producer_name, proto.producer_version, proto.doc_string = "emert_edge", "", ""
    for node in proto.graph.node:  # paths of the exporting machine and stack traces do not belong into a bundle
        node.doc_string = ""
        del node.metadata_props[:]
    del proto.graph.metadata_props[:]
    del proto.metadata_props[:]
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]
    proto.graph.name = f"emert_{role}"
    return bytes(proto.SerializeToString())


def _slimmed(role: Role, proto: Any) -> Any:
    import onnx
    import onnxslim

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        slim = onnxslim.slim(proto)
    if slim is None:
        raise ExportFailed(f"{role}: onnxslim returned no graph")
    return onnx.shape_inference.infer_shapes(slim, strict_mode=True)


def _answers(spec: GraphSpec) -> Answers:
    def answers(values: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        given = spec.module(*(torch.from_numpy(values[name]) for name in spec.inputs))
        tensors = (given,) if isinstance(given, Tensor) else given
        return {name: tensor.numpy() for name, tensor in zip(spec.outputs, tensors, strict=True)}

    return answers


def _reference(parts: Parts) -> Reference:
    def whole(values: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        answers = parts.whole({name: torch.from_numpy(value) for name, value in values.items()})
        return {name: tensor.numpy() for name, tensor in answers.items()}

    return Reference("PyTorch", {role: _answers(spec) for role, spec in parts.graphs.items()}, whole)


def check_parity(parts: Parts, graphs: Mapping[Role, bytes], *, seed: int = 0) -> dict[Role, float]:
    """Largest difference of each graph from PyTorch, and of all in a row, at batches 1, 3 and 8.

    Masks are random, and each modality is missing once.

    Raises
    ------
    ExportFailed
        If one exceeds `TOLERANCE`, or an output is not finite.
    """
    with torch.no_grad():
        found = compare(graphs, _reference(parts), TOLERANCE, seed=seed)
    return {role: parity.largest_difference for role, parity in found.items()}


def export_parts(parts: Parts) -> dict[Role, GraphReport]:
    """Export every graph of a model in FP32, and check them.

    Parameters
    ----------
    parts : Parts
        The modules are put into evaluation mode.

    Returns
    -------
    dict
        A `GraphReport` for each role.

    Raises
    ------
    ExportFailed
        If the exporter fails, or what it wrote is not the model.
    """
    for spec in parts.graphs.values():
        spec.module.eval()
    graphs: dict[Role, bytes] = {}
    for role, spec in parts.graphs.items():
        data = _exported(role, spec)
        check_form(role, spec.inputs, spec.outputs, data)
        graphs[role] = data
    parity = check_parity(parts, graphs)
    return {role: GraphReport(role, graphs[role], parity[role]) for role in graphs}


def require_finite(model: nn.Module) -> None:
    """Raise `ExportFailed` with the name of the first tensor that holds NaN or an infinity."""
    for name, value in model.state_dict().items():
        if not torch.isfinite(value).all():
            raise ExportFailed(f"tensor {name} holds values that are not finite; the model cannot be exported")


def export_graphs(model: Emert) -> dict[Role, GraphReport]:
    """Export the graphs of a dual-task EMERT in FP32: both encoders and the head, or without a fixation encoder.

    Parameters
    ----------
    model : Emert
        Is put into evaluation mode.

    Returns
    -------
    dict
        A `GraphReport` for each role.

    Raises
    ------
    TypeError
        If `model` is not an `Emert`.
    ExportFailed
        If a tensor is not finite, the exporter fails, or what it wrote is not the model.
    """
    if not isinstance(model, Emert):
        raise TypeError(f"model must be an Emert, not {type(model).__name__}")
    require_finite(model)
    return export_parts(emert_parts(model.eval()))
