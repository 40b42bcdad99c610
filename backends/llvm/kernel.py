"""Statements and functions of the Loop IR as LLVM functions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from edgecc.backends.c.names import comment_text
from edgecc.backends.c.saturating import stores_together
from edgecc.backends.llvm.expression import ExpressionWriter
from edgecc.backends.llvm.parallel import BodyOf, attributes, divide
from edgecc.backends.llvm.scope import Local, Scope
from edgecc.backends.llvm.stores import joins, write_stores
from edgecc.backends.llvm.types import memory_type, register_type
from edgecc.backends.llvm.writer import Shared, Writer
from edgecc.errors import EdgeccError
from edgecc.loop.index import Index
from edgecc.loop.ir import (
    Assign,
    Barrier,
    Body,
    Comment,
    Declare,
    For,
    Function,
    If,
    Let,
    Prefetch,
    Reload,
    Stmt,
    Store,
    walk,
)
from edgecc.loop.math import MathFunction, definition


class BodyWriter:
    """Writes statements. Registers are values of their own after each assignment, with a phi where control flow joins."""

    def __init__(self, writer: Writer) -> None:
        self.w = writer

    def body(self, body: Body, scope: Scope) -> None:
        """Writes statements into a block whose scope is `scope`; it is extended by what they bind."""
        for is_store, stmts in itertools.groupby(stores_together(body, joins(self.w.machine)), lambda stmt: isinstance(stmt, Store)):
            if is_store:
                write_stores(self.expressions(scope), [stmt for stmt in stmts if isinstance(stmt, Store)])
                continue
            for stmt in stmts:
                self._statement(stmt, scope)

    def expressions(self, scope: Scope) -> ExpressionWriter:
        """The writer of expressions at this point."""
        return ExpressionWriter(self.w, scope, self._math)

    def _math(self, op: str, lanes: int) -> str:
        name = f"edgecc_{op}_f32" + (f"x{lanes}" if lanes > 1 else "")
        return self.w.shared.helper(name, lambda: _math_text(self.w.shared, definition(op, lanes, tables=self.w.machine.isa.has_tables(lanes)), name))

    def _statement(self, stmt: object, scope: Scope) -> None:
        w, printer = self.w, self.expressions(scope)
        match stmt:
            case For():
                self.loop(stmt, scope)
            case Let(name=name, value=value) | Declare(name=name, value=value):
                scope.bind(name, Local(printer.expr(value), value.dtype, value.lanes))
            case Assign(name=name, value=value):
                scope.local(name).text = printer.expr(value)
            case If():
                self._if(stmt, scope)
            case Barrier():
                w.emit('call void asm sideeffect "", "~{memory}"()')
            case Reload(buffer=buffer, index=index):
                pointer = printer.pointer(buffer, index)
                scope.pointers.setdefault(buffer, {})[index] = w.let(f'call ptr asm sideeffect "", "=r,0"(ptr {pointer})', f"{buffer}_at")
            case Prefetch(buffer=buffer, index=index):
                self._prefetch(buffer, index, scope)
            case Comment(text=text):
                w.comment(text)
            case _:
                raise EdgeccError("E900", f"LLVM back end: no statement {type(stmt).__name__}")

    def _prefetch(self, buffer: str, index: Index, scope: Scope) -> None:
        """The address may lie outside of the buffer, so it is computed without promises."""
        kind, base = memory_type(scope.buffer_type(buffer)), scope.local(buffer).text
        place = self.w.let(f"getelementptr {kind}, ptr {base}, i64 {self.expressions(scope).index(index)}", f"{buffer}_at")
        self.w.call_void("llvm.prefetch.p0", ("ptr", place), ("i32", "0"), ("i32", "3"), ("i32", "1"))

    def loop(self, loop: For, scope: Scope, bounds: Callable[[ExpressionWriter], tuple[str, str]] | None = None) -> None:
        """Writes a loop; `bounds` gives its first value and its limit, if those are not its own."""
        w, printer = self.w, self.expressions(scope)
        low = printer.low(loop.start)
        start, stop = (printer.index(loop.start), printer.index(loop.stop)) if bounds is None else bounds(printer)
        head, body, done = (w.fresh(f"{loop.var}_{part}") for part in ("loop", "body", "done"))
        before = w.block
        w.emit(f"br label %{head}")
        w.start(head)
        count, place = f"%{w.fresh(loop.var)}", w.reserve()
        registers = [(local, local.text, f"%{w.fresh(name)}", w.reserve()) for name, local in _assigned((loop.body,), scope)]
        for local, _, phi, _ in registers:
            local.text = phi
        inside = w.op("icmp slt", "i64", count, stop)
        w.emit(f"br i1 {inside}, label %{body}, label %{done}")
        w.start(body)
        inner = scope.nested()
        inner.bind(loop.var, Local(count, low=low))
        self.body(loop.body, inner)
        following = w.op("add nsw", "i64", count, str(loop.step))
        w.emit(f"br label %{head}")
        w.fill(place, f"{count} = phi i64 [ {start}, %{before} ], [ {following}, %{w.block} ]")
        for local, first, phi, slot in registers:
            w.fill(slot, f"{phi} = phi {self._kind(local)} [ {first}, %{before} ], [ {local.text}, %{w.block} ]")
            local.text = phi
        w.start(done)

    def _if(self, stmt: If, scope: Scope) -> None:
        w = self.w
        condition = self.expressions(scope).expr(stmt.condition)
        then, orelse, done = (w.fresh(part) for part in ("then", "else", "end"))
        assigned = [local for _, local in _assigned((stmt.then, stmt.orelse), scope)]
        first = [local.text for local in assigned]
        w.emit(f"br i1 {condition}, label %{then}, label %{orelse if stmt.orelse else done}")
        ends = [(w.block, first)]
        for label, body in ((then, stmt.then), (orelse, stmt.orelse)):
            if label == orelse and not body:
                break
            for local, text in zip(assigned, first, strict=True):
                local.text = text
            w.start(label)
            self.body(body, scope.nested())
            ends.append((w.block, [local.text for local in assigned]))
            w.emit(f"br label %{done}")
        joined = ends[1:] if stmt.orelse else ends
        w.start(done)
        for number, local in enumerate(assigned):
            listed = ", ".join(f"[ {texts[number]}, %{block} ]" for block, texts in joined)
            local.text = w.let(f"phi {self._kind(local)} {listed}")

    def _kind(self, local: Local) -> str:
        if local.dtype is None:
            raise EdgeccError("E900", "LLVM back end: a loop variable is assigned")
        return register_type(self.w.machine.isa, local.dtype, local.lanes)


def _assigned(bodies: Sequence[Body], scope: Scope) -> list[tuple[str, Local]]:
    """The registers in scope that statements assign, each once."""
    found: dict[str, Local] = {}
    for body in bodies:
        for stmt in walk(body):
            if isinstance(stmt, Assign) and stmt.name in scope.names:
                found[stmt.name] = scope.names[stmt.name]
    return list(found.items())


# -- functions ------------------------------------------------------------------------------------


def function_text(function: Function, shared: Shared, symbol: str, *, locs: Sequence[str] = (), linkage: str = "hidden", threads: int = 1) -> str:
    """A kernel as the LLVM function `symbol`, whose parameters are the buffers and then the integers it is given.

    Parallel loops are divided among `threads`; with one of them iterations run one after the other. `locs` are names of model
    nodes for the comment.
    """
    writer = Writer(shared)
    names: dict[str, Local] = {}
    parameters = []
    for buffer in function.buffers:
        text = f"%{writer.fresh(buffer.name)}"
        names[buffer.name] = Local(text, buffer.dtype)
        parameters.append(f"{attributes(buffer)} {text}")
    for parameter in function.parameters:
        text = f"%{writer.fresh(parameter.name)}"
        names[parameter.name] = Local(text, low=parameter.minimum)
        parameters.append(f"i64 {text}")
    scope, parts = Scope(names), list[str]()
    buffers = {buffer.name: buffer for buffer in function.buffers}
    loops = [stmt for stmt in function.body if isinstance(stmt, For) and stmt.kind == "parallel" and threads > 1]
    contexts = [writer.reserve() for _ in loops]
    serial: list[Stmt] = []
    for stmt in function.body:
        if not isinstance(stmt, For) or not any(stmt is loop for loop in loops):
            serial.append(stmt)
            continue
        BodyWriter(writer).body(tuple(serial), scope)
        serial, number = [], len(parts)
        parts.append(divide(BodyWriter(writer).expressions(scope), stmt, buffers, f"{symbol}_part{number or ''}", threads, contexts[number],
                            _loop_writer(stmt)))
    BodyWriter(writer).body(tuple(serial), scope)
    writer.emit("ret void")
    definition = f"{_comment(function, locs)}define {linkage} void @{symbol}({', '.join(parameters)}) #0 {{\n{writer.text}}}\n"
    return "\n".join([*parts, definition])


def _loop_writer(loop: For) -> BodyOf:
    return lambda writer, scope, bounds: BodyWriter(writer).loop(loop, scope, bounds)


def _comment(function: Function, locs: Sequence[str]) -> str:
    lines = [comment_text(function.doc)] if function.doc else []
    if locs:
        more = f" and {len(locs) - 8} more" if len(locs) > 8 else ""
        lines.append(f"nodes: {', '.join(comment_text(loc) for loc in locs[:8])}{more}")
    lines += [f"{comment_text(b.name)}: {b.role}, {b.elements} x {b.dtype.value}" for b in function.buffers]
    lines += [f"{comment_text(p.name)}: from {p.minimum} to {p.maximum}" for p in function.parameters]
    return "".join(f"; {line}\n" for line in lines)


def _math_text(shared: Shared, function: MathFunction, name: str) -> str:
    """A mathematical function as an internal function."""
    writer = Writer(shared)
    isa = shared.machine.isa
    names: dict[str, Local] = {}
    parameters = []
    for parameter in function.params:
        text = f"%{writer.fresh(parameter.name)}"
        names[parameter.name] = Local(text, parameter.dtype, parameter.lanes)
        parameters.append(f"{register_type(isa, parameter.dtype, parameter.lanes)} {text}")
    body, scope = BodyWriter(writer), Scope(names)
    body.body(function.statements, scope)
    result = register_type(isa, function.result.dtype, function.result.lanes)
    writer.emit(f"ret {result} {body.expressions(scope).expr(function.result)}")
    comment = f"; {comment_text(function.doc)}\n" if function.doc else ""
    return f"{comment}define internal {result} @{name}({', '.join(parameters)}) #1 {{\n{writer.text}}}\n"


KERNEL_ATTRIBUTES = "attributes #0 = { nounwind noinline }\nattributes #1 = { nounwind inlinehint }\n"
"""What holds for kernels (#0), which are called and never copied into the run, and for helpers (#1)."""
