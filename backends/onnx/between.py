"""Which nodes of a graph compute between integers: what they read is dequantized, and what they make is quantized.

Tools that compute on integers alone take these. Movement keeps to the grid of its operand, and limits stand where quantization does,
so that the dialect (edgecc/backends/onnx/dialects.py) can quantize behind the one and in front of the other.
"""

from __future__ import annotations

from edgecc.ir.graph import Node, Value
from edgecc.ir.scalar import Apply, Arg, Literal, ScalarExpr
from edgecc.ops.convolution import Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.movement import Expand, Reshape, Slice, Transpose
from edgecc.ops.requantize import as_dequantized, as_quantized

_MOVEMENT = (Reshape, Transpose, Slice, Expand)


def quantizes(node: Node) -> bool:
    """Whether a node makes integers of floats."""
    return isinstance(node.op, Elementwise) and as_quantized(node.op.expr) is not None


def dequantizes(node: Node) -> bool:
    """Whether a node makes floats of integers, of constants too."""
    return isinstance(node.op, Elementwise) and as_dequantized(node.op.expr) is not None


def computes_between_integers(node: Node) -> bool:
    """Whether a node quantizes or dequantizes, or stands between nodes that do."""
    if quantizes(node) or dequantizes(node):
        return True
    if _limits(node) and not _grounded(node.operand(0)):
        before = node.operand(0).producer
        return before is not None and len(before.outputs) == 1 and _finished(node.output) and computes_between_integers(before)
    if not all(value is None or _grounded(value) for value in node.inputs):
        return False
    return _moves(node) or all(_finished(value) for value in node.outputs)


def _moves(node: Node) -> bool:
    return isinstance(node.op, _MOVEMENT) or (isinstance(node.op, Pool) and node.op.kind == "max")


def _grounded(value: Value) -> bool:
    """Whether the floats of a value stand for integers."""
    node = value.producer
    if node is None:
        return value.constant is not None
    return dequantizes(node) or (_moves(node) and _grounded(node.operand(0)))


def _finished(value: Value) -> bool:
    """Whether whoever reads a value quantizes it, past limits."""
    users = value.users
    if not users:
        return False
    if all(quantizes(user) for user in users):
        return True
    return len(users) == 1 and _limits(users[0]) and _finished(users[0].output)


def _limits(node: Node) -> bool:
    """Whether a node limits its operand by known numbers."""
    return isinstance(node.op, Elementwise) and len(node.inputs) == 1 and isinstance(node.op.expr, Apply) and _limit(node.op.expr)


def _limit(expr: ScalarExpr) -> bool:
    match expr:
        case Arg(0):
            return True
        case Apply("min" | "max", (inner, Literal())) | Apply("min" | "max", (Literal(), inner)):
            return _limit(inner)
    return False
