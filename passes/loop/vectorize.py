"""vectorize: replaces a short loop by vector operations."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgecc.errors import EdgeccError
from edgecc.loop.index import Index, mentions, substitute
from edgecc.loop.ir import (
    Assign,
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
    Let,
    Load,
    Op,
    Ref,
    Stmt,
    Store,
)
from edgecc.loop.rewrite import rewrite_loops
from edgecc.passes.loop.base import LoopPass


@dataclass(frozen=True)
class Vectorize(LoopPass):
    """for i in 0..n: acc = b[i]; for k: acc += x[k] * w[8*k + i]; y[i] = acc
       ->   acc = b[0:n]; for k: acc += broadcast(x[k]) * w[8*k : 8*k+n]; y[0:n] = acc

    One iteration becomes one lane. With n < lanes only n lanes are loaded and stored. Locals bound in
    the loop become vectors where their value varies with i; what does not vary is broadcast.

    Takes for granted: 0 < n <= lanes, constant; iterations are independent; addresses are affine in i
    (E900 otherwise); no local from outside is assigned.
    """

    name = "vectorize"
    loop: str
    lanes: int

    def rewrite(self, body: Body, function: Function) -> Body:
        """See the class."""
        if self.lanes == 1:
            return rewrite_loops(body, self.loop, lambda loop: (loop,) if loop.extent != 1 else _single(loop))
        return rewrite_loops(body, self.loop, self._vectorize)

    def _vectorize(self, loop: For) -> Body:
        extent = loop.extent
        if extent is None or not 0 < extent <= self.lanes or loop.step != 1:
            raise EdgeccError("E900", f"vectorize: loop {self.loop} has extent {extent}, lanes are {self.lanes}")
        return _Vectorizer(loop, self.lanes, extent).body(loop.body)


def _single(loop: For) -> Body:
    return _Vectorizer(loop, 1, 1).body(loop.body)


class _Vectorizer:
    def __init__(self, loop: For, lanes: int, extent: int) -> None:
        self.name = loop.var
        self.start = loop.start
        self.lanes = lanes
        self.valid = extent if extent < lanes else 0
        self.varying: set[str] = set()

    def body(self, stmts: Body) -> Body:
        return tuple(self.statement(stmt) for stmt in stmts)

    def statement(self, stmt: Stmt) -> Stmt:
        match stmt:
            case Let(name=name, value=value):
                if not self.varies(value):
                    return Let(name, self.scalar(value))
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
            case Comment():
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

    def scalar(self, expr: Expr) -> Expr:
        return expr

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
                return replace(expr, index=self.base(index), lanes=self.lanes, stride=stride, valid=self.valid)
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
                return replace(expr, index=self.base(index))
            case Op(args=args):
                return replace(expr, args=tuple(self.single(a) for a in args))
            case Cast(arg=arg, dtype=dtype):
                return Cast(self.single(arg), dtype)
            case Bitcast(arg=arg, dtype=dtype):
                return Bitcast(self.single(arg), dtype)
        return expr
