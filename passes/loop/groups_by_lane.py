"""groups-by-lane: loads groups of four bytes, wherever they lie, as vectors of groups and multiplies by their lanes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from edgecc.ir.types import DType
from edgecc.loop.index import Atom, Index
from edgecc.loop.ir import (
    Body,
    Broadcast,
    Const,
    Expr,
    Function,
    Lane,
    Let,
    Load,
    Op,
    Ref,
    expressions,
    map_children,
)
from edgecc.loop.rewrite import bound_before, map_blocks, stored_buffers
from edgecc.passes.loop.base import LoopPass

GROUP = 4

Run = tuple[str, tuple[tuple[Atom, int], ...], DType, float | int | bool | None]
"""Groups of one buffer whose addresses differ by a constant: (buffer, variable part, type of the bytes, bits turned around in each)."""


@dataclass(frozen=True)
class GroupsByLane(LoopPass):
    """acc_0 += dot(broadcast(interleave(x[p : p+4])), w0); acc_1 += dot(broadcast(interleave(x[p+8 : p+12])), w0)
       ->   v = x[p : p+16] as four groups; acc_0 += dot(broadcast(v.0), w0); acc_1 += dot(broadcast(v.2), w0)

    A machine whose products of bytes take a group out of a vector (NEON's SDOT by element) then needs one load for several
    groups, whose distances are multiples of four bytes. Only bytes between two that were read anyway are read. Otherwise as
    broadcast-by-lane.
    """

    name = "groups-by-lane"
    lanes: int = 4

    def rewrite(self, body: Body, function: Function) -> Body:
        """See the class."""
        return map_blocks(body, self._block)

    def _block(self, block: Body) -> Body:
        written = stored_buffers(block)
        found: dict[Run, dict[int, int]] = defaultdict(dict)  # offsets, and where each is read first
        for position, stmt in enumerate(block):
            for expr in expressions(stmt):
                for (run, offset) in _groups(expr):
                    if run[0] not in written:
                        found[run].setdefault(offset, position)
        lanes_of: dict[tuple[Run, int], tuple[str, int]] = {}
        inserted: dict[int, list[Let]] = defaultdict(list)
        for number, (run, offsets) in enumerate(found.items()):
            for start, served in _cover(sorted(offsets), self.lanes):
                name = f"{run[0]}_groups{self.lanes}_{number}_{start - min(offsets)}"
                lanes_of |= {(run, offset): (name, (offset - start) // GROUP) for offset in served}
                inserted[min(offsets[offset] for offset in served)].append(Let(name, self._vector(run, start)))

        def rewrite(expr: Expr) -> Expr:
            place = lanes_of.get(group) if isinstance(expr, Broadcast) and (group := _group(expr)) is not None else None
            if place is not None and isinstance(expr, Broadcast):
                return Broadcast(Lane(Ref(place[0], DType.U32, self.lanes), place[1]), expr.lanes)
            return map_children(expr, rewrite)

        return bound_before(block, inserted, rewrite)

    def _vector(self, run: Run, start: int) -> Expr:
        buffer, terms, dtype, turned = run
        value: Expr = Op("interleave", tuple(Load(buffer, Index(terms, start + j), dtype, self.lanes, GROUP) for j in range(GROUP)),
                         DType.U32, self.lanes)
        return value if turned is None else Op("bit_xor", (value, Const(turned, DType.U32, self.lanes)), DType.U32, self.lanes)


def _group(expr: Expr) -> tuple[Run, int] | None:
    """The group that is broadcast, and where it begins; None for anything else."""
    turned: float | int | bool | None = None
    match expr:
        case Broadcast(arg=Op("bit_xor", (Op("interleave", parts), Const(value=turned)))):
            pass
        case Broadcast(arg=Op("interleave", parts)):
            pass
        case _:
            return None
    first = parts[0]
    if not isinstance(first, Load) or parts != tuple(Load(first.buffer, first.index + j, first.dtype) for j in range(GROUP)):
        return None
    return (first.buffer, first.index.terms, first.dtype, turned), first.index.const


def _groups(expr: Expr) -> list[tuple[Run, int]]:
    own = _group(expr)
    if own is not None:
        return [own]
    return [group for child in expr.children() for group in _groups(child)]


def _cover(offsets: list[int], lanes: int) -> list[tuple[int, list[int]]]:
    """Starts of windows of `lanes` groups within the span of `offsets`, and the offsets each serves: at least two."""
    first, end = offsets[0], offsets[-1] + GROUP
    windows: list[tuple[int, list[int]]] = []
    for phase in range(GROUP):
        own = [offset for offset in offsets if offset % GROUP == phase]
        while own:
            start = own[0]
            while start + GROUP * lanes > end:
                start -= GROUP
            served = [offset for offset in own if offset < start + GROUP * lanes]
            if start >= first and (len(served) >= 2 or start < own[0]):
                windows.append((start, served))
            own = own[len(served):]
    return windows
