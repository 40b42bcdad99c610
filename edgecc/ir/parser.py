"""Reads the textual form of the Graph IR; edgecc/ir/text.py has the grammar.

Operators are looked up in `edgecc.ir.op.OPS`, so the modules that define them (edgecc.ops) must have
been imported. Nothing the text holds is executed.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import math
import typing
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.dims import lower_bound, symbol
from edgecc.ir.graph import Graph, Value
from edgecc.ir.op import OPS, Op, RegionOp
from edgecc.ir.scalar import PRIMITIVES, Arg, Convert, Literal, ScalarExpr, apply, bitcast
from edgecc.ir.scanner import Scanner
from edgecc.ir.types import Array, Dim, DType, Layout, TensorType
from edgecc.ir.verify import verify

_DTYPES = {dtype.value: dtype for dtype in DType}
_MAX_DEPTH = 100  # nesting of scalar expressions and tuples, so that a hostile text cannot exhaust the stack
_MAX_ELEMENTS = 1 << 31  # of one constant; `splat` could otherwise ask for any amount of memory

Item = TypeVar("Item")


def parse(text: str, *, source: str = "text") -> Graph:
    """Reads one graph.

    Args:
        text: what `to_text` prints.
        source: the name of the text in error messages.
    Raises: EdgeccError E111 with line and column where the text is malformed, names an unknown
        operator, states types that the operators' shape rules do not give, or breaks another rule of the verifier.
    """
    return _GraphParser(Scanner(text, source)).graph()


def parse_expr(text: str, *, source: str = "expression") -> ScalarExpr:
    """Reads one scalar expression, without the backticks. Raises: EdgeccError E111."""
    scanner = Scanner(text, source)
    expr = _expr(scanner, 0)
    if scanner.token.kind != "end":
        scanner.expected("the end of the expression")
    return expr


def parse_array(text: str, tensor_type: TensorType) -> Array:
    """Reads the data of a constant of this type. Raises: EdgeccError E111."""
    return _data(Scanner(text, "constant"), tensor_type)


def _list(scanner: Scanner, item: Callable[[], Item], end: str) -> list[Item]:
    """Items separated by commas up to the mark `end`, which is taken too."""
    items: list[Item] = []
    while not scanner.accept(end):
        if items:
            scanner.expect(",")
            if scanner.accept(end):
                break
        items.append(item())
    return items


def _dtype(scanner: Scanner) -> DType:
    found = _DTYPES.get(scanner.token.text) if scanner.token.kind == "word" else None
    if found is None:
        scanner.expected("an element type such as f32")
    scanner.take()
    return found


def _dim(scanner: Scanner) -> Dim:
    token = scanner.token
    dim = _sum(scanner, 0)
    if lower_bound(dim) < 0:
        scanner.fail("a dimension is negative", token.start)
    return dim


def _sum(scanner: Scanner, depth: int, first: Dim | None = None) -> Dim:
    """A sum of products of sizes; `first` is its first factor where that was read already."""
    if depth > _MAX_DEPTH:
        scanner.fail(f"dimensions nest deeper than {_MAX_DEPTH}")
    total: Dim = 0
    sign = 1
    while True:
        product = _factor(scanner, depth) if first is None else first
        first = None
        while scanner.accept("*"):
            product = product * _factor(scanner, depth)
        total = total + product * sign
        if scanner.accept("+"):
            sign = 1
        elif scanner.accept("-"):
            sign = -1
        else:
            return total


def _factor(scanner: Scanner, depth: int) -> Dim:
    token = scanner.token
    if token.kind == "number":
        return scanner.integer()
    name = scanner.string() if token.kind == "string" else scanner.kind("word", "a dimension").text
    if token.kind == "word" and name == "floordiv" and scanner.accept("("):
        dividend = _sum(scanner, depth + 1)
        scanner.expect(",")
        divisor = scanner.integer()
        if divisor <= 0:
            scanner.fail("a divisor is not positive", token.start)
        scanner.expect(")")
        return dividend // divisor
    return _symbol(scanner, name, token.start)


def _symbol(scanner: Scanner, name: str, start: int) -> Dim:
    """The size `name`, of which the name was read already."""
    scanner.expect(":")
    lower = scanner.integer()
    scanner.expect("..")
    upper = scanner.integer()
    if not 0 <= lower <= upper:
        scanner.fail(f"the bounds of dimension {name} are not ordered", start)
    return symbol(name, lower, upper)


def parse_dim(text: str) -> Dim:
    """Reads one dimension.

    Raises: EdgeccError E111 where the text is none.
    """
    scanner = Scanner(text, "dimension")
    dim = _dim(scanner)
    if scanner.token.kind != "end":
        scanner.expected("the end of the text")
    return dim


def _type(scanner: Scanner) -> tuple[TensorType, Layout]:
    dtype = _dtype(scanner)
    scanner.expect("[")
    shape = _list(scanner, lambda: _dim(scanner), "]")
    layout = Layout.row_major(len(shape))
    start = scanner.token.start
    if scanner.accept("{"):
        layout = Layout(tuple(_list(scanner, scanner.integer, "}")))
        if sorted(layout.order) != list(range(len(shape))):
            scanner.fail(f"{layout} is not an order of {len(shape)} axes", start)
    return TensorType(dtype, tuple(shape)), layout


def _number(scanner: Scanner) -> int | float:
    """An integer, or a float: with a point or exponent, or `inf`, `-inf`, `nan`."""
    token = scanner.token
    if token.kind == "number":
        if token.text.lstrip("-").isdigit():
            return scanner.integer()
        scanner.take()
        return float(token.text)
    sign = -1.0 if scanner.accept("-") else 1.0
    for word in ("inf", "nan"):
        if scanner.accept(word):
            return sign * float(word)
    scanner.expected("a number")


def _at_number(scanner: Scanner) -> bool:
    return scanner.token.kind == "number" or any(scanner.at(word) for word in ("inf", "nan", "-"))


def _data(scanner: Scanner, tensor_type: TensorType) -> Array:
    start = scanner.token.start
    if not tensor_type.is_static:
        scanner.fail(f"a constant of type {tensor_type} has no fixed size", start)
    count, dims, numpy_type = math.prod(tensor_type.dims), tensor_type.dims, tensor_type.dtype.numpy
    if count > _MAX_ELEMENTS:
        scanner.fail(f"a constant of {count} elements exceeds the limit of {_MAX_ELEMENTS}", start)
    if scanner.accept("["):
        values = _list(scanner, lambda: _element(scanner, tensor_type.dtype), "]")
        if len(values) != count:
            scanner.fail(f"{tensor_type} has {count} elements, the list has {len(values)}", start)
        out = np.empty(count, dtype=numpy_type)
        out[:] = values
        return out.reshape(dims)
    if scanner.accept("splat"):
        return np.full(dims, np.array(_element(scanner, tensor_type.dtype), dtype=numpy_type))
    if tensor_type.dtype is not DType.STRING and scanner.accept("base64"):
        start = scanner.token.start
        try:
            raw = base64.b64decode(scanner.string(), validate=True)
        except (binascii.Error, ValueError):
            scanner.fail("this is not base64", start)
        if len(raw) != tensor_type.size_bytes:
            scanner.fail(f"{tensor_type} has {tensor_type.size_bytes} bytes, the text has {len(raw)}", start)
        stored = np.frombuffer(raw, dtype=numpy_type.newbyteorder("<"))
        return stored.astype(numpy_type).reshape(dims)
    scanner.expected("the data of the constant: a list, splat or base64")


def _element(scanner: Scanner, dtype: DType) -> np.generic | str:
    start = scanner.token.start
    if dtype is DType.STRING:
        return scanner.string()
    if dtype is DType.BOOL:
        if scanner.accept("true"):
            return np.True_
        if scanner.accept("false"):
            return np.False_
        scanner.expected("true or false")
    value = _number(scanner)
    if dtype.is_float:
        with np.errstate(over="ignore"):
            return np.float64(value).astype(dtype.numpy) if dtype is not DType.F32 else np.float32(value)
    least, most = dtype.limits
    if isinstance(value, float) or not least <= value <= most:
        scanner.fail(f"{value} is not an element of type {dtype.value}", start)
    return typing.cast("np.generic", dtype.numpy.type(value))


def _expr(scanner: Scanner, depth: int) -> ScalarExpr:
    if depth > _MAX_DEPTH:
        scanner.fail(f"expressions nest deeper than {_MAX_DEPTH}")
    start = scanner.token.start
    if scanner.token.kind == "argument":
        index = int(scanner.take().text[1:])
        scanner.expect(":")
        return Arg(index, _dtype(scanner))
    if scanner.at("true") or scanner.at("false"):
        return Literal(scanner.take().text == "true", DType.BOOL)
    if _at_number(scanner):
        value = _number(scanner)
        scanner.expect(":")
        dtype = _dtype(scanner)
        if dtype is DType.BOOL or (dtype.is_integer and isinstance(value, float)):
            scanner.fail(f"{value} is not a constant of type {dtype.value}", start)
        return Literal(float(value) if dtype.is_float else value, dtype)
    name = scanner.kind("word", "a scalar expression").text
    scanner.expect("(")
    args = _list(scanner, lambda: _expr(scanner, depth + 1), ")")
    if name in _DTYPES:
        if len(args) != 1:
            scanner.fail(f"a conversion takes one operand, got {len(args)}", start)
        return Convert(args[0], _DTYPES[name])
    kind, _, to = name.partition("_")
    if name not in PRIMITIVES and not (kind == "bitcast" and to in _DTYPES and len(args) == 1):
        scanner.fail(f"there is no scalar primitive {name}", start)
    try:
        if kind == "bitcast":
            return bitcast(args[0], _DTYPES[to])
        return apply(name, *args)
    except EdgeccError as error:
        scanner.fail(error.message, start)


def _attribute(scanner: Scanner, depth: int = 0) -> object:
    if depth > _MAX_DEPTH:
        scanner.fail(f"attributes nest deeper than {_MAX_DEPTH}")
    start = scanner.token.start
    if scanner.token.kind == "string":
        text = scanner.string()
        return _sum(scanner, 0, _symbol(scanner, text, start)) if scanner.at(":") else text
    if scanner.accept("("):
        return tuple(_list(scanner, lambda: _attribute(scanner, depth + 1), ")"))
    if scanner.accept("`"):
        expr = _expr(scanner, 0)
        scanner.expect("`")
        return expr
    for word, value in (("none", None), ("true", True), ("false", False)):
        if scanner.accept(word):
            return value
    if _at_number(scanner):
        number = _number(scanner)
        return _sum(scanner, 0, number) if isinstance(number, int) and scanner.at("*") else number
    if scanner.token.text in _DTYPES:
        return _dtype(scanner)
    if scanner.token.kind == "word":
        return _sum(scanner, 0)
    scanner.expected("an attribute value")


class _GraphParser:
    """Reads one graph; keeps the values by name."""

    def __init__(self, scanner: Scanner, depth: int = 0) -> None:
        self._scanner = scanner
        self._graph = Graph()
        self._values: dict[str, Value] = {}
        self._depth = depth

    def graph(self) -> Graph:
        scanner = self._scanner
        scanner.expect("graph")
        self._graph.name = scanner.string()
        self._body()
        if scanner.token.kind != "end":
            scanner.expected("the end of the text")
        try:
            verify(self._graph)
        except EdgeccError as error:
            scanner.fail(error.message, 0)
        return self._graph

    def region(self, name: str) -> Graph:
        """The region `name` of a node, which is one level deeper than this parser's graph."""
        if self._depth >= _MAX_DEPTH:
            self._scanner.fail("the regions are nested too deeply")
        inner = _GraphParser(self._scanner, self._depth + 1)
        self._scanner.expect(name)
        inner._graph.name = name
        inner._body()
        return inner._graph

    def _body(self) -> None:
        """Inputs, statements and outputs."""
        scanner = self._scanner
        scanner.expect("(")
        _list(scanner, self._input, ")")
        scanner.expect("{")
        while not scanner.accept("return"):
            if scanner.token.kind != "value":
                scanner.expected("a statement or return")
            self._statement()
        returned = _list(scanner, self._returned, "}")
        self._graph.set_outputs([v for v, _ in returned], [name for _, name in returned])

    def _input(self) -> None:
        token = self._scanner.kind("value", "a value such as %x")
        self._scanner.expect(":")
        tensor_type, layout = _type(self._scanner)
        value = self._graph.add_input(tensor_type, self._scanner.string())
        value.layout = layout
        self._define(token.text, value, token.start)

    def _define(self, name: str, value: Value, start: int) -> None:
        if name in self._values:
            self._scanner.fail(f"{name} is defined twice", start)
        value.name = name[1:]
        self._values[name] = value

    def _lookup(self) -> Value:
        token = self._scanner.kind("value", "a value such as %x")
        found = self._values.get(token.text)
        if found is None:
            self._scanner.fail(f"{token.text} is not defined before it is used", token.start)
        return found

    def _operand(self) -> Value | None:
        return None if self._scanner.accept("none") else self._lookup()

    def _returned(self) -> tuple[Value, str]:
        return self._lookup(), self._scanner.string()

    def _statement(self) -> None:
        scanner = self._scanner
        results = [scanner.take()]
        while scanner.accept(","):
            results.append(scanner.kind("value", "a value such as %x"))
        scanner.expect("=")
        start = scanner.token.start
        name = scanner.kind("word", "an operator or constant").text
        if name == "constant":
            if len(results) != 1:
                scanner.fail("a constant has one name", start)
            tensor_type, layout = _type(scanner)
            value = self._graph.constant(_data(scanner, tensor_type))
            value.layout = layout
            self._define(results[0].text, value, results[0].start)
            return
        cls = OPS.get(name)
        if cls is None:
            scanner.fail(f"there is no operator {name}", start)
        scanner.expect("(")
        operands = _list(scanner, self._operand, ")")
        op = self._operator(cls, start)
        scanner.expect(":")
        types_start = scanner.token.start
        types = [_type(scanner)]
        while scanner.accept(","):
            types.append(_type(scanner))
        loc = []
        if scanner.accept("loc"):
            scanner.expect("(")
            loc = _list(scanner, scanner.string, ")")
        regions = [self.region(name) for name in cls.regions] if issubclass(cls, RegionOp) else []
        try:
            node = self._graph.add_node(op, operands, loc=loc, regions=regions)
        except EdgeccError as error:
            scanner.fail(error.message, start)
        got = ", ".join(str(t) for t, _ in types)
        want = ", ".join(str(v.type) for v in node.outputs)
        if tuple(t for t, _ in types) != tuple(v.type for v in node.outputs):
            scanner.fail(f"{name} gives {want}, the text says {got}", types_start)
        if len(results) != len(node.outputs):
            scanner.fail(f"{name} has {len(node.outputs)} results, the text names {len(results)}", results[0].start)
        for token, value, (_, layout) in zip(results, node.outputs, types, strict=True):
            value.layout = layout
            self._define(token.text, value, token.start)

    def _operator(self, cls: type[Op], start: int) -> Op:
        """Reads the attributes, if any, and builds the operator."""
        scanner = self._scanner
        fields = {field.name: field for field in dataclasses.fields(cls)}
        hints = typing.get_type_hints(cls)
        attributes: dict[str, Any] = {}

        def attribute() -> None:
            token = scanner.kind("word", "the name of an attribute")
            if token.text not in fields:
                scanner.fail(f"{cls.name} has no attribute {token.text}; it has {', '.join(fields) or 'none'}", token.start)
            if token.text in attributes:
                scanner.fail(f"attribute {token.text} is given twice", token.start)
            scanner.expect("=")
            value = _attribute(scanner)
            is_integer = isinstance(value, int) and not isinstance(value, bool)
            attributes[token.text] = float(typing.cast("int", value)) if is_integer and hints[token.text] is float else value

        if scanner.accept("{"):
            _list(scanner, attribute, "}")
        missing = [name for name, field in fields.items() if name not in attributes
                   and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING]
        if missing:
            scanner.fail(f"{cls.name} needs attributes {', '.join(missing)}", start)
        try:
            return cls(**attributes)
        except EdgeccError as error:
            scanner.fail(error.message, start)
        except (TypeError, ValueError) as error:
            scanner.fail(f"{cls.name} refuses its attributes: {error}", start)
