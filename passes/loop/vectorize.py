"""vectorize: replaces a short loop by vector operations."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgecc.errors import EdgeccError
from edgecc.loop.index import Index, mentions, substitute
from edgecc.loop.ir import (
    Assign,
    Barrier,
    Bitcast,
    Body,
    Broadcast,
    Cast,
    Comment,
    Const,
    Declare,
    Expr,
    For,
    FromIndex,
    Function,
    Horizontal,
    Let,
    Load,
    Op,
    Prefetch,
    Ref,
    Reload,
    Stmt,
    Store,
    map_children,
)
from edgecc.loop.rewrite import instantiate, interleave, local_names, rewrite_loops
from edgecc.passes.loop.base import LoopPass

MAX_CHUNKS = 32
"""Bound on the vectors one loop becomes, so that no schedule makes code grow without limit."""


@dataclass(frozen=True)
class Vectorize(LoopPass):
    """for i in 0..12: acc = b[i]; for k: acc += x[k] * w[12*k + i]; y[i] = acc
       ->   acc_0 = b[0:8]; acc_1 = b[8:12]; for k: (acc_0 += broadcast(x[k]) * w[12*k : 12*k+8]; acc_1 += ...);
            y[0:8] = acc_0; y[8:12] = acc_1

    Iterations become lanes: vectors of `lanes`, and for the rest the narrowest power of two that holds
    it but at least `narrowest`. In a vector that is not full only the valid lanes are loaded and
    stored, except for loads of the buffers named in `padded` ("a+b"), which hold whole vectors. The
    vectors run side by side in inner loops, as after `jam`. Locals bound in the loop become vectors
    where their value varies with i; what does not vary is broadcast.

    Takes for granted: a constant extent (at most `MAX_CHUNKS` vectors); independent iterations;
    addresses affine in i (E900 otherwise); no local from outside is assigned.
    """

    name = "vectorize"
    loop: str
    lanes: int
    narrowest: int = 1
    padded: str = ""

    def rewrite(self, body: Body, function: Function) -> Body:
        """See the class."""
        return rewrite_loops(body, self.loop, self._vectorize)

    def _vectorize(self, loop: For) -> Body:
        extent = loop.extent
        if extent is None or extent > MAX_CHUNKS * self.lanes or loop.step != 1:
            raise EdgeccError("E900", f"vectorize: loop {self.loop} has extent {extent}, lanes are {self.lanes}")
        padded = frozenset(filter(None, self.padded.split("+")))
        blocks: list[Body] = []
        names = sorted(local_names(loop.body))
        for position in range(0, extent, self.lanes):
            count = min(self.lanes, extent - position)
            lanes = self.lanes if count == self.lanes else min(self.lanes, max(self.narrowest, 1 << (count - 1).bit_length()))
            renames = {n: f"{n}_{len(blocks)}" for n in names} if extent > self.lanes else {}
            start = loop.start + position
            blocks.append(instantiate(_Vectorizer(loop.var, start, lanes, count, padded).body(loop.body), {}, renames))
        return interleave(blocks)


class _Vectorizer:
    """Turns iterations start .. start+count of a loop into one vector iteration."""

    def __init__(self, name: str, start: Index, lanes: int, count: int, padded: frozenset[str]) -> None:
        self.name = name
        self.start = start
        self.lanes = lanes
        self.valid = count if count < lanes else 0
        self.padded = padded
        self.varying: set[str] = set()

    def body(self, stmts: Body) -> Body:
        return tuple(self.statement(stmt) for stmt in stmts)

    def statement(self, stmt: Stmt) -> Stmt:
        match stmt:
            case Let(name=name, value=value):
                if not self.varies(value):
                    return stmt
                self.varying.add(name)
                return Let(name, self.vector(value))
            case Declare(name=name, value=value):
                self.varying.add(name)
                return Declare(name, self.vector(value))
            case Assign(name=name, value=value):
                if name not in self.varying:
                    raise EdgeccError("E900", f"vectorize: {name} is assigned in loop {self.name} but bound outside of it")
                return Assign(name, self.vector(value))
            case Store(index=index):
                stride = index.coefficient(self.name)
                if not stride:
                    raise EdgeccError("E900", f"vectorize: the address {index} of a store is not affine in {self.name}")
                return replace(stmt, index=self.base(index), value=self.vector(stmt.value), stride=stride, valid=self.valid)
            case For(start=start, stop=stop, body=body):
                if mentions(start, self.name) or mentions(stop, self.name):
                    raise EdgeccError("E900", f"vectorize: the bounds of loop {stmt.var} depend on {self.name}")
                return replace(stmt, body=self.body(body))
            case Prefetch(index=index) | Reload(index=index):
                return replace(stmt, index=self.base(index))
            case Barrier() | Comment():
                return stmt
        raise EdgeccError("E900", f"vectorize: cannot vectorize {type(stmt).__name__}")

    def base(self, index: Index) -> Index:
        return substitute(index, {self.name: self.start})

    def varies(self, expr: Expr) -> bool:
        match expr:
            case Ref(name=name):
                return name in self.varying
            case Load(index=index) | FromIndex(index=index):
                return mentions(index, self.name)
        return any(self.varies(child) for child in expr.children())

    def vector(self, expr: Expr) -> Expr:
        if self.lanes == 1:
            return self.single(expr)
        if isinstance(expr, Const):
            return replace(expr, lanes=self.lanes)
        if not self.varies(expr):
            return Broadcast(expr, self.lanes)
        match expr:
            case Ref():
                return replace(expr, lanes=self.lanes)
            case Load(index=index):
                stride = index.coefficient(self.name)
                if stride is None:
                    raise EdgeccError("E900", f"vectorize: the address {index} is not affine in {self.name}")
                valid = 0 if expr.buffer in self.padded else self.valid
                return replace(expr, index=self.base(index), lanes=self.lanes, stride=stride, valid=valid)
            case Op(args=args):
                return replace(expr, args=tuple(self.vector(a) for a in args), lanes=self.lanes)
            case Cast(arg=arg, dtype=dtype):
                return Cast(self.vector(arg), dtype)
            case Bitcast(arg=arg, dtype=dtype):
                return Bitcast(self.vector(arg), dtype)
        raise EdgeccError("E900", f"vectorize: cannot vectorize {type(expr).__name__} over {self.name}")

    def single(self, expr: Expr) -> Expr:
        match expr:
            case Load(index=index) | FromIndex(index=index):
                moved = self.base(index)
                return expr if moved is index else replace(expr, index=moved)
            case Op() | Cast() | Bitcast() | Horizontal():
                return map_children(expr, self.single)
        return expr
