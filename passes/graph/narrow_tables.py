"""Stores large tables in a shorter float type where that holds every element exactly.

    %t = constant f32[30522,384]; %y = gather(%t, %i) : f32[9,384]
        ->  %t' = constant f16[30522,384]; %g = gather(%t', %i) : f16[9,384]; %y = elementwise(%g) {expr=`f32($0:f16)`}

Embeddings of models with f16 weights come widened to f32; only the rows that are read need to be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.graph import Graph, Node
from edgecc.ir.scalar import Arg, Convert
from edgecc.ir.types import Array, DType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather
from edgecc.passes.base import NodePass
from edgecc.passes.rewrite import replace


@dataclass(frozen=True)
class NarrowTables(NodePass):
    """Gathers from an f16 or bf16 copy of a constant, and converts what was gathered.

    Options: least_bytes, smaller tables are left alone.

    Declines when:
    1. Some element is neither exact in f16 nor all are in bf16.
    2. Something else than Gather reads the table: it would be stored twice.
    3. More elements are gathered than the table has: the conversions would cost more than they save.
    """

    name: ClassVar[str] = "narrow-tables"
    tolerance: ClassVar[float] = 0.0  # every element keeps its value

    least_bytes: int = 1 << 16

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one Gather."""
        if not isinstance(node.op, Gather):
            return False
        table = node.operand(0)
        if table.constant is None or table.type.dtype is not DType.F32 or table.type.size_bytes < self.least_bytes:
            return False
        if not all(isinstance(use.node.op, Gather) and use.index == 0 for use in table.uses) or graph.is_output(table):
            return self.decline(node, "the table has another kind of reader")
        if node.output.type.capacity > table.type.elements:
            return self.decline(node, "more is gathered than the table has")
        narrow = next((n for n in (_exactly(table.constant, d) for d in (DType.F16, DType.BF16)) if n is not None), None)
        if narrow is None:
            return self.decline(node, "neither f16 nor bf16 holds every element")
        rows = graph.add(node.op, graph.constant(narrow, table.name), node.operand(1), before=node, loc=node.loc,
                         name=node.output.name)
        replace(graph, node, Elementwise(Convert(Arg(0, rows.type.dtype), DType.F32)), rows)
        return True


def _exactly(array: Array, dtype: DType) -> Array | None:
    """The array in the float type `dtype` if that changes no element."""
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = array.astype(dtype.numpy)
        same = np.array_equal(narrow.astype(array.dtype), array)
    return narrow if same else None
