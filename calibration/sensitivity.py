"""How much each quantised layer's result differs from the float graph's, and how much of that is its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx

from .layers import Reading, read_layers
from .ranges import Inputs, batches_of, open_with_outputs

__all__ = ["LayerNoise", "layer_noise"]


@dataclass(frozen=True)
class LayerNoise:
    """One layer's noise over all samples: the mean square of an activation's error over that of the activation."""

    layer: str
    taken: float
    """Of what the layer takes: what the layers before it added."""
    given: float
    """Of what it gives, behind its ReLU."""

    @property
    def decibels(self) -> float:
        """Signal-to-noise ratio of what it gives; infinite without any error."""
        return -10 * math.log10(self.given) if self.given > 0 else math.inf

    @property
    def added(self) -> float:
        """What quantising this layer adds: the noise that it gives and did not take."""
        return self.given - self.taken


def layer_noise(
    model: onnx.ModelProto,
    quantised: onnx.ModelProto,
    inputs: Inputs,
    *,
    threads: int = 1,
) -> tuple[LayerNoise, ...]:
    """Run a float graph and the quantised one made of it beside each other; layers that stayed float are left out.

    Parameters
    ----------
    inputs : mapping
        The graphs' inputs, `(samples, …)` float32.

    Returns
    -------
    tuple of LayerNoise
        In the order of the graph.
    """
    before, after = Reading(model.graph), Reading(quantised.graph)
    in_integers = {
        node.name
        for node in quantised.graph.node
        if len(node.input) > 1 and after.is_made_by(node.input[1], "DequantizeLinear")
    }
    layers = [layer for layer in read_layers(model)[0] if layer.name in in_integers]
    wanted = list(dict.fromkeys(name for layer in layers for name in (layer.source, layer.result)))
    found = [_counterpart(before, after, name) for name in wanted]
    float_session = open_with_outputs(model, wanted, threads)
    session = open_with_outputs(quantised, found, threads)
    signal, error = np.zeros(len(wanted)), np.zeros(len(wanted))
    for part in batches_of(inputs):
        float_values = _run(float_session, wanted, part)
        values = _run(session, found, part)
        for index, (true, tested) in enumerate(zip(float_values, values, strict=True)):
            signal[index] += np.square(true, dtype=np.float64).sum()
            error[index] += np.square(true - tested, dtype=np.float64).sum()
    ratio = dict(zip(wanted, error / np.maximum(signal, np.finfo(np.float64).tiny), strict=True))
    return tuple(LayerNoise(layer.name, float(ratio[layer.source]), float(ratio[layer.result])) for layer in layers)


def _counterpart(before: Reading, after: Reading, tensor: str) -> str:
    """The tensor of a quantised graph that is this one of the float graph.

    It has the same name, unless the node that made it was merged into the pair behind it, as a ReLU is for a CPU.
    """
    same = before.producer.get(tensor), after.producer.get(tensor)
    if same[0] is None or (same[1] is not None and same[0].name == same[1].name):
        return tensor
    for node in after.consumers[tensor]:
        if node.op_type == "QuantizeLinear":
            return str(after.consumers[node.output[0]][0].output[0])
    return tensor


def _run(session: object, names: list[str], part: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs by name; an input of the graph stands for itself."""
    computed = [name for name in names if name not in part]
    values = dict(zip(computed, session.run(computed, part), strict=True)) | part  # type: ignore[attr-defined]
    return [values[name] for name in names]
