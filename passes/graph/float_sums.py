"""Adds up products of integers in f32, where every sum is an integer that f32 holds: the same numbers, by other instructions.

    %s = conv(%p, %w, %b) {x_zero=z} : i32                ->  %s = conv(f32(%p) - z, f32(%w), f32(%b)) {exact=true} : f32
    %q = elementwise(%s) {expr=`...f32($0:i32)...`}           %q = elementwise(%s) {expr=`...$0:f32...`}

Machines whose products of bytes are slow gain by it, and results stay those of every other machine, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as replace_fields
from typing import ClassVar

import numpy as np

from edgecc.ir.dims import upper_bound
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Apply, Arg, Convert, ScalarExpr, apply, children, convert, literal
from edgecc.ir.types import DType
from edgecc.ops.convolution import Conv
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.ops.rules import NARROW_INTEGERS
from edgecc.passes.base import NodePass
from edgecc.passes.rewrite import replace

LARGEST_INTEGER = 2**24
"""Up to it f32 holds every integer, so that sums are exact in any order, rounded after each step or not."""


@dataclass(frozen=True)
class FloatSums(NodePass):
    """Makes convolutions and matrix products of integers those of floats that stand for the same integers.

    Who reads the sums reads them as floats; where somebody wants integers, they are converted back. The result is marked as
    exact, so that no algorithm with other intermediate results (Winograd's) computes it.

    Options: layers, names of nodes of the model joined by "+", of which the convolutions and products are meant; what
    belongs there is chosen by the cost model (edgecc/lowering/precision.py).

    Declines when:
    1. A sum may exceed 2^24.
    """

    name: ClassVar[str] = "float-sums"
    tolerance: ClassVar[float] = 0.0  # integers that f32 holds

    layers: str = ""

    @property
    def chosen(self) -> frozenset[str]:
        """The names of `layers`."""
        return frozenset(filter(None, self.layers.split("+")))

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one convolution or product."""
        op = node.op
        if not isinstance(op, Conv | MatMul) or not is_integer_contraction(node) or self.chosen.isdisjoint(node.loc):
            return False
        if not sums_are_exact(node):
            return self.decline(node, "sums may exceed 2^24")
        first_zero, second_zero = zeros_of(node)
        operands = [_as_float(graph, node, node.operand(0), first_zero), _as_float(graph, node, node.operand(1), second_zero)]
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            operands.append(_as_float(graph, node, node.operand(2), 0))
        sums = graph.add(of_floats(op), *operands, before=node, loc=node.loc, name=node.output.name)
        for user in node.output.users:
            expr = reading_floats(user, node.output)
            if expr is not None:
                replace(graph, user, Elementwise(expr), *(sums if value is node.output else value for value in user.inputs))
        if node not in graph:
            return True
        replace(graph, node, Elementwise(convert(Arg(0, DType.F32), DType.I32)), sums)
        return True


def is_integer_contraction(node: Node) -> bool:
    """Whether a node is a convolution or a product that sums products of integers of 8 or 16 bits, without an epilogue."""
    op = node.op
    return isinstance(op, Conv | MatMul) and op.epilogue is None and node.operand(0).type.dtype in NARROW_INTEGERS


def of_floats(op: Conv | MatMul, epilogue: ScalarExpr | None = None) -> Conv | MatMul:
    """The operator for factors in f32 that have their zero points taken away."""
    if isinstance(op, Conv):
        return replace_fields(op, x_zero=None, exact=True, epilogue=epilogue)
    return replace_fields(op, a_zero=None, b_zero=None, exact=True, epilogue=epilogue)


def zeros_of(node: Node) -> tuple[int, int]:
    """The zero points of both factors."""
    match node.op:
        case Conv(x_zero=zero):
            return zero or 0, 0
        case MatMul(a_zero=first, b_zero=second):
            return first or 0, second or 0
    return 0, 0


def sums_are_exact(node: Node) -> bool:
    """Whether no sum of an integer contraction, bias included, can exceed what f32 holds exactly."""
    first_zero, second_zero = zeros_of(node)
    left, right, op = node.operand(0), node.operand(1), node.op
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and bias.constant is None:
        return False
    start = 0 if bias is None or bias.constant is None else int(np.abs(bias.constant.astype(np.int64)).max(initial=0))
    if right.constant is not None:
        weights = np.abs(right.constant.astype(np.int64) - second_zero)
        axes = tuple(range(1, weights.ndim)) if isinstance(op, Conv) else (-1 if isinstance(op, MatMul) and op.transpose_b else -2,)
        terms = int(weights.sum(axis=axes).max(initial=0))
    elif isinstance(op, MatMul):
        terms = upper_bound(left.type.shape[-2 if op.transpose_a else -1]) * _reach(right, second_zero)
    else:
        return False
    return start + terms * _reach(left, first_zero) <= LARGEST_INTEGER


def _reach(value: Value, zero: int) -> int:
    """The largest magnitude an element can have, less its zero point."""
    if value.constant is not None:
        return int(np.abs(value.constant.astype(np.int64) - zero).max(initial=0))
    least, most = (int(limit) for limit in value.type.dtype.limits)
    return max(most - zero, zero - least)


def as_float(dtype: DType, zero: int) -> ScalarExpr:
    """Arg(0), an integer of type `dtype`, less its zero point, in f32."""
    wide = convert(Arg(0, dtype), DType.F32)
    return apply("sub", wide, literal(float(zero), DType.F32)) if zero else wide


def _as_float(graph: Graph, node: Node, value: Value, zero: int) -> Value:
    """`value` less its zero point in f32, for `node` and for whoever wants the same."""
    if value.constant is not None:
        return graph.constant((value.constant.astype(np.int64) - zero).astype(np.float32), value.name)
    expr = as_float(value.type.dtype, zero)
    for user in value.users:
        if isinstance(user.op, Elementwise) and user.op.expr == expr:
            return user.output
    return graph.add(Elementwise(expr), value, before=node, loc=node.loc, name=value.name)


def reading_floats(user: Node, sums: Value) -> ScalarExpr | None:
    """The expression of a reader of `sums` (i32) that reads them as floats; None where it does other things with them."""
    if not isinstance(user.op, Elementwise):
        return None
    positions = {i for i, value in enumerate(user.inputs) if value is sums}
    found = _replaced(user.op.expr, positions)
    return None if _reads_integers(found, positions) else found


def _reads_integers(expr: ScalarExpr, positions: set[int]) -> bool:
    if isinstance(expr, Arg):
        return expr.index in positions and expr.dtype is DType.I32
    return any(_reads_integers(child, positions) for child in children(expr))


def _replaced(expr: ScalarExpr, positions: set[int]) -> ScalarExpr:
    match expr:
        case Convert(Arg(index), DType.F32) if index in positions:
            return Arg(index, DType.F32)
        case Convert(arg, dtype):
            return convert(_replaced(arg, positions), dtype)
        case Apply(op, args, dtype):
            return Apply(op, tuple(_replaced(arg, positions) for arg in args), dtype)
    return expr
