"""Convolutions and matrix products of quantized operands.

They become `Conv` and `MatMul` of integers, whose sums are exact, and an elementwise `requantized`. Zero points that are
known are attributes or folded into constant weights; others are subtracted when the network runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.converters.convolution import convolve
from edgecc.frontend.converters.matrix import matmul
from edgecc.frontend.registry import converter
from edgecc.ir.graph import Value
from edgecc.ir.scalar import ScalarExpr, apply, convert
from edgecc.ir.types import Dim, DType
from edgecc.ops.matrix import MatMul
from edgecc.ops.requantize import requantized
from edgecc.ops.rules import sizes_text


def parameter(call: Call, value: Value, shape: Sequence[Dim]) -> Value:
    """A scale or zero point: a scalar where it has one element, else in `shape`.

    Raises: EdgeccError E110 where it has neither one element nor those of `shape`.
    """
    if value.type.count == 1:
        return call.reshape(value, ())
    if value.type.count != math.prod(shape):
        raise EdgeccError("E110", f"a parameter is {value.type}, wanted one element or the shape {sizes_text(shape)}")
    return call.reshape(value, tuple(shape))


def known_zero(zero: Value | None) -> int | None:
    """The zero point as a number, where it is absent or a constant of one element; None where it is not."""
    if zero is None:
        return 0
    return int(zero.constant.reshape(-1)[0]) if zero.constant is not None and zero.constant.size == 1 else None


def centred(call: Call, x: Value, zero: Value | None) -> Value:
    """x - zero: folded into a constant of the shortest type, else computed in i16; x itself without a zero point."""
    if zero is None or known_zero(zero) == 0:
        return x
    if x.constant is not None and zero.constant is not None:
        difference = x.constant.astype(np.int32) - zero.constant.astype(np.int32)
        fits = difference.size == 0 or (difference.min() >= -128 and difference.max() <= 127)
        return call.constant(difference.astype(np.int8 if fits else np.int16))
    return call.map(lambda a, z: apply("sub", convert(a, DType.I16), convert(z, DType.I16)), x, zero)


def number_of(call: Call, x: Value, axes: Sequence[int]) -> Value:
    """How many elements lie along some axes, as an f64 scalar."""
    elements = math.prod((x.type.shape[axis] for axis in axes), start=cast("Dim", 1))
    return call.cast(call.reshape(call.sizes([elements]), ()), DType.F64)


def scale_of(call: Call, factors: Sequence[Value], divisor: Value | None = None) -> Value:
    """The product of scales, over a divisor, computed in f64 and rounded once to f32."""
    def product(*scales: ScalarExpr) -> ScalarExpr:
        wide = [convert(s, DType.F64) for s in scales]
        total = wide[0]
        for factor in wide[1:len(factors)]:
            total = apply("mul", total, factor)
        return convert(total if divisor is None else apply("div", total, wide[-1]), DType.F32)

    return call.map(product, *factors, *([] if divisor is None else [divisor]))


def requantize(call: Call, total: Value, scale: Value, zero: Value | None, dtype: DType) -> Value:
    """Sums as quantized integers; see edgecc/ops/requantize.py."""
    return call.map(lambda t, s, *z: requantized(t, s, z[0] if z else None, dtype), total, scale, *([] if zero is None else [zero]))


# -- convolutions -----------------------------------------------------------------------------


def _convolved(call: Call, x: Value, x_zero: Value | None, w: Value, w_zero: Value | None, b: Value | None) -> Value:
    """Sums of (x - x_zero) * (w - w_zero), zeros of x beyond its borders."""
    if w.type.rank < 3:
        raise EdgeccError("E110", f"the weights are {w.type}, wanted [channels, channels / group, ...]")
    channels = (w.type.dims[0], *(1,) * (w.type.rank - 1))
    weights = centred(call, w, None if w_zero is None else parameter(call, w_zero, channels))
    zero = known_zero(x_zero)
    if zero is None and x_zero is not None:
        x, zero = centred(call, x, parameter(call, x_zero, ())), 0
    return convolve(call, x, weights, b, zero or None)


@converter("ConvInteger", since=10)
def _conv_integer(call: Call) -> Value:
    return _convolved(call, call.input(0), call.optional(2), call.input(1), call.optional(3), None)


@converter("QLinearConv", since=10)
def _qlinear_conv(call: Call) -> Value:
    x, w, bias = call.input(0), call.input(3), call.optional(8)
    total = _convolved(call, x, call.optional(2), w, call.optional(5), bias)
    channels = (1, w.type.dims[0], *(1,) * (w.type.rank - 2))
    scales = [parameter(call, call.input(1), ()), parameter(call, call.input(4), channels)]
    zero = call.input(7)
    return requantize(call, total, scale_of(call, scales, parameter(call, call.input(6), ())), parameter(call, zero, ()), zero.type.dtype)


# -- matrix products --------------------------------------------------------------------------


def product(call: Call, a: Value, a_zero: Value | None, b: Value, b_zero: Value | None) -> Value:
    """Sums of (a - a_zero) * (b - b_zero); zero points are scalars, or one for each row of a and each column of b."""
    zeros: list[int | None] = []
    operands = []
    for operand, zero, along in ((a, a_zero, -2), (b, b_zero, -1)):
        shape = [size if axis - operand.type.rank == along else 1 for axis, size in enumerate(operand.type.shape)]
        known = known_zero(zero)
        folds = operand.constant is not None or known is None
        if zero is not None and folds:
            rank = zero.type.rank
            full = zero if rank > 1 and rank == operand.type.rank else parameter(call, zero, shape)
            operands.append(centred(call, operand, full))
            zeros.append(None)
        else:
            operands.append(operand)
            zeros.append(known or None)
    return matmul(call, *operands, op=MatMul(a_zero=zeros[0], b_zero=zeros[1]))


@converter("MatMulInteger", since=10)
@converter("MatMulInteger16", domain="com.microsoft")
def _matmul_integer(call: Call) -> Value:
    return product(call, call.input(0), call.optional(2), call.input(1), call.optional(3))


@converter("QLinearMatMul", since=10)
def _qlinear_matmul(call: Call) -> Value:
    a, b, y_zero = call.input(0), call.input(3), call.input(7)
    total = product(call, a, call.input(2), b, call.input(5))

    def scale(value: Value, operand: Value, along: int) -> Value:
        if value.type.rank > 1 and value.type.rank == operand.type.rank:
            return value
        shape = [size if axis - operand.type.rank == along else 1 for axis, size in enumerate(operand.type.shape)]
        return parameter(call, value, shape)

    scales = [scale(call.input(1), a, -2), scale(call.input(4), b, -1)]
    return requantize(call, total, scale_of(call, scales, parameter(call, call.input(6), ())), parameter(call, y_zero, ()),
                      y_zero.type.dtype)
