"""Parts of a tensor whose place depends on the number of a loop's iteration: x[i + 1 : i + 3] has two elements in each."""

from __future__ import annotations

import numpy as np

from edgecc.frontend.call import Call
from edgecc.frontend.known import known_data
from edgecc.ir.graph import Value
from edgecc.ir.scalar import Apply, Arg, ScalarExpr, apply
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
    if base is not other or base not in call.importer.iterations or first < 0 or not 0 < last - first <= x.type.dims[axis]:
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
