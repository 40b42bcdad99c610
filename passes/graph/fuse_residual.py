"""Adds (multiplies, selects...) other tensors to the result of a convolution or matrix product on its registers.

    %c = conv(%x, %w, %b); %y = elementwise(%c, %r) {expr=`max(add($0:f32, $1:f32), 0.0:f32)`}
        ->  %y = conv(%x, %w, %b, %r) {epilogue=`max(add($0:f32, $1:f32), 0.0:f32)`}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgecc.ir.graph import Graph, Node
from edgecc.ops.elementwise import Elementwise
from edgecc.passes.base import NodePass
from edgecc.passes.epilogue import contraction_of, fuse_epilogue, obstacle


@dataclass(frozen=True)
class FuseResidual(NodePass):
    """Makes an Elementwise of several tensors the epilogue of one contraction among their producers.

    Of several candidates the last in the order of the graph is taken: the others' results are there by then.

    Declines when (edgecc/passes/epilogue.py):
    1. Every contraction has another reader or is returned.
    2. Another operand makes the result larger than the contraction's.
    3. The epilogue would hold too many operands or operations.
    4. A comparison or rounding depends on the last bit of what the present epilogue computes of a sum of floats.
    """

    name: ClassVar[str] = "fuse-residual"
    tolerance: ClassVar[float] = 0.0  # the same arithmetic in the same order

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one Elementwise."""
        if not isinstance(node.op, Elementwise):
            return False
        candidates: set[Node] = set()
        for value in dict.fromkeys(v for v in node.inputs if v is not None):
            contraction = contraction_of(value)
            if contraction is None:
                continue
            reason = obstacle(graph, node, contraction)
            if reason is None:
                candidates.add(contraction)
            else:
                self.decline(node, f"%{value.name}: {reason}")
        if not candidates:
            return False
        last = next(one for one in graph.nodes_before(node) if one in candidates)
        fuse_epilogue(graph, node, last)
        return True
