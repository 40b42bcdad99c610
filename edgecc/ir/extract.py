"""Parts of a graph as graphs of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.names import UniqueNames


def extract(nodes: Iterable[Node], outputs: Sequence[Value], name: str = "part") -> tuple[Graph, tuple[Value, ...]]:
    """A copy of some nodes of a graph as a graph of its own, and the values of the first graph that its inputs stand for.

    Its inputs are the values that the nodes read and do not compute, in order of first use; constants are shared, regions
    copied, layouts kept.

    Args:
        nodes: in a topological order.
        outputs: results of the nodes, each once, which the part returns.
    """
    chosen = tuple(nodes)
    part, copies, names = Graph(name), dict[Value, Value](), UniqueNames()
    inside = {result for node in chosen for result in node.outputs}
    read = dict.fromkeys(value for node in chosen for value in node.inputs if value is not None and value not in inside)
    for value in read:
        if value.constant is not None:
            copies[value] = part.own_constant(value)
        else:
            copies[value] = part.add_input(value.type, names.fresh(value.name))
            copies[value].layout = value.layout
    for node in chosen:
        copy = part.add_node(node.op, [None if v is None else copies[v] for v in node.inputs], loc=node.loc,
                             names=[v.name for v in node.outputs], regions=[region.copy() for region in node.regions])
        for own, new in zip(node.outputs, copy.outputs, strict=True):
            copies[own], new.layout = new, own.layout
    part.set_outputs([copies[value] for value in outputs], [names.fresh(value.name) for value in outputs])
    return part, tuple(value for value in read if value.constant is None)
