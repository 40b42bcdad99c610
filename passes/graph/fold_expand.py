"""Lets a matrix product repeat an operand itself instead of reading copies, as attention with grouped heads does.

    %e = expand(%k: [1,4,1,9,8]) {shape=(1,4,2,9,8)}; %r = reshape(%e) {shape=(1,8,9,8)}
    %y = matmul(%q: [1,8,3,8], %r) {transpose_b=true} : [1,8,3,9]
        ->  %q' = reshape(%q) {shape=(1,4,2,3,8)}
            %p = matmul(%q', %k) {transpose_b=true} : [1,4,2,3,9]; %y = reshape(%p) {shape=(1,8,3,9)}
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.dims import Dim, Shape, numbers
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Expand, Reshape
from edgecc.passes.base import NodePass
from edgecc.passes.rewrite import broadcast_shape, replace, sole_user

Dims = Shape


@dataclass(frozen=True)
class FoldExpand(NodePass):
    """Splits the batch axes of a MatMul as they were before an operand was repeated and reshaped; batch axes broadcast.

    The other operands, bias and epilogue operands included, are split alike; those reshapes are views.

    Declines when:
    1. The repeated operand, or its reshape, has another reader or is returned: the copies are made anyway.
    2. Rows or columns are repeated, not whole matrices.
    3. The reshape does more than join batch axes.
    4. The other operand is broadcast where this one is repeated: then the repetition makes the result larger.
    """

    name: ClassVar[str] = "fold-expand"
    tolerance: ClassVar[float] = 0.0  # the same products

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one matrix product."""
        if not isinstance(node.op, MatMul):
            return False
        for index in (0, 1):
            reshape = node.operand(index).producer
            expand = reshape.operand(0).producer if reshape is not None and isinstance(reshape.op, Reshape) else None
            if reshape is not None and expand is not None and isinstance(expand.op, Expand):
                return self._fold(graph, node, index, reshape, expand)
        return False

    def _fold(self, graph: Graph, node: Node, index: int, reshape: Node, expand: Node) -> bool:
        source, repeated, joined = expand.operand(0), expand.output.type.shape, reshape.output.type.shape
        if sole_user(graph, reshape.output) is not node or sole_user(graph, expand.output) is not reshape:
            return self.decline(node, "the repeated operand has another reader or is returned")
        if source.type.rank < 2 or source.type.shape[-2:] != repeated[-2:]:
            return self.decline(node, "rows or columns are repeated, not whole matrices")
        groups = _groups(repeated[:-2], joined[:-2]) if repeated[-2:] == joined[-2:] else None
        result = node.output.type.shape
        if groups is None or len(joined) != len(result) or joined[:-2] != result[:-2]:
            return self.decline(node, "the reshape does more than join batch axes")
        other = _split_dims(node.operand(1 - index).type.shape, joined, groups)
        if broadcast_shape([source.type.shape[:-2], other[:-2]]) != repeated[:-2]:
            return self.decline(node, "the other operand is broadcast where this one is repeated")
        operands = [source if i == index else None if v is None else _split(graph, node, v, joined, groups)
                    for i, v in enumerate(node.inputs)]
        loc = (*expand.loc, *reshape.loc, *node.loc)
        product = graph.add(node.op, *operands, before=node, loc=loc, name=node.output.name)
        replace(graph, node, Reshape(result), product, absorbed=[expand, reshape])
        return True


def _groups(split: Dims, joined: Dims) -> list[Dims] | None:
    """For each axis of `joined`, the sizes of the axes of `split` it consists of; None if it is another reshape."""
    groups: list[Dims] = []
    position = 0
    for size in joined:
        start = position
        while position < len(split) and (position == start or math.prod(split[start:position]) < size):
            position += 1
        if position == start or math.prod(split[start:position]) != size:
            return None
        groups.append(split[start:position])
    if position < len(split) or not joined:
        return None
    return groups


def _split_dims(dims: Dims, joined: Dims, groups: Sequence[Dims]) -> Dims:
    """`dims` with the batch axes split as `groups` says; an axis of size 1 becomes that many of size 1."""
    offset = len(joined) - len(dims)
    out: list[Dim] = []
    for axis, size in enumerate(dims[:-2], start=offset):
        out += groups[axis] if size == joined[axis] else [1] * len(groups[axis])
    return (*out, *dims[-2:])


def _split(graph: Graph, node: Node, value: Value, joined: Dims, groups: Sequence[Dims]) -> Value:
    """The value with its batch axes split; one without batch axes is left as it is."""
    if value.type.rank <= 2:
        return value
    shape = _split_dims(value.type.shape, joined, groups)
    if value.constant is not None:
        return graph.constant(np.reshape(value.constant, numbers(shape)), value.name)
    return graph.add(Reshape(shape), value, before=node, loc=node.loc, name=value.name)
