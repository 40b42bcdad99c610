"""Scalar operations in portable C: the meaning every other table must agree with.

Integers wrap (arithmetic is done on unsigned types), division by zero gives zero, conversions from
float to integer saturate, and nothing here has undefined behaviour. `fma` is a*b + c with two
roundings where the target has no fused multiply-add: emulating one would cost hundreds of
instructions, and the tolerance of float kernels covers both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from edgecc.backends.c import microcontroller
from edgecc.backends.c.table import HALF_TYPES, STORAGE, Key, Row
from edgecc.ir.types import DType

FLOATS = (DType.F32, DType.F64)
INTEGERS = (DType.I8, DType.I16, DType.I32, DType.I64, DType.U8, DType.U16, DType.U32, DType.U64)
HARDWARE_FMA = "fma"
"""Feature (of x86; AArch64 always has it) that makes `fma` one instruction."""

_LIBM = ("exp", "log", "erf", "tanh", "sin", "cos", "tan", "asin", "acos", "atan",
         "sinh", "cosh", "asinh", "atanh", "pow", "fmod")
_ROUNDINGS = {"floor": "floor", "ceil": "ceil", "round": "rint", "sqrt": "sqrt", "abs": "fabs"}


def scalar_rows(*, has_fma: bool) -> Iterator[tuple[Key, Row]]:
    """All rows of one lane."""
    yield from _bool_rows()
    for dtype in FLOATS:
        yield from _float_rows(dtype, has_fma=has_fma)
    for dtype in INTEGERS:
        yield from _integer_rows(dtype)
    for dtype in HALF_TYPES:
        yield from _half_rows(dtype)
    yield from _dot_rows(has_fma=has_fma)
    yield Key("nearest", DType.F32, 1), Row("(int32_t)rintf({0})")
    yield from microcontroller.scalar_rows()
    yield from _cast_rows()
    yield from _bitcast_rows()


def _float_rows(dtype: DType, *, has_fma: bool) -> Iterator[tuple[Key, Row]]:
    suffix = "f" if dtype is DType.F32 else ""
    ctype = STORAGE[dtype]
    yield from _memory_rows(dtype)
    for op, sign in (("add", "+"), ("sub", "-"), ("mul", "*"), ("div", "/"), ("lt", "<"), ("le", "<="), ("eq", "==")):
        yield Key(op, dtype, 1), Row(f"({{0}} {sign} {{1}})")
    yield Key("neg", dtype, 1), Row("(-{0})")
    for op, function in _ROUNDINGS.items():
        yield Key(op, dtype, 1), Row(f"{function}{suffix}({{0}})")
    yield Key("fma", dtype, 1), Row(f"fma{suffix}({{0}}, {{1}}, {{2}})" if has_fma else "({0} * {1} + {2})")
    yield Key("min", dtype, 1), Row("return a < b || a != a ? a : b;", body=True)
    yield Key("max", dtype, 1), Row("return a > b || a != a ? a : b;", body=True)
    yield Key("min_const", dtype, 1), Row("return b < a ? b : a;", body=True)
    yield Key("max_const", dtype, 1), Row("return b > a ? b : a;", body=True)
    yield Key("sign", dtype, 1), Row(f"return a != a ? a : ({ctype})((a > 0) - (a < 0));", body=True)
    yield Key("isnan", dtype, 1), Row("(isnan({0}) != 0)")
    yield Key("isinf", dtype, 1), Row("(isinf({0}) != 0)")
    yield Key("select", dtype, 1), Row("({0} ? {1} : {2})")
    for op in _LIBM:
        operands = "{0}, {1}" if op in ("pow", "fmod") else "{0}"
        yield Key(op, dtype, 1), Row(f"{op}{suffix}({operands})")
    # musl gives numbers below 1.
    yield Key("acosh", dtype, 1), Row(f"return a < 1 ? ({ctype})NAN : acosh{suffix}(a);", body=True)
    yield Key("sigmoid", dtype, 1), Row(
        f"{ctype} e = exp{suffix}(-fabs{suffix}(a));\nreturn (a >= 0 ? 1 : e) / (1 + e);", body=True)
    yield Key("mod", dtype, 1), Row(
        f"{ctype} r = fmod{suffix}(a, b);\n"
        "if (r != 0 && (r < 0) != (b < 0)) r += b;\n"
        f"return r == 0 ? copysign{suffix}(0, b) : r;", body=True)


def _integer_rows(dtype: DType) -> Iterator[tuple[Key, Row]]:
    ctype = STORAGE[dtype]
    bits = dtype.size * 8
    wide = "uint64_t" if bits == 64 else "uint32_t"  # narrower types would be promoted to signed int
    yield from _memory_rows(dtype)

    def function(op: str, text: str) -> tuple[Key, Row]:
        return Key(op, dtype, 1), Row(text, body=True)

    for op, sign in (("add", "+"), ("sub", "-"), ("mul", "*")):
        yield Key(op, dtype, 1), Row(f"({ctype})(({wide}){{0}} {sign} ({wide}){{1}})")
    yield Key("fma", dtype, 1), Row(f"({ctype})(({wide}){{0}} * ({wide}){{1}} + ({wide}){{2}})")
    yield Key("neg", dtype, 1), Row(f"({ctype})(0u - ({wide}){{0}})")
    for op, sign in (("bit_and", "&"), ("bit_or", "|"), ("bit_xor", "^")):
        yield Key(op, dtype, 1), Row(f"({ctype})({{0}} {sign} {{1}})")
    yield Key("bit_not", dtype, 1), Row(f"({ctype})~{{0}}")
    yield Key("eq", dtype, 1), Row("({0} == {1})")
    # Functions, because compilers warn about `x < 0` for unsigned x.
    yield function("lt", "return a < b;")
    yield function("le", "return a <= b;")
    yield function("min", "return a < b ? a : b;")
    yield function("max", "return a > b ? a : b;")
    yield Key("select", dtype, 1), Row("({0} ? {1} : {2})")
    guard = f"b < 0 || b >= {bits}" if dtype.is_signed else f"b >= {bits}"
    yield function("shift_left", f"return {guard} ? 0 : ({ctype})(({wide})a << b);")
    beyond = "(a < 0 ? -1 : 0)" if dtype.is_signed else "0"
    yield function("shift_right", f"return {guard} ? {beyond} : ({ctype})(a >> b);")
    yield Key("shift_left_const", dtype, 1), Row(f"({ctype})(({wide}){{0}} << {{1}})")
    yield Key("shift_right_const", dtype, 1), Row(f"({ctype})({{0}} >> {{1}})")
    if dtype.is_signed:
        minus = f"({ctype})(0u - ({wide})a)"
        yield function("abs", f"return a < 0 ? {minus} : a;")
        yield function("sign", f"return ({ctype})((a > 0) - (a < 0));")
        yield function("div", f"return b == 0 ? 0 : b == -1 ? {minus} : ({ctype})(a / b);")
        yield function("fmod", f"return b == 0 || b == -1 ? 0 : ({ctype})(a % b);")
        yield function("mod", f"if (b == 0 || b == -1) return 0;\n{ctype} r = ({ctype})(a % b);\n"
                              f"return r != 0 && (r < 0) != (b < 0) ? ({ctype})(r + b) : r;")
    else:
        yield function("abs", "return a;")
        yield function("sign", f"return ({ctype})(a != 0);")
        yield function("div", f"return b == 0 ? 0 : ({ctype})(a / b);")
        for op in ("fmod", "mod"):
            yield function(op, f"return b == 0 ? 0 : ({ctype})(a % b);")
    product = f"({ctype})(({wide}){{0}} * ({wide}){{1}})"
    power = (f"{ctype} result = 1;\nfor ({ctype} n = b; n > 0; n = ({ctype})(n >> 1)) {{\n"
             f"  if (n & 1) result = {product.format('result', 'a')};\n  a = {product.format('a', 'a')};\n}}\nreturn result;")
    if dtype.is_signed:  # the reciprocal, truncated
        power = f"if (b < 0) return a == 1 || (a == -1 && b % 2 == 0) ? 1 : a == -1 ? -1 : 0;\n{power}"
    yield function("pow", power)


def _bool_rows() -> Iterator[tuple[Key, Row]]:
    yield from _memory_rows(DType.BOOL)
    for op, text in (("and", "({0} && {1})"), ("or", "({0} || {1})"), ("xor", "({0} ^ {1})"), ("not", "(!{0})"),
                     ("eq", "({0} == {1})"), ("select", "({0} ? {1} : {2})")):
        yield Key(op, DType.BOOL, 1), Row(text)
    yield Key("lt", DType.BOOL, 1), Row("return a < b;", body=True)
    yield Key("le", DType.BOOL, 1), Row("return a <= b;", body=True)


def _memory_rows(dtype: DType) -> Iterator[tuple[Key, Row]]:
    yield Key("load", dtype, 1), Row("{0}")
    yield Key("store", dtype, 1), Row("{0} = {1}")


# -- half precision -------------------------------------------------------------------------------

_FROM_F16 = """\
uint32_t sign = (uint32_t)(a & 0x8000) << 16, exponent = (a >> 10) & 31u, mantissa = a & 0x3FFu, bits;
if (exponent == 31) bits = sign | 0x7F800000u | mantissa << 13;
else if (exponent != 0) bits = sign | (exponent + 112) << 23 | mantissa << 13;
else {
  float subnormal = (float)mantissa * 0x1p-24f;
  memcpy(&bits, &subnormal, 4);
  bits |= sign;
}
float value;
memcpy(&value, &bits, 4);
return value;"""

# Adding 0.5 makes the float adder round a subnormal: the last bit of 0.5 weighs 2^-24.
_TO_F16 = """\
uint32_t bits;
memcpy(&bits, &a, 4);
uint32_t sign = bits >> 16 & 0x8000u;
bits &= 0x7FFFFFFFu;
if (bits > 0x7F800000u) return (uint16_t)(sign | 0x7E00u | (bits >> 13 & 0x3FFu));
if (bits >= 0x477FF000u) return (uint16_t)(sign | 0x7C00u);
if (bits < 0x38800000u) {
  float sum;
  memcpy(&sum, &bits, 4);
  sum += 0.5f;
  memcpy(&bits, &sum, 4);
  return (uint16_t)(sign | (bits - 0x3F000000u));
}
bits += 0xFFFu + (bits >> 13 & 1u);
return (uint16_t)(sign | (bits - 0x38000000u) >> 13);"""

_FROM_BF16 = """\
uint32_t bits = (uint32_t)a << 16;
float value;
memcpy(&value, &bits, 4);
return value;"""

_TO_BF16 = """\
uint32_t bits;
memcpy(&bits, &a, 4);
if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(bits >> 16 | 0x40u);
return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);"""

# Rounding a double to float and then to 16 bits could round twice. Rounding to odd first cannot:
# an inexact float gets its last bit set, after stepping back if it was rounded away from zero.
_ROUND_ODD = """\
float rounded = (float)a;
if (isinf(rounded) || (double)rounded == a || a != a) return rounded;
uint32_t bits;
memcpy(&bits, &rounded, 4);
if (fabs((double)rounded) > fabs(a)) bits -= 1;
bits |= 1u;
memcpy(&rounded, &bits, 4);
return rounded;"""

ROUND_ODD = Key("round_odd", DType.F64, 1)
FROM_BITS = {dtype: Key("load", dtype, 1) for dtype in HALF_TYPES}
TO_BITS = {dtype: Key("to_bits", dtype, 1) for dtype in HALF_TYPES}


def _half_rows(dtype: DType) -> Iterator[tuple[Key, Row]]:
    is_f16 = dtype is DType.F16
    yield FROM_BITS[dtype], Row(_FROM_F16 if is_f16 else _FROM_BF16, body=True)
    yield TO_BITS[dtype], Row(_TO_F16 if is_f16 else _TO_BF16, body=True)
    to_bits = f"edgecc_to_bits_{dtype.value}"
    yield Key("store", dtype, 1), Row(f"{{0}} = {to_bits}({{1}})", uses=(TO_BITS[dtype],))
    yield Key("normalize", dtype, 1), Row(f"edgecc_load_{dtype.value}({to_bits}({{0}}))",
                                          uses=(TO_BITS[dtype], FROM_BITS[dtype]))
    # Exact in double where it matters: the product has 22 bits, and a sum that needs more than 53 is no tie of f16.
    if is_f16:
        yield Key("fma", dtype, 1), Row("edgecc_load_f16(edgecc_to_bits_f16(edgecc_round_odd_f64((double){0} * (double){1} "
                                        "+ (double){2})))", uses=(TO_BITS[dtype], FROM_BITS[dtype], ROUND_ODD))


_DOT_BF16 = """\
for (int half = 1; half >= 0; --half) {
  uint32_t bits[2] = {half ? a & 0xFFFF0000u : a << 16, half ? b & 0xFFFF0000u : b << 16};
  float factors[2];
  memcpy(factors, bits, 8);
  for (int i = 0; i < 2; ++i) if (fabsf(factors[i]) < 0x1p-126f) factors[i] = copysignf(0, factors[i]);
  if (fabsf(c) < 0x1p-126f) c = copysignf(0, c);
  c = FMA;
  if (fabsf(c) < 0x1p-126f) c = copysignf(0, c);
}
return c;"""

_DOT_HALVES = """\
uint32_t sums[2] = {c & 0xFFFFu, c >> 16};
for (int i = 0; i < 32; i += 8) sums[i / 16] += (uint32_t)((uint8_t)(a >> i & 0xFFu) * (int8_t)(b >> i & 0xFFu));
return (sums[0] & 0xFFFFu) | sums[1] << 16;"""


def _dot_rows(*, has_fma: bool) -> Iterator[tuple[Key, Row]]:
    """Grouped products; see edgecc/loop/dot.py. In double the product is exact, and a sum rounds twice at worst."""
    fused = "fmaf(factors[0], factors[1], c)" if has_fma else "(float)((double)factors[0] * (double)factors[1] + (double)c)"
    yield Key("dot_bf16", DType.F32, 1), Row(_DOT_BF16.replace("FMA", fused), body=True)
    yield Key("dot_s8", DType.I32, 1), Row(microcontroller.DOT, body=True)
    yield Key("dot_s16", DType.I32, 1), Row(microcontroller.WORDS, body=True)
    for name in ("dot_u8s8", "dot_u8s8_short"):
        yield Key(name, DType.I32, 1), Row(microcontroller.DOT.replace("(int8_t)(a", "(uint8_t)(a"), body=True)
    yield Key("dot_u8s8_halves", DType.U32, 1), Row(_DOT_HALVES, body=True)


# -- conversions ----------------------------------------------------------------------------------


def _cast_rows() -> Iterator[tuple[Key, Row]]:
    """Conversions between the types that registers hold; those of half types follow from the ones of float."""
    for source in (*FLOATS, *INTEGERS, DType.BOOL):
        for result in (*FLOATS, *INTEGERS):
            if source is result:
                continue
            key = Key(f"cast:{result.value}", source, 1)
            if source.is_float and result.is_integer:
                yield key, Row(_saturate(source, result), body=True)
            else:
                yield key, Row(f"({STORAGE[result]}){{0}}")
        if source is not DType.BOOL:
            yield Key("cast:bool", source, 1), Row("({0} != 0)")
    yield ROUND_ODD, Row(_ROUND_ODD, body=True)
    for dtype in HALF_TYPES:
        normalize = f"edgecc_load_{dtype.value}(edgecc_to_bits_{dtype.value}"
        uses = (TO_BITS[dtype], FROM_BITS[dtype])
        yield Key(f"cast:{dtype.value}", DType.F32, 1), Row(f"{normalize}({{0}}))", uses=uses)
        for source in (DType.F64, *INTEGERS, DType.BOOL):
            yield Key(f"cast:{dtype.value}", source, 1), Row(
                f"{normalize}(edgecc_round_odd_f64((double){{0}})))", uses=(*uses, ROUND_ODD))


def _saturate(source: DType, result: DType) -> str:
    suffix = "f" if source is DType.F32 else ""
    limits = np.iinfo(result.numpy)
    bits = result.size * 8
    name = f"INT{bits}" if result.is_signed else f"UINT{bits}"
    low, low_name = (f"-0x1p{bits - 1}{suffix}", f"{name}_MIN") if result.is_signed else (f"0.0{suffix}", "0")
    high = f"0x1p{int(limits.max).bit_length()}{suffix}"
    return f"return a != a ? 0 : a < {low} ? {low_name} : a >= {high} ? {name}_MAX : ({STORAGE[result]})a;"


def _bitcast_rows() -> Iterator[tuple[Key, Row]]:
    for source, result in _same_size_pairs((*FLOATS, *INTEGERS)):
        key = Key(f"bitcast:{result.value}", source, 1)
        if source.is_float or result.is_float:
            yield key, Row(f"{STORAGE[result]} bits;\nmemcpy(&bits, &a, {source.size});\nreturn bits;", body=True)
        else:
            yield key, Row(f"({STORAGE[result]}){{0}}")
    for dtype, other in (HALF_TYPES, HALF_TYPES[::-1]):
        yield Key(f"bitcast:{other.value}", dtype, 1), Row(f"edgecc_load_{other.value}(edgecc_to_bits_{dtype.value}({{0}}))",
                                                           uses=(TO_BITS[dtype], FROM_BITS[other]))
        for integer in (DType.I16, DType.U16):
            yield Key(f"bitcast:{integer.value}", dtype, 1), Row(
                f"({STORAGE[integer]})edgecc_to_bits_{dtype.value}({{0}})", uses=(TO_BITS[dtype],))
            yield Key(f"bitcast:{dtype.value}", integer, 1), Row(
                f"edgecc_load_{dtype.value}((uint16_t){{0}})", uses=(FROM_BITS[dtype],))


def _same_size_pairs(dtypes: Iterable[DType]) -> Iterator[tuple[DType, DType]]:
    listed = tuple(dtypes)
    for source in listed:
        for result in listed:
            if source is not result and source.size == result.size:
                yield source, result
