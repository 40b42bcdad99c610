"""The textual form of the Graph IR: `to_text` prints a graph, `parse` reads it back.

    graph "name" (%x: f32[1,3,8,8] "input.1") {
      %w = constant f32[4,3,3,3] base64 "AACAPw..."
      %y = conv(%x, %w, none) {strides=(1,1), epilogue=`max($0:f32, 0.0:f32)`} : f32[1,4,8,8]{0,2,3,1} loc("Conv_0")
      return %y "758"
    }

`parse(to_text(g))` is structurally equal to `g` (edgecc/ir/equal.py), and printing what was parsed
gives the same text. Value names are hints made unique and plain while printing; the names of the
interface are JSON strings and exact. Constants stand before their first use, as a list of values,
as `splat VALUE` where all elements are the same bits, or as `base64 "..."` of their little-endian
bytes: the first of the three that gives back every bit, lists only up to 16 elements. Strings are always a list.

The regions of a node follow it, indented. Names of values inside them are their own: what a region
reads from outside is bound to its inputs by the operands of the node.

Grammar (`//` starts a comment; `?` may be absent, `*` any number, `,*` separated by commas):

    graph      = "graph" string "(" (value ":" type string),* ")" "{" statement* "return" (value string),* "}"
    statement  = value "=" "constant" type data
               | value,* "=" name "(" (value | "none"),* ")" ("{" (name "=" attribute),* "}")? ":" type,* loc? region*
    region     = name "(" (value ":" type string),* ")" "{" statement* "return" (value string),* "}"
                                                                 one for each region of the operator, of its name
    type       = name "[" dim,* "]" ("{" integer,* "}")?        the axis order in memory, absent if row-major
    dim        = integer | (name | string) ":" integer ".." integer
    data       = "[" (number | string),* "]" | "splat" number | "base64" string
    attribute  = integer | float | "true" | "false" | "none" | string | dtype | "(" attribute,* ")" | "`" scalar "`"
    scalar     = "$" integer ":" dtype | number ":" dtype | "true" | "false"
               | dtype "(" scalar ")"                            conversion
               | "bitcast_" dtype "(" scalar ")"                 the same bits
               | name "(" scalar,* ")"                           primitive of edgecc/ir/scalar.py
    loc        = "loc" "(" string,* ")"
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Iterable
from typing import Literal as OneOf

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.op import Op, RegionOp
from edgecc.ir.parser import parse, parse_array, parse_expr
from edgecc.ir.scalar import Apply, Arg, Bitcast, Convert, Literal, ScalarExpr
from edgecc.ir.types import Array, DType, Layout, SymbolicDim, TensorType

__all__ = ["format_attribute", "format_constant", "format_expr", "format_node", "format_type", "parse", "parse_expr",
           "to_text"]

_LIST_LIMIT = 16  # elements; longer constants are unreadable as lists
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def to_text(graph: Graph, *, locs: bool = False, constants: OneOf["data", "type"] = "data") -> str:
    """Prints a graph.

    Args:
        graph: the graph.
        locs: whether to print the source locations of nodes.
        constants: "data" prints every bit; "type" prints the type alone, for reading and for golden
            tests whose folded floats may differ in the last bit between machines. `parse` refuses that form.
    """
    return "\n".join([*_graph_lines(graph, f"graph {json.dumps(graph.name)}", locs, constants), ""])


def _graph_lines(graph: Graph, title: str, locs: bool, constants: OneOf["data", "type"]) -> list[str]:
    """A graph, or a region, from its title to the closing brace."""
    names = _Names()
    head = ", ".join(f"{names(v)}: {format_type(v.type, v.layout)} {json.dumps(name)}"
                     for v, name in zip(graph.inputs, graph.input_names, strict=True))
    lines = [f"{title} ({head}) {{"]
    printed: set[int] = set()

    def declare(values: Iterable[Value | None]) -> None:
        for value in values:
            if value is not None and value.constant is not None and id(value) not in printed:
                printed.add(id(value))
                data = f" {format_constant(value.constant)}" if constants == "data" else ""
                lines.append(f"  {names(value)} = constant {format_type(value.type)}{data}")

    for node in graph.nodes:
        declare(node.inputs)
        lines.append("  " + _node_line(node, names, locs))
        for name, region in zip(node.op.regions if isinstance(node.op, RegionOp) else (), node.regions, strict=True):
            lines += [f"    {line}" for line in _graph_lines(region, name, locs, constants)]
    declare(graph.outputs)
    returned = ", ".join(f"{names(v)} {json.dumps(name)}"
                         for v, name in zip(graph.outputs, graph.output_names, strict=True))
    lines.append(f"  return {returned}".rstrip())
    return [*lines, "}"]


def format_node(node: Node, *, locs: bool = True) -> str:
    """One node as a line of text, names as they are: for messages, not for parsing."""
    return _node_line(node, _Names(), locs)


def format_type(tensor_type: TensorType, layout: Layout | None = None) -> str:
    """A type as text; a layout that is not row-major follows in braces."""
    order = "" if layout is None or layout.is_row_major else str(layout)
    return f"{tensor_type.dtype.value}[{','.join(map(str, tensor_type.shape))}]{order}"


def format_constant(array: Array) -> str:
    """The data of a constant in the first of the three forms that gives back every bit."""
    dtype = DType.from_numpy(array.dtype)
    if dtype is DType.STRING:
        return "[" + ", ".join(json.dumps(text) for text in array.reshape(-1)) + "]"
    raw = _little_endian(array)
    candidates = []
    if array.size <= _LIST_LIMIT:
        candidates.append("[" + ", ".join(_element(x) for x in array.reshape(-1)) + "]")
    elif raw[: dtype.size] * array.size == raw:
        candidates.append(f"splat {_element(array.reshape(-1)[0])}")
    for text in candidates:
        if _little_endian(parse_array(text, TensorType.of(array))) == raw:
            return text
    return f'base64 "{base64.b64encode(raw).decode("ascii")}"'


def _little_endian(array: Array) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _element(element: np.generic) -> str:
    if element.dtype.kind == "b":
        return "true" if element else "false"
    if element.dtype.kind in "iu" or DType.from_numpy(element.dtype).is_integer:
        return str(int(element))
    return str(element) if element.dtype in (np.float32, np.float64) else repr(float(element))


def format_attribute(value: object) -> str:
    """An attribute of an operator as text.

    Raises: EdgeccError E900 for a value of a kind the text has no form for.
    """
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case DType():
            return value.value
        case int() | np.integer():
            return str(int(value))
        case float() | np.floating():
            return repr(float(value))
        case str():
            return json.dumps(value)
        case SymbolicDim():
            return str(value)
        case tuple():
            return "(" + ",".join(format_attribute(v) for v in value) + ")"
        case Arg() | Literal() | Apply() | Convert() | Bitcast():
            return f"`{format_expr(value)}`"
    raise EdgeccError("E900", f"an attribute of type {type(value).__name__} has no textual form")


def format_expr(expr: ScalarExpr) -> str:
    """A scalar expression as text: ``max($0:f32, 0.0:f32)``; conversions are written `f16($0:f32)`."""
    match expr:
        case Arg(index=index, dtype=dtype):
            return f"${index}:{dtype.value}"
        case Literal(value=value, dtype=dtype):
            if dtype is DType.BOOL:
                return "true" if value else "false"
            return f"{float(value)!r}:{dtype.value}" if dtype.is_float else f"{int(value)}:{dtype.value}"
        case Convert(arg=arg, dtype=dtype):
            return f"{dtype.value}({format_expr(arg)})"
        case Bitcast(arg=arg, dtype=dtype):
            return f"bitcast_{dtype.value}({format_expr(arg)})"
        case Apply(op=op, args=args):
            return f"{op}({', '.join(format_expr(a) for a in args)})"


def format_op(op: Op) -> str:
    """An operator with its attributes, as in the line of a node."""
    return f"{op.name}{_attributes(op)}"


def _attributes(op: Op) -> str:
    fields = [(f.name, getattr(op, f.name), f.default) for f in dataclasses.fields(op)]
    shown = [f"{name}={format_attribute(value)}" for name, value, default in fields if value is not None or default is not None]
    return f" {{{', '.join(shown)}}}" if shown else ""


def _node_line(node: Node, names: _Names, locs: bool) -> str:
    present = max((i + 1 for i, v in enumerate(node.inputs) if v is not None), default=0)
    operands = ", ".join("none" if v is None else names(v) for v in node.inputs[:present])
    results = ", ".join(names(v) for v in node.outputs)
    types = ", ".join(format_type(v.type, v.layout) for v in node.outputs)
    loc = f" loc({', '.join(json.dumps(name) for name in node.loc)})" if locs and node.loc else ""
    return f"{results} = {node.op.name}({operands}){_attributes(node.op)} : {types}{loc}"


class _Names:
    """Gives each value a plain name of its own, from its hint: the hint, or the hint and a number from 2."""

    def __init__(self) -> None:
        self._of: dict[int, str] = {}
        self._used: set[str] = set()
        self._next: dict[str, int] = {}

    def __call__(self, value: Value) -> str:
        name = self._of.get(id(value))
        if name is None:
            base = re.sub(r"[^A-Za-z0-9_.]", "_", value.name) or "v"
            name, number = base, self._next.get(base, 2)
            while name in self._used:
                name, number = f"{base}_{number}", number + 1
            self._next[base] = number
            self._used.add(name)
            self._of[id(value)] = name
        return f"%{name}"
