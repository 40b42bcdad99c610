"""The parser of the textual form of the Loop IR (edgecc/loop/text.py prints it and describes it)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import NoReturn, TypeVar

from edgecc.errors import EdgeccError
from edgecc.ir.scalar import PRIMITIVES
from edgecc.ir.types import DType
from edgecc.loop.activations import ACTIVATIONS
from edgecc.loop.dot import DOTS
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
    Parameter,
    Prefetch,
    Ref,
    Reload,
    Stmt,
    Store,
)
from edgecc.loop.narrow import NARROW
from edgecc.loop.quoting import unescape

_ROLES = ("input", "output", "workspace")
_TOKEN = re.compile(r"""
    (?P<space>[ \t\r]+) | (?P<newline>\n)
  | (?P<comment>\#[^\n]*)
  | (?P<string>"(?:[^"\\\n]|\\.)*")
  | (?P<number>-?(?:inf|nan)(?=:[a-z]) | (?:\d+(?:\.\d+)?(?:[eE][+-]?\d+)?))
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<punct>\.\.|[-+*:\[\](){},=])
""", re.VERBOSE)

Item = TypeVar("Item")


class _Token:
    __slots__ = ("column", "kind", "line", "text")

    def __init__(self, kind: str, text: str, line: int, column: int) -> None:
        self.kind, self.text, self.line, self.column = kind, text, line, column


def _tokens(text: str) -> list[_Token]:
    out: list[_Token] = []
    position, line, start = 0, 1, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise EdgeccError("E111", f"unexpected character {text[position]!r}",
                              where=f"line {line}, column {position - start + 1}")
        kind = match.lastgroup or ""
        if kind not in ("space", "newline"):
            out.append(_Token(kind, match[0], line, position - start + 1))
        position = match.end()
        if kind == "newline":
            line, start = line + 1, position
    out.append(_Token("end", "end of text", line, position - start + 1))
    return out


def parse(text: str) -> Function:
    """Reads one function.

    Raises: EdgeccError E111 with line and column where the text is malformed or a name is unknown.
    """
    parser = _Parser(text)
    function = parser.function()
    if parser.peek().kind != "end":
        parser.fail("the end of the text")
    return function


class _Parser:
    """Recursive descent over the tokens; `scope` holds the type of every local in sight."""

    def __init__(self, text: str) -> None:
        self.tokens = _tokens(text)
        self.position = 0
        self.buffers: dict[str, Buffer] = {}
        self.scope: dict[str, tuple[DType, int]] = {}

    # tokens

    def peek(self, ahead: int = 0) -> _Token:
        return self.tokens[min(self.position + ahead, len(self.tokens) - 1)]

    def fail(self, wanted: str) -> NoReturn:
        token = self.peek()
        raise EdgeccError("E111", f"found {token.text!r}, expected {wanted}",
                          where=f"line {token.line}, column {token.column}")

    def take(self) -> str:
        self.position += 1
        return self.tokens[self.position - 1].text

    def accept(self, text: str) -> bool:
        if self.peek().text != text or self.peek().kind == "string":
            return False
        self.position += 1
        return True

    def expect(self, text: str) -> None:
        if not self.accept(text):
            self.fail(repr(text))

    def name(self, what: str = "a name") -> str:
        if self.peek().kind != "name":
            self.fail(what)
        return self.take()

    def integer(self) -> int:
        sign = -1 if self.accept("-") else 1
        if self.peek().kind != "number" or not self.peek().text.isdigit():
            self.fail("an integer")
        return sign * int(self.take())

    def listed(self, item: Callable[[], Item], close: str) -> tuple[Item, ...]:
        out: list[Item] = []
        if self.accept(close):
            return ()
        out.append(item())
        while self.accept(","):
            out.append(item())
        self.expect(close)
        return tuple(out)

    def dtype(self) -> DType:
        if self.peek().text not in DType._value2member_map_:
            self.fail("an element type")
        return DType(self.take())

    # functions and statements

    def function(self) -> Function:
        self.expect("function")
        name = self.name()
        self.expect("(")
        listed = self.listed(self.buffer_or_parameter, ")")
        buffers = tuple(item for item in listed if isinstance(item, Buffer))
        parameters = tuple(item for item in listed if isinstance(item, Parameter))
        if listed != (*buffers, *parameters):
            self.fail("buffers before parameters")
        doc = unescape(self.take()[1:-1]) if self.peek().kind == "string" else ""
        return Function(name, buffers, self.block(), doc, parameters)

    def buffer_or_parameter(self) -> Buffer | Parameter:
        name = self.name("the name of a buffer or a parameter")
        self.expect(":")
        if self.accept("from"):
            minimum = self.integer()
            self.expect("to")
            return Parameter(name, minimum, self.integer())
        return self.buffer(name)

    def buffer(self, name: str) -> Buffer:
        dtype = self.dtype()
        self.expect("[")
        elements = self.integer()
        self.expect("]")
        if self.peek().text not in _ROLES:
            self.fail(f"one of {', '.join(_ROLES)}")
        role = self.take()
        align = self.integer() if self.accept("align") else 64
        self.buffers[name] = Buffer(name, dtype, elements, role, align, self.accept("aliased"))
        return self.buffers[name]

    def block(self) -> Body:
        self.expect("{")
        outer = dict(self.scope)
        out: list[Stmt] = []
        while not self.accept("}"):
            out.append(self.statement())
        self.scope = outer
        return tuple(out)

    def statement(self) -> Stmt:
        if self.peek().kind == "comment":
            return Comment(unescape(self.take()[1:].removeprefix(" ")))
        after = self.peek(1).text
        match self.peek().text:
            case "barrier" if after != "=":
                self.take()
                return Barrier()
            case "prefetch" | "reload" as word if after not in ("=", "["):
                self.take()
                name = self.name("a buffer")
                self.expect("[")
                index = self.index()
                self.expect("]")
                return Prefetch(name, index) if word == "prefetch" else Reload(name, index)
            case "let" | "var" as word if after != "=":
                self.take()
                name = self.name()
                self.expect("=")
                value = self.expr()
                self.scope[name] = (value.dtype, value.lanes)
                return Let(name, value) if word == "let" else Declare(name, value)
            case "if" if after != "=":
                self.take()
                condition, then = self.expr(), self.block()
                return If(condition, then, self.block() if self.accept("else") else ())
            case "for" if after != "=":
                return self.loop("serial")
        name = self.name("a statement")
        if self.accept("="):
            return Assign(name, self.expr())
        if self.peek().text == "for":
            return self.loop(name)
        if not self.accept("["):
            self.fail("'=', '[' or 'for'")
        index, options = self.index(), self.options()
        self.expect("=")
        return Store(name, index, self.expr(), options["stride"], options["valid"])

    def loop(self, kind: str) -> For:
        self.expect("for")
        var = self.name("a loop variable")
        self.expect("in")
        start = self.index()
        self.expect("..")
        stop = self.index()
        step = self.integer() if self.accept("step") else 1
        return For(var, start, stop, self.block(), step, kind)

    def options(self) -> dict[str, int]:
        """`, lanes N, stride N, valid N` up to the closing bracket."""
        found = {"lanes": 1, "stride": 1, "valid": 0}
        while self.accept(","):
            if self.peek().text not in found:
                self.fail("lanes, stride or valid")
            word = self.take()
            found[word] = self.integer()
        self.expect("]")
        return found

    # expressions

    def expr(self) -> Expr:
        token = self.peek()
        if token.kind == "number" or token.text in ("-", "true", "false"):
            return self.constant()
        name = self.name("an expression")
        if self.accept("["):
            buffer = self.buffers.get(name)
            if buffer is None:
                self.position -= 2
                self.fail("the name of a buffer")
            index, options = self.index(), self.options()
            return Load(name, index, buffer.dtype, options["lanes"], options["stride"], options["valid"])
        if self.accept("("):
            return self.call(name)
        if name not in self.scope:
            self.position -= 1
            self.fail("a local that is in scope")
        return Ref(name, *self.scope[name])

    def constant(self) -> Const:
        negative = self.accept("-")
        text = self.take()
        self.expect(":")
        name, _, lanes = self.peek().text.partition("x")
        if name not in DType._value2member_map_ or not (lanes == "" or lanes.isdigit()):
            self.fail("a type such as f32 or f32x4")
        self.take()
        dtype = DType(name)
        value: float | int | bool
        if text.lstrip("-") == "nan":
            value = math.nan  # this object, so that equal programs stay equal
        elif dtype is DType.BOOL:
            value = text == "true"
        else:
            value = float(text) if dtype.is_float else int(text)
        return Const(-value if negative else value, dtype, int(lanes or 1))

    def call(self, name: str) -> Expr:
        match name:
            case "cast" | "bitcast":
                arg = self.expr()
                self.expect(",")
                dtype = self.dtype()
                self.expect(")")
                return Cast(arg, dtype) if name == "cast" else Bitcast(arg, dtype)
            case "broadcast" | "lane":
                arg = self.expr()
                self.expect(",")
                number = self.integer()
                self.expect(")")
                return Broadcast(arg, number) if name == "broadcast" else Lane(arg, number)
            case "horizontal":
                op = self.name("add, max, min or mul")
                self.expect(",")
                arg = self.expr()
                self.expect(")")
                return Horizontal(op, arg)
            case "index":
                index = self.index()
                self.expect(",")
                dtype = self.dtype()
                self.expect(")")
                return FromIndex(index, dtype)
        start = self.position - 2
        row = PRIMITIVES.get(name)
        narrow = NARROW.get(name)
        arity = 3 if name == "fma" or name in DOTS else narrow.arity if narrow is not None else ACTIVATIONS[name].arity if name in ACTIVATIONS else 0 if row is None else row.arity
        args = self.listed(self.expr, ")")
        if arity == 0 or len(args) != arity:
            self.position = start
            self.fail(f"{arity} operands of {name}" if arity else f"a primitive, {name!r} is none")
        boolean = row is not None and row.result == "bool"
        result = narrow.result if narrow is not None else DType.BOOL if boolean else args[-1].dtype
        return Op(name, args, result, args[-1].lanes)

    # indices

    def index(self) -> Index:
        terms: list[tuple[Atom, int]] = []
        constant = 0
        sign = -1 if self.accept("-") else 1
        while True:
            if self.peek().kind == "number":
                number = self.integer()
                if self.accept("*"):
                    terms.append((self.atom(), sign * number))
                else:
                    constant += sign * number
            else:
                terms.append((self.atom(), sign))
            if self.accept("+"):
                sign = 1
            elif self.accept("-"):
                sign = -1
            else:
                return Index(tuple(terms), constant)

    def atom(self) -> Atom:
        if self.accept("["):
            expr = self.expr()
            self.expect("]")
            return IndexOf(expr)
        name = self.name("a loop variable")
        if self.accept("("):
            return IndexOp(name, self.listed(self.index, ")"))
        return LoopVar(name)
