"""Types and constants of the Loop IR as LLVM text.

Values in registers: floats and integers as they are, bool as i1. f16 and bf16 are floats that are rounded after each
operation, or halves where the machine computes with them (`Isa.carrier`). Memory always has the narrow form.
"""

from __future__ import annotations

import math
import struct

import numpy as np

from edgecc.backends.c.isa import Isa
from edgecc.ir.types import DType

_FLOATS = {DType.F64: "double", DType.F32: "float", DType.F16: "half"}
_SUFFIXES = {"double": "f64", "float": "f32", "half": "f16", "bfloat": "bf16"}


def element_type(held: DType) -> str:
    """LLVM type of one element of the type that holds a value."""
    if held is DType.BOOL:
        return "i1"
    return _FLOATS.get(held) or f"i{8 * held.size}"


def memory_type(dtype: DType) -> str:
    """LLVM type of one element in memory; floats of 16 bits are their bits."""
    return _FLOATS[dtype] if dtype in (DType.F64, DType.F32) else f"i{8 * dtype.size}"


def vector_of(element: str, lanes: int) -> str:
    """LLVM type of `lanes` elements; one element is a scalar."""
    return element if lanes == 1 else f"<{lanes} x {element}>"


def register_type(isa: Isa, dtype: DType, lanes: int) -> str:
    """LLVM type of a value in registers."""
    return vector_of(element_type(held_type(isa, dtype, lanes)), lanes)


def held_type(isa: Isa, dtype: DType, lanes: int) -> DType:
    """The type that holds values of `dtype`: another one for f16 and bf16 only."""
    if dtype in (DType.F16, DType.BF16):
        return isa.carrier(dtype, lanes)
    return dtype


def suffix(type_text: str) -> str:
    """What the name of an overloaded intrinsic says of a type: "v4f32", "i64"."""
    if type_text.startswith("<"):
        count, _, element = type_text[1:-1].partition(" x ")
        return f"v{count}{_SUFFIXES.get(element, element)}"
    return _SUFFIXES.get(type_text, type_text)


def constant(value: float | int | bool, dtype: DType, held: DType, lanes: int) -> str:
    """A constant of `dtype`, held as `held`, in every lane."""
    text = scalar_constant(value, dtype, held)
    if lanes == 1:
        return text
    if text in ("0", "false") or (held.is_float and text == zero(held)):
        return "zeroinitializer"
    return f"splat ({element_type(held)} {text})"


def scalar_constant(value: float | int | bool, dtype: DType, held: DType) -> str:
    """One element."""
    if dtype is DType.BOOL:
        return "true" if value else "false"
    if dtype.is_float:
        return float_text(float(np.asarray(value).astype(dtype.numpy)), held)
    return str(int(value))


def zero(held: DType) -> str:
    """The number zero."""
    return float_text(0.0, held) if held.is_float else "0"


def float_text(number: float, held: DType) -> str:
    """A float as the hexadecimal form that LLVM reads for all of them: exact, NaN and infinities included."""
    if held is DType.F16:
        return f"0xH{np.float16(number).view(np.uint16):04X}"
    if held is DType.F32:
        with np.errstate(over="ignore"):
            number = float(np.float32(number))
    if math.isnan(number):
        return "0x7FF8000000000000"
    return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"
