"""Multiplies and sums the integers behind dequantized operands of convolutions and matrix products.

    %x = (%p - zp) * sx; %w = (%q - zq) * sw; %y = conv(%x, %w, %b)
        ->  %s = conv(%p, %q - zq, %b / (sx * sw)) {x_zero=zp} : i32; %y = f32(%s) * (sx * sw)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.dims import upper_bound
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Arg, apply
from edgecc.ir.types import Array, DType
from edgecc.ops.convolution import Conv, ConvTranspose
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Reshape
from edgecc.ops.requantize import dequantized
from edgecc.ops.rules import NARROW_INTEGERS
from edgecc.passes.base import NodePass
from edgecc.passes.rewrite import replace
from edgecc.passes.scaled import SHORT, Scaled, scaled

LARGEST_SUM = 2**31 - 1

BIAS_SLACK = 2.0**-22
"""How far, relative to itself, a bias over the product of scales may lie from an integer to be taken for one: it was
computed with scales rounded to f32."""


@dataclass(frozen=True)
class IntegerContraction(NodePass):
    """Makes Conv and MatMul of dequantized operands sum products of integers, exactly; the sums are dequantized.

    1. Zero points of computed operands become attributes; they are subtracted from constant ones, which become i8 (i16
       where they do not fit).
    2. A constant bias that is a multiple of the product of scales, as quantizers write it, is added as integers; any
       other is added to the dequantized sums.

    Declines when:
    3. One operand is in float: such weights are for kernels that dequantize them.
    4. Scales differ along an axis that is summed over, or zero points within a computed operand.
    5. The largest sum there can be exceeds 32 bits.
    6. It is a transposed convolution that integer-transposed has left alone.
    """

    name: ClassVar[str] = "integer-contraction"
    tolerance: ClassVar[float] = 4.0  # the product of the scales is rounded once, and so is a bias' share of it
    rounds_anew: ClassVar[bool] = True

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one convolution or matrix product."""
        op = node.op
        if not isinstance(op, Conv | ConvTranspose | MatMul) or op.epilogue is not None or node.output.type.dtype is not DType.F32:
            return False
        left, right = scaled(node.operand(0)), scaled(node.operand(1))
        if left is None or right is None:
            return left is not right and self.decline(node, f"operand {0 if left is None else 1} is in float")
        if isinstance(op, ConvTranspose):
            return self.decline(node, "transposed convolutions are computed in float")
        if left.integers.type.dtype not in SHORT or right.integers.type.dtype not in SHORT:
            return self.decline(node, "an operand has integers of 32 bits")
        scales = _conv_scales(left, right) if isinstance(op, Conv) else _matmul_scales(op, left, right)
        if scales is None:
            return self.decline(node, "scales differ along an axis that is summed over")
        first, second = _factor(graph, left), _factor(graph, right)
        if first is None or second is None or (isinstance(op, Conv) and second[1]):
            return self.decline(node, "zero points differ within a computed operand")
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        units = None if bias is None else _whole_units(bias, scales, node)
        room = LARGEST_SUM - _largest_sum(op, left, right, first, second)
        if room < 0 or (units is not None and int(np.abs(units).max(initial=0)) > room):
            return self.decline(node, "sums may exceed 32 bits")
        self._replace(graph, node, op, (first, second), scales, bias, units)
        return True

    @staticmethod
    def _replace(graph: Graph, node: Node, op: Conv | MatMul, factors: Sequence[tuple[Value, int]], scales: Array,
                 bias: Value | None, units: Array | None) -> None:
        (first, first_zero), (second, second_zero) = factors
        if isinstance(op, Conv):
            plain: Conv | MatMul = Conv(op.strides, op.pads, op.dilations, op.group, x_zero=first_zero or None)
        else:
            plain = MatMul(op.transpose_a, op.transpose_b, a_zero=first_zero or None, b_zero=second_zero or None)
        whole = [] if units is None else [graph.constant(units.astype(np.int32), "bias")]
        name = node.output.name
        sums = graph.add(plain, first, second, *whole, before=node, loc=node.loc, name=name)
        form = dequantized(Arg(0, DType.I32), Arg(1, DType.F32), None)
        factor = graph.constant(scales.astype(np.float32), "scale")
        if bias is None or units is not None:
            replace(graph, node, Elementwise(form), sums, factor)
            return
        product = graph.add(Elementwise(form), sums, factor, before=node, loc=node.loc, name=name)
        offset = _summand(graph, bias, node)
        replace(graph, node, Elementwise(apply("add", Arg(0, DType.F32), Arg(1, DType.F32))), product, offset)


def _summand(graph: Graph, bias: Value, node: Node) -> Value:
    """The bias in f32, shaped to broadcast to the result."""
    dims = (bias.type.shape[0], *[1] * (node.output.type.rank - 2)) if isinstance(node.op, Conv) else bias.type.shape
    real = _real(bias)
    if real is not None:
        return graph.constant(real.astype(np.float32).reshape(dims), bias.name)
    return bias if dims == bias.type.shape else graph.add(Reshape(dims), bias, before=node, loc=node.loc, name=bias.name)


# -- scales -------------------------------------------------------------------------------------


def _conv_scales(x: Scaled, w: Scaled) -> Array | None:
    """The scale of sums, [1,O,1..] or a scalar."""
    rank = w.integers.type.rank
    by_axis = w.scale.reshape((1,) * (rank - w.scale.ndim) + w.scale.shape)
    if x.scale.size != 1 or any(size != 1 for size in by_axis.shape[1:]):
        return None
    product = x.scale.reshape(()) * by_axis.reshape(-1)
    return np.asarray(product.reshape(()) if product.size == 1 else product.reshape(1, -1, *[1] * (rank - 2)))


def _matmul_scales(op: MatMul, a: Scaled, b: Scaled) -> Array | None:
    """The scale of sums, which broadcasts to the result."""
    shapes = []
    for operand, transposed, summed in ((a, op.transpose_a, -1), (b, op.transpose_b, -2)):
        scale = operand.scale.reshape((1,) * (operand.integers.type.rank - operand.scale.ndim) + operand.scale.shape)
        scale = np.swapaxes(scale, -1, -2) if transposed else scale
        if scale.shape[summed] != 1:
            return None
        shapes.append(scale)
    product = shapes[0] * shapes[1]
    return np.asarray(product.reshape(()) if product.size == 1 else product)


# -- operands -----------------------------------------------------------------------------------


def _factor(graph: Graph, operand: Scaled) -> tuple[Value, int] | None:
    """The operand as a product takes it, and the zero point that is still in it; None where zero points differ."""
    integers = operand.integers
    is_narrow = integers.type.dtype in NARROW_INTEGERS
    if integers.constant is None:
        zero = operand.single_zero
        return None if zero is None or not is_narrow else (integers, zero)
    if is_narrow and not operand.zero.any():
        return integers, 0
    difference = integers.constant.astype(np.int64) - operand.zero
    low, high = int(difference.min(initial=0)), int(difference.max(initial=0))
    dtype = np.int8 if low >= -128 and high <= 127 else np.int16
    if np.iinfo(dtype).min > low or np.iinfo(dtype).max < high:
        return None
    return graph.constant(difference.astype(dtype), integers.name), 0


def _reach(operand: Scaled, factor: tuple[Value, int]) -> int:
    """The largest magnitude an element of a factor can have, less its zero point."""
    value, zero = factor
    if value.constant is not None:
        return int(np.abs(value.constant.astype(np.int64)).max(initial=0))
    least, most = (int(limit) for limit in operand.integers.type.dtype.limits)
    return max(most - zero, zero - least)


def _largest_sum(op: Conv | MatMul, left: Scaled, right: Scaled, first: tuple[Value, int], second: tuple[Value, int]) -> int:
    """A bound of the magnitudes of all sums of products."""
    reach = _reach(left, first)
    weights = second[0].constant
    if weights is None:
        depth = left.integers.type.shape[-2 if isinstance(op, MatMul) and op.transpose_a else -1]
        return upper_bound(depth) * reach * _reach(right, second)
    axes = tuple(range(1, weights.ndim)) if isinstance(op, Conv) else (-1 if op.transpose_b else -2,)
    return reach * int(np.abs(weights.astype(np.int64)).sum(axis=axes).max(initial=0))


# -- the bias -----------------------------------------------------------------------------------


def _real(bias: Value) -> Array | None:
    """A constant bias, dequantized or not, in f64; None where it is computed."""
    stored = scaled(bias)
    if stored is not None and stored.integers.constant is not None:
        return np.asarray((stored.integers.constant.astype(np.float64) - stored.zero) * stored.scale)
    return None if bias.constant is None else bias.constant.astype(np.float64)


def _whole_units(bias: Value, scales: Array, node: Node) -> Array | None:
    """A constant bias in units of the sums' scale, in i64, where these are integers; else None."""
    real = _real(bias)
    if real is None:
        return None
    with np.errstate(all="ignore"):
        units = np.asarray(real / (scales.reshape(-1) if isinstance(node.op, Conv) else scales))
    whole = np.rint(units)
    if not np.isfinite(units).all() or np.abs(whole).max(initial=0.0) > LARGEST_SUM:
        return None
    return np.asarray(whole.astype(np.int64)) if (np.abs(units - whole) <= BIAS_SLACK * np.abs(units)).all() else None
