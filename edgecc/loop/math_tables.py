"""exp, sigmoid, tanh and erf on 16 floats whose tables of 16 numbers lie in registers (edgecc/loop/tables.py).

Looking 16 lanes up at once and multiplying by a power of two whatever the exponent takes two thirds to half of the instructions
of the definitions that serve every machine (math_exponential.py), within the same bounds of error. The tables come from
benches/minimax.py.

Source of the exponential: P. T. P. Tang, "Table-driven implementation of the exponential function in IEEE floating-point
arithmetic", ACM Transactions on Mathematical Software 15(2), 1989.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgecc.ir.types import DType
from edgecc.loop.builder import number
from edgecc.loop.ir import Op
from edgecc.loop.math_exponential import tanh_of
from edgecc.loop.math_kit import (
    LN2_HIGH,
    LN2_LOW,
    LOG2_E,
    Kit,
    MathFunction,
    Value,
    fma,
    maximum,
    minimum,
    rounded,
    select,
    with_sign_of,
)
from edgecc.loop.tables import PLACES

ROUND_TO_SIXTEENTHS = 1.5 * 2**19
"""Adding it rounds a small float to a multiple of 1/16: the four bits behind its binary point are the low ones of the sum."""
EXP_TABLE = tuple(2.0 ** (index / PLACES) for index in range(PLACES))
EXP = (0.5000099, 0.16666636)
"""q of e^r = 1 + r + r^2 q(r) for |r| <= ln 2 / 32."""

ERF_STEP = 33 / 128
"""Distance of the places where erf is expanded; the last one is 15 steps from 0."""
ERF_END = 3.97
"""From here on erf is 1 to float."""
ROUND_TO_INTEGER = 12582912.0
ERF_TABLE = (
    (0.0, 0.28459144, 0.534123, 0.72595984, 0.8552718, 0.9316981, 0.9713021, 0.9892959,
     0.9964638, 0.9989671, 0.9997337, 0.99993944, 0.99998784, 0.99999785, 0.99999964, 0.99999994),
    (0.12837917, 1.0558172, 0.8649471, 0.62037987, 0.3895768, 0.21418826, 0.10310163, 0.043451287,
     0.016032714, 0.0051793903, 0.0014649327, 0.00036276385, 7.8649835e-05, 1.49292955e-05, 2.4811245e-06, 3.026689e-07),
    (0.0, -0.27219975, -0.44597495, -0.47982126, -0.40175337, -0.27610716, -0.15948698, -0.07841419,
     -0.033073325, -0.012012336, -0.0037813797, -0.001028826, -0.00023640538, -4.8396305e-05, -2.7418732e-06, 3.439097e-06),
    (-0.3761229, -0.3051936, -0.13499916, 0.040609993, 0.14633916, 0.16587996, 0.13010328, 0.079862,
     0.04012382, 0.016863685, 0.006002846, 0.0018239688, 0.0004755661, 0.00010679594, 2.07132e-05, 2.8097571e-05),
    (0.0, 0.12920469, 0.18196452, 0.1436372, 0.05870385, -0.014251405, -0.04707743, -0.045892417,
     -0.030087993, -0.015875384, -0.0063012512, -0.0022637255, -0.0009961544, -0.00024405014, -0.0003338435, -0.00033824643),
    (0.11220124, 0.07979406, 0.0024191996, -0.056159724, -0.067508526, -0.04209199, -0.009820177, 0.00902047,
     0.012945917, 0.009372898, 0.0049009775, 0.002014407, 0.00067595986, 0.0001888808, 4.4463486e-05, -0.0019598245),
)
"""Coefficients of erf(i * ERF_STEP + u) as a polynomial of u, lowest power first, each for all 16 i; with i = 0, of erf(u) - u."""


def exp(lanes: int) -> MathFunction:
    """e^x. Beyond the clamps the result is 0 or infinity anyway."""
    k = Kit("exp", lanes)
    (x,) = k.arguments
    return k.finish(_exp(k, k.let("c", minimum(maximum(x, -104.0), 89.0))), "e^x")


def decay(lanes: int) -> MathFunction:
    """e^x for x <= 0."""
    k = Kit("decay", lanes)
    (x,) = k.arguments
    return k.finish(_exp(k, k.let("c", maximum(x, -104.0))), "e^x for x <= 0")


def sigmoid(lanes: int) -> MathFunction:
    """1 / (1 + exp(-x)), from exp(-|x|), which cannot overflow."""
    k = Kit("sigmoid", lanes)
    (x,) = k.arguments
    negative = (x.bits() | -0x80000000).bits(DType.F32)
    e = k.let("e", _exp(k, k.let("c", maximum(negative, -104.0))))
    return k.finish(select(x < 0.0, e, 1.0) / (e + 1.0), "1 / (1 + e^-x)")


def gated(lanes: int) -> MathFunction:
    """y / (1 + exp(-u))."""
    k = Kit("gated", lanes, ("y", "u"))
    y, u = k.arguments
    return k.finish(y / (k.let("e", _exp(k, k.let("c", -minimum(maximum(u, -89.0), 87.0)))) + 1.0), "y / (1 + e^-u)")


def tanh(lanes: int) -> MathFunction:
    """Hyperbolic tangent by the exponential of tables."""
    return tanh_of(lanes, lambda k, c: k.let("e", _exp(k, c)) + 1.0)


def erf(lanes: int) -> MathFunction:
    """Error function: its expansion where the nearest of 16 places is, those of u - x being 0 at the first."""
    k = Kit("erf", lanes)
    (x,) = k.arguments
    return k.finish(_erf(k, x), "error function")


def gelu(lanes: int) -> MathFunction:
    """x times the normal distribution function: x / 2 times 1 + erf(x / sqrt(2)), and 0 at minus infinity."""
    k = Kit("gelu", lanes)
    (x,) = k.arguments
    half = k.let("half", maximum(x, -3.4028235e38) * 0.5)
    e = _erf(k, k.let("z", x * math.sqrt(0.5)))
    return k.finish(fma(half, e, half), "x times the normal distribution function")


def _erf(k: Kit, x: Value) -> Value:
    a = k.let("a", minimum(abs(x), ERF_END))
    t = k.let("t", fma(a, 1 / ERF_STEP, ROUND_TO_INTEGER))
    u = k.let("u", fma(t - ROUND_TO_INTEGER, -ERF_STEP, a))
    p = k.polynomial(u, [k.let(f"c{power}", _pick(table, t)) for power, table in enumerate(ERF_TABLE) if power])
    first = k.let("first", select(a < ERF_STEP / 2, u, _pick(ERF_TABLE[0], t)))
    return k.let("erf", with_sign_of(fma(p, u, first), x))


def _exp(k: Kit, x: Value) -> Value:
    """The exponential of numbers in [-104, 89]."""
    t = k.let("t", fma(x, LOG2_E, ROUND_TO_SIXTEENTHS))
    n = k.let("n", t - ROUND_TO_SIXTEENTHS)
    r = k.let("r", fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x)))
    p = k.let("p", fma(k.let("r2", r * r), k.polynomial(r, EXP, "q"), r))
    s = k.let("s", _pick(EXP_TABLE, t))
    return _scaled(fma(s, p, s), n)


def _pick(table: Sequence[float], places: Value) -> Value:
    numbers = [number(rounded(value, places.expr.dtype), places.expr.dtype) for value in table]
    return Value(Op("pick", (*numbers, places.expr), places.expr.dtype, places.expr.lanes))


def _scaled(value: Value, power: Value) -> Value:
    return Value(Op("scale", (value.expr, power.expr), value.expr.dtype, value.expr.lanes))
