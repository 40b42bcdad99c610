"""Removes what computes nothing new.

    %y = relu(%x)   (not used)                     ->
    %y = transpose(%x) {perm=(0,1,2)}              ->  %x
    %a = relu(%x); %b = relu(%x)                   ->  %a = relu(%x), read in both places
    %c = constant [1]; %d = constant [1]           ->  %c, read in both places
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgecc.ir.equal import attribute_key
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Arg
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose
from edgecc.passes.base import GraphPass
from edgecc.passes.rewrite import can_forward, forward


@dataclass(frozen=True)
class Eliminate(GraphPass):
    """Erases dead nodes, forwards identities, merges equal nodes and equal constants.

    1. A node none of whose results is read or returned is erased, and so is what only it kept alive.
    2. Elementwise of its operand alone, Transpose in order, Reshape, Expand, Slice and Pad to the same shape
       and Concat of one operand are their operand.
    3. Nodes with equal operators and operands become one, the first; constants of equal type and bits too.

    Declines when:
    4. The result would lie in another layout: it is there to change the layout.
    5. The graph would return an input, a constant, or one value twice: the copy has to be made anyway.
    """

    name: ClassVar[str] = "eliminate"
    tolerance: ClassVar[float] = 0.0  # nothing is computed differently

    def run(self, graph: Graph) -> bool:
        """See the class."""
        changed = _erase_dead(graph)
        for node in graph.nodes:
            if node in graph:
                changed |= self._forward_identity(graph, node)
        changed |= self._merge(graph)
        return changed

    def _forward_identity(self, graph: Graph, node: Node) -> bool:
        source = identity_source(node)
        if source is None:
            return False
        reason = can_forward(graph, node.output, source)
        if reason is not None:
            return self.decline(node, reason)
        forward(graph, node, source)
        return True

    def _merge(self, graph: Graph) -> bool:
        changed = False
        constants: dict[bytes, Value] = {}
        nodes: dict[tuple[object, ...], Node] = {}
        for node in graph.nodes:
            for index, value in enumerate(node.inputs):
                if value is not None and value.constant is not None:
                    first = constants.setdefault(value.digest, value)
                    if first is not value:
                        graph.set_operand(node, index, first)
                        changed = True
            if node.regions:
                continue
            key = (attribute_key(node.op), *(None if v is None else id(v) for v in node.inputs))
            first_node = nodes.setdefault(key, node)
            if first_node is not node:
                changed |= self._merge_nodes(graph, first_node, node)
        return changed

    def _merge_nodes(self, graph: Graph, first: Node, node: Node) -> bool:
        for kept, dropped in zip(first.outputs, node.outputs, strict=True):
            reason = can_forward(graph, dropped, kept)
            if reason is not None:
                return self.decline(node, f"equal to an earlier node, but {reason}")
        for kept, dropped in zip(first.outputs, node.outputs, strict=True):
            graph.replace_all_uses(dropped, kept)
        first.loc = tuple(dict.fromkeys((*first.loc, *node.loc)))
        graph.erase(node)
        return True


def _erase_dead(graph: Graph) -> bool:
    before = len(graph)
    graph.erase_dead(reversed(graph.nodes))
    return len(graph) != before


def identity_source(node: Node) -> Value | None:
    """The operand a node hands on unchanged, or None where it does something."""
    if len(node.outputs) != 1:
        return None
    result = node.output.type
    match node.op:
        case Elementwise(expr=Arg(index=index)):
            source = node.operand(index)
        case Transpose(perm=perm) if perm == tuple(range(len(perm))):
            source = node.operand(0)
        case Reshape() | Expand():
            source = node.operand(0)
        case Slice(starts=starts, steps=steps):
            source = node.operand(0)
            if any(start != 0 for start in starts) or any(step != 1 for step in steps):
                return None
        case Pad(before=before, after=after):
            source = node.operand(0)
            if any(before) or any(after):
                return None
        case Concat() if len(node.inputs) == 1:
            source = node.operand(0)
        case _:
            return None
    return source if source.type == result else None
