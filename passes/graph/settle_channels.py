"""Makes channels of integer sums that hold one number whatever comes in small numbers.

    %y = conv(%p, %w, %b, %scale) {epilogue=`i8(round(f32($0:i32) * $1:f32) + zp)`}    with %w[c] = 0, %b[c] = -154995744, %scale[c] = 3.3e-7
        ->  the same with %b[c] = 2 n, %scale[c] = 1/2, where n = round(-154995744 * 3.3e-7) = -52

Training leaves channels without use, whose weights are next to nothing. Their scale is, too, and their bias in units of it is huge: kernels
that convert sums by addition (edgecc/kernels/shifted_sums.py) would have to convert those of the whole layer otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.graph import Graph, Node
from edgecc.ir.scalar import Arg, ScalarExpr, children
from edgecc.ir.types import Array
from edgecc.kernels.integer_bounds import is_by_channel, scale_operand, sum_ranges
from edgecc.kernels.shifted_sums import RESULT_LIMIT, SUM_LIMIT
from edgecc.ops.convolution import Conv
from edgecc.ops.matrix import MatMul
from edgecc.ops.rules import NARROW_INTEGERS
from edgecc.passes.base import NodePass


@dataclass(frozen=True)
class SettleChannels(NodePass):
    """Writes channels whose rounded product of sum and scale is the same number for all inputs as that number times 2, times 1/2.

    Only channels with sums beyond what kernels can convert by addition are changed.

    Declines when:
    1. Such a channel's number depends on the inputs, or is not small itself.
    """

    name: ClassVar[str] = "settle-channels"
    place: ClassVar[str] = "after fuse-residual"
    tolerance: ClassVar[float] = 0.0  # every number stays what it was

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites the constants of one convolution or matrix product of integers."""
        op = node.op
        if not isinstance(op, Conv | MatMul) or op.epilogue is None or len(node.inputs) < 4 or node.operand(0).type.dtype not in NARROW_INTEGERS:
            return False
        place = scale_operand(op.epilogue)
        if place is None or any(_count(op.epilogue, index) != 1 for index in (0, place)):
            return False
        weights, bias, scale = (None if value is None else value.constant for value in (node.inputs[1], node.inputs[2], node.inputs[place + 2]))
        if weights is None or bias is None or scale is None:
            return False
        ranges = sum_ranges(op, node.operand(0).type.dtype, weights)
        if ranges is None or bias.size != ranges[0].size or not is_by_channel(scale, op, ranges[0].size, node.output.type.rank):
            return False
        factors, least, most = scale.reshape(-1), *(bias.reshape(-1) + limit for limit in ranges)
        large = np.maximum(np.abs(least), np.abs(most)) >= SUM_LIMIT
        if not large.any():
            return False
        number = _rounded(least, factors)
        settled = large & (number == _rounded(most, factors)) & (np.abs(number) < RESULT_LIMIT)
        if not settled.any():
            return self.decline(node, "the sums of a channel are large and depend on the inputs")
        by_channel = np.where(settled, 0, 1).astype(weights.dtype)
        by_channel = by_channel.reshape(-1, *[1] * (weights.ndim - 1)) if isinstance(op, Conv) or op.transpose_b else by_channel
        zero = 0 if isinstance(op, Conv) else op.b_zero or 0
        made = {1: np.where(by_channel == 0, np.asarray(zero, weights.dtype), weights),
                2: np.where(settled, 2.0 * number, bias.reshape(-1)).astype(bias.dtype).reshape(bias.shape),
                place + 2: np.where(settled, 0.5, factors).astype(scale.dtype).reshape(scale.shape)}
        for index, array in made.items():
            graph.set_operand(node, index, graph.constant(array, node.operand(index).name))
        return True


def _rounded(sums: Array, factors: Array) -> Array:
    """What the epilogue rounds sums to, in f64."""
    with np.errstate(all="ignore"):
        return np.rint(sums.astype(np.float32) * factors).astype(np.float64)


def _count(expr: ScalarExpr, index: int) -> int:
    """How often an expression mentions an operand."""
    return (isinstance(expr, Arg) and expr.index == index) + sum(_count(child, index) for child in children(expr))
