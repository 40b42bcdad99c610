"""The pass of the back end: requantization behind a convolution becomes a part of it, since one command does both.

    %t = conv(%x, %w, %b); %y = elementwise(%t, %s) {expr=`i8(round(mul(f32($0:i32), $1:f32)))`}
        ->  %y = conv(%x, %w, %b, %s) {epilogue=`i8(round(mul(f32($0:i32), $1:f32)))`}
"""

from __future__ import annotations

from dataclasses import replace as with_fields
from typing import ClassVar

from edgecc.ir.graph import Graph, Node
from edgecc.ir.types import DType
from edgecc.ops.convolution import Conv
from edgecc.ops.elementwise import Elementwise
from edgecc.passes.base import NodePass
from edgecc.passes.rewrite import replace, sole_user
from toy_npu.match import as_rounding, as_scaled


class FuseRequantize(NodePass):
    """Fuses a rounding to i8 into the convolution whose sums it rounds.

    Declines when: 1. others read the sums; 2. the convolution has an epilogue already; 3. the expression is not what the
    accelerator computes; 4. it is the sums that are broadcast.
    """

    name: ClassVar[str] = "toy-npu.fuse-requantize"

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one elementwise node."""
        conv = node.inputs[0].producer if node.inputs and node.inputs[0] is not None else None
        if not isinstance(node.op, Elementwise) or conv is None or not isinstance(conv.op, Conv) or conv.output.type.dtype is not DType.I32:
            return False
        if sole_user(graph, conv.output) is not node or conv.op.epilogue is not None:
            return self.decline(node, "the sums are read elsewhere, or rounded already")
        rounding = as_rounding(node.op.expr)
        if rounding is None or as_scaled(rounding.value) is None:
            return self.decline(node, "it is no requantization that the accelerator computes")
        if node.output.type.dims != conv.output.type.dims:
            return self.decline(node, "the sums are broadcast")
        operands = [*conv.inputs, *[None] * (3 - len(conv.inputs)), *node.inputs[1:]]
        replace(graph, node, with_fields(conv.op, epilogue=node.op.expr), *operands, absorbed=[conv])
        return True
