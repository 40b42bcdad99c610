"""Powers and remainders."""

from __future__ import annotations

import math

import numpy as np

from edgecc.ir.types import DType
from edgecc.loop.index import from_expr
from edgecc.loop.ir import FromIndex, Horizontal
from edgecc.loop.math_kit import (
    INFINITY,
    ONE_POWER,
    SMALLEST_NORMAL,
    TWO_POWERS,
    Kit,
    MathFunction,
    Value,
    apply,
    exp2_parts,
    fma,
    log_parts,
    maximum,
    minimum,
    power,
    scale,
    select,
    two_sum,
    with_sign_of,
)

ATANH_TAIL = (0.2, 0.14290655, 0.10567026, 0.22515742)

TWO_OVER_LN2 = 2.0 / math.log(2.0)
_HIGH = float(np.float32(TWO_OVER_LN2))
_LOW = TWO_OVER_LN2 - _HIGH
_THIRD = float(np.float32(1.0 / 3.0))
_THIRD_LOW = 1.0 / 3.0 - _THIRD


def pow(lanes: int) -> MathFunction:
    """|x|^y = 2^(y log2|x|) with log2 to about 36 bits, then the sign and the special cases of C99 F.9.4.4.

    Vectors keep log2|x| as a sum of two floats (T. J. Dekker, A floating-point technique for extending
    the available precision, 1971; products are split with fma); scalars compute in f64.
    """
    k = Kit("pow", lanes, ("x", "y"))
    x, y = k.arguments
    a = k.let("a", abs(x))
    power = _power_scalar(k, a, y) if lanes == 1 else _power_vector(k, a, y)
    b = k.let("b", abs(y))
    whole = k.let("whole", apply("floor", b))
    half = k.let("halved", whole * 0.5)
    is_integer = k.let("integer", whole.equals(b))
    is_odd = k.let("odd", is_integer & (apply("floor", half) < half) & (b < 2.0**24))
    # 0 and infinity, and infinite exponents: the result is 0, 1 or infinity.
    grows = (a > 1.0) ^ (y < 0.0)
    extreme = k.let("extreme", a.equals(0.0) | a.equals(INFINITY) | b.equals(INFINITY))
    power = k.let("w", select(extreme, select(grows, k.constant(INFINITY), 0.0), power))
    # Below zero: NaN unless y is an integer (large and infinite y are even), and a sign where y is odd.
    negative = k.let("negative", x < 0.0)
    invalid = negative & ~is_integer & (a < INFINITY)
    power = k.let("w", select(invalid, k.constant(math.nan), power))
    power = k.let("w", select(is_odd, with_sign_of(power, x), power))
    nan = apply("isnan", x) | apply("isnan", y)
    power = k.let("w", select(nan, x + y, power))
    return k.finish(select(y.equals(0.0) | x.equals(1.0) | (a.equals(1.0) & b.equals(INFINITY)), 1.0, power), "x^y")


def _power_scalar(k: Kit, a: Value, y: Value) -> Value:
    """a^y in f64 for positive finite a: series of atanh and exp, cut off at 2^-45 and 2^-33."""
    f64, i64 = DType.F64, DType.I64
    bits = k.let("i", a.to(f64).bits(i64))
    e = k.let("e", (bits - 0x3FE6A09E667F3BCD) >> 52)  # sqrt(1/2) as in log_parts
    m = k.let("m", (bits - (e << 52)).bits(f64))
    s = k.let("s", (m - 1.0) / (m + 1.0))
    z = k.let("z", s * s)
    series = z * (1.0 / 17) + 1.0 / 15
    for odd in range(13, 0, -2):
        series = series * z + 1.0 / odd
    log2 = k.let("l", s * series * TWO_OVER_LN2 + e.to(f64))
    exponent = k.let("v", apply("max", apply("min", y.to(f64) * log2, 200.0), -200.0))
    magic = 1.5 * 2.0**52
    t = k.let("t", exponent + magic)
    r = k.let("r", (exponent - (t - magic)) * math.log(2.0))
    p = r * (1.0 / math.factorial(9)) + 1.0 / math.factorial(8)
    for n in range(7, -1, -1):
        p = p * r + 1.0 / math.factorial(n)
    power = ((t.bits(i64) + 1023) << 52).bits(f64)  # the low bits of t count; the others are shifted out
    return k.let("w", (p * power).to(DType.F32))


def _product(k: Kit, a: Value, b: Value | float, name: str) -> tuple[Value, Value]:
    """a * b and its rounding error, exactly."""
    h = k.let(name, a * b)
    return h, k.let(f"{name}_low", fma(a, b, -h))


def _power_vector(k: Kit, a: Value, y: Value) -> Value:
    """a^y for positive finite a, in pairs of floats.

    With 1 + f the significand, s = f / (2 + f) and z = s^2, log2(1 + f) = s (2/ln 2) (1 + z/3 + z^2 p(z)).
    """
    is_small = k.let("small", a < SMALLEST_NORMAL)
    f, e = log_parts(k, select(is_small, a * 2.0**23, a))
    e = k.let("es", e + select(is_small, k.constant(-23.0), 0.0))
    d, d_low = two_sum(k, k.constant(2.0), f, "d")
    s = k.let("s", f / d)
    s_low = k.let("s_low", fma(-s, d_low, fma(-s, d, f)) / d)
    z, z_low = _product(k, s, s, "z")
    z_low = k.let("z_low", fma(s + s, s_low, z_low))
    third, third_low = two_sum(k, k.constant(_THIRD), k.let("tail", fma(z, k.polynomial(z, ATANH_TAIL), _THIRD_LOW)), "c")
    w, w_low = _product(k, z, third, "zc")
    w_low = k.let("zc_low", fma(z_low, third, fma(z, third_low, w_low)))
    u, u_low = two_sum(k, k.constant(1.0), w, "u")
    u_low = k.let("u_low", u_low + w_low)
    v, v_low = _product(k, s, u, "su")
    v_low = k.let("su_low", fma(s, u_low, fma(s_low, u, v_low)))
    g, g_low = _product(k, v, _HIGH, "g")
    g_low = k.let("g_low", fma(v_low, _HIGH, fma(v, _LOW, g_low)))
    # e is 0 or larger than g in magnitude, so their sum can be split.
    log2, log2_low = two_sum(k, e, g, "l")
    log2_low = k.let("l_low", log2_low + g_low)
    zero = e.equals(0.0)
    log2, log2_low = k.let("l", select(zero, g, log2)), k.let("l_low", select(zero, g_low, log2_low))
    h, h_low = _product(k, log2, y, "h")
    h_low = k.let("h_low", fma(log2_low, y, h_low))
    clamped = k.let("hc", maximum(minimum(h, 130.0), -152.0))
    low = k.let("hl", select(clamped.equals(h), h_low, 0.0))
    return k.let("w", scale(k, *exp2_parts(k, clamped, TWO_POWERS, low)))


# -- remainders -----------------------------------------------------------------------------------


def _remainder(k: Kit, x: Value, y: Value) -> Value:
    """|x| mod |y|, exactly, for finite x and finite y other than 0.

    Long division of the significands in integers, one bit of the quotient a step: as many steps as the
    exponents differ.
    """
    b = k.builder
    u32, i32 = DType.U32, DType.I32

    def split(value: Value, name: str) -> tuple[Value, Value]:
        is_small = k.let(f"{name}_small", value < SMALLEST_NORMAL)
        bits = k.let(f"{name}_bits", select(is_small, value * 2.0**23, value).bits())
        exponent = (bits >> 23) - select(is_small, k.constant(23, i32), 0)
        return k.let(f"{name}_exponent", exponent), k.let(f"{name}_significand", ((bits & 0x7FFFFF) | 0x800000).to(u32))

    x_exponent, x_significand = split(x, "x")
    y_exponent, y_significand = split(y, "y")
    steps = k.let("steps", x_exponent - y_exponent)
    first = apply("min", x_significand, x_significand - y_significand)  # the difference wraps if it is negative
    register = b.declare("rest", first.expr)
    rest = Value(register)
    most = steps.expr if k.lanes == 1 else Horizontal("max", steps.expr)
    with b.loop("step", from_expr(b.let("most", most))) as step:
        twice = k.let("twice", rest + rest)
        reduced = apply("min", twice, twice - y_significand)
        active = k.let("active", apply("lt", Value(FromIndex(step, i32)), steps))
        b.assign(register, select(active, reduced, rest).expr)
    # rest * 2^(y_exponent - 150), in two exact factors; smaller than y, so never rounded.
    number = k.let("number", rest.to(DType.F32))
    half = k.let("half_scale", y_exponent >> 1)
    scaled = number * power(half + (ONE_POWER - 75)) * power(y_exponent - half + (ONE_POWER - 75))
    return k.let("remainder", select(x < y, x, scaled))


def _fmod(k: Kit, x: Value, y: Value) -> Value:
    """The remainder with the sign of x; NaN for infinite x, for y = 0 and for NaN."""
    a, b = k.let("a", abs(x)), k.let("b", abs(y))
    valid = (a < INFINITY) & (b > 0.0)
    remainder = _remainder(k, a, b)
    return k.let("r", select(k.let("valid", valid), with_sign_of(remainder, x), math.nan))


def fmod(lanes: int) -> MathFunction:
    """Remainder of the division truncated towards zero, exactly."""
    k = Kit("fmod", lanes, ("x", "y"))
    x, y = k.arguments
    return k.finish(_fmod(k, x, y), "remainder with the sign of the dividend")


def mod(lanes: int) -> MathFunction:
    """Remainder of the division rounded down: fmod, plus y where the signs differ (rounded once)."""
    k = Kit("mod", lanes, ("x", "y"))
    x, y = k.arguments
    r = _fmod(k, x, y)
    differs = (r < 0.0) ^ (y < 0.0)
    zero = with_sign_of(k.constant(0.0), y)
    return k.finish(select(r.equals(0.0), zero, select(differs, r + y, r)), "remainder with the sign of the divisor")
