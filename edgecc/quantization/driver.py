"""Quantization from the model to the quantized model with its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx

from edgecc.api import resolve_target
from edgecc.errors import EdgeccError, printable
from edgecc.ir.types import Array
from edgecc.quantization.accuracy import NO_GOAL, Goal, check_classes, top_class
from edgecc.quantization.correct import CORRECTED, corrected
from edgecc.quantization.costs import Costs, modelled_cycles
from edgecc.quantization.equalize import equalized
from edgecc.quantization.headroom import fills, returned_values, with_headroom
from edgecc.quantization.insert import Decisions, insert
from edgecc.quantization.mixed import LayerChoice, Repair, chosen_repairs, layer_choices, repaired, repairs
from edgecc.quantization.network import Network
from edgecc.quantization.observe import Observer, Progress, Runner, Sample, Samples, observe, watched
from edgecc.quantization.points import WEIGHTED, Group, Points, Weights, find_points
from edgecc.quantization.ranges import choose
from edgecc.quantization.report import ValueReport, dequantized_names, measure, rows
from edgecc.quantization.rounding import Moments, can_round, round_adaptively
from edgecc.quantization.scheme import TYPES, IntegerType, Parameters, Scheme, parameters_of
from edgecc.quantization.sensitivity import Source, sensitivities
from edgecc.quantization.statistics import ChannelMean, Extent, Histogram
from edgecc.quantization.told_apart import ranges_told_apart
from edgecc.quantization.uneven import uneven_concatenations
from edgecc.quantization.weights import QuantizedWeights, least_scales, round_weights, weight_scales
from edgecc.targets.schema import Target

REPORT_SAMPLES = 16
"""Samples that the error of the quantized model is measured on."""

SENSITIVITY_SAMPLES = 4
"""Samples that each layer's noise is followed to the outputs on."""

STEP = 0.6
"""What noise is allowed in the next attempt, times that in the last one."""


@dataclass(frozen=True)
class Quantized:
    """A quantized model.

    Attributes:
        model: with QuantizeLinear and DequantizeLinear. network: the float model it was made of.
        values: the error of each quantized value. outputs: decibels of signal to noise of each output.
        notes: what the user should know.
        sources: what each layer's own quantization does to the outputs, the worst first; () if nobody asked.
        layers: the precision of each layer, and why. scores: mean scores of the float model and of this one, where they were asked for.
    """

    model: onnx.ModelProto
    network: Network
    values: tuple[ValueReport, ...]
    outputs: Mapping[str, float]
    notes: tuple[str, ...]
    sources: tuple[Source, ...] = ()
    layers: tuple[LayerChoice, ...] = ()
    scores: tuple[float, float] | None = None


def no_progress(what: str, steps: int) -> Callable[[], None]:
    """Shows nothing."""
    return lambda: None


def quantize(network: Network, data: Samples, scheme: Scheme, progress: Progress = no_progress, *, goal: Goal = NO_GOAL,
             validation: Samples | None = None, target: Target | None = None, rank: bool = False,
             not_slower: bool = False) -> Quantized:
    """Quantizes a prepared network (see prepare.py).

    Args:
        goal: what the model must reach. As long as it does not, values are widened to 16 bits and layers left in float, the
            cheapest for what it gains first (edgecc/quantization/mixed.py).
        validation: samples that scores are measured on, if not the calibration data.
        target: whose cost model says what a repair costs; by default this machine.
        not_slower: whether layers that the cost model expects to be slower in 8 bits than in float stay in float: all of them, if so, and where `goal` wants that.
        rank: whether to find out what each layer does to the outputs even if nothing needs repair.
    Raises: EdgeccError E001 where a node to exclude is not there, nothing can be quantized, nothing that is quantized is good enough, or classes are
        to be right and the first output has none.
    """
    _check_names(network, scheme)
    if goal.most_drop is not None and goal.metric is None:
        check_classes(network.types[network.outputs[0]][1])
    notes = []
    if scheme.equalize:
        network, pairs = equalized(network)
        notes.append(f"{pairs} pair{'s' if pairs != 1 else ''} of layers equalized")
    points = find_points(network, scheme.exclude, scheme.wide)
    with watched(network, (*points.activations, *(w.node.input[0] for w in points.weights)), progress, "the float network") as run:
        calibration = _Calibration(network, points, scheme, data, run, progress)
        points, scheme = calibration.points, calibration.scheme
        if scheme.apart:
            notes.append(f"{len(scheme.apart)} concatenation{'s' if len(scheme.apart) != 1 else ''} in float, as what is joined has very different ranges")
        samples = [sample for sample, _ in zip(data, range(REPORT_SAMPLES), strict=False)]
        judge = _Judge(network, run, goal, samples, data if validation is None else validation, progress)
        machine = resolve_target("host") if target is None else target
        asked = scheme
        slower: tuple[str, ...] = ()
        if not_slower and points.groups:
            slow = calibration.costs(points, scheme, machine).slower
            faster = repaired(network, points, scheme, [Repair("float", name, 0.0, 0.0) for name in slow])
            if slow:
                scheme, slower = faster, slow
                notes.append(f"{len(slow)} layer{'s' if len(slow) != 1 else ''} in float, because 8 bits are modelled to be slower there")
        if not points.groups:
            raise EdgeccError("E001", "the model has no operator that is quantized", hint="Conv, Gemm, MatMul, Add and the like on float32 are")
        first = found = _Attempt(network, calibration, scheme, judge)
        sources: tuple[Source, ...] = ()
        if rank or not found.good:
            sources = sensitivities(network, first.points, first.decisions, samples[:SENSITIVITY_SAMPLES], run, progress)
        possible: tuple[Repair, ...] = ()
        if not found.good:
            costs = calibration.costs(first.points, scheme, machine)
            possible = repairs(network, sources, costs, scheme)
            total = sum(source.noise for source in sources)
            # A score gives no number to aim at: from half of the noise on, a little less each time. Decibels say what share of the noise may stay.
            wanted = total * (0.5 if goal.least_ratio is None or found.worst >= goal.least_ratio else 10 ** ((found.worst - goal.least_ratio) / 10))
            chosen: tuple[Repair, ...] = ()
            while not found.good:
                if len(chosen) == len(possible):
                    raise EdgeccError("E001", "not even with 16 bits and float wherever that helps does the model reach what is asked of it: "
                                      f"it comes to {judge.reached(found.worst, found.score)}", hint="ask for less, or leave it in float")
                previous, chosen = chosen, chosen_repairs(possible, total, wanted)
                wanted *= STEP
                if chosen != previous:
                    found = _Attempt(network, calibration, repaired(network, first.points, scheme, chosen), judge)
                    if not (found.points.groups or not_slower):
                        raise EdgeccError("E001", "what is asked of the model leaves nothing in 8 or 16 bits", hint="ask for less, or leave it in float")
            notes.append(f"{sum(r.precision == 'int16' for r in chosen)} results in 16 bits and {sum(r.precision == 'float' for r in chosen)} layers in float "
                         "to reach what was asked for")
            possible = chosen
    layers = layer_choices(network, found.points, found.scheme, sources, possible, asked=asked, slower=slower)
    return Quantized(found.model, network, found.values, found.ratios, tuple(notes), sources, layers, judge.scores(found.score))


class _Judge:
    """Measures a quantized model against what it must reach."""

    def __init__(self, network: Network, run: Runner, goal: Goal, samples: Sequence[Sample], validation: Samples, progress: Progress) -> None:
        self.network, self.run, self.goal, self.samples, self.validation, self.progress = network, run, goal, samples, validation, progress
        self.metric = goal.metric or top_class
        self.float_score: float | None = None

    def score(self, run_quantized: Runner) -> float | None:
        """The mean score of a quantized model, or None where nobody asked."""
        goal = self.goal
        if goal.most_drop is None:
            return None
        advance, own, wanted, count = self.progress("measuring accuracy", len(self.validation)), 0.0, 0.0, 0
        for position, sample in enumerate(self.validation):
            label = None if goal.labels is None else goal.labels[position]
            results = self.run(sample)
            reference = {name: results[name] for name in self.network.outputs}
            got = run_quantized(sample)
            finished, right = self._finished(sample, {name: got[name] for name in reference}), self._finished(sample, reference)
            own += self.metric(finished, right, label)
            if self.float_score is None:
                wanted += self.metric(right, right, label)
            count += 1
            advance()
        if self.float_score is None:
            self.float_score = wanted / max(1, count)
        return own / max(1, count)

    def _finished(self, sample: Sample, results: Sample) -> Sample:
        """What the metric looks at."""
        return results if self.goal.finish is None else self.goal.finish(sample, results)

    def scores(self, score: float | None) -> tuple[float, float] | None:
        """The scores of the float model and of a quantized one."""
        return None if score is None or self.float_score is None else (self.float_score, score)

    def reached(self, worst: float, score: float | None) -> str:
        """What was asked for, and what a model comes to, in words."""
        goal, parts = self.goal, []
        if goal.least_ratio is not None:
            parts.append(f"{worst:.1f} dB at its worst output where {goal.least_ratio:.1f} are asked for")
        if goal.most_drop is not None and score is not None and self.float_score is not None:
            parts.append(f"a score {100 * (self.float_score - score):.2f} points below the float model's where {100 * goal.most_drop:.2f} are allowed")
        return " and ".join(parts)

    def accepts(self, worst: float, score: float | None) -> bool:
        """Whether decibels at the worst output and a score are good enough."""
        goal = self.goal
        if goal.least_ratio is not None and worst < goal.least_ratio:
            return False
        return goal.most_drop is None or score is None or self.float_score is None or self.float_score - score <= goal.most_drop + 1e-12


class _Attempt:
    """The network quantized by a scheme, and how good that is."""

    def __init__(self, network: Network, calibration: _Calibration, scheme: Scheme, judge: _Judge) -> None:
        self.scheme = scheme
        self.points = find_points(network, scheme.exclude, scheme.wide, scheme.apart)
        self.decisions = calibration.decisions(self.points, scheme)
        self.model = insert(network, self.points, self.decisions)
        quantized = Network(self.model)
        inside = dequantized_names(network, quantized, self.points.activations)
        with watched(quantized, tuple(inside.values()), judge.progress, "the quantized network") as run:
            noises = measure(network, inside, judge.run, run, judge.samples, judge.progress("comparing", len(judge.samples)),
                             calibration.told_apart)
            self.score = judge.score(run)
        self.values = rows(network, self.points, self.decisions, calibration.histograms, noises)
        self.ratios = {name: noises[name].ratio for name in network.outputs}
        self.worst = min(self.ratios.values())
        self.good = judge.accepts(self.worst, self.score)


def _check_names(network: Network, scheme: Scheme) -> None:
    names = {node.name for node in network.nodes} | set(network.inputs)
    unknown = sorted((scheme.exclude | scheme.wide) - names)
    if unknown:
        raise EdgeccError("E001", f"the model has no node {printable(unknown[0])!r}",
                          hint=f"its nodes are called {', '.join(printable(n) for n in sorted(names)[:4])} ...")


class _Calibration:
    """The statistics of a network's values, and what follows from them.

    Attributes:
        points, scheme: those given, less what ranges do not allow to share a scale.
        returned: values that nothing is clipped off (headroom.py). told_apart: ranges of those that are clipped without a loss (told_apart.py).
    """

    def __init__(self, network: Network, points: Points, scheme: Scheme, data: Samples, run: Runner, progress: Progress) -> None:
        self.network = network
        self.means: dict[str, ChannelMean] = {}
        self.moments: dict[str, Moments] = {}
        # Several schemes are tried, which differ in types and in what is left out, never in how a range is chosen.
        self._chosen: dict[tuple[tuple[str, ...], IntegerType, bool], Parameters] = {}
        self._adaptive: dict[tuple[str, bytes], QuantizedWeights] = {}
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
        observe(network, run, data, first, progress("finding ranges", len(data)))
        self.scheme = replace(scheme, apart=uneven_concatenations(network, points, extents))
        self.points = find_points(network, scheme.exclude, scheme.wide, self.scheme.apart)
        self.returned = returned_values(network)
        ranges = {name: with_headroom(extent) if name in self.returned else extent.range for name, extent in extents.items()}
        for group in self.points.groups:
            if group.limits is not None:
                ranges |= {name: (max(ranges[name][0], group.limits[0]), min(ranges[name][1], group.limits[1])) for name in group.values}
        self.told_apart = ranges_told_apart(network, self.points, ranges)
        self.histograms = _empty_histograms(self.points, {**ranges, **self.told_apart})
        observe(network, run, data, {name: [histogram] for name, histogram in self.histograms.items()}, progress("counting", len(data)))

    def costs(self, points: Points, scheme: Scheme, target: Target) -> Costs:
        """Modelled cycles of each layer in 8 bits, in 16 and in float."""
        narrow, wide = (insert(self.network, points, self.decisions(points, own)) for own in (scheme, replace(scheme, activations="int16")))
        return Costs(*(modelled_cycles(model, target) for model in (narrow, wide, self.network.model)))

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
        returned = not self.returned.isdisjoint(group.values)
        histogram = self.histograms[group.values[0]]
        if group.limits is not None and fills(group.limits, (histogram.lowest, histogram.highest), returned=returned):
            return parameters_of(*group.limits, integer, symmetric=symmetric)
        if returned:
            return parameters_of(histogram.lowest, histogram.highest, integer, symmetric=symmetric)
        key = (group.values, integer, symmetric)
        if key not in self._chosen:
            self._chosen[key] = choose(self._joined(group), scheme, integer, symmetric=symmetric)
        return self._chosen[key]

    def _joined(self, group: Group) -> Histogram:
        joined = Histogram(self.histograms[group.values[0]].lowest, self.histograms[group.values[0]].highest)
        for name in group.values:
            joined.counts = joined.counts + self.histograms[name].counts
        return joined

    def _weights(self, own: Weights, scheme: Scheme, operand: Parameters) -> QuantizedWeights:
        array = self.network.constants[own.name]
        least = None
        if own.bias is not None and scheme.per_channel and own.node.op_type != "ConvTranspose":
            least = least_scales(self.network.constants[own.bias].reshape(-1), operand.scale)
            least = least if least.size == array.shape[own.axis] else None
        scales = weight_scales(array, own.axis, per_channel=scheme.per_channel, least=least)
        moments = self.moments.get(own.node.name)
        if moments is not None:
            key = (own.node.name, scales.tobytes())
            if key not in self._adaptive:
                self._adaptive[key] = round_adaptively(array, own.axis, scales, moments.mean)
            return self._adaptive[key]
        return round_weights(array, own.axis, scales)

    def _bias(self, own: Weights, rounded: QuantizedWeights) -> Array | None:
        mean = self.means.get(own.node.input[0])
        if mean is not None and own.node.op_type in CORRECTED and mean.mean.size and (own.bias is not None or not _has_bias(own)):
            return corrected(self.network, own.node, rounded, mean.mean)
        return None if own.bias is None else self.network.constants[own.bias].astype("float64").reshape(-1)


def _empty_histograms(points: Points, ranges: Mapping[str, tuple[float, float]]) -> dict[str, Histogram]:
    """A histogram for each value, over the range of its group."""
    found: dict[str, Histogram] = {}
    for group in points.groups:
        low, high = min(ranges[name][0] for name in group.values), max(ranges[name][1] for name in group.values)
        found |= {name: Histogram(low, high) for name in group.values}
    return found


def _has_bias(own: Weights) -> bool:
    position = WEIGHTED[own.node.op_type][1]
    return position is not None and len(own.node.input) > position and bool(own.node.input[position])

