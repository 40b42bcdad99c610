"""Turns constants that are still dequantized by arithmetic in float into float constants.

    %w = constant i8[...]; %x = elementwise(%w, %s) {expr=`mul(f32($0:i8), $1:f32)`}   ->   %x = constant f32[...]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgecc.ir.graph import Graph, Node
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.requantize import as_dequantized
from edgecc.passes.base import NodePass
from edgecc.passes.rewrite import forward, is_constant


@dataclass(frozen=True)
class FoldDequantized(NodePass):
    """Computes what stored integers stand for, once the passes that could use the integers themselves have run.

    Other than fold-constants it has no limit: the result has as many elements as the model stores.

    Declines when:
    1. The graph returns the result.
    """

    name: ClassVar[str] = "fold-dequantized"
    tolerance: ClassVar[float] = 2.0  # each product is rounded once to be stored

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one node."""
        if not isinstance(node.op, Elementwise) or not node.inputs or not all(is_constant(v) for v in node.inputs):
            return False
        form = as_dequantized(node.op.expr)
        if form is None or node.operand(form.q.index).type.shape != node.output.type.shape:
            return False
        if graph.is_output(node.output):
            return self.decline(node, "the graph returns the result")
        (result,) = node.op.reference([value.constant for value in node.inputs if value is not None])
        forward(graph, node, graph.constant(result, node.output.name))
        return True
