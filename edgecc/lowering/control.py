"""From regions that are lowered to the items of a module that run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph
from edgecc.ir.op import Op
from edgecc.ir.types import Array
from edgecc.loop.module import ArenaBytes, Argument, Branch, Copy, Item, Repeat
from edgecc.lowering.report import CallReport
from edgecc.memory.lifetime import Needs
from edgecc.memory.placement import Step
from edgecc.memory.plan import MemoryPlan
from edgecc.memory.regions import Binding, LoopScratch, loop_scratch, row, shifted
from edgecc.ops.control import If, Loop


@dataclass(frozen=True)
class LoweredRegion:
    """A graph as items of a module.

    Attributes:
        graph: the graph.
        plan: its memory.
        items: what runs; addresses are the graph's own inputs, outputs and arena, until a node binds them.
        reports: of each call, in order.
        in_place: numbers of the states of a loop that the items change in place.
        inner: titles and plans of the regions of its nodes, and of theirs.
    """

    graph: Graph
    plan: MemoryPlan
    items: tuple[Item, ...]
    reports: tuple[CallReport, ...]
    in_place: Mapping[int, None]
    inner: tuple[tuple[str, MemoryPlan], ...] = ()

    @property
    def cycles(self) -> float:
        """Modelled cycles of all calls, each made once."""
        return sum(report.kernel.cycles for report in self.reports)


def control_needs(op: Op, regions: Sequence[LoweredRegion]) -> Needs:
    """What a node adds to its operands and results: scratch memory for its regions; states may overwrite initial ones."""
    if not regions:
        return Needs()
    if isinstance(op, Loop):
        return Needs(tuple((state, 2 + state) for state in range(op.states)), (_scratch(op, regions).size_bytes,))
    return Needs((), (max(region.plan.arena_bytes for region in regions),))


def _scratch(op: Loop, regions: Sequence[LoweredRegion]) -> LoopScratch:
    (body,) = regions
    return loop_scratch(body.plan.arena_bytes, [v.type for v in body.graph.outputs[1:1 + op.states]], body.in_place)


def control_item(step: Step, regions: Sequence[LoweredRegion], operand: Callable[[int], Argument], results: Sequence[Argument],
                 scratch: ArenaBytes, depth: int) -> Item:
    """The item that runs regions.

    Args:
        step: the node's step.
        operand: the address of an operand by its number; that of a constant is stored when it is asked for.
        results: their addresses.
        scratch: the memory that `control_needs` asked for.
        depth: in how many loops the node lies.
    """
    if isinstance(step.op, If):
        captures = tuple(operand(index) for index in range(1, len(step.inputs)))
        then, otherwise = (Binding(captures, tuple(results), scratch).items(region.items) for region in regions)
        return Branch(operand(0), then, otherwise, step.loc)
    if isinstance(step.op, Loop):
        return _repeat(step.op, step, regions, operand, results, scratch, depth)
    raise EdgeccError("E900", f"{step.op.name} has regions and is no control flow")


def _repeat(op: Loop, step: Step, regions: Sequence[LoweredRegion], operand: Callable[[int], Argument],
            results: Sequence[Argument], scratch: ArenaBytes, depth: int) -> Repeat:
    (body,) = regions
    parts = _scratch(op, regions)
    counter, again = shifted(scratch, parts.counter), shifted(scratch, parts.again)
    given, returned = body.graph.inputs, body.graph.outputs
    state_bytes = [v.type.largest.size_bytes for v in returned[1:1 + op.states]]
    row_bytes = [v.type.largest.size_bytes for v in returned[1 + op.states:]]
    states = results[:op.states]
    after = {state: shifted(scratch, offset) for state, offset in parts.states.items()}
    initial = [operand(2 + state) for state in range(op.states)]
    scanned = [row(operand(2 + op.states + i), depth, given[1 + op.states + i].type.largest.size_bytes, op.rows, backwards=back)
               for i, back in enumerate(op.scanned)]
    captures = [operand(index) for index in range(op.first_capture, len(step.inputs))]
    stacked = [row(result, depth, size, op.rows, backwards=back)
               for result, size, back in zip(results[op.states:], row_bytes, op.stacked, strict=True)]
    binding = Binding((counter, *states, *scanned, *captures),
                      (again, *(after.get(number, state) for number, state in enumerate(states)), *stacked), scratch)
    trips, condition, goes_on = _known(step, 0), _known(step, 1), returned[0].constant
    return Repeat(
        depth=depth,
        trips=operand(0) if trips is None else int(trips.reshape(-1)[0]),
        condition=operand(1) if condition is None else bool(condition.reshape(-1)[0]),
        counter=counter if given[0].uses or body.graph.is_output(given[0]) else None,
        before=tuple(Copy(source, state, size) for source, state, size in zip(initial, states, state_bytes, strict=True)
                     if source != state and size),
        body=binding.items(body.items),
        again=again if goes_on is None else bool(goes_on.reshape(-1)[0]),
        after=tuple(Copy(source, states[number], state_bytes[number]) for number, source in after.items() if state_bytes[number]),
        limit=op.rows if op.has_rows else op.limit,
        rows=op.rows if op.has_rows else None,
        padded=op.padded,
        zeros=tuple(zip(results[op.states:], row_bytes, strict=True)) if op.padded else (),
        loc=step.loc)


def _known(step: Step, index: int) -> Array | None:
    """The data of an operand that is constant."""
    value = step.constants[index]
    return None if value is None else value.constant
