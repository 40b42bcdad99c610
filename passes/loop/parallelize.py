"""parallelize: divides the outermost loops of a kernel among threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgecc.loop.index import ZERO, const, var
from edgecc.loop.ir import Assign, Body, For, Function, Load, Stmt, expressions, subexpressions, walk
from edgecc.loop.rewrite import instantiate, local_names, stored_buffers
from edgecc.passes.loop.base import LoopPass

PART = "part_of_thread"
"""The variable of a loop over threads."""
SHARE = "share_of_thread"
"""That of a loop over threads inside which another loop is divided."""

WASTE = 1.04
"""A division is good enough where the busiest thread has at most so many times its fair share."""


@dataclass(frozen=True)
class Parallelize(LoopPass):
    """for p in 0..3: for r in 0..7: ...   ->   parallel for p_r in 0..21: ... p = p_r / 7, r = p_r % 7

    Every loop at the top level that has more than one iteration becomes parallel. Threads take equal shares of the
    iterations; where these do not divide well (three panels, two threads) the loop is joined with the loop inside it,
    if that is all its body holds, level by level until they do. Takes for granted that iterations of all the loops it
    joins are independent; the kernel that names this pass knows. Loops that assign registers of the code around them
    (sums) and loops with bounds that are not constant stay serial.

    Where a loop named `inside` stands alone in the bodies of those around it and divides well, it is divided instead, and each thread runs the
    others as a whole:

    for p in 0..4: for r in 0..56: ...   ->   parallel for part in 0..2: for p in 0..4: for r in 28*part..28*part + 28: ...

    Handing a loop to threads and waiting for them takes a microsecond or two. Neighbouring loops of which none reads what
    another one writes are therefore handed out together, each thread with its share of each; the kernel knows that no
    element is written by two of them:

    parallel for p in 0..8: A; parallel for q in 0..6: B
       ->   parallel for part in 0..2: (for p in 4*part..4*part + 4: A; for q in 3*part..3*part + 3: B)
    """

    name = "parallelize"
    threads: int
    inside: str = ""

    def rewrite(self, body: Body, function: Function) -> Body:
        """See the class."""
        out: list[Stmt] = []
        group: list[For] = []
        for stmt in (*(self._divided(stmt) for stmt in body), None):
            if isinstance(stmt, For) and stmt.kind == "parallel" and _is_plain(stmt) and _independent(stmt, group):
                group.append(stmt)
                continue
            out.extend(self._together(group))
            group = []
            if isinstance(stmt, For) and stmt.kind == "parallel" and _is_plain(stmt):
                group = [stmt]
            elif stmt is not None:
                out.append(stmt)
        return tuple(out)

    def _together(self, group: list[For]) -> list[For]:
        """Loops as one; what does not divide evenly goes to the last threads and to the first ones in turn."""
        if len(group) < 2:
            return group
        part = var(PART)
        shares: list[Stmt] = []
        rounding = 0
        for loop in group:
            extent = loop.extent or 0
            start, stop = ((position * extent + rounding).floordiv(self.threads) for position in (part, part + 1))
            shares.append(replace(loop, start=start, stop=stop, kind="serial"))
            if extent % self.threads:
                rounding = self.threads - 1 - rounding
        return [For(PART, ZERO, const(self.threads), tuple(shares), kind="parallel")]

    def _divided(self, stmt: Stmt) -> Stmt:
        if not isinstance(stmt, For) or stmt.kind == "parallel" or _assigns_outside(stmt):
            return stmt
        shared = self._inside(stmt)
        if shared is not None:
            return For(SHARE, ZERO, const(self.threads), (shared,), kind="parallel")
        best, loop = stmt, stmt
        while _waste(loop, self.threads) > WASTE:
            joined = _joined(loop)
            if joined is None:
                break
            loop = joined
            if _waste(loop, self.threads) < _waste(best, self.threads):
                best = loop
        if not best.start.is_const or (best.extent or 0) < 2:
            return stmt
        return replace(best, kind="parallel")

    def _inside(self, loop: For) -> For | None:
        """The nest with the share of a thread of the loop that is to be divided; None where the loop is the outermost or cannot be divided."""
        inner = loop.body[0] if len(loop.body) == 1 else None
        if not self.inside or not isinstance(inner, For) or not _is_plain(loop):
            return None
        if inner.var != self.inside:
            nest = self._inside(inner)
        elif _is_plain(inner) and _waste(inner, self.threads) <= WASTE:
            start, stop = ((position * (inner.extent or 0)).floordiv(self.threads) for position in (var(SHARE), var(SHARE) + 1))
            nest = replace(inner, start=start, stop=stop)
        else:
            nest = None
        return None if nest is None else replace(loop, body=(nest,))


def _independent(loop: For, others: Sequence[For]) -> bool:
    """Whether a loop reads nothing that others write, nor the reverse."""
    return bool(others) and all(stored_buffers([a]).isdisjoint(_loaded(b)) for other in others for a, b in ((loop, other), (other, loop)))


def _loaded(loop: For) -> set[str]:
    return {part.buffer for stmt in walk((loop,)) for expr in expressions(stmt) for part in subexpressions(expr) if isinstance(part, Load)}


def _assigns_outside(loop: For) -> bool:
    """Whether an iteration changes a register that another one reads."""
    return not {stmt.name for stmt in walk(loop.body) if isinstance(stmt, Assign)} <= local_names(loop.body)


def _waste(loop: For, threads: int) -> float:
    """The share of the busiest thread over a fair share."""
    extent = loop.extent
    if not extent:
        return float(threads)
    return -(-extent // threads) * threads / extent


def _joined(loop: For) -> For | None:
    """The loop and the one inside it as one loop; None where there is more in the body, or bounds are not plain."""
    inner = loop.body[0] if len(loop.body) == 1 else None
    if not isinstance(inner, For) or not _is_plain(loop) or not _is_plain(inner):
        return None
    outer_extent, inner_extent = loop.extent or 0, inner.extent or 0
    name = f"{loop.var}_{inner.var}"
    position = var(name)
    body = instantiate(inner.body, {loop.var: position.floordiv(inner_extent), inner.var: position.mod(inner_extent)}, {})
    return For(name, ZERO, const(outer_extent * inner_extent), body)


def _is_plain(loop: For) -> bool:
    return loop.start == ZERO and loop.stop.is_const and loop.step == 1 and (loop.extent or 0) > 0
