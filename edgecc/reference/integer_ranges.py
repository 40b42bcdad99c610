"""Which integers the inputs of a graph make sense for: positions along an axis, codes compared with a table of constants.

Random inputs drawn from these reach every row of an embedding and every code of a one-hot table; zeros and ones would reach two, and
make networks that normalize what they read divide by what rounding left of a variance.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgecc.ir.dims import evaluate, symbols_within
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Arg, Convert
from edgecc.ir.types import DType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather, GatherElements
from edgecc.ops.movement import Concat, Expand, Reshape, Slice, Transpose

Range = tuple[int, int]
"""The least and the greatest integer."""


def integer_ranges(graph: Graph, sizes: Mapping[str, int]) -> dict[str, Range]:
    """The range of each integer input that one is known for, by name, both ends included.

    What several nodes read is what all of them can; inputs read by regions, or whose readers say nothing, have no range. `sizes` are
    those of the open dimensions, by symbol.
    """
    known: dict[int, Range] = {}
    for node in reversed(graph.nodes):
        for value, found in _operand_ranges(node, known, sizes):
            low, high = known.get(id(value), found)
            low, high = max(low, found[0]), min(high, found[1])
            if low <= high:
                known[id(value)] = low, high
    return {name: (max(known[id(value)][0], int(value.type.dtype.limits[0])), min(known[id(value)][1], int(value.type.dtype.limits[1])))
            for name, value in zip(graph.input_names, graph.inputs, strict=True) if id(value) in known and value.type.dtype.is_integer}


def _operand_ranges(node: Node, known: Mapping[int, Range], sizes: Mapping[str, int]) -> list[tuple[Value, Range]]:
    """What a node says of the integers among its operands, given what is known of its results."""
    match node.op:
        case Gather(axis=axis) | GatherElements(axis=axis):
            size = node.operand(0).type.shape[axis]
            if any(symbol.name not in sizes for symbol in symbols_within((size,))):
                return []  # which only the run decides
            extent = evaluate(size, sizes)
            return [(node.operand(1), (0, extent - 1))] if extent > 0 else []
        case Elementwise(expr=Convert(arg=Arg())) | Reshape() | Transpose() | Expand() | Slice() | Concat():
            result = known.get(id(node.outputs[0]))
            return [] if result is None else [(value, result) for value in node.inputs if value is not None]
        case Elementwise():
            if node.output.type.dtype is not DType.BOOL:
                return []
            operands = [value for value in node.inputs if value is not None and value.type.dtype.is_integer]
            tables = [value.constant for value in operands if value.constant is not None and value.constant.size > 1]
            return [(value, (int(np.min(table)), int(np.max(table)))) for table in tables for value in operands if value.constant is None]
        case _:
            return []
