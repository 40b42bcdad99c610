"""exp, log, erf, and the hyperbolic functions and their inverses.

Range reduction is the classical one (W. J. Cody and W. Waite, Software Manual for the Elementary
Functions, 1980); the polynomials come from benches/minimax.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from edgecc.loop.math_kit import (
    INFINITY,
    NEGATIVE_POWER,
    SMALLEST_NORMAL,
    TWO_POWERS,
    Kit,
    MathFunction,
    Value,
    exp2_parts,
    exp_parts,
    fma,
    log_parts,
    log_sum,
    maximum,
    minimum,
    power,
    root,
    scale,
    select,
    with_sign_of,
)

ERF_LIMIT = 0.8125
ERF_SMALL = (0.12837917, -0.37612605, 0.112831116, -0.026819598, 0.0050814888, -0.00065049547)
ERF_LARGE = (-1.6281294, -0.9170539, -0.15198614, 0.03310473, -0.0046639256, 0.0003118701)
GELU_LIMIT = 12.0
GELU = (-1.1511075496673584, -0.45917990803718567, -0.05260712280869484, 0.007260364480316639, -0.00031601375667378306,
        -0.00010022141213994473, 1.8783211999107152e-05, -9.058173873199848e-07)
TANH = (-0.3333333, 0.13333221, -0.05394818, 0.021706894, -0.0081900135, 0.002152684)
SINH = (0.16666667, 0.0083333105, 0.00019842896, 2.7822132e-06)


def exp(lanes: int) -> MathFunction:
    """e^x: see `exp_parts`. Beyond the clamps the result is 0 or infinity anyway."""
    k = Kit("exp", lanes)
    (x,) = k.arguments
    p, e = exp_parts(k, k.let("c", minimum(maximum(x, -104.0), 89.0)), TWO_POWERS)
    return k.finish(scale(k, p, e), "e^x")


def decay(lanes: int) -> MathFunction:
    """e^x for x <= 0. From the clamp on n is -127, whose power of two is 0 here."""
    k = Kit("decay", lanes)
    (x,) = k.arguments
    p, e = exp_parts(k, k.let("c", maximum(x, -88.0)))
    return k.finish(p * power(e), "e^x for x <= 0")


def log(lanes: int) -> MathFunction:
    """Natural logarithm: see `log_sum`. Subnormal arguments are scaled by 2^23 first."""
    k = Kit("log", lanes)
    (x,) = k.arguments
    is_small = k.let("small", x < SMALLEST_NORMAL)
    f, e = log_parts(k, select(is_small, x * 2.0**23, x))
    y = k.let("y", log_sum(k, f, k.let("es", e + select(is_small, k.constant(-23.0), 0.0))))
    outside = select(x.equals(0.0), k.constant(-INFINITY), math.nan)
    return k.finish(select(x > 0.0, select(x.equals(INFINITY), x, y), outside), "natural logarithm")


def erf(lanes: int) -> MathFunction:
    """Error function: x + x p(x^2) near 0; 1 - 2^(|x| q(|x|)), where |x| q approximates log2 erfc, up to 4."""
    k = Kit("erf", lanes)
    (x,) = k.arguments
    a = k.let("a", abs(x))
    small = k.let("y_small", fma(a, k.polynomial(k.let("z", x * x), ERF_SMALL), a))
    c = k.let("c", minimum(a, 4.0))
    p, e = exp2_parts(k, k.let("l", c * k.polynomial(c, ERF_LARGE)), NEGATIVE_POWER)
    large = fma(p, power(e), 1.0)
    return k.finish(with_sign_of(select(a < ERF_LIMIT, small, large), x), "error function")


def gelu(lanes: int) -> MathFunction:
    """x times the normal distribution function P of x: max(x, 0) - |x| P(-|x|), where |x| p(|x|) - 1 approximates log2 P(-|x|), up to 12."""
    k = Kit("gelu", lanes)
    (x,) = k.arguments
    c = k.let("c", minimum(abs(x), GELU_LIMIT))
    p, e = exp2_parts(k, k.let("l", fma(c, k.polynomial(c, GELU), -1.0)), NEGATIVE_POWER)
    return k.finish(fma(p, c * power(e), maximum(x, 0.0)), "x times the normal distribution function")


def tanh(lanes: int) -> MathFunction:
    """Hyperbolic tangent by the exponential of every machine."""
    def exp_plus_one(k: Kit, c: Value) -> Value:
        p, e = exp_parts(k, c)
        return fma(p, power(e), 1.0)

    return tanh_of(lanes, exp_plus_one)


def tanh_of(lanes: int, exp_plus_one: Callable[[Kit, Value], Value]) -> MathFunction:
    """Hyperbolic tangent: x + x^3 p(x^2) below 0.625, else 1 - 2 / (exp(2|x|) + 1); 1 to float from 9.02 on."""
    k = Kit("tanh", lanes)
    (x,) = k.arguments
    a = k.let("a", abs(x))
    z = k.let("z", x * x)
    small = k.let("y_small", fma(z * a, k.polynomial(z, TANH), a))
    large = 1.0 - 2.0 / exp_plus_one(k, k.let("c", minimum(a, 9.1) * 2.0))
    return k.finish(with_sign_of(select(a < 0.625, small, large), x), "hyperbolic tangent")


def sigmoid(lanes: int) -> MathFunction:
    """1 / (1 + exp(-x)), from exp(-|x|), which cannot overflow."""
    k = Kit("sigmoid", lanes)
    (x,) = k.arguments
    p, e = exp_parts(k, k.let("c", maximum(-abs(x), -104.0)), TWO_POWERS)
    y = k.let("ex", scale(k, p, e))
    return k.finish(select(x < 0.0, y, 1.0) / (y + 1.0), "1 / (1 + e^-x)")


def gated(lanes: int) -> MathFunction:
    """y / (1 + exp(-u)): e^89 is infinity here, and the quotient 0."""
    k = Kit("gated", lanes, ("y", "u"))
    y, u = k.arguments
    p, e = exp_parts(k, k.let("c", -minimum(maximum(u, -89.0), 87.0)))
    return k.finish(y / fma(p, power(e), 1.0), "y / (1 + e^-u)")


def _half_exp(k: Kit, a: Value) -> Value:
    """exp(a) / 2 for a >= 0, finite wherever sinh and cosh are."""
    p, e = exp_parts(k, k.let("c", minimum(a, 90.0)), TWO_POWERS - 1)
    return k.let("h", scale(k, p, e))


def cosh(lanes: int) -> MathFunction:
    """(e^|x| + e^-|x|) / 2 = h + 1 / (4 h) with h = e^|x| / 2."""
    k = Kit("cosh", lanes)
    (x,) = k.arguments
    h = _half_exp(k, abs(x))
    return k.finish(0.25 / h + h, "hyperbolic cosine")


def sinh(lanes: int) -> MathFunction:
    """x + x^3 p(x^2) below 1, else h - 1 / (4 h) with h = e^|x| / 2, and the sign of x."""
    k = Kit("sinh", lanes)
    (x,) = k.arguments
    a = k.let("a", abs(x))
    z = k.let("z", x * x)
    small = k.let("y_small", fma(z * a, k.polynomial(z, SINH), a))
    h = _half_exp(k, a)
    return k.finish(with_sign_of(select(a < 1.0, small, h - 0.25 / h), x), "hyperbolic sine")


def _log_of_one_plus(k: Kit, u: Value, plus_ln2: Value | None = None) -> Value:
    """log(1 + u) for u > -1; `plus_ln2` says where ln 2 is to be added.

    1 + u is rounded to s; the part that was lost, over s, is added to log(s) (N. J. Higham, Accuracy
    and Stability of Numerical Algorithms, 2002, section 1.14.1, is about this effect).
    """
    s = k.let("s", u + 1.0)
    lost = k.let("lost", select(u < 1.0, u - (s - 1.0), 1.0 - (s - u)) / s)
    f, e = log_parts(k, s)
    if plus_ln2 is not None:
        e = k.let("es", e + select(plus_ln2, k.constant(1.0), 0.0))
        lost = k.let("tail", select(plus_ln2, k.constant(0.0), lost))
    return log_sum(k, f, e, lost)


HUGE = 2.0**26
"""From here on x^2 + 1 is x^2 and 1 + x is x to float."""


def asinh(lanes: int) -> MathFunction:
    """log(1 + u), u = |x| + x^2 / (1 + sqrt(1 + x^2)), with the sign of x; log(2|x|) for huge x."""
    k = Kit("asinh", lanes)
    (x,) = k.arguments
    a = k.let("a", abs(x))
    z = k.let("z", x * x)
    u = k.let("u", z / (root(z + 1.0) + 1.0) + a)
    is_huge = k.let("huge", a > HUGE)
    y = _log_of_one_plus(k, k.let("v", select(is_huge, a, u)), is_huge)
    return k.finish(with_sign_of(select(a < INFINITY, y, a), x), "inverse hyperbolic sine")


def acosh(lanes: int) -> MathFunction:
    """log(1 + u), u = t + sqrt(2t + t^2), t = x - 1; log(2x) for huge x; NaN below 1."""
    k = Kit("acosh", lanes)
    (x,) = k.arguments
    t = k.let("t1", x - 1.0)
    u = k.let("u", root(fma(t, t, t + t)) + t)
    is_huge = k.let("huge", x > HUGE)
    y = _log_of_one_plus(k, k.let("v", select(is_huge, x, u)), is_huge)
    finite = select(x < INFINITY, y, x)
    return k.finish(select(x < 1.0, k.constant(math.nan), finite), "inverse hyperbolic cosine")


def atanh(lanes: int) -> MathFunction:
    """log(1 + 2|x| / (1 - |x|)) / 2 with the sign of x; infinity at 1, NaN beyond."""
    k = Kit("atanh", lanes)
    (x,) = k.arguments
    a = k.let("a", abs(x))
    y = _log_of_one_plus(k, k.let("u", (a + a) / (1.0 - a))) * 0.5
    inside = with_sign_of(y, x)
    edge = select(a.equals(1.0), x * INFINITY, math.nan)
    return k.finish(select(a < 1.0, inside, edge), "inverse hyperbolic tangent")
