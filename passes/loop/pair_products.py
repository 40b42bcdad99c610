"""pair-products: adds the products of two steps to a sum at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgecc.loop.dot import DOTS
from edgecc.loop.ir import (
    Assign,
    Barrier,
    Body,
    Declare,
    Function,
    Let,
    Load,
    Op,
    Ref,
    Reload,
    Stmt,
    Store,
    expressions,
    subexpressions,
)
from edgecc.loop.rewrite import map_blocks, stored_buffers
from edgecc.passes.loop.base import LoopPass


@dataclass(frozen=True)
class PairProducts(LoopPass):
    """s = dot(x0, w0, s); t = dot(y0, w0, t); s = dot(x1, w1, s); t = dot(y1, w1, t)
       ->   s = dot(x1, w1, dot(x0, w0, s)); t = dot(y1, w1, dot(y0, w0, t))

    Machines that multiply bytes into 16 bits add two such products there before they widen them to 32: three instructions
    for what takes four one by one (SMULL, SMLAL, SADALP).

    Declines (a step stays alone): the sum is read or begins anew between the two, or a loop or a branch stands there; the
    block writes a buffer that the products read.
    """

    name = "pair-products"

    def rewrite(self, body: Body, function: Function) -> Body:
        """See the class."""
        return map_blocks(body, self._block)

    def _block(self, block: Body) -> Body:
        written = stored_buffers(block)
        out: list[Stmt | None] = []
        waiting: dict[str, tuple[int, Op]] = {}  # sums whose last product is alone, where it stands, and it
        for stmt in block:
            product = _product(stmt)
            if product is None or any(isinstance(part, Load) and part.buffer in written for part in subexpressions(product)):
                if not isinstance(stmt, Let | Declare | Assign | Store | Reload | Barrier):
                    waiting.clear()
                for read in (part.name for top in expressions(stmt) for part in subexpressions(top) if isinstance(part, Ref)):
                    waiting.pop(read, None)
                if isinstance(stmt, Let | Declare | Assign):
                    waiting.pop(stmt.name, None)
                out.append(stmt)
                continue
            name = stmt.name if isinstance(stmt, Assign) else ""
            first = waiting.pop(name, None)
            if first is None:
                waiting[name] = len(out), product
                out.append(stmt)
            else:
                out[first[0]] = None
                out.append(Assign(name, replace(product, args=(*product.args[:2], first[1]))))
        return tuple(stmt for stmt in out if stmt is not None)


def _product(stmt: Stmt) -> Op | None:
    """The product of a statement s = dot(x, w, s) whose factors are no sums."""
    match stmt:
        case Assign(name=name, value=Op(op=op, args=(_, _, Ref(name=total))) as product) if op in DOTS and total == name:
            return product
    return None
