"""Quantization from the model to the quantized model with its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx

from edgecc.errors import EdgeccError, printable
from edgecc.ir.types import Array
from edgecc.quantization.correct import CORRECTED, corrected
from edgecc.quantization.equalize import equalized
from edgecc.quantization.insert import Decisions, insert
from edgecc.quantization.network import Network
from edgecc.quantization.observe import Observer, Samples, observe
from edgecc.quantization.points import WEIGHTED, Group, Points, Weights, find_points
from edgecc.quantization.ranges import choose
from edgecc.quantization.report import ValueReport, measure, rows
from edgecc.quantization.rounding import Moments, can_round, round_adaptively
from edgecc.quantization.scheme import TYPES, Parameters, Scheme, parameters_of
from edgecc.quantization.statistics import ChannelMean, Extent, Histogram
from edgecc.quantization.weights import QuantizedWeights, least_scales, round_weights, weight_scales

REPORT_SAMPLES = 16
"""Samples that the error of the quantized model is measured on."""

Progress = Callable[[str, int], Callable[[], None]]
"""Called with what begins and how many steps it has; returns what to call after each step."""


@dataclass(frozen=True)
class Quantized:
    """A quantized model.

    Attributes:
        model: with QuantizeLinear and DequantizeLinear. network: the float model it was made of.
        values: the error of each quantized value. outputs: decibels of signal to noise of each output.
        notes: what the user should know.
    """

    model: onnx.ModelProto
    network: Network
    values: tuple[ValueReport, ...]
    outputs: Mapping[str, float]
    notes: tuple[str, ...]


def no_progress(what: str, steps: int) -> Callable[[], None]:
    """Shows nothing."""
    return lambda: None


def quantize(network: Network, data: Samples, scheme: Scheme, progress: Progress = no_progress, *,
             least_ratio: float | None = None) -> Quantized:
    """Quantizes a prepared network (see prepare.py).

    Args:
        least_ratio: decibels of signal to noise that every output shall have: as long as one has less, the values with
            the coarsest scales are widened to 16 bits, and where all are wide, the layers with the coarsest weights
            are left in float.
    Raises: EdgeccError E001 where a node to exclude is not there, or nothing can be quantized.
    """
    _check_names(network, scheme)
    notes = []
    if scheme.equalize:
        network, pairs = equalized(network)
        notes.append(f"{pairs} pair{'s' if pairs != 1 else ''} of layers equalized")
    points = find_points(network, scheme.exclude, scheme.wide)
    calibration = _Calibration(network, points, scheme, data, progress)
    samples = [sample for sample, _ in zip(data, range(REPORT_SAMPLES), strict=False)]
    while True:
        if not points.groups:
            raise EdgeccError("E001", "the model has no operator that is quantized" if least_ratio is None else
                              "nothing is left to quantize", hint="Conv, Gemm, MatMul, Add and the like on float32 are")
        decisions = calibration.decisions(points, scheme)
        model = insert(network, points, decisions)
        noises = measure(network, Network(model), points.activations, samples, progress("comparing", len(samples)))
        values = rows(network, points, decisions, calibration.histograms, noises)
        worst = min(noises[name].ratio for name in network.outputs)
        if least_ratio is None or worst >= least_ratio:
            break
        scheme = _finer(scheme, values)
        points = find_points(network, scheme.exclude, scheme.wide)
    if least_ratio is not None:
        notes.append(f"{len(scheme.wide)} results in 16 bits and {len(scheme.exclude)} layers in float, for {least_ratio:g} dB at every output")
    return Quantized(model, network, values, {name: noises[name].ratio for name in network.outputs}, tuple(notes))


def _finer(scheme: Scheme, values: Sequence[ValueReport]) -> Scheme:
    """The scheme with the coarsest sixth of what is still 8 bits widened, or, where all is, left in float."""
    narrow = sorted((v for v in values if v.computed_by not in scheme.wide), key=lambda v: v.own)
    if narrow:
        return replace(scheme, wide=scheme.wide | {v.computed_by for v in narrow[:max(1, len(values) // 6)]})
    coarse = sorted((v for v in values if v.computed_by not in scheme.exclude), key=lambda v: v.own if v.weights is None else v.weights)
    chosen = coarse[:max(1, len(values) // 6)]
    return replace(scheme, exclude=scheme.exclude | {name for v in chosen for name in (v.computed_by, v.layer)})


def _check_names(network: Network, scheme: Scheme) -> None:
    names = {node.name for node in network.nodes} | set(network.inputs)
    unknown = sorted((scheme.exclude | scheme.wide) - names)
    if unknown:
        raise EdgeccError("E001", f"the model has no node {printable(unknown[0])!r}",
                          hint=f"its nodes are called {', '.join(printable(n) for n in sorted(names)[:4])} ...")


class _Calibration:
    """The statistics of a network's values, and what follows from them."""

    def __init__(self, network: Network, points: Points, scheme: Scheme, data: Samples, progress: Progress) -> None:
        self.network = network
        self.means: dict[str, ChannelMean] = {}
        self.moments: dict[str, Moments] = {}
        extents = {name: Extent() for name in points.activations}
        first: dict[str, list[Observer]] = {name: [extent] for name, extent in extents.items()}
        for weights in points.weights:
            operand = weights.node.input[0]
            if scheme.correct_bias and weights.node.op_type in CORRECTED:
                self.means[operand] = self.means.get(operand) or ChannelMean()
            if scheme.round_adaptively and can_round(network, weights.node):
                self.moments[weights.node.name] = Moments(network, weights.node)
        for name, mean in self.means.items():
            first.setdefault(name, []).append(mean)
        for weights in points.weights:
            if weights.node.name in self.moments:
                first.setdefault(weights.node.input[0], []).append(self.moments[weights.node.name])
        observe(network, data, first, progress("finding ranges", len(data)))
        self.histograms = _empty_histograms(points, extents)
        observe(network, data, {name: [histogram] for name, histogram in self.histograms.items()}, progress("counting", len(data)))

    def decisions(self, points: Points, scheme: Scheme) -> Decisions:
        """Parameters of all values, weights and biases. `points` may leave out what was calibrated, not add to it."""
        parameters: dict[str, Parameters] = {}
        for group in points.groups:
            chosen = self._parameters(group, scheme)
            parameters |= dict.fromkeys(group.values, chosen)
        weights: dict[str, QuantizedWeights] = {}
        biases: dict[str, Array] = {}
        for own in points.weights:
            rounded = self._weights(own, scheme, parameters[own.node.input[0]])
            weights[own.name] = rounded
            bias = self._bias(own, rounded)
            if bias is not None:
                biases[own.node.name] = bias
        return Decisions(parameters, weights, biases)

    def _parameters(self, group: Group, scheme: Scheme) -> Parameters:
        integer = TYPES["int16" if group.wide else scheme.activations]
        symmetric = scheme.symmetric or group.wide
        if group.limits is not None:
            return parameters_of(*group.limits, integer, symmetric=symmetric)
        joined = Histogram(self.histograms[group.values[0]].lowest, self.histograms[group.values[0]].highest)
        for name in group.values:
            joined.counts = joined.counts + self.histograms[name].counts
        return choose(joined, scheme, integer, symmetric=symmetric)

    def _weights(self, own: Weights, scheme: Scheme, operand: Parameters) -> QuantizedWeights:
        array = self.network.constants[own.name]
        least = None
        if own.bias is not None and scheme.per_channel and own.node.op_type != "ConvTranspose":
            least = least_scales(self.network.constants[own.bias].reshape(-1), operand.scale)
            least = least if least.size == array.shape[own.axis] else None
        scales = weight_scales(array, own.axis, per_channel=scheme.per_channel, least=least)
        moments = self.moments.get(own.node.name)
        if moments is not None:
            return round_adaptively(array, own.axis, scales, moments.mean)
        return round_weights(array, own.axis, scales)

    def _bias(self, own: Weights, rounded: QuantizedWeights) -> Array | None:
        mean = self.means.get(own.node.input[0])
        if mean is not None and own.node.op_type in CORRECTED and mean.mean.size and (own.bias is not None or not _has_bias(own)):
            return corrected(self.network, own.node, rounded, mean.mean)
        return None if own.bias is None else self.network.constants[own.bias].astype("float64")


def _empty_histograms(points: Points, extents: Mapping[str, Extent]) -> dict[str, Histogram]:
    """A histogram for each value, over the range of its group."""
    found: dict[str, Histogram] = {}
    for group in points.groups:
        ranges = [extents[name].range for name in group.values]
        low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
        found |= {name: Histogram(low, high) for name in group.values}
    return found


def _has_bias(own: Weights) -> bool:
    position = WEIGHTED[own.node.op_type][1]
    return position is not None and len(own.node.input) > position and bool(own.node.input[position])

