"""Offsets: where in the arena each block starts, so that blocks alive at the same step never overlap.

This is dynamic storage allocation, NP-hard in general. Sizes are rounded up to the alignment, then several
heuristics place the blocks one after another, each in a gap between the blocks already placed that are
alive at the same time; they differ in the order and in the choice of the gap:

 - by size, by lifetime, by their product, by start: orders found in the literature on register and buffer
   allocation (Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020);
 - by breadth: the steps with most bytes alive first, and their blocks by size (same paper);
 - hill climbing: blocks that reach the top of the arena move to the front of the best order found;
 - up to `EXACT_BLOCKS` blocks, a search over all packings in which every block rests on another or on 0.

The search ends as soon as the lower bound is met: no plan needs fewer bytes than are alive at one step.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgecc.ir.types import Array
from edgecc.memory.lifetime import Block

ALIGN = 64
"""Bytes: the start of every block is a multiple of it (a cache line, and the widest vector)."""

EXACT_BLOCKS = 9
EXACT_STATES = 20_000
CLIMB_PLACEMENTS = 20_000
"""Placements of single blocks that hill climbing may try in all."""


@dataclass(frozen=True)
class Offsets:
    """A plan: a byte offset for each block, the bytes of the arena, the lower bound, and who found it."""

    offsets: tuple[int, ...]
    arena_bytes: int
    lower_bound: int
    method: str


def aligned(size_bytes: int, align: int = ALIGN) -> int:
    """`size_bytes` rounded up to a multiple of `align`."""
    return -(-size_bytes // align) * align


def lower_bound(blocks: Sequence[Block], align: int = ALIGN) -> int:
    """The most bytes alive at one step: no plan can use fewer."""
    events: dict[int, int] = {}
    for block in blocks:
        events[block.first] = events.get(block.first, 0) + aligned(block.size_bytes, align)
        events[block.last + 1] = events.get(block.last + 1, 0) - aligned(block.size_bytes, align)
    most = alive = 0
    for step in sorted(events):
        alive += events[step]
        most = max(most, alive)
    return most


def assign_offsets(blocks: Sequence[Block], align: int = ALIGN) -> Offsets:
    """Finds offsets for the blocks; deterministic. See the module's docstring for the method."""
    bound = lower_bound(blocks, align)
    if not blocks:
        return Offsets((), 0, 0, "empty")
    problem = _Problem(blocks, align)
    side_by_side = list(itertools.accumulate(problem.sizes[:-1], initial=0))
    best = (problem.total(side_by_side), side_by_side, "side by side")
    best_order = list(range(problem.count))
    for name, order, best_fit in problem.heuristics():
        if best[0] == bound:
            break
        offsets = problem.place(order, best_fit)
        if problem.total(offsets) < best[0]:
            best, best_order = (problem.total(offsets), offsets, name), order
    if best[0] > bound and len(blocks) <= EXACT_BLOCKS:
        exact = problem.exact(bound, best[0])
        if exact is not None:
            best = (problem.total(exact), exact, "exact")
    elif best[0] > bound:
        best = problem.climb(best, best_order, bound)
    return Offsets(tuple(best[1]), best[0], bound, best[2])


class _Problem:
    def __init__(self, blocks: Sequence[Block], align: int) -> None:
        self.count = len(blocks)
        self.sizes = [aligned(b.size_bytes, align) for b in blocks]
        self.first = [b.first for b in blocks]
        self.last = [b.last for b in blocks]

    def total(self, offsets: Sequence[int]) -> int:
        """Bytes of the arena."""
        return max((o + s for o, s in zip(offsets, self.sizes, strict=True)), default=0)

    def heuristics(self) -> Iterator[tuple[str, list[int], bool]]:
        """Name, order of the blocks, and whether the tightest gap is taken instead of the lowest."""
        size, first, last = self.sizes, self.first, self.last
        keys: tuple[tuple[str, Callable[[int], tuple[int, ...]]], ...] = (
            ("by size", lambda i: (-size[i], first[i])),
            ("by lifetime", lambda i: (first[i] - last[i], -size[i])),
            ("by size times lifetime", lambda i: (size[i] * (first[i] - last[i] - 1), first[i])),
            ("by start", lambda i: (first[i], -size[i])),
            ("by end", lambda i: (-last[i], -size[i])),
        )
        for name, key in keys:
            order = sorted(range(self.count), key=lambda i, key=key: (*key(i), i))  # type: ignore[misc]
            yield f"{name}, lowest gap", order, False
            yield f"{name}, tightest gap", order, True
        order = self.by_breadth()
        yield "by breadth, lowest gap", order, False
        yield "by breadth, tightest gap", order, True

    def by_breadth(self) -> list[int]:
        """Blocks of the fullest step first, by size; then those of the next fullest, and so on."""
        steps = max(self.last) + 1
        difference: Array = np.zeros(steps + 1, np.int64)
        np.add.at(difference, self.first, self.sizes)
        np.subtract.at(difference, [e + 1 for e in self.last], self.sizes)
        alive = np.cumsum(difference)[:steps]
        fullest = [int(alive[f:e + 1].max()) for f, e in zip(self.first, self.last, strict=True)]
        return sorted(range(self.count), key=lambda i: (-fullest[i], -self.sizes[i], self.first[i], i))

    def place(self, order: Sequence[int], best_fit: bool) -> list[int]:
        """Places blocks in the given order, each in the lowest (or tightest) gap it fits in."""
        starts, ends = np.empty(self.count, np.int64), np.empty(self.count, np.int64)
        bottoms, tops = np.empty(self.count, np.int64), np.empty(self.count, np.int64)
        offsets = [0] * self.count
        for placed, block in enumerate(order):
            size = self.sizes[block]
            meets = (starts[:placed] <= self.last[block]) & (ends[:placed] >= self.first[block])
            low, high = bottoms[:placed][meets], tops[:placed][meets]
            by_bottom = np.argsort(low, kind="stable")
            floor = np.concatenate(([0], np.maximum.accumulate(high[by_bottom])))
            room = np.concatenate((low[by_bottom], [np.iinfo(np.int64).max])) - floor
            fits = np.flatnonzero(room >= size)
            gap = fits[np.argmin(room[fits])] if best_fit else fits[0]
            offsets[block] = int(floor[gap])
            starts[placed], ends[placed] = self.first[block], self.last[block]
            bottoms[placed], tops[placed] = offsets[block], offsets[block] + size
        return offsets

    def climb(self, best: tuple[int, list[int], str], order: list[int], bound: int) -> tuple[int, list[int], str]:
        """Moves blocks that reach the top to an earlier place in the order while that does no harm."""
        generator = random.Random(0)
        current, current_order = best, list(order)
        for _ in range(CLIMB_PLACEMENTS // self.count):
            top = [i for i in current_order if current[1][i] + self.sizes[i] == current[0]]
            block = generator.choice(top)
            position = current_order.index(block)
            trial = list(current_order)
            del trial[position]
            trial.insert(generator.randrange(position + 1), block)
            if position and generator.random() < 0.5:
                a, b = generator.randrange(self.count), generator.randrange(self.count)
                trial[a], trial[b] = trial[b], trial[a]
            offsets = self.place(trial, best_fit=False)
            total = self.total(offsets)
            if total <= current[0]:
                current, current_order = (total, offsets, "hill climbing"), trial
            if total == bound:
                break
        return current if current[0] < best[0] else best

    def exact(self, bound: int, limit: int) -> list[int] | None:
        """The best packing below `limit` bytes, or None where there is none or the search grew too large.

        Every packing can be pushed down until each block rests on 0 or on a block alive at the same time.
        Adding blocks by ascending offset therefore finds an optimum: each goes on top of what it meets.
        """
        meets = [[j for j in range(self.count) if j != i and self.first[i] <= self.last[j] and self.first[j] <= self.last[i]]
                 for i in range(self.count)]
        best: list[int] | None = None
        offsets = [-1] * self.count
        states = 0

        def descend(left: int, lowest: int) -> None:
            nonlocal best, limit, states
            states += 1
            if left == 0:
                best, limit = list(offsets), self.total(offsets)
                return
            for block in range(self.count):
                if offsets[block] >= 0 or limit == bound or states > EXACT_STATES:
                    continue
                offset = max((offsets[j] + self.sizes[j] for j in meets[block] if offsets[j] >= 0), default=0)
                if offset < lowest or offset + self.sizes[block] >= limit:
                    continue
                offsets[block] = offset
                descend(left - 1, offset)
                offsets[block] = -1

        descend(self.count, 0)
        return best
