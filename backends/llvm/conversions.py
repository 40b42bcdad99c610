"""Conversions between types: floats to integers truncate and saturate, integers wrap, anything to bool is `!= 0`."""

from __future__ import annotations

from edgecc.backends.llvm import halves
from edgecc.backends.llvm.types import element_type, held_type, register_type, suffix, vector_of, zero
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
