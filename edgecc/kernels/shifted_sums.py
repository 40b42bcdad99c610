"""Integer sums that are floats already: conversions by addition, where sums are known to be small.

The bits of 1.5 * 2**23 + n as an f32 are those of 1.5 * 2**23 plus n, for |n| < 2**22. So a sum in i32 that starts from these
bits is such a float once it is complete, and adding 1.5 * 2**23 to a float below 2**22 rounds it to an integer, ties to even,
which then stands in the lowest bits. The results are those of conversions, to the bit:

    acc = bits(M) + bias;  acc += x * w ...;  nearest((float(acc) - M) * scale)  =  bits((float(acc) - M) * scale + M) - bits(M)

An even zero point goes into the second M: it moves no tie from an even integer to an odd one. An odd one would.

Cores with few units that convert (Cortex-A76: one of two, at half of its rate) are faster with it. Whether sums are small is
found from the weights and the bias of every channel when compiling. Nothing may contract the product with the addition.

Source of the identity: T. J. Dekker and others use it since the 1970s; e.g. N. J. Higham, "Accuracy and Stability of
Numerical Algorithms", 2nd edition, on adding and subtracting large constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgecc.ir.types import Array, DType
from edgecc.kernels import complements
from edgecc.kernels.fused_scale import fused_scale
from edgecc.kernels.integer_bounds import is_by_channel, scale_operand, sum_ranges
from edgecc.kernels.request import Request
from edgecc.loop.ir import Bitcast, Cast, Const, Expr, Op
from edgecc.ops.convolution import Conv
from edgecc.ops.matrix import MatMul
from edgecc.ops.rules import NARROW_INTEGERS

MAGIC = 12582912.0
"""1.5 * 2**23: between 2**23 and 2**24, where neighbours of f32 are integers, with as much room on both sides."""

BITS = 0x4B400000
"""The bits of `MAGIC`; the lowest 16 are zero."""

MOST_ADDED = 256
"""The largest magnitude of a zero point that is part of an M."""

SUM_LIMIT, RESULT_LIMIT = 2**22, 2**15 - 512
SMALL, SHORT = 1, 2
"""Levels of knowledge: sums are below `SUM_LIMIT`; and times the scale below `RESULT_LIMIT`, so that 16 bits hold them."""


SHORT_SUM = 2**25
"""What magnitudes of sums of products, without bias, are below where `Request.short_sums` says so."""


def with_known_sums(request: Request, arrays: Sequence[Array | None]) -> Request:
    """The request with what is known of its sums and products, given the arrays of constant operands."""
    op = request.op
    portable = request.target.vector.bits == 0 and not request.target.has("dsp")  # which convert and round in one instruction
    adds = request.target.has("neon") or portable
    in_pairs = complements.pays(request.target) or (adds and not portable and not request.target.has("dotprod"))
    if request.is_open or not isinstance(op, Conv | MatMul):
        return request
    weights = arrays[1]
    if in_pairs and weights is not None and weights.dtype == np.int8 and weights.size:
        request = replace(request, short_weights=bool(weights.min() > -128))
        if complements.pays(request.target) and isinstance(op, Conv) and request.operand(0).view.dtype in NARROW_INTEGERS:
            bounds = _bounds(op, request.operand(0).view.dtype, weights)
            request = replace(request, short_sums=bounds is not None and bool(bounds.max() < SHORT_SUM))
    if not adds:
        return request
    level = _level(op, request.operand(0).view.dtype, arrays)
    # Narrowing to 16 bits first is for vectors.
    return replace(request, known_sums=min(level, SMALL) if portable else level) if level else request


def with_fused_scale(request: Request, arrays: Sequence[Array | None]) -> Request:
    """The request, of which `with_known_sums` knows already, with whether sums are multiplied with their scale in one multiply-add.

    Out of order, where the loads this takes cost less than an addition.
    """
    op, target = request.op, request.target
    if not request.known_sums or not isinstance(op, Conv | MatMul) or not target.has("neon") or target.core.in_order:
        return request
    place, weights, bias = scale_operand(op.epilogue), arrays[1], arrays[2]
    scale = None if place is None else arrays[place + 2]
    if weights is None or bias is None or scale is None or any(size != 1 for size in bias.shape[:-1]):
        return request
    if scale.size > 1 and not is_by_channel(scale, op, bias.size, len(request.outputs[0].dims)):
        return request
    return replace(request, fused_scale=fused_scale(op, request.operand(0).view.dtype, weights, bias, scale) is not None)


def _level(op: Conv | MatMul, dtype: DType, arrays: Sequence[Array | None]) -> int:
    weights, bias = arrays[1], arrays[2] if len(arrays) > 2 else None
    scale = scale_operand(op.epilogue)
    if dtype not in NARROW_INTEGERS or weights is None or scale is None:
        return 0
    bound = _bounds(op, dtype, weights)
    if bound is None:
        return 0
    if bias is not None:
        if bias.size not in (1, bound.size):
            return 0
        bound = bound + np.abs(bias.reshape(-1).astype(np.float64))
    if not bound.size or bound.max() >= SUM_LIMIT:
        return 0
    factors = arrays[scale + 2] if scale + 2 < len(arrays) else None
    if factors is None or factors.size not in (1, bound.size) or not np.isfinite(factors).all():
        return SMALL
    return SHORT if (bound * np.abs(factors.reshape(-1).astype(np.float64))).max() < RESULT_LIMIT else SMALL


def _bounds(op: Conv | MatMul, dtype: DType, weights: Array) -> Array | None:
    """The largest magnitude of each channel's sums of products, f64; None where channels are not told apart."""
    ranges = sum_ranges(op, dtype, weights)
    return None if ranges is None else np.maximum(-ranges[0], ranges[1])


def by_addition(value: Expr, accumulator: Expr, level: int, addend: Expr | None = None) -> Expr | None:
    """`value` for an accumulator that started from `BITS`; None where it is not made of nearest(f32(accumulator) * scale).

    `addend`: the accumulator started from what edgecc/kernels/fused_scale.py says, and this is the -M * s of its channel.
    """
    match value:
        case Op("nearest", (Op("mul", (Cast(arg=total, dtype=DType.F32), scale)),)) if total == accumulator:
            if addend is None:
                number = Op("sub", (Bitcast(total, DType.F32), Const(MAGIC, DType.F32)), DType.F32)
                product = Op("mul", (number, scale), DType.F32)
            else:
                product = Op("fma", (Bitcast(total, DType.F32), scale, addend), DType.F32)
            bits = Bitcast(Op("add", (product, Const(MAGIC, DType.F32)), DType.F32), DType.I32)
            if level == SHORT:
                return Cast(Cast(bits, DType.I16), DType.I32)
            return Op("sub", (bits, Const(BITS, DType.I32)), DType.I32)
        case Cast(arg=inner):
            done = by_addition(inner, accumulator, level, addend)
            return None if done is None else Cast(done, value.dtype)
        case Op("add" | "max" | "min", (left, right)) if not _mentions(right, accumulator):
            done = by_addition(left, accumulator, level, addend)
            if done is None:
                return None
            moved = _with_zero(done, int(right.value)) if value.op == "add" and isinstance(right, Const) and value.dtype is DType.I32 else None
            return moved or replace(value, args=(done, right))
        case Op(args=args) if value.op != "select":
            parts = [by_addition(arg, accumulator, level, addend) if _mentions(arg, accumulator) else arg for arg in args]
            whole = tuple(part for part in parts if part is not None)
            return replace(value, args=whole) if len(whole) == len(args) and whole != args else None
    return None


def rounds(number: float) -> bool:
    """Whether this is an M, with a zero point or without."""
    return abs(number - MAGIC) <= MOST_ADDED


def _with_zero(value: Expr, zero: int) -> Expr | None:
    """`value`, which `by_addition` made of a rounded number, plus a zero point; None where that takes an addition."""
    match value:
        case Op("sub", (Bitcast() as bits, Const(start))):
            return Op("sub", (bits, Const(int(start) - zero, DType.I32)), DType.I32)
        case Cast(arg=Cast(arg=Bitcast(arg=Op("add", (product, Const(start))))) as short) if zero % 2 == 0 and abs(zero) <= MOST_ADDED:
            bits = Bitcast(Op("add", (product, Const(float(start) + zero, DType.F32)), DType.F32), DType.I32)
            return replace(value, arg=replace(short, arg=bits))
    return None


def _mentions(expr: Expr, part: Expr) -> bool:
    return expr == part or any(_mentions(child, part) for child in expr.children())
