"""Graphs beside what they must equal, on random inputs: at several batches, whatever is missing, alone and in a row.

What they must equal is PyTorch's model for FP32 graphs, and the FP32 graphs for those of another precision. Nothing
here needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from emert_edge.bundle.manifest import Precision, Role

from .failure import ExportFailed
from .form import Shapes

__all__ = [
    "BATCHES",
    "Answers",
    "GraphReport",
    "OpenGraph",
    "Parity",
    "Reference",
    "chained",
    "compare",
    "difference",
    "drawn_inputs",
]

BATCHES = (1, 3, 8)
_KINDS = {"tensor(float)": "float32"}

FloatArray = npt.NDArray[np.float32]
Answers = Callable[[Mapping[str, FloatArray]], Mapping[str, FloatArray]]
"""What a graph or a whole model answers: inputs by name to outputs by name."""


class GraphReport(NamedTuple):
    """One exported graph."""

    role: Role
    onnx: bytes
    largest_difference: float
    """Largest absolute difference over all outputs and batches, relative to 1 or the output's size: from PyTorch for
    FP32, from FP32 for another precision; of the head also behind the encoders' graphs."""
    precision: Precision = "fp32"

    @property
    def file(self) -> str:
        """The graph's name in a bundle."""
        return f"{self.role}.{self.precision}.onnx"


class Reference(NamedTuple):
    """What graphs are held against."""

    name: str
    graphs: Mapping[Role, Answers]
    whole: Answers
    """All in a row: takes the head's inputs, but in the place of `face_tokens` the `frame` of each, (batch, tokens, …),
    and of `fixation_tokens` the `fused` of each."""


class Parity(NamedTuple):
    """How near a graph comes to its reference."""

    largest_difference: float
    rows: int
    labelled: int
    """Rows with logits among their outputs."""
    agreeing: int
    """Of these, those in which every output of logits has its largest value where the reference has it."""


class OpenGraph:
    """A graph in ONNX Runtime, on one thread of the CPU.

    Attributes
    ----------
    inputs, outputs : dict of str to tuple of int
        Shapes without the batch.
    kinds : dict of str to str
        Element types of both, as NumPy names them.
    """

    def __init__(self, data: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self.inputs = {value.name: tuple(value.shape[1:]) for value in inputs}
        self.outputs = {value.name: tuple(value.shape[1:]) for value in outputs}
        self.kinds = {value.name: _KINDS.get(value.type, value.type) for value in (*inputs, *outputs)}

    def __call__(self, values: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Outputs by name."""
        return dict(zip(self.outputs, self._session.run(list(self.outputs), dict(values)), strict=True))


def drawn_inputs(shapes: Shapes, batch: int, rng: np.random.Generator, missing: str = "") -> dict[str, FloatArray]:
    """Draw inputs: masks of zeros and ones, and of zeros alone for the one that is `missing` or for "all"."""
    inputs: dict[str, FloatArray] = {}
    for name, shape in shapes.items():
        if name.endswith("_mask"):
            values = (rng.random((batch, *shape)) < 0.6).astype(np.float32)
            if missing in (name, "all"):
                values[:] = 0
        else:
            values = rng.standard_normal((batch, *shape)).astype(np.float32)
        inputs[name] = values
    return inputs


def _tokens(role: Role) -> str:
    """What the head calls an encoder's tokens."""
    return f"{role.partition('_')[0]}_tokens"


def chained(graphs: Mapping[Role, OpenGraph]) -> Answers:
    """The encoders' graphs and the head's in a row, taking what `Reference.whole` takes."""

    def answers(values: Mapping[str, FloatArray]) -> Mapping[str, FloatArray]:
        inputs = dict(values)
        for role, graph in graphs.items():
            if role != "head":
                ((source, shape),) = graph.inputs.items()
                pictures = inputs.pop(source)
                token = graph({source: pictures.reshape(-1, *shape)})[_tokens(role)[:-1]]
                inputs[_tokens(role)] = token.reshape(*pictures.shape[:2], -1)
        return graphs["head"](inputs)

    return answers


def difference(got: FloatArray, wanted: FloatArray) -> float:
    """The largest difference, relative to 1 or the largest value; infinite for another shape or what is no number."""
    if got.shape != wanted.shape or not np.isfinite(got).all():
        return float("inf")
    return float(np.abs(got - wanted).max() / max(1.0, float(np.abs(wanted).max())))


class _Tally:
    """The differences of one graph, summed up as they come."""

    def __init__(self, role: Role, reference: str, tolerance: float) -> None:
        self.role, self.reference, self.tolerance = role, reference, tolerance
        self.worst, self.rows, self.labelled, self.agreeing = 0.0, 0, 0, 0

    def add(self, got: Mapping[str, FloatArray], wanted: Mapping[str, FloatArray], circumstances: str) -> None:
        """Take in one run; `ExportFailed` where an output differs by more than it may."""
        agree = np.ones(len(next(iter(got.values()))), np.bool_)
        for name, values in got.items():
            apart = difference(values, wanted[name])
            if not apart <= self.tolerance:
                raise ExportFailed(
                    f"{self.role}: output {name} differs from {self.reference} by {apart:.2e} {circumstances}; "
                    f"at most {self.tolerance:g} is allowed"
                )
            self.worst = max(self.worst, apart)
            if name.endswith("_logits"):
                agree &= values.argmax(1) == wanted[name].argmax(1)
        self.rows += len(agree)
        if any(name.endswith("_logits") for name in got):
            self.labelled += len(agree)
            self.agreeing += int(agree.sum())

    def parity(self) -> Parity:
        return Parity(self.worst, self.rows, self.labelled, self.agreeing)


def _add_alone(tally: _Tally, graph: OpenGraph, wanted: Answers, rng: np.random.Generator) -> None:
    """One graph beside its reference: at every batch, with random masks, and with each modality missing."""
    masks = [name for name in graph.inputs if name.endswith("_mask")]
    for batch in BATCHES:
        for missing in ["", *masks, "all"] if masks else [""]:
            inputs = drawn_inputs(graph.inputs, batch, rng, missing)
            circumstances = f"at batch {batch}" + (f" without {missing}" if missing else "")
            tally.add(graph(inputs), wanted(inputs), circumstances)


def _add_in_a_row(tally: _Tally, graphs: Mapping[Role, OpenGraph], whole: Answers, rng: np.random.Generator) -> None:
    """All graphs in a row beside the whole model, at every batch; each row of it lacks something else."""
    head, together = graphs["head"], chained(graphs)
    masks = [name for name in head.inputs if name.endswith("_mask")]
    for batch in BATCHES:
        inputs = drawn_inputs(head.inputs, batch, rng)
        for row in range(batch) if masks else ():
            lacking = ["", *masks, "all"][(row + batch) % (len(masks) + 2)]
            for name in masks:
                inputs[name][row] *= lacking not in (name, "all")
        for role, graph in graphs.items():
            if role != "head":
                ((source, shape),) = graph.inputs.items()
                tokens = inputs.pop(_tokens(role)).shape[1]
                inputs[source] = rng.standard_normal((batch, tokens, *shape), np.float32)
        tally.add(together(inputs), whole(inputs), f"at batch {batch}, behind the encoders' graphs")


def compare(
    graphs: Mapping[Role, bytes], reference: Reference, tolerance: float, *, seed: int = 0
) -> dict[Role, Parity]:
    """Hold each graph, and all in a row, against a reference: at batches 1, 3 and 8.

    Masks are random, and each modality is missing once.

    Parameters
    ----------
    graphs : mapping of role to bytes
        ONNX files; the head among them.
    reference : Reference
        With the same roles.
    tolerance : float
        What a difference may be at most, relative to 1 or the output's size.

    Raises
    ------
    ExportFailed
        If a difference exceeds `tolerance`, or an output is not finite.
    """
    rng = np.random.default_rng(seed)
    opened = {role: OpenGraph(data) for role, data in graphs.items()}
    tallies = {role: _Tally(role, reference.name, tolerance) for role in opened}
    for role, graph in opened.items():
        _add_alone(tallies[role], graph, reference.graphs[role], rng)
    _add_in_a_row(tallies["head"], opened, reference.whole, rng)
    return {role: tally.parity() for role, tally in tallies.items()}
