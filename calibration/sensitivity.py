"""How much each quantised layer's result differs from the float graph's: signal over noise, in decibels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx

from .layers import Reading, read_layers
from .ranges import Inputs, batches_of, open_with_outputs

__all__ = ["LayerNoise", "layer_noise"]


@dataclass(frozen=True)
class LayerNoise:
    """One layer's signal-to-noise ratio over all samples; what the layers before it added is part of the noise."""

    layer: str
    decibels: float
    """10 log10 of the result's mean square over the mean square of its error; infinite without any error."""


def layer_noise(
    model: onnx.ModelProto,
    quantised: onnx.ModelProto,
    inputs: Inputs,
    *,
    keep_float: Iterable[str] = (),
    threads: int = 1,
) -> tuple[LayerNoise, ...]:
    """Run a float graph and the quantised one made of it beside each other.

    Parameters
    ----------
    inputs : mapping
        The graphs' inputs, `(samples, …)` float32.
    keep_float : iterable of str
        Names of layers that stayed float, which are left out.

    Returns
    -------
    tuple of LayerNoise
        In the order of the graph. A layer's result is what it gives on: behind its ReLU and its Q/DQ pair.
    """
    layers, _ = read_layers(model, keep_float)
    reading = Reading(quantised.graph)
    wanted = [layer.result for layer in layers]
    given = [_given_on(reading, name) for name in wanted]
    float_session = open_with_outputs(model, wanted, threads)
    session = open_with_outputs(quantised, given, threads)
    signal, noise = np.zeros(len(layers)), np.zeros(len(layers))
    for part in batches_of(inputs):
        pairs = zip(float_session.run(wanted, part), session.run(given, part), strict=True)
        for index, (true, found) in enumerate(pairs):
            signal[index] += np.square(true, dtype=np.float64).sum()
            noise[index] += np.square(true - found, dtype=np.float64).sum()
    return tuple(
        LayerNoise(layer.name, _decibels(signal[index], noise[index])) for index, layer in enumerate(layers)
    )  # fmt: skip


def _given_on(reading: Reading, tensor: str) -> str:
    for node in reading.consumers.get(tensor, []):
        if node.op_type == "QuantizeLinear":
            return str(reading.consumers[node.output[0]][0].output[0])
    return tensor


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
