"""Turns a scatter to known positions that form a box into a concatenation.

    %y = scatter_nd(%x, constant positions of rows 2..5, %u)
    ->  %y = concat(%x[0:2], %u, %x[6:])

Exporters write the assignment of a slice that way, one index for each element. As a concatenation it
is a few copied runs, and it goes away altogether where assignments fill a tensor part by part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.graph import Graph, Node
from edgecc.ir.types import Array
from edgecc.ops.indexing import ScatterND, resolved
from edgecc.ops.movement import Concat, Reshape, Slice
from edgecc.passes.base import NodePass
from edgecc.passes.rewrite import replace


@dataclass(frozen=True)
class ReplaceScatter(NodePass):
    """%y = scatter_nd(%x, %i, %u)  ->  %y = concat(slice(%x), reshape(%u), slice(%x))

    Where the box covers x, only the reshaped updates are left.

    Declines when:
    1. The updates are combined with what is there.
    2. The positions are not constant, or there are none.
    3. The positions are not all those of a box, each once, in row-major order.
    4. The box covers only a part of several axes.
    """

    name: ClassVar[str] = "replace-scatter"
    tolerance: ClassVar[float] = 0.0  # nothing is computed
    place: ClassVar[str] = "before fold-transpose"

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one node."""
        if not isinstance(node.op, ScatterND):
            return False
        if node.op.reduction != "none":
            return self.decline(node, "the updates are combined with what is there")
        x, indices, updates = (node.operand(k) for k in range(3))
        if indices.constant is None or indices.constant.size == 0:
            return self.decline(node, "the positions are not constant")
        box = _box(indices.constant, x.type.dims)
        if box is None:
            return self.decline(node, "the positions are not those of a box in row-major order")
        starts, sizes = box
        partial = [axis for axis, (size, dim) in enumerate(zip(sizes, x.type.dims, strict=True)) if size != dim]
        if len(partial) > 1:
            return self.decline(node, "the box covers only a part of several axes")
        if not partial:
            replace(graph, node, Reshape(sizes), updates)
            return True
        (axis,) = partial
        parts = []
        for first, last in ((0, starts[axis]), (starts[axis] + sizes[axis], x.type.dims[axis])):
            part = Slice(tuple(first if a == axis else 0 for a in range(x.type.rank)),
                         tuple(last - first if a == axis else d for a, d in enumerate(x.type.dims)), (1,) * x.type.rank)
            parts += [graph.add(part, x, before=node, loc=node.loc)] if last > first else []
        middle = graph.add(Reshape(sizes), updates, before=node, loc=node.loc)
        parts.insert(1 if starts[axis] else 0, middle)
        replace(graph, node, Concat(axis), *parts)
        return True


def _box(indices: Array, dims: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """First position and size, along each axis, of the box that rows of indices enumerate in row-major order."""
    depth = indices.shape[-1]
    rows = np.stack([resolved(indices.reshape(-1, depth)[:, a], dims[a]) for a in range(depth)], axis=1)
    starts, sizes = rows.min(axis=0), rows.max(axis=0) - rows.min(axis=0) + 1
    if np.prod(sizes) != len(rows):
        return None
    grid = np.stack([axis.reshape(-1) for axis in np.indices(tuple(sizes))], axis=1) + starts
    if not np.array_equal(grid, rows):
        return None
    inside = (0,) * (len(dims) - depth)
    return (*(int(s) for s in starts), *inside), (*(int(s) for s in sizes), *dims[depth:])
