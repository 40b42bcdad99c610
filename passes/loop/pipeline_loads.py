"""pipeline-loads: issues loads ahead of the multiply-adds that use them, across iterations too."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from edgecc.loop.index import Index, var
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
    """for k in 0..8: a = x[k]; b = w[2*k]; s += a*b; t += b*b; c = w[2*k+1]; s += a*c; t += c*c
       ->   var a = x[0]; var b = w[0]
            for k in 0..7: s += a*b; c = w[2*k+1]; t += b*b; s += a*c; b = w[2*k+2]; t += c*c; a = x[k+1]
            s += a*b; c = w[15]; t += b*b; s += a*c; t += c*c

    A core that issues in program order stands still when an instruction needs a load that has not
    arrived. Here every load stands `distance` assignments ahead of the first one behind it, one load
    after an assignment at most where there is room (software pipelining; Lam, PLDI 1988, for the general
    method). Loads for the first `distance` assignments move to the end of the iteration before, behind
    the last use of the register they fill, so that no register more is needed. The last iteration stands behind the
    loop and loads nothing for another one: addresses stay a pointer and a constant, where a limit would take a chain
    of instructions that everything waits for.

    Declines (the loop stays as it is): an extent that is not constant or below 2; statements other
    than loads bound by `Let` and assignments; loads of buffers the loop writes; no load in front of the
    first assignment.
    """

    name = "pipeline-loads"
    loop: str
    distance: int = 4

    def rewrite(self, body: Body, function: Function) -> Body:
        """See the class."""
        taken = local_names(body)
        return rewrite_loops(body, self.loop, lambda loop: _pipeline(loop, self.distance, taken))


def _pipeline(loop: For, distance: int, taken: set[str]) -> Body:
    stmts: Body = tuple(stmt for stmt in loop.body if not isinstance(stmt, Barrier | Comment))
    loads = sum(isinstance(stmt, Let) and isinstance(stmt.value, Load) for stmt in stmts)
    works = sum(isinstance(stmt, Assign) for stmt in stmts)
    extent = loop.extent or 0
    if extent < 2 or loads + works != len(stmts) or not works or isinstance(stmts[0], Assign) or stored_buffers(loop.body):
        return (loop,)
    # The registers live outside of the loop, where their names may have another meaning.
    early = [stmt.name for need, stmt in _needs(stmts) if need < distance]
    renames = {name: _fresh(name, taken) for name in early}
    stmts = instantiate(stmts, {}, renames)
    front = [(need, stmt) for need, stmt in _needs(stmts) if need < distance]
    final = loop.start + (extent - 1) * loop.step
    now = [Declare(stmt.name, _at(stmt.value, loop.var, loop.start)) for _, stmt in front]
    again = [(need, Assign(stmt.name, _at(stmt.value, loop.var, var(loop.var) + loop.step))) for need, stmt in front]
    own = {stmt.name: _fresh(stmt.name, taken) for need, stmt in _needs(stmts) if need >= distance}
    ahead = {stmt.name for _, stmt in front}
    rest = tuple(stmt for stmt in stmts if not (isinstance(stmt, Let) and stmt.name in ahead))
    last = instantiate(_spread(rest, [], distance), {loop.var: final}, own)
    return (*now, replace(loop, stop=final, body=_spread(stmts, again, distance)), *last)


def _needs(stmts: Body) -> list[tuple[int, Let]]:
    """Each load with the number of assignments in front of it."""
    out: list[tuple[int, Let]] = []
    works = 0
    for stmt in stmts:
        if isinstance(stmt, Let):
            out.append((works, stmt))
        else:
            works += 1
    return out


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


def _spread(stmts: Body, again: list[tuple[int, Assign]], distance: int) -> Body:
    """The body with its loads `distance` assignments ahead; `again` holds the loads for the next iteration's first ones."""
    works = [stmt for stmt in stmts if isinstance(stmt, Assign)]
    last_use = {name: position for position, stmt in enumerate(works) for name in _names(stmt)}
    behind: dict[int, list[Stmt]] = defaultdict(list)
    bound = len(works)
    for need, load in reversed(_needs(stmts)):
        if need >= distance:
            bound = max(0, min(need - distance, bound - 1))
            behind[bound].insert(0, load)
    pending = sorted(again, key=lambda item: (item[0], last_use.get(item[1].name, 0)))
    out: list[Stmt] = []
    for position, stmt in enumerate(works):
        out.append(stmt)
        out.extend(behind[position])
        ready = next((item for item in pending if last_use.get(item[1].name, 0) <= position), None)
        if ready is not None and position >= len(works) - distance and not behind[position]:
            out.append(ready[1])
            pending.remove(ready)
    return (*out, *(load for _, load in pending))


def _names(stmt: Assign) -> set[str]:
    return {part.name for expr in expressions(stmt) for part in subexpressions(expr) if isinstance(part, Ref)}
