"""Constants, shapes, and tensors made of numbers."""

from __future__ import annotations

import math

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.computed_sizes import size_of, sizes_of
from edgecc.frontend.differences import most_above
from edgecc.frontend.items import Item, Refused
from edgecc.frontend.known import is_symbolic, known_data, whole_numbers
from edgecc.frontend.registry import Unsupported, converter
from edgecc.frontend.tensors import element_type, sparse_array, tensor_array
from edgecc.ir.dims import Dim, lower_bound, upper_bound
from edgecc.ir.graph import Value
from edgecc.ir.scalar import apply, convert, literal
from edgecc.ir.strings import string_array
from edgecc.ir.types import DType


@converter("Constant")
def _constant(call: Call) -> Item:
    if len(call.attributes) != 1:
        raise EdgeccError("E102", f"Constant has {len(call.attributes)} attributes, wanted one")
    (attribute,) = call.attributes.values()
    try:
        match attribute.name:
            case "value":
                return call.constant(tensor_array(attribute.t))
            case "sparse_value":
                call.reserve(attribute.sparse_tensor.dims, "the constant")
                return call.constant(sparse_array(attribute.sparse_tensor, tuple(attribute.sparse_tensor.dims)))
            case "value_int":
                return call.scalar(call.integer("value_int"), DType.I64)
            case "value_ints":
                return call.constant(np.array(call.ints("value_ints"), dtype=np.int64))
            case "value_float":
                return call.scalar(call.number("value_float"), DType.F32)
            case "value_floats":
                return call.constant(np.array(call.floats("value_floats"), dtype=np.float32))
            case "value_string":
                return call.constant(string_array([call.string_value("value_string", "")], ()))
            case "value_strings":
                return call.constant(np.asarray(call.string_data("value_strings")))
    except Unsupported as problem:
        return Refused(call.loc, "Constant", problem.reason, problem.hint)
    raise EdgeccError("E102", "Constant has no value")


@converter("ConstantOfShape")
def _constant_of_shape(call: Call) -> Value:
    shape = sizes_of(call, 0, "the shape")
    call.importer.limits.check_dims(shape, "the result of ConstantOfShape")
    value = call.tensor("value")
    if value is None:
        value = np.zeros(1, np.float32)
    if value.size != 1:
        raise EdgeccError("E110", f"the value has {value.size} elements, wanted one")
    return call.expand(call.constant(value.reshape(())), shape)


@converter("Shape")
def _shape(call: Call) -> Value:
    dims = call.input().type.shape
    end = call.integer("end") if call.has("end") else None
    return call.sizes(dims[call.integer("start", 0):end])


@converter("Size")
def _size(call: Call) -> Value:
    return call.reshape(call.sizes([call.input().type.count]), ())


@converter("Range")
@converter("Range", domain="com.microsoft")
def _range(call: Call) -> Value:
    """start + delta * i for i below ceil((limit - start) / delta)."""
    open_ends = [known_data(call.input(index)) for index in range(3)]
    if any(data is None for data in open_ends):
        return _computed_range(call)
    if any(data is not None and is_symbolic(data) for data in open_ends):
        ends = [number for index in range(3) for number in whole_numbers(call.input(index)) or ()]
        return _open_range(call, *ends) if len(ends) == 3 else _computed_range(call)
    start, limit, delta = (call.known(index, what) for index, what in enumerate(("start", "limit", "delta")))
    if any(x.size != 1 or x.dtype != start.dtype for x in (start, limit, delta)):
        raise EdgeccError("E110", "start, limit and delta must be single numbers of one type")
    first, last, step = (x.reshape(-1)[0].item() for x in (start, limit, delta))
    if step == 0 or not all(math.isfinite(x) for x in (first, last, step)):
        raise EdgeccError("E110", f"a range from {first} to {last} in steps of {step} does not end")
    exact = isinstance(step, int)
    count = max(-((first - last) // step) if exact else math.ceil((last - first) / step), 0)
    call.reserve((count,), "the result of Range")
    if exact:
        return call.constant((first + step * np.arange(count, dtype=np.int64)).astype(start.dtype))
    return call.constant((first + step * np.arange(count, dtype=np.float64)).astype(start.dtype))


def _open_range(call: Call, start: Dim, limit: Dim, delta: Dim) -> Value:
    """A range of whole numbers whose length, and maybe start, is known only at run time: part of one of the largest length."""
    if not isinstance(delta, int) or delta == 0:
        raise EdgeccError("E110", f"a range in steps of {delta} does not end")
    dtype = call.input(0).type.dtype
    length = limit - start if delta > 0 else start - limit
    count = (length + abs(delta) - 1) // abs(delta)
    if lower_bound(count) < 0:
        raise EdgeccError("E104", f"a range of {count} numbers may be empty", hint="raise the lower bound of the dimension")
    call.reserve((count,), "the result of Range")
    steps = call.constant((np.arange(upper_bound(count), dtype=np.int64) * delta).astype(dtype.numpy))
    part = call.slice(steps, 0, 0, count)
    return part if start == 0 else call.map(lambda a, b: apply("add", a, b), part, call.input(0))


def _computed_range(call: Call) -> Value:
    """A range whose ends the run computes: start + delta * i for i below a size that the run computes.

    Raises: Unsupported where nothing bounds the size.
    """
    start, limit, delta = (call.reshape(call.input(index), ()) for index in range(3))
    dtype, step = start.type.dtype, delta.constant
    if dtype.is_integer:
        if step is None or int(step) == 0:
            raise Unsupported("the step of a range of whole numbers is computed at run time, or 0", "make it a constant", needs=(delta,))
        wide = [call.cast(value, DType.I64) for value in (start, limit)]
        length = call.map(lambda a, b: apply("sub", b, a) if int(step) > 0 else apply("sub", a, b), *wide)
        more, by = literal(abs(int(step)) - 1, DType.I64), literal(abs(int(step)), DType.I64)
        number = call.map(lambda n: apply("div", apply("max", apply("add", n, more), literal(0, DType.I64)), by), length)
        above = most_above(*((limit, start) if int(step) > 0 else (start, limit)))
        longest = None if above is None else max(0, -(-above // abs(int(step))))
    else:
        longest = None
        parts = call.map(lambda a, b, d: convert(apply("ceil", apply("div", apply("sub", b, a), d)), DType.I64), start, limit, delta)
        number = call.map(lambda n: apply("max", n, literal(0, DType.I64)), parts)
    count = size_of(call, number, "the length of the range", longest)
    return call.map(lambda i, a, d: apply("add", a, apply("mul", convert(i, dtype), d)), call.positions(count), start, delta)


@converter("EyeLike")
def _eye_like(call: Call) -> Value:
    """1 where column = row + k, else 0: a comparison of two ranges, which is evaluated at once while small."""
    x = call.input()
    if x.type.rank != 2:
        raise EdgeccError("E110", f"the input is {x.type}, wanted rank 2")
    dtype = element_type(call.integer("dtype"), "the result") if call.has("dtype") else x.type.dtype
    rows, columns = x.type.shape
    offset = max(min(call.integer("k", 0), upper_bound(columns) + 1), -upper_bound(rows) - 1)
    row, column = call.reshape(call.positions(rows), (rows, 1)), call.positions(columns)
    return call.map(lambda r, c: convert(apply("eq", apply("add", r, literal(offset, DType.I64)), c), dtype), row, column)
