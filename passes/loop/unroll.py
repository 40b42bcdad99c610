"""unroll: replaces a loop of constant extent by copies of its body."""

from __future__ import annotations

from dataclasses import dataclass

from edgecc.errors import EdgeccError
from edgecc.loop.ir import Body, For, Function
from edgecc.loop.rewrite import copies, rewrite_loops
from edgecc.passes.loop.base import LoopPass

MAX_COPIES = 256
"""Bound on the copies of one loop, so that no schedule makes code grow without limit."""


@dataclass(frozen=True)
class Unroll(LoopPass):
    """for i in 0..3: S(i)   ->   S(0); S(1); S(2)

    Locals get the number of their copy as a suffix. Takes for granted that the extent is constant and
    at most `MAX_COPIES` (E900 otherwise).
    """

    name = "unroll"
    loop: str

    def rewrite(self, body: Body, function: Function) -> Body:
        """See the class."""
        return rewrite_loops(body, self.loop, lambda loop: tuple(s for copy in unrolled(loop) for s in copy))


def unrolled(loop: For) -> list[Body]:
    """The copies of a loop's body, one for each iteration."""
    extent = loop.extent
    if extent is None or extent > MAX_COPIES:
        raise EdgeccError("E900", f"loop {loop.var} with extent {extent} cannot be unrolled")
    return copies(loop, extent)
