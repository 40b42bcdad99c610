"""Operators whose results have as many elements as the data says.

Where all operands are known the number is, too. Core operators compute them at run time as well, padded to the
most elements there can be, but the graph has no dimension yet that a tensor gives.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.graph import Value
from edgecc.ir.op import Op
from edgecc.ir.types import Array, DType
from edgecc.ops.indexing import Gather
from edgecc.ops.selection import NonMaxSuppression, NonZero, Unique


def _known(call: Call, op: Op, operands: Sequence[Value | None]) -> list[Array]:
    """The results of an operator on constants.

    Raises: Unsupported where an operand is computed at run time.
    """
    run_time = tuple(v for v in operands if v is not None and v.constant is None)
    if run_time:
        raise Unsupported("the shape of the result depends on data",
                          "end the model before it, and do this step in the program around the model", needs=run_time)
    results = call.add_all(op, *operands)
    arrays = [value.constant for value in results]
    if any(array is None for array in arrays):
        raise Unsupported("the operands are too large to evaluate while compiling", "raise Limits.folding_work if the model is trusted")
    return [array for array in arrays if array is not None]


@converter("NonZero")
def _non_zero(call: Call) -> Value:
    x = call.input()
    positions, count = _known(call, NonZero(), (x,))
    return call.constant(positions[:, :int(count)])


@converter("Compress")
def _compress(call: Call) -> Value:
    x = call.input()
    chosen = np.nonzero(call.known(1, "the condition").reshape(-1))[0].astype(np.int64)
    if call.has("axis"):
        axis = call.axis(call.integer("axis"), x.type.rank)
    else:
        x, axis = call.reshape(x, (x.type.elements,)), 0
    if chosen.size and chosen[-1] >= x.type.dims[axis]:
        raise EdgeccError("E110", f"the condition is longer than axis {axis} of {x.type}")
    return call.add(Gather(axis), x, call.constant(chosen))


@converter("Unique", since=11)
def _unique(call: Call) -> list[Value]:
    x = call.input()
    axis = call.axis(call.integer("axis"), x.type.rank) if call.has("axis") else 0
    flat = x if call.has("axis") else call.reshape(x, (x.type.elements,))
    y, first, inverse, counts, count = _known(call, Unique(axis, call.flag("sorted", True)), (flat,))
    kept = np.take(y, np.arange(int(count)), axis=axis)
    return [call.constant(array) for array in (kept, first[:int(count)], inverse, counts[:int(count)])]


@converter("NonMaxSuppression", since=10)
def _non_max_suppression(call: Call) -> Value:
    """Without max_output_boxes_per_class nothing is kept; without iou_threshold boxes may not overlap at all."""
    boxes, scores = call.input(0), call.input(1)
    if boxes.type.rank != 3:
        raise EdgeccError("E110", f"the boxes are {boxes.type}, wanted [N,B,4]")
    most = _scalar(call, 2, DType.I64)
    known = most.constant
    bound = boxes.type.dims[1] if known is None else max(0, min(int(known), boxes.type.dims[1]))
    threshold = None if call.optional(4) is None else _scalar(call, 4, boxes.type.dtype)
    op = NonMaxSuppression(bound, call.flag("center_point_box"))
    selected, count = _known(call, op, (boxes, scores, most, _scalar(call, 3, boxes.type.dtype), threshold))
    return call.constant(selected[:int(count)])


def _scalar(call: Call, index: int, dtype: DType) -> Value:
    """One number; 0 where it is absent."""
    value = call.optional(index)
    if value is None:
        return call.scalar(0, dtype)
    if value.type.elements != 1:
        raise EdgeccError("E110", f"operand {index} is {value.type}, wanted one number")
    return call.cast(call.reshape(value, ()), dtype)
