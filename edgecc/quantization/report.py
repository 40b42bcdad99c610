"""How far the quantized model is from the float one, value by value, and why.

For each quantized value: the signal-to-noise ratio that its own scale allows, that of the layer's weights, and the ratio
that is found when the whole quantized model runs. From these follows the cause.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgecc.ir.types import Array
from edgecc.quantization.floors import Floors
from edgecc.quantization.insert import Decisions
from edgecc.quantization.network import Network
from edgecc.quantization.observe import Runner, Sample
from edgecc.quantization.points import Points
from edgecc.quantization.ranges import errors
from edgecc.quantization.statistics import Histogram

CLOSE = 3.0
"""Decibels within which one cause explains an error."""


@dataclass(frozen=True)
class ValueReport:
    """The error of one value.

    Attributes:
        name: of the value; computed_by: the node it is a result of, or itself for an input of the model. layer, operator: the node that began the computation, which
            an activation that belongs to it may have ended.
        own: decibels of signal to noise that its scale allows; clipping: the share of that noise that is clipping.
        weights: decibels of signal to noise of the layer's weights; None where it has none.
        total: decibels found in the running quantized model.
        cause: "clipping", "scale" (rounding of the value itself), "weights" or "inherited" (from the layers before).
    """

    name: str
    computed_by: str
    layer: str
    operator: str
    own: float
    clipping: float
    weights: float | None
    total: float
    cause: str


class Noise:
    """Power of a signal and of the difference from it."""

    def __init__(self) -> None:
        self.signal = 0.0
        self.noise = 0.0

    def add(self, wanted: Array, got: Array) -> None:
        """Looks at one sample; places where the signal is not finite are left out."""
        reference = wanted.astype(np.float64)
        difference = got.astype(np.float64) - reference
        finite = np.isfinite(reference) & np.isfinite(difference)
        self.signal += float((reference[finite] ** 2).sum())
        self.noise += float((difference[finite] ** 2).sum())

    @property
    def ratio(self) -> float:
        """Decibels of signal to noise."""
        return decibels(self.signal, self.noise)


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise): infinite without noise, minus infinite without signal."""
    if noise <= 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def measure(network: Network, inside: Mapping[str, str], run: Runner, run_quantized: Runner, samples: Sequence[Sample],
            progress: Callable[[], None], ends: Mapping[str, tuple[float, float]]) -> Mapping[str, Noise]:
    """The noise of values of the quantized model and of its outputs, by the names that the float model gives them.

    Args:
        inside: the values, and what they are called in the quantized model (`dequantized_names`). run, run_quantized: return them.
        ends: of values that lose nothing by being clipped there, which is no noise then.
    """
    everything = [*inside, *(name for name in network.outputs if name not in inside)]
    found = {name: Noise() for name in everything}
    floors = Floors(network)
    for sample in samples:
        reference, results = {**sample, **run(sample)}, run_quantized(sample)
        for name in everything:
            wanted = floors.raised(name, reference)
            got = results[inside.get(name, name)]
            if name in ends:
                wanted, got = np.clip(wanted, *ends[name]), np.clip(got, *ends[name])
            elif wanted is not reference[name]:
                got = np.maximum(got, wanted.min(initial=np.inf))
            found[name].add(wanted, got)
        progress()
    return found


def dequantized_names(network: Network, quantized: Network, names: Sequence[str]) -> Mapping[str, str]:
    """What those of the values `names` that the network computes are called in the quantized model."""
    return {name: _dequantized(quantized, name) for name in names if name in network.producers}


def _dequantized(quantized: Network, name: str) -> str:
    """The name of the dequantized form of a value in the quantized model."""
    if name in quantized.outputs:
        return name
    quantize = next(node for node in quantized.readers[name] if node.op_type == "QuantizeLinear")
    return str(quantized.readers[quantize.output[0]][0].output[0])


def rows(network: Network, points: Points, decisions: Decisions, histograms: Mapping[str, Histogram],
         noises: Mapping[str, Noise]) -> tuple[ValueReport, ...]:
    """One row for each quantized value, in the order of the network."""
    weights = {w.node.output[0]: _weights_ratio(network, decisions, w.name) for w in points.weights if w.name in decisions.weights}
    out = []
    for name in points.activations:
        producer, noise = network.producers.get(name), noises.get(name)
        if name in network.constants or (producer is not None and noise is None):
            continue
        histogram = histograms[name]
        rounding, clipping = errors(histogram, decisions.parameters[name])
        power = float((histogram.counts * histogram.centres**2).sum() / max(1.0, float(histogram.counts.sum())))
        own = decibels(power, rounding + clipping)
        share = clipping / (rounding + clipping) if rounding + clipping > 0 else 0.0
        if producer is None or noise is None:
            out.append(ValueReport(name, name, name, "input", own, share, None, own, _cause(own, share, None, own)))
            continue
        layer = producer
        while layer.output[0] not in weights and layer.input and layer.input[0] in points.inner:
            layer = network.producers[layer.input[0]]
        ratio = weights.get(layer.output[0])
        out.append(ValueReport(name, producer.name, layer.name, layer.op_type, own, share, ratio, noise.ratio,
                               _cause(own, share, ratio, noise.ratio)))
    return tuple(out)


def _weights_ratio(network: Network, decisions: Decisions, name: str) -> float:
    wanted = network.constants[name].astype(np.float64)
    return decibels(float((wanted**2).sum()), float(((decisions.weights[name].real - wanted) ** 2).sum()))


def _cause(own: float, clipping: float, weights: float | None, total: float) -> str:
    """The largest source of noise of a value that explains what was found."""
    if own <= total + CLOSE and (weights is None or own <= weights):
        return "clipping" if clipping > 0.5 else "scale"
    if weights is not None and weights <= total + CLOSE:
        return "weights"
    return "inherited"
