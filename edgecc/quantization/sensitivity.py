"""What each layer's own quantization does to the outputs: noise is injected in one layer at a time.

A copy of the network has, behind every value that is quantized, the sum of this value and a further input. Fed with what rounding
does to that value, or with what rounded weights do to that layer's sums, and with zeros everywhere else, it shows how much of the
noise of one source arrives at the outputs. So one more network is compiled, not one for each layer. Errors of several sources
are taken to be independent, so that their powers add up (Lin, Talathi and Annapureddy, "Fixed point quantization of deep
convolutional networks", 2016, section 3, whose additivity this is).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgecc.frontend.importing import import_model_with_report
from edgecc.ir.graph import Graph
from edgecc.ir.types import Array
from edgecc.quantization.insert import Decisions
from edgecc.quantization.network import Network
from edgecc.quantization.observe import Progress, Runner, Sample, runner
from edgecc.quantization.points import MOVEMENT, WEIGHTED, Points
from edgecc.quantization.report import Noise, decibels
from edgecc.reference.executor import execute


@dataclass(frozen=True)
class Source:
    """One source of noise.

    Attributes:
        kind: "rounding", of the value itself, or "weights".
        value: where it is injected: a quantized value, or the sums of a layer.
        node: the node that is widened, or left in float, to be rid of it; the name of an input of the network for its rounding.
        noise: power at the outputs over the power of the outputs, the largest of all outputs.
    """

    kind: str
    value: str
    node: str
    noise: float

    @property
    def ratio(self) -> float:
        """Decibels of signal to noise if this were the only source."""
        return decibels(1.0, self.noise)


def sources_of(network: Network, points: Points) -> tuple[Source, ...]:
    """The sources of a network, with no noise yet. Values that are only moved bring none of their own."""
    found = []
    for name in points.activations:
        producer = network.producers.get(name)
        if name in network.constants or (producer is not None and producer.op_type in MOVEMENT):
            continue
        found.append(Source("rounding", name, name if producer is None else producer.name, 0.0))
    found += [Source("weights", w.node.output[0], w.node.name, 0.0) for w in points.weights]
    return tuple(found)


def sensitivities(network: Network, points: Points, decisions: Decisions, samples: Sequence[Sample], observe: Runner,
                  progress: Progress) -> tuple[Source, ...]:
    """Every source with its noise, the worst first.

    Args: observe: returns the quantized values of the float network, and what layers with weights read.
    """
    sources = sources_of(network, points)
    errors = _Errors(network, points, decisions)
    places = tuple(dict.fromkeys(s.value for s in sources if s.value not in network.inputs))
    injected = {name: f"{name}__added" for name in places}
    noises = {(s.kind, s.value): {name: Noise() for name in network.outputs} for s in sources}
    built = progress("building the network to rank layers in", 1)
    with runner(_injecting(network, injected)) as run:
        built()
        advance = progress("ranking layers", len(samples) * len(sources))
        for sample in samples:
            seen = {**sample, **observe(sample)}
            added = errors.of(seen)
            zeros = {injected[name]: np.zeros(network.types[name][1], np.float32) for name in places}
            wanted = {name: seen[name] for name in network.outputs}
            for source in sources:
                if source.kind == "weights":
                    error = np.asarray(added[source.value], np.float32)
                else:
                    value = seen[source.value]
                    error = np.asarray(decisions.parameters[source.value].round_trip(value) - value, np.float32)
                if source.value in network.inputs:
                    feeds = {**sample, **zeros, source.value: np.asarray(sample[source.value] + error, np.float32)}
                else:
                    feeds = {**sample, **zeros, injected[source.value]: error.reshape(network.types[source.value][1])}
                got = run(feeds)
                for name in network.outputs:
                    noises[source.kind, source.value][name].add(wanted[name], got[name])
                advance()
    ranked = [Source(s.kind, s.value, s.node, max(_relative(n) for n in noises[s.kind, s.value].values())) for s in sources]
    return tuple(sorted(ranked, key=lambda s: (-s.noise, s.kind, s.value)))


def _relative(noise: Noise) -> float:
    return noise.noise / noise.signal if noise.signal > 0 else (0.0 if noise.noise == 0 else np.inf)


class _Errors:
    """What the rounded weights and bias of each layer add to its sums: the layers alone, each with the differences for weights.

    There are only a few samples, and nothing else is ever run with these weights, so the reference executes them.
    """

    def __init__(self, network: Network, points: Points, decisions: Decisions) -> None:
        self.network = network
        self.initializers: list[onnx.TensorProto] = []
        self.results: dict[str, str] = {}
        nodes: list[onnx.NodeProto] = []
        operands: dict[str, None] = {}
        for own in points.weights:
            node, position = own.node, WEIGHTED[own.node.op_type][1]
            difference = decisions.weights[own.name].real - network.constants[own.name].astype(np.float64)
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name, result = f"{node.name}__error", f"{node.output[0]}__error"
            inputs = [node.input[0], self._store(f"{node.output[0]}__weights", difference)]
            bias = self._bias_error(node, position, decisions)
            if bias is not None:
                inputs.append(self._store(f"{node.output[0]}__bias", bias))
            del copy.input[:], copy.output[:]
            copy.input.extend(inputs)
            copy.output.append(result)
            nodes.append(copy)
            operands[node.input[0]] = None
            self.results[node.output[0]] = result
        self.operands = tuple(operands)
        self.graph = self._graph(nodes) if nodes else None

    def of(self, seen: Sample) -> Sample:
        """By the name of the sums, from what layers read."""
        if self.graph is None:
            return {}
        found = execute(self.graph, {name: np.asarray(seen[name]) for name in self.operands})
        return {name: found[result] for name, result in self.results.items()}

    def _bias_error(self, node: onnx.NodeProto, position: int | None, decisions: Decisions) -> Array | None:
        """What a corrected bias adds, or None where the bias stays."""
        if position is None or node.name not in decisions.biases:
            return None
        corrected = np.atleast_1d(decisions.biases[node.name])
        present = len(node.input) > position and node.input[position] in self.network.constants
        own = np.atleast_1d(self.network.constants[node.input[position]]) if present else np.zeros(1)
        return np.asarray(corrected - own)

    def _store(self, name: str, array: Array) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    def _graph(self, nodes: Sequence[onnx.NodeProto]) -> Graph:
        def port(name: str, like: str) -> onnx.ValueInfoProto:
            code, dims = self.network.types[like]
            return helper.make_tensor_value_info(name, code, dims)

        graph = helper.make_graph(nodes, "errors", [port(name, name) for name in self.operands],
                                  [port(result, name) for name, result in self.results.items()], self.initializers)
        model = helper.make_model(graph, opset_imports=self.network.model.opset_import, ir_version=self.network.model.ir_version)
        return import_model_with_report(model)[0]


def _injecting(network: Network, injected: Mapping[str, str]) -> onnx.ModelProto:
    """The network with an input for each value of `injected` that is added to it."""
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    del model.graph.node[:]
    for node in network.nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.output[:] = [f"{name}__clean" if name in injected else name for name in node.output]
        model.graph.node.append(copy)
        model.graph.node.extend(helper.make_node("Add", [f"{name}__clean", injected[name]], [name], name=f"{name}__add")
                                for name in node.output if name in injected)
    for name, port in injected.items():
        code, dims = network.types[name]
        model.graph.input.append(helper.make_tensor_value_info(port, code, dims))
    del model.graph.value_info[:]
    return model
