"""Operators that read or write at positions given by a tensor of indices.

An index below zero counts from the end. An index still out of range is clamped to the nearest valid
one: ONNX leaves such models invalid, models are untrusted, and so the meaning is defined here, and
generated code does the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.dims import upper_bound
from edgecc.ir.op import Op, present, register, required
from edgecc.ir.types import Array, Dim, DType, TensorType, is_float_array
from edgecc.ops import rules

SCATTER_REDUCTIONS = ("none", "add", "mul", "min", "max")


@register
@dataclass(frozen=True)
class Gather(Op):
    """y[p, i, q] = x[p, indices[i], q], with p the axes of x before `axis` and q those after it.

    Shapes: x [P.., D, Q..], indices [I..] integers -> y [P.., I.., Q..]; scalar indices remove the axis.
    Attributes: axis, 0 <= axis < rank of x.
    Raises: E110 for a bad axis, indices that are no integers, or an empty axis read by some index.
    Source: ONNX Gather-13.
    """

    name: ClassVar[str] = "gather"
    inputs: ClassVar[tuple[str, ...]] = ("x", "indices")

    axis: int = 0

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The axis replaced by the axes of indices."""
        x, indices = required(inputs)
        _check_indices(self, indices, inputs)
        rules.check_axis(self, self.axis, x.rank, inputs)
        _check_readable(self, x.shape[self.axis:self.axis + 1], indices.count, inputs)
        dims = (*x.shape[:self.axis], *indices.shape, *x.shape[self.axis + 1:])
        return (rules.result_type(self, x.dtype, dims, inputs),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """numpy.take."""
        x, indices = present(inputs)
        return (np.asarray(np.take(x, resolved(indices, x.shape[self.axis]), axis=self.axis), x.dtype),)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Nothing is rounded: the magnitude of the result."""
        return _magnitude_of(self.reference(inputs))


@register
@dataclass(frozen=True)
class GatherElements(Op):
    """y[.., i, ..] = x[.., indices[.., i, ..], ..]: the position along `axis` is read from indices.

    Shapes: x, indices of equal rank; off the axis, sizes of indices are at most those of x -> y of indices' shape.
    Attributes: axis, 0 <= axis < rank.
    Raises: E110 for a bad axis, indices that are no integers, ranks or sizes that do not fit.
    Source: ONNX GatherElements-13.
    """

    name: ClassVar[str] = "gather_elements"
    inputs: ClassVar[tuple[str, ...]] = ("x", "indices")

    axis: int = 0

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The shape of indices."""
        x, indices = required(inputs)
        _check_elements(self, self.axis, x, indices, inputs)
        return (rules.result_type(self, x.dtype, indices.shape, inputs),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Reading at a full grid of positions, the axis' own replaced by the indices."""
        x, indices = present(inputs)
        return (np.asarray(x[_element_positions(x, indices, self.axis)]),)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Nothing is rounded: the magnitude of the result."""
        return _magnitude_of(self.reference(inputs))


@register
@dataclass(frozen=True)
class GatherND(Op):
    """y[b, i, q] = x[b, indices[b, i, 0], .., indices[b, i, k-1], q]: each row of indices is a position in x.

    Shapes: x [B.., D1..Dk, Q..], indices [B.., I.., k] with batch_dims leading axes B -> y [B.., I.., Q..].
    Attributes: batch_dims >= 0.
    Raises: E110 where indices are no integers, batch sizes differ, or k exceeds the remaining axes of x.
    Source: ONNX GatherND-13.
    """

    name: ClassVar[str] = "gather_nd"
    inputs: ClassVar[tuple[str, ...]] = ("x", "indices")

    batch_dims: int = 0

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The axes that the rows of indices address, replaced by the axes that count the rows."""
        x, indices = required(inputs)
        _check_indices(self, indices, inputs)
        batch = self.batch_dims
        if not 0 <= batch < min(x.rank, indices.rank):
            raise self.fail(f"batch_dims is {batch}, wanted 0 <= batch_dims < {min(x.rank, indices.rank)}", inputs)
        if x.shape[:batch] != indices.shape[:batch]:
            raise self.fail(f"the batch sizes are {list(x.shape[:batch])} in x and {list(indices.shape[:batch])} "
                            "in indices", inputs)
        depth = indices.shape[-1]
        if not 1 <= depth <= x.rank - batch:
            raise self.fail(f"rows of indices have {depth} entries, wanted 1 to {x.rank - batch}", inputs)
        _check_readable(self, x.shape[batch:batch + depth], indices.count, inputs)
        return (rules.result_type(self, x.dtype, (*indices.shape[:-1], *x.shape[batch + depth:]), inputs),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """numpy indexing with one array for each addressed axis and an open grid over the batch."""
        x, indices = present(inputs)
        batch, depth = self.batch_dims, indices.shape[-1]
        rows = indices.ndim - 1
        grid = [np.arange(x.shape[a]).reshape([-1 if i == a else 1 for i in range(rows)]) for a in range(batch)]
        positions = [resolved(indices[..., j], x.shape[batch + j]) for j in range(depth)]
        return (np.asarray(x[(*grid, *positions)], x.dtype),)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Nothing is rounded: the magnitude of the result."""
        return _magnitude_of(self.reference(inputs))


@register
@dataclass(frozen=True)
class ScatterND(Op):
    """y = x, with y[indices[i], q] = updates[i, q], or combined with what is there, row after row.

    Shapes: x [D1..Dk, Q..], indices [I.., k] integers, updates [I.., Q..] -> y of x's shape.
    Attributes: reduction "none" (the last update of a position wins), "add", "mul", "min" or "max".
    Raises: E110 where indices are no integers, types differ, shapes do not fit, or the reduction is unknown or
        not for bool.
    Source: ONNX ScatterND-18. Floats are combined in float64 and rounded once.
    """

    name: ClassVar[str] = "scatter_nd"
    inputs: ClassVar[tuple[str, ...]] = ("x", "indices", "updates")

    reduction: str = "none"

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The shape of x."""
        x, indices, updates = required(inputs)
        _check_scatter(self, self.reduction, x, indices, updates, inputs)
        if x.rank == 0 or indices.rank == 0 or not 1 <= indices.shape[-1] <= x.rank:
            raise self.fail(f"rows of indices address the first axes of x: wanted 1 to {x.rank} entries", inputs)
        depth = indices.shape[-1]
        rules.check_dims(self, "updates", updates, (*indices.shape[:-1], *x.shape[depth:]), inputs)
        _check_readable(self, x.shape[:depth], indices.count, inputs)
        return (rules.result_type(self, x.dtype, x.shape, inputs),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """A copy of x, written at the positions of the rows in order."""
        x, indices, updates = present(inputs)
        depth = indices.shape[-1]
        rows = indices.reshape(-1, depth)
        positions = tuple(resolved(rows[:, j], x.shape[j]) for j in range(depth))
        return (_scattered(x, positions, updates.reshape(len(rows), *x.shape[depth:]), self.reduction),)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Without a sum nothing cancels: the magnitude of the result; sums and products: of absolute values."""
        x, indices, updates = present(inputs)
        return _scatter_magnitude(self, self.reduction, x, indices, updates)


@register
@dataclass(frozen=True)
class ScatterElements(Op):
    """y = x, with y[.., indices[p], ..] = updates[p] along `axis`, or combined with what is there, in row-major order of p.

    Shapes: x, indices, updates of equal rank; indices and updates of equal shape, off the axis at most that of x
        -> y of x's shape.
    Attributes: axis, 0 <= axis < rank; reduction as in `ScatterND`.
    Raises: E110 where indices are no integers, types differ, shapes do not fit, or the reduction is unknown or
        not for bool.
    Source: ONNX ScatterElements-18. Floats are combined in float64 and rounded once.
    """

    name: ClassVar[str] = "scatter_elements"
    inputs: ClassVar[tuple[str, ...]] = ("x", "indices", "updates")

    axis: int = 0
    reduction: str = "none"

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The shape of x."""
        x, indices, updates = required(inputs)
        _check_scatter(self, self.reduction, x, indices, updates, inputs)
        _check_elements(self, self.axis, x, indices, inputs)
        rules.check_dims(self, "updates", updates, indices.shape, inputs)
        return (rules.result_type(self, x.dtype, x.shape, inputs),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """A copy of x, written at the positions in order."""
        x, indices, updates = present(inputs)
        grid = _element_positions(x, indices, self.axis)
        positions = tuple(np.broadcast_to(g, indices.shape).reshape(-1) for g in grid)
        return (_scattered(x, positions, updates.reshape(-1), self.reduction),)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Without a sum nothing cancels: the magnitude of the result; sums and products: of absolute values."""
        x, indices, updates = present(inputs)
        return _scatter_magnitude(self, self.reduction, x, indices, updates)


def resolved(indices: Array, size: int) -> Array:
    """Indices as positions 0..size-1: negative ones from the end, those out of range clamped."""
    signed = indices.astype(np.int64) if indices.dtype != np.uint64 else np.minimum(indices, 2**62).astype(np.int64)
    return np.clip(np.where(signed < 0, signed + size, signed), 0, max(size - 1, 0))


def _element_positions(x: Array, indices: Array, axis: int) -> tuple[Array, ...]:
    grid = [np.arange(size).reshape([-1 if i == a else 1 for i in range(x.ndim)]) for a, size in enumerate(indices.shape)]
    return (*grid[:axis], resolved(indices, x.shape[axis]), *grid[axis + 1:])


def _scattered(x: Array, positions: tuple[Array, ...], updates: Array, reduction: str) -> Array:
    if reduction == "none":
        out = np.array(x)
        for row, update in enumerate(updates):  # one by one: numpy promises no order for repeated positions
            out[tuple(p[row] for p in positions)] = update
        return out
    out = np.array(rules.wide(x))
    match reduction:
        case "add":
            np.add.at(out, positions, rules.wide(updates))
        case "mul":
            np.multiply.at(out, positions, rules.wide(updates))
        case "min":
            np.minimum.at(out, positions, rules.wide(updates))
        case "max":
            np.maximum.at(out, positions, rules.wide(updates))
    return out.astype(x.dtype)


def _scatter_magnitude(op: ScatterND | ScatterElements, reduction: str, x: Array, indices: Array,
                       updates: Array) -> tuple[Array, ...]:
    if reduction in ("add", "mul") and is_float_array(x):
        return op.reference([np.abs(x), indices, np.abs(updates)])
    return _magnitude_of(op.reference([x, indices, updates]))


def _magnitude_of(results: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(np.abs(y) if is_float_array(y) else y for y in results)


def _check_indices(op: Op, indices: TensorType, inputs: Sequence[TensorType | None]) -> None:
    if not indices.dtype.is_integer:
        raise op.fail(f"indices have type {indices.dtype.value}, wanted an integer", inputs)


def _check_readable(op: Op, dims: Sequence[Dim], count: Dim, inputs: Sequence[TensorType | None]) -> None:
    if upper_bound(count) and 0 in dims:
        raise op.fail("indices address an axis of x that is empty", inputs)


def _check_elements(op: Op, axis: int, x: TensorType, indices: TensorType, inputs: Sequence[TensorType | None]) -> None:
    _check_indices(op, indices, inputs)
    rules.check_axis(op, axis, x.rank, inputs)
    if indices.rank != x.rank:
        raise op.fail(f"indices have rank {indices.rank}, wanted that of x, {x.rank}", inputs)
    for a, (size, limit) in enumerate(zip(indices.shape, x.shape, strict=True)):
        if a != axis and size > limit:
            raise op.fail(f"axis {a} of indices has {size} elements, x has only {limit}", inputs)
    _check_readable(op, (x.shape[axis],), indices.count, inputs)


def _check_scatter(op: Op, reduction: str, x: TensorType, indices: TensorType, updates: TensorType,
                   inputs: Sequence[TensorType | None]) -> None:
    _check_indices(op, indices, inputs)
    rules.check_dtype(op, "updates", updates, x.dtype, inputs)
    if reduction not in SCATTER_REDUCTIONS:
        raise op.fail(f"reduction is {reduction!r}, wanted one of {', '.join(SCATTER_REDUCTIONS)}", inputs)
    if reduction != "none" and x.dtype in (DType.BOOL, DType.STRING):
        raise op.fail(f"reduction {reduction!r} does not take {x.dtype.value}", inputs)
