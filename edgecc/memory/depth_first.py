"""Depth-first blocks: which chains of steps run stripe by stripe, and in how high stripes.

In a block the values between two steps lie in rings of a few rows, which stay in the cache from the step that
writes them to the one that reads them, and the arena need not hold them as a whole. What it costs: weights are
read once for every stripe, and kernels that compute whole images may be faster than those of ranges of rows.

Every run of consecutive steps of an order that can run in stripes is a candidate with a few heights of stripes.
The difference it makes is modelled in cycles; dynamic programming finds the choice of candidates with the best sum
under a bound on the bytes alive at any time. The bound is lowered step by step, and of all choices found the one
with the smallest arena is taken whose modelled cycles are within `SLACK` of the best.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from edgecc.kernels.cost import CALL_CYCLES, OVERLAP, read_cycles
from edgecc.kernels.view import ROW_AXIS
from edgecc.memory.lifetime import Needs, liveness
from edgecc.memory.offsets import lower_bound
from edgecc.memory.placement import Placement, Step
from edgecc.memory.places import Place
from edgecc.memory.stripes import Chain, ChainFinder, StripedChain, ringed, schedule
from edgecc.targets.schema import Target

MIN_ROWS = 28
"""Steps that neither read nor write so many rows stay whole: there are few rows to keep, and weights are many. Measured
on MobileNetV2, where re-reading weights for maps of 14 rows costs more than it saves."""

MAX_ROWS = 2**14
"""Steps that read or write more rows stay whole, too: tables of stripes would be larger than code."""

STRIPE_ROWS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Heights of stripes that are tried, in rows of the last result."""

MAX_STEPS = 16
"""Longest chain that is tried."""

SLACK = 0.01
"""Share of all modelled cycles that a smaller arena may cost: what the model does not see is of that size."""

TRIED_GAIN = 0.001
"""Share of a chain's modelled cycles that higher stripes must gain for still higher ones to be tried."""

MAX_CHOICES = 64
"""How often the bound on the arena is lowered, at most."""


@dataclass(frozen=True)
class StepCost:
    """Modelled cycles of a step as a whole, and of its kernel for ranges of rows over all rows (None: there is no such kernel)."""

    cycles: float
    row_cycles: float | None


@dataclass(frozen=True)
class Limits:
    """What a depth-first block may take.

    Attributes:
        line_bytes: of its rings together.
        weight_bytes: of the weights of its steps together.
        min_rows: see `MIN_ROWS`. slack: see `SLACK`.
    """

    line_bytes: int
    weight_bytes: int
    min_rows: int = MIN_ROWS
    slack: float = SLACK


@dataclass
class Effort:
    """What is left of the work on choices for one network, its regions included, in chains looked at and cuts of them: they grow with
    its steps, and each takes tenths of a millisecond. Networks of a hundred layers need some hundred."""

    left: int = 10_000


@dataclass(frozen=True)
class DepthFirst:
    """The choice of blocks: an order of the steps, what of it runs in stripes, and the modelled gain.

    Attributes:
        order_name, order: one of the candidate orders.
        blocks: depth-first blocks, in the order; each is a run of consecutive steps.
        cycles: how many more cycles than without blocks, by the model.
    """

    order_name: str
    order: tuple[int, ...]
    blocks: tuple[StripedChain, ...]
    cycles: float

    @property
    def together(self) -> tuple[int, ...]:
        """For each unit of the run in turn, of how many steps it consists."""
        first = {block.chain.numbers[0]: len(block.chain.numbers) for block in self.blocks}
        inner = {number for block in self.blocks for number in block.chain.numbers[1:]}
        return tuple(first.get(number, 1) for number in self.order if number not in inner)


def limits_of(target: Target) -> Limits:
    """The limits a target's caches set: half of the second-level cache for rings (of the first level where there is no other) and half for weights."""
    sizes = {cache.level: cache.size for cache in target.caches}
    size = sizes.get(2, sizes.get(1, 2**62))
    return Limits(size // 2, size // 2)


def plan_depth_first(placement: Placement, needs: Sequence[Needs], costs: Sequence[StepCost],
                     orders: Sequence[tuple[str, tuple[int, ...]]], target: Target, limits: Limits | None = None,
                     effort: Effort | None = None) -> DepthFirst:
    """Chooses an order and its depth-first blocks; see the module's docstring. There may be none.

    Args:
        needs, costs: of each step of the placement.
        orders: the orders to choose among, by name.
        effort: shared by the graphs of a network; where it ends, what was not looked at stays whole.
    """
    bounds = limits_of(target) if limits is None else limits
    options = _Options(ChainFinder(placement), costs, target, bounds, Effort() if effort is None else effort)
    found: list[tuple[int, DepthFirst]] = []
    for name, order in orders:
        for blocks, cycles in _Candidates(options, order, needs).choices():
            choice = DepthFirst(name, order, blocks, cycles)
            found.append((_arena_bound(placement, needs, choice), choice))
    best = min(choice.cycles for _, choice in found)
    limit = min(best, 0.0) + bounds.slack * sum(cost.cycles for cost in costs)
    return min(((bound, choice) for bound, choice in found if choice.cycles <= limit),
               key=lambda item: (item[0], item[1].cycles, len(item[1].blocks)))[1]


def block_needs(needs: Sequence[Needs], blocks: Sequence[StripedChain]) -> list[Needs]:
    """`needs` where the steps of blocks name only operands that may be overwritten while the block runs."""
    out = list(needs)
    for block in blocks:
        for number in block.chain.numbers:
            pairs = tuple((r, o) for r, o in needs[number].in_place if (number, o) in block.overwritable)
            out[number] = replace(needs[number], in_place=pairs)
    return out


def _arena_bound(placement: Placement, needs: Sequence[Needs], choice: DepthFirst) -> int:
    live = liveness(ringed(placement, choice.blocks), block_needs(needs, choice.blocks), choice.order, choice.together)
    return lower_bound(live.blocks)


@dataclass(frozen=True)
class _Option:
    """A chain in stripes of `rows` rows: cycles more than without, bytes of the arena less."""

    chain: Chain
    rows: int
    cycles: float
    saved_bytes: int


class _Options:
    """Chains of a placement's steps in stripes; what was worked out for one order serves the others."""

    def __init__(self, finder: ChainFinder, costs: Sequence[StepCost], target: Target, limits: Limits, effort: Effort) -> None:
        self.finder = finder
        self.effort = effort
        self.steps = finder.placement.steps
        self.costs = costs
        self.target = target
        self.limits = limits
        self.sizes = [root.size_bytes if root.kind == "arena" else 0 for root in finder.placement.roots]
        self.moved = [[(p.root, _bytes(p)) for p in (*_operands(step), *step.outputs)] for step in self.steps]
        self.weights = [sum(_bytes(p) for p in _constants(step)) for step in self.steps]
        together = [sum(size for _, size in moved) + weights for moved, weights in zip(self.moved, self.weights, strict=True)]
        self.apart = [read_cycles(size, size, target) for size in together]
        """Cycles of the traffic of each step that runs on its own."""
        self.known: dict[tuple[int, ...], tuple[_Option, ...] | None] = {}

    def of(self, numbers: tuple[int, ...]) -> tuple[_Option, ...] | None:
        """The ways to run these steps in stripes, lower ones first; None where neither they nor more steps after them can."""
        if numbers not in self.known:
            self.known[numbers] = self._find(numbers)
        return self.known[numbers]

    def _find(self, numbers: tuple[int, ...]) -> tuple[_Option, ...] | None:
        if not self._may_run_in_stripes(numbers[-1]) or sum(self.weights[n] for n in numbers) > self.limits.weight_bytes:
            return None
        if len(numbers) == 1:
            return ()
        if self.effort.left <= 0:
            return None
        self.effort.left -= 1
        chain = self.finder.chain(numbers)
        if chain is None:
            return None
        if not chain.rings:  # however it is cut
            return ()
        found: list[_Option] = []
        worth = TRIED_GAIN * sum(self.costs[n].cycles for n in numbers)
        for rows in STRIPE_ROWS:
            if 2 * rows > max(2, chain.heights[-1]):
                break
            self.effort.left -= 1
            block = schedule(chain, rows)
            if block.ring_bytes > self.limits.line_bytes:
                return tuple(found) if rows > STRIPE_ROWS[0] else None
            cycles = self._cycles(block)
            if block.rings:
                found.append(_Option(chain, rows, cycles, sum(self.sizes[root] for root in block.rings) - block.ring_bytes))
            if len(found) > 1 and found[-2].cycles - cycles < worth:
                break
        return tuple(found)

    def _may_run_in_stripes(self, number: int) -> bool:
        if self.costs[number].row_cycles is None:
            return False
        step = self.steps[number]
        rows = [p.view.dims[ROW_AXIS] for p in (*_operands(step), *step.outputs) if len(p.view.dims) > ROW_AXIS]
        return self.limits.min_rows <= max(rows, default=0) <= MAX_ROWS

    def _cycles(self, block: StripedChain) -> float:
        """How many more cycles the steps of a block take in stripes than one after the other."""
        numbers = block.chain.numbers
        weights = sum(self.weights[n] for n in numbers)
        footprint = block.ring_bytes + weights
        traffic = read_cycles(block.stripes * weights, footprint, self.target)
        arithmetic = 0.0
        for number in numbers:
            cost = self.costs[number]
            arithmetic += (cost.row_cycles or 0.0) - cost.cycles + (block.stripes - 1) * CALL_CYCLES
            for root, size in self.moved[number]:
                traffic += read_cycles(size, footprint if root in block.rings else size + footprint, self.target)
            traffic -= self.apart[number]
        # Elsewhere a core that executes out of order hides a part of the traffic (edgecc/kernels/cost.py).
        return arithmetic + traffic * (1.0 if self.target.core.in_order else 1.0 - OVERLAP)


@dataclass(frozen=True)
class _Candidate:
    """An option for positions first..last of an order, and the bytes alive meanwhile."""

    first: int
    last: int
    option: _Option
    alive: int


class _Candidates:
    """All candidates of one order, and the choices among them."""

    def __init__(self, options: _Options, order: Sequence[int], needs: Sequence[Needs]) -> None:
        self.count = len(order)
        position = {number: i for i, number in enumerate(order)}
        alive, born = [0] * (self.count + 1), [0] * (self.count + 1)
        for root, users in options.finder.users.items():
            first, last = min(position[n] for n in users), max(position[n] for n in users)
            born[first] += options.sizes[root]
            alive[first] += options.sizes[root]
            alive[last + 1] -= options.sizes[root]
        alive = list(itertools.accumulate(alive))
        self.whole = [alive[i] + sum(needs[number].workspaces) for i, number in enumerate(order)]
        """Bytes alive at each position where its step runs on its own, with the scratch memory it then has."""
        self.ending: list[list[_Candidate]] = [[] for _ in order]
        for first in range(self.count):
            bytes_alive = alive[first]
            for last in range(first, min(self.count, first + MAX_STEPS)):
                bytes_alive += born[last] if last > first else 0
                found = options.of(tuple(order[first:last + 1]))
                if found is None:
                    break
                self.ending[last] += [_Candidate(first, last, option, bytes_alive - option.saved_bytes) for option in found]

    def choices(self) -> Iterator[tuple[tuple[StripedChain, ...], float]]:
        """Sets of blocks with the cycles they add: the best without a bound on bytes alive, then with ever smaller ones."""
        yield (), 0.0
        bound = math.inf
        for _ in range(MAX_CHOICES):
            chosen = self._best(bound)
            if chosen is None:
                return
            candidates, cycles = chosen
            yield tuple(schedule(c.option.chain, c.option.rows) for c in candidates), cycles
            covered = {i for c in candidates for i in range(c.first, c.last + 1)}
            bound = max([c.alive for c in candidates] + [self.whole[i] for i in range(self.count) if i not in covered], default=0)

    def _best(self, bound: float) -> tuple[list[_Candidate], float] | None:
        """Candidates with the least sum of cycles such that fewer than `bound` bytes are alive at any time."""
        costs: list[float] = [0.0]
        taken: list[_Candidate | None] = [None]
        for last in range(self.count):
            cost = costs[last] if self.whole[last] < bound else math.inf
            choice: _Candidate | None = None
            for candidate in self.ending[last]:
                if candidate.alive < bound and costs[candidate.first] + candidate.option.cycles < cost:
                    cost, choice = costs[candidate.first] + candidate.option.cycles, candidate
            costs.append(cost)
            taken.append(choice)
        if costs[-1] == math.inf:
            return None
        chosen: list[_Candidate] = []
        position = self.count
        while position:
            candidate_or_none = taken[position]
            if candidate_or_none is None:
                position -= 1
            else:
                chosen.insert(0, candidate_or_none)
                position = candidate_or_none.first
        return chosen, costs[-1]


def _operands(step: Step) -> list[Place]:
    return [p for p, constant in zip(step.inputs, step.constants, strict=True) if p is not None and constant is None]


def _constants(step: Step) -> list[Place]:
    return [p for p, constant in zip(step.inputs, step.constants, strict=True) if p is not None and constant is not None]


def _bytes(place: Place) -> int:
    return place.view.elements * place.view.dtype.size
