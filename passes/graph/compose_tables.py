"""Turns chains of functions of one byte into one table of 256 bytes.

    %t = gather(table, %q); %y = elementwise(%q, %t) {expr=`saturate(round(f32((%q - a) * (%t - b)) * s) + z)`}
        ->  %y = gather(table', %q)
    %a = elementwise(%q); %b = elementwise(%a); ...
        ->  %b = gather(table', %q)

A quantized activation that its model spells out (x * sigmoid(x), the five operators of GELU) rounds at each step, so it stays
several functions on integers. All of them together have 256 results, which are computed when compiling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Apply, ScalarExpr, children
from edgecc.ir.types import Array
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather
from edgecc.passes.base import GraphPass
from edgecc.passes.requantization import EIGHT_BITS, EXACTLY_ROUNDED
from edgecc.passes.rewrite import replace, uniform_element

MAX_NODES = 16
"""Nodes that are looked at behind one result."""


@dataclass(frozen=True)
class ComposeTables(GraphPass):
    """Looks a result of 8 bits up that depends on one value of 8 bits and of its shape alone, by more than one node.

    Nodes are elementwise operators and gathers of a table by bytes. Values on the way that others read as well stay.

    Declines when:
    1. The result depends on several values, or on one of more bits: on the way there is another operator, a function that machines
       approximate differently, a constant of several elements, or a value of another shape.
    2. It is a chain of elementwise operators each of which has one reader: those become one kernel, or a part of one, by themselves.
    """

    name: ClassVar[str] = "compose-tables"
    tolerance: ClassVar[float] = 0.0  # the same functions, evaluated when compiling

    def run(self, graph: Graph) -> bool:
        """One sweep: what stands behind a table that was made is composed with it."""
        order = dict.fromkeys(graph.inputs, 0)
        changed = False
        for number, node in enumerate(graph.nodes, 1):
            result = node.outputs[0]
            operands = _operands(node) if _is_byte(result) else None
            found = None if operands is None else _chain(node, operands, order)
            if isinstance(found, str):
                self.decline(node, found)
            elif found is not None:
                source, chain = found
                table = graph.constant(_table(source, chain), "table")
                result = replace(graph, node, Gather(0), table, source, absorbed=[one for one in chain if one is not node])
                changed = True
            order.update(dict.fromkeys(node.outputs, number))
            order[result] = number
        return changed


def _chain(node: Node, operands: tuple[Value, ...], order: Mapping[Value, int]) -> tuple[Value, tuple[Node, ...]] | str:
    """The nearest value of 8 bits that alone decides a result, by two nodes or more, and these in order; or why there is none."""
    chain, pending = [node], dict.fromkeys(operands)
    while len(chain) < MAX_NODES:
        last = max(pending, key=lambda value: order.get(value, 0))
        if len(pending) == 1 and len(chain) > 1 and _is_byte(last):
            alone = all(len(value.uses) == 1 for value in (last, *(one.output for one in chain[1:])))
            if alone and all(isinstance(one.op, Elementwise) for one in chain):
                return "elementwise operators in a row become one by themselves"
            return last, tuple(reversed(chain))
        producer = last.producer
        further = None if producer is None else _operands(producer)
        if producer is None or further is None:
            return f"it depends on {len(pending)} values" if len(pending) > 1 else "nothing in front of it belongs to a table"
        del pending[last]
        chain.append(producer)
        pending.update(dict.fromkeys(further))
    return f"it depends on more than {MAX_NODES} nodes"


def _is_byte(value: Value) -> bool:
    return value.type.dtype in EIGHT_BITS


def _operands(node: Node) -> tuple[Value, ...] | None:
    """The operands a node's elements depend on, each once, all of the result's shape; None where it cannot be part of a table."""
    match node.op:
        case Gather() if node.operand(0).constant is not None and node.operand(0).type.shape == (256,) and _is_byte(node.operand(1)):
            return (node.operand(1),)
        case Elementwise(expr=expr) if _is_exact(expr):
            given = [value for value in node.inputs if value is not None and uniform_element(value) is None]
            same = all(value.constant is None and value.type.shape == node.output.type.shape for value in given)
            return tuple(dict.fromkeys(given)) if same and given else None
    return None


def _is_exact(expr: ScalarExpr) -> bool:
    """Whether every machine computes an expression alike."""
    return not (isinstance(expr, Apply) and expr.op not in EXACTLY_ROUNDED) and all(map(_is_exact, children(expr)))


def _table(source: Value, chain: tuple[Node, ...]) -> Array:
    """The last result for each byte, in the order of indices that count from the end where they are negative."""
    known: dict[Value, Array] = {source: np.arange(256).astype(np.uint8).view(source.type.dtype.numpy)}
    for node in chain:
        if isinstance(node.op, Gather):
            operands = [node.operand(0).constant, known[node.operand(1)]]
        else:
            operands = [None if value is None else known[value] if value in known else _single(value) for value in node.inputs]
        (known[node.output],) = node.op.reference(operands)
    return np.ascontiguousarray(known[chain[-1].output])


def _single(value: Value) -> Array:
    """A constant whose elements are equal, as one."""
    return np.asarray(uniform_element(value), value.type.dtype.numpy)
