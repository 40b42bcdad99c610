"""pair-loads: puts loads of neighbouring vectors side by side."""

from __future__ import annotations

from dataclasses import dataclass

from edgecc.loop.ir import Assign, Body, Declare, Function, Let, Load, Stmt
from edgecc.loop.rewrite import map_blocks, stored_buffers
from edgecc.passes.loop.base import LoopPass


@dataclass(frozen=True)
class PairLoads(LoopPass):
    """let w_0 = w[0:4]; s_0 += w_0 * x; let w_1 = w[4:8]; s_1 += w_1 * x
       ->   let w_0 = w[0:4]; let w_1 = w[4:8]; s_0 += w_0 * x; s_1 += w_1 * x

    Machines that load pairs take one instruction for both, which compilers find where nothing that stays in its place
    stands between the two. A vector waits in its register for what multiplies by the first.

    Declines (a load stays where it is): a buffer that the block writes; the vector behind it is not loaded next, or only
    after a statement of another kind than sums and bindings.
    """

    name = "pair-loads"
    buffer: str

    def rewrite(self, body: Body, function: Function) -> Body:
        """See the class."""
        return map_blocks(body, self._block)

    def _block(self, block: Body) -> Body:
        if self.buffer in stored_buffers(block):
            return block
        waiting, out = list(block), list[Stmt]()
        while waiting:
            stmt = waiting.pop(0)
            out.append(stmt)
            partner = self._partner(stmt, waiting)
            if partner is not None:
                out.append(waiting.pop(partner))
        return tuple(out)

    def _partner(self, first: Stmt, later: list[Stmt]) -> int | None:
        """Where the next load of the buffer stands in `later`, if it is of the neighbour of what `first` loads."""
        if not isinstance(first, Let) or not isinstance(first.value, Load) or first.value.buffer != self.buffer:
            return None
        for position, stmt in enumerate(later):
            if not isinstance(stmt, Let | Assign | Declare):
                return None
            match stmt:
                case Let(value=Load(buffer=self.buffer) as load):
                    is_next = load.index == first.value.index + first.value.lanes and load.lanes == first.value.lanes
                    return position if is_next else None
        return None
