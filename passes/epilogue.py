"""Moves an Elementwise into the epilogue of the convolution or matrix product it reads.

    %c = conv(%x, %w, %b); %y = elementwise(%c, %s) {expr=`mul($0:f32, $1:f32)`}
        ->  %y = conv(%x, %w, %b, %s) {epilogue=`mul($0:f32, $1:f32)`}

The fused node stands where the Elementwise stood, so all operands are there and no cycle can arise.
"""

from __future__ import annotations

import dataclasses

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Arg, ScalarExpr, size, substitute, used_args
from edgecc.ir.types import DType
from edgecc.ops.convolution import Conv, ConvTranspose
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.ops.rules import sum_type
from edgecc.passes.expressions import reads_discontinuously, renumbered, rounds, simplify
from edgecc.passes.rewrite import replace, sole_user

MAX_EXTRA = 6  # operands of an epilogue beside the sum: each holds a pointer in the innermost loop
MAX_SIZE = 64  # operations of an epilogue

Contraction = Conv | ConvTranspose | MatMul


def contraction_of(value: Value) -> Node | None:
    """The Conv, ConvTranspose or MatMul that computes `value`, or None."""
    producer = value.producer
    return producer if producer is not None and isinstance(producer.op, Contraction) else None


def obstacle(graph: Graph, node: Node, contraction: Node) -> str | None:
    """Why the Elementwise `node` cannot become the epilogue of `contraction`, or None where it can.

    1. The contraction has another reader or is returned: it would be computed twice.
    2. The result is larger than the contraction's: it would be computed again for each repetition.
    3. The epilogue would hold too many operands or operations.
    4. A comparison or rounding in `node` depends on the last bit of what the present epilogue computes, and sums are floats:
       of sums of integers the epilogue computes the same bits wherever it stands.
    """
    value = contraction.output
    if sole_user(graph, value) is not node:
        return f"the result of {contraction.op.name} has another reader or is returned"
    if value.type.shape != node.output.type.shape:
        return f"the result of {contraction.op.name} is broadcast"
    expr, extra = _composed(node, contraction)
    if len(extra) > MAX_EXTRA or size(expr) > MAX_SIZE:
        return f"the epilogue would have {len(extra)} operands and {size(expr)} operations"
    own = _epilogue(contraction)
    exact = not _sum_type(contraction).is_float  # then every bit of what the epilogue computes is defined
    if own is not None and not exact and isinstance(node.op, Elementwise) and rounds(own) and any(
            node.inputs[i] is value for i in reads_discontinuously(node.op.expr)):
        return "a comparison or rounding depends on its last bit"
    return None


def fuse_epilogue(graph: Graph, node: Node, contraction: Node) -> Value:
    """Makes `node` the epilogue of `contraction`, once `obstacle` found none."""
    expr, extra = _composed(node, contraction)
    first = [*contraction.inputs[:3], None, None, None][:3]
    if not isinstance(contraction.op, Contraction):
        raise TypeError(f"{contraction.op.name} has no epilogue")
    return replace(graph, node, dataclasses.replace(contraction.op, epilogue=expr), *first, *extra, absorbed=[contraction])


def _epilogue(contraction: Node) -> ScalarExpr | None:
    return contraction.op.epilogue if isinstance(contraction.op, Contraction) else None


def _composed(node: Node, contraction: Node) -> tuple[ScalarExpr, list[Value]]:
    """The joint epilogue and its extra operands."""
    value, own = contraction.output, _epilogue(contraction)
    extra = list(dict.fromkeys(v for v in (*contraction.inputs[3:], *node.inputs) if v is not None and v is not value))
    position = {id(v): i + 1 for i, v in enumerate(extra)}
    inner: ScalarExpr = Arg(0, _sum_type(contraction))
    if own is not None:
        inner = substitute(own, [inner, *(Arg(position[id(v)], v.type.dtype) for v in contraction.inputs[3:] if v is not None)])
    args = [inner if v is value else Arg(position[id(v)], v.type.dtype) for v in node.inputs if v is not None]
    if not isinstance(node.op, Elementwise):
        raise TypeError(f"{node.op.name} is not elementwise")
    expr = simplify(substitute(node.op.expr, args))
    used = [index for index in used_args(expr) if index > 0]
    numbers = {old: new for new, old in enumerate([0, *used])}
    return renumbered(expr, numbers), [extra[index - 1] for index in used]


def _sum_type(contraction: Node) -> DType:
    return sum_type(_epilogue(contraction), contraction.operand(0).type.dtype)
