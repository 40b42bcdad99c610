"""The part of a range that readers tell apart: beyond it a function of one value is flat.

HardSwish makes 0 of everything below -3, Sigmoid 1 of everything above 9, x * Sigmoid(x) next to 0 of what is below -8. A convolution in front
of them may well reach -40, and steps that hold this as well are several times as wide as those that are needed. Clipping commutes with
whatever only moves elements, so a value may be moved on the way to the function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgecc.frontend.importing import import_model_with_report
from edgecc.ir.types import Array
from edgecc.quantization.network import Network
from edgecc.quantization.points import MOVEMENT, Points
from edgecc.reference.executor import execute

Range = tuple[float, float]

SHARE = 2.0**-12
"""What a function may change by, of all that it returns within the range of its operand, and still be called flat: a sixteenth of a step of 8 bits."""

PLACES = 4096
"""Where a function is evaluated, evenly spread over the range."""

MAX_NODES = 16
"""Operators that a function is made of at most."""

FUNCTIONS = frozenset({"Add", "Sub", "Mul", "Div", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "Mish", "Relu", "Sigmoid", "Softplus", "Softsign", "Tanh"})
"""Operators that compute each element of their result from the same element of their operands, as far as these are one value and single constants."""


def ranges_told_apart(network: Network, points: Points, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """For each quantized value that is clipped without a loss: the ends, which hold 0. `ranges`: of all quantized values."""
    parts = _Parts(network)
    found = {}
    for name in points.activations:
        low, high = ranges[name]
        lower, upper = parts.of(name, ranges[name])
        if lower > low or upper < high:
            found[name] = (max(low, lower), min(high, upper))
    return found


class _Parts:
    def __init__(self, network: Network) -> None:
        self.network = network
        self._known: dict[tuple[str, Range], Range] = {}

    def of(self, name: str, whole: Range) -> Range:
        """The part of a value's range that all of its readers together tell apart."""
        if (name, whole) not in self._known:
            self._known[name, whole] = self._found(name, whole)
        return self._known[name, whole]

    def _found(self, name: str, whole: Range) -> Range:
        if name in self.network.outputs:
            return whole
        parts = [self.of(result, whole) for node in self.network.readers.get(name, ()) if node.op_type in MOVEMENT for result in node.output if result]
        nodes = self._function(name)
        others = [node for node in self.network.readers.get(name, ()) if node.op_type not in MOVEMENT]
        if others:
            if not all(node.name in nodes for node in others):
                return whole
            parts.append(_Function(self.network, name, list(nodes.values())).part(whole))
        return (min(p[0] for p in parts), max(p[1] for p in parts)) if parts else whole

    def _function(self, name: str) -> dict[str, onnx.NodeProto]:
        """The operators, by their names and in order, whose results depend on each element of a value alone."""
        nodes: dict[str, onnx.NodeProto] = {}
        known = [name]
        for value in known:  # grows on the way
            for node in self.network.readers.get(value, ()):
                if len(nodes) < MAX_NODES and node.name not in nodes and node.op_type in FUNCTIONS and all(
                        operand in known or self._is_single(operand) for operand in node.input if operand):
                    nodes[node.name] = node
                    known.append(node.output[0])
        return nodes

    def _is_single(self, name: str) -> bool:
        return name in self.network.constants and self.network.constants[name].size == 1


class _Function:
    """Operators that make results of the elements of one value."""

    def __init__(self, network: Network, operand: str, nodes: Sequence[onnx.NodeProto]) -> None:
        self.network, self.operand, self.nodes = network, operand, nodes
        own = {node.name for node in nodes}
        self.results = [node.output[0] for node in nodes if node.output[0] in network.outputs
                        or any(reader.name not in own for reader in network.readers.get(node.output[0], ()))]

    def part(self, whole: Range) -> Range:
        """The smallest range that holds 0 and outside of which no result changes; the whole one where a result never does, or is not finite."""
        places = np.linspace(*whole, PLACES, dtype=np.float32)
        low, high = 0.0, 0.0
        for values in self._evaluated(places):
            bound = SHARE * float(values.max() - values.min())
            below, above = (np.flatnonzero(np.abs(values - values[end]) > bound) for end in (0, -1))
            if not np.isfinite(bound) or not below.size or not above.size:
                return whole
            low, high = min(low, float(places[below[0] - 1])), max(high, float(places[above[-1] + 1]))
        return low, high

    def _evaluated(self, places: Array) -> Sequence[Array]:
        if not self.results:
            return ()
        ports = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [PLACES]) for name in (self.operand, *self.results)]
        graph = helper.make_graph(self.nodes, "function", ports[:1], ports[1:], self._constants)
        model = helper.make_model(graph, opset_imports=self.network.model.opset_import, ir_version=self.network.model.ir_version)
        found = execute(import_model_with_report(model)[0], {self.operand: places})
        return [np.asarray(found[name], np.float64) for name in self.results]

    @cached_property
    def _constants(self) -> list[onnx.TensorProto]:
        names = dict.fromkeys(name for node in self.nodes for name in node.input if name in self.network.constants)
        return [numpy_helper.from_array(self.network.constants[name].reshape(()), name) for name in names]
