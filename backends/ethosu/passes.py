"""The pass of the back end: every reader of a dequantized value dequantizes it for itself.

    %f = dequantize(%q); %a = f(%f); %b = g(%f)   ->   %f = dequantize(%q); %a = f(%f); %f2 = dequantize(%q); %b = g(%f2)

Where one reader runs on the accelerator and another one on the CPU, integers cross the border then, and each side takes from them
what it needs.
"""

from __future__ import annotations

from typing import ClassVar

from edgecc.backends.tflite.quantized import constant_codes, dequantization_of
from edgecc.ir.graph import Graph, Node
from edgecc.passes.base import NodePass


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
