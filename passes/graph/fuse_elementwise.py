"""Composes chains of elementwise operators into one, so that what lies between them never reaches memory.

    %a = elementwise(%x, %s) {expr=`mul($0:f32, $1:f32)`}; %y = elementwise(%a) {expr=`max($0:f32, 0.0:f32)`}
        ->  %y = elementwise(%x, %s) {expr=`max(mul($0:f32, $1:f32), 0.0:f32)`}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Arg, ScalarExpr, arg_counts, size, substitute
from edgecc.ops.convolution import Conv, ConvTranspose
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.passes.base import NodePass
from edgecc.passes.expressions import canonical, is_cheap, reads_discontinuously, rounds
from edgecc.passes.rewrite import replace, sole_user

MOST_READERS = 256
"""Readers of a value that may each compute it themselves; it bounds the time it takes to look at all of them for each."""

MOST_SIMPLIFIED = 8
"""Operations that simplification may take away where two simple expressions meet; what is too large by more is not tried."""


@dataclass(frozen=True)
class FuseElementwise(NodePass):
    """Substitutes the expression of a producing Elementwise into the one that reads it.

    1. The producer has no other reader: it disappears.
    2. The producer has several readers but is one cheap operation on one operand (and small constants), and all
       of its readers, 256 at most, are Elementwise of the same shape: computing it again costs less than storing it.

    Broadcasting stays right because the producer's shape broadcasts to the reader's shape, and its operands to its
    own. What is fused is computed for each element of the reader's shape.

    Options: max_operands and max_size (operations in the expression) bound what one kernel has to hold.

    Declines when:
    3. The producer has another reader that keeps it alive, is returned, or costs more than in 2.
    4. The producer is smaller than the reader and not cheap: broadcasting would repeat its work.
    5. The fused node would exceed max_operands or max_size.
    6. The reader compares the value with something other than zero, rounds it to an integer or takes a remainder,
       and the producer rounds: keeping the value exact inside could decide otherwise than the rounded value.
    7. In 2, the producer reads the only use of a convolution or matrix product: it belongs into that one's epilogue.
    """

    name: ClassVar[str] = "fuse-elementwise"
    # The same arithmetic; values inside are only rounded less. Where a producer is a literal, what is computed from it
    # becomes a literal too, rounded once; measured maximum 0.16.
    tolerance: ClassVar[float] = 1.0

    max_operands: int = 8
    max_size: int = 64

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Fuses every producer of `node` that can be, again and again until none is left."""
        if not isinstance(node.op, Elementwise):
            return False
        changed = False
        while True:
            fused = next((new for value in dict.fromkeys(node.inputs) if value is not None
                          and (new := self._fuse(graph, node, value)) is not None), None)
            if fused is None:
                return changed
            node, changed = fused, True

    def _fuse(self, graph: Graph, node: Node, value: Value) -> Node | None:
        """Fuses the producer of operand `value`; returns the node that replaces `node`, or None."""
        producer = value.producer
        if producer is None or not isinstance(producer.op, Elementwise) or not isinstance(node.op, Elementwise):
            return None
        reason = self._reason(graph, node, node.op, producer, producer.op)
        if reason is not None:
            self.decline(node, f"%{value.name}: {reason}")
            return None
        if _composed_size(node, node.op, value, producer.op) > 4 * self.max_size or size(node.op.expr) + size(producer.op.expr) > self.max_size + MOST_SIMPLIFIED:
            self.decline(node, f"%{value.name}: the expression would be too large")
            return None
        operands, expr = composed(node.inputs, node.op.expr, producer, producer.op.expr)
        operands, expr = canonical(operands, expr, node.output.type.shape)
        if len(operands) > self.max_operands or size(expr) > self.max_size:
            self.decline(node, f"%{value.name}: {len(operands)} operands and {size(expr)} operations are too many")
            return None
        return replace(graph, node, Elementwise(expr), *operands, absorbed=[producer]).producer

    def _reason(self, graph: Graph, node: Node, op: Elementwise, producer: Node, inner: Elementwise) -> str | None:
        value = producer.output
        if sole_user(graph, value) is not node:
            reason = _costly_to_repeat(graph, producer, inner)
            if reason is not None:
                return reason
        if value.type.capacity < node.output.type.capacity and not is_cheap(inner.expr):
            return "broadcasting would repeat its work"
        if any(node.inputs[i] is value for i in reads_discontinuously(op.expr)) and rounds(inner.expr):
            return "a comparison or rounding depends on its last bit"
        return None


def _costly_to_repeat(graph: Graph, producer: Node, inner: Elementwise) -> str | None:
    """Why a producer with several readers is kept, or None where each reader can compute it itself."""
    value = producer.output
    if graph.is_output(value) or value.use_count > MOST_READERS or any(not isinstance(user.op, Elementwise) or user.output.type.shape != value.type.shape
                                     for user in value.users):
        return "it is needed elsewhere too"
    large = [v for v in producer.inputs if v is not None and v.type.capacity * 16 > value.type.capacity]
    if size(inner.expr) > 1 or not is_cheap(inner.expr) or len(large) > 1 or len(producer.inputs) > 2:
        return "it has several readers and costs more than one cheap operation"
    source = large[0].producer if large else None
    if source is not None and isinstance(source.op, Conv | ConvTranspose | MatMul) and sole_user(graph, large[0]) is producer:
        return f"it belongs into the epilogue of {source.op.name}"
    return None


def _composed_size(node: Node, op: Elementwise, value: Value, inner: Elementwise) -> int:
    """Operations of the composed expression before it is simplified, with a copy of the producer's for each time it is read.

    0 where it is read once: both expressions are within the bound, and so the composed one is within twice that.
    """
    counts = arg_counts(op.expr)
    reads = sum(counts.get(i, 0) for i, operand in enumerate(node.inputs) if operand is value)
    return 0 if reads <= 1 else size(op.expr) + reads * size(inner.expr)


def composed(inputs: Sequence[Value | None], expr: ScalarExpr, producer: Node, inner: ScalarExpr) -> tuple[list[Value], ScalarExpr]:
    """Operands and expression, over `inputs`, with that of `producer` in the place of its result."""
    kept = [v for v in inputs if v is not None and v is not producer.output]
    operands = list(dict.fromkeys([*(v for v in producer.inputs if v is not None), *kept]))
    position = {id(v): i for i, v in enumerate(operands)}

    def read(value: Value) -> Arg:
        return Arg(position[id(value)], value.type.dtype)

    given = [v for v in producer.inputs if v is not None]  # they come first: where each is there once, their numbers stay
    inside = inner if len(set(given)) == len(given) else substitute(inner, [read(v) for v in given])
    args = [inside if v is producer.output else read(v) for v in inputs if v is not None]
    return operands, substitute(expr, args)
