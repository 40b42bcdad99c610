"""The pass that gives every reader of a dequantized value a node of its own that dequantizes.

    %f = dequantize(%q); %a = f(%f); %b = g(%f)   ->   %f = dequantize(%q); %a = f(%f); %f2 = dequantize(%q); %b = g(%f2)

Tools that compute on integers look at an operator together with what dequantizes for it and quantizes after it; and where a network
is divided between them and the CPU, integers cross the border.
"""

from __future__ import annotations

from typing import ClassVar

from edgecc.backends.onnx.between import dequantizes
from edgecc.ir.graph import Graph, Node
from edgecc.passes.base import NodePass


class SplitDequantize(NodePass):
    """Copies a dequantizing node for each use but the first, and for the graph's own output."""

    name: ClassVar[str] = "onnx.split-dequantize"
    tolerance: ClassVar[float] = 0.0

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one dequantizing node."""
        if not dequantizes(node):
            return False
        uses = node.output.uses if graph.is_output(node.output) else node.output.uses[1:]
        for use in uses:
            graph.set_operand(use.node, use.index, graph.add(node.op, *node.inputs, before=use.node, loc=node.loc))
        return bool(uses)
