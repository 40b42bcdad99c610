"""The operators of the elementwise table, and identities."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import onnx

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.converters.strings import cast_of_strings
from edgecc.frontend.items import Item
from edgecc.frontend.registry import Unsupported, converter
from edgecc.frontend.tensors import type_name
from edgecc.ir.graph import Value
from edgecc.ir.scalar import Arg, ScalarExpr, apply, literal
from edgecc.ir.types import DType
from edgecc.ops.casts import cast_expression
from edgecc.ops.elementwise import ELEMENTWISE, Elementwise


def _plain(attribute: onnx.AttributeProto) -> object:
    match attribute.type:
        case onnx.AttributeProto.INT:
            return int(attribute.i)
        case onnx.AttributeProto.FLOAT:
            return float(attribute.f)
        case onnx.AttributeProto.STRING:
            return bytes(attribute.s).decode("utf-8", "backslashreplace")
    return None


def table_row(call: Call, name: str, *operands: Value | None, **attributes: object) -> Value:
    """The row `name` of the elementwise table applied to operands; absent ones are None."""
    present = [value for value in operands if value is not None]
    positions = itertools.count()
    expressions: list[ScalarExpr | None] = [None if v is None else Arg(next(positions), v.type.dtype) for v in operands]
    try:
        expr = ELEMENTWISE[name].build(expressions, attributes)
    except EdgeccError as error:
        if error.code == "E105":
            raise Unsupported(error.message, error.hint) from error
        raise
    if expr == Arg(0, present[0].type.dtype) and len(present) == 1:
        return present[0]
    return call.add(Elementwise(expr), *present)


_VARIADIC = ("Sum", "Max", "Min", "Mean")
_WIDEST = 16
"""Operands of one elementwise node; more are combined in several, so that expressions stay shallow."""


def _groups(values: list[Value]) -> Iterator[list[Value]]:
    return (values[start:start + _WIDEST] for start in range(0, len(values), _WIDEST))


@converter(*_VARIADIC)
def _variadic(call: Call) -> Value:
    kind = call.node.op_type
    values = list(call.values())
    if len(values) <= _WIDEST:
        return table_row(call, kind, *values)
    while len(values) > 1:
        values = [table_row(call, "Sum" if kind == "Mean" else kind, *group) for group in _groups(values)]
    if kind != "Mean":
        return values[0]
    return call.map(lambda total: apply("div", total, literal(len(call.inputs), total.dtype)), values[0])


@converter(*(name for name in ELEMENTWISE if name not in ("Cast", "CastLike", *_VARIADIC)))
def _elementwise(call: Call) -> Value:
    operands = [call.optional(index) for index in range(len(call.inputs))]
    attributes = {name: _plain(attribute) for name, attribute in call.attributes.items()}
    call.input(0)
    return table_row(call, call.node.op_type, *operands, **attributes)


@converter("Cast")
def _cast(call: Call) -> Value:
    code = call.integer("to")
    dtype = DType.from_code(code)
    if dtype is None:
        raise Unsupported(f"conversion to {type_name(code)}")
    return _cast_to(call, call.input(), dtype)


@converter("CastLike")
def _cast_like(call: Call) -> Value:
    return _cast_to(call, call.input(0), call.input(1).type.dtype)


def _cast_to(call: Call, x: Value, dtype: DType) -> Value:
    if DType.STRING in (x.type.dtype, dtype):
        return x if x.type.dtype is dtype else cast_of_strings(call, x, dtype)
    saturate, round_mode = call.flag("saturate", True), call.text("round_mode", "up")
    return call.map(lambda a: cast_expression(a, dtype, saturate=saturate, round_mode=round_mode), x)


@converter("Identity")
def _identity(call: Call) -> Item | None:
    return call.inputs[0]
