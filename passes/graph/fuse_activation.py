"""Computes what follows a convolution or matrix product on its registers.

    %c = conv(%x, %w, %b); %y = elementwise(%c) {expr=`max($0:f32, 0.0:f32)`}
        ->  %y = conv(%x, %w, %b) {epilogue=`max($0:f32, 0.0:f32)`}

Every function of the result and constants will do: Relu, Relu6, Clip, HardSwish, SiLU, GELU, PRelu with
slopes per channel, a scale or an offset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgecc.ir.graph import Graph, Node
from edgecc.ops.elementwise import Elementwise
from edgecc.passes.base import NodePass
from edgecc.passes.epilogue import contraction_of, fuse_epilogue, obstacle
from edgecc.passes.rewrite import is_constant


@dataclass(frozen=True)
class FuseActivation(NodePass):
    """Makes an Elementwise of one contraction result, and any constants, the contraction's epilogue.

    Constants become extra operands.

    Declines when (edgecc/passes/epilogue.py):
    1. The contraction has another reader or is returned.
    2. A constant makes the result larger than the contraction's.
    3. The epilogue would hold too many operands or operations.
    4. A comparison or rounding depends on the last bit of what the present epilogue computes.

    Other operands than constants are fuse-residual's.
    """

    name: ClassVar[str] = "fuse-activation"
    tolerance: ClassVar[float] = 0.0  # the same arithmetic in the same order

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one Elementwise."""
        if not isinstance(node.op, Elementwise):
            return False
        variables = list(dict.fromkeys(v for v in node.inputs if v is not None and not is_constant(v)))
        contraction = contraction_of(variables[0]) if len(variables) == 1 else None
        if contraction is None:
            return False
        reason = obstacle(graph, node, contraction)
        if reason is not None:
            return self.decline(node, reason)
        fuse_epilogue(graph, node, contraction)
        return True
