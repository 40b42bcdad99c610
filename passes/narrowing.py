"""Scalar expressions in a half-precision type: which may be computed in it, and how the others read and write it.

A value of type f16 has 11 significant bits and lies between 2^-14 (6e-8 with fewer bits) and 65504; bf16 has 8 bits and
the range of f32, and no arithmetic of its own.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from edgecc.ir.scalar import Apply, Arg, Bitcast, Convert, Literal, ScalarExpr, bitcast, children, convert, retype
from edgecc.ir.types import Array, DType

HALF_OPERATIONS = frozenset({"add", "sub", "mul", "div", "min", "max", "neg", "abs", "select", "lt", "le", "eq"})
"""Operations that round once in f16 and whose result is no larger than their operands make it."""

MOST_GROWTH = 16.0
"""Factor by which a product inside an expression may exceed its other operand: larger ones overflow before they are scaled back."""

_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST = float(np.finfo(np.float16).smallest_normal)


def fits(array: Array, dtype: DType) -> bool:
    """Whether no finite element becomes infinite in `dtype`."""
    if dtype is not DType.F16 or array.size == 0:
        return True
    finite = array[np.isfinite(array)]
    return finite.size == 0 or float(np.max(np.abs(finite))) <= _LARGEST


def keeps_its_digits(value: float) -> bool:
    """Whether a number has all digits of f16 there: zero, infinite, or within the normal range."""
    return value == 0.0 or math.isinf(value) or _SMALLEST <= abs(value) <= _LARGEST


def computes_in_f16(expr: ScalarExpr) -> bool:
    """Whether an f32 expression may be computed in f16, each operation rounded to it.

    That takes f32 (and bool) alone, cheap operations, numbers that f16 holds to its own precision, and no product or
    quotient inside that may be far larger than the result it is part of.
    """
    return _allowed(expr) and _bounded_inside(expr)


def in_f16(expr: ScalarExpr) -> ScalarExpr:
    """The expression with f32 replaced by f16."""
    return retype(expr, lambda dtype: DType.F16 if dtype is DType.F32 else dtype)


def reading(expr: ScalarExpr, narrow: Collection[int], dtype: DType) -> ScalarExpr:
    """The expression with the operands `narrow` read as `dtype` and converted to the type it computes in."""
    match expr:
        case Arg(index=index) if index in narrow:
            return Convert(Arg(index, dtype), expr.dtype)
        case Apply(op=op, args=args):
            return Apply(op, tuple(reading(arg, narrow, dtype) for arg in args), expr.dtype)
        case Convert(arg=arg):
            return convert(reading(arg, narrow, dtype), expr.dtype)
        case Bitcast(arg=arg):
            return bitcast(reading(arg, narrow, dtype), expr.dtype)
    return expr


def _allowed(expr: ScalarExpr) -> bool:
    if expr.dtype not in (DType.F32, DType.BOOL) or isinstance(expr, Convert | Bitcast):
        return False
    if isinstance(expr, Literal):
        return expr.dtype is DType.BOOL or keeps_its_digits(float(expr.value))
    if isinstance(expr, Apply) and expr.op not in HALF_OPERATIONS:
        return False
    return all(_allowed(child) for child in children(expr))


def _bounded_inside(expr: ScalarExpr, *, inside: bool = False) -> bool:
    if isinstance(expr, Apply):
        if inside and expr.op == "mul" and min(_bound(arg) for arg in expr.args) > MOST_GROWTH:
            return False
        if inside and expr.op == "div" and not (isinstance(expr.args[1], Literal) and abs(expr.args[1].value) >= 1 / MOST_GROWTH):
            return False
    return all(_bounded_inside(child, inside=True) for child in children(expr))


def _bound(expr: ScalarExpr) -> float:
    low, high = _range(expr)
    return max(abs(low), abs(high))


def _range(expr: ScalarExpr) -> tuple[float, float]:
    """Bounds of an f32 expression, from the numbers in it alone."""
    match expr:
        case Literal(value=value):
            return float(value), float(value)
        case Apply(op="min" | "max" as op, args=args):
            (a_low, a_high), (b_low, b_high) = (_range(arg) for arg in args)
            pick = min if op == "min" else max
            return pick(a_low, b_low), pick(a_high, b_high)
        case Apply(op="add", args=args):
            (a_low, a_high), (b_low, b_high) = (_range(arg) for arg in args)
            return a_low + b_low, a_high + b_high
        case Apply(op="neg", args=(arg,)):
            low, high = _range(arg)
            return -high, -low
        case Apply(op="mul", args=(arg, Literal(value=factor))):
            ends = [0.0 if factor == 0 else end * float(factor) for end in _range(arg)]
            return min(ends), max(ends)
    return -math.inf, math.inf
