"""tile: splits a loop into blocks of constant size."""

from __future__ import annotations

from dataclasses import dataclass

from edgecc.errors import EdgeccError
from edgecc.loop.index import ZERO, const, var
from edgecc.loop.ir import Body, For, Function
from edgecc.loop.rewrite import instantiate, rewrite_loops
from edgecc.loop.split import balanced_parts
from edgecc.passes.loop.base import LoopPass


@dataclass(frozen=True)
class Tile(LoopPass):
    """for i in 0..n: S(i)   ->   for i_outer in 0..n/f: for i_inner in 0..f: S(i_outer*f + i_inner)
                                  for i_inner in 0..n%f: S(n - n%f + i_inner)

    The remainder is peeled, so both inner loops have constant extents; each part is left out where it
    is empty, and a single block needs no outer loop. With `balanced` the blocks are of two sizes that
    differ by one, f at most: 10 by 4 is 4 + 3 + 3 instead of 4 + 4 + 2. A parallel loop hands its kind
    to the outer loop.

    Where the run decides on the extent, whole blocks are tiled as far as they go; what is left goes in blocks of `rest`,
    if given, and then one by one in a loop `<loop>_rest`. Takes for granted that the step is 1 then.
    """

    name = "tile"
    loop: str
    factor: int
    balanced: int = 0
    rest: int = 0

    def rewrite(self, body: Body, function: Function) -> Body:
        """See the class."""
        return rewrite_loops(body, self.loop, self._tile)

    def _tile(self, loop: For) -> Body:
        extent = loop.extent
        if extent is None:
            return self._open(loop)
        outer, inner = f"{self.loop}_outer", f"{self.loop}_inner"
        blocks, rest = divmod(extent, self.factor)
        parts = balanced_parts(extent, self.factor) if self.balanced else ((self.factor, blocks), (rest, 1 if rest else 0))
        step = loop.step
        out: list[For] = []
        base = 0
        for number, (size, count) in enumerate(parts):
            if not count:
                continue
            kind = loop.kind if number == 0 or self.balanced else "serial"
            position = loop.start + base * step + var(inner) * step
            if count > 1:
                position = position + var(outer) * (size * step)
            block = For(inner, ZERO, const(size), instantiate(loop.body, {loop.var: position}, {}),
                        kind="serial" if count > 1 else kind)
            out.append(For(outer, ZERO, const(count), (block,), kind=kind) if count > 1 else block)
            base += size * count
        return tuple(out)

    def _open(self, loop: For) -> Body:
        """The loop for an extent that the run decides on."""
        if loop.step != 1:
            raise EdgeccError("E900", f"tile: loop {self.loop} has neither a constant extent nor steps of 1")
        outer, inner = f"{self.loop}_outer", f"{self.loop}_inner"
        out: list[For] = []
        start = loop.start
        for factor in dict.fromkeys(f for f in (self.factor, self.rest) if 1 < f <= self.factor):
            blocks = (loop.stop - start).floordiv(factor)
            position = start + var(outer) * factor + var(inner)
            block = For(inner, ZERO, const(factor), instantiate(loop.body, {loop.var: position}, {}))
            out.append(For(outer, ZERO, blocks, (block,)))
            start = start + blocks * factor
        name = f"{self.loop}_rest"
        out.append(For(name, start, loop.stop, instantiate(loop.body, {loop.var: var(name)}, {})))
        return tuple(out)
