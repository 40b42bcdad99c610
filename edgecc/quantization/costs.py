"""What a layer costs in each precision, by the cost model: the network is lowered once for each precision, and no code is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from edgecc.frontend.importing import import_model_with_report
from edgecc.lowering.cycles import calls_cycles
from edgecc.pipeline import compile_graph
from edgecc.targets.schema import Target

CONVERTED = 1.15
"""What a layer in float costs with the conversions of its operand and result, times what it costs alone."""


@dataclass(frozen=True)
class Costs:
    """Modelled cycles of the nodes of a network, by name (edgecc/lowering/cycles.py).

    Attributes:
        narrow: with 8-bit values. wide: with 16-bit values. real: in float.
    """

    narrow: Mapping[str, float]
    wide: Mapping[str, float]
    real: Mapping[str, float]

    def of_widening(self, node: str) -> float:
        """Cycles that 16-bit values cost more than 8-bit ones."""
        return max(0.0, self.wide.get(node, 0.0) - self.narrow.get(node, 0.0))

    def of_float(self, node: str) -> float:
        """Cycles that float costs more than 8-bit values."""
        return max(0.0, self.real.get(node, 0.0) - self.narrow.get(node, 0.0))

    @property
    def slower(self) -> tuple[str, ...]:
        """Nodes that the model expects to be slower on 8-bit values than in float, by more than conversions around them cost."""
        return tuple(sorted(name for name, cycles in self.narrow.items() if cycles > CONVERTED * self.real.get(name, cycles)))


def modelled_cycles(model: onnx.ModelProto, target: Target) -> dict[str, float]:
    """Modelled cycles of one run for each node; those of a kernel count for the first node it stands for that is not about quantization."""
    graph, _ = import_model_with_report(model)
    lowered = compile_graph(graph, target, name="costs").lowered
    kinds = {node.name: node.op_type for node in model.graph.node}
    found: dict[str, float] = {}
    for call, cycles in zip(lowered.calls, calls_cycles(lowered), strict=True):
        names = [name for name in call.loc if kinds.get(name, "") not in ("", "QuantizeLinear", "DequantizeLinear")]
        if names:
            found[names[0]] = found.get(names[0], 0.0) + cycles
    return found
