"""unroll: replaces a loop of constant extent by copies of its body."""

from __future__ import annotations

from dataclasses import dataclass

from edgecc.errors import EdgeccError
from edgecc.loop.ir import Barrier, Body, For, Function, Stmt
from edgecc.loop.rewrite import copies, rewrite_loops
from edgecc.passes.loop.base import LoopPass

MAX_COPIES = 256
"""Bound on the copies of one loop, so that no schedule makes code grow without limit."""


@dataclass(frozen=True)
class Unroll(LoopPass):
    """for i in 0..3: S(i)   ->   S(0); S(1); S(2)

    Locals get the number of their copy as a suffix. With `fence` a barrier stands between copies: some
    compilers gather the loads of all copies at the front, where there are not registers enough for
    them. Takes for granted that the extent is constant and
    at most `MAX_COPIES` (E900 otherwise).
    """

    name = "unroll"
    loop: str
    fence: int = 0

    def rewrite(self, body: Body, function: Function) -> Body:
        """See the class."""
        return rewrite_loops(body, self.loop, self._unroll)

    def _unroll(self, loop: For) -> Body:
        out: list[Stmt] = []
        for copy in unrolled(loop):
            if out and self.fence:
                out.append(Barrier())
            out.extend(copy)
        return tuple(out)


def unrolled(loop: For) -> list[Body]:
    """The copies of a loop's body, one for each iteration."""
    extent = loop.extent
    if extent is None or extent > MAX_COPIES:
        raise EdgeccError("E900", f"loop {loop.var} with extent {extent} cannot be unrolled")
    return copies(loop, extent)
