"""Quantization without division: two multiply-adds in place of a quotient by a known scale, where no integer changes.

    saturate(round(x / s) + z)  ->  saturate(round(fma(x, high, x * low)) + z)    with high + low = 1 / s

`high` is 1/s rounded down to f32 and `low` what is left of it, rounded: products are off by about 2**-48 before they are
rounded, so almost all are the rounded quotients. Both forms rise with x, infinities included, and NaN stays NaN. So they give the same
integers for every x if they do at the floats around each place where the integer changes, of which 8 bits have 255:
that is tried out. Where one differs, the division stays.

Cores divide vectors at a tenth of the rate of multiply-adds and less. Source: N. Brisebarre, J.-M. Muller and S. K. Raina,
"Accelerating correctly rounded floating-point division when the divisor is known in advance", IEEE Transactions on
Computers 53(8), 2004.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np

from edgecc.ir.types import Array, DType
from edgecc.loop.arithmetic import operation
from edgecc.loop.ir import Cast, Const, Expr, Op
from edgecc.targets.schema import Target

F32 = DType.F32
LEAST, MOST = 2.0**-60, 2.0**60
"""Scales between these leave no factor, and no product near a tie, subnormal or infinite."""

NEIGHBOURS = 8
"""Floats tried on either side of a quotient between two integers, which is off by at most two of them."""


def without_division(value: Expr, target: Target) -> Expr:
    """`value`, a vector of integers of 8 bits quantized by a constant scale, by multiply-adds where that is the same.

    Only on machines that have multiply-adds of vectors; everything else comes back as it is.
    """
    if value.lanes == 1 or not (target.has("neon") or target.has("avx2", "fma")):
        return value
    return _rewritten(value)


def _rewritten(value: Expr) -> Expr:
    match value:
        case Cast(arg=total, dtype=dtype) if dtype in (DType.I8, DType.U8) and total.dtype is F32:
            match total:
                case Op("add", (Op() as rounded, Const(value=zero) as offset)):
                    nearest = _rounded(rounded, float(zero), dtype)
                    return value if nearest is None else replace(value, arg=replace(total, args=(nearest, offset)))
                case Op():
                    nearest = _rounded(total, 0.0, dtype)
                    return value if nearest is None else replace(value, arg=nearest)
        case Cast(arg=Op("sub", (Cast(arg=number, dtype=DType.I32) as wide, moved)) as difference, dtype=DType.I8):
            inside = _rewritten(number)
            if inside is not number:
                return replace(value, arg=replace(difference, args=(replace(wide, arg=inside), moved)))
    return value


def _rounded(value: Op, zero: float, dtype: DType) -> Op | None:
    """A rounded quotient by multiply-adds, given the zero point that is added to it and the type it becomes."""
    match value:
        case Op("round", (Op("div", (x, Const(value=scale))),)):
            factors = factors_of(float(scale), zero, dtype)
            if factors is not None:
                high, low = (Const(factor, F32, x.lanes) for factor in factors)
                return replace(value, args=(Op("fma", (x, high, Op("mul", (x, low), F32, x.lanes)), F32, x.lanes),))
    return None


@functools.cache
def factors_of(scale: float, zero: float, dtype: DType) -> tuple[float, float] | None:
    """The factors (high, low) that quantize with this scale and zero point as the quotient does; None where there are none.

    Powers of two have none: their inverse is exact, and simplification multiplies by it.
    """
    if not (LEAST <= scale <= MOST and zero.is_integer() and abs(zero) <= 256) or np.float32(scale) != scale:
        return None
    inverse = 1 / Fraction(scale)
    high = np.float32(float(inverse))
    if Fraction(float(high)) > inverse:
        high = np.nextafter(high, np.float32(0))
    low = np.float32(float(inverse - Fraction(float(high))))
    factors = float(high), float(low)
    return factors if low > 0 and quantize_alike(factors, scale, zero, dtype) else None


def quantize_alike(factors: tuple[float, float], scale: float, zero: float, dtype: DType) -> bool:
    """Whether products with (high, low) round to the same integers as quotients by `scale`: near each step, and so everywhere, since both grow with x."""
    high, low = map(np.float32, factors)
    tried = _around_steps(scale, zero, dtype)
    fused, product = operation("fma", F32, F32), operation("mul", F32, F32)
    quotients = operation("div", F32, F32)(tried, np.float32(scale))
    products = fused(tried, high, product(tried, low))
    return bool(np.array_equal(np.rint(quotients), np.rint(products)))


def _around_steps(scale: float, zero: float, dtype: DType) -> Array:
    """The floats around each quotient that lies between two neighbouring integers of the type: f32 [steps, 2 * NEIGHBOURS + 1]."""
    low, high = (int(limit) - int(zero) for limit in dtype.limits)
    halves = np.arange(low, high) + 0.5
    places = (halves * scale).astype(np.float32)
    out = [places]
    for end in (-math.inf, math.inf):
        following = places
        for _ in range(NEIGHBOURS):
            following = np.nextafter(following, np.float32(end))
            out.append(following)
    return np.stack(out, axis=1)
