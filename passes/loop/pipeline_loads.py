"""pipeline-loads: issues loads ahead of the multiply-adds that use them, across iterations too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from edgecc.loop.index import Index, minimum, var
from edgecc.loop.ir import (
    Assign,
    Barrier,
    Body,
    Comment,
    Declare,
    Expr,
    For,
    Function,
    Let,
    Load,
    Ref,
    Stmt,
    expressions,
    subexpressions,
)
from edgecc.loop.rewrite import instantiate, local_names, rewrite_loops, stored_buffers
from edgecc.passes.loop.base import LoopPass


@dataclass(frozen=True)
class PipelineLoads(LoopPass):
    """for k in 0..8: a = x[k]; b = w[2*k]; s += a*b; t += a*b; c = w[2*k+1]; s += a*c; t += a*c
       ->   var a = x[0]; var b = w[0]
            for k in 0..8: s += a*b; c = w[2*k+1]; t += a*b; s += a*c; b = w[2*min(k+1, 7)]; t += a*c; a = x[min(k+1, 7)]

    A core that issues in program order stands still when an instruction needs a load that has not
    arrived. Here every load stands one group of multiply-adds ahead of its use (software pipelining;
    Lam, PLDI 1988, for the general method). The loads at the start of the body move to the end of the
    iteration before, each behind the last use of the register it fills, so that no register more is
    needed. The last iteration loads its own operands again, which reads nothing that was not read anyway.

    Declines (the loop stays as it is): an extent that is not constant or below 2; statements other
    than loads bound by `Let` and assignments; loads of buffers the loop writes; a body without loads at
    its start or without assignments.
    """

    name = "pipeline-loads"
    loop: str

    def rewrite(self, body: Body, function: Function) -> Body:
        """See the class."""
        taken = local_names(body)
        return rewrite_loops(body, self.loop, lambda loop: _pipeline(loop, taken))


def _pipeline(loop: For, taken: set[str]) -> Body:
    stmts: Body = tuple(stmt for stmt in loop.body if not isinstance(stmt, Barrier | Comment))
    loads = sum(isinstance(stmt, Let) and isinstance(stmt.value, Load) for stmt in stmts)
    first = next((position for position, stmt in enumerate(stmts) if isinstance(stmt, Assign)), 0)
    extent = loop.extent or 0
    if extent < 2 or not first or loads + sum(isinstance(stmt, Assign) for stmt in stmts) != len(stmts) or stored_buffers(loop.body):
        return (loop,)
    # The registers live outside of the loop, where their names may have another meaning.
    renames = {stmt.name: _fresh(stmt.name, taken) for stmt in stmts[:first] if isinstance(stmt, Let)}
    stmts = instantiate(stmts, {}, renames)
    front = [stmt for stmt in stmts[:first] if isinstance(stmt, Let)]
    final = loop.start + (extent - 1) * loop.step
    now = [Declare(stmt.name, _at(stmt.value, loop.var, loop.start)) for stmt in front]
    again = [Assign(stmt.name, _at(stmt.value, loop.var, minimum(var(loop.var) + loop.step, final))) for stmt in front]
    return (*now, replace(loop, body=_spread(_groups(stmts[first:]), again)))


def _fresh(name: str, taken: set[str]) -> str:
    """A name no local has yet."""
    number = 0
    while f"{name}_ahead{number}" in taken:
        number += 1
    taken.add(f"{name}_ahead{number}")
    return f"{name}_ahead{number}"


def _at(value: Expr, variable: str, position: Index) -> Expr:
    """`value` where the loop variable has another value."""
    moved = instantiate((Let("_", value),), {variable: position}, {})[0]
    return moved.value if isinstance(moved, Let) else value


@dataclass
class _Group:
    """Loads, and the assignments up to the next load."""

    loads: list[Stmt]
    work: list[Stmt]


def _groups(stmts: Body) -> list[_Group]:
    groups = [_Group([], [])]
    for stmt in stmts:
        if isinstance(stmt, Let):
            if groups[-1].work:
                groups.append(_Group([], []))
            groups[-1].loads.append(stmt)
        else:
            groups[-1].work.append(stmt)
    return groups


def _spread(groups: list[_Group], again: list[Assign]) -> Body:
    """The body with the loads of each group among the work of the one before; `again` goes among the work of the last."""
    used_last = {name for stmt in groups[-1].work for name in _names(stmt)}
    pending = sorted(again, key=lambda load: load.name in used_last)
    out: list[Stmt] = []
    for group, following in pairwise(groups):
        ahead = list(following.loads)
        for stmt in group.work:
            out.append(stmt)
            if ahead:
                out.append(ahead.pop(0))
        out.extend(ahead)
    for position, stmt in enumerate(groups[-1].work):
        out.append(stmt)
        needed = {name for later in groups[-1].work[position + 1:] for name in _names(later)}
        ready = next((load for load in pending if load.name not in needed), None)
        if ready is not None:
            out.append(ready)
            pending.remove(ready)
    return (*out, *pending)


def _names(stmt: Stmt) -> set[str]:
    return {part.name for expr in expressions(stmt) for part in subexpressions(expr) if isinstance(part, Ref)}
