"""Operators that read or write at computed positions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.computed_sizes import size_of
from edgecc.frontend.converters.movement import concat
from edgecc.frontend.known import known_data
from edgecc.frontend.registry import converter
from edgecc.ir.dims import lower_bound, upper_bound
from edgecc.ir.graph import Value
from edgecc.ir.scalar import ScalarExpr, apply, literal
from edgecc.ir.types import Dim, DType
from edgecc.ops.indexing import SCATTER_REDUCTIONS, Gather, GatherElements, GatherND, ScatterElements, ScatterND


def check_range(indices: Value, axis_size: Dim) -> None:
    """Refuses constant indices outside [-size, size)."""
    data, size = indices.constant, lower_bound(axis_size)
    if data is not None and data.size and (data.min() < -size or data.max() >= size):
        raise EdgeccError("E110", f"an index of {int(data.min())} to {int(data.max())} is outside an axis of {size} elements")


def _check_rows(indices: Value, sizes: Sequence[Dim]) -> None:
    """Refuses constant rows of indices of which one is outside the axis it counts along."""
    data = indices.constant
    if data is not None and data.ndim and data.dtype.kind in "iu":
        for entry, axis_size in zip(range(data.shape[-1]), sizes, strict=False):
            column, size = data[..., entry], lower_bound(axis_size)
            if column.size and (column.min() < -size or column.max() >= size):
                raise EdgeccError("E110", f"entry {entry} of the indices, {int(column.min())} to {int(column.max())}, is outside an "
                                          f"axis of {size} elements")


@converter("Gather")
def _gather(call: Call) -> Value:
    x, indices = call.input(0), call.input(1)
    axis = call.axis(call.integer("axis", 0), x.type.rank)
    check_range(indices, x.type.shape[axis])
    known = indices.constant
    if known is not None and known.ndim == 0 and known_data(x) is None:
        at = int(known)
        part = call.slice(x, axis, at if at >= 0 else x.type.shape[axis] + at, 1)
        return call.reshape(part, [size for a, size in enumerate(x.type.shape) if a != axis])
    return call.add(Gather(axis), x, indices)


@converter("GatherElements")
def _gather_elements(call: Call) -> Value:
    x, indices = call.input(0), call.input(1)
    axis = call.axis(call.integer("axis", 0), x.type.rank)
    check_range(indices, x.type.shape[axis])
    return call.add(GatherElements(axis), x, indices)


@converter("GatherND")
@converter("GatherND", domain="com.microsoft")
def _gather_nd(call: Call) -> Value:
    batch = call.integer("batch_dims", 0)
    x, indices = call.input(0), call.input(1)
    _check_rows(indices, x.type.shape[max(batch, 0):])
    return call.add(GatherND(batch), x, indices)


def _reduction(call: Call) -> str:
    reduction = call.text("reduction", "none")
    if reduction not in SCATTER_REDUCTIONS:
        raise EdgeccError("E102", f"reduction is '{printable(reduction)}', wanted one of {', '.join(SCATTER_REDUCTIONS)}")
    return reduction


@converter("ScatterElements", "Scatter")
def _scatter_elements(call: Call) -> Value:
    x, indices, updates = call.input(0), call.input(1), call.input(2)
    axis = call.axis(call.integer("axis", 0), x.type.rank)
    check_range(indices, x.type.shape[axis])
    return call.add(ScatterElements(axis, _reduction(call)), x, indices, updates)


@converter("ScatterND")
def _scatter_nd(call: Call) -> Value:
    _check_rows(call.input(1), call.input(0).type.shape)
    return call.add(ScatterND(_reduction(call)), call.input(0), call.input(1), call.input(2))


@converter("TensorScatter", since=24)
def _tensor_scatter(call: Call) -> Value:
    """A cache of keys or values: rows of updates are written from write_indices[batch] on along an axis."""
    cache, update, start = call.input(0), call.input(1), call.optional(2)
    axis = call.axis(call.integer("axis", -2), cache.type.rank)
    mode = call.text("mode", "linear")
    dims, count = cache.type.shape, update.type.shape[axis] if update.type.rank == cache.type.rank else -1
    if mode not in ("linear", "circular"):
        raise EdgeccError("E102", f"mode is '{printable(mode)}', wanted linear or circular")
    if axis == 0 or lower_bound(count) < 0 or lower_bound(count) > upper_bound(dims[axis]) or update.type.shape != (*dims[:axis], count, *dims[axis + 1:]):
        raise EdgeccError("E110", f"the update {update.type} does not fit into axis {axis} of {cache.type}")
    if start is not None and start.type.shape != dims[:1]:
        raise EdgeccError("E110", f"write_indices are {start.type}, wanted one for each of {dims[0]}")
    between = math.prod(dims[1:axis])
    rows = (dims[0], between, count)
    call.reserve((3, *rows), "the places of the update")
    batch, middle, step = (call.reshape(call.positions(n), [n if a == axis_of else 1 for a in range(3)]) for axis_of, n in enumerate(rows))
    at = step
    if start is not None:
        first = call.reshape(call.cast(start, DType.I64), (dims[0], 1, 1))
        at = call.map(lambda s, f: apply("add", s, f), step, first)
        if mode == "circular":
            at = call.map(lambda a, n: apply("mod", a, n), at, call.sizes([dims[axis]]))
    where = concat(call, [call.reshape(call.expand(part, rows), (*rows, 1)) for part in (batch, middle, at)], 3)
    inside = dims[axis + 1:]
    y = call.add(ScatterND(), call.reshape(cache, (dims[0], between, dims[axis], *inside)), where,
                 call.reshape(update, (*rows, *inside)))
    return call.reshape(y, dims)


@converter("OneHot")
def _one_hot(call: Call) -> Value:
    """on where the position along the new axis is the index, else off; an index out of range gives off everywhere."""
    indices, values = call.input(0), call.input(2)
    number = call.input(1)
    if number.type.elements != 1 or values.type.shape != (2,):
        raise EdgeccError("E110", f"depth must be one number and values two; they are {number.type} and {values.type}")
    depth = size_of(call, call.cast(number, DType.I64), "depth")
    if upper_bound(depth) < 1:
        raise EdgeccError("E110", f"depth is {depth}, wanted at least 1")
    rank = indices.type.rank + 1
    axis = call.axis(call.integer("axis", -1), rank)
    dims = list(indices.type.shape)
    result = [*dims[:axis], depth, *dims[axis:]]
    call.importer.limits.check_dims(result, "the result of OneHot")
    index = call.reshape(call.cast(indices, DType.I64), [*dims[:axis], 1, *dims[axis:]])
    positions = call.reshape(call.positions(depth), [depth if a == axis else 1 for a in range(rank)])
    off, on = (call.reshape(call.slice(values, 0, which, 1), ()) for which in (0, 1))
    zero = literal(0, DType.I64)
    if isinstance(depth, int):
        size = literal(depth, DType.I64)
        return call.map(
            lambda i, p, a, b: apply("select", apply("eq", apply("select", apply("lt", i, zero), apply("add", i, size), i), p), b, a),
            index, positions, off, on)
    return call.map(
        lambda i, p, a, b, n: apply("select", apply("eq", apply("select", apply("lt", i, zero), apply("add", i, n), i), p), b, a),
        index, positions, off, on, call.reshape(call.sizes([depth]), ()))


@converter("Trilu")
@converter("Trilu", domain="com.microsoft")
def _trilu(call: Call) -> Value:
    x = call.input()
    if x.type.rank < 2:
        raise EdgeccError("E110", f"the input is {x.type}, wanted rank 2 at least")
    offset = 0 if call.optional(1) is None else call.known_int(1, "k")
    rows, columns = x.type.shape[-2:]
    row, column = call.reshape(call.positions(rows), (rows, 1)), call.reshape(call.positions(columns), (1, columns))
    # Offsets beyond the matrix mean the same as its border, and must not wrap.
    shift = literal(max(min(offset, upper_bound(columns) + 1), -upper_bound(rows) - 1), DType.I64)
    zero = literal(0, x.type.dtype)
    if call.flag("upper", True):
        return call.map(lambda a, r, c: apply("select", apply("le", apply("add", r, shift), c), a, zero), x, row, column)
    return call.map(lambda a, r, c: apply("select", apply("le", c, apply("add", r, shift)), a, zero), x, row, column)


@converter("ReverseSequence")
def _reverse_sequence(call: Call) -> Value:
    """Reads position len-1-t of each sequence for t < len, and t itself after it."""
    x = call.input(0)
    time, batch = call.integer("time_axis", 0), call.integer("batch_axis", 1)
    if x.type.rank < 2 or sorted((time, batch)) != [0, 1]:
        raise EdgeccError("E110", f"time_axis {time} and batch_axis {batch} must be 0 and 1, on rank 2 at least")
    if not x.type.is_static or call.input(1).constant is None:
        return _reversed_by_run(call, x, call.input(1), time)
    lengths = call.known_ints(1, "sequence_lens")
    steps, members = x.type.dims[time], x.type.dims[batch]
    if len(lengths) != members or min(lengths, default=0) < 0 or max(lengths, default=0) > steps:
        raise EdgeccError("E110", f"sequence_lens {list(lengths)} do not fit {x.type}")
    call.reserve((steps, members, 2), "the order of the steps")
    step, length = np.arange(steps)[:, None], np.array(lengths, dtype=np.int64)[None, :]
    source = np.where(step < length, length - 1 - step, step)
    member = np.broadcast_to(np.arange(members)[None, :], source.shape)
    pairs = np.stack([source, member], axis=-1)
    ordered = pairs if time == 0 else pairs.transpose(1, 0, 2)[..., ::-1]
    return call.add(GatherND(), x, call.constant(np.ascontiguousarray(ordered, dtype=np.int64)))


def _reversed_by_run(call: Call, x: Value, lengths: Value, time: int) -> Value:
    """ReverseSequence of lengths or sizes that the run decides: each sequence is read at positions computed from its length."""
    order = (1, 0, *range(2, x.type.rank))
    sequences = x if time == 1 else call.transpose(x, order)
    members, steps = sequences.type.shape[:2]
    if lengths.type.shape != (members,):
        raise EdgeccError("E110", f"sequence_lens {lengths.type} do not fit {x.type}")

    def source(step: ScalarExpr, length: ScalarExpr) -> ScalarExpr:
        backwards = apply("sub", apply("sub", length, literal(1, DType.I64)), step)
        return apply("select", apply("lt", step, length), backwards, step)

    read = call.map(source, call.positions(steps), call.reshape(call.cast(lengths, DType.I64), (members, 1)))
    result = call.add(GatherND(1), sequences, call.reshape(read, (members, steps, 1)))
    return result if time == 1 else call.transpose(result, order)
