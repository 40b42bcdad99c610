"""The textual form of the Loop IR. `parse(to_text(f)) == f` for every function the verifier accepts.

    function scale(x: f32[8] input, y: f32[8] output align 16 aliased) "y = 2x" {
      parallel for i in 0..8 step 4 {
        # four at a time
        let a = x[i, lanes 4]
        var acc = broadcast(0.0:f32, 4)
        acc = fma(a, 2.0:f32x4, acc)
        y[i, stride 1] = acc
      }
      if lt(index(i, i64), 3:i64) { barrier } else { }
    }

After the buffers stand parameters, with the least and the largest value: `row_start: from 0 to 56`.
Types are written where they are made (buffers, constants, casts); everything else follows. An index
is a sum such as `3*i + floordiv(j + 1, 4) - 2`; a computed value used as an index stands in brackets.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgecc.ir.types import DType
from edgecc.loop.index import Atom, Index, IndexOf, IndexOp, LoopVar
from edgecc.loop.ir import (
    Assign,
    Barrier,
    Bitcast,
    Body,
    Broadcast,
    Buffer,
    Cast,
    Comment,
    Const,
    Declare,
    Expr,
    For,
    FromIndex,
    Function,
    Horizontal,
    If,
    Lane,
    Let,
    Load,
    Op,
    Prefetch,
    Ref,
    Reload,
    Stmt,
    Store,
)
from edgecc.loop.quoting import escape

_INDENT = "  "

# -- printing ---------------------------------------------------------------------------------


def to_text(function: Function) -> str:
    """The function in the form shown in this module's docstring, ending in a newline."""
    listed = ", ".join((*(_buffer_text(b) for b in function.buffers),
                        *(f"{p.name}: from {p.minimum} to {p.maximum}" for p in function.parameters)))
    doc = f' "{escape(function.doc)}"' if function.doc else ""
    lines = [f"function {function.name}({listed}){doc} {{", *_body_lines(function.body, 1), "}"]
    return "\n".join(lines) + "\n"


def index_text(index: Index) -> str:
    """An index as a sum of its terms."""
    text = ""
    for atom, coefficient in index.terms:
        size = abs(coefficient)
        part = _atom_text(atom) if size == 1 else f"{size}*{_atom_text(atom)}"
        text += (" - " if text else "-") + part if coefficient < 0 else (" + " if text else "") + part
    if not text:
        return str(index.const)
    return text if index.const == 0 else f"{text} {'-' if index.const < 0 else '+'} {abs(index.const)}"


def _atom_text(atom: Atom) -> str:
    match atom:
        case LoopVar(name=name):
            return name
        case IndexOp(op=op, args=args):
            return f"{op}({', '.join(index_text(a) for a in args)})"
        case IndexOf(expr=expr):
            return f"[{expr_text(expr)}]"


def expr_text(expr: Expr) -> str:
    """An expression on one line."""
    match expr:
        case Const(value=value, dtype=dtype, lanes=lanes):
            number = str(value).lower() if dtype is DType.BOOL else repr(float(value) if dtype.is_float else int(value))
            return f"{number}:{_type_text(dtype, lanes)}"
        case Ref(name=name):
            return name
        case Load(buffer=buffer, index=index, lanes=lanes, stride=stride, valid=valid):
            return _element_text(buffer, index, lanes, stride, valid)
        case Op(op=op, args=args):
            return f"{op}({', '.join(expr_text(a) for a in args)})"
        case Cast(arg=arg, dtype=dtype):
            return f"cast({expr_text(arg)}, {dtype.value})"
        case Bitcast(arg=arg, dtype=dtype):
            return f"bitcast({expr_text(arg)}, {dtype.value})"
        case Broadcast(arg=arg, lanes=lanes):
            return f"broadcast({expr_text(arg)}, {lanes})"
        case Lane(arg=arg, position=position):
            return f"lane({expr_text(arg)}, {position})"
        case Horizontal(op=op, arg=arg):
            return f"horizontal({op}, {expr_text(arg)})"
        case FromIndex(index=index, dtype=dtype):
            return f"index({index_text(index)}, {dtype.value})"


def statement_text(stmt: Stmt) -> str:
    """A statement on one line; nested bodies are left out."""
    match stmt:
        case For(var=var, start=start, stop=stop, step=step, kind=kind):
            by = "" if step == 1 else f" step {step}"
            prefix = "" if kind == "serial" else f"{kind} "
            return f"{prefix}for {var} in {index_text(start)}..{index_text(stop)}{by} {{"
        case Let(name=name, value=value):
            return f"let {name} = {expr_text(value)}"
        case Declare(name=name, value=value):
            return f"var {name} = {expr_text(value)}"
        case Assign(name=name, value=value):
            return f"{name} = {expr_text(value)}"
        case Store(buffer=buffer, index=index, value=value, stride=stride, valid=valid):
            return f"{_element_text(buffer, index, 1, stride, valid)} = {expr_text(value)}"
        case If(condition=condition):
            return f"if {expr_text(condition)} {{"
        case Barrier():
            return "barrier"
        case Prefetch(buffer=buffer, index=index) | Reload(buffer=buffer, index=index):
            return f"{type(stmt).__name__.lower()} {buffer}[{index_text(index)}]"
        case Comment(text=text):
            return f"# {escape(text)}"


def _body_lines(body: Body, depth: int) -> Iterator[str]:
    pad = _INDENT * depth
    for stmt in body:
        yield pad + statement_text(stmt)
        match stmt:
            case For(body=nested):
                yield from _body_lines(nested, depth + 1)
                yield pad + "}"
            case If(then=then, orelse=orelse):
                yield from _body_lines(then, depth + 1)
                if orelse:
                    yield pad + "} else {"
                    yield from _body_lines(orelse, depth + 1)
                yield pad + "}"


def _buffer_text(buffer: Buffer) -> str:
    align = "" if buffer.align == Buffer.__dataclass_fields__["align"].default else f" align {buffer.align}"
    aliased = " aliased" if buffer.aliased else ""
    return f"{buffer.name}: {buffer.dtype.value}[{buffer.elements}] {buffer.role}{align}{aliased}"


def _element_text(buffer: str, index: Index, lanes: int, stride: int, valid: int) -> str:
    options = (("lanes", lanes, 1), ("stride", stride, 1), ("valid", valid, 0))
    extra = "".join(f", {word} {value}" for word, value, default in options if value != default)
    return f"{buffer}[{index_text(index)}{extra}]"


def _type_text(dtype: DType, lanes: int) -> str:
    return dtype.value if lanes == 1 else f"{dtype.value}x{lanes}"
