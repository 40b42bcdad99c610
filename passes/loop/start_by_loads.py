"""start-by-loads: loads the start of every sum from memory instead of copying it from another register."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from edgecc.loop.ir import Body, Declare, Function, Load, Reload, Stmt
from edgecc.loop.rewrite import map_blocks
from edgecc.passes.loop.base import LoopPass


@dataclass(frozen=True)
class StartByLoads(LoopPass):
    """var s_0 = b[0:4]; var s_1 = b[0:4]; var t_0 = b[4:8]; var t_1 = b[4:8]
       ->   reload b[0]; var s_0 = b[0:4]; var t_0 = b[4:8]; reload b[0]; var s_1 = b[0:4]; var t_1 = b[4:8]

    Sums of one channel start with the same bias. Compilers load it once and copy it, with an instruction a sum that
    occupies a unit for arithmetic; loads occupy others, and two neighbouring ones are one instruction on machines that
    load pairs. Only neighbouring declarations of one block change places.

    Declines (the declarations stay as they are): a value that is not a load of `buffer`; no address occurs twice.
    """

    name = "start-by-loads"
    buffer: str

    def rewrite(self, body: Body, function: Function) -> Body:
        """See the class."""
        return map_blocks(body, self._block)

    def _block(self, block: Body) -> Body:
        out: list[Stmt] = []
        run: list[Declare] = []
        for stmt in block:
            if isinstance(stmt, Declare) and isinstance(stmt.value, Load) and stmt.value.buffer == self.buffer:
                run.append(stmt)
            else:
                out += [*self._rounds(run), stmt]
                run = []
        return (*out, *self._rounds(run))

    def _rounds(self, run: list[Declare]) -> list[Stmt]:
        """The declarations in rounds in which each address occurs once."""
        rounds: defaultdict[int, list[Declare]] = defaultdict(list)
        seen: defaultdict[Load, int] = defaultdict(int)
        for stmt in run:
            if isinstance(stmt.value, Load):
                rounds[seen[stmt.value]].append(stmt)
                seen[stmt.value] += 1
        if len(rounds) < 2:
            return list(run)
        reload = Reload(self.buffer, next(iter(seen)).index)
        out: list[Stmt] = []
        for number in sorted(rounds):
            out += [reload, *rounds[number]]
        return out
