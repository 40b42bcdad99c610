"""f16 and bf16: rounding floats to them, and their bits.

f16 goes through the machine's own conversions where it has some, else through functions in LLVM text below, since the
routines that LLVM would call are not in every C library. bf16 is arithmetic on bits everywhere.
"""

from __future__ import annotations

from edgecc.backends.llvm.types import float_text, vector_of
from edgecc.backends.llvm.writer import Writer
from edgecc.ir.types import DType

F16, F32, F64 = DType.F16, DType.F32, DType.F64


def extend(w: Writer, value: str, lanes: int) -> str:
    """Halves in registers as floats."""
    return w.convert("fpext", vector_of("half", lanes), value, vector_of("float", lanes))


def truncate(w: Writer, value: str, lanes: int) -> str:
    """Floats as halves in registers."""
    return w.convert("fptrunc", vector_of("float", lanes), value, vector_of("half", lanes))


def normalize(w: Writer, dtype: DType, value: str, lanes: int) -> str:
    """Floats rounded to numbers of the short type."""
    if dtype is F16 and w.machine.converts_halves:
        return extend(w, truncate(w, value, lanes), lanes)
    return from_bits(w, dtype, to_bits(w, dtype, value, lanes), lanes)


def to_bits(w: Writer, dtype: DType, value: str, lanes: int) -> str:
    """Floats rounded to the short type, as i16."""
    floats, bits16 = vector_of("float", lanes), vector_of("i16", lanes)
    if dtype is F16:
        if w.machine.converts_halves:
            return w.convert("bitcast", vector_of("half", lanes), truncate(w, value, lanes), bits16)
        return _software(w, "edgecc_to_bits_f16", _TO_F16, "i16", "float", value, lanes)
    bits32, mask = vector_of("i32", lanes), vector_of("i1", lanes)
    bits = w.convert("bitcast", floats, value, bits32)

    def number(value: int) -> str:
        return str(value) if lanes == 1 else f"splat (i32 {value})"

    last = w.op("and", bits32, w.op("lshr", bits32, bits, number(16)), number(1))
    rounded = w.op("add", bits32, bits, w.op("add", bits32, last, number(0x7FFF)))
    quiet = w.op("or", bits32, bits, number(0x400000))
    chosen = w.select(mask, w.op("fcmp uno", floats, value, value), bits32, quiet, rounded)
    return w.convert("trunc", bits32, w.op("lshr", bits32, chosen, number(16)), bits16)


def from_bits(w: Writer, dtype: DType, bits: str, lanes: int) -> str:
    """i16 as floats."""
    floats, bits16, bits32 = vector_of("float", lanes), vector_of("i16", lanes), vector_of("i32", lanes)
    if dtype is F16:
        if w.machine.converts_halves:
            return extend(w, w.convert("bitcast", bits16, bits, vector_of("half", lanes)), lanes)
        return _software(w, "edgecc_load_f16", _FROM_F16, "float", "i16", bits, lanes)
    wide = w.convert("zext", bits16, bits, bits32)
    return w.convert("bitcast", bits32, w.op("shl", bits32, wide, "16" if lanes == 1 else "splat (i32 16)"), floats)


def round_odd(w: Writer, value: str, lanes: int) -> str:
    """Doubles as floats whose last bit is set where they are not exact: what is rounded again then is rounded once.

    Inexact floats step back where they were rounded away from zero (Boldo and Melquiond, Emulation of FMA and correctly
    rounded sums).
    """
    doubles, floats = vector_of("double", lanes), vector_of("float", lanes)
    bits32, mask = vector_of("i32", lanes), vector_of("i1", lanes)
    one, infinity = ("1", float_text(float("inf"), F32)) if lanes == 1 else (
        "splat (i32 1)", f"splat (float {float_text(float('inf'), F32)})")
    rounded = w.convert("fptrunc", doubles, value, floats)
    back = w.convert("fpext", floats, rounded, doubles)
    bits = w.convert("bitcast", floats, rounded, bits32)
    away = w.op("fcmp ogt", doubles, w.intrinsic("fabs", doubles, back), w.intrinsic("fabs", doubles, value))
    odd = w.op("or", bits32, w.op("sub", bits32, bits, w.convert("zext", mask, away, bits32)), one)
    exact = w.op("fcmp ueq", doubles, back, value)
    infinite = w.op("fcmp oeq", floats, w.intrinsic("fabs", floats, rounded), infinity)
    keeps = w.op("or", mask, exact, infinite)
    return w.select(mask, keeps, floats, rounded, w.convert("bitcast", bits32, odd, floats))


def _software(w: Writer, name: str, text: str, result: str, parameter: str, value: str, lanes: int) -> str:
    """A function of one scalar, on each lane."""
    w.shared.helper(name, lambda: text)
    if lanes == 1:
        return w.call(name, result, (parameter, value), internal=True)
    found = "poison"
    for lane in range(lanes):
        element = w.let(f"extractelement {vector_of(parameter, lanes)} {value}, i64 {lane}")
        done = w.call(name, result, (parameter, element), internal=True)
        found = w.let(f"insertelement {vector_of(result, lanes)} {found}, {result} {done}, i64 {lane}")
    return found


_FROM_F16 = """\
; f16 to f32: subnormal halves are their mantissa times 2^-24
define internal float @edgecc_load_f16(i16 %a) nounwind {
entry:
  %wide = zext i16 %a to i32
  %sign16 = and i32 %wide, 32768
  %sign = shl i32 %sign16, 16
  %magnitude = and i32 %wide, 32767
  %moved = shl i32 %magnitude, 13
  %huge = icmp uge i32 %magnitude, 31744
  %bias = select i1 %huge, i32 1879048192, i32 939524096
  %normal = add i32 %moved, %bias
  %mantissa = uitofp i32 %magnitude to float
  %scaled = fmul float %mantissa, 0x3E70000000000000
  %subnormal = bitcast float %scaled to i32
  %small = icmp ult i32 %magnitude, 1024
  %bits = select i1 %small, i32 %subnormal, i32 %normal
  %signed = or i32 %bits, %sign
  %value = bitcast i32 %signed to float
  ret float %value
}
"""

_TO_F16 = """\
; f32 to f16, to nearest even: adding 0.5 makes the adder round subnormal halves, as the last bit of 0.5 weighs 2^-24
define internal i16 @edgecc_to_bits_f16(float %a) nounwind {
entry:
  %all = bitcast float %a to i32
  %high = lshr i32 %all, 16
  %sign = and i32 %high, 32768
  %bits = and i32 %all, 2147483647
  %payload13 = lshr i32 %bits, 13
  %payload = and i32 %payload13, 1023
  %nan = or i32 %payload, 32256
  %magnitude = bitcast i32 %bits to float
  %sum = fadd float %magnitude, 0x3FE0000000000000
  %sum_bits = bitcast float %sum to i32
  %subnormal = sub i32 %sum_bits, 1056964608
  %last13 = lshr i32 %bits, 13
  %last = and i32 %last13, 1
  %up = add i32 %bits, 4095
  %rounded = add i32 %up, %last
  %rebiased = sub i32 %rounded, 939524096
  %normal = lshr i32 %rebiased, 13
  %is_nan = icmp ugt i32 %bits, 2139095040
  %is_huge = icmp uge i32 %bits, 1199566848
  %is_small = icmp ult i32 %bits, 947912704
  %small = select i1 %is_small, i32 %subnormal, i32 %normal
  %finite = select i1 %is_huge, i32 31744, i32 %small
  %found = select i1 %is_nan, i32 %nan, i32 %finite
  %signed = or i32 %found, %sign
  %half = trunc i32 %signed to i16
  ret i16 %half
}
"""
