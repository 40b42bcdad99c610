"""Computes at compile time what depends on constants alone.

    %c = constant [1, 2]; %y = exp(%c)   ->   %y = constant [2.7182817, 7.389056]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgecc.ir.graph import Graph, Node
from edgecc.ir.instance import is_open
from edgecc.ir.strings import text_bytes
from edgecc.ir.text import format_node
from edgecc.ir.types import DType, TensorType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.requantize import as_dequantized
from edgecc.ops.work import reference_work
from edgecc.passes.base import GraphPass, failure
from edgecc.passes.rewrite import bytes_of

GROWTH = 8
"""All results together that are not small may have so many times the bytes of the constants they are computed from (beside `spare_bytes`)."""
WORK_PER_BYTE = 64
"""Scalar operations for each byte of those constants (beside `spare_work`)."""

TEXT_WORK = 16
"""Operations for each byte of a text: it is copied, measured, and escaped again and again until it stands in C."""


@dataclass
class _Budget:
    """What is left to spend: bytes of results that are not small, and scalar operations."""

    size: int
    work: int


@dataclass(frozen=True)
class FoldConstants(GraphPass):
    """Replaces a node all of whose operands are constant by its results, computed by the operator's reference.

    Options: limit_bytes, results up to this size are always folded; spare_bytes and spare_work, what folding may take in a
    graph with few constants; keep_dequantized, leave constants in the integers that the model has, for formats that store those.

    Declines when:
    1. The results are larger than limit_bytes and than twice the operands: the weights would grow by data that
       is quickly made at run time (an expanded scalar). Twice, because f16 weights widened to f32 are wanted.
    2. A result is returned by the graph: something has to write it there.
    3. The node dequantizes constants, and keep_dequantized is set; a number alone that only elementwise operators read is folded,
       since it is a part of the function that they compute.
    4. Folding has made 8 times the constants that nodes read which have no other operands, or used up its time: a few nodes can ask for
       any amount. Other constants do not count: those that an earlier run made would allow more each time.
    """

    name: ClassVar[str] = "fold-constants"
    # The same reference computes the same numbers, but each is rounded once to be stored; measured
    # maximum 0.47 over 1,500 random graphs.
    tolerance: ClassVar[float] = 2.0

    limit_bytes: int = 1 << 20
    spare_bytes: int = 1 << 26
    spare_work: int = 1 << 27
    keep_dequantized: bool = False

    def run(self, graph: Graph) -> bool:
        """Folds every node that can be, in the order of the graph: one sweep follows chains of any length."""
        held = bytes_of({value for node in graph.nodes if all(v is None or v.constant is not None for v in node.inputs)
                         for value in node.inputs if value is not None})
        budget = _Budget(GROWTH * held + self.spare_bytes, WORK_PER_BYTE * held + self.spare_work)
        changed = False
        for node in graph.nodes:
            if node in graph:
                try:
                    changed |= self._fold(graph, node, budget)
                except Exception as error:
                    raise failure(self, error, format_node(node)) from error
        return changed

    def _fold(self, graph: Graph, node: Node, budget: _Budget) -> bool:
        """Folds one node."""
        if node.regions:
            return False
        arrays = [None if value is None else value.constant for value in node.inputs]
        if any(value is not None and value.constant is None for value in node.inputs):
            return False
        if self.keep_dequantized and _states_integers(node):
            return self.decline(node, "the integers are to be kept")
        if is_open(node.op) or any(not value.type.is_static for value in node.outputs):
            return self.decline(node, "the result depends on sizes known only at run time")
        if any(graph.is_output(value) for value in node.outputs):
            return self.decline(node, "the graph returns the result")
        size, operands = bytes_of(node.outputs), bytes_of(node.inputs)
        if size > max(self.limit_bytes, 2 * operands):
            return self.decline(node, f"the result has {size} bytes, the operands {operands}")
        work = reference_work(node.op, node.input_types, [value.type for value in node.outputs])
        if any(value.type.dtype is DType.STRING for value in node.outputs):  # which are as long as they are
            texts = sum(text_bytes(array) for array in arrays if array is not None)
            size, work = size + texts, work + TEXT_WORK * texts
        large = size if size > self.limit_bytes // 16 else 0
        if large > budget.size or work > budget.work:
            return self.decline(node, "what folding may take is used up")
        budget.size -= large
        budget.work -= work
        results = node.op.reference(arrays)
        if any(TensorType.of(result) != value.type for result, value in zip(results, node.outputs, strict=True)):
            return self.decline(node, "the reference gives another type than the shape rule")
        for value, result in zip(node.outputs, results, strict=True):
            graph.replace_all_uses(value, graph.constant(result, value.name))
        graph.erase_dead([node])
        return True


def _states_integers(node: Node) -> bool:
    """Whether a node dequantizes constants that operators may want as integers."""
    if not isinstance(node.op, Elementwise) or as_dequantized(node.op.expr) is None:
        return False
    return node.output.type.elements != 1 or not all(isinstance(user.op, Elementwise) for user in node.output.users)
