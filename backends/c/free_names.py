"""Names that a loop reads from outside of it."""

from __future__ import annotations

from collections.abc import Iterator

from edgecc.loop.index import Index, IndexOf, IndexOp, LoopVar
from edgecc.loop.ir import (
    Assign,
    Declare,
    Expr,
    For,
    FromIndex,
    If,
    Let,
    Load,
    Ref,
    Store,
    bodies,
    expressions,
    subexpressions,
)


def free_names(loop: For) -> Iterator[str]:
    """Every name of a buffer, parameter, local or loop variable that occurs in a loop, its limit apart."""
    yield from _index_names(loop.start)
    for stmt in loop.body:
        yield from _statement_names(stmt)


def _statement_names(stmt: object) -> Iterator[str]:
    match stmt:
        case Store(buffer=buffer, index=index):
            yield buffer
            yield from _index_names(index)
        case Assign(name=name):
            yield name
        case For(start=start, stop=stop):
            yield from _index_names(start)
            yield from _index_names(stop)
    if isinstance(stmt, For | Let | Declare | Assign | Store | If):
        for expr in expressions(stmt):
            yield from _expr_names(expr)
        for nested in bodies(stmt):
            for inner in nested:
                yield from _statement_names(inner)


def _expr_names(expr: Expr) -> Iterator[str]:
    for part in subexpressions(expr):
        match part:
            case Ref(name=name):
                yield name
            case Load(buffer=buffer, index=index):
                yield buffer
                yield from _index_names(index)
            case FromIndex(index=index):
                yield from _index_names(index)


def _index_names(index: Index) -> Iterator[str]:
    for atom, _ in index.terms:
        match atom:
            case LoopVar(name=name):
                yield name
            case IndexOf(expr=expr):
                yield from _expr_names(expr)
            case IndexOp(args=args):
                for arg in args:
                    yield from _index_names(arg)
