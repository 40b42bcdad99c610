"""parallelize: divides the outermost loops of a kernel among threads."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgecc.loop.index import ZERO, const, var
from edgecc.loop.ir import Assign, Body, For, Function, Stmt, walk
from edgecc.loop.rewrite import instantiate, local_names
from edgecc.passes.loop.base import LoopPass

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
    """

    name = "parallelize"
    threads: int

    def rewrite(self, body: Body, function: Function) -> Body:
        """See the class."""
        return tuple(self._divided(stmt) for stmt in body)

    def _divided(self, stmt: Stmt) -> Stmt:
        if not isinstance(stmt, For) or stmt.kind == "parallel" or _assigns_outside(stmt):
            return stmt
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
