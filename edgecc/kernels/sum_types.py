"""The types sums of products are kept in, and what is left of a target where its vectors have no such lanes."""

from __future__ import annotations

from dataclasses import replace

from edgecc.ir.scalar import Arg, Convert, Literal, ScalarExpr, children
from edgecc.ir.types import DType
from edgecc.kernels.request import Request
from edgecc.loop.ir import Cast, Const, Expr
from edgecc.ops.rules import NARROW_INTEGERS
from edgecc.targets.schema import Target

VECTOR_TYPES = frozenset({DType.F32, DType.F16, DType.BF16, DType.I32, DType.BOOL})
"""Types whose values are, or widen to, lanes of 32 bits. Narrow integers do where they are only read, converted and stored."""


def accumulator_type(dtype: DType) -> DType:
    """The type sums are kept in: f32 for the narrow floats, i32 for the narrow integers, else the type itself."""
    if dtype in (DType.F16, DType.BF16):
        return DType.F32
    if dtype.is_integer and dtype.size < 4:
        return DType.I32
    return dtype


def sum_type(request: Request) -> DType:
    """The type a contraction keeps its sums in: that of operand 0 where the request allows sums in it, else `accumulator_type`."""
    dtype = request.operand(0).view.dtype
    return dtype if request.computes_in(dtype) else accumulator_type(dtype)


def compute_target(request: Request, expr: ScalarExpr | None) -> Target:
    """The request's target, without its vector unit where sums or epilogue need other types than its lanes hold."""
    target = request.target
    sums = sum_type(request)
    types = {sums, *(v.dtype for v in request.outputs if v.dtype not in NARROW_INTEGERS)}
    pending = [] if expr is None else [expr]
    while pending:
        node = pending.pop()
        if node.dtype not in NARROW_INTEGERS or not isinstance(node, Arg | Literal | Convert):
            types.add(node.dtype)
        pending.extend(children(node))
    if sums in (DType.F32, DType.F16) and types <= VECTOR_TYPES:
        return target
    if sums is DType.I32 and request.operand(0).view.dtype in NARROW_INTEGERS and types <= VECTOR_TYPES:
        registers = target.vector.integer_registers or target.vector.registers
        return replace(target, vector=replace(target.vector, registers=registers, fma_by_lane=False))  # integers are widened on the way
    return replace(target, vector=replace(target.vector, bits=0, widths=(), fma_by_lane=False))


def convert(expr: Expr, dtype: DType) -> Expr:
    """`expr` as `dtype`, without a conversion where it has that type."""
    return expr if expr.dtype is dtype else Cast(expr, dtype)


def zero(dtype: DType) -> Const:
    """The start of a sum without bias."""
    return Const(0.0 if dtype.is_float else 0, dtype)
