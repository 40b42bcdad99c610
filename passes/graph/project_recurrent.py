"""Multiplies the inputs of all steps of a recurrent layer by W at once.

    %y, %h = recurrent(%x, %w, %r, %b)
    ->  %p = matmul(%x, reshape(%w)) {transpose_b=true}
        %y, %h = recurrent(%p, -, %r, %b)

The products with x do not wait for one another: as one matrix product they reuse each weight for many
steps, while the layer reads its weights anew in each step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgecc.ir.graph import Graph, Node
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Reshape
from edgecc.ops.recurrent import Recurrent
from edgecc.passes.base import NodePass

MIN_ROWS = 4
"""Steps times batch below which a separate matrix product would reuse too little."""


@dataclass(frozen=True)
class ProjectRecurrent(NodePass):
    """%y, ... = recurrent(%x, %w, %r, ...)  ->  %y, ... = recurrent(matmul(%x, reshape(%w)), -, %r, ...)

    Declines when:
    1. There are so few steps and batch members that nothing is reused (`MIN_ROWS`).
    """

    name: ClassVar[str] = "project-recurrent"
    tolerance: ClassVar[float] = 64.0  # one more rounding of a part of each sum, carried along the sequence as the layer does
    place: ClassVar[str] = "before recognize-normalization"

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one layer."""
        if not isinstance(node.op, Recurrent) or node.inputs[1] is None:
            return False
        x, w = node.operand(0), node.operand(1)
        if x.type.max_dims[0] * x.type.max_dims[1] < MIN_ROWS:
            return self.decline(node, "there are too few steps to share the weights")
        directions, rows, inputs = w.type.dims
        matrix = graph.add(Reshape((directions * rows, inputs)), w, before=node, loc=node.loc)
        product = graph.add(MatMul(False, True), x, matrix, before=node, loc=node.loc)
        graph.set_operand(node, 0, product)
        graph.set_operand(node, 1, None)
        return True
