"""exp, sigmoid, tanh and erf on 16 floats with AVX-512: tables of 16 numbers lie in registers.

VPERMPS looks 16 lanes up at once and VSCALEFPS multiplies by a power of two whatever the exponent, so these take two thirds
to half of the instructions of the definitions that serve every machine (edgecc/loop/math_exponential.py), within the same
bounds of error. The tables come from benches/minimax.py.

Source of the exponential: P. T. P. Tang, "Table-driven implementation of the exponential function in IEEE floating-point
arithmetic", ACM Transactions on Mathematical Software 15(2), 1989.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edgecc.backends.c.avx_convert import AVX512
from edgecc.backends.c.table import Key, Row, helper_name
from edgecc.ir.types import DType
from edgecc.loop.math_exponential import TANH
from edgecc.loop.math_kit import LN2_HIGH, LN2_LOW, LOG2_E

LANES = 16
ROUND_TO_SIXTEENTHS = 1.5 * 2**19
"""Adding it rounds a small float to a multiple of 1/16: the four bits behind its binary point are the low ones of the sum."""
EXP_TABLE = tuple(2.0 ** (index / LANES) for index in range(LANES))
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

_EXP = Key("exp_clamped", DType.F32, LANES)


def math_rows() -> Iterator[tuple[Key, Row]]:
    """The functions, and the exponential of numbers in [-104, 89] that they share."""
    yield _EXP, _row(f"""\
__m512 t = _mm512_fmadd_ps(a, {_all(LOG2_E)}, {_all(ROUND_TO_SIXTEENTHS)});
__m512 n = _mm512_sub_ps(t, {_all(ROUND_TO_SIXTEENTHS)});
__m512 r = _mm512_fmadd_ps(n, {_all(-LN2_LOW)}, _mm512_fmadd_ps(n, {_all(-LN2_HIGH)}, a));
__m512 p = _mm512_fmadd_ps(_mm512_mul_ps(r, r), _mm512_fmadd_ps({_all(EXP[1])}, r, {_all(EXP[0])}), r);
__m512 s = {_looked_up(EXP_TABLE, "t")};
return _mm512_scalef_ps(_mm512_fmadd_ps(s, p, s), n);""")
    yield Key("exp", DType.F32, LANES), _row(f"""\
return {helper_name(_EXP)}(_mm512_min_ps({_all(89.0)}, _mm512_max_ps({_all(-104.0)}, a)));""", _EXP)
    # From e^-|x|, which cannot overflow.
    yield Key("sigmoid", DType.F32, LANES), _row(f"""\
__m512 e = {helper_name(_EXP)}(_mm512_max_ps({_all(-104.0)}, _mm512_or_ps(a, {_all(-0.0)})));
__m512 one = {_all(1.0)};
return _mm512_div_ps(_mm512_mask_blend_ps(_mm512_movepi32_mask(_mm512_castps_si512(a)), one, e), _mm512_add_ps(e, one));""", _EXP)
    yield Key("tanh", DType.F32, LANES), _row(f"""\
__m512 m = _mm512_andnot_ps({_all(-0.0)}, a);
__m512 z = _mm512_mul_ps(a, a);
__m512 small = _mm512_fmadd_ps(_mm512_mul_ps(z, m), {_horner([_all(c) for c in TANH], "z")}, m);
__m512 c = _mm512_min_ps({_all(9.1)}, m);
__m512 e = {helper_name(_EXP)}(_mm512_add_ps(c, c));
__m512 large = _mm512_sub_ps({_all(1.0)}, _mm512_div_ps({_all(2.0)}, _mm512_add_ps(e, {_all(1.0)})));
__m512 y = _mm512_mask_blend_ps(_mm512_cmp_ps_mask(m, {_all(0.625)}, _CMP_LT_OQ), large, small);
return {_with_sign_of("y", "a")};""", _EXP)
    yield Key("erf", DType.F32, LANES), _row(f"""\
__m512 m = _mm512_min_ps({_all(ERF_END)}, _mm512_andnot_ps({_all(-0.0)}, a));
__m512 t = _mm512_fmadd_ps(m, {_all(1 / ERF_STEP)}, {_all(ROUND_TO_INTEGER)});
__m512 u = _mm512_fmadd_ps(_mm512_sub_ps(t, {_all(ROUND_TO_INTEGER)}), {_all(-ERF_STEP)}, m);
{_horner_steps([_looked_up(table, "t") for table in ERF_TABLE[1:]], "u")}
__mmask16 far = _mm512_cmp_ps_mask(m, {_all(ERF_STEP / 2)}, _CMP_NLT_UQ);
__m512 y = _mm512_fmadd_ps(p, u, _mm512_mask_permutexvar_ps(u, far, _mm512_castps_si512(t), {_table(ERF_TABLE[0])}));
return {_with_sign_of("y", "a")};""")


def _row(body: str, *uses: Key) -> Row:
    return Row(body, AVX512, uses, body=True)


def _all(value: float) -> str:
    """A number in every lane."""
    return f"_mm512_set1_ps({_literal(value)})"


def _literal(value: float) -> str:
    return f"{np.float32(value)!s}f"


def _looked_up(table: Sequence[float], places: str) -> str:
    """Of each lane of the float `places` the low four bits say which number it gets."""
    return f"_mm512_permutexvar_ps(_mm512_castps_si512({places}), {_table(table)})"


def _table(numbers: Sequence[float]) -> str:
    return f"_mm512_setr_ps({', '.join(map(_literal, numbers))})"


def _horner(coefficients: Sequence[str], argument: str) -> str:
    """The polynomial with these coefficients, lowest power first."""
    text = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        text = f"_mm512_fmadd_ps({text}, {argument}, {coefficient})"
    return text


def _horner_steps(coefficients: Sequence[str], argument: str) -> str:
    """The same as statements that make it `p`: these coefficients are long."""
    steps = [f"p = _mm512_fmadd_ps(p, {argument}, {coefficient});" for coefficient in reversed(coefficients[:-1])]
    return "\n".join([f"__m512 p = {coefficients[-1]};", *steps])


def _with_sign_of(magnitude: str, sign: str) -> str:
    """`magnitude`, which has the sign bit 0, with the sign bit of `sign`."""
    return f"_mm512_or_ps({magnitude}, _mm512_and_ps({sign}, {_all(-0.0)}))"
