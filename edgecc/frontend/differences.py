"""How far one number of the run can be above another because of how it is computed: min(n, i + 1) is at most 1 above i.

Loops that write one row after the other make ranges of such ends. Numbers are followed backwards through arithmetic with constants, minima,
maxima and conversions. Floats on the way are taken for exact; sizes that depend on what is found here are looked at by the run.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgecc.frontend.computed_sizes import Origin, origin_of
from edgecc.ir.graph import Value
from edgecc.ir.scalar import Apply, Arg, Convert, Literal, ScalarExpr
from edgecc.ops.elementwise import Elementwise

DEPTH = 24
"""Operators and steps of expressions that are followed."""


def most_above(value: Value, base: Value) -> int | None:
    """The least k found with value <= base + k, for tensors of one element; None where nothing is known."""
    return _of_value(value, origin_of(base), DEPTH)


def _of_value(value: Value, base: Origin, depth: int) -> int | None:
    origin = value, _ = origin_of(value)
    if origin == base:
        return 0
    if depth == 0 or value.type.elements != 1 or value.producer is None or not isinstance(value.producer.op, Elementwise):
        return None
    operands = [operand for operand in value.producer.inputs if operand is not None]
    return _of_expression(value.producer.op.expr, operands, base, depth - 1)


def _of_expression(expr: ScalarExpr, operands: Sequence[Value], base: Origin, depth: int) -> int | None:
    if depth == 0:
        return None
    match expr:
        case Arg(index=index):
            return _of_value(operands[index], base, depth)
        case Convert(arg=arg):
            return _of_expression(arg, operands, base, depth - 1)
        case Apply(op="min" | "max" as op, args=(first, second)):
            found = [bound for part in (first, second) if (bound := _of_expression(part, operands, base, depth - 1)) is not None]
            return None if not found or (op == "max" and len(found) == 1) else min(found) if op == "min" else max(found)
        case Apply(op="add" | "sub" as op, args=(first, second)):
            for part, other in ((first, second), (second, first))[:1 if op == "sub" else 2]:
                step, bound = _whole(other, operands), _of_expression(part, operands, base, depth - 1)
                if step is not None and bound is not None:
                    return bound + (step if op == "add" else -step)
    return None


def _whole(expr: ScalarExpr, operands: Sequence[Value]) -> int | None:
    """A constant whole number."""
    number: float | int | None = None
    match expr:
        case Literal(value=value):
            number = value
        case Convert(arg=arg):
            return _whole(arg, operands)
        case Arg(index=index):
            constant = operands[index].constant
            number = None if constant is None or constant.size != 1 else constant.reshape(-1)[0].item()
    return int(number) if isinstance(number, int | float) and float(number).is_integer() else None
