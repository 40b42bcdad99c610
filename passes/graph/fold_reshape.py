"""Applies elementwise operators before a reshape instead of after it, where they can join what computes the value.

    %m = matmul(%a, %b); %r = reshape(%m); %y = elementwise(%r) {expr=`sigmoid($0:f32)`}
        ->  %m = matmul(%a, %b); %e = elementwise(%m) {expr=`sigmoid($0:f32)`}; %y = reshape(%e)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.movement import Reshape
from edgecc.passes.base import NodePass
from edgecc.passes.epilogue import contraction_of
from edgecc.passes.rewrite import replace, sole_user


@dataclass(frozen=True)
class FoldReshape(NodePass):
    """Exchanges a Reshape and the Elementwise that reads it.

    The Elementwise may have further operands that are constants along the last axis, if the Reshape keeps that axis.

    Declines when:
    1. What is reshaped is no result of Elementwise, Conv, ConvTranspose or MatMul: nothing would be gained.
    2. The reshaped value, or the one before, has another reader or is returned: the work could not join.
    3. Another operand is no constant along the last axis, or makes the result larger.
    """

    name: ClassVar[str] = "fold-reshape"
    tolerance: ClassVar[float] = 0.0  # the same arithmetic on the same elements

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one Elementwise."""
        if not isinstance(node.op, Elementwise):
            return False
        reshapes = [v for v in node.inputs if v is not None and v.producer is not None and isinstance(v.producer.op, Reshape)]
        if not reshapes:
            return False
        value = reshapes[0]
        reshape = value.producer
        if reshape is None or value.type.shape != node.output.type.shape:
            return self.decline(node, "the result is larger than what is reshaped")
        source = reshape.operand(0)
        fuses = source.producer is not None and isinstance(source.producer.op, Elementwise)
        if not fuses and contraction_of(source) is None:
            return self.decline(node, "what is reshaped is computed by nothing that could take the work over")
        if sole_user(graph, value) is not node or sole_user(graph, source) is not reshape:
            return self.decline(node, "the reshaped value has another reader or is returned")
        if not all(v is value or _is_along_last_axis(v, source, value) for v in node.inputs if v is not None):
            return self.decline(node, "another operand is no constant along an axis that the reshape keeps")
        operands = [source if v is value else v for v in node.inputs]
        inner = graph.add(node.op, *operands, before=node, loc=node.loc, name=node.output.name)
        replace(graph, node, Reshape(node.output.type.shape), inner, absorbed=[reshape])
        return True


def _is_along_last_axis(operand: Value | None, source: Value, reshaped: Value) -> bool:
    """Whether the operand is a constant that broadcasts alike to the value before and after the reshape."""
    if operand is None or operand.constant is None or source.type.rank == 0:
        return False
    if operand.type.count == 1 and operand.type.rank <= min(source.type.rank, reshaped.type.rank):
        return True
    dims = operand.type.shape
    return len(dims) == 1 and source.type.shape[-1:] == reshaped.type.shape[-1:] == dims
