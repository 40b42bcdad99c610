"""Gather and scatter: reading and writing at positions given by a tensor.

Indices below zero count from the end; whatever is still out of range is clamped, so no index, however
wrong, reads or writes outside of a tensor.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgecc.ir.types import DType
from edgecc.kernels.base import Kernel, Request, View, kernel_for
from edgecc.kernels.copying import copy, copy_lanes
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.iteration import Axis, Step, axes_of, elements, nest, simplified, split_for_threads, vectors
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.scalar_lowering import compute_type
from edgecc.loop.builder import add, cast, less, operation, select
from edgecc.loop.index import ZERO, Index, from_expr
from edgecc.loop.ir import Buffer
from edgecc.ops.indexing import Gather, GatherElements, GatherND, ScatterElements, ScatterND

RESULT, SOURCE, INDICES = 0, 1, 2
"""The views among the strides of an axis."""


def position(b: KernelBuilder, indices: Buffer, at: Index, size: int) -> Index:
    """The element of `indices` at address `at` as a position 0 .. size-1."""
    value = b.load(indices, at)
    if indices.dtype.is_signed:
        wide = b.let("index", cast(value, DType.I64))
        value = select(less(wide, 0), add(wide, size), wide)
        value = operation("max", value, 0)
    elif indices.dtype is not DType.U64:  # a U64 might not fit before it is limited
        value = cast(value, DType.I64)
    value = cast(operation("min", value, max(size - 1, 0)), DType.I64)
    return from_expr(b.let("position", value))


def _strides(view: View, axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(view.strides[a] for a in axes)


# -- gather -----------------------------------------------------------------------------------


@kernel_for(Gather)
def lower_gather(request: Request) -> Kernel:
    """Rows of x copied to where indices name them; a row is what lies behind the axis, in vectors."""
    op, x_view, i_view = request.op, request.operand(0).view, request.operand(1).view
    if not isinstance(op, Gather):
        raise TypeError(op)
    y_view, rank = request.outputs[0], len(i_view.dims)
    b = KernelBuilder(request, "gather", f"gather {shape_text(i_view)} positions of {shape_text(x_view)} along axis {op.axis}")
    x, indices, y = b.input(0, "x", raw=True), b.input(1, "indices"), b.output(0, "y", raw=True)
    rows = [Axis(d, (y_view.strides[op.axis + k], 0, i_view.strides[k])) for k, d in enumerate(i_view.dims)]
    inside: list[Axis] = []
    for axis, (dim, stride) in enumerate(zip(x_view.dims, x_view.strides, strict=True)):
        if axis != op.axis:
            inside.append(Axis(dim, (y_view.strides[axis if axis < op.axis else axis + rank - 1], stride, 0)))
    _gather(b, y, x, indices, rows, inside, [(0, x_view.dims[op.axis], x_view.strides[op.axis])])
    return b.kernel(choice="rows copied")


@kernel_for(GatherND)
def lower_gather_nd(request: Request) -> Kernel:
    """As `lower_gather`, with one index for each of the addressed axes."""
    op, x_view, i_view = request.op, request.operand(0).view, request.operand(1).view
    if not isinstance(op, GatherND):
        raise TypeError(op)
    y_view, rank, batch, depth = request.outputs[0], len(i_view.dims), op.batch_dims, i_view.dims[-1]
    b = KernelBuilder(request, "gather_nd", f"gather rows of {shape_text(x_view)} at {shape_text(i_view)} positions")
    x, indices, y = b.input(0, "x", raw=True), b.input(1, "indices"), b.output(0, "y", raw=True)
    rows = [Axis(d, (y_view.strides[k], x_view.strides[k] if k < batch else 0, i_view.strides[k]))
            for k, d in enumerate(i_view.dims[:-1])]
    inside = [Axis(x_view.dims[a], (y_view.strides[rank - 1 + a - batch - depth], x_view.strides[a], 0))
              for a in range(batch + depth, len(x_view.dims))]
    addressed = [(j * i_view.strides[-1], x_view.dims[batch + j], x_view.strides[batch + j]) for j in range(depth)]
    _gather(b, y, x, indices, rows, inside, addressed)
    return b.kernel(choice="rows copied")


def _gather(b: KernelBuilder, y: Buffer, x: Buffer, indices: Buffer, rows: Sequence[Axis], inside: Sequence[Axis],
            addressed: Sequence[tuple[int, int, int]]) -> None:
    """For each row (axes with strides in result, source and indices) copies the elements `inside`.

    `addressed` lists (offset of the index, size, stride) of each axis of the source that has an index.
    Where the rows are the contiguous part of the result, they are the inner loop.
    """
    outer, inner = simplified(rows), simplified(inside)
    total = elements(rows) * elements(inside)
    if total == 0:
        return
    if inner and outer and abs(outer[-1].strides[RESULT]) < abs(inner[-1].strides[RESULT]) and len(addressed) == 1:
        # Elements that belong to neighbouring indices lie side by side: walk what is inside first.
        (offset, size, stride), = addressed
        divided, parallel = split_for_threads(inner, b.request.threads, 1, total)
        with nest(b, divided, "q", parallel=parallel) as (to, source, _), \
                nest(b, outer, "p", start=(to, source, ZERO)) as (to_row, source_row, at):
            found = position(b, indices, at + offset, size)
            b.store(y, to_row, b.load(x, source_row + found * stride))
        return
    divided, parallel = split_for_threads(outer, b.request.threads, 1, total)
    with nest(b, divided, "p", views=3, parallel=parallel) as (to, start, at):
        source = start
        for offset, size, stride in addressed:
            source = source + position(b, indices, at + offset, size) * stride
        copy(b, y, x, [Axis(a.extent, a.strides[:2]) for a in inner], (to, source), top_level=False)


@kernel_for(GatherElements)
def lower_gather_elements(request: Request) -> Kernel:
    """One index, one element: scalar code in the order of the result's memory."""
    op, x_view, i_view = request.op, request.operand(0).view, request.operand(1).view
    if not isinstance(op, GatherElements):
        raise TypeError(op)
    y_view = request.outputs[0]
    b = KernelBuilder(request, "gather_elements", f"gather {shape_text(y_view)} elements of {shape_text(x_view)} along axis {op.axis}")
    x, indices, y = b.input(0, "x", raw=True), b.input(1, "indices"), b.output(0, "y", raw=True)
    source = View(x_view.dtype, y_view.dims, tuple(0 if a == op.axis else s for a, s in enumerate(x_view.strides)))
    axes = simplified(axes_of([y_view, source, i_view]))
    divided, parallel = split_for_threads(axes, request.threads, 1, elements(axes))
    with nest(b, divided, views=3, parallel=parallel) as (to, start, at):
        found = position(b, indices, at, x_view.dims[op.axis])
        b.store(y, to, b.load(x, start + found * x_view.strides[op.axis]))
    return b.kernel(choice="scalar")


# -- scatter ----------------------------------------------------------------------------------


@kernel_for(ScatterND)
def lower_scatter_nd(request: Request) -> Kernel:
    """x is copied (onto itself where the result replaces it), then rows of updates are written in order."""
    op, i_view = request.op, request.operand(1).view
    if not isinstance(op, ScatterND):
        raise TypeError(op)
    u_view, y_view = request.operand(2).view, request.outputs[0]
    depth, rank = i_view.dims[-1], len(i_view.dims) - 1
    b = KernelBuilder(request, f"scatter_nd_{op.reduction}", f"scatter {shape_text(u_view)} into {shape_text(y_view)}")
    y, indices, updates = _start_scatter(b, request, raw=op.reduction == "none")
    rows = [Axis(d, (0, u_view.strides[k], i_view.strides[k])) for k, d in enumerate(i_view.dims[:-1])]
    inside = simplified([Axis(d, (y_view.strides[depth + k], u_view.strides[rank + k]))
                         for k, d in enumerate(y_view.dims[depth:])])
    if elements(rows) * elements(inside):
        with nest(b, rows, "p", views=3) as (_, source, at):  # in the order of the rows: the last one wins
            to = ZERO
            for j in range(depth):
                to = to + position(b, indices, at + j * i_view.strides[-1], y_view.dims[j]) * y_view.strides[j]
            _update(b, op.reduction, y, updates, inside, (to, source))
    return b.kernel(in_place=_in_place(request), choice="copy, then rows in order")


@kernel_for(ScatterElements)
def lower_scatter_elements(request: Request) -> Kernel:
    """x is copied (onto itself where the result replaces it), then elements are written in row-major order of indices."""
    op, i_view = request.op, request.operand(1).view
    if not isinstance(op, ScatterElements):
        raise TypeError(op)
    u_view, y_view = request.operand(2).view, request.outputs[0]
    b = KernelBuilder(request, f"scatter_elements_{op.reduction}",
                      f"scatter {shape_text(u_view)} elements into {shape_text(y_view)} along axis {op.axis}")
    y, indices, updates = _start_scatter(b, request, raw=op.reduction == "none")
    strides = tuple(0 if a == op.axis else s for a, s in enumerate(y_view.strides))
    axes = axes_of([View(y_view.dtype, i_view.dims, strides), u_view, i_view])
    if elements(axes):
        with nest(b, axes, views=3) as (to, source, at):
            found = position(b, indices, at, y_view.dims[op.axis])
            _update(b, op.reduction, y, updates, (), (to + found * y_view.strides[op.axis], source))
    return b.kernel(in_place=_in_place(request), choice="copy, then elements in order")


def _in_place(request: Request) -> tuple[tuple[int, int], ...]:
    return ((0, 0),) if request.operand(0).view == request.outputs[0] else ()


def _start_scatter(b: KernelBuilder, request: Request, *, raw: bool) -> tuple[Buffer, Buffer, Buffer]:
    """Adds the buffers and copies x to y; returns y, indices and updates."""
    aliased = bool(_in_place(request))
    x, indices = b.input(0, "x", aliased=aliased, raw=raw), b.input(1, "indices")
    updates, y = b.input(2, "updates", raw=raw), b.output(0, "y", aliased=aliased, raw=raw)
    copy(b, y, x, axes_of([request.outputs[0], request.operand(0).view]))
    return y, indices, updates


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
