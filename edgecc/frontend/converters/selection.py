"""Operators whose results have as many elements as the data says.

Core operators compute them padded to the most elements there can be, with their count. The count becomes a size of the
run; where all operands are known, so is the count.
"""

from __future__ import annotations

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.computed_sizes import first_of
from edgecc.frontend.intervals import interval_of
from edgecc.frontend.registry import converter
from edgecc.ir.dims import upper_bound
from edgecc.ir.graph import Value
from edgecc.ir.types import DType
from edgecc.ops.indexing import Gather
from edgecc.ops.selection import NonMaxSuppression, NonZero, Unique


def positions_of(call: Call, x: Value) -> tuple[Value, ...]:
    """The positions of what is not 0 and their number, with room for as many as there may be in any run."""
    return call.add_all(NonZero(0 if x.type.is_static else upper_bound(x.type.count)), x)


@converter("NonZero")
def _non_zero(call: Call) -> Value:
    positions, count = positions_of(call, call.input())
    return first_of(call, positions, 1, count, "the number of elements that are not 0")


@converter("Compress")
def _compress(call: Call) -> Value:
    """The slices at the positions where the condition holds; a condition that is longer than the axis is cut off."""
    x, condition = call.input(), call.input(1)
    if call.has("axis"):
        axis = call.axis(call.integer("axis"), x.type.rank)
    else:
        x, axis = call.reshape(x, (x.type.count,)), 0
    size, flat = x.type.shape[axis], call.reshape(condition, (condition.type.count,))
    if isinstance(size, int) and condition.type.is_static and condition.type.elements > size:
        flat = call.slice(flat, 0, 0, size)
    if flat.constant is not None:
        return call.add(Gather(axis), x, call.constant(np.nonzero(flat.constant)[0].astype(np.int64)))
    positions, count = positions_of(call, flat)
    taken = first_of(call, positions, 1, count, "the number of slices that are taken")
    return call.add(Gather(axis), x, call.reshape(taken, (taken.type.shape[1],)))


@converter("Unique", since=11)
def _unique(call: Call) -> list[Value]:
    x = call.input()
    axis = call.axis(call.integer("axis"), x.type.rank) if call.has("axis") else 0
    flat = x if call.has("axis") else call.reshape(x, (x.type.count,))
    y, first, inverse, counts, count = call.add_all(Unique(axis, call.flag("sorted", True)), flat)
    what = "the number of different elements"
    return [first_of(call, y, axis, count, what), first_of(call, first, 0, count, what), inverse,
            first_of(call, counts, 0, count, what)]


@converter("NonMaxSuppression", since=10)
def _non_max_suppression(call: Call) -> Value:
    """Without max_output_boxes_per_class nothing is kept; without iou_threshold boxes may not overlap at all."""
    boxes, scores = call.input(0), call.input(1)
    if boxes.type.rank != 3:
        raise EdgeccError("E110", f"the boxes are {boxes.type}, wanted [N,B,4]")
    most = _scalar(call, 2, DType.I64)
    total = boxes.type.max_dims[1]
    bound = max(0, min(interval_of(most).high, total))
    threshold = None if call.optional(4) is None else _scalar(call, 4, boxes.type.dtype)
    op = NonMaxSuppression(bound, call.flag("center_point_box"))
    selected, count = call.add_all(op, boxes, scores, most, _scalar(call, 3, boxes.type.dtype), threshold)
    return first_of(call, selected, 0, count, "the number of boxes that are kept")


def _scalar(call: Call, index: int, dtype: DType) -> Value:
    """One number; 0 where it is absent."""
    value = call.optional(index)
    if value is None:
        return call.scalar(0, dtype)
    if value.type.elements != 1:
        raise EdgeccError("E110", f"operand {index} is {value.type}, wanted one number")
    return call.cast(call.reshape(value, ()), dtype)
