"""Three ONNX graphs out of one model, each checked before it may be called one.

Exporters fail silently: a time axis specialises to the example's length, an opset is written that nobody asked for, a
batch is frozen into a reshape. So nothing is taken on trust here: opset, IR version, names, types and axes of every
graph are read back, and its outputs are held against PyTorch's at batches that the example did not have.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from emert_edge.bundle.manifest import ROLES, Role
from emert_edge.errors import EmertError
from emert_edge.reference.emert import HEAD_OUTPUTS, Emert
from emert_edge.reference.plan import FACE, FIXATION

__all__ = ["IR_VERSION", "OPSET", "TOLERANCE", "ExportFailed", "GraphReport", "check_parity", "export_graphs"]

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
    """Largest absolute difference from PyTorch over all outputs and batches, relative to 1 or the output's size."""


class _HeadOutputs(nn.Module):
    """The head with its outputs as a tuple, in the graph's order."""

    def __init__(self, head: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.head = head
        self.names = names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = self.head(*inputs)
        return tuple(outputs[name] for name in self.names)


class _Spec(NamedTuple):
    module: nn.Module
    inputs: dict[str, tuple[int, ...]]
    """Shapes without the batch."""
    outputs: dict[str, tuple[int, ...]]


def _specs(model: Emert) -> dict[Role, _Spec]:
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
    return {
        "face_encoder": _Spec(
            model.face_encoder,
            {"frame": (3, *FACE.size)},
            {"face_token": (width,), "expression_logits": (config.classes,)},
        ),
        "fixation_encoder": _Spec(model.fixation_encoder, {"fused": (4, *FIXATION.size)}, {"fixation_token": (width,)}),
        "head": _Spec(
            _HeadOutputs(model.head, names),
            {
                "face_tokens": (faces, width),
                "face_mask": (faces,),
                "eye_tokens": (spans, config.eye_features),
                "eye_mask": (spans,),
                "fixation_tokens": (faces, width),
                "fixation_mask": (faces,),
            },
            {name: outputs[name] for name in names},
        ),
    }


def _random_inputs(spec: _Spec, batch: int, rng: np.random.Generator, missing: str = "") -> dict[str, Any]:
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


def _exported(role: Role, spec: _Spec) -> bytes:

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


def _check_form(role: Role, spec: _Spec, data: bytes) -> None:
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


def check_parity(model: Emert, graphs: Mapping[Role, bytes], *, seed: int = 0) -> dict[Role, float]:
    """Largest difference of each graph from PyTorch, at batches 1, 3 and 8, with random masks and missing modalities.

    Raises
    ------
    ExportFailed
        If one exceeds `TOLERANCE`, or an output is not finite.
    """
    rng = np.random.default_rng(seed)
    found: dict[Role, float] = {}
    for role, spec in _specs(model).items():
        session = _session(graphs[role])
        spec.module.eval()
        worst = 0.0
        cases = ["", "face_mask", "eye_mask", "fixation_mask", "all"] if role == "head" else [""]
        for batch in BATCHES:
            for missing in cases:
                inputs = _random_inputs(spec, batch, rng, missing)
                with torch.no_grad():
                    wanted = spec.module(*(torch.from_numpy(inputs[name]) for name in spec.inputs))
                if isinstance(wanted, Tensor):
                    wanted = (wanted,)
                for name, got, tensor in zip(spec.outputs, session.run(None, inputs), wanted, strict=True):
                    difference = _difference(got, tensor.numpy())
                    if not difference <= TOLERANCE:
                        raise ExportFailed(
                            f"{role}: output {name} differs from PyTorch by {difference:.2e} at batch {batch}"
                            f"{f' without {missing}' if missing else ''}; at most {TOLERANCE:g} is allowed"
                        )
                    worst = max(worst, difference)
        found[role] = worst
    return found


def export_graphs(model: Emert) -> dict[Role, GraphReport]:
    """Export the three graphs of a model in FP32.

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
        If the exporter fails, or what it wrote is not the model.
    """
    if not isinstance(model, Emert):
        raise TypeError(f"model must be an Emert, not {type(model).__name__}")
    for name, value in model.state_dict().items():
        if not torch.isfinite(value).all():
            raise ExportFailed(f"tensor {name} holds values that are not finite; the model cannot be exported")
    model.eval()
    specs = _specs(model)
    graphs: dict[Role, bytes] = {}
    for role in ROLES:
        data = _exported(role, specs[role])
        _check_form(role, specs[role], data)
        graphs[role] = data
    parity = check_parity(model, graphs)
    return {role: GraphReport(role, graphs[role], parity[role]) for role in ROLES}
