"""What turns a sum of integer products into a quantized integer again, as a scalar expression.

    y = saturate(round half to even(f32(sum) * scale) + zero point)

Each step is one IEEE operation on 32-bit floats: every machine gives the same bytes. Nothing may contract the product with
the addition, and the rounding between them sees to that. It differs from the exact real value only where that lies within
float32 rounding of a tie.
"""

from __future__ import annotations

from edgecc.ir.scalar import ScalarExpr, apply, convert
from edgecc.ir.types import DType


def requantized(total: ScalarExpr, scale: ScalarExpr, zero: ScalarExpr | None, dtype: DType) -> ScalarExpr:
    """`total` (i32) times `scale` (f32) as a quantized integer of type `dtype` with this zero point."""
    return rounded(apply("mul", convert(total, DType.F32), scale), zero, dtype)


def rounded(value: ScalarExpr, zero: ScalarExpr | None, dtype: DType) -> ScalarExpr:
    """`value`, an f32 expression in units of the result's scale, as a quantized integer of type `dtype`."""
    nearest = apply("round", value)
    return convert(nearest if zero is None else apply("add", nearest, convert(zero, nearest.dtype)), dtype)
