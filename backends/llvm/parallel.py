"""Parallel loops: the body becomes a function over a range of iterations, which edgecc_parallel_for calls (backends/c/runtime.h).

Objects hold a weak definition of edgecc_parallel_for, which runs the whole range at once. Linked with runtime.c, or with a
definition of the user's, the same objects run on threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from edgecc.backends.c.free_names import free_names
from edgecc.backends.llvm.expression import ExpressionWriter
from edgecc.backends.llvm.scope import Local, Scope
from edgecc.backends.llvm.types import register_type
from edgecc.backends.llvm.writer import Writer
from edgecc.loop.index import const
from edgecc.loop.ir import Buffer, For

BodyOf = Callable[[Writer, Scope, Callable[[ExpressionWriter], tuple[str, str]]], None]
"""Writes the loop into a function of its own; the last argument gives its first value and its limit there."""

SERIAL = """; The whole loop at once; runtime.c, or another definition that the program has, takes the place of this one.
define weak void @edgecc_parallel_for(ptr %body, ptr %context, i64 %count, i32 %threads) nounwind {
entry:
  %any = icmp sgt i64 %count, 0
  br i1 %any, label %work, label %done
work:
  call void %body(ptr %context, i64 0, i64 %count)
  br label %done
done:
  ret void
}
"""


def attributes(buffer: Buffer) -> str:
    """What LLVM may assume of the pointer to a buffer."""
    # The code may read fewer elements than there are, and the arrays of callers are aligned to elements only.
    parts = ["ptr", "" if buffer.aliased else "noalias", "nocapture", "readonly" if buffer.role == "input" else ""]
    return " ".join(part for part in parts if part)


def divide(printer: ExpressionWriter, loop: For, buffers: Mapping[str, Buffer], symbol: str, threads: int, context: int, body: BodyOf) -> str:
    """Writes the call of edgecc_parallel_for and returns the functions that it needs.

    Args:
        printer: the writer of expressions in front of the loop.
        buffers: those of the kernel, by name.
        symbol: the name of the function that is called; the loop itself is SYMBOL_range.
        context: a place reserved at the beginning of the kernel, for the values that the loop reads.
        body: writes the loop.
    """
    w, needed = printer.w, set(free_names(loop))
    captured = [(name, local) for name, local in printer.scope.names.items() if name in needed]
    own, inner = Writer(w.shared), Scope({})
    kinds = [_kind(w, name, local, buffers) for name, local in captured]
    parameters = []
    for (name, local), kind in zip(captured, kinds, strict=True):
        text = f"%{own.fresh(name)}"
        inner.bind(name, replace(local, text=text))
        parameters.append(f"{attributes(buffers[name]) if name in buffers else kind} {text}")
    begin, end = (f"%{own.fresh(name)}" for name in ("begin", "end"))

    def bounds(at: ExpressionWriter) -> tuple[str, str]:
        edges = [edge if loop.step == 1 else own.op("mul nsw", "i64", edge, str(loop.step)) for edge in (begin, end)]
        if loop.start != const(0):
            start = at.index(loop.start)
            edges = [own.op("add nsw", "i64", edge, start) for edge in edges]
        return edges[0], edges[1]

    body(own, inner, bounds)
    own.emit("ret void")
    struct = f"{{ {', '.join(kinds)} }}"
    pointer = f"%{w.fresh('context')}"
    w.fill(context, f"{pointer} = alloca {struct}")
    for number, ((_, local), kind) in enumerate(zip(captured, kinds, strict=True)):
        w.emit(f"store {kind} {local.text}, ptr {w.let(f'getelementptr {struct}, ptr {pointer}, i32 0, i32 {number}')}")
    span = w.op("sub nsw", "i64", printer.index(loop.stop), printer.index(loop.start))
    count = span if loop.step == 1 else w.op("sdiv", "i64", w.op("add nsw", "i64", span, str(loop.step - 1)), str(loop.step))
    w.shared.helper("edgecc_parallel_for", lambda: SERIAL)
    w.call_void("edgecc_parallel_for", ("ptr", f"@{symbol}"), ("ptr", pointer), ("i64", count), ("i32", str(threads)), internal=True)
    range_text = (f"define internal void @{symbol}_range({', '.join([*parameters, f'i64 {begin}', f'i64 {end}'])}) #0 {{\n{own.text}}}\n")
    return f"{range_text}\n{_entry(w, symbol, struct, kinds)}\n"


def _kind(w: Writer, name: str, local: Local, buffers: Mapping[str, Buffer]) -> str:
    if name in buffers:
        return "ptr"
    return "i64" if local.dtype is None else register_type(w.machine.isa, local.dtype, local.lanes)


def _entry(w: Writer, symbol: str, struct: str, kinds: list[str]) -> str:
    """The function that edgecc_parallel_for calls: it reads the context, so that the loop has parameters again."""
    own = Writer(w.shared)
    values = []
    for number, kind in enumerate(kinds):
        place = own.let(f"getelementptr {struct}, ptr %context, i32 0, i32 {number}")
        values.append((kind, own.let(f"load {kind}, ptr {place}", "value")))
    own.call_void(f"{symbol}_range", *values, ("i64", "%begin"), ("i64", "%end"), internal=True)
    own.emit("ret void")
    return f"define internal void @{symbol}(ptr %context, i64 %begin, i64 %end) nounwind {{\n{own.text}}}\n"
