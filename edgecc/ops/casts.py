"""ONNX's Cast as a scalar expression, for every pair of element types."""

from __future__ import annotations

from edgecc.errors import EdgeccError
from edgecc.ir.scalar import ScalarExpr, apply, bitcast, convert, literal
from edgecc.ir.types import DType

ROUND_MODES = ("up", "down", "nearest")
"""How numbers between two powers of two become f8e8m0; "nearest" rounds halves up."""


def cast_expression(x: ScalarExpr, dtype: DType, *, saturate: bool = True, round_mode: str = "up") -> ScalarExpr:
    """`x` as `dtype` by the rules of ONNX Cast-25.

    Float to a float of 8 bits or less: beyond the range the largest number with `saturate`, else what
    `edgecc.ir.scalar.Convert` gives. Float to an integer of less than 8 bits: truncated, then the lowest bits, as in
    onnx's own tests; the specification leaves it open. Everything else is `Convert`.

    Raises: EdgeccError E102 for an unknown `round_mode`.
    """
    if round_mode not in ROUND_MODES:
        raise EdgeccError("E102", f"attribute round_mode is {round_mode!r}, wanted one of {', '.join(ROUND_MODES)}")
    if x.dtype is dtype or not dtype.is_stored_only or dtype is DType.STRING:
        return convert(x, dtype)
    if dtype.is_integer:
        return convert(convert(x, DType.I32) if x.dtype.is_float else x, dtype)
    if x.dtype.is_stored_only or x.dtype.size < 4 or not x.dtype.is_float:
        x = convert(x, DType.F64 if x.dtype.is_integer and x.dtype.size >= 4 else DType.F32)
    if dtype is DType.F8E8M0:
        return convert(_power_of_two(x, saturate, round_mode), dtype)
    if not saturate:
        return convert(x, dtype)
    least, most = dtype.limits
    return convert(apply("min", apply("max", x, literal(least, x.dtype)), literal(most, x.dtype)), dtype)


def _power_of_two(x: ScalarExpr, saturate: bool, round_mode: str) -> ScalarExpr:
    """An expression of type f32 or f64 in the range of f8e8m0 if `saturate`, and rounded up or down where that is asked for."""
    if saturate:
        x = apply("min", apply("max", x, literal(2.0**-127, x.dtype)), literal(2.0**127, x.dtype))
    if round_mode == "nearest":
        return x
    integer, mantissa = (DType.I64, 52) if x.dtype is DType.F64 else (DType.I32, 23)
    bits = bitcast(x, integer)
    if round_mode == "up":
        bits = apply("add", bits, literal((1 << mantissa) - 1, integer))
    whole = bitcast(apply("bit_and", bits, literal(-(1 << mantissa), integer)), x.dtype)
    ordinary = apply("le", literal(2.0**-126, x.dtype), x)  # false for NaN; below, f32 is subnormal and Convert rounds
    below = x if round_mode == "up" else apply("min", x, literal(2.0**-127, x.dtype))
    return apply("select", apply("and", ordinary, apply("not", apply("isinf", x))), whole, below)
