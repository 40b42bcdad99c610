"""Sums of two rows side by side: products of matrices of bytes in place of grouped products, where the machine has them.

SMMLA adds to a 2 x 2 matrix of sums the product of two rows and two columns of eight terms each. The sums of four channels in
two rows, a and b, then lie in two registers as (a0 a1 b0 b1) and (a2 a3 b2 b3). Two locals whose values are sums of
grouped products by lane of the same second factors, two steps at a time, are kept in that form: exchanging halves turns one form into
the other, at the start and in the end. One instruction does the work of two grouped products.

Row: Key("mmla_s8", i32, 4). Source: SMMLA (vector) of DDI 0487.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgecc.backends.c.table import Key, Row
from edgecc.ir.types import DType
from edgecc.loop.ir import Assign, Body, Broadcast, Declare, Expr, Lane, Op, Ref, Stmt, bodies, subexpressions

ROW, LANES = "mmla_s8", 4


@dataclass(frozen=True)
class Step:
    """Two grouped products added to a sum: lanes `position` and the next of vector `x`, times `first` and `second`."""

    x: Expr
    position: int
    first: Expr
    second: Expr


def step_of(name: str, value: Expr) -> Step | None:
    """The step that is added to the sum `name`; None for other values."""
    match value:
        case Op(op="dot_s8", args=(Broadcast(arg=Lane(arg=Ref() as x, position=last)), second,
                                   Op(op="dot_s8", args=(Broadcast(arg=Lane(arg=Ref() as y, position=position)), first, Ref(name=total))))) if (
                total == name and x == y and x.lanes == LANES and value.lanes == LANES and position % 2 == 0 and last == position + 1):
            return Step(x, position, first, second)
    return None


def row_pairs(body: Body, has_row: Callable[[str, DType, int], bool]) -> dict[str, str]:
    """Pairs of sums declared in a block that are worth mixing: nothing but steps is added, each time to both with the same factors."""
    if not has_row(ROW, DType.I32, LANES):
        return {}
    places = {stmt.name: place for place, stmt in enumerate(body)
              if isinstance(stmt, Declare) and (stmt.value.dtype, stmt.value.lanes) == (DType.I32, LANES)}
    partners: dict[str, str] = {}
    alone: set[str] = set()
    _look(body, frozenset(places), partners, alone)
    started = next((place for place, stmt in enumerate(body) if not isinstance(stmt, Declare) and any(
        isinstance(inner, Assign) and inner.name in places for inner in _all((stmt,)))), len(body))
    return {a: b for a, b in partners.items() if not {a, b} & alone and max(places[a], places[b]) < started
            and not any(isinstance(stmt, Declare) and _reads(stmt.value, (a, b)) for stmt in body)}


def _reads(expr: Expr, names: Sequence[str]) -> bool:
    return any(isinstance(part, Ref) and part.name in names for part in subexpressions(expr))


def _all(stmts: Sequence[Stmt]) -> Iterator[Stmt]:
    for stmt in stmts:
        yield stmt
        for inner in bodies(stmt):
            yield from _all(inner)


def _look(block: Sequence[Stmt], names: frozenset[str], partners: dict[str, str], alone: set[str]) -> None:
    """Notes pairs of neighbouring steps with the same factors, and the sums that are not always in one."""
    waiting: tuple[str, Step] | None = None
    for stmt in block:
        for inner in bodies(stmt):
            _look(inner, names, partners, alone)
        if not isinstance(stmt, Assign) or stmt.name not in names:
            continue
        step = step_of(stmt.name, stmt.value)
        if waiting is not None:
            name, other = waiting
            same = step is not None and (other.position, other.first, other.second) == (step.position, step.first, step.second)
            if same and partners.setdefault(name, stmt.name) == stmt.name and list(partners.values()).count(stmt.name) == 1 \
                    and stmt.name not in partners:
                waiting = None
                continue
            alone.add(name)
        waiting = None if step is None else (stmt.name, step)
        if step is None:
            alone.add(stmt.name)
    if waiting is not None:
        alone.add(waiting[0])


def halves(first: str, second: str, number: int) -> str:
    """C text of the lower (1) or upper (2) halves of two vectors of sums: both forms from each other."""
    words = ", ".join(f"vreinterpretq_s64_s32({name})" for name in (first, second))
    return f"vreinterpretq_s32_s64(vzip{number}q_s64({words}))"


def neon_rows() -> Iterator[tuple[Key, Row]]:
    """The product: rows a and b of x in the halves of one vector, two columns of each pair of groups in another."""
    for number in (1, 2):
        rows = "vreinterpretq_s8_u64(vzip{3}q_u64(vreinterpretq_u64_u32({1}), vreinterpretq_u64_u32({2})))"
        columns = f"vreinterpretq_s8_u32(vzip{number}q_u32({{4}}, {{5}}))"
        yield Key(f"{ROW}:{number}", DType.I32, LANES), Row(f"EDGECC_KEEP_ORDER(vmmlaq_s32({{0}}, {rows}, {columns}))", ("neon", "i8mm"))
    yield Key(ROW, DType.I32, LANES), Row("", ("neon", "i8mm"))
