"""Structural equality of graphs, and a hash that follows it.

Two graphs are structurally equal when a one-to-one renaming of values turns one into the other:
same inputs, outputs and interface names, the same operators in the same order with the same
attributes, operands and regions, the same types, layouts and constant bits, and the same sharing of
constants. Names of values and of the graph, and source locations, do not matter. Floats in
attributes are the same when they print the same: NaN equals NaN, -0.0 differs from 0.0.
"""

from __future__ import annotations

import dataclasses
import hashlib
import operator

from edgecc.ir.graph import Graph, Value
from edgecc.ir.op import Op
from edgecc.ir.scalar import Apply, Arg, Bitcast, Convert, Literal, ScalarExpr
from edgecc.ir.types import Layout, TensorType


def structurally_equal(a: Graph, b: Graph) -> bool:
    """Whether the graphs differ in nothing but names and source locations."""
    return first_difference(a, b) is None


def first_difference(a: Graph, b: Graph) -> str | None:
    """A sentence about the first place where the graphs differ, or None where they are structurally equal."""
    left, right = _lines(a), _lines(b)
    for one, other in zip(left, right, strict=False):
        if one != other:
            return f"{one} against {other}"
    if len(left) != len(right):
        return f"{len(a)} nodes against {len(b)}"
    return None


OpTexts = dict[int, tuple[Op, str]]
"""Texts of operators by id, with the operators, so that none of the ids is given to another object."""


def parts_of(graph: Graph) -> list[object]:
    """All objects that `structural_hash` and the verifier look at, none of which changes: where a graph has the same ones again, its
    hash is the same, and it is as valid as it was."""
    parts: list[object] = [graph, *graph.input_names, *graph.output_names]
    values: dict[Value, None] = dict.fromkeys([*graph.inputs, *graph.outputs])
    for node in graph.nodes:
        parts += (node, node.op, *node.inputs, None, *node.outputs, None)
        for value in node.outputs:
            values[value] = None
        for operand in node.inputs:
            if operand is not None and operand.constant is not None:
                values[operand] = None
        for region in node.regions:
            parts += parts_of(region)
    for value in values:
        parts += (value, value.type, value.layout, value.constant, value.producer, value.result_index, *value.uses)
    return parts


def same_parts(left: list[object], right: list[object]) -> bool:
    """Whether two lists hold the same objects."""
    return len(left) == len(right) and all(map(operator.is_, left, right))


def structural_hash(graph: Graph, texts: OpTexts | None = None) -> str:
    """A hexadecimal hash that is the same for structurally equal graphs, in every process.

    `texts` keeps the texts of operators, which are most of the work, from one call to the next.
    """
    state = hashlib.blake2b(digest_size=16)
    for line in _lines(graph, texts):
        state.update(line.encode("utf-8", "surrogatepass"))
        state.update(b"\n")
    return state.hexdigest()


def _lines(graph: Graph, texts: OpTexts | None = None) -> list[str]:
    """The graph as text in which values are numbered in order of appearance and constants are digests."""
    numbers: dict[int, int] = {}
    types: dict[tuple[TensorType, Layout], str] = {}
    ops: OpTexts = {} if texts is None else texts
    lines: list[str] = []

    def typed(value: Value) -> str:
        key = (value.type, value.layout)
        found = types.get(key)
        if found is None:
            found = types[key] = f"{value.type}{value.layout}"
        return found

    def number(value: Value | None) -> str:
        if value is None:
            return "none"
        found = numbers.get(id(value))
        if found is None:
            found = numbers[id(value)] = len(numbers)
            if value.constant is not None:
                lines.append(f"{found} = constant {typed(value)} {value.digest.hex()}")
        return str(found)

    for value, name in zip(graph.inputs, graph.input_names, strict=True):
        lines.append(f"input {number(value)} {typed(value)} {name!r}")
    for node in graph.nodes:
        known = ops.get(id(node.op))
        if known is None:
            known = ops[id(node.op)] = (node.op, attribute_key(node.op))
        operands = ", ".join([number(value) for value in node.inputs])
        while operands.endswith("none"):  # trailing absent operands say nothing
            operands = operands[:-4].rstrip(", ")
        lines.append(f"{', '.join([number(v) + ' ' + typed(v) for v in node.outputs])} = {known[1]} ({operands})")
        for region in node.regions:
            lines += ["region", *_lines(region, ops), "end"]
    for value, name in zip(graph.outputs, graph.output_names, strict=True):
        lines.append(f"output {number(value)} {name!r}")
    return lines


def attribute_key(value: object) -> str:
    """A text that is equal for equal operators or attribute values and differs for different ones."""
    match value:
        case Op():
            fields = ", ".join(f"{f.name}={attribute_key(getattr(value, f.name))}" for f in dataclasses.fields(value))
            return f"{value.name} {{{fields}}}"
        case tuple():
            return "(" + ",".join([attribute_key(item) for item in value]) + ")"
        case Arg() | Literal() | Apply() | Convert() | Bitcast():
            return _expr_key(value)
    return f"{type(value).__name__} {value!r}"


def _expr_key(expr: ScalarExpr) -> str:
    match expr:
        case Arg(index=index, dtype=dtype):
            return f"${index}:{dtype.value}"
        case Literal(value=value, dtype=dtype):
            return f"{value!r}:{dtype.value}"
        case Convert(arg=arg, dtype=dtype):
            return f"{dtype.value}({_expr_key(arg)})"
        case Bitcast(arg=arg, dtype=dtype):
            return f"bitcast_{dtype.value}({_expr_key(arg)})"
        case Apply(op=op, args=args):
            return f"{op}({','.join([_expr_key(a) for a in args])})"
