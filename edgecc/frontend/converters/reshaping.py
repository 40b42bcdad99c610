"""Reshape to numbers that the run computes: element i of each row is fetched from its place in the operand.

Memory is planned for rows of the largest size in each axis, so that this is for what strides cannot say otherwise: shapes
that follow from sizes of inputs are followed while importing and cost nothing.
"""

from __future__ import annotations

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.computed_sizes import elements_of, size_of
from edgecc.frontend.known import known_data
from edgecc.ir.dims import upper_bound
from edgecc.ir.graph import Value
from edgecc.ir.scalar import ScalarExpr, apply, literal
from edgecc.ir.types import Dim, DType
from edgecc.ops.indexing import Gather


def _number(value: int) -> ScalarExpr:
    return literal(value, DType.I64)


def _product(call: Call, factors: list[Value]) -> Value:
    total = call.scalar(1, DType.I64)
    for factor in factors:
        total = call.map(lambda a, b: apply("mul", a, b), total, factor)
    return total


def reshaped_by_run(call: Call, x: Value, wanted: Value, *, keep_zero: bool) -> Value:
    """x under a shape some of whose numbers the run computes. A shape for another number of elements ends the run (E406).

    Raises: Unsupported where nothing bounds the sizes, EdgeccError E110 where the shape is no list of integers.
    """
    if not wanted.type.dtype.is_integer or wanted.type.rank != 1 or not wanted.type.is_static:
        raise EdgeccError("E110", f"the shape (operand 1) must be a list of integers, it is {wanted.type}")
    count = x.type.count
    numbers = [call.cast(element, DType.I64) for element in elements_of(call, wanted)]
    total = call.reshape(call.sizes((count,)), ())
    if not keep_zero:
        numbers = [n if axis >= x.type.rank else call.map(
            lambda a, size: apply("select", apply("eq", a, _number(0)), size, a), n, call.reshape(call.sizes((x.type.shape[axis],)), ()))
            for axis, n in enumerate(numbers)]
    rest = _product(call, [call.map(lambda a: apply("select", apply("eq", a, _number(-1)), _number(1), a), n) for n in numbers])
    free = call.map(lambda t, r: apply("div", t, apply("max", r, _number(1))), total, rest)
    numbers = [call.map(lambda a, f: apply("select", apply("eq", a, _number(-1)), f, a), n, free) for n in numbers]
    fits = call.map(lambda a, t: apply("eq", a, t), _product(call, numbers), total)
    first = next((axis for axis, n in enumerate(numbers) if known_data(n) is None), None)
    if first is not None:  # a number that no size can be makes the run end
        numbers[first] = call.map(lambda f, a: apply("select", f, a, _number(-1)), fits, numbers[first])
    sizes: list[Dim] = [size_of(call, n, "the shape (operand 1)", upper_bound(count)) for n in numbers]
    call.importer.limits.check_dims(sizes, "the result of Reshape, whose sizes the run computes,")
    place = call.scalar(0, DType.I64)
    for axis, size in enumerate(sizes):
        stride = _product(call, numbers[axis + 1:])
        row = call.reshape(call.positions(size), [size if a == axis else 1 for a in range(len(sizes))])
        place = call.map(lambda p, r, s: apply("add", p, apply("mul", r, s)), place, row, stride)
    return call.add(Gather(0), call.reshape(x, (count,)), place)
