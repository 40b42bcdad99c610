"""reuse-loads: reads a memory location once a block instead of once a use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edgecc.loop.ir import (
    Barrier,
    Body,
    Broadcast,
    Declare,
    Expr,
    For,
    Function,
    If,
    Lane,
    Let,
    Load,
    Op,
    Ref,
    Reload,
    Stmt,
    expressions,
    map_children,
)
from edgecc.loop.rewrite import map_blocks, map_expressions, stored_buffers
from edgecc.passes.loop.base import LoopPass


@dataclass(frozen=True)
class ReuseLoads(LoopPass):
    """acc_0 += broadcast(x[k]) * w[k : k+4]; acc_1 += broadcast(x[k]) * w[k+4 : k+8]
       ->   x_0 = broadcast(x[k]); acc_0 += x_0 * w[k : k+4]; acc_1 += x_0 * w[k+4 : k+8]

    Loads, and broadcasts of loads, that occur more than once in a block of statements are bound
    before their first use. Loads of a buffer that the block writes are left alone. A broadcast of a
    lane is not bound: machines multiply by a lane directly. Nothing is carried across a barrier, which
    stands where values that stay in registers longer would displace accumulators; with `across` it is. Nothing is
    carried across a `Reload`, either. Loads of the buffer `anew` stay where they are. Bytes that are interleaved stay in one piece: machines
    load them as a word, or as vectors.
    """

    name = "reuse-loads"
    across: int = 0
    anew: str = ""

    def rewrite(self, body: Body, function: Function) -> Body:
        """See the class."""
        return map_blocks(body, self._reuse)

    def _reuse(self, block: Body) -> Body:
        written = stored_buffers(block) | {self.anew}
        numbers: Counter[str] = Counter()
        out: list[Stmt] = []
        part: list[Stmt] = []
        for stmt in block:
            part.append(stmt)
            if isinstance(stmt, Reload) or (isinstance(stmt, Barrier) and not self.across):
                out.extend(_reuse_within(part, written, numbers))
                part = []
        return (*out, *_reuse_within(part, written, numbers))


def _reuse_within(block: Sequence[Stmt], written: set[str], numbers: Counter[str]) -> list[Stmt]:
    """Binds the repeated loads of a part of a block; `numbers` counts the names given for each buffer."""
    counts: Counter[Expr] = Counter()
    for stmt in block:
        for expr in expressions(stmt):
            counts.update(_loads(expr, written))
    bound: dict[Expr, Ref] = {}
    out: list[Stmt] = []

    def rewrite(expr: Expr) -> Expr:
        if isinstance(expr, Load | Broadcast) and counts[expr] > 1:
            known = bound.get(expr)
            if known is None:
                load = expr if isinstance(expr, Load) else expr.arg
                buffer = load.buffer if isinstance(load, Load) else "v"
                known = Ref(f"{buffer}_r{numbers[buffer]}", expr.dtype, expr.lanes)
                numbers[buffer] += 1
                bound[expr] = known
                out.append(Let(known.name, expr))
            return known
        if isinstance(expr, Op) and expr.op in ("interleave", "join_words"):
            return expr
        return map_children(expr, rewrite)

    for stmt in block:
        if isinstance(stmt, For | If):
            out.append(stmt)
            continue
        binds = isinstance(stmt, Let) and counts[stmt.value] > 1 and stmt.value not in bound
        out.append(stmt if binds else map_expressions((stmt,), rewrite)[0])
        if isinstance(stmt, Let | Declare):
            # A name bound anew no longer stands for what it did.
            for value in [value for value, known in bound.items() if known.name == stmt.name]:
                del bound[value]
        if binds and isinstance(stmt, Let):
            bound[stmt.value] = Ref(stmt.name, stmt.value.dtype, stmt.value.lanes)
    return out


def _loads(expr: Expr, written: set[str]) -> list[Expr]:
    match expr:
        case Op(op="interleave" | "join_words"):
            return []
        case Load(buffer=buffer):
            return [] if buffer in written else [expr]
        case Broadcast(arg=Load(buffer=buffer)):
            return [] if buffer in written else [expr]
        case Broadcast(arg=Lane()):
            return []
    return [load for child in expr.children() for load in _loads(child, written)]
