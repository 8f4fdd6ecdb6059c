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
from emert_edge.errors import EmertError
from emert_edge.reference.configuration import face_input
from emert_edge.reference.emert import HEAD_OUTPUTS, Emert

__all__ = [
    "IR_VERSION",
    "OPSET",
    "TOLERANCE",
    "ExportFailed",
    "GraphReport",
    "GraphSpec",
    "HeadGraph",
    "Parts",
    "check_parity",
    "emert_parts",
    "export_graphs",
    "export_parts",
    "require_finite",
]

OPSET = 18
IR_VERSION = 10
"""The newest that ONNX Runtime 1.18 reads, and that can be had on Python 3.10."""
TOLERANCE = 1e-5
BATCHES = (1, 3, 8)
_EXAMPLE_BATCH = 2


class ExportFailed(EmertError):
    """A graph came out of the exporter that is not what the model is."""


class GraphReport(NamedTuple):
    """One exported graph."""

    role: Role
    onnx: bytes
    largest_difference: float
    """Largest absolute difference from PyTorch over all outputs and batches, relative to 1 or the output's size; of
    the head also behind the encoders' graphs, from the whole model."""


class GraphSpec(NamedTuple):
    """One part of a model that becomes a graph."""

    module: nn.Module
    """Takes the inputs by position, gives the outputs as a tensor or a tuple of tensors."""
    inputs: Mapping[str, tuple[int, ...]]
    """Shapes without the batch."""
    outputs: Mapping[str, tuple[int, ...]]


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


def _random_inputs(spec: GraphSpec, batch: int, rng: np.random.Generator, missing: str = "") -> dict[str, Any]:
    inputs: dict[str, npt.NDArray[np.float32]] = {}
    for name, shape in spec.inputs.items():
        if name.endswith("_mask"):
            values = (rng.random((batch, *shape)) < 0.6).astype(np.float32)
            if missing in (name, "all"):
                values[:] = 0
        else:
            values = rng.standard_normal((batch, *shape)).astype(np.float32)
        inputs[name] = values
    return inputs


def _exported(role: Role, spec: GraphSpec) -> bytes:
    rng = np.random.default_rng(0)
    example = _random_inputs(spec, _EXAMPLE_BATCH, rng)
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


def _check_form(role: Role, spec: GraphSpec, data: bytes) -> None:
    """Opset, IR version, names, element types and axes, read back from the file."""
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
    for kind, values, wanted in (
        ("input", proto.graph.input, spec.inputs),
        ("output", proto.graph.output, spec.outputs),
    ):
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


def _session(data: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _difference(got: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> float:
    if got.shape != wanted.shape or not np.isfinite(got).all():
        return float("inf")
    return float(np.abs(got - wanted).max() / max(1.0, float(np.abs(wanted).max())))


def _compare(
    role: Role, got: Mapping[str, npt.NDArray[np.float32]], wanted: Mapping[str, Tensor], circumstances: str
) -> float:
    """Largest difference over the outputs; `ExportFailed` where it is more than it may be."""
    worst = 0.0
    for name, values in got.items():
        difference = _difference(values, wanted[name].numpy())
        if not difference <= TOLERANCE:
            raise ExportFailed(
                f"{role}: output {name} differs from PyTorch by {difference:.2e} {circumstances}; "
                f"at most {TOLERANCE:g} is allowed"
            )
        worst = max(worst, difference)
    return worst


def _run(session: Any, inputs: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, npt.NDArray[np.float32]]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _check_graph(role: Role, spec: GraphSpec, session: Any, rng: np.random.Generator) -> float:
    """One graph beside its module: at every batch, with random masks, and with each modality missing."""
    masks = [name for name in spec.inputs if name.endswith("_mask")]
    worst = 0.0
    for batch in BATCHES:
        for missing in ["", *masks, "all"] if masks else [""]:
            inputs = _random_inputs(spec, batch, rng, missing)
            wanted = spec.module(*(torch.from_numpy(inputs[name]) for name in spec.inputs))
            wanted = dict(zip(spec.outputs, (wanted,) if isinstance(wanted, Tensor) else wanted, strict=True))
            circumstances = f"at batch {batch}" + (f" without {missing}" if missing else "")
            worst = max(worst, _compare(role, _run(session, inputs), wanted, circumstances))
    return worst


def _check_chain(parts: Parts, sessions: Mapping[Role, Any], rng: np.random.Generator) -> float:
    """All graphs in a row beside the whole model, at every batch; each row of it lacks something else."""
    head = parts.graphs["head"]
    masks = [name for name in head.inputs if name.endswith("_mask")]
    encoded = {f"{role.split('_')[0]}_tokens": role for role in sessions if role != "head"}
    worst = 0.0
    for batch in BATCHES:
        inputs = _random_inputs(head, batch, rng)
        for row in range(batch) if masks else ():
            lacking = ["", *masks, "all"][(row + batch) % (len(masks) + 2)]
            for name in masks:
                inputs[name][row] *= lacking not in (name, "all")
        whole = {name: torch.from_numpy(values) for name, values in inputs.items() if name not in encoded}
        for name, role in encoded.items():
            ((source, shape),) = parts.graphs[role].inputs.items()
            tokens, width = head.inputs[name]
            pictures = rng.standard_normal((batch * tokens, *shape), np.float32)
            inputs[name] = _run(sessions[role], {source: pictures})[name[:-1]].reshape(batch, tokens, width)
            whole[source] = torch.from_numpy(pictures.reshape(batch, tokens, *shape))
        circumstances = f"at batch {batch}, behind the encoders' graphs"
        worst = max(worst, _compare("head", _run(sessions["head"], inputs), parts.whole(whole), circumstances))
    return worst


def check_parity(parts: Parts, graphs: Mapping[Role, bytes], *, seed: int = 0) -> dict[Role, float]:
    """Largest difference of each graph from PyTorch, and of all in a row, at batches 1, 3 and 8.

    Masks are random, and each modality is missing once.

    Raises
    ------
    ExportFailed
        If one exceeds `TOLERANCE`, or an output is not finite.
    """
    rng = np.random.default_rng(seed)
    sessions = {role: _session(graphs[role]) for role in parts.graphs}
    with torch.no_grad():
        found = {role: _check_graph(role, spec, sessions[role], rng) for role, spec in parts.graphs.items()}
        found["head"] = max(found["head"], _check_chain(parts, sessions, rng))
    return found


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
        _check_form(role, spec, data)
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
