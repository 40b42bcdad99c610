"""tile: splits a loop into blocks of constant size."""

from __future__ import annotations

from dataclasses import dataclass

from edgecc.errors import EdgeccError
from edgecc.loop.index import ZERO, const, var
from edgecc.loop.ir import Body, For, Function
from edgecc.loop.rewrite import instantiate, rewrite_loops
from edgecc.passes.loop.base import LoopPass


@dataclass(frozen=True)
class Tile(LoopPass):
    """for i in 0..n: S(i)   ->   for i_outer in 0..n/f: for i_inner in 0..f: S(i_outer*f + i_inner)
                                  for i_inner in 0..n%f: S(n - n%f + i_inner)

    The remainder is peeled, so both inner loops have constant extents; each part is left out where it
    is empty, and a single block needs no outer loop. A parallel loop hands its kind to the outer
    loop. Takes for granted that the extent is constant (E900 otherwise).
    """

    name = "tile"
    loop: str
    factor: int

    def rewrite(self, body: Body, function: Function) -> Body:
        """See the class."""
        return rewrite_loops(body, self.loop, self._tile)

    def _tile(self, loop: For) -> Body:
        extent = loop.extent
        if extent is None:
            raise EdgeccError("E900", f"tile: loop {self.loop} has no constant extent")
        outer, inner = f"{self.loop}_outer", f"{self.loop}_inner"
        blocks, rest = divmod(extent, self.factor)
        step = loop.step

        def block(base_var: bool, base: int, size: int, kind: str) -> For:
            position = loop.start + base * step + var(inner) * step
            if base_var:
                position = position + var(outer) * (self.factor * step)
            return For(inner, ZERO, const(size), instantiate(loop.body, {loop.var: position}, {}), kind=kind)

        out: list[For] = []
        if blocks > 1:
            out.append(For(outer, ZERO, const(blocks), (block(True, 0, self.factor, "serial"),), kind=loop.kind))
        elif blocks == 1:
            out.append(block(False, 0, self.factor, loop.kind))
        if rest:
            out.append(block(False, blocks * self.factor, rest, "serial"))
        return tuple(out)
