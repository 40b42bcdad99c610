"""Kernels and mathematical functions as functions of C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edgecc.backends.c.expression import Binding, ExpressionPrinter, Scope
from edgecc.backends.c.free_names import free_names
from edgecc.backends.c.isa import Isa
from edgecc.backends.c.names import comment_text
from edgecc.backends.c.prelude import Prelude
from edgecc.backends.c.statement import INDENT, BodyPrinter, Definition, render
from edgecc.backends.c.table import STORAGE
from edgecc.backends.c.text import listed_lines, strip_parentheses
from edgecc.errors import EdgeccError
from edgecc.loop.index import ZERO
from edgecc.loop.ir import Buffer, For, Function
from edgecc.loop.math import MathFunction


@dataclass(frozen=True)
class PrintedFunction:
    """A kernel as C text: `prototype` without semicolon, `definition` with everything it needs but the prelude."""

    symbol: str
    prototype: str
    definition: str
    uses_threads: bool = False


@dataclass
class _Parameter:
    declaration: str
    binding: Binding = field(default_factory=lambda: Binding(""))


def parameter_text(buffer: Buffer, c_name: str) -> str:
    """Declaration of a buffer as a parameter."""
    const = "const " if buffer.role == "input" else ""
    restrict = "" if buffer.aliased else "restrict "
    return f"{const}{STORAGE[buffer.dtype]} *{restrict}{c_name}"


def print_function(function: Function, prelude: Prelude, symbol: str, *, threads: int = 1,
                   locs: Sequence[str] = (), static: bool = False) -> PrintedFunction:
    """Prints a kernel as the C function `symbol`.

    Parallel loops at the top level become calls of edgecc_parallel_for where `threads` > 1. `locs`
    are names of model nodes for the comment.
    """
    scope = Scope({}, taken={symbol})
    parameters = []
    for buffer in function.buffers:
        binding = scope.bind(buffer.name, buffer.dtype, is_const=buffer.role == "input")
        parameters.append(_Parameter(parameter_text(buffer, binding.c_name), binding))
    for parameter in function.parameters:
        binding = scope.bind(parameter.name, low=parameter.minimum)
        parameters.append(_Parameter(f"ptrdiff_t {binding.c_name}", binding))
    printer = BodyPrinter(prelude)
    outlined: list[str] = []
    for stmt in function.body:
        if isinstance(stmt, For) and stmt.kind == "parallel" and threads > 1:
            outlined.append(_outline(stmt, function, printer, scope, f"{symbol}_part{len(outlined) or ''}", threads))
        else:
            printer.body((stmt,), scope, 1)
    unused = [f"{INDENT}(void){p.binding.c_name};" for p in parameters if not p.binding.used]
    head, declarations = f"{'static ' if static else ''}void {symbol}", [p.declaration for p in parameters] or ["void"]
    prototype = "\n".join(listed_lines(head, declarations, ""))
    text = "".join(f"{line}\n" for line in unused) + render(printer.lines)
    definition = "".join(part + "\n" for part in outlined) + _comment(function, locs) + f"{prototype} {{\n{text}}}\n"
    return PrintedFunction(symbol, prototype, definition, bool(outlined))


def _comment(function: Function, locs: Sequence[str]) -> str:
    lines = []
    if function.doc:
        lines.append(comment_text(function.doc))
    shown = [comment_text(loc) for loc in locs[:8]]
    if shown:
        more = f" and {len(locs) - len(shown)} more" if len(locs) > len(shown) else ""
        lines.append(f"nodes: {', '.join(shown)}{more}")
    lines += [f"{comment_text(b.name)}: {b.role}, {b.elements} x {b.dtype.value}" for b in function.buffers]
    lines += [f"{comment_text(p.name)}: from {p.minimum} to {p.maximum}" for p in function.parameters]
    return "/* " + "\n   ".join(lines) + " */\n" if lines else ""


def _outline(loop: For, function: Function, caller: BodyPrinter, scope: Scope, symbol: str, threads: int) -> str:
    """Moves the body of a parallel loop into a function over [begin, end) and prints the call of it.

    Buffers, parameters and locals that the body reads travel in a struct.
    """
    printer = ExpressionPrinter(caller.prelude, scope)
    needed = set(free_names(loop))
    captured = [(name, binding) for name, binding in scope.names.items() if name in needed]
    members = []
    inner = Scope({}, taken={symbol, "context", "begin", "end", "shared"})
    own = BodyPrinter(caller.prelude)
    buffers = {b.name: b for b in function.buffers}
    integers = {p.name for p in function.parameters}
    for name, binding in captured:
        local = inner.bind(name, binding.dtype, binding.lanes, binding.low, is_const=binding.is_const)
        if name in integers:
            members.append(f"ptrdiff_t {binding.c_name};")
            declaration = f"const ptrdiff_t {local.c_name}"
        elif name in buffers:
            buffer = buffers[name]
            const = "const " if buffer.role == "input" else ""
            members.append(f"{const}{STORAGE[buffer.dtype]} *{binding.c_name};")
            declaration = parameter_text(buffer, local.c_name)
        else:
            if binding.dtype is None:
                raise EdgeccError("E900", f"C back end: parallel loop inside the loop over {name!r}")
            ctype = caller.prelude.isa.type_name(binding.dtype, binding.lanes)
            members.append(f"{ctype} {binding.c_name};")
            declaration = f"const {ctype} {local.c_name}"
        own.lines.append(Definition(f"{INDENT}{declaration} = shared->{binding.c_name};", local, 1))
    start, stop = printer.index(loop.start), printer.index(loop.stop)
    extent = loop.extent
    span = stop if loop.start == ZERO else f"{stop} - ({start})"
    count = str(extent) if extent is not None else span if loop.step == 1 else f"({span} + {loop.step - 1}) / {loop.step}"
    scale = "" if loop.step == 1 else f"{loop.step} * "
    offset = "" if loop.start == ZERO else f" + {ExpressionPrinter(own.prelude, inner).index(loop.start)}"
    own.loop(loop, inner, 1, (f"{scale}begin{offset}", f"{scale}end{offset}"))
    # The struct is never empty: C has no empty structs.
    struct = "".join(f"{INDENT}{member}\n" for member in members) or f"{INDENT}char none;\n"
    values = ", ".join(scope.use(name).c_name for name, _ in captured) or "0"
    caller.emit(1, f"struct {symbol} {symbol}_context = {{{values}}};")
    caller.emit(1, f"edgecc_parallel_for({symbol}, &{symbol}_context, {count}, {threads});")
    shared = f"{INDENT}const struct {symbol} *shared = context;\n" if members else f"{INDENT}(void)context;\n"
    return (f"struct {symbol} {{\n{struct}}};\n\n"
            f"static void {symbol}(void *context, ptrdiff_t begin, ptrdiff_t end) {{\n{shared}{render(own.lines)}}}\n")


def print_math(prelude: Prelude, function: MathFunction, name: str) -> str:
    """A mathematical function as a static inline helper called `name`."""
    scope = Scope({}, taken={name})
    parameters = []
    for parameter in function.params:
        binding = scope.bind(parameter.name, parameter.dtype, parameter.lanes)
        parameters.append(f"{prelude.isa.type_name(parameter.dtype, parameter.lanes)} {binding.c_name}")
    printer = BodyPrinter(prelude)
    printer.body(function.statements, scope, 1)
    result = strip_parentheses(ExpressionPrinter(prelude, scope).expr(function.result))
    ctype = prelude.isa.type_name(function.result.dtype, function.result.lanes)
    comment = f"/* {comment_text(function.doc)} */\n" if function.doc else ""
    return f"{comment}static inline {ctype} {name}({', '.join(parameters)}) {{\n{render(printer.lines)}{INDENT}return {result};\n}}\n"


def new_prelude(isa: Isa) -> Prelude:
    """An empty prelude for an instruction set."""
    return Prelude(isa, print_math)
