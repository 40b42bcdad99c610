"""What the mathematical functions are written with: values with operators, polynomials, shared steps.

Everything is float arithmetic in the IEEE sense, and "fma" where a product must not be rounded before
the sum. Where a target has no fused multiply-add, an fma is a product and a sum: steps marked
"exact" below stay exact then too, because their constants have few bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgecc.ir.types import DType
from edgecc.loop.builder import Builder, cast, number, operation
from edgecc.loop.ir import Bitcast, Body, Expr, Ref

MAGIC = 12582912.0
"""1.5 * 2^23: adding it to a small float rounds it to an integer, which then stands in the low bits; the lowest ten of it are zero."""
LN2_HIGH = 45426 / 65536
"""The first 16 bits of ln 2: products with integers of up to 8 bits are exact."""
LN2_LOW = math.log(2.0) - LN2_HIGH
LOG2_E = 1.0 / math.log(2.0)
SQRT_HALF_BITS = 0x3F3504F3
SMALLEST_NORMAL = 2.0**-126
INFINITY = math.inf

# Minimax polynomials; benches/minimax.py derives them and prints their errors.
EXP = (0.49999994, 0.16666515, 0.041668087, 0.008369298, 0.0013838282)
EXP2 = (0.69314724, 0.24022655, 0.055502728, 0.009617065, 0.0013417754, 0.00015824557)
LOG = (0.33333308, -0.24999976, 0.20002393, -0.16669902, 0.1421658, -0.12374624, 0.11876124, -0.11830424, 0.069474734)


@dataclass(frozen=True)
class MathFunction:
    """A function as Loop IR.

    Attributes:
        params: the parameters.
        statements: bind what `result` refers to.
        result: the value of the function.
        doc: a line for the comment in generated code.
    """

    params: tuple[Ref, ...]
    statements: Body
    result: Expr
    doc: str = ""


class Value:
    """An expression with operators."""

    __slots__ = ("expr",)

    def __init__(self, expr: Expr) -> None:
        self.expr = expr

    def __add__(self, other: Value | float) -> Value:
        return apply("add", self, other)

    def __radd__(self, other: float) -> Value:
        return apply("add", self, other)

    def __sub__(self, other: Value | float) -> Value:
        return apply("sub", self, other)

    def __rsub__(self, other: float) -> Value:
        return apply("sub", other, self)

    def __mul__(self, other: Value | float) -> Value:
        return apply("mul", self, other)

    def __rmul__(self, other: float) -> Value:
        return apply("mul", self, other)

    def __truediv__(self, other: Value | float) -> Value:
        return apply("div", self, other)

    def __rtruediv__(self, other: float) -> Value:
        return apply("div", other, self)

    def __neg__(self) -> Value:
        return apply("neg", self)

    def __abs__(self) -> Value:
        return apply("abs", self)

    def __lt__(self, other: Value | float) -> Value:
        return apply("lt", self, other)

    def __le__(self, other: Value | float) -> Value:
        return apply("le", self, other)

    def __ge__(self, other: Value | float) -> Value:
        return apply("le", other, self)

    def __gt__(self, other: Value | float) -> Value:
        return apply("lt", other, self)

    def __and__(self, other: Value | int) -> Value:
        return apply("and" if self.expr.dtype is DType.BOOL else "bit_and", self, other)

    def __or__(self, other: Value | int) -> Value:
        return apply("or" if self.expr.dtype is DType.BOOL else "bit_or", self, other)

    def __xor__(self, other: Value | int) -> Value:
        return apply("xor" if self.expr.dtype is DType.BOOL else "bit_xor", self, other)

    def __invert__(self) -> Value:
        return apply("not", self)

    def __lshift__(self, count: int) -> Value:
        return apply("shift_left", self, count)

    def __rshift__(self, count: int) -> Value:
        return apply("shift_right", self, count)

    def equals(self, other: Value | float) -> Value:
        """`self == other`, lane by lane."""
        return apply("eq", self, other)

    def to(self, dtype: DType) -> Value:
        """Converted to `dtype`."""
        return Value(cast(self.expr, dtype))

    def bits(self, dtype: DType = DType.I32) -> Value:
        """The same bits read as `dtype`."""
        return Value(Bitcast(self.expr, dtype))


def rounded(value: float | int, like: DType) -> float | int:
    """A constant as the type holds it, so that every reader of the IR sees the same number."""
    return float(np.float32(value)) if like is DType.F32 else value


def apply(op: str, *args: Value | float) -> Value:
    """A primitive applied to values and numbers."""
    dtype = next(a.expr.dtype for a in reversed(args) if isinstance(a, Value))
    return Value(operation(op, *(a.expr if isinstance(a, Value) else rounded(a, dtype) for a in args)))


def fma(a: Value | float, b: Value | float, c: Value | float) -> Value:
    """`a * b + c`, rounded once."""
    return apply("fma", a, b, c)


def select(condition: Value, then: Value | float, orelse: Value | float) -> Value:
    """`then` where `condition` holds, else `orelse`."""
    return apply("select", condition, then, orelse)


def root(a: Value) -> Value:
    """Square root."""
    return apply("sqrt", a)


def minimum(a: Value, b: float) -> Value:
    """The smaller one; NaN stays NaN."""
    return apply("min", a, b)


def maximum(a: Value, b: float) -> Value:
    """The larger one; NaN stays NaN."""
    return apply("max", a, b)


class Kit:
    """The definition of one function on `lanes` lanes of f32, step by step."""

    def __init__(self, op: str, lanes: int, params: Sequence[str] = ("x",)) -> None:
        self.builder = Builder(op)
        self.lanes = lanes
        self.params = tuple(Ref(self.builder.fresh(name), DType.F32, lanes) for name in params)

    @property
    def arguments(self) -> tuple[Value, ...]:
        """The parameters as values."""
        return tuple(Value(p) for p in self.params)

    def let(self, name: str, value: Value) -> Value:
        """Binds a local."""
        return Value(self.builder.let(name, value.expr))

    def constant(self, value: float | int, dtype: DType = DType.F32) -> Value:
        """A number in every lane."""
        return Value(number(rounded(value, dtype), dtype, self.lanes))

    def finish(self, result: Value, doc: str) -> MathFunction:
        """The function that gives `result`."""
        return MathFunction(self.params, self.builder.function().body, result.expr, doc)

    def polynomial(self, t: Value, coefficients: Sequence[Value | float], name: str = "p") -> Value:
        """c0 + c1 t + c2 t^2 + ... by Horner's rule."""
        p = fma(coefficients[-1], t, coefficients[-2])
        for coefficient in reversed(coefficients[:-2]):
            p = fma(p, t, coefficient)
        return self.let(name, p)


def with_sign_of(magnitude: Value, sign: Value) -> Value:
    """`magnitude`, which is not negative, with the sign of `sign`."""
    return (magnitude.bits() | (sign.bits() & -0x80000000)).bits(DType.F32)


def two_sum(k: Kit, a: Value, b: Value, name: str = "s") -> tuple[Value, Value]:
    """a + b and the error of that sum, exactly, for |a| >= |b| (T. J. Dekker, 1971)."""
    s = k.let(name, a + b)
    return s, k.let(f"{name}_low", b - (s - a))


ONE_POWER, NEGATIVE_POWER, TWO_POWERS = 127, 383, 254
"""What exponents are counted from: 2^n as a float, -2^n, and the sum of the exponents of two factors of 2^n."""


def exp_parts(k: Kit, x: Value, bias: int = ONE_POWER) -> tuple[Value, Value]:
    """(p, e) with exp(x) = p 2^n, p in [0.7, 1.42], for |x| < 2^21 / log2(e); the low 9 bits of e are n + `bias`.

    n is x / ln 2 rounded to an integer, and p = exp(x - n ln 2) = 1 + r + r^2 q(r) with a
    minimax q of degree 4: error 2^-28. The subtraction of n ln 2 in two parts is exact in the first.
    """
    t = k.let("t", fma(x, LOG2_E, MAGIC + bias))
    n = k.let("n", t - (MAGIC + bias))
    r = k.let("r", fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x)))
    q = k.polynomial(r, EXP, "q")
    p = k.let("p", fma(k.let("r2", r * r), q, r) + 1.0)
    return p, t.bits()


def exp2_parts(k: Kit, x: Value, bias: int = ONE_POWER, tail: Value | None = None) -> tuple[Value, Value]:
    """(p, e) with 2^(x + tail) = p 2^n for |x| < 2^21 and a tail smaller than the rounding error of x; e as in `exp_parts`.

    n is x rounded to an integer, and p = 2^(x - n) to 2^-27.
    """
    t = k.let("t", x + (MAGIC + bias))
    r = x - k.let("n", t - (MAGIC + bias))
    r = k.let("r", r if tail is None else r + tail)
    return k.let("p", fma(k.polynomial(r, EXP2, "q"), r, 1.0)), t.bits()


def power(e: Value) -> Value:
    """2^n or -2^n for n in [-126, 127], from an e with bias `ONE_POWER` or `NEGATIVE_POWER`, and 0 for n = -127: other bits are shifted out."""
    return (e << 23).bits(DType.F32)


def scale(k: Kit, p: Value, e: Value) -> Value:
    """p 2^n for n in [-252, 254] and an e with bias `TWO_POWERS`, rounded once, subnormal results and overflow included.

    The factors are two exact powers.
    """
    half = k.let("half", e >> 1)
    return p * power(half) * power(e - half)


def log_parts(k: Kit, x: Value) -> tuple[Value, Value]:
    """(f, e) with x = (1 + f) 2^e, 1 + f in [sqrt(1/2), sqrt(2)), for positive normal x; e as a float."""
    i = k.let("i", x.bits())
    e = k.let("e", (i - SQRT_HALF_BITS) >> 23)
    return k.let("f", (i - (e << 23)).bits(DType.F32) - 1.0), k.let("ef", e.to(DType.F32))


def log_sum(k: Kit, f: Value, e: Value, tail: Value | None = None) -> Value:
    """e ln 2 + log(1 + f) + tail, where tail is smaller than the rounding error of the rest.

    log(1 + f) = f - f^2/2 + f^3 p(f) with a minimax p of degree 8: error 2^-30.
    """
    p = k.polynomial(f, LOG)
    f2 = k.let("f2", f * f)
    low = k.let("low", fma(e, LN2_LOW, k.let("f3", f2 * f) * p))
    if tail is not None:
        low = low + tail
    return fma(e, LN2_HIGH, fma(f2, -0.5, low) + f)
