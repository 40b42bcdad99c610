"""The elementwise work in front of a quantization, as one expression over dequantized operands."""

from __future__ import annotations

from dataclasses import dataclass

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Arg, Literal, ScalarExpr, literal, size, substitute
from edgecc.ir.types import DType
from edgecc.ops.elementwise import Elementwise
from edgecc.passes.expressions import simplify
from edgecc.passes.rewrite import uniform_element
from edgecc.passes.scaled import Scaled, scaled

MAX_OPERANDS = 6
MAX_SIZE = 48
"""Operations of an expression: those of one kernel."""


@dataclass(frozen=True)
class Region:
    """Elementwise operators of which only the last one's result is looked at.

    Attributes:
        expr: the real result; Arg(i), of f32, is operand i.
        operands: dequantized values, and constants in f32.
        nodes: the elementwise operators, without those that dequantize, in the order of the graph.
    """

    expr: ScalarExpr
    operands: tuple[Scaled | Value, ...]
    nodes: tuple[Node, ...]

    @property
    def scaled(self) -> tuple[tuple[int, Scaled], ...]:
        """The dequantized operands with their positions."""
        return tuple((i, operand) for i, operand in enumerate(self.operands) if isinstance(operand, Scaled))


class _TooLarge(Exception):
    pass


def region_behind(graph: Graph, value: Value) -> Region | str:
    """The region whose result is `value`, or why there is none."""
    operands: dict[Value, int] = {}
    found: list[Scaled | Value] = []
    nodes: dict[Node, None] = {}

    def operand(of: Value, what: Scaled | Value) -> Arg:
        if of not in operands:
            operands[of] = len(found)
            found.append(what)
        return Arg(operands[of], DType.F32)

    def expression(of: Value) -> ScalarExpr | None:
        if of.constant is not None:
            element = uniform_element(of)
            return operand(of, of) if element is None else literal(element, DType.F32)
        known = scaled(of)
        if known is not None:
            return operand(of, known)
        producer = of.producer
        if producer is None or not isinstance(producer.op, Elementwise) or not producer.inputs:
            return None
        args = []
        for source in producer.inputs:
            if source is None or source.type.dtype is not DType.F32:
                return None
            inner = expression(source)
            if inner is None:
                return None
            args.append(inner)
        nodes[producer] = None
        expr = substitute(producer.op.expr, args)
        if len(found) > MAX_OPERANDS or size(expr) > MAX_SIZE:
            raise _TooLarge
        return expr

    if value.type.dtype is not DType.F32:
        return f"it quantizes {value.type.dtype.value}"
    try:
        whole = expression(value)
    except _TooLarge:
        return "the function in front of it is too large"
    if whole is None:
        return _float_source(value)
    whole = simplify(whole)
    if isinstance(whole, Literal) or not any(isinstance(one, Scaled) for one in found):
        return "what it quantizes does not depend on quantized numbers"
    return Region(whole, tuple(found), tuple(nodes))


def _float_source(value: Value) -> str:
    """What keeps the elementwise work in front of a quantization from being done on integers."""
    pending, seen = [value], {value}
    while pending:
        found = pending.pop()
        if found.constant is not None or scaled(found) is not None:
            continue
        producer = found.producer
        if producer is None:
            return "it quantizes an input of the network"
        if not isinstance(producer.op, Elementwise):
            return f"the {producer.op.name} in front of it is computed in float"
        sources = [v for v in producer.inputs if v is not None and v not in seen]
        seen.update(sources)
        pending += sources
    return "what it quantizes is computed in float"
