"""How large sums of products with constant integers can be, and what they are scaled by."""

from __future__ import annotations

import numpy as np

from edgecc.ir.scalar import Apply, Arg, Convert, ScalarExpr, children
from edgecc.ir.types import Array, DType
from edgecc.ops.convolution import Conv
from edgecc.ops.matrix import MatMul


def sum_ranges(op: Conv | MatMul, dtype: DType, weights: Array) -> tuple[Array, Array] | None:
    """The least and the largest sum of products of each channel, f64; None where channels are not told apart.

    Args:
        dtype: of the operand that the weights are multiplied with, whose zero point the operator has.
    """
    w = weights.astype(np.int64)
    if isinstance(op, MatMul):
        if w.ndim != 2 or op.transpose_a:
            return None
        w = (w if op.transpose_b else w.T) - (op.b_zero or 0)
    w = w.reshape(w.shape[0], -1)
    zero = (op.x_zero if isinstance(op, Conv) else op.a_zero) or 0
    low, high = (int(limit) - zero for limit in dtype.limits)
    rising, falling = np.maximum(w, 0).sum(axis=1), np.maximum(-w, 0).sum(axis=1)
    return (low * rising - high * falling).astype(np.float64), (high * rising - low * falling).astype(np.float64)


def scale_operand(expr: ScalarExpr | None) -> int | None:
    """The number of the operand that the sum is multiplied with before it is rounded; None for other epilogues."""
    pending = [] if expr is None else [expr]
    while pending:
        node = pending.pop()
        match node:
            case Apply("round", (Apply("mul", (Convert(Arg(0)), Arg(index=index))),)):
                return index
        pending.extend(children(node))
    return None


def is_by_channel(scale: Array, op: Conv | MatMul, channels: int, rank: int) -> bool:
    """Whether an operand of the epilogue has an element for each channel of a result of this rank."""
    axis = rank - 1 if isinstance(op, Conv) else 1
    return scale.size == channels and scale.ndim >= axis and scale.shape[-axis] == channels
