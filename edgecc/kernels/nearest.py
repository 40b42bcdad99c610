"""Rounding to quantized integers in integers: what a saturating conversion of a rounded float is where nothing overflows.

    saturate(round(v) + z)  ->  saturate(nearest(v) + z)      with nearest: f32 -> i32, and + in i32

    f32(saturate(round(v) + z)) - z  ->  ((limited v) + M) - M       with M = 1.5 * 2**23, which leaves no fraction behind

Conversions that round are one instruction, and saturation is part of the instructions that narrow (edgecc/backends/c);
in floats they are a rounding, an addition, a comparison with both ends, and a conversion that heeds NaN and overflow. Both
are the same where v is a number of magnitude below 2**31. That is known of sums in i32 times constants up to 1/2, and of a few
more forms that are found here by interval arithmetic; everything else stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

from edgecc.ir.types import DType
from edgecc.loop.ir import Broadcast, Cast, Const, Expr, Load, Op, map_children

LIMIT = 2.0**31
MAGIC = 12582912.0
"""1.5 * 2**23: adding it to a float below 2**22 rounds that to an integer, ties to even, and taking it away again is exact."""
MOST_OFFSET = 2**24
"""Zero points are smaller; sums with them stay exact in f32 wherever they do not saturate."""

SATURATED = frozenset({DType.I8, DType.U8, DType.I16, DType.U16})


def in_integers(value: Expr, fractions: Collection[str] = (), whole: Expr | None = None) -> Expr:
    """`value`, with the rounding to quantized integers at its end, and inside of it, done in integers where that is the same.

    Inside, integers need not be brought into the form they would have in memory.

    Args:
        fractions: buffers all of whose elements have magnitudes of at most 1/2.
        whole: a float in `value` that is an integer of 32 bits.
    """
    if whole is not None:
        integer = Cast(Cast(whole, DType.I32), DType.F32)  # of which `magnitude` knows how large it can be
        return _replaced(in_integers(_replaced(value, whole, integer), fractions), integer, whole)
    value = _inside(value, fractions)
    if not isinstance(value, Cast) or value.dtype not in SATURATED or value.arg.dtype is not DType.F32:
        return value
    inner = _integer(value.arg, fractions)
    if inner is None:
        return value
    return saturated(inner, value.dtype)


def _replaced(expr: Expr, old: Expr, new: Expr) -> Expr:
    """`expr` with `new` in the place of `old`."""
    return new if expr == old else map_children(expr, lambda child: _replaced(child, old, new))


def _inside(expr: Expr, fractions: Collection[str]) -> Expr:
    """An expression whose parts of the form i32(i8(float)) are computed in i32 alone, and those of the form f32(i8(float)) in f32."""
    match expr:
        case Op("add" | "sub" as op, (Cast(arg=Cast(arg=total, dtype=dtype), dtype=DType.F32), Const(value=zero))) if (
                dtype in SATURATED and total.dtype is DType.F32):
            whole = _limited_float(total, dtype, fractions, -float(zero) if op == "add" else float(zero))
            return expr if whole is None else whole
        case Cast(arg=Cast(arg=total, dtype=dtype), dtype=DType.F32) if dtype in SATURATED and total.dtype is DType.F32:
            whole = _limited_float(total, dtype, fractions, 0.0)
            return expr if whole is None else whole
        case Op("sub", (Cast(arg=Cast(arg=total, dtype=dtype), dtype=DType.I32), Const(value=zero))) if (
                dtype in SATURATED and total.dtype is DType.F32):
            limited = _limited(total, dtype, fractions, int(zero))
            return expr if limited is None else limited
        case Cast(arg=Cast(arg=total, dtype=dtype), dtype=DType.I32) if dtype in SATURATED and total.dtype is DType.F32:
            limited = _limited(total, dtype, fractions, 0)
            return expr if limited is None else limited
        case Op(args=args):
            inside = tuple(_inside(arg, fractions) for arg in args)
            return expr if inside == args else replace(expr, args=inside)
        case Cast(arg=arg):
            below = _inside(arg, fractions)
            return expr if below == arg else replace(expr, arg=below)
    return expr


def _limited(total: Expr, dtype: DType, fractions: Collection[str], zero: int) -> Expr | None:
    """The integer that `total` stands for, saturated as `dtype` and less `zero`, in i32; None where `total` may be none.

    A zero point that is added before and taken away behind moves the limits instead.
    """
    inner = _integer(_inside(total, fractions), fractions)
    if inner is None or abs(zero) >= MOST_OFFSET:
        return None
    low, high = (int(limit) for limit in dtype.limits)
    match inner:
        case Op("add", (number, Const(value=offset))) if int(offset) == zero:
            inner, low, high, zero = number, low - zero, high - zero, 0
    lower, upper = (Const(limit, DType.I32, inner.lanes) for limit in (low, high))
    result: Expr = Op("min", (Op("max", (inner, lower), DType.I32, inner.lanes), upper), DType.I32, inner.lanes)
    return Op("sub", (result, Const(zero, DType.I32, inner.lanes)), DType.I32, inner.lanes) if zero else result


def _limited_float(total: Expr, dtype: DType, fractions: Collection[str], zero: float) -> Expr | None:
    """The integer that `total` stands for, saturated as `dtype` and less `zero`, in f32; None where `total` may be none.

    Limits are applied before rounding, which keeps them.
    """
    total, added = _inside(total, fractions), 0.0
    match total:
        case Op("add", (Op("round") as rounding, Const(value=offset))) if float(offset).is_integer() and abs(float(offset)) < MOST_OFFSET:
            total, added = rounding, float(offset)
    if not isinstance(total, Op) or total.op != "round" or magnitude(total.args[0], fractions) == math.inf or abs(zero) >= MOST_OFFSET:
        return None
    lanes = total.lanes

    def applied(op: str, value: Expr, constant: float) -> Expr:
        return Op(op, (value, Const(constant, DType.F32, lanes)), DType.F32, lanes)

    low, high = (float(int(limit)) - added for limit in dtype.limits)
    limited = applied("min", applied("max", total.args[0], low), high)
    whole = applied("sub", applied("add", limited, MAGIC), MAGIC)
    return applied("add", whole, added - zero) if added != zero else whole


def saturated(value: Expr, dtype: DType) -> Expr:
    """An integer in i32 as a narrow type: the nearest one it has."""
    low, high = (Const(int(limit), DType.I32, value.lanes) for limit in dtype.limits)
    return Cast(Op("min", (Op("max", (value, low), DType.I32, value.lanes), high), DType.I32, value.lanes), dtype)


def _integer(expr: Expr, fractions: Collection[str]) -> Expr | None:
    """The integer in i32 that the f32 expression stands for, up to saturation; None where it may be none."""
    match expr:
        case Op("round", (inner,)):
            bound = magnitude(inner, fractions)
            return Op("nearest", (inner,), DType.I32, expr.lanes) if bound < LIMIT else None
        case Op("add", (left, right)):
            total, offset = _integer(left, fractions), _offset(right)
            # The rounded number fills i32: a sum beyond it would wrap where floats go on.
            if total is None or offset is None or magnitude(left, fractions) + MOST_OFFSET >= LIMIT:
                return None
            none = isinstance(offset, Const) and offset.value == 0
            return total if none else Op("add", (total, offset), DType.I32, expr.lanes)
        case Op("max" | "min" as op, (left, Const() as limit)) if math.isfinite(float(limit.value)) and float(limit.value).is_integer() \
                and abs(float(limit.value)) < MOST_OFFSET:
            inner_total = _integer(left, fractions)
            return None if inner_total is None else Op(op, (inner_total, Const(int(limit.value), DType.I32, limit.lanes)), DType.I32, expr.lanes)
    return None


def _offset(expr: Expr) -> Expr | None:
    """A zero point in i32; None where it is not certainly a small integer."""
    match expr:
        case Const(value=value, lanes=lanes) if math.isfinite(float(value)) and float(value).is_integer() and abs(float(value)) < MOST_OFFSET:
            return Const(int(value), DType.I32, lanes)
        case Cast(arg=inner) if inner.dtype in SATURATED:
            return Cast(inner, DType.I32)
        case Broadcast(arg=inner, lanes=lanes):
            offset = _offset(inner)
            return None if offset is None else Broadcast(offset, lanes)
    return None


def magnitude(expr: Expr, fractions: Collection[str]) -> float:
    """A bound on the magnitude of an expression, rounding included; infinite where none is known."""
    slack = 1.0 + 2.0**-20
    match expr:
        case Const(value=value):
            return abs(float(value)) if math.isfinite(float(value)) else math.inf
        case Cast(arg=inner) if inner.dtype in SATURATED:
            return float(max(abs(limit) for limit in inner.dtype.limits))
        case Cast(arg=inner) if inner.dtype is DType.I32:
            return min(2.0**31, magnitude(inner, fractions))
        case Load(buffer=buffer) if buffer in fractions:
            return 0.5
        case Broadcast(arg=inner):
            return magnitude(inner, fractions)
        case Op("round" | "nearest", (inner,)):
            return magnitude(inner, fractions) + 0.5
        case Op("mul", (left, right)):
            product = magnitude(left, fractions) * magnitude(right, fractions) * slack
            return math.inf if math.isnan(product) else product
        case Op("add" | "sub", (left, right)):
            return (magnitude(left, fractions) + magnitude(right, fractions)) * slack
        case Op("max" | "min", (left, right)):
            return max(magnitude(left, fractions), magnitude(right, fractions))
    return math.inf
