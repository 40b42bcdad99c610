"""Computes at compile time what depends on constants alone.

    %c = constant [1, 2]; %y = exp(%c)   ->   %y = constant [2.7182817, 7.389056]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgecc.ir.graph import Graph, Node
from edgecc.ir.types import TensorType
from edgecc.passes.base import NodePass
from edgecc.passes.rewrite import bytes_of


@dataclass(frozen=True)
class FoldConstants(NodePass):
    """Replaces a node all of whose operands are constant by its results, computed by the operator's reference.

    Options: limit_bytes, results up to this size are always folded.

    Declines when:
    1. The results are larger than limit_bytes and than twice the operands: the weights would grow by data that
       is quickly made at run time (an expanded scalar). Twice, because f16 weights widened to f32 are wanted.
    2. A result is returned by the graph: something has to write it there.
    """

    name: ClassVar[str] = "fold-constants"
    # The same reference computes the same numbers, but each is rounded once to be stored; measured
    # maximum 0.47 over 1,500 random graphs.
    tolerance: ClassVar[float] = 2.0

    limit_bytes: int = 1 << 20

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Folds one node."""
        if node.regions:
            return False
        arrays = [None if value is None else value.constant for value in node.inputs]
        if any(value is not None and value.constant is None for value in node.inputs):
            return False
        if any(graph.is_output(value) for value in node.outputs):
            return self.decline(node, "the graph returns the result")
        size, operands = bytes_of(node.outputs), bytes_of(node.inputs)
        if size > max(self.limit_bytes, 2 * operands):
            return self.decline(node, f"the result has {size} bytes, the operands {operands}")
        results = node.op.reference(arrays)
        if any(TensorType.of(result) != value.type for result, value in zip(results, node.outputs, strict=True)):
            return self.decline(node, "the reference gives another type than the shape rule")
        for value, result in zip(node.outputs, results, strict=True):
            graph.replace_all_uses(value, graph.constant(result, value.name))
        graph.erase_dead([node])
        return True
