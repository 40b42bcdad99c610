"""The scalar expressions that quantize, dequantize and requantize: where they are built, and where they are recognised.

    quantize      q = saturate(round half to even(x / scale) + zero point)
    dequantize    x = (q - zero point) * scale
    requantize    q = saturate(round half to even(f32(sum) * scale) + zero point)

Each step is one IEEE operation on 32-bit floats: every machine gives the same bytes. Nothing may contract a product with
an addition, and compilers are told so. A requantized sum differs from the exact real value only where that lies within
float32 rounding of a tie.

Source: ONNX QuantizeLinear-21, DequantizeLinear-21.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgecc.ir.scalar import (
    Apply,
    Arg,
    Convert,
    Literal,
    ScalarExpr,
    apply,
    convert,
    evaluate,
    literal,
    substitute,
    widen,
)
from edgecc.ir.types import Array, DType

# -- building -----------------------------------------------------------------------------------


def quantized(x: ScalarExpr, scale: ScalarExpr, zero: ScalarExpr | None, dtype: DType, kind: DType = DType.F32) -> ScalarExpr:
    """`x` as a quantized integer of type `dtype`; the quotient is rounded to the float type `kind`."""
    return rounded(quotient(x, scale, kind), zero, dtype)


def quotient(x: ScalarExpr, scale: ScalarExpr, kind: DType) -> ScalarExpr:
    """`x` over `scale`, both taken as `kind`, rounded to it and stated in f32 (f64, where `kind` is that)."""
    wide = DType.F64 if kind is DType.F64 else DType.F32
    ratio = apply("div", convert(convert(x, kind), wide), convert(convert(scale, kind), wide))
    return convert(convert(ratio, kind), wide)


def dequantized(q: ScalarExpr, scale: ScalarExpr, zero: ScalarExpr | None, kind: DType = DType.F32) -> ScalarExpr:
    """The number of type `kind` that `q`, an integer or a float of few bits, stands for; integers are subtracted in 32 bits."""
    between = DType.F32 if q.dtype.is_float else DType.I64 if q.dtype is DType.U32 else DType.I32
    difference = q if zero is None else apply("sub", convert(q, between), convert(zero, between))
    wide = DType.F64 if kind is DType.F64 else DType.F32
    return convert(apply("mul", convert(difference, wide), convert(scale, wide)), kind)


def requantized(total: ScalarExpr, scale: ScalarExpr, zero: ScalarExpr | None, dtype: DType, *, low: int | None = None,
                high: int | None = None) -> ScalarExpr:
    """`total` (i32) times `scale` (f32) as a quantized integer of type `dtype` with this zero point, from low to high."""
    return rounded(apply("mul", convert(total, DType.F32), scale), zero, dtype, low=low, high=high)


def rounded(value: ScalarExpr, zero: ScalarExpr | None, dtype: DType, *, low: int | None = None, high: int | None = None) -> ScalarExpr:
    """`value`, an f32 expression in units of the result's scale, as a quantized integer of type `dtype`.

    The result is at least `low` and at most `high`; limits that the type has anyway cost nothing.
    """
    least, most = (int(limit) for limit in dtype.limits)
    nearest: ScalarExpr = apply("round", value)
    moved: ScalarExpr = nearest if zero is None else apply("add", nearest, convert(zero, nearest.dtype))
    if low is not None and low > least:
        moved = apply("max", moved, literal(low, moved.dtype))
    if high is not None and high < most:
        moved = apply("min", moved, literal(high, moved.dtype))
    return convert(moved, dtype)


@dataclass(frozen=True)
class Steps:
    """One scale and one zero point for all integers of a tensor, and the type of these."""

    scale: float
    zero: int
    dtype: DType

    def quantized(self, x: ScalarExpr) -> ScalarExpr:
        """`x` (f32) as one of these integers."""
        return quantized(x, literal(self.scale, DType.F32), self.offset, self.dtype)

    def dequantized(self, q: ScalarExpr) -> ScalarExpr:
        """The f32 number that `q` stands for."""
        return dequantized(q, literal(self.scale, DType.F32), literal(self.zero, DType.I32) if self.zero else None)

    @property
    def offset(self) -> Literal | None:
        """The zero point as `rounded` adds it."""
        return literal(self.zero, DType.F32) if self.zero else None

    def code_of(self, value: float) -> int:
        """The integer for one real value, which may be infinite."""
        least, most = (int(limit) for limit in self.dtype.limits)
        steps = value / self.scale
        if not math.isfinite(steps):
            return most if steps > 0 else least
        return min(max(round(steps) + self.zero, least), most)

    def holds(self, value: float) -> bool:
        """Whether one of these integers stands for exactly this value."""
        return (self.code_of(value) - self.zero) * self.scale == value


def table_of(function: ScalarExpr, source: Steps, result: Steps) -> Array:
    """The quantized values of a function of one quantized operand of 8 bits, Arg(0), for each integer that it can be.

    They are computed in f64 and in the order of indices that count from the end where they are negative: 0 to 127 and -128 to
    -1, or 0 to 255.
    """
    codes = np.arange(256).astype(np.uint8).view(source.dtype.numpy)
    real = apply("mul", convert(apply("sub", convert(Arg(0, source.dtype), DType.I32), literal(source.zero, DType.I32)), DType.F64),
                 literal(source.scale, DType.F64))
    steps = apply("div", convert(substitute(widen(function), [real]), DType.F64), literal(result.scale, DType.F64))
    zero = literal(result.zero, DType.F64) if result.zero else None
    return evaluate(rounded(steps, zero, result.dtype), [codes])


# -- recognising --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quantized:
    """An expression that quantizes to f32's precision, taken apart. `zero` is None for 0."""

    x: ScalarExpr
    scale: Arg | Literal
    zero: Arg | Literal | None
    dtype: DType


@dataclass(frozen=True)
class Dequantized:
    """An expression that dequantizes an integer operand to f32, taken apart. `zero` is None for 0."""

    q: Arg
    scale: Arg | Literal
    zero: Arg | Literal | None


_ONE = literal(1.0, DType.F32)
_BYTES = (DType.I8, DType.U8)


def as_quantized(expr: ScalarExpr) -> Quantized | None:
    """The parts of what `quantized` builds with kind f32, or None for any other expression.

    A product with the inverse is recognised too, which simplification makes of a quotient by a power of two, and an operand alone, which is
    one of steps of 1.
    """
    match expr:
        case Convert(Apply("add", (Apply("round", (Apply("mul", (x, Literal() as inverse)),)), offset)), dtype):
            scale, zero = _inverse(inverse), _parameter(offset)
            if scale is None or zero is None:
                return None
        case Convert(Apply("round", (Apply("mul", (x, Literal() as inverse)),)), dtype):
            scale, zero = _inverse(inverse), None
            if scale is None:
                return None
        case Convert(Apply("add", (Apply("round", (Apply("div", (x, Arg() | Literal() as scale)),)), offset)), dtype):
            zero = _parameter(offset)
            if zero is None:
                return None
        case Convert(Apply("round", (Apply("div", (x, Arg() | Literal() as scale)),)), dtype):
            zero = None
        case Convert(Apply("add", (Apply("round", (Arg() as x,)), offset)), dtype):
            scale, zero = _ONE, _parameter(offset)
            if zero is None:
                return None
        case Convert(Apply("round", (Arg() as x,)), dtype):
            scale, zero = _ONE, None
        case _:
            return None
    return Quantized(x, scale, zero, dtype) if dtype.is_integer and scale.dtype is DType.F32 else None


def as_dequantized(expr: ScalarExpr) -> Dequantized | None:
    """The parts of what `dequantized` builds of an integer with kind f32, or None for any other expression.

    Without a factor they are those of steps of 1, where integers have 8 bits.
    """
    match expr:
        case Apply("mul", (Convert(Apply("sub", (wide, offset)), DType.F32), Arg() | Literal() as scale)):
            q, zero = _parameter(wide), _parameter(offset)
            if zero is None:
                return None
        case Apply("mul", (Convert(wide, DType.F32), Arg() | Literal() as scale)):
            q, zero = _parameter(wide), None
        case Convert(Apply("sub", (wide, offset)), DType.F32):
            q, zero, scale = _parameter(wide), _parameter(offset), _ONE
            if zero is None or q is None or q.dtype not in _BYTES:
                return None
        case Convert(Arg() as q, DType.F32) if q.dtype in _BYTES:
            zero, scale = None, _ONE
        case _:
            return None
    if not isinstance(q, Arg) or not q.dtype.is_integer or scale.dtype is not DType.F32:
        return None
    return Dequantized(q, scale, zero)


def _inverse(factor: Literal) -> Literal | None:
    """One over a factor, where that and the factor are powers of two, so that nothing is rounded."""
    value = float(factor.value)
    if value <= 0 or not math.isfinite(value) or math.frexp(value)[0] != 0.5:
        return None
    return Literal(1.0 / value, factor.dtype)


def _parameter(expr: ScalarExpr) -> Arg | Literal | None:
    """An operand or a number, itself or converted once; else None."""
    inner = expr.arg if isinstance(expr, Convert) else expr
    return inner if isinstance(inner, Arg | Literal) else None
