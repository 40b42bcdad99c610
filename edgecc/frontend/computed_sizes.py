"""Sizes that the run computes: a tensor's number becomes a dimension that later shapes may depend on.

Memory is planned for the largest number there can be. That is what the operator allows (a TopK takes no more than there
is), what the model itself says (edgecc/frontend/intervals.py), or else `Limits.computed_size`.
"""

from __future__ import annotations

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.intervals import interval_of
from edgecc.frontend.known import is_symbolic, known_data
from edgecc.frontend.registry import Unsupported
from edgecc.ir.dims import symbol
from edgecc.ir.graph import Value
from edgecc.ir.scalar import Arg, Convert
from edgecc.ir.types import Dim, DType, Shape
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather
from edgecc.ops.movement import Reshape, Slice
from edgecc.ops.selection import NonZero
from edgecc.ops.sizes import BindSize

Origin = tuple[Value, int]
"""A tensor, and the position of a number in it, or `COUNT`."""

COUNT = -1
"""Stands for how many elements of the tensor are not 0: a mask that is used twice gives one size."""


def size_of(call: Call, number: Value, what: str, largest: int | None = None, *, name: str = "") -> Dim:
    """The number in an integer tensor of one element as a dimension.

    Args:
        call: the node that needs the size.
        number: the tensor.
        what: it is, for messages.
        largest: no larger number makes sense; None where the operator does not say.
        name: a result of the node that the size is called like; by default the first one.
    Raises: Unsupported where the number is computed at run time and nothing bounds it; EdgeccError E110 where it is no single
        integer.
    """
    if number.type.elements != 1 or not number.type.dtype.is_integer:
        raise EdgeccError("E110", f"{what} is {number.type}, wanted one integer")
    data = known_data(number)
    if data is not None:
        known: Dim = data.reshape(-1)[0]
        return known if is_symbolic(data) else int(known)
    importer, origin = call.importer, origin_of(number)
    sizes = importer.computed_sizes
    for emitter in importer.emitter.around():
        if (emitter, origin) in sizes:
            return sizes[emitter, origin]
    bounds = interval_of(number, importer.emitter.captured())
    low, high = max(0, bounds.low), bounds.high if largest is None else min(bounds.high, largest)
    if high > importer.limits.elements:
        if not importer.limits.computed_size:
            raise Unsupported(f"{what} is computed at run time, and nothing says how large it may be",
                              "bound it in the model (Min with a constant), make it a constant, or give "
                              "--limits computed_size=NUMBER", needs=(number,))
        high = importer.limits.computed_size
    if high < low:
        raise EdgeccError("E110", f"{what} is computed at run time and never within {low}..{high}")
    called = name or next(filter(None, call.node.output), call.node.op_type)
    size = symbol(importer.fresh_size(printable(called, 40)), low, high)
    if not isinstance(size, int):
        call.add(BindSize(size), call.cast(call.reshape(number, ()), DType.I64))
    sizes[importer.emitter, origin] = size
    return size


def origin_of(number: Value) -> Origin:
    """The tensor and position that a number comes from: equal origins are equal numbers, and one size."""
    position = 0
    while number.producer is not None:
        op, operand = number.producer.op, next(iter(number.producer.inputs), None)
        if operand is None:
            break
        match op:
            case NonZero() if number.result_index == 1:
                return _reshaped(operand), COUNT
            case _ if not operand.type.is_static:
                break
            case Reshape() if operand.type.elements == 1:
                number = operand
            case Slice(starts=(int(start),)):
                number, position = operand, start
                break
            case Elementwise(expr=Convert(arg=Arg(dtype=narrow), dtype=wide)) if narrow.is_integer and wide.is_signed and narrow.bits <= wide.bits:
                number = operand
            case _:
                break
    return number, position


def _reshaped(value: Value) -> Value:
    """What a tensor is another shape of."""
    while value.producer is not None and isinstance(value.producer.op, Reshape):
        value = value.producer.operand(0)
    return value


def sizes_of(call: Call, index: int, what: str) -> Shape:
    """The numbers in operand `index`, of rank 0 or 1, as dimensions; see `size_of`."""
    value = call.input(index)
    if not value.type.dtype.is_integer or value.type.rank > 1 or not value.type.is_static:
        raise EdgeccError("E110", f"{what} (operand {index}) must be a list of integers, it is {value.type}")
    if known_data(value) is not None:
        return call.known_dims(index, what)
    return tuple(size_of(call, element, f"{what} (operand {index})") for element in elements_of(call, value))


def elements_of(call: Call, value: Value) -> list[Value]:
    """Every element of a tensor of rank 0 or 1 as a tensor of rank 0; of a concatenation those of its parts."""
    if value.type.rank == 0:
        return [value]
    flat: list[Value] = []
    producer = value.producer
    if producer is not None and producer.op.name == "concat" and all(v is not None and v.type.is_static for v in producer.inputs):
        for part in producer.inputs:
            if part is not None:
                flat += elements_of(call, part)
        return flat
    if value.type.elements == 1:
        return [call.reshape(value, ())]
    return [call.reshape(call.add(Slice((position,), (1,), (1,)), value), ()) for position in range(value.type.elements)]


def first_of(call: Call, x: Value, axis: int, count: Value, what: str, *, name: str = "") -> Value:
    """The first `count` slices of `x` along an axis, where all of them are room for the most there can be."""
    return first_elements(call, x, axis, size_of(call, count, what, x.type.max_dims[axis], name=name))


def first_elements(call: Call, x: Value, axis: int, size: Dim) -> Value:
    """The first `size` slices of `x` along an axis, which has as many."""
    if isinstance(x.type.shape[axis], int) or size == x.type.shape[axis]:
        return call.slice(x, axis, 0, size)
    return call.add(Gather(axis), x, call.positions(size))  # whether one size is below the other is known to the run alone
