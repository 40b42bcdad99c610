"""broadcast-by-lane: loads neighbouring scalars as one vector and multiplies by its lanes."""

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

Run = tuple[str, tuple[tuple[Atom, int], ...], DType, float | int | bool | None]
"""Addresses of one buffer that differ by a constant: (buffer, variable part, element type, bits turned around in each element)."""


@dataclass(frozen=True)
class BroadcastByLane(LoopPass):
    """acc_0 += broadcast(x[k]) * w0; acc_1 += broadcast(x[k+1]) * w1; ...
       ->   v = x[k : k+4]; acc_0 += broadcast(v.0) * w0; acc_1 += broadcast(v.1) * w1; ...

    A machine that multiplies by an element of a vector (NEON's fmla by element) then needs one load
    for `lanes` broadcasts. Only addresses between two that were read anyway are read, so nothing is
    read beyond the buffer. Within a block of statements; loads of a buffer that the block also writes
    are left alone. Elements whose bits are turned around (x[k] ^ constant) are so as a vector, too. Broadcasts with no neighbour stay as they are,
    unless `alone` says that even one lane is worth a vector. Each vector is loaded where it is used first.
    """

    name = "broadcast-by-lane"
    lanes: int = 4
    alone: bool = False

    def rewrite(self, body: Body, function: Function) -> Body:
        """See the class."""
        return map_blocks(body, self._block)

    def _block(self, block: Body) -> Body:
        written = stored_buffers(block)
        found: dict[Run, dict[int, int]] = defaultdict(dict)  # offsets, and where each is read first
        for position, stmt in enumerate(block):
            for expr in expressions(stmt):
                for load, turned in _broadcast_loads(expr):
                    if load.buffer not in written:
                        run = (load.buffer, load.index.terms, load.dtype, turned)
                        found[run].setdefault(load.index.const, position)
        windows: dict[Run, dict[int, tuple[str, int]]] = {}
        inserted: dict[int, list[Let]] = defaultdict(list)
        for number, (run, offsets) in enumerate(found.items()):
            lanes_of: dict[int, tuple[str, int]] = {}
            for start in _cover(sorted(offsets), self.lanes, 1 if self.alone else 2):
                name = f"{run[0]}_lanes_{number}_{start - min(offsets)}"
                value: Expr = Load(run[0], Index(run[1], start), run[2], self.lanes)
                if run[3] is not None:
                    value = Op("bit_xor", (value, Const(run[3], run[2], self.lanes)), run[2], self.lanes)
                served = [offset for offset in range(start, start + self.lanes) if offset not in lanes_of]
                lanes_of.update({offset: (name, offset - start) for offset in served})
                inserted[min(offsets[offset] for offset in served if offset in offsets)].append(Let(name, value))
            windows[run] = lanes_of

        def rewrite(expr: Expr) -> Expr:
            broadcast = _broadcast(expr)
            if broadcast is not None and isinstance(expr, Broadcast):
                load, turned = broadcast
                place = windows.get((load.buffer, load.index.terms, load.dtype, turned), {}).get(load.index.const)
                if place is not None:
                    return Broadcast(Lane(Ref(place[0], load.dtype, self.lanes), place[1]), expr.lanes)
            return map_children(expr, rewrite)

        return bound_before(block, inserted, rewrite)


def _broadcast(expr: Expr) -> tuple[Load, float | int | bool | None] | None:
    """The scalar that is loaded and broadcast, and the bits that are turned around in between, if any."""
    match expr:
        case Broadcast(arg=Load() as load):
            return load, None
        case Broadcast(arg=Op(op="bit_xor", args=(Load() as load, Const(value=turned)))):
            return load, turned
    return None


def _broadcast_loads(expr: Expr) -> list[tuple[Load, float | int | bool | None]]:
    own = _broadcast(expr)
    if own is not None:
        return [own]
    return [load for child in expr.children() for load in _broadcast_loads(child)]


def _cover(offsets: list[int], lanes: int, least: int) -> list[int]:
    """Starts of windows of `lanes` addresses, within the span of `offsets`, each serving at least `least` of them."""
    last = offsets[-1]
    starts: list[int] = []
    position = 0
    while position < len(offsets):
        start = min(offsets[position], last - lanes + 1)
        if start < offsets[0]:
            break
        served = [o for o in offsets[position:] if o < start + lanes]
        if len(served) >= least or start < offsets[position]:
            starts.append(start)
            position += len(served)
        else:
            position += 1
    return starts


