"""Orders the nodes so that few bytes are alive at the same time.

    %a = wide(%x)                  %a = wide(%x)
    %b = wide(%x)            ->    %c = narrow(%a)
    %c = narrow(%a)                %b = wide(%x)
    %d = narrow(%b)                %d = narrow(%b)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import networkx as nx

from edgecc.ir.graph import Graph, Node
from edgecc.memory.lifetime import Needs
from edgecc.memory.placement import Placement, Step, place_values
from edgecc.memory.plan import plan_memory
from edgecc.ops.convolution import Conv, ConvTranspose
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.ops.reduction import Normalize, Softmax
from edgecc.passes.base import GraphPass


@dataclass(frozen=True)
class PlanMemory(GraphPass):
    """Reorders nodes; the plan with the smallest arena wins (edgecc/memory/plan.py).

    Views, concatenations without copies and results that overwrite an operand are taken into account as
    lowering decides them later; which results can do so is estimated here, since kernels are not chosen yet.
    Scratch memory of kernels is not known either. Lowering plans once more, with kernels.

    Declines when: the present order is as good as any that was found.
    """

    name: ClassVar[str] = "plan-memory"
    tolerance: ClassVar[float] = 0.0  # the order has no meaning
    place: ClassVar[str] = "after assign-layout"

    def run(self, graph: Graph) -> bool:
        """See the class."""
        placement = place_values(graph)
        plan = plan_memory(placement, [_estimate(step) for step in placement.steps])
        if plan.order_name == "given":
            return False
        before = graph.nodes
        graph.reorder(_node_order(graph, placement, plan.live.order))
        return graph.nodes != before


def _estimate(step: Step) -> Needs:
    """Which operands the result may overwrite: those of elementwise work, whole or at the end of a kernel."""
    first = {Elementwise: 0, Softmax: 0, Normalize: 0, Conv: 3, ConvTranspose: 3, MatMul: 3}.get(type(step.op))
    return Needs() if first is None else Needs(tuple((0, i) for i in range(first, len(step.inputs))))


def _node_order(graph: Graph, placement: Placement, order: tuple[int, ...]) -> list[Node]:
    """Nodes in the order of their last steps. Those without a step, being views, follow what they are views of."""
    nodes = graph.nodes
    rank: dict[Node, tuple[int, int]] = {}
    last = {placement.steps[number].node: position for position, number in enumerate(order)}
    digraph = graph.to_networkx()
    for index, node in enumerate(nodes):
        rank[node] = (max([last.get(index, -1), *(rank[before][0] for before in digraph.predecessors(node))]), index)
    return list(nx.lexicographical_topological_sort(digraph, key=rank.__getitem__))
