"""Parts of a tensor whose place the run computes.

Where it depends on the number of a loop's iteration alone, as x[i + 1 : i + 3], every iteration has as many elements;
else their number is a size that the run computes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.computed_sizes import elements_of, first_elements, size_of
from edgecc.frontend.known import is_symbolic, known_data
from edgecc.ir.dims import upper_bound
from edgecc.ir.graph import Value
from edgecc.ir.scalar import Apply, Arg, ScalarExpr, apply, literal
from edgecc.ir.types import DType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather
from edgecc.ops.movement import Reshape


def moving_part(call: Call, x: Value, start: Value, end: Value, axis: int) -> Value | None:
    """`x[start:end]` along an axis where both are the number of an iteration plus a constant, as a gather; else None.

    A part that leaves the axis, which ONNX would cut off, is an index out of range of the run.
    """
    if any(v.type.elements != 1 or v.type.dtype is not DType.I64 or known_data(v) is not None for v in (start, end)):
        return None
    (base, first), (other, last) = _from_iteration(start), _from_iteration(end)
    if base is not other or base not in call.importer.iterations or first < 0 or not 0 < last - first <= upper_bound(x.type.shape[axis]):
        return None
    positions = call.constant(np.arange(first, last, dtype=np.int64))
    indices = call.map(lambda a, b: apply("add", a, b), call.reshape(base, (1,)), positions)
    return call.add(Gather(axis), x, indices)


def _from_iteration(value: Value) -> tuple[Value, int]:
    """A number as a value and a constant that is added to it."""
    offset = 0
    while value.producer is not None:
        node = value.producer
        if isinstance(node.op, Reshape):
            value = node.operand(0)
            continue
        if not isinstance(node.op, Elementwise):
            break
        step = _added(node.op.expr, [node.operand(index) for index in range(len(node.inputs))])
        if step is None:
            break
        value, offset = step[0], offset + step[1]
    return value, offset


def _added(expr: ScalarExpr, operands: list[Value]) -> tuple[Value, int] | None:
    """What a sum or difference adds to its one operand that is not constant."""
    match expr:
        case Apply(op="add" | "sub" as op, args=(Arg(index=a), Arg(index=b))):
            left, right = operands[a], operands[b]
            if right.constant is not None and right.constant.size == 1:
                number = int(right.constant.reshape(-1)[0])
                return left, number if op == "add" else -number
            if op == "add" and left.constant is not None and left.constant.size == 1:
                return right, int(left.constant.reshape(-1)[0])
    return None


def computed_part(call: Call, axes: Sequence[int] | None, steps: Sequence[int] | None) -> Value:
    """The part of operand 0 of a Slice whose starts or ends (operands 1 and 2) the run computes.

    It has as many elements as a size says that the run computes, at most those of the axis.
    Raises: EdgeccError E110 where the operands do not fit.
    """
    x, starts, ends = call.input(0), elements_of(call, call.input(1)), elements_of(call, call.input(2))
    named = range(len(starts)) if axes is None else axes
    strides = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(named) == len(strides) or 0 in strides:
        raise EdgeccError("E110", f"{len(starts)} starts, {len(ends)} ends, axes {list(named)} and steps {list(strides)} "
                                  "must have equal lengths, and no step may be 0")
    call.axes(tuple(named), x.type.rank)
    for start, end, axis, step in zip(starts, ends, named, strides, strict=True):
        x = computed_run(call, x, axis % x.type.rank, call.cast(start, DType.I64), call.cast(end, DType.I64), step)
    return x


def computed_run(call: Call, x: Value, axis: int, start: Value, end: Value, step: int) -> Value:
    """`x[start:end:step]` along one axis by Python's rules."""
    size = call.reshape(call.sizes([x.type.shape[axis]]), ())
    zero, one, by = (literal(number, DType.I64) for number in (0, 1, abs(step)))

    def clamped(position: ScalarExpr, count: ScalarExpr) -> ScalarExpr:
        counted = apply("select", apply("lt", position, zero), apply("add", position, count), position)
        if step > 0:
            return apply("min", apply("max", counted, zero), count)
        return apply("min", apply("max", counted, literal(-1, DType.I64)), apply("sub", count, one))

    first, last = (call.map(clamped, number, size) for number in (start, end))
    length = call.map(lambda a, b: apply("sub", b, a) if step > 0 else apply("sub", a, b), first, last)
    number = call.map(lambda n: apply("div", apply("max", apply("add", n, literal(abs(step) - 1, DType.I64)), zero), by), length)
    count = size_of(call, number, "the length of a slice", upper_bound(x.type.shape[axis]))
    known = known_data(first)
    if step == 1 and known is not None and not is_symbolic(known) and int(known.reshape(-1)[0]) == 0:
        return first_elements(call, x, axis, count)
    indices = call.map(lambda i, a: apply("add", a, apply("mul", i, literal(step, DType.I64))), call.positions(count), first)
    return call.add(Gather(axis), x, indices)
