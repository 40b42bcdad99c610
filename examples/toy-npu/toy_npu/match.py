"""Which nodes the accelerator runs, and what their arithmetic is in its terms.

    y = limit(round half to even(f32(value) * scale + offset) + zero)

is all it can do with a sum: numbers of 32 bits, each step rounded once, as edgecc's requantization is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgecc.ir.graph import Node
from edgecc.ir.scalar import Apply, Arg, Convert, Literal, ScalarExpr
from edgecc.ir.types import DType
from edgecc.ops.convolution import Conv
from edgecc.ops.elementwise import Elementwise


@dataclass(frozen=True)
class Rounding:
    """What becomes of a sum: `value` is the expression that is rounded; then `zero` is added, and low and high limit it."""

    value: ScalarExpr
    zero: int
    low: int
    high: int


@dataclass(frozen=True)
class Scaled:
    """A sum of 32 bits times a scale, plus an offset; each is a number, or an operand with one for each channel."""

    scale: Arg | Literal
    offset: Arg | Literal | None


@dataclass(frozen=True)
class Term:
    """(operand - zero) * scale."""

    operand: int
    zero: int
    scale: float


def as_rounding(expr: ScalarExpr) -> Rounding | None:
    """Takes an expression apart that rounds to i8; None for any other."""
    if not isinstance(expr, Convert) or expr.dtype is not DType.I8 or expr.arg.dtype is not DType.F32:
        return None
    low, high, zero, inner = -128, 127, 0, expr.arg
    if isinstance(inner, Apply) and inner.op == "min" and isinstance(inner.args[1], Literal):
        high, inner = min(high, int(inner.args[1].value)), inner.args[0]
    if isinstance(inner, Apply) and inner.op == "max" and isinstance(inner.args[1], Literal):
        low, inner = max(low, int(inner.args[1].value)), inner.args[0]
    if isinstance(inner, Apply) and inner.op == "add" and isinstance(inner.args[1], Literal):
        zero, inner = int(inner.args[1].value), inner.args[0]
    if not isinstance(inner, Apply) or inner.op != "round":
        return None
    return Rounding(inner.args[0], zero, low, high)


def as_scaled(expr: ScalarExpr) -> Scaled | None:
    """The parts of `f32($0) * scale + offset`."""
    match expr:
        case Apply("add", (Apply() | Convert() as product, Arg() | Literal() as offset)):
            found = as_scaled(product)
            return None if found is None or found.offset is not None else Scaled(found.scale, offset)
        case Apply("mul", (Convert(Arg(0, DType.I32), DType.F32), Arg() | Literal() as scale)):
            return Scaled(scale, None)
        case Convert(Arg(0, DType.I32), DType.F32):
            return Scaled(Literal(1.0, DType.F32), None)
    return None


def as_terms(expr: ScalarExpr) -> tuple[Term, Term] | None:
    """The parts of `f32(i32($0) - zero) * scale + f32(i32($1) - zero) * scale`."""
    if not isinstance(expr, Apply) or expr.op != "add":
        return None
    terms = [_term(arg) for arg in expr.args]
    return (terms[0], terms[1]) if terms[0] is not None and terms[1] is not None else None


def _term(expr: ScalarExpr) -> Term | None:
    scale = 1.0
    if isinstance(expr, Apply) and expr.op == "mul" and isinstance(expr.args[1], Literal):
        scale, expr = float(expr.args[1].value), expr.args[0]
    match expr:
        case Convert(Apply("sub", (Convert(Arg(index, DType.I8)), Literal(zero))), DType.F32):
            return Term(index, int(zero), scale)
        case Convert(Arg(index, DType.I8), DType.F32):
            return Term(index, 0, scale)
    return None


def as_limit(expr: ScalarExpr) -> tuple[int, int] | None:
    """The limits that an expression of one i8 operand sets: a Relu of quantized numbers is one."""
    match expr:
        case Apply("max", (Arg(0, DType.I8), Literal(low))):
            return int(low), 127
        case Apply("min", (Arg(0, DType.I8), Literal(high))):
            return -128, int(high)
        case Apply("min", (Apply("max", (Arg(0, DType.I8), Literal(low))), Literal(high))):
            return int(low), int(high)
    return None


# -- nodes --------------------------------------------------------------------------------------


def obstacle(node: Node) -> str | None:
    """Why the accelerator cannot run a node; None where it can."""
    if not isinstance(node.op, Conv | Elementwise):
        return f"it has no command for {node.op.name}"
    if node.output.type.dtype is not DType.I8:
        return f"its results are i8, not {node.output.type.dtype.value}"
    return _conv_obstacle(node, node.op) if isinstance(node.op, Conv) else _elementwise_obstacle(node, node.op)


def _conv_obstacle(node: Node, op: Conv) -> str | None:
    x, w = node.operand(0), node.operand(1)
    if (x.type.dtype, w.type.dtype) != (DType.I8, DType.I8) or w.constant is None:
        return "convolutions take i8 and constant i8 weights"
    if x.type.rank != 4 or x.type.dims[0] != 1:
        return "convolutions take one image at a time"
    if op.dilations != (1, 1):
        return "kernels are not dilated"
    if max(w.type.dims[2:]) > 15 or max(op.strides) > 15 or max(op.pads) > 15:
        return "kernels, strides and pads are at most 15"
    if any(value is not None and value.constant is None for value in node.inputs[2:]):
        return "biases and scales must be constants"
    rounding = None if op.epilogue is None else as_rounding(op.epilogue)
    if rounding is None or as_scaled(rounding.value) is None:
        return "sums are multiplied by a scale, rounded, moved by a zero point and limited; nothing else"
    channels = w.type.dims[0]
    if any(value is not None and np.broadcast_shapes(value.type.dims, (1, channels, 1, 1)) != (1, channels, 1, 1) for value in node.inputs[3:]):
        return "scales are for channels, not for positions"
    return None


def _elementwise_obstacle(node: Node, op: Elementwise) -> str | None:
    if any(value is None or value.constant is not None for value in node.inputs):
        return "operands of sums are not constant"
    if any(node.operand(i).type.dims != node.output.type.dims for i in range(len(node.inputs))):
        return "operands are not broadcast"
    if as_limit(op.expr) is not None:
        return None
    rounding = as_rounding(op.expr)
    terms = None if rounding is None else as_terms(rounding.value)
    if terms is None:
        return "elementwise arithmetic is the sum of two quantized operands, or a limit"
    return None
