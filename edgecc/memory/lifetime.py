"""Lifetimes: which blocks of the arena exist from which step to which, and which results replace an operand.

A kernel may declare that a result can overwrite an operand (`Kernel.in_place`). That is used where

 - the operand fills a whole piece of the arena and lies there in the same order as the result,
 - nothing reads or writes that piece at a later step, and at this step nothing but operands that may be
   overwritten as well,
 - the result replaces no other operand yet.

The operand's piece then becomes part of the result's: its steps are added to the other's lifetime.

Scratch buffers with a part for each thread (edgecc/memory/thread_scratch.py) share blocks that stay where they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from edgecc.memory.placement import Placement, Step
from edgecc.memory.places import Place
from edgecc.memory.strides import same_memory
from edgecc.memory.thread_scratch import thread_scratch


@dataclass(frozen=True)
class Needs:
    """What the kernel of a step adds to its operands and results.

    Attributes:
        in_place: pairs (result, operand) that may share memory.
        workspaces: sizes in bytes of the scratch buffers.
        by_thread: numbers of the scratch buffers that have a part for each thread.
    """

    in_place: tuple[tuple[int, int], ...] = ()
    workspaces: tuple[int, ...] = ()
    by_thread: tuple[int, ...] = ()


@dataclass(frozen=True)
class Block:
    """A piece of the arena: `size_bytes` bytes from `first` to `last`, inclusive (positions in the order).

    `root` is the placement's root, or -1 for workspace number `workspace` of step number `step`; with step -1 it is
    number `workspace` of the blocks that hold the threads' parts of scratch buffers.
    """

    name: str
    size_bytes: int
    first: int
    last: int
    root: int = -1
    step: int = -1
    workspace: int = -1


@dataclass(frozen=True)
class Liveness:
    """Blocks of one order of the steps.

    Attributes:
        order: the numbers of the placement's steps as they run.
        positions: of each item of `order`; steps of one position run in turns, stripe by stripe.
        blocks: what the arena must hold.
        homes: for each root the root it became part of, and the byte offset there.
        replaced: (step, result, operand) of every result that overwrites an operand.
        by_thread: for (step, workspace) with a part for each thread, the number of the block that holds them, and the byte offset there.
    """

    order: tuple[int, ...]
    positions: tuple[int, ...]
    blocks: tuple[Block, ...]
    homes: tuple[tuple[int, int], ...]
    replaced: frozenset[tuple[int, int, int]]
    by_thread: Mapping[tuple[int, int], tuple[int, int]] = field(default_factory=dict)

    @cached_property
    def replacing(self) -> Mapping[int, frozenset[int]]:
        """The results of each step that overwrite an operand; steps without such results are not named."""
        out: dict[int, set[int]] = {}
        for step, result, _ in self.replaced:
            out.setdefault(step, set()).add(result)
        return {step: frozenset(results) for step, results in out.items()}

    @property
    def length(self) -> int:
        """Number of positions."""
        return self.positions[-1] + 1 if self.positions else 0


def liveness(placement: Placement, needs: Sequence[Needs], order: Sequence[int], together: Sequence[int] = ()) -> Liveness:
    """Shares memory in place where possible and computes lifetimes for running the steps in `order`.

    Args:
        together: how many steps, from the first on, share a position each; all have one of their own if absent. What
            steps of one position touch is alive during all of it. Their `Needs` must name only operands that
            may be overwritten while the others run.
    """
    groups = tuple(together) or (1,) * len(order)
    positions = tuple(position for position, count in enumerate(groups) for _ in range(count))
    sharing = _Sharing(placement, order, positions)
    replaced = set()
    for position, number in zip(positions, order, strict=True):
        taken: set[int] = set()
        for result, operand in needs[number].in_place:
            if result not in taken and sharing.share(position, placement.steps[number], needs[number], result, operand):
                taken.add(result)
                replaced.add((number, result, operand))
    blocks = [Block(root.name, root.size_bytes, sharing.first[index], sharing.last[index], index)
              for index, root in enumerate(placement.roots)
              if root.kind == "arena" and root.size_bytes and sharing.homes[index][0] == index and sharing.last[index] >= 0]
    blocks += [Block(f"{placement.steps[number].name}.workspace", size, position, position, -1, number, slot)
               for position, number in zip(positions, order, strict=True) for slot, size in enumerate(needs[number].workspaces)
               if size and slot not in needs[number].by_thread]
    scratch = thread_scratch([(position, number, {slot: needs[number].workspaces[slot] for slot in needs[number].by_thread})
                              for position, number in zip(positions, order, strict=True)])
    blocks += [Block(f"threads.{index}", shared.size_bytes, shared.first, shared.last, workspace=index)
               for index, shared in enumerate(scratch.blocks)]
    homes = tuple(sharing.find(index) for index in range(len(placement.roots)))
    return Liveness(tuple(order), positions, tuple(blocks), homes, frozenset(replaced), scratch.places)


class _Sharing:
    def __init__(self, placement: Placement, order: Sequence[int], positions: Sequence[int]) -> None:
        count = len(placement.roots)
        self.roots = placement.roots
        self.homes = [(index, 0) for index in range(count)]
        self.first = [len(order)] * count
        self.last = [-1] * count
        self.last_write = [-1] * count
        for position, number in zip(positions, order, strict=True):
            step = placement.steps[number]
            for place in step.inputs:
                if place is not None:
                    self.last[place.root] = position
            for place in step.outputs:
                self.first[place.root] = min(self.first[place.root], position)
                self.last[place.root] = self.last_write[place.root] = position

    def find(self, root: int) -> tuple[int, int]:
        """The root that `root` became part of, and the byte offset there."""
        path = []
        while self.homes[root][0] != root:
            path.append(root)
            root = self.homes[root][0]
        offset = 0
        for item in reversed(path):
            offset += self.homes[item][1]
            self.homes[item] = (root, offset)
        return self.homes[path[0]] if path else (root, 0)

    def share(self, position: int, step: Step, needs: Needs, result: int, operand: int) -> bool:
        """Puts an operand's root inside the result's if the module's conditions hold."""
        source, target = step.inputs[operand], step.outputs[result]
        if source is None or not same_memory(source.view, target.view) or source.shape != target.shape:
            return False
        (source_root, shift), (target_root, target_shift) = self.find(source.root), self.find(target.root)
        if source_root == target_root or self.roots[source_root].kind != "arena":
            return False
        size = math.prod(source.view.held_dims) * source.view.dtype.size
        # Elements of a result never share memory, so one as large as its root fills it without gaps.
        if source.byte_offset + shift != 0 or size != self.roots[source_root].size_bytes:
            return False
        if self.last[source_root] > position or self.last_write[source_root] >= position:
            return False
        if not all(self._may_overlap(step.inputs[i], source, source_root, (result, i) in needs.in_place)
                   for i in range(len(step.inputs)) if i != operand):
            return False
        self.homes[source_root] = (target_root, target.byte_offset + target_shift)
        self.first[target_root] = min(self.first[target_root], self.first[source_root])
        return True

    def _may_overlap(self, other: Place | None, source: Place, source_root: int, allowed: bool) -> bool:
        if other is None or self.find(other.root)[0] != source_root:
            return True
        same = self.find(other.root)[1] + other.byte_offset == 0 and same_memory(other.view, source.view)
        return allowed and same
