"""From a real function of dequantized operands to an expression over the integers; the cases are listed in integer-elementwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph, Value
from edgecc.ir.op import Op
from edgecc.ir.scalar import Apply, Arg, Literal, ScalarExpr, apply, children, convert, literal, substitute
from edgecc.ir.types import Array, DType, TensorType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather
from edgecc.ops.requantize import Steps, dequantized, requantized, rounded, table_of
from edgecc.passes.quantized_region import Region
from edgecc.passes.scaled import Scaled

EXACTLY_ROUNDED = frozenset({
    "add", "sub", "mul", "div", "min", "max", "neg", "abs", "sign", "floor", "ceil", "round", "sqrt", "lt", "le", "eq", "and", "or",
    "xor", "not", "select", "isnan", "isinf"})
"""Primitives that have one result in IEEE arithmetic."""

EIGHT_BITS = frozenset({DType.I8, DType.U8})

Form = tuple[Op | None, tuple[Value, ...]]
"""An operator and its operands; None for the operand itself."""


def integer_form(graph: Graph, region: Region, steps: Steps, wanted: TensorType) -> Form | str:
    """What computes the quantized result of a region from the integers, or why nothing does."""
    inner, low, high = _limits(region.expr, steps)
    own = region.operands[inner.index] if isinstance(inner, Arg) else None
    if isinstance(own, Scaled) and own.integers.type == wanted and own.steps == steps and _free(low, high, steps.dtype):
        return None, (own.integers,)
    build = _Builder(graph, region, steps, low, high)
    expr = build.multiples(inner) or build.product(inner)
    if expr is None:
        looked_up = _table(graph, region, steps, wanted)
        if looked_up is not None:
            return looked_up
        if all(node.op in EXACTLY_ROUNDED for node in _applied(region.expr)):
            real = [build.real(i) for i in range(len(region.operands))]
            expr = steps.quantized(substitute(region.expr, real))
    if expr is None:
        names = sorted({node.op for node in _applied(region.expr)} - EXACTLY_ROUNDED)
        return f"machines approximate {', '.join(names)} differently, and it is no function of one operand of 8 bits"
    op = Elementwise(expr)
    try:
        (got,) = op.infer([value.type for value in build.operands])
    except EdgeccError as error:
        return error.message
    return (op, tuple(build.operands)) if got == wanted else "an operand that is not read gives the result its shape"


def _applied(expr: ScalarExpr) -> list[Apply]:
    own = [expr] if isinstance(expr, Apply) else []
    return own + [node for child in children(expr) for node in _applied(child)]


# -- limits -------------------------------------------------------------------------------------


def _limits(expr: ScalarExpr, steps: Steps) -> tuple[ScalarExpr, int | None, int | None]:
    """What stands inside the limits around an expression, and these as integers of the result.

    Rounding keeps the order of numbers, so that limiting before or after it is the same.
    """
    inside: list[tuple[str, float]] = []
    while isinstance(expr, Apply) and expr.op in ("max", "min") and isinstance(expr.args[1], Literal):
        inside.append((expr.op, float(expr.args[1].value)))
        expr = expr.args[0]
    low: int | None = None
    high: int | None = None
    for op, limit in reversed(inside):
        code = steps.code_of(limit)
        if op == "max":
            low = code if low is None else max(low, code)
            high = high if high is None else max(high, code)
        else:
            high = code if high is None else min(high, code)
            low = low if low is None else min(low, code)
    return expr, low, high


def _free(low: int | None, high: int | None, dtype: DType) -> bool:
    least, most = (int(limit) for limit in dtype.limits)
    return (low is None or low <= least) and (high is None or high >= most)


# -- tables -------------------------------------------------------------------------------------


def _table(graph: Graph, region: Region, steps: Steps, wanted: TensorType) -> Form | None:
    """A function of one operand of 8 bits, looked up."""
    (own, *others) = region.operands
    if others or not isinstance(own, Scaled) or own.integers.type != wanted.with_dtype(own.integers.type.dtype):
        return None
    if own.steps is None or own.integers.type.dtype not in EIGHT_BITS:
        return None
    entries = table_of(region.expr, own.steps, steps)
    return Gather(0), (graph.constant(entries, "table"), own.integers)


# -- expressions --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sum:
    """factor[i] * operand i over all i, plus a constant; factors broadcast to the result."""

    factors: dict[int, Array]
    constant: Array


class _Builder:
    """Collects the operands of the integer expression of a region while it is built."""

    def __init__(self, graph: Graph, region: Region, steps: Steps, low: int | None, high: int | None) -> None:
        self.graph = graph
        self.region = region
        self.steps = steps
        self.low, self.high = low, high
        self.operands: list[Value] = []

    def read(self, value: Value) -> Arg:
        """The operand `value` of the result."""
        if value not in self.operands:
            self.operands.append(value)
        return Arg(self.operands.index(value), value.type.dtype)

    def number(self, array: Array) -> ScalarExpr:
        """Constants of f32: a literal where all are equal."""
        held = np.asarray(array).astype(np.float32)
        if held.size and (held.reshape(-1).view(np.int32) == held.reshape(-1).view(np.int32)[0]).all():
            return literal(float(held.reshape(-1)[0]), DType.F32)
        return self.read(self.graph.constant(held, "scale"))

    def difference(self, operand: Scaled) -> ScalarExpr:
        """Integers less their zero point, in i32."""
        wide = convert(self.read(operand.integers), DType.I32)
        if operand.single_zero is None:
            return apply("sub", wide, self.read(self.graph.constant(operand.zero.astype(np.int32), "zero")))
        return apply("sub", wide, literal(operand.single_zero, DType.I32)) if operand.single_zero else wide

    def real(self, index: int) -> ScalarExpr:
        """Operand `index` of the region, dequantized."""
        operand = self.region.operands[index]
        if not isinstance(operand, Scaled):
            return self.read(operand)
        return dequantized(self.difference(operand), self.number(operand.scale), None)

    def multiples(self, expr: ScalarExpr) -> ScalarExpr | None:
        """A sum of multiples of operands."""
        found = _sum_of(expr, self.region.operands)
        if found is None or not found.factors:
            return None
        total: ScalarExpr | None = None
        for index, factor in found.factors.items():
            operand = self.region.operands[index]
            if not isinstance(operand, Scaled):
                return None
            ratio = factor * operand.scale / self.steps.scale
            if not (np.isfinite(ratio) & (np.abs(ratio) < 2.0**100)).all():
                return None
            term = apply("mul", convert(self.difference(operand), DType.F32), self.number(ratio))
            total = term if total is None else apply("add", total, term)
        offset = found.constant / self.steps.scale
        if total is None or not np.isfinite(offset).all():
            return None
        if offset.any():
            total = apply("add", total, self.number(offset))
        return rounded(total, self.steps.offset, self.steps.dtype, low=self.low, high=self.high)

    def product(self, expr: ScalarExpr) -> ScalarExpr | None:
        """A product of two operands of 8 bits."""
        match expr:
            case Apply("mul", (Arg(a), Arg(b))):
                left, right = self.region.operands[a], self.region.operands[b]
            case _:
                return None
        if not isinstance(left, Scaled) or not isinstance(right, Scaled):
            return None
        if left.integers.type.dtype not in EIGHT_BITS or right.integers.type.dtype not in EIGHT_BITS:
            return None
        scale = left.scale * right.scale / self.steps.scale
        if not np.isfinite(scale).all():
            return None
        total = apply("mul", self.difference(left), self.difference(right))
        return requantized(total, self.number(scale), self.steps.offset, self.steps.dtype, low=self.low, high=self.high)


def _sum_of(expr: ScalarExpr, operands: Sequence[Scaled | Value]) -> _Sum | None:
    """An expression as a sum of multiples of dequantized operands, in f64, or None."""
    nothing = np.zeros(())
    match expr:
        case Literal(value=value):
            return _Sum({}, np.asarray(float(value)))
        case Arg(index=index):
            operand = operands[index]
            if isinstance(operand, Scaled):
                return _Sum({index: np.ones(())}, nothing)
            return None if operand.constant is None else _Sum({}, operand.constant.astype(np.float64))
        case Apply("add" | "sub" as op, (first, second)):
            left, right = _sum_of(first, operands), _sum_of(second, operands)
            if left is None or right is None:
                return None
            sign = 1.0 if op == "add" else -1.0
            factors = dict(left.factors)
            for index, factor in right.factors.items():
                factors[index] = factors.get(index, nothing) + sign * factor
            return _Sum(factors, left.constant + sign * right.constant)
        case Apply("neg", (first,)):
            return _sum_of(Apply("sub", (Literal(0.0, DType.F32), first), DType.F32), operands)
        case Apply("mul" | "div" as op, (first, second)):
            left, right = _sum_of(first, operands), _sum_of(second, operands)
            if left is None or right is None:
                return None
            if right.factors and op == "mul":
                left, right = right, left
            if right.factors:
                return None
            with np.errstate(all="ignore"):
                by = right.constant if op == "mul" else 1.0 / right.constant
                return _Sum({i: factor * by for i, factor in left.factors.items()}, left.constant * by)
    return None
