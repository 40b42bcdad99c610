"""Joins, shortens and renames operators that only move elements.

    %a = reshape(%x); %y = reshape(%a)                              ->  %y = reshape(%x)
    %a = transpose(%x) {perm=p}; %y = transpose(%a) {perm=q}        ->  %y = transpose(%x) {perm=p after q}
    %y = transpose(%x) that only moves axes of size 1               ->  %y = reshape(%x)
    %y = gather(%x, constant [0, 2, 4]) {axis=1}                    ->  %y = slice(%x) {steps=(1,2,...)}
    %a = concat(%x, %z); %y = slice(%a) inside the part of %z       ->  %y = slice(%z)
    %w' = f32(%w), %w an f16 table; %y = gather(%w', %i)            ->  %y = f32(gather(%w, %i))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np

from edgecc.ir.dims import Dim, larger, smaller, upper_bound
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Arg, Convert
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather, resolved
from edgecc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose
from edgecc.passes.base import NodePass
from edgecc.passes.rewrite import replace, sole_user


@dataclass(frozen=True)
class SimplifyMovement(NodePass):
    """Fewer, and simpler, movements of the same elements.

    1. Two Reshapes, Transposes, Slices or Expands in a row become one.
    2. A Transpose that keeps the order of the axes larger than 1 becomes Reshape; so does an Expand that only adds
       axes of size 1.
    3. Concat takes over the operands of a Concat along the same axis, and leaves out empty operands.
    4. A Slice that reads one operand of a Concat reads that operand. Steps over axes of size 1 are 1, starts of
       empty axes 0.
    5. A Pad that only removes elements becomes Slice.
    6. Gather with constant, evenly spaced indices becomes Slice, and Reshape where the indices have no single axis.
    7. Gather of a table converted to a larger type gathers first and converts what was read.

    Declines when:
    8. The inner Concat has another reader (its operands would be copied twice).
    9. Gather's constant indices are not evenly spaced.
    """

    name: ClassVar[str] = "simplify-movement"
    tolerance: ClassVar[float] = 0.0  # nothing is computed

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one node."""
        source = node.inputs[0].producer if node.inputs and node.inputs[0] is not None else None
        match node.op:
            case Reshape(shape=shape):
                if source is not None and isinstance(source.op, Reshape):
                    replace(graph, node, Reshape(shape), source.operand(0), absorbed=[source])
                    return True
            case Transpose():
                return _transpose(graph, node, node.op, source)
            case Expand():
                return _expand(graph, node, node.op, source)
            case Slice():
                return _slice(graph, node, node.op, source)
            case Concat():
                return self._concat(graph, node, node.op)
            case Pad(mode="constant"):
                return _pad(graph, node, node.op)
            case Gather():
                return self._gather(graph, node, node.op, source)
        return False

    def _concat(self, graph: Graph, node: Node, op: Concat) -> bool:
        operands: list[Value] = []
        absorbed: list[Node] = []
        for value in (v for v in node.inputs if v is not None):
            inner = value.producer
            if inner is not None and isinstance(inner.op, Concat) and inner.op.axis == op.axis:
                if sole_user(graph, value) is node:
                    operands += [v for v in inner.inputs if v is not None]
                    absorbed.append(inner)
                    continue
                self.decline(node, "the inner concat has another reader")
            operands.append(value)
        if node.output.type.shape[op.axis] != 0:
            operands = [v for v in operands if v.type.shape[op.axis] != 0]
        if len(operands) == len(node.inputs) and not absorbed:
            return False
        replace(graph, node, op, *operands, absorbed=absorbed)
        return True

    def _gather(self, graph: Graph, node: Node, op: Gather, source: Node | None) -> bool:
        x, indices = node.operand(0), node.operand(1)
        if source is not None and node.output.type.capacity <= x.type.capacity and _is_widening(source):
            rows = graph.add(op, source.operand(0), indices, before=node, loc=node.loc, name=node.output.name)
            replace(graph, node, source.op, rows, absorbed=[source])
            return True
        if indices.constant is None or indices.constant.size == 0:
            return False
        positions = resolved(indices.constant, int(x.type.shape[op.axis])).reshape(-1)
        steps = np.unique(np.diff(positions))
        if len(steps) > 1 or (len(steps) == 1 and steps[0] == 0):
            return self.decline(node, "the constant indices are not evenly spaced")
        starts, sizes, strides = [0] * x.type.rank, list(x.type.shape), [1] * x.type.rank
        starts[op.axis], sizes[op.axis] = int(positions[0]), len(positions)
        strides[op.axis] = int(steps[0]) if len(steps) else 1
        part = graph.add(Slice(tuple(starts), tuple(sizes), tuple(strides)), x, before=node, loc=node.loc, name=node.output.name)
        replace(graph, node, Reshape(node.output.type.shape), part)
        return True


def _is_widening(node: Node) -> bool:
    """Whether the node does nothing but convert its operand to a larger type."""
    match node.op:
        case Elementwise(expr=Convert(arg=Arg(dtype=narrow), dtype=wide)):
            return len(node.inputs) == 1 and wide.size > narrow.size
    return False


def _transpose(graph: Graph, node: Node, op: Transpose, source: Node | None) -> bool:
    x = node.operand(0)
    if source is not None and isinstance(source.op, Transpose):
        replace(graph, node, Transpose(tuple(source.op.perm[a] for a in op.perm)), source.operand(0), absorbed=[source])
        return True
    moved = [axis for axis in op.perm if x.type.shape[axis] != 1]
    if moved == sorted(moved) and op.perm != tuple(range(len(op.perm))):
        replace(graph, node, Reshape(node.output.type.shape), x)
        return True
    return False


def _expand(graph: Graph, node: Node, op: Expand, source: Node | None) -> bool:
    x = node.operand(0)
    if source is not None and isinstance(source.op, Expand):
        replace(graph, node, op, source.operand(0), absorbed=[source])
        return True
    if x.type.count == node.output.type.count and x.type != node.output.type:
        replace(graph, node, Reshape(op.shape), x)
        return True
    return False


def _slice(graph: Graph, node: Node, op: Slice, source: Node | None) -> bool:
    x = node.operand(0)
    if source is not None and isinstance(source.op, Slice):
        inner = source.op
        starts = tuple(a + b * s if size != 0 else 0 for a, b, s, size in zip(inner.starts, op.starts, inner.steps, op.sizes, strict=True))
        steps = tuple(s * t for s, t in zip(inner.steps, op.steps, strict=True))
        replace(graph, node, Slice(starts, op.sizes, steps), source.operand(0), absorbed=[source])
        return True
    plain = Slice(tuple(start if size != 0 else 0 for start, size in zip(op.starts, op.sizes, strict=True)), op.sizes,
                  tuple(step if upper_bound(size) > 1 else 1 for step, size in zip(op.steps, op.sizes, strict=True)))
    if plain != op:
        replace(graph, node, plain, x)
        return True
    if source is None or not isinstance(source.op, Concat) or node.output.type.capacity == 0:
        return False
    axis, offset = source.op.axis, cast("Dim", 0)
    first = op.starts[axis]
    last = first + (op.sizes[axis] - 1) * op.steps[axis]
    for value in (v for v in source.inputs if v is not None):
        end = offset + value.type.shape[axis]
        if offset <= smaller(first, last) and larger(first, last) < end:
            starts = (*op.starts[:axis], first - offset, *op.starts[axis + 1:])
            replace(graph, node, Slice(starts, op.sizes, op.steps), value, absorbed=[source])
            return True
        offset = end
    return False


def _pad(graph: Graph, node: Node, op: Pad) -> bool:
    if any(b > 0 or a > 0 for b, a in zip(op.before, op.after, strict=True)) or not (any(op.before) or any(op.after)):
        return False
    dims = node.output.type.shape
    starts = tuple(-b if d != 0 else 0 for b, d in zip(op.before, dims, strict=True))
    replace(graph, node, Slice(starts, dims, (1,) * len(dims)), node.operand(0))
    return True
