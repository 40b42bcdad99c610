"""The bits of short floats, and scalar expressions that read and write them with 32- and 64-bit arithmetic.

    1 bit sign | E bits exponent | M bits mantissa          f8e4m3fn, f8e4m3fnuz, f8e5m2, f8e5m2fnuz, f4e2m1
    8 bits exponent, a power of two from 2^-127 to 2^127    f8e8m0

Machines without instructions for them work on the bits: `decoded` and `encoded` are made of additions, shifts and
selections on 32-bit lanes, which every vector unit has, and never depend on how the machine treats subnormal numbers.
Encoding rounds to nearest, ties to even, and does not saturate, as `edgecc.ir.scalar.Convert` says.

Sources: P. Micikevicius et al., FP8 Formats for Deep Learning, 2022 (e4m3fn, e5m2); B. Noune et al., 8-bit Numerical
Formats for Deep Neural Networks, 2022 (fnuz); OCP Microscaling Formats (MX) Specification 1.0, 2023 (e8m0, e2m1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgecc.ir.scalar import ScalarExpr, apply, bitcast, convert, literal
from edgecc.ir.types import DType


@dataclass(frozen=True)
class ShortFloat:
    """The layout of a signed short float.

    Attributes:
        exponent, mantissa: numbers of bits.
        bias: of the exponent; the least normal number is 2^(1 - bias).
        largest: bits of the largest finite number.
        beyond: bits of what is too large: NaN, an infinity, or the largest number.
        nan: bits of NaN, or None where there is none.
        has_negative_zero: whether -0 exists; where it does not, its bits are NaN.
    """

    exponent: int
    mantissa: int
    bias: int
    largest: int
    beyond: int
    nan: int | None
    has_negative_zero: bool = True

    @property
    def sign(self) -> int:
        """The bit of the sign."""
        return 1 << (self.exponent + self.mantissa)


SHORT_FLOATS: Mapping[DType, ShortFloat] = MappingProxyType({
    DType.F8E4M3FN: ShortFloat(4, 3, 7, 0x7E, 0x7F, 0x7F),
    DType.F8E4M3FNUZ: ShortFloat(4, 3, 8, 0x7F, 0x80, 0x80, has_negative_zero=False),
    DType.F8E5M2: ShortFloat(5, 2, 15, 0x7B, 0x7C, 0x7E),
    DType.F8E5M2FNUZ: ShortFloat(5, 2, 16, 0x7F, 0x80, 0x80, has_negative_zero=False),
    DType.F4E2M1: ShortFloat(2, 1, 1, 0x7, 0x7, None),
})
"""All but f8e8m0, which has neither sign nor mantissa."""

F32, I32, U8 = DType.F32, DType.I32, DType.U8
_MANTISSA = {DType.F32: 23, DType.F64: 52}
_BIAS = {DType.F32: 127, DType.F64: 1023}
_INTEGER = {DType.F32: DType.I32, DType.F64: DType.I64}


def decoded(bits: ScalarExpr, dtype: DType) -> ScalarExpr:
    """The f32 number whose bits as a short float of type `dtype` are the u8 expression `bits`; exact."""
    wide = convert(bits, I32)
    if dtype is DType.F8E8M0:
        power = _select("eq", wide, 0, literal(0x00400000, I32), _shift("left", wide, 23))
        return bitcast(_select("eq", wide, 255, literal(0x7FC00000, I32), power), F32)
    form = SHORT_FLOATS[dtype]
    magnitude = apply("bit_and", wide, literal(form.sign - 1, I32))
    moved = _shift("left", magnitude, 23 - form.mantissa)
    normal = bitcast(apply("add", moved, literal((127 - form.bias) << 23, I32)), F32)
    subnormal = apply("mul", convert(magnitude, F32), literal(2.0 ** (1 - form.bias - form.mantissa), F32))
    value: ScalarExpr = apply("select", apply("lt", magnitude, literal(1 << form.mantissa, I32)), subnormal, normal)
    if dtype is DType.F8E5M2:
        value = _select("eq", magnitude, form.beyond, literal(math.inf, F32), value)
        value = apply("select", apply("lt", literal(form.beyond, I32), magnitude), literal(math.nan, F32), value)
    elif form.nan is not None and form.has_negative_zero:
        value = _select("eq", magnitude, form.nan, literal(math.nan, F32), value)
    sign = apply("bit_and", wide, literal(form.sign, I32))
    signed = bitcast(apply("bit_or", bitcast(value, I32), _shift("left", sign, 32 - form.sign.bit_length())), F32)
    return signed if form.has_negative_zero else _select("eq", wide, form.sign, literal(math.nan, F32), signed)


def encoded(value: ScalarExpr, dtype: DType) -> ScalarExpr:
    """The u8 bits of an expression of type f32 or f64 rounded to a short float of type `dtype`."""
    kind = value.dtype
    integer, mantissa = _INTEGER[kind], _MANTISSA[kind]
    bits = bitcast(value, integer)
    infinity = ((2 << _BIAS[kind].bit_length()) - 1) << mantissa

    def number(n: int) -> ScalarExpr:
        return literal(n, integer)

    def less(a: ScalarExpr, b: ScalarExpr) -> ScalarExpr:
        return apply("lt", a, b)

    if dtype is DType.F8E8M0:
        # What lies between the two least numbers, and is subnormal in f32, is rounded up, as ONNX does.
        least = 1 << (mantissa - 1) if kind is F32 else (_BIAS[kind] - 127) << mantissa
        rounded = _shift("right", apply("add", bits, number(1 << (mantissa - 1))), mantissa)
        power = apply("sub", rounded, number(_BIAS[kind] - 127))
        held = apply("min", apply("max", power, number(1)), number(255))
        small = apply("select", less(number(least), bits), held, number(0))
        outside = apply("or", less(bits, number(1)), less(number(infinity - 1), bits))
        return convert(apply("select", outside, number(255), small), U8)
    form = SHORT_FLOATS[dtype]
    step = mantissa - form.mantissa
    magnitude = apply("bit_and", bits, number((1 << (kind.bits - 1)) - 1))
    odd = apply("bit_and", _shift("right", magnitude, step), number(1))
    rounded = apply("add", apply("add", magnitude, number((1 << (step - 1)) - 1)), odd)
    normal = apply("sub", _shift("right", rounded, step), number((_BIAS[kind] - form.bias) << form.mantissa))
    scaled = apply("mul", bitcast(magnitude, kind), literal(2.0 ** (form.bias - 1 + form.mantissa), kind))
    least = (_BIAS[kind] - form.bias + 1) << mantissa
    code = apply("select", less(magnitude, number(least)), convert(apply("round", scaled), integer), normal)
    code = apply("select", less(number(form.largest), code), number(form.beyond), code)
    code = apply("select", less(number(infinity), magnitude), number(form.nan or 0), code)
    sign = apply("bit_and", _shift("right", bits, kind.bits - form.sign.bit_length()), number(form.sign))
    signed: ScalarExpr = apply("bit_or", code, sign)
    if not form.has_negative_zero:
        signed = apply("select", less(apply("bit_and", code, number(form.sign - 1)), number(1)), code, signed)
    elif form.nan is None:
        signed = apply("select", less(number(infinity), magnitude), number(0), signed)
    return convert(signed, U8)


def _shift(direction: str, value: ScalarExpr, count: int) -> ScalarExpr:
    return apply(f"shift_{direction}", value, literal(count, value.dtype))


def _select(relation: str, value: ScalarExpr, against: int, then: ScalarExpr, orelse: ScalarExpr) -> ScalarExpr:
    return apply("select", apply(relation, value, literal(against, value.dtype)), then, orelse)
