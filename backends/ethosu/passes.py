"""The passes of the back end: what reads integers on the accelerator shares no floats with what computes on the CPU.

    %f = dequantize(%q); %a = f(%f); %b = g(%f)   ->   %f = dequantize(%q); %a = f(%f); %f2 = dequantize(%q); %b = g(%f2)

Where one reader runs on the accelerator and another one on the CPU, integers cross the border then, and each side takes from them
what it needs.
"""

from __future__ import annotations

from typing import ClassVar

from edgecc.backends.tflite.neighbours import computes_on_integers, integers_behind
from edgecc.backends.tflite.quantized import constant_codes, dequantization_of
from edgecc.ir.graph import Graph, Node
from edgecc.ops.movement import Reshape, Slice, Transpose
from edgecc.passes.base import NodePass


class SplitMovement(NodePass):
    """Moves integers for who computes on them, and once more for who takes floats of them."""

    name: ClassVar[str] = "ethosu.split-movement"
    tolerance: ClassVar[float] = 0.0
    # From the end: what a copy reads is looked at after it.
    order = "backward"

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one Reshape, Transpose or Slice of integers."""
        if not isinstance(node.op, Reshape | Transpose | Slice) or graph.is_output(node.output) or integers_behind(node.output) is None:
            return False
        uses = [use for use in node.output.uses if not computes_on_integers(use.node)]
        if not uses or len(uses) == len(node.output.uses):
            return False
        copy = graph.add(node.op, *node.inputs, before=node, loc=node.loc)
        for use in uses:
            graph.set_operand(use.node, use.index, copy)
        return True


class SplitDequantize(NodePass):
    """Copies a dequantizing node, also one of constants, for each use but the first, and for the graph's own output."""

    name: ClassVar[str] = "ethosu.split-dequantize"
    tolerance: ClassVar[float] = 0.0

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one dequantizing node."""
        if dequantization_of(node) is None and not (len(node.outputs) == 1 and constant_codes(node.output)):
            return False
        uses = node.output.uses if graph.is_output(node.output) else node.output.uses[1:]
        for use in uses:
            graph.set_operand(use.node, use.index, graph.add(node.op, *node.inputs, before=use.node, loc=node.loc))
        return bool(uses)
