"""Adds up the integers behind dequantized operands of means, sums and average pools.

    %x = (%p - z) * s; %y = mean(%x)                 ->  %t = wide_sum(%p) : i32; %y = (%t - n z) * (s / n)
    %x = (%p - z) * s; %y = pool(%x) {average}       ->  %t = conv(%p, ones) {x_zero=z} : i32; %y = %t * (s / counts)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.dims import upper_bound
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.op import Op
from edgecc.ir.scalar import Arg, ScalarExpr, apply, convert, literal
from edgecc.ir.types import Array, Dim, DType
from edgecc.ops.convolution import Conv, Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.reduction import Reduce
from edgecc.ops.requantize import Steps, dequantized
from edgecc.ops.rules import NARROW_INTEGERS
from edgecc.ops.sizes import Sizes
from edgecc.ops.windows import sums_of_windows
from edgecc.passes.base import NodePass
from edgecc.passes.rewrite import replace
from edgecc.passes.scaled import Scaled, scaled

LARGEST_SUM = 2**31 - 1


@dataclass(frozen=True)
class IntegerReduction(NodePass):
    """Makes means, sums and average pools of dequantized operands sums of integers, which are exact, and dequantizes these.

    Average pools are convolutions of each channel with ones; the padding counts nothing. Where windows at the border have
    fewer elements, each position has its own scale.

    Where the run decides how many elements there are, it computes n z and s / n.

    Declines when:
    1. Elements have scales of their own, or there may be so many that a sum exceeds 32 bits.
    2. The size of an image is known only at run time, and some windows may have fewer elements than others.
    """

    name: ClassVar[str] = "integer-reduction"
    tolerance: ClassVar[float] = 4.0  # a scale is divided by a count and rounded
    rounds_anew: ClassVar[bool] = True

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one reduction."""
        match node.op:
            case Pool(kind="average") | Reduce(kind="mean" | "sum"):
                operand = scaled(node.operand(0))
            case _:
                return False
        if operand is None or operand.integers.type.dtype not in NARROW_INTEGERS:
            return False
        if operand.steps is None:
            return self.decline(node, "elements have scales of their own")
        if isinstance(node.op, Pool):
            return self._pool(graph, node, node.op, operand, operand.steps)
        return self._reduce(graph, node, node.op, operand, operand.steps)

    def _pool(self, graph: Graph, node: Node, op: Pool, operand: Scaled, steps: Steps) -> bool:
        if _exceeds(math.prod(op.kernel), steps):
            return self.decline(node, "sums may exceed 32 bits")
        batch, *sizes = operand.integers.type.shape
        known = [size for size in sizes if isinstance(size, int)]
        if len(known) == len(sizes):
            conv, weights, counts = sums_of_windows(op, (batch if isinstance(batch, int) else 1, *known), steps.zero)
        elif not isinstance(sizes[0], int) or op.ceil_mode or (any(op.pads) and not op.count_include_pad):
            return self.decline(node, "the size of the image is known only at run time, and windows at its border have fewer elements")
        else:
            conv = Conv(op.strides, op.pads, op.dilations, sizes[0], x_zero=steps.zero or None)
            weights, counts = np.ones((sizes[0], 1, *op.kernel), np.int8), np.array(float(math.prod(op.kernel)))
        _replace(graph, node, conv, (operand, weights), np.asarray(steps.scale / counts), 0)
        return True

    def _reduce(self, graph: Graph, node: Node, op: Reduce, operand: Scaled, steps: Steps) -> bool:
        sizes = [operand.integers.type.shape[axis] for axis in op.axes]
        most = math.prod(map(upper_bound, sizes))
        if most == 0 or _exceeds(most, steps):
            return self.decline(node, "sums may exceed 32 bits" if most else "there are no elements")
        count: Dim = math.prod(sizes)
        if not isinstance(count, int):
            _reduce_open(graph, node, op, operand, steps, count)
            return True
        scale = steps.scale / count if op.kind == "mean" else steps.scale
        _replace(graph, node, Reduce("wide_sum", op.axes, op.keepdims), (operand, None), np.asarray(scale), count * steps.zero)
        return True


def _reduce_open(graph: Graph, node: Node, op: Reduce, operand: Scaled, steps: Steps, count: Dim) -> None:
    """As `_reduce`, where the number of elements is one of the run."""
    sums = graph.add(Reduce("wide_sum", op.axes, op.keepdims), operand.integers, before=node, loc=node.loc, name=node.output.name)
    parameters: list[Value] = []

    def of_count(expr: ScalarExpr, name: str) -> Arg:
        elements = graph.add(Sizes((count,), ()), before=node, loc=node.loc, name="count")
        parameters.append(graph.add(Elementwise(expr), elements, before=node, loc=node.loc, name=name))
        return Arg(len(parameters), expr.dtype)

    number = Arg(0, DType.I64)
    factor: ScalarExpr = literal(steps.scale, DType.F32)
    if op.kind == "mean":
        quotient = apply("div", literal(steps.scale, DType.F64), convert(number, DType.F64))
        factor = of_count(convert(quotient, DType.F32), "scale")
    zeros = of_count(apply("mul", convert(number, DType.I32), literal(steps.zero, DType.I32)), "zeros") if steps.zero else None
    replace(graph, node, Elementwise(dequantized(Arg(0, DType.I32), factor, zeros)), sums, *parameters)


def _exceeds(count: int, steps: Steps) -> bool:
    least, most = (int(limit) for limit in steps.dtype.limits)
    return count * (most - least) > LARGEST_SUM


def _replace(graph: Graph, node: Node, op: Op, operands: tuple[Scaled, Array | None], scale: Array, zero: int) -> None:
    own, weights = operands
    more = [] if weights is None else [graph.constant(weights, "ones")]
    sums = graph.add(op, own.integers, *more, before=node, loc=node.loc, name=node.output.name)
    uniform = scale.size == 1 or bool((scale == scale.reshape(-1)[0]).all())
    factor = literal(float(scale.reshape(-1)[0]), DType.F32) if uniform else Arg(1, DType.F32)
    form = dequantized(Arg(0, DType.I32), factor, literal(zero, DType.I32) if zero else None)
    replace(graph, node, Elementwise(form), sums, *([] if uniform else [graph.constant(scale.astype(np.float32), "scale")]))
