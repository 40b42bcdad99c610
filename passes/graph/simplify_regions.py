"""Takes out of branches and loops what they need not be given and nobody reads.

    %c = constant [2]
    %y, %z = if(%p, %x, %c, %x, %w)     ->  %y = if(%p, %x)
      then (%a, %b, %d, %e) { ... }           then (%a) { %b = constant [2] ... }
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.op import RegionOp
from edgecc.ops.control import If, Loop
from edgecc.passes.base import NodePass
from edgecc.passes.rewrite import can_forward


@dataclass(frozen=True)
class SimplifyRegions(NodePass):
    """Fewer captures, results and states of nodes with regions.

    1. A captured constant is a constant of each region; a value that is captured twice is captured once; a capture that
       no region reads is dropped.
    2. A result of a branch, or a collected one of a loop, that nobody reads is dropped, unless it is the only result.
    3. A state that the body returns as it got it is a capture, and its result is the initial value.
    4. A state that nobody reads, the body included, is dropped.

    Declines when: the graph would return an input or a constant, or one value twice, in the place of a state.
    """

    name: ClassVar[str] = "simplify-regions"
    tolerance: ClassVar[float] = 0.0  # the same is computed

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Simplifies one node, as far as it goes: each step leaves fewer operands or results."""
        simplified = self._step(graph, node)
        changed = simplified is not None
        while simplified is not None:
            simplified = self._step(graph, simplified)
        return changed

    def _step(self, graph: Graph, node: Node) -> Node | None:
        """The node that takes the place of `node`; None where it stays."""
        if not isinstance(node.op, If | Loop) or not node.regions:
            return None
        return (self._keep_states(graph, node, node.op) if isinstance(node.op, Loop) else None) or self._simplify(graph, node, node.op)

    def _keep_states(self, graph: Graph, node: Node, op: Loop) -> Node | None:
        """Case 3: the first state that stays as it is becomes a capture."""
        (body,) = node.regions
        for state in range(op.states):
            inner, initial, result = body.inputs[1 + state], node.operand(2 + state), node.outputs[state]
            if body.outputs[1 + state] is not inner or len(node.outputs) == 1:
                continue
            reason = can_forward(graph, result, initial)
            if reason is not None:
                self.decline(node, reason)
                continue
            graph.replace_all_uses(result, initial)
            _move_to_end(body, 1 + state)
            _drop_output(body, 1 + state)
            operands = [*_without(node.inputs, [2 + state]), initial]
            return _replaced(graph, node, replace(op, states=op.states - 1), operands, [state])
        return None

    def _simplify(self, graph: Graph, node: Node, op: If | Loop) -> Node | None:
        """The other cases."""
        dead_states = _dead_states(graph, node, op) if isinstance(op, Loop) else []
        dead = [*dead_states, *_dead_results(graph, node, op, len(dead_states))]
        first = 1 if isinstance(op, If) else op.first_capture
        dropped = _unread_captures(node, first)
        if not dead and not dropped:
            return None
        shift = 0 if isinstance(op, If) else 1
        for region in node.regions:
            for index in sorted((i + shift for i in dead), reverse=True):
                _drop_output(region, index)
            region.erase_dead(reversed(region.nodes))
            for index in sorted((*(1 + i for i in dead_states), *(i - 1 for i in dropped)), reverse=True):
                _drop_input(region, index)
        operands = _without(node.inputs, [*(2 + i for i in dead_states), *dropped])
        if isinstance(op, Loop):
            stacked = tuple(back for i, back in enumerate(op.stacked) if op.states + i not in dead)
            has_rows = bool(op.scanned or stacked)
            op = replace(op, states=op.states - len(dead_states), stacked=stacked, rows=op.rows if has_rows else 0,
                         padded=op.padded and has_rows)
        return _replaced(graph, node, op, operands, dead)


def _unread_captures(node: Node, first: int) -> list[int]:
    """Numbers of the operands, from `first` on, that need not be captured; the regions read something else by then.

    Operand i of a branch or loop is input i - 1 of its regions.
    """
    known: dict[Value, int] = {}
    for index in range(first, len(node.inputs)):
        value = node.operand(index)
        other = known.setdefault(value, index)
        for region in node.regions:
            inner = region.inputs[index - 1]
            if value.constant is not None and _is_read(region, inner):
                region.replace_all_uses(inner, region.own_constant(value))
            elif other != index:
                region.replace_all_uses(inner, region.inputs[other - 1])
    return [index for index in range(first, len(node.inputs))
            if not any(_is_read(region, region.inputs[index - 1]) for region in node.regions)]


def _dead_states(graph: Graph, node: Node, op: Loop) -> list[int]:
    """States that neither the graph nor the body reads; one result is left."""
    (body,) = node.regions
    dead = [i for i in range(op.states) if not _is_read(graph, node.outputs[i])
            and not (body.inputs[1 + i].uses or body.is_output(body.inputs[1 + i]))]
    return dead if len(dead) < len(node.outputs) else dead[1:]


def _dead_results(graph: Graph, node: Node, op: RegionOp, gone: int) -> list[int]:
    """Results, but for states, that nobody reads; one result is left."""
    first = op.states if isinstance(op, Loop) else 0
    dead = [i for i in range(first, len(node.outputs)) if not _is_read(graph, node.outputs[i])]
    return dead if len(dead) + gone < len(node.outputs) else dead[1:]


def _is_read(graph: Graph, value: Value) -> bool:
    return bool(value.uses) or graph.is_output(value)


def _without(values: Sequence[Value | None], dropped: Iterable[int]) -> list[Value | None]:
    gone = set(dropped)
    return [value for index, value in enumerate(values) if index not in gone]


def _drop_input(region: Graph, index: int) -> None:
    del region.inputs[index], region.input_names[index]


def _drop_output(region: Graph, index: int) -> None:
    region.set_outputs([v for i, v in enumerate(region.outputs) if i != index],
                       [n for i, n in enumerate(region.output_names) if i != index])


def _move_to_end(region: Graph, index: int) -> None:
    region.inputs.append(region.inputs.pop(index))
    region.input_names.append(region.input_names.pop(index))


def _replaced(graph: Graph, node: Node, op: RegionOp, operands: Sequence[Value | None], dropped: Sequence[int]) -> Node:
    """Puts a node with the same regions in the place of `node`; results `dropped`, which nobody reads, are missing in it."""
    kept = [value for index, value in enumerate(node.outputs) if index not in dropped]
    regions, node.regions = node.regions, ()
    new = graph.add_node(op, operands, before=node, loc=node.loc, names=[value.name for value in kept], regions=regions)
    for old, value in zip(kept, new.outputs, strict=True):
        graph.replace_all_uses(old, value)
    graph.erase(node)
    return new
