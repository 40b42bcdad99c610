"""What the integers of a value stand for, read off the nodes around it."""

from __future__ import annotations

from dataclasses import dataclass

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Apply, Arg, Convert, Literal, ScalarExpr
from edgecc.ops.convolution import Conv
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.ops.requantize import as_dequantized, as_quantized
from edgecc.passes.scaled import scaled


@dataclass(frozen=True)
class Quantization:
    """number = (integer - zero) * scale. `scale` is None where the graph keeps it only as a quotient of scales."""

    scale: float | None
    zero: int


def quantization_of(value: Value) -> Quantization | None:
    """The quantization of an integer value of up to 16 bits; None for others, and where no node tells."""
    if not value.type.dtype.is_integer or value.type.dtype.bits > 16:
        return None
    found = [each for each in (_written(value), *(_read(user, value) for user in value.users)) if each is not None]
    return next((each for each in found if each.scale is not None), found[0] if found else None)


def output_steps(graph: Graph) -> dict[str, float]:
    """How far apart neighbouring values of each quantized output are, by name: 1 for integers, the scale for dequantized ones."""
    found: dict[str, float] = {}
    for name, value in zip(graph.output_names, graph.outputs, strict=True):
        node = value.producer
        if value.type.dtype.is_integer and value.type.dtype.bits <= 16:
            found[name] = 1.0
        elif node is not None and isinstance(node.op, Elementwise):
            parts = as_dequantized(node.op.expr)
            scale = None if parts is None or node.operand(parts.q.index).constant is not None else _number(node, parts.scale)
            if scale is not None:
                found[name] = scale
    return found


def _written(value: Value) -> Quantization | None:
    """By the node that computes the value: one that quantizes, or rounds sums."""
    if value.producer is None:
        return None
    op = value.producer.op
    expr = op.expr if isinstance(op, Elementwise) else getattr(op, "epilogue", None)
    if expr is None:
        return None
    parts = as_quantized(expr)
    if parts is not None:
        zero = 0 if parts.zero is None else _number(value.producer, parts.zero)
        scale = _number(value.producer, parts.scale)
        return None if zero is None or scale is None else Quantization(scale, int(zero))
    return _rounded(expr)


def _rounded(expr: ScalarExpr) -> Quantization | None:
    """The zero point that is added to a rounded number, within limits."""
    inner = expr.arg if isinstance(expr, Convert) else expr
    while isinstance(inner, Apply) and inner.op in ("min", "max") and isinstance(inner.args[1], Literal):
        inner = inner.args[0]
    match inner:
        case Apply("round", _):
            return Quantization(None, 0)
        case Apply("add", (Apply("round", _), Literal(zero))):
            return Quantization(None, int(zero))
    return None


def _read(user: Node, value: Value) -> Quantization | None:
    """By a node that reads the value: one that dequantizes, or sums products around a zero point."""
    op = user.op
    if isinstance(op, Elementwise):
        form = scaled(user.output)
        steps = form.steps if form is not None and form.integers is value else None
        return None if steps is None else Quantization(steps.scale, steps.zero)
    if isinstance(op, Conv) and user.operand(0) is value:
        return Quantization(None, op.x_zero or 0)
    if isinstance(op, MatMul) and user.operand(0) is value:
        return Quantization(None, op.a_zero or 0)
    return None


def _number(node: Node, parameter: Arg | Literal) -> float | None:
    """A parameter that is one known number."""
    if isinstance(parameter, Literal):
        return float(parameter.value)
    constant = node.operand(parameter.index).constant
    return float(constant.reshape(-1)[0]) if constant is not None and constant.size == 1 else None
