"""Data known while importing: constants, and integers that are dimensions of the inputs.

Exported models compute shapes by operators: Shape -> Gather -> Concat -> Reshape. Where a dimension is
open, such a tensor is the result of a `Sizes` operator, whose elements are expressions over the sizes
of a run. What is computed from it is followed here on arrays of Python objects, numbers and
`SymbolicDim`s alike, so that a converter that needs a shape finds one. Exporters compute shapes in floats, too: whole
numbers that the float type holds exactly are followed there, as the conversion of a `Sizes` operator.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.dims import Dim, SymbolicDim, larger, lower_bound, smaller, upper_bound
from edgecc.ir.graph import Node, Value
from edgecc.ir.op import Op
from edgecc.ir.scalar import Apply, Arg, Convert, Literal, ScalarExpr
from edgecc.ir.types import Array, DType, is_float_array
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather
from edgecc.ops.movement import Concat, Expand, Reshape, Slice, Transpose
from edgecc.ops.reduction import Reduce
from edgecc.ops.requantize import as_dequantized
from edgecc.ops.sizes import Sizes

_COMBINED = MappingProxyType({"sum": "add", "wide_sum": "add", "prod": "mul", "max": "max", "min": "min"})
"""What combines the elements of each kind of reduction that is followed."""

FOLLOWED_ELEMENTS = 1024
"""Results of more elements are computed at run time: shapes are short."""


def known_data(value: Value) -> Array | None:
    """The data of a constant, dequantized or not, or the elements of `Sizes` as an array of objects; else None."""
    if value.constant is not None:
        return value.constant
    producer = value.producer
    if producer is not None and isinstance(producer.op, Sizes):
        return _objects(producer.op.elements).reshape(producer.op.shape)
    if producer is not None and _is_conversion(producer.op) and (source := producer.operand(0).producer) is not None and isinstance(source.op, Sizes):
        return known_data(producer.operand(0))
    if producer is not None and is_computable(producer):
        return producer.op.reference([None if v is None else v.constant for v in producer.inputs])[0]
    return None


def whole_numbers(value: Value) -> tuple[Dim, ...] | None:
    """The elements of a value as whole numbers that may depend on the run; None where they are not known or not whole."""
    data = known_data(value)
    return None if data is None or not _is_whole(data) else tuple(_whole(data).reshape(-1))


def is_computable(node: Node) -> bool:
    """Whether a node dequantizes a constant, which importing has left for a pass to look at."""
    return isinstance(node.op, Elementwise) and as_dequantized(node.op.expr) is not None and all(
        v is not None and v.constant is not None for v in node.inputs)


def is_symbolic(data: Array) -> bool:
    """Whether data of `known_data` depends on the run: whether it has dimensions in it, rather than strings or numbers."""
    return data.dtype == object and any(isinstance(element, SymbolicDim) for element in data.reshape(-1))


def sizes_operator(data: Array, dtype: DType) -> Sizes:
    """The operator that gives an array of dimensions at run time."""
    return Sizes(tuple(data.reshape(-1)), data.shape, dtype)


def followed(op: Op, operands: Sequence[Value | None]) -> Array | None:
    """The one result of an operator on known whole numbers, at least one of which depends on the run.

    Returns None where the operator is not followed, is too large, or would have to decide what the run decides.
    """
    op, operands = _with_quotient(op, operands)
    data = [None if v is None else known_data(v) for v in operands]
    if not any(d is not None and is_symbolic(d) for d in data) or any(
            v is not None and (d is None or d.size > FOLLOWED_ELEMENTS) for v, d in zip(operands, data, strict=True)):
        return None
    if not all(d is None or _is_whole(d) for d in data):
        return None
    try:
        match op:
            case Gather():
                if data[1] is None or is_symbolic(data[1]):
                    return None
                (result,) = op.reference(data)
            case Concat() | Expand() | Reshape() | Slice() | Transpose():
                (result,) = op.reference([None if d is None else _whole(d) for d in data])
            case Elementwise(expr=expr):
                arrays = np.broadcast_arrays(*(_whole(d) for d in data if d is not None))
                result = _objects([_element(expr, elements) for elements in zip(*(a.reshape(-1) for a in arrays), strict=True)])
                result = result.reshape(arrays[0].shape)
            case Reduce(kind=kind, axes=axes, keepdims=keepdims) if kind in _COMBINED and data[0] is not None and data[0].size:
                dtype = op.infer([v.type for v in operands if v is not None])[0].dtype
                result = _reduced(_COMBINED[kind], _whole(data[0]), axes, keepdims, dtype)
            case _:
                return None
    except EdgeccError as error:
        if error.code != "E104":
            raise
        return None
    return np.asarray(result, dtype=object) if result.size <= FOLLOWED_ELEMENTS else None


def _with_quotient(op: Op, operands: Sequence[Value | None]) -> tuple[Op, Sequence[Value | None]]:
    """An operator that rounds together with the division it rounds the result of, whose own result is no whole number."""
    match op, operands:
        case Elementwise(expr=Apply(op="floor" | "ceil", args=(Arg(),)) | Convert(arg=Arg()) as rounding), (Value() as quotient,):
            division = quotient.producer
            if division is not None and isinstance(division.op, Elementwise) and isinstance(division.op.expr, Apply) and division.op.expr.op == "div":
                joined = Apply(rounding.op, (division.op.expr,), rounding.dtype) if isinstance(rounding, Apply) else Convert(division.op.expr, rounding.dtype)
                return Elementwise(joined), division.inputs
    return op, operands


def _is_conversion(op: Op) -> bool:
    return isinstance(op, Elementwise) and isinstance(op.expr, Convert) and isinstance(op.expr.arg, Arg) and op.expr.dtype.is_float


def _is_whole(data: Array) -> bool:
    return not is_float_array(data) or bool(np.all(np.isfinite(data)) and np.all(data == np.trunc(data)))


def _whole(data: Array) -> Array:
    """Whole numbers as Python objects."""
    if not is_float_array(data):
        return data.astype(object)
    return _objects([int(element) for element in data.reshape(-1)]).reshape(data.shape)


def _objects(elements: Sequence[Any]) -> Array:
    out = np.empty(len(elements), dtype=object)
    for index, element in enumerate(elements):
        out[index] = element
    return out


def evaluated(expr: ScalarExpr, elements: Sequence[Any]) -> Dim | None:
    """A scalar expression over whole numbers that may depend on the run; None where no dimension can express it."""
    try:
        return _element(expr, elements)
    except EdgeccError as error:
        if error.code != "E104":
            raise
        return None


def _element(expr: ScalarExpr, elements: Sequence[Any]) -> Dim:
    """A scalar expression over integers and dimensions.

    Raises: EdgeccError E104 where it depends on the run in a way no dimension can express.
    """
    match expr:
        case Arg(index=index):
            element = elements[index]
            return element if isinstance(element, SymbolicDim) else int(element)
        case Literal(value=value) if not expr.dtype.is_float or float(value).is_integer():
            return int(value)
        case Convert(arg=Apply(op="div", args=(dividend, divisor)) as arg, dtype=dtype) if arg.dtype.is_float and dtype.is_integer:
            return _held(_rounded_quotient("floor", _element(dividend, elements), _element(divisor, elements)), dtype)
        case Convert(arg=arg, dtype=dtype) if DType.BOOL not in (dtype, arg.dtype):
            return _held(_element(arg, elements), dtype)
        case Apply(op="select", args=(condition, then, orelse)):
            return _element(then if _element(condition, elements) else orelse, elements)
        case Apply(op="floor" | "ceil" as op, args=(Apply(op="div", args=(dividend, divisor)),)):
            # Of quotients of whole numbers that the type holds exactly none is rounded to or across a whole number.
            return _rounded_quotient(op, _element(dividend, elements), _element(divisor, elements))
        case Apply(op=op, args=args) if all(not a.dtype.is_float for a in args):
            return _applied(op, [_element(a, elements) for a in args])
        case Apply(op=op, args=args):
            result = _applied_to_floats(op, [_element(a, elements) for a in args])
            return _held(result, expr.dtype) if expr.dtype.is_float else result
    raise EdgeccError("E104", "it is computed at run time")


def _reduced(op: str, data: Array, axes: Sequence[int], keepdims: bool, dtype: DType) -> Array:
    """A reduction of whole numbers, each partial result of which `dtype` holds."""
    result = data
    for axis in axes:
        lines = np.moveaxis(result, axis, 0)
        combined = _objects([functools.reduce(lambda a, b: _held(_applied(op, (a, b)), dtype), column)
                             for column in lines.reshape(len(lines), -1).T])
        result = np.expand_dims(combined.reshape(lines.shape[1:]), axis)
    return result if keepdims else result.reshape([size for axis, size in enumerate(data.shape) if axis not in axes])


def _rounded_quotient(op: str, dividend: Dim, divisor: Dim) -> Dim:
    if lower_bound(dividend) >= 0 and lower_bound(divisor) > 0:
        return dividend // divisor if op == "floor" else (dividend + divisor - 1) // divisor
    raise EdgeccError("E104", "it is computed at run time")


def _applied_to_floats(op: str, args: Sequence[Dim]) -> Dim:
    match op, args:
        case "floor" | "ceil", (a,):
            return a
        case "div", (a, b) if lower_bound(b) > 0 and a % b == 0:
            return a // b
        case "add" | "sub" | "mul" | "neg" | "max" | "min" | "lt" | "le" | "eq", _:
            return _applied(op, args)
    raise EdgeccError("E104", "it is computed at run time")


def _held(dim: Dim, dtype: DType) -> Dim:
    """A dimension in another type, which must hold it exactly."""
    exact = int(1 / dtype.unit_roundoff) if dtype.is_float else 0
    low, high = (-exact, exact) if dtype.is_float else dtype.limits
    if low <= lower_bound(dim) and upper_bound(dim) <= high:
        return dim
    raise EdgeccError("E104", f"{dim} may not fit {dtype.value}")


def _applied(op: str, args: Sequence[Dim]) -> Dim:
    match op, args:
        case "add", (a, b):
            return a + b
        case "sub", (a, b):
            return a - b
        case "mul", (a, b):
            return a * b
        case "neg", (a,):
            return -a
        case "div", (a, b) if lower_bound(a) >= 0 and lower_bound(b) > 0:
            return a // b
        case "mod", (a, b) if lower_bound(a) >= 0 and lower_bound(b) > 0:
            return a % b
        case "max", (a, b):
            return larger(a, b)
        case "min", (a, b):
            return smaller(a, b)
        case "lt", (a, b):
            return int(a < b)
        case "le", (a, b):
            return int(a <= b)
        case "eq", (a, b):
            return int(_equal(a, b))
        case "and", (a, b):
            return int(bool(a) and bool(b))
        case "or", (a, b):
            return int(bool(a) or bool(b))
        case "not", (a,):
            return int(not a)
    raise EdgeccError("E104", "it is computed at run time")


def _equal(a: Dim, b: Dim) -> bool:
    difference = a - b
    if isinstance(difference, int):
        return difference == 0
    if difference.lower > 0 or difference.upper < 0:
        return False
    raise EdgeccError("E104", f"whether {a} equals {b} depends on the run")
