"""Conversions between types: floats to integers truncate and saturate, integers wrap, anything to bool is `!= 0`."""

from __future__ import annotations

from edgecc.backends.llvm import halves
from edgecc.backends.llvm.extrema import extremum, has_extrema
from edgecc.backends.llvm.types import element_type, float_text, held_type, register_type, suffix, vector_of, zero
from edgecc.backends.llvm.writer import Writer
from edgecc.ir.types import DType

F16, F32, F64, BOOL = DType.F16, DType.F32, DType.F64, DType.BOOL
_SHORT = (DType.F16, DType.BF16)


def cast(w: Writer, value: str, source: DType, result: DType, lanes: int) -> str:
    """`value` of type `source` as one of type `result`."""
    if source is result:
        return value
    if source in _SHORT:
        value = as_floats(w, value, source, lanes)
        source = F32
    if result is F32 and source is F32:
        return value
    kind = vector_of(element_type(source), lanes)
    if result is BOOL:
        nothing = zero(source) if lanes == 1 else "zeroinitializer"
        return w.op("fcmp une" if source.is_float else "icmp ne", kind, value, nothing)
    if result in _SHORT:
        return _to_short(w, value, source, result, lanes)
    wanted = vector_of(element_type(result), lanes)
    if source.is_float and result.is_float:
        return w.convert("fptrunc" if result is F32 else "fpext", kind, value, wanted)
    if source is F32 and has_extrema(w.machine, kind):
        if result is DType.I32:
            return _to_words(w, value, lanes)
        if result.size < 4:
            return _to_narrow(w, value, result, lanes)
    if source.is_float:
        name = f"llvm.fpto{'s' if result.is_signed else 'u'}i.sat.{suffix(wanted)}.{suffix(kind)}"
        return w.call(name, wanted, (kind, value))
    signed = source is not BOOL and source.is_signed
    if result.is_float:
        return w.convert("sitofp" if signed else "uitofp", kind, value, wanted)
    if source is BOOL or result.size > source.size:
        return w.convert("sext" if signed else "zext", kind, value, wanted)
    return w.convert("trunc", kind, value, wanted)


def as_floats(w: Writer, value: str, dtype: DType, lanes: int) -> str:
    """Values of a short float type as f32, which may be what holds them."""
    return halves.extend(w, value, lanes) if held_type(w.machine.isa, dtype, lanes) is F16 else value


def bitcast(w: Writer, value: str, source: DType, result: DType, lanes: int) -> str:
    """The same bits as another type of equal size."""
    isa = w.machine.isa
    if source in _SHORT:
        if held_type(isa, source, lanes) is F16:
            value = w.convert("bitcast", vector_of("half", lanes), value, vector_of("i16", lanes))
        else:
            value = halves.to_bits(w, source, value, lanes)
        source = DType.U16
    if result in _SHORT:
        if held_type(isa, result, lanes) is F16:
            return w.convert("bitcast", vector_of("i16", lanes), value, vector_of("half", lanes))
        return halves.from_bits(w, result, value, lanes)
    return w.convert("bitcast", register_type(isa, source, lanes), value, register_type(isa, result, lanes))


_TRUNCATING = {4: "sse2.cvttps2dq", 8: "avx.cvtt.ps2dq.256", 16: "avx512.mask.cvttps2dq.512"}
"""Conversions of x86-64 by lanes; they give the least integer for everything out of range and for NaN."""


def _to_words(w: Writer, value: str, lanes: int) -> str:
    """f32 as i32 on x86-64; LLVM does the general form lane by lane in places."""
    floats, integers, mask = (vector_of(element, lanes) for element in ("float", "i32", "i1"))
    rounding = [(integers, "zeroinitializer"), ("i16", "-1"), ("i32", "4")] if lanes == 16 else []
    number = w.call(f"llvm.x86.{_TRUNCATING[lanes]}", integers, (floats, value), *rounding)
    huge = w.op("fcmp oge", floats, value, f"splat (float {float_text(2.0**31, F32)})")
    inside = w.select(mask, huge, integers, f"splat (i32 {2**31 - 1})", number)
    return w.select(mask, w.op("fcmp ord", floats, value, value), integers, inside, "zeroinitializer")


def _to_narrow(w: Writer, value: str, result: DType, lanes: int) -> str:
    """f32 as integers of 8 or 16 bits on x86-64: limits first, since only i32 is an instruction."""
    floats, integers, wanted = (vector_of(element, lanes) for element in ("float", "i32", element_type(result)))
    low, high = (f"splat (float {float_text(float(limit), F32)})" for limit in result.limits)
    inside = extremum(w, "min", floats, extremum(w, "max", floats, value, low), high)  # NaN becomes the lower limit
    number = w.convert("fptosi", floats, inside, integers)
    if result.is_signed:
        number = w.select(vector_of("i1", lanes), w.op("fcmp ord", floats, value, value), integers, number, "zeroinitializer")
    return w.convert("trunc", integers, number, wanted)


def _to_short(w: Writer, value: str, source: DType, result: DType, lanes: int) -> str:
    if source is F64 or (source.is_integer and source.size >= 4):
        # Two roundings are one if the first is to odd.
        wide = cast(w, value, source, F64, lanes)
        value = halves.round_odd(w, wide, lanes)
    else:
        value = cast(w, value, source, F32, lanes)
    if held_type(w.machine.isa, result, lanes) is F16:
        return halves.truncate(w, value, lanes)
    return halves.normalize(w, result, value, lanes)
