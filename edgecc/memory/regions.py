"""Regions of nodes: which states a loop changes in place, its scratch memory, and the move into the parent's memory.

A region is placed, ordered and planned like a network of its own. Its addresses are offsets from its inputs, its
outputs and its arena. The node that owns it binds the inputs to what its operands are, the outputs to its
results, and gives the arena a place in its own as scratch memory. So captured values are not copied.

States of a loop lie where the loop's results lie. An iteration reads them there, and writes the next ones

 - there as well, where it has read the old state before by then (`states_in_place`),
 - into scratch memory otherwise, from which they are copied at the end of the iteration.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from edgecc.ir.types import TensorType
from edgecc.loop.module import (
    ArenaBytes,
    Argument,
    Branch,
    Call,
    Copy,
    Fixed,
    InputBytes,
    Item,
    OutputBytes,
    Repeat,
    RowBytes,
    SetSize,
    StringCall,
    Stripes,
    WeightBytes,
)
from edgecc.memory.depth_first import DepthFirst
from edgecc.memory.lifetime import Needs
from edgecc.memory.offsets import ALIGN, aligned
from edgecc.memory.placement import Placement, Step
from edgecc.memory.places import Place
from edgecc.memory.plan import MemoryPlan, plan_memory
from edgecc.memory.strides import same_memory

# -- addresses --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Binding:
    """What stands for the memory of a region: its inputs, its outputs and the start of its arena."""

    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]
    arena: Argument

    def __call__(self, argument: Argument) -> Argument:
        """An address of the region as one of the parent."""
        match argument:
            case RowBytes(base=base, steps=steps):
                moved = self(base)
                return RowBytes(moved.base, (*moved.steps, *steps)) if isinstance(moved, RowBytes) else RowBytes(moved, steps)
            case InputBytes(index=index, offset=offset):
                return shifted(self.inputs[index], offset)
            case OutputBytes(index=index, offset=offset):
                return shifted(self.outputs[index], offset)
            case ArenaBytes(offset=offset):
                return shifted(self.arena, offset)
            case WeightBytes():
                return argument

    def items(self, items: Iterable[Item]) -> tuple[Item, ...]:
        """Items of the region as items of the parent."""
        return tuple(self._item(item) for item in items)

    def _item(self, item: Item) -> Item:
        match item:
            case Call():
                return self._call(item)
            case StringCall(arguments=arguments):
                return replace(item, arguments=tuple(self(argument) for argument in arguments))
            case Stripes(calls=calls):
                return replace(item, calls=tuple(self._call(call) for call in calls))
            case SetSize():
                return replace(item, source=self(item.source))
            case Branch():
                return replace(item, condition=self(item.condition), then=self.items(item.then),
                               otherwise=self.items(item.otherwise))
            case Repeat():
                return replace(
                    item, body=self.items(item.body), before=self._copies(item.before), after=self._copies(item.after),
                    trips=item.trips if isinstance(item.trips, int) else self(item.trips),
                    condition=item.condition if isinstance(item.condition, bool) else self(item.condition),
                    again=item.again if isinstance(item.again, bool) else self(item.again),
                    counter=None if item.counter is None else self(item.counter),
                    zeros=tuple((self(argument), size) for argument, size in item.zeros))

    def _call(self, call: Call) -> Call:
        return replace(call, arguments=tuple(self(argument) for argument in call.arguments),
                       checks=tuple((self(argument), indices) for argument, indices in call.checks))

    def _copies(self, copies: Iterable[Copy]) -> tuple[Copy, ...]:
        moved = (Copy(self(c.source), self(c.target), c.size_bytes) for c in copies)
        return tuple(copy for copy in moved if copy.source != copy.target)


def shifted(argument: Argument, offset: int) -> Argument:
    """The address `offset` bytes further on."""
    if isinstance(argument, RowBytes):
        base = shifted(argument.base, offset)
        return argument if isinstance(base, RowBytes) else replace(argument, base=base)
    return replace(argument, offset=argument.offset + offset)


def alignment(argument: Argument, least: int) -> int:
    """What the address certainly is a multiple of; `least` for the caller's arrays, which C aligns to their elements."""
    match argument:
        case RowBytes(base=base, steps=steps):
            return math.gcd(alignment(base, least), *(step for _, step in steps))
        case ArenaBytes(offset=offset) | WeightBytes(offset=offset):
            return math.gcd(offset, ALIGN)
    return least


# -- loops ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoopScratch:
    """Scratch memory of a loop: offsets of its parts, and the size of all of it.

    Attributes:
        counter, again: where the number of the iteration lies, and the body's condition; the body's arena is in front.
        states: by number of the state, where the next state is put that is not changed in place.
        size_bytes: of all.
    """

    counter: int
    again: int
    states: Mapping[int, int]
    size_bytes: int


def loop_scratch(arena_bytes: int, states: Sequence[TensorType], in_place: Iterable[int]) -> LoopScratch:
    """Lays out scratch memory behind the arena of the body, each part aligned."""
    counter = aligned(arena_bytes)
    again = counter + ALIGN
    end = again + ALIGN
    offsets: dict[int, int] = {}
    kept = set(in_place)
    for number, state in enumerate(states):
        if number not in kept:
            offsets[number] = end
            end += aligned(state.largest.size_bytes)
    return LoopScratch(counter, again, offsets, end)


def plan_states(placement: Placement, needs: Sequence[Needs], choice: DepthFirst | None,
                states: Sequence[TensorType]) -> tuple[MemoryPlan, dict[int, None], frozenset[int]]:
    """Plans the memory of a loop's body, and says which states it changes in place; see `states_in_place`.

    What leads to a next state may be computed in its memory. Where that comes before the old state is read for the last
    time, it is also planned in memory of its own: fewer bytes copied are better, if they take no more memory.
    """

    def planned(own: Sequence[Needs]) -> tuple[MemoryPlan, dict[int, None], frozenset[int]]:
        plan = plan_memory(placement, own, choice)
        return plan, *states_in_place(plan, own, len(states))

    def cost(found: tuple[MemoryPlan, dict[int, None], frozenset[int]]) -> tuple[int, int]:
        copied = sum(state.largest.size_bytes for number, state in enumerate(states) if number not in found[1])
        return copied, loop_scratch(found[0].arena_bytes, states, found[1]).size_bytes

    first = planned(needs)
    if len(first[1]) == len(states) or (choice is not None and choice.blocks):
        return first
    apart = planned([replace(need, in_place=tuple(pair for pair in need.in_place if not _leads_to_state(placement, step, *pair)))
                     for step, need in zip(placement.steps, needs, strict=True)])
    return apart if cost(apart)[0] < cost(first)[0] and cost(apart)[1] <= cost(first)[1] else first


def _leads_to_state(placement: Placement, step: Step, result: int, operand: int) -> bool:
    """Whether a step would compute an output of the graph in the memory of a value that is no input."""
    source = step.inputs[operand]
    return (source is not None and placement.roots[source.root].kind == "arena"
            and placement.roots[step.outputs[result].root].kind == "output")


def states_in_place(plan: MemoryPlan, needs: Sequence[Needs], states: int) -> tuple[dict[int, None], frozenset[int]]:
    """Which states of a loop's body may lie in one place before and after the iteration.

    State k is input and output 1 + k of the body. It may if all steps that read the old one come before the
    first that writes the new one, or are that step, and its kernel may overwrite that operand.

    Returns: the numbers of these states in order; the numbers of the steps that overwrite their operand.
    """
    users = _Users(plan)
    found: dict[int, None] = {}
    overwriting: set[int] = set()
    for state in range(states):
        steps = _in_place(plan, needs, users, 1 + state)
        if steps is not None:
            found[state] = None
            overwriting |= steps
    return found, frozenset(overwriting)


class _Users:
    """The roots of each input and output of a graph, by its number, and the steps that read and write each root: turn in the run, position, number."""

    def __init__(self, plan: MemoryPlan) -> None:
        self.inputs: dict[int, set[int]] = {}
        self.outputs: dict[int, set[int]] = {}
        roots = plan.placement.roots
        for number, root in enumerate(roots):
            if root.kind == "input":
                self.inputs.setdefault(root.index, set()).add(number)
            home = roots[plan.live.homes[number][0]]
            if home.kind == "output":
                self.outputs.setdefault(home.index, set()).add(number)
        self.reads: dict[int, list[tuple[int, int, int]]] = {}
        self.writes: dict[int, list[tuple[int, int, int]]] = {}
        for turn, (position, number) in enumerate(zip(plan.live.positions, plan.live.order, strict=True)):
            step = plan.placement.steps[number]
            for users, places in ((self.reads, step.inputs), (self.writes, step.outputs)):
                for place in places:
                    if place is not None:
                        users.setdefault(place.root, []).append((turn, position, number))


def _in_place(plan: MemoryPlan, needs: Sequence[Needs], users: _Users, index: int) -> set[int] | None:
    """The steps that overwrite input `index` by output `index` (none or one), or None where they may not share memory."""
    source, target = users.inputs.get(index, set()), users.outputs.get(index, set())
    reads = [use for root in source for use in users.reads.get(root, ())]
    writes = [use for root in target for use in users.writes.get(root, ())]
    if not reads or not writes:
        return set()
    _, first, writer = min(writes)
    late = {number for _, position, number in reads if position >= first}
    if not late:
        return set()
    if late != {writer} or not _overwrites(plan, plan.placement.steps[writer], needs[writer], source, target):
        return None
    return late


def _overwrites(plan: MemoryPlan, step: Step, needs: Needs, source: set[int], target: set[int]) -> bool:
    """Whether a step may write into `target` while it reads `source`, if both are the same memory."""
    results = [(i, place) for i, place in enumerate(step.outputs) if place.root in target]
    operands = [(i, place) for i, place in enumerate(step.inputs) if place is not None and place.root in source]
    return all((result, operand) in needs.in_place and same_memory(written.view, read.view)
               and _home_offset(plan, written) == _home_offset(plan, read)
               for result, written in results for operand, read in operands)


def _home_offset(plan: MemoryPlan, place: Place) -> int:
    return plan.live.homes[place.root][1] + place.byte_offset


def row(argument: Argument, depth: int, row_bytes: int, rows: int, *, backwards: bool) -> Argument:
    """The row of an array of `rows` rows that belongs to the iteration of the loop at `depth`."""
    start = shifted(argument, (rows - 1) * row_bytes) if backwards and rows else argument
    step = (depth, -row_bytes if backwards else row_bytes)
    if isinstance(start, RowBytes):
        return RowBytes(start.base, (*start.steps, step))
    fixed: Fixed = start
    return RowBytes(fixed, (step,))
