"""Gather and scatter: reading and writing at positions given by a tensor.

Indices below zero count from the end. What is still out of range is clamped, or the run looks at all indices before the
kernel and ends where one is wrong, so that none reads or writes outside of a tensor; with the checks off it is trusted not to
occur. A check is one pass over the indices, in vectors, outside of the kernel's loops. Constant indices are resolved at compile time: to a table
of one address for each row of indices, or, for a short list that a gather reads, to copies of the runs
it consists of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.dims import lower_bound
from edgecc.ir.types import Array, DType
from edgecc.kernels.copying import AffineRun, affine_runs, copy, copy_lanes
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.iteration import (
    Axis,
    Step,
    axes_of,
    elements,
    nest,
    open_axis,
    simplified,
    split_for_threads,
    vectors,
)
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.lookup import is_lookup, lower_lookup
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Operand, Request, size_dim
from edgecc.kernels.scalar_lowering import compute_type
from edgecc.kernels.view import View
from edgecc.loop.builder import add, cast, less, operation, select
from edgecc.loop.index import ZERO, Index, const, from_expr, maximum
from edgecc.loop.ir import Buffer, FromIndex
from edgecc.loop.module import IndexRange
from edgecc.ops.indexing import Gather, GatherElements, GatherND, ScatterElements, ScatterND, resolved

RESULT, SOURCE, INDICES = 0, 1, 2
"""The views among the strides of an axis."""

MAX_RUNS = 8
"""A gather by constant indices is written as copies where they consist of up to so many runs of a constant step."""


def position(b: KernelBuilder, indices: Buffer, at: Index, size: int | Index) -> Index:
    """The element of `indices` at address `at` as a position 0 .. size-1, unless it is wrong and nothing is clamped."""
    value, count = b.load(indices, at), size if isinstance(size, int) else FromIndex(size, DType.I64)
    if b.request.checks != "clamp":
        wide = b.let("index", cast(value, DType.I64))
        return from_expr(b.let("position", select(less(wide, 0), add(wide, count), wide)) if indices.dtype.is_signed else wide)
    if indices.dtype.is_signed:
        wide = b.let("index", cast(value, DType.I64))
        value = select(less(wide, 0), add(wide, count), wide)
        value = operation("max", value, 0)
    elif indices.dtype is not DType.U64:  # a U64 might not fit before it is limited
        value = cast(value, DType.I64)
    last = max(size - 1, 0) if isinstance(size, int) else FromIndex(_last(b.request, size), value.dtype)
    value = cast(operation("min", value, last), DType.I64)
    return from_expr(b.let("position", value))


def _last(request: Request, size: Index) -> Index:
    """The last position of an axis; 0 where it has none."""
    return size - 1 if lower_bound(size_dim(request, size)) > 0 else maximum(size - 1, 0)


@dataclass(frozen=True)
class _Rows:
    """A tensor of indices as rows, each of which addresses one position.

    Attributes:
        operand: the indices.
        view: where the rows begin; its axes are those of the operand, without the last where that holds the entries of a row.
        gap: distance between the entries of a row.
        sizes, strides: of the axes of the addressed tensor that the entries count along.
    """

    operand: Operand
    view: View
    gap: int
    sizes: tuple[int | Index, ...]
    strides: tuple[int, ...]

    @property
    def is_table(self) -> bool:
        """Whether the addresses are known: indices are constant, and so is what they count along."""
        return _is_table(self.operand, self.sizes)

    def addresses(self, b: KernelBuilder) -> Callable[[Index], Index]:
        """Adds the buffer of indices, or of addresses; gives the function from a row's place in it to the address it means."""
        sizes = [size for size in self.sizes if isinstance(size, int)]
        if self.is_table:
            reach = sum((size - 1) * abs(stride) for size, stride in zip(sizes, self.strides, strict=True))
            dtype = DType.I32 if reach < 1 << 31 else DType.I64
            pack = partial(_table, dtype, sizes, self.strides)
            table = b.packed("addresses", dtype, self.view.elements, (1,), pack)
            return lambda place: from_expr(b.let("address", b.load(table, place)))
        indices = b.input(1, "indices")

        def address(place: Index) -> Index:
            found = ZERO
            for entry, (size, stride) in enumerate(zip(self.sizes, self.strides, strict=True)):
                found = found + position(b, indices, place + entry * self.gap, size) * stride
            return found

        return address

    def checks(self, request: Request) -> tuple[tuple[int, IndexRange], ...]:
        """What the run has to look at before the kernel."""
        if self.is_table or request.checks != "trap":
            return ()
        dtype, limits = self.view.dtype, np.iinfo(self.view.dtype.numpy)
        axes = tuple((size_dim(request, axis.stop), axis.strides[0]) for axis in simplified(axes_of([self.view])))
        sizes = [size if isinstance(size, int) else size_dim(request, size) for size in self.sizes]
        return tuple((1, IndexRange(dtype, axes, entry * self.gap, size)) for entry, size in enumerate(sizes)
                     if int(limits.max) >= lower_bound(size) or int(limits.min) < -lower_bound(size))

    @property
    def choice(self) -> str:
        """How the addresses come about, for `Kernel.choice`."""
        return "constant addresses" if self.is_table else "indices"


def _single_rows(operand: Operand, addressed: View, axis: int) -> _Rows:
    """Every index is a row of its own, and counts along one axis."""
    return _Rows(operand, operand.view, 0, (addressed.bound(axis),), (addressed.strides[axis],))


def _nd_rows(operand: Operand, addressed: View, first: int = 0) -> _Rows:
    """The last axis of the indices holds the entries of rows, which count along the axes from `first` on."""
    view, depth = operand.view, operand.view.dims[-1]
    sizes = tuple(addressed.bound(axis) for axis in range(first, first + depth))
    strides = tuple(s // depth for s in view.strides[:-1]) if _is_table(operand, sizes) else view.strides[:-1]
    chosen = slice(first, first + depth)
    rows = View(view.dtype, view.dims[:-1], strides, sizes=view.sizes[:-1])
    return _Rows(operand, rows, view.strides[-1], sizes, addressed.strides[chosen])


def _is_table(operand: Operand, sizes: Sequence[int | Index]) -> bool:
    return operand.is_constant and all(isinstance(size, int) for size in sizes)


def _table(dtype: DType, sizes: Sequence[int], strides: Sequence[int], indices: Array) -> Array:
    """The address that each row of constant indices means."""
    entries = indices.reshape(-1, len(sizes))
    total = np.zeros(len(entries), np.int64)
    for entry, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
        total += resolved(entries[:, entry], size) * stride
    return total.astype(dtype.numpy)


# -- gather -----------------------------------------------------------------------------------


@kernel_for(Gather, rows=True, is_open=True)
def lower_gather(request: Request) -> Kernel:
    """Rows of x copied to where indices name them; a row is what lies behind the axis, in vectors."""
    op, x_view, indices = request.op, request.operand(0).view, request.operand(1)
    if not isinstance(op, Gather):
        raise TypeError(op)
    if is_lookup(request):
        return lower_lookup(request)
    if request.rows:
        raise EdgeccError("E112", f"{op.name} has kernels for ranges of rows where bytes are looked up in a table only")
    y_view, rank = request.outputs[0], len(indices.view.dims)
    b = KernelBuilder(request, "gather", f"gather {shape_text(indices.view)} positions of {shape_text(x_view)} along axis {op.axis}")
    inside: list[Axis] = []
    for axis, (dim, stride) in enumerate(zip(x_view.dims, x_view.strides, strict=True)):
        if axis != op.axis:
            strides = (y_view.strides[axis if axis < op.axis else axis + rank - 1], stride, 0)
            inside.append(open_axis(dim, strides, x_view.size(axis), padded=x_view.padded and y_view.padded))
    if indices.values is not None and rank <= 1 and not request.is_open:
        runs = affine_runs([int(p) for p in resolved(np.asarray(indices.values), x_view.dims[op.axis])])
        if len(runs) <= MAX_RUNS:
            _copy_runs(b, runs, inside, (y_view.strides[op.axis] if rank else 0, x_view.strides[op.axis]))
            return b.kernel(choice=f"{len(runs)} strided copies")
    rows = _single_rows(indices, x_view, op.axis)
    outer = [open_axis(d, (y_view.strides[op.axis + k], 0, s), rows.view.size(k))
             for k, (d, s) in enumerate(zip(rows.view.dims, rows.view.strides, strict=True))]
    return _gather(b, rows, outer, inside)


@kernel_for(GatherND, is_open=True)
def lower_gather_nd(request: Request) -> Kernel:
    """As `lower_gather`, with one index for each of the addressed axes."""
    op, x_view, indices = request.op, request.operand(0).view, request.operand(1)
    if not isinstance(op, GatherND):
        raise TypeError(op)
    y_view, rank, batch, depth = request.outputs[0], len(indices.view.dims), op.batch_dims, indices.view.dims[-1]
    b = KernelBuilder(request, "gather_nd", f"gather rows of {shape_text(x_view)} at {shape_text(indices.view)} positions")
    rows = _nd_rows(indices, x_view, batch)
    outer = [open_axis(d, (y_view.strides[k], x_view.strides[k] if k < batch else 0, s), rows.view.size(k))
             for k, (d, s) in enumerate(zip(rows.view.dims, rows.view.strides, strict=True))]
    inside = [open_axis(x_view.dims[a], (y_view.strides[rank - 1 + a - batch - depth], x_view.strides[a], 0), x_view.size(a))
              for a in range(batch + depth, len(x_view.dims))]
    return _gather(b, rows, outer, inside)


@kernel_for(GatherElements, is_open=True)
def lower_gather_elements(request: Request) -> Kernel:
    """One index, one element: scalar code in the order of the result's memory."""
    op, x_view, indices, y_view = request.op, request.operand(0).view, request.operand(1), request.outputs[0]
    if not isinstance(op, GatherElements):
        raise TypeError(op)
    b = KernelBuilder(request, "gather_elements", f"gather {shape_text(y_view)} elements of {shape_text(x_view)} along axis {op.axis}")
    source = View(x_view.dtype, y_view.dims, tuple(0 if a == op.axis else s for a, s in enumerate(x_view.strides)))
    return _gather(b, _single_rows(indices, x_view, op.axis), axes_of([y_view, source, indices.view]), ())


def _gather(b: KernelBuilder, rows: _Rows, outer: Sequence[Axis], inside: Sequence[Axis]) -> Kernel:
    """Loops in the order of the result's memory: those down to the last that moves the indices, then a copy.

    Axes have strides (result, source, indices).
    """
    space = [*outer, *inside]
    if elements(space) == 0:
        b.output(0, "y", raw=True)
        return b.kernel(choice="nothing to gather")
    x, address, y = b.input(0, "x", raw=True), rows.addresses(b), b.output(0, "y", raw=True)
    ordered = simplified(space, RESULT)
    depth = max((i + 1 for i, axis in enumerate(ordered) if axis.strides[INDICES]), default=0)
    divided, parallel = split_for_threads(ordered[:depth], b.request.threads, 1, elements(space))
    copied = [replace(a, strides=a.strides[:INDICES]) for a in ordered[depth:]]
    with nest(b, divided, "p", views=3, parallel=parallel) as (to, source, at):
        copy(b, y, x, copied, (to, source + address(at)), top_level=not divided)
    return b.kernel(choice=f"copies of {elements(copied)} by {rows.choice}", checks=rows.checks(b.request))


def _copy_runs(b: KernelBuilder, runs: Sequence[AffineRun], inside: Sequence[Axis], strides: tuple[int, int]) -> None:
    """Copies runs of positions; `strides` are those of the gathered axis in result and source."""
    x, y = b.input(0, "x", raw=True), b.output(0, "y", raw=True)
    plain = [Axis(a.extent, a.strides[:INDICES]) for a in inside]
    for run in runs:
        copy(b, y, x, [*plain, Axis(run.count, (strides[0], run.step * strides[1]))],
             (const(run.first * strides[0]), const(run.source * strides[1])))


# -- scatter ----------------------------------------------------------------------------------


@kernel_for(ScatterND, is_open=True)
def lower_scatter_nd(request: Request) -> Kernel:
    """x is copied (onto itself where the result replaces it), then rows of updates are written in order."""
    op, indices = request.op, request.operand(1)
    if not isinstance(op, ScatterND):
        raise TypeError(op)
    u_view, y_view = request.operand(2).view, request.outputs[0]
    depth, rank = indices.view.dims[-1], len(indices.view.dims) - 1
    b = KernelBuilder(request, f"scatter_nd_{op.reduction}", f"scatter {shape_text(u_view)} into {shape_text(y_view)}")
    rows = _nd_rows(indices, y_view)
    outer = [open_axis(d, (0, u_view.strides[k], s), rows.view.size(k))
             for k, (d, s) in enumerate(zip(rows.view.dims, rows.view.strides, strict=True))]
    inside = simplified([open_axis(d, (y_view.strides[depth + k], u_view.strides[rank + k]), y_view.size(depth + k))
                         for k, d in enumerate(y_view.dims[depth:])])
    return _scatter(b, op.reduction, rows, outer, inside)  # in the order of the rows: the last one wins


@kernel_for(ScatterElements, is_open=True)
def lower_scatter_elements(request: Request) -> Kernel:
    """x is copied (onto itself where the result replaces it), then elements are written in row-major order of indices."""
    op, indices = request.op, request.operand(1)
    if not isinstance(op, ScatterElements):
        raise TypeError(op)
    u_view, y_view = request.operand(2).view, request.outputs[0]
    b = KernelBuilder(request, f"scatter_elements_{op.reduction}",
                      f"scatter {shape_text(u_view)} elements into {shape_text(y_view)} along axis {op.axis}")
    strides = tuple(0 if a == op.axis else s for a, s in enumerate(y_view.strides))
    outer = axes_of([View(y_view.dtype, indices.view.dims, strides, sizes=indices.view.sizes), u_view, indices.view])
    return _scatter(b, op.reduction, _single_rows(indices, y_view, op.axis), outer, ())


def _scatter(b: KernelBuilder, reduction: str, rows: _Rows, outer: Sequence[Axis], inside: Sequence[Axis]) -> Kernel:
    """Copies x to y, then updates y in the order of the loops `outer` (strides: result, updates, indices).

    The axes `inside` have strides (result, updates).
    """
    in_place, raw = _in_place(b.request), reduction == "none"
    x, y = b.input(0, "x", aliased=bool(in_place), raw=raw), b.output(0, "y", aliased=bool(in_place), raw=raw)
    copy(b, y, x, axes_of([b.request.outputs[0], b.request.operand(0).view]))
    checks = rows.checks(b.request) if elements(outer) * elements(inside) else ()
    if elements(outer) * elements(inside):
        address, updates = rows.addresses(b), b.input(2, "updates", raw=raw)
        with nest(b, outer, "p", views=3) as (to, source, at):
            _update(b, reduction, y, updates, inside, (to + address(at), source))
    return b.kernel(in_place=in_place, choice=f"copy, then updates of {elements(inside)} in order, by {rows.choice}",
                    checks=checks)


def _in_place(request: Request) -> tuple[tuple[int, int], ...]:
    x = request.operand(0)
    return ((0, 0),) if x.view.shows_same(request.outputs[0]) and not x.is_constant else ()


def _update(b: KernelBuilder, reduction: str, y: Buffer, updates: Buffer, axes: Sequence[Axis],
            start: tuple[Index, Index]) -> None:
    """Writes a row of updates, or combines it with what is there. Axes have strides (result, updates)."""
    if reduction == "none":
        copy(b, y, updates, axes, start, top_level=False)
        return
    inner = axes[-1] if axes else Axis(1, (0, 0))
    dtype = compute_type(y.dtype)
    with nest(b, axes[:-1], "q", start=start) as offsets:

        def combine(step: Step, _: int) -> None:
            there, update = (cast(step.load(b, view, buffer), dtype) for view, buffer in ((0, y), (1, updates)))
            step.store(b, 0, y, cast(operation(reduction, there, update), y.dtype))

        lanes = copy_lanes(b, inner, y.dtype) if y.dtype in (DType.F32, DType.I32) else 1
        vectors(b, inner, offsets, lanes, combine)
