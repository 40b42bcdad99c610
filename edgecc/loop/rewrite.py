"""Rewriting of loop programs: what the loop passes share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from edgecc.errors import EdgeccError
from edgecc.ir.types import DType
from edgecc.loop.index import Index, substitute
from edgecc.loop.ir import (
    Assign,
    Barrier,
    Body,
    Cast,
    Const,
    Declare,
    Expr,
    For,
    FromIndex,
    If,
    Let,
    Load,
    Op,
    Prefetch,
    Ref,
    Reload,
    Stmt,
    Store,
    map_children,
    walk,
)


def rewrite_loops(body: Body, name: str, rewrite: Callable[[For], Body]) -> Body:
    """Replaces every loop over variable `name`, wherever it stands, by what `rewrite` returns for it.

    Loops found inside a replaced loop are not visited again.
    """
    out: list[Stmt] = []
    for stmt in body:
        match stmt:
            case For(var=var) if var == name:
                out.extend(rewrite(stmt))
            case For(body=inner):
                new = rewrite_loops(inner, name, rewrite)
                out.append(stmt if new is inner else replace(stmt, body=new))
            case If(then=then, orelse=orelse):
                out.append(replace(stmt, then=rewrite_loops(then, name, rewrite), orelse=rewrite_loops(orelse, name, rewrite)))
            case _:
                out.append(stmt)
    if len(out) == len(body) and all(a is b for a, b in zip(out, body, strict=True)):
        return body
    return tuple(out)


def map_blocks(body: Body, rewrite: Callable[[Body], Body]) -> Body:
    """Applies `rewrite` to every block of statements, inner blocks before the one around them."""
    out: list[Stmt] = []
    for stmt in body:
        match stmt:
            case For(body=inner):
                out.append(For(stmt.var, stmt.start, stmt.stop, map_blocks(inner, rewrite), stmt.step, stmt.kind))
            case If(then=then, orelse=orelse):
                out.append(If(stmt.condition, map_blocks(then, rewrite), map_blocks(orelse, rewrite)))
            case _:
                out.append(stmt)
    return rewrite(tuple(out))


def map_expressions(body: Body, rewrite: Callable[[Expr], Expr]) -> Body:
    """Applies `rewrite` to each expression that stands in a statement (to its root only)."""
    out: list[Stmt] = []
    for stmt in body:
        match stmt:
            case Let(value=value) | Declare(value=value) | Assign(value=value) | Store(value=value):
                new = rewrite(value)
                out.append(stmt if new is value else replace(stmt, value=new))
            case For(body=inner):
                out.append(For(stmt.var, stmt.start, stmt.stop, map_expressions(inner, rewrite), stmt.step, stmt.kind))
            case If(condition=condition, then=then, orelse=orelse):
                out.append(If(rewrite(condition), map_expressions(then, rewrite), map_expressions(orelse, rewrite)))
            case _:
                out.append(stmt)
    return tuple(out)


def bound_before(block: Body, lets: Mapping[int, Sequence[Let]], rewrite: Callable[[Expr], Expr]) -> Body:
    """`block` with `lets` before the statements of these positions and `rewrite` applied to its own expressions, not to those of
    loops and branches in it."""
    out: list[Stmt] = []
    for position, stmt in enumerate(block):
        out.extend(lets.get(position, ()))
        out.append(stmt if isinstance(stmt, For | If) else map_expressions((stmt,), rewrite)[0])
    return tuple(out)


def local_names(body: Body) -> set[str]:
    """Names of all locals bound or declared in the body, nested ones included."""
    return {stmt.name for stmt in walk(body) if isinstance(stmt, Let | Declare)}


def instantiate(body: Body, variables: Mapping[str, Index], renames: Mapping[str, str]) -> Body:
    """A copy of `body` with loop variables replaced by indices and locals renamed."""
    if not variables and not renames:
        return body

    def on_expr(expr: Expr) -> Expr:
        match expr:
            case Ref(name=name):
                new = renames.get(name)
                return expr if new is None else Ref(new, expr.dtype, expr.lanes)
            case Load(index=index):
                moved = on_index(index)
                return expr if moved is index else Load(expr.buffer, moved, expr.dtype, expr.lanes, expr.stride, expr.valid)
            case FromIndex(index=index):
                moved = on_index(index)
                return expr if moved is index else replace(expr, index=moved)
        return map_children(expr, on_expr)

    def on_index(index: Index) -> Index:
        return substitute(index, variables, on_expr)

    def on_body(stmts: Body) -> Body:
        out: list[Stmt] = []
        for stmt in stmts:
            match stmt:
                case Let(name=name, value=value):
                    out.append(Let(renames.get(name, name), on_expr(value)))
                case Declare(name=name, value=value):
                    out.append(Declare(renames.get(name, name), on_expr(value)))
                case Assign(name=name, value=value):
                    out.append(Assign(renames.get(name, name), on_expr(value)))
                case Store(index=index, value=value):
                    out.append(Store(stmt.buffer, on_index(index), on_expr(value), stmt.stride, stmt.valid))
                case Prefetch(index=index) | Reload(index=index):
                    out.append(replace(stmt, index=on_index(index)))
                case For(start=start, stop=stop, body=inner):
                    out.append(For(stmt.var, on_index(start), on_index(stop), on_body(inner), stmt.step, stmt.kind))
                case If(condition=condition, then=then, orelse=orelse):
                    out.append(If(on_expr(condition), on_body(then), on_body(orelse)))
                case _:
                    out.append(stmt)
        return tuple(out)

    return on_body(body)


def copies(loop: For, extent: int) -> list[Body]:
    """The bodies of a loop of constant extent, one for each iteration, with locals made distinct by a suffix."""
    names = sorted(local_names(loop.body))
    out = []
    for i in range(extent):
        renames = {n: f"{n}_{i}" for n in names} if extent > 1 else {}
        out.append(instantiate(loop.body, {loop.var: loop.start + i * loop.step}, renames))
    return out


def stored_buffers(stmts: Iterable[Stmt]) -> set[str]:
    """Names of the buffers that the statements write, nested ones included."""
    return {stmt.buffer for stmt in walk(tuple(stmts)) if isinstance(stmt, Store)}


def joined_by_shift(words: Op) -> Op:
    """join_words(a, b)   ->   a & 0xFFFF | b << 16, in numbers of 32 bits, for machines that have no other way."""
    low, high = (Cast(Cast(arg, DType.I32), DType.U32) for arg in words.args)

    def word(op: str, value: Expr, number: int) -> Op:
        return Op(op, (value, Const(number, DType.U32, words.lanes)), DType.U32, words.lanes)

    lower = word("bit_and", low, 0xFFFF) if words.args[0].dtype.is_signed else low
    return Op("bit_or", (lower, word("shift_left", high, 16)), DType.U32, words.lanes)


def interleave(blocks: list[Body]) -> Body:
    """Runs independent copies of one body side by side: statement by statement, and in shared inner loops.

    Raises: EdgeccError E900 where the copies of an inner loop have different bounds.
    """
    if len(blocks) == 1:
        return blocks[0]
    out: list[Stmt] = []
    for row in zip(*blocks, strict=True):
        first = row[0]
        if isinstance(first, For):
            loops = [stmt for stmt in row if isinstance(stmt, For)]
            if len(loops) != len(row) or any((s.start, s.stop, s.step) != (first.start, first.stop, first.step) for s in loops):
                raise EdgeccError("E900", f"the copies of loop {first.var} have different bounds")
            out.append(replace(first, body=interleave([s.body for s in loops])))
        elif isinstance(first, If):
            raise EdgeccError("E900", "a conditional cannot be shared by copies")
        else:
            # Copies that prefetch the same element need it once, and one barrier stands for all.
            out.extend(dict.fromkeys(row) if isinstance(first, Prefetch | Barrier | Reload) else row)
    return tuple(out)


def distinct_locals(body: Body) -> Body:
    """Renames locals so that none has the name of another one that is visible where it is bound.

    Passes bind freely inside blocks; a name may then stand for one local in a loop and for another
    around it, or for two in turn in one block. Lexically that is clear, in C it is not allowed.
    """

    def visit(stmts: Body, visible: frozenset[str], renames: Mapping[str, str]) -> Body:
        names, current = set(visible), dict(renames)
        out: list[Stmt] = []

        def bind(name: str) -> str:
            new, number = name, 1
            while new in names:
                number += 1
                new = f"{name}_v{number}"
            names.add(new)
            if new == name:
                current.pop(name, None)
            else:
                current[name] = new
            return new

        for stmt in stmts:
            match stmt:
                case Let(name=name) | Declare(name=name):
                    moved = instantiate((stmt,), {}, current)[0]
                    new = bind(name)
                    out.append(replace(moved, name=new) if isinstance(moved, Let | Declare) and moved.name != new else moved)
                case For(body=inner):
                    head = instantiate((replace(stmt, body=()),), {}, current)[0] if current else stmt
                    out.append(replace(head, body=visit(inner, frozenset(names), current)) if isinstance(head, For) else head)
                case If(then=then, orelse=orelse):
                    head = instantiate((replace(stmt, then=(), orelse=()),), {}, current)[0]
                    scope = frozenset(names)
                    out.append(replace(head, then=visit(then, scope, current), orelse=visit(orelse, scope, current))
                               if isinstance(head, If) else head)
                case _:
                    out.extend(instantiate((stmt,), {}, current))
        return tuple(out)

    return visit(body, frozenset(), {})
