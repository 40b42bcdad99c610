"""hoist-invariants: moves loads that do not change out of a loop."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgecc.loop.ir import (
    Body,
    Expr,
    For,
    Function,
    If,
    Let,
    Load,
    Ref,
    Stmt,
    Store,
    map_children,
    subexpressions,
    walk,
)
from edgecc.loop.rewrite import local_names, map_expressions
from edgecc.passes.loop.base import LoopPass


@dataclass(frozen=True)
class HoistInvariants(LoopPass):
    """for i in 0..n: w_0 = w[0:4]; y[i] = w_0 * x[i]   ->   w_0 = w[0:4]; for i in 0..n: y[i] = w_0 * x[i]

    A `Let` moves in front of the loop when its value mentions neither the loop variable nor a local
    of the loop, and reads no buffer that the loop writes. Only for the loops over `loop`, and only
    where the extent is a constant above zero: a load must not run that did not run before.
    """

    name = "hoist-invariants"
    loop: str

    def rewrite(self, body: Body, function: Function) -> Body:
        """See the class."""
        taken = local_names(body)
        return self._visit(body, taken)

    def _visit(self, body: Body, taken: set[str]) -> Body:
        out: list[Stmt] = []
        for stmt in body:
            match stmt:
                case For(body=inner):
                    loop = replace(stmt, body=self._visit(inner, taken))
                    out.extend(_hoist(loop, taken) if loop.var == self.loop and loop.extent else (loop,))
                case If(then=then, orelse=orelse):
                    out.append(replace(stmt, then=self._visit(then, taken), orelse=self._visit(orelse, taken)))
                case _:
                    out.append(stmt)
        return tuple(out)


def _hoist(loop: For, taken: set[str]) -> list[Stmt]:
    written = {stmt.buffer for stmt in walk(loop.body) if isinstance(stmt, Store)}
    local = local_names(loop.body)
    hoisted: list[Stmt] = []
    kept: list[Stmt] = []
    for stmt in loop.body:
        if isinstance(stmt, Let) and _is_invariant(stmt.value, loop.var, local, written):
            hoisted.append(stmt)
            local.discard(stmt.name)
        else:
            kept.append(stmt)
    if not hoisted:
        return [loop]
    renames = {stmt.name: _fresh(stmt.name, taken) for stmt in hoisted if isinstance(stmt, Let)}

    def rename(expr: Expr) -> Expr:
        if isinstance(expr, Ref) and expr.name in renames:
            return replace(expr, name=renames[expr.name])
        return map_children(expr, rename)

    front = [Let(renames[s.name], rename(s.value)) for s in hoisted if isinstance(s, Let)]
    return [*front, replace(loop, body=map_expressions(tuple(kept), rename))]


def _fresh(name: str, taken: set[str]) -> str:
    """A name no local has yet: the loop's neighbours may hoist a local of the same name into the same block."""
    number = 0
    while f"{name}_fixed{number}" in taken:
        number += 1
    taken.add(f"{name}_fixed{number}")
    return f"{name}_fixed{number}"


def _is_invariant(value: Expr, variable: str, local: set[str], written: set[str]) -> bool:
    if value.mentions(variable):
        return False
    for part in subexpressions(value):
        if isinstance(part, Ref) and part.name in local:
            return False
        if isinstance(part, Load) and part.buffer in written:
            return False
    return True
