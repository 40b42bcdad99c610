"""Sine, cosine, tangent and their inverses.

The argument of sin, cos and tan is reduced to r in [-pi/4, pi/4] and a quadrant. Vectors subtract the
multiple of pi/2 in three parts with fma (W. J. Cody and W. Waite, 1980), which is accurate to 2^17.
Scalars do it in f64; beyond 2^17 they multiply by as much of 2/pi as matters (M. Payne and R. Hanek,
Radian reduction for trigonometric functions, 1983). A vector with an argument beyond 2^17 hands its
lanes, one after the other, to the scalar function: slow, but such arguments do not occur in networks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from edgecc.ir.types import DType
from edgecc.loop.builder import number, operation
from edgecc.loop.ir import Broadcast, Expr, Horizontal, Lane, Op
from edgecc.loop.math_kit import INFINITY, MAGIC, Kit, MathFunction, Value, apply, fma, root, select, with_sign_of

SIN = (-0.16666667, 0.008333379, -0.00019853064, 2.83251e-06)
COS = (0.041666668, -0.001388898, 2.4822002e-05, -2.8877423e-07)
ASIN = (0.16666752, 0.074953094, 0.045469154, 0.024184743, 0.042158388)
ATAN = (-0.333333, 0.1999853, -0.14264016, 0.10950881, -0.083993144, 0.057881717, -0.0310976, 0.010869233, -0.0017830074)

REDUCTION_LIMIT = 2.0**17
MAGIC_DOUBLE = 1.5 * 2.0**52
"""Adding it to a small double rounds it to an integer, which then stands in the low bits."""


@functools.cache
def _pi_fraction() -> Fraction:
    """pi to 400 bits, by J. Machin's formula 16 atan(1/5) - 4 atan(1/239) (1706)."""
    one = 1 << 420

    def atan_inverse(n: int) -> int:
        total, term, k = 0, one // n, 1
        while term:
            total += term // k if k % 4 == 1 else -(term // k)
            term //= n * n
            k += 2
        return total

    return Fraction(16 * atan_inverse(5) - 4 * atan_inverse(239), one)


@functools.cache
def _half_pi_parts() -> tuple[float, float, float]:
    """pi/2 as a sum of three floats, each as near as it can be."""
    rest, parts = _pi_fraction() / 2, []
    for _ in range(3):
        part = float(np.float32(float(rest)))
        parts.append(part)
        rest -= Fraction(part)
    return parts[0], parts[1], parts[2]


@functools.cache
def _two_over_pi_chunks() -> tuple[float, ...]:
    """2/pi in chunks of 24 bits: the sum of all is 2/pi to 216 bits, and products with a float are exact in f64."""
    rest, chunks = 2 / _pi_fraction(), []
    for position in range(9):
        unit = Fraction(1, 2 ** (24 * (position + 1)))
        chunk = (rest // unit) * unit
        chunks.append(float(chunk))
        rest -= chunk
    return tuple(chunks)


HALF_PI = math.pi / 2
HALF_PI_HIGH = float(np.float32(HALF_PI))
HALF_PI_LOW = HALF_PI - HALF_PI_HIGH


def _reduce_vector(k: Kit, x: Value) -> tuple[Value, Value]:
    """(r, q): x = r + q pi/2, for |x| <= 2^17; the low two bits of q count quadrants."""
    parts = _half_pi_parts()
    t = k.let("t", fma(x, 1.0 / HALF_PI, MAGIC))
    n = k.let("n", t - MAGIC)
    r = x
    for part in parts:
        r = fma(n, -part, r)
    return k.let("r", r), k.let("q", t.bits())


def _reduce_scalar(k: Kit, x: Value) -> tuple[Value, Value]:
    """The same for one number of any size, in f64."""
    f64 = DType.F64
    d = k.let("d", x.to(f64))
    t = k.let("t", d * (2.0 / math.pi) + MAGIC_DOUBLE)
    n = k.let("n", t - MAGIC_DOUBLE)
    high = float(np.float32(HALF_PI))  # 24 bits: products with n are exact
    low = float(_pi_fraction() / 2 - Fraction(high))
    b = k.builder
    r = b.declare("r", (d - n * high - n * low).to(DType.F32).expr)
    q = b.declare("q", t.bits(DType.I64).to(DType.I32).expr)
    with b.when((abs(x) > REDUCTION_LIMIT).expr):
        # x times chunk j is a multiple of 4, a whole turn, from an exponent of 49 + 24 j on: the
        # product starts with the first chunk that matters, and five chunks leave an error of 2^-70.
        chunks = _two_over_pi_chunks()
        a = k.let("a", abs(x))
        later = [k.let("beyond", a >= 2.0 ** (49 + 24 * j)) for j in range(4)]
        terms = []
        for position in range(5):
            chunk: Value = Value(number(chunks[position], f64))
            for j, beyond in enumerate(later):
                chunk = select(beyond, Value(number(chunks[position + j + 1], f64)), chunk)
            product = k.let("h", d * chunk)
            terms.append(k.let("m", product - apply("round", product * 0.25) * 4.0))
        # The first sum is exact, and so is the difference: the terms have few bits.
        start = k.let("start", terms[0] + terms[1])
        turns = k.let("turns", apply("round", start + terms[2]))
        fraction = start - turns + terms[2] + terms[3] + terms[4]
        b.assign(r, (fraction * HALF_PI).to(DType.F32).expr)
        b.assign(q, turns.to(DType.I32).expr)
    return Value(r), Value(q)


def _sine(k: Kit, r: Value, z: Value) -> Value:
    """sin(r) = r + r^3 p(r^2)."""
    return k.let("sine", fma(k.let("r3", r * z), k.polynomial(z, SIN), r))


def _cosine(k: Kit, z: Value) -> Value:
    """cos(r) = 1 - r^2/2 + r^4 p(r^2)."""
    return k.let("cosine", fma(k.let("z2", z * z), k.polynomial(z, COS), fma(z, -0.5, 1.0)))


def _periodic(op: str, lanes: int, doc: str, combine: Callable[[Kit, Value, Value, Value], Value]) -> MathFunction:
    """A function of the quadrant and of sin and cos of the reduced argument."""
    k = Kit(op, lanes)
    (x,) = k.arguments
    r, q = _reduce_scalar(k, x) if lanes == 1 else _reduce_vector(k, x)
    z = k.let("z", r * r)
    result = combine(k, q, _sine(k, r, z), _cosine(k, z))
    if op != "cos":
        result = select(x.equals(0.0), x, result)  # keeps the sign of zero
    if lanes == 1:
        return k.finish(result, doc)
    register = k.builder.declare("y", result.expr)
    a = k.let("a", abs(x))
    finite = k.let("finite", select(a < INFINITY, a, 0.0))
    largest = Horizontal("max", finite.expr)
    with k.builder.when(operation("lt", number(REDUCTION_LIMIT, DType.F32), largest)):
        for position in range(lanes):
            own = Lane(x.expr, position)
            value: Expr = Op(op, (own,), DType.F32, 1)
            same = operation("eq", x.expr, Broadcast(own, lanes))
            k.builder.assign(register, operation("select", same, Broadcast(value, lanes), register))
    return k.finish(Value(register), doc)


def _flip(q: Value, bit: int, value: Value) -> Value:
    """`value`, negated where bit number `bit` of `q` is set."""
    return (((q >> bit) << 31) ^ value.bits()).bits(DType.F32)


def sin(lanes: int) -> MathFunction:
    """Sine: sin or cos of the reduced argument by the quadrant's parity, negated in the lower half."""

    def combine(k: Kit, q: Value, s: Value, c: Value) -> Value:
        return _flip(q, 1, select((q & 1).equals(0), s, c))

    return _periodic("sin", lanes, "sine", combine)


def cos(lanes: int) -> MathFunction:
    """Cosine: the sine one quadrant on."""

    def combine(k: Kit, q: Value, s: Value, c: Value) -> Value:
        return _flip(k.let("q1", q + 1), 1, select((q & 1).equals(0), c, s))

    return _periodic("cos", lanes, "cosine", combine)


def tan(lanes: int) -> MathFunction:
    """Tangent: sin / cos in even quadrants, -cos / sin in odd ones."""

    def combine(k: Kit, q: Value, s: Value, c: Value) -> Value:
        even = k.let("even", (q & 1).equals(0))
        return _flip(q, 0, select(even, s, c) / select(even, c, s))

    return _periodic("tan", lanes, "tangent", combine)


# -- inverses -------------------------------------------------------------------------------------


def _asin_parts(k: Kit, x: Value) -> tuple[Value, Value, Value]:
    """(outer, s, p): asin(s) = s + p where s = |x| up to 1/2, else s = sqrt((1 - |x|) / 2) and `outer` is true.

    asin(x) = pi/2 - 2 asin(sqrt((1 - x) / 2)) keeps the polynomial's argument below 1/2. Beyond 1 the
    square root is NaN.
    """
    a = k.let("a", abs(x))
    outer = k.let("outer", a > 0.5)
    half = k.let("half", 0.5 - a * 0.5)
    z = k.let("z", select(outer, half, a * a))
    s = k.let("s", select(outer, root(half), a))
    return outer, s, k.let("sp", k.let("sz", s * z) * k.polynomial(z, ASIN))


def asin(lanes: int) -> MathFunction:
    """Arc sine: see `_asin_parts`."""
    k = Kit("asin", lanes)
    (x,) = k.arguments
    outer, s, p = _asin_parts(k, x)
    far = fma(s, -2.0, HALF_PI_HIGH) - fma(p, 2.0, -HALF_PI_LOW)
    return k.finish(with_sign_of(select(outer, far, s + p), x), "arc sine")


def acos(lanes: int) -> MathFunction:
    """Arc cosine: 2 asin(sqrt((1 - x) / 2)) above 1/2, pi minus that below -1/2, else pi/2 - asin(x)."""
    k = Kit("acos", lanes)
    (x,) = k.arguments
    outer, s, p = _asin_parts(k, x)
    negative = k.let("negative", x < 0.0)
    twice = k.let("twice", (s + p) * 2.0)
    far = select(negative, (2.0 * HALF_PI_HIGH - s * 2.0) - fma(p, 2.0, -2.0 * HALF_PI_LOW), twice)
    signed_s = select(negative, -s, s)
    signed_p = select(negative, -p, p)
    near = HALF_PI_HIGH - (signed_s + (signed_p - HALF_PI_LOW))
    return k.finish(select(outer, far, near), "arc cosine")


def atan(lanes: int) -> MathFunction:
    """Arc tangent: t + t^3 p(t^2) with t = |x| up to 1, else t = 1/|x| and pi/2 minus the result."""
    k = Kit("atan", lanes)
    (x,) = k.arguments
    a = k.let("a", abs(x))
    inverted = k.let("inverted", a > 1.0)
    t = k.let("t", select(inverted, 1.0 / a, a))
    z = k.let("z", t * t)
    p = k.let("tp", k.let("tz", t * z) * k.polynomial(z, ATAN))
    far = (HALF_PI_HIGH - t) - (p - HALF_PI_LOW)
    return k.finish(with_sign_of(select(inverted, far, t + p), x), "arc tangent")
