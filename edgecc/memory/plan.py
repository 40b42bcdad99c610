"""The memory plan of a network: order of the steps, blocks, offsets, and a report for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from edgecc.errors import EdgeccError
from edgecc.loop.module import ArenaBytes, Argument, InputBytes, OutputBytes
from edgecc.memory.depth_first import DepthFirst, block_needs
from edgecc.memory.lifetime import Block, Liveness, Needs, liveness
from edgecc.memory.offsets import Offsets, assign_offsets, lower_bound
from edgecc.memory.order import candidate_orders
from edgecc.memory.placement import Placement
from edgecc.memory.places import Place
from edgecc.memory.stripes import StripedChain

_MAP_ROWS = 16
_MAP_COLUMNS = 64
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@dataclass(frozen=True)
class MemoryPlan:
    """Where everything of a placement lies at run time.

    Attributes:
        placement: what was planned.
        order_name: which of the candidate orders was chosen.
        live: the chosen order with its blocks.
        offsets: one offset in the arena for each block.
        blocks: what runs depth-first, stripe by stripe.
    """

    placement: Placement
    order_name: str
    live: Liveness
    offsets: Offsets
    blocks: tuple[StripedChain, ...] = ()

    @property
    def arena_bytes(self) -> int:
        """Bytes of the arena."""
        return self.offsets.arena_bytes

    @property
    def lower_bound(self) -> int:
        """Bytes alive at the fullest step of the chosen order."""
        return self.offsets.lower_bound

    @property
    def gap(self) -> float:
        """How much larger the arena is than the lower bound, as a fraction of it."""
        return self.arena_bytes / self.lower_bound - 1 if self.lower_bound else 0.0

    def argument(self, place: Place) -> Argument:
        """The address of a place that is not in a constant."""
        root, shift = self.live.homes[place.root]
        offset = shift + place.byte_offset
        home = self.placement.roots[root]
        match home.kind:
            case "input":
                return InputBytes(home.index, offset)
            case "output":
                return OutputBytes(home.index, offset)
            case "arena":
                return ArenaBytes(self._offset(root, -1, -1) + offset)
        raise EdgeccError("E900", f"{home.name} lies in the weights, not in the arena")

    def workspace(self, step: int, slot: int) -> ArenaBytes:
        """The address of scratch buffer number `slot` of a step."""
        if (step, slot) in self.live.by_thread:
            block, offset = self.live.by_thread[step, slot]
            return ArenaBytes(self._offset(-1, -1, block) + offset)
        return ArenaBytes(self._offset(-1, step, slot))

    def _offset(self, root: int, step: int, slot: int) -> int:
        found = self._numbers.get((root, step, slot))
        return 0 if found is None else self.offsets.offsets[found]  # None: a block without bytes

    @cached_property
    def _numbers(self) -> Mapping[tuple[int, int, int], int]:
        return {(b.root, b.step, b.workspace): i for i, b in enumerate(self.live.blocks)}

    def to_text(self) -> str:
        """The report that `--print-memory-plan` shows: totals, a table of blocks, and a map of time and addresses."""
        blocks, offsets = self.live.blocks, self.offsets.offsets
        shared = len(self.live.replaced)
        views = len({p.root for p in self.placement.places.values()})
        lines = [
            f"arena        {self.arena_bytes:>12,} bytes",
            f"lower bound  {self.lower_bound:>12,} bytes (gap {100 * self.gap:.1f} %)",
            f"{len(self.live.order)} steps in {self.order_name} order; {len(self.placement.places)} values in {views} pieces of "
            f"memory, {shared} computed in place; {len(blocks)} blocks placed {self.offsets.method}",
        ]
        where = dict(zip(self.live.order, self.live.positions, strict=True))
        for chain in self.blocks:
            numbers = chain.chain.numbers
            lines.append(f"step {where[numbers[0]]}: {len(numbers)} kernels in {chain.stripes} stripes, from "
                         f"{self.placement.steps[numbers[0]].name} to {self.placement.steps[numbers[-1]].name}; "
                         f"rings of {chain.ring_bytes:,} instead of {chain.whole_bytes:,} bytes")
        if not blocks:
            return "\n".join(lines) + "\n"
        order = sorted(range(len(blocks)), key=lambda i: (blocks[i].first, offsets[i], i))
        width = max(len("offset"), len(f"{self.arena_bytes:,}"))
        lines += ["", f"    {'offset':>{width}}  {'bytes':>{width}}  {'steps':>11}  block"]
        for row, i in enumerate(order):
            block = blocks[i]
            steps = f"{block.first}..{block.last}"
            lines.append(f"  {_letter(row)} {offsets[i]:>{width},}  {block.size_bytes:>{width},}  {steps:>11}  {block.name}")
        return "\n".join([*lines, "", *_memory_map(blocks, offsets, order, self.arena_bytes, self.live.length)]) + "\n"


def plan_memory(placement: Placement, needs: Sequence[Needs], choice: DepthFirst | None = None) -> MemoryPlan:
    """Chooses the order of the steps, shares memory in place, and assigns offsets; smallest arena wins.

    Args:
        needs: what the kernel of each step of the placement adds.
        choice: the order and what of it runs in stripes, if it was chosen already; the placement has its rings.
    """
    if choice is not None and choice.blocks:
        live = liveness(placement, block_needs(needs, choice.blocks), choice.order, choice.together)
        return MemoryPlan(placement, choice.order_name, live, assign_offsets(live.blocks), choice.blocks)
    orders = candidate_orders(placement, needs)
    plans = [(name, liveness(placement, needs, order)) for name, order in orders]
    ranked = sorted(range(len(plans)), key=lambda i: (lower_bound(plans[i][1].blocks), i))
    best: MemoryPlan | None = None
    for index in ranked:
        name, live = plans[index]
        if best is not None and lower_bound(live.blocks) >= best.arena_bytes:
            break
        offsets = assign_offsets(live.blocks)
        if best is None or offsets.arena_bytes < best.arena_bytes:
            best = MemoryPlan(placement, name, live, offsets)
    if best is None:
        raise EdgeccError("E900", "there is no order of the steps")
    return best


def _letter(row: int) -> str:
    return _LETTERS[row % len(_LETTERS)]


def _memory_map(blocks: Sequence[Block], offsets: Sequence[int], order: Sequence[int], arena_bytes: int,
                steps: int) -> list[str]:
    """Time to the right, addresses upwards; each cell shows the block in its middle."""
    columns = min(_MAP_COLUMNS, steps)
    rows = min(_MAP_ROWS, max(1, arena_bytes // 64))
    grid = [["." for _ in range(columns)] for _ in range(rows)]
    for letter, i in enumerate(order):
        for column in range(columns):
            step = (2 * column + 1) * steps // (2 * columns)
            if blocks[i].first <= step <= blocks[i].last:
                for row in range(rows):
                    middle = (2 * row + 1) * arena_bytes // (2 * rows)
                    if offsets[i] <= middle < offsets[i] + blocks[i].size_bytes:
                        grid[row][column] = _letter(letter)
    lines = [f"{'address':>12}"]
    for row in reversed(range(rows)):
        lines.append(f"{row * arena_bytes // rows:>12,} |{''.join(grid[row])}|")
    return [*lines, f"{'':>13} {'step 0'}{'':{max(1, columns - 6 - len(str(steps - 1)))}}{steps - 1}"]
