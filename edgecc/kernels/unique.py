"""Different slices of a tensor: positions are sorted by their slices, so that equal ones are neighbours.

Source: J. W. J. Williams, "Algorithm 232: Heapsort", 1964; R. W. Floyd, "Algorithm 245: Treesort 3", 1964.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from edgecc.ir.types import DType
from edgecc.kernels.copying import copy, fill
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.iteration import Axis, axes_of, elements, nest, open_axis, simplified
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Request
from edgecc.kernels.scalar_lowering import compute_type
from edgecc.kernels.view import View
from edgecc.loop.builder import add, cast, less, mul, number, operation, select
from edgecc.loop.index import Index, const, from_expr
from edgecc.loop.ir import Buffer, Expr, FromIndex, Ref
from edgecc.ops.selection import Unique


@dataclass(frozen=True)
class _Slices:
    """The slices of x along an axis: `stride` apart, each over `axes` (one stride)."""

    b: KernelBuilder
    x: Buffer
    stride: int
    axes: Sequence[Axis]

    def compare(self, one: Expr, other: Expr) -> Ref:
        """-1, 0 or 1 (i32): whether slice `one` comes before slice `other`, is equal, or comes after it."""
        b = self.b
        order = b.declare("order", number(0, DType.I32))
        with nest(b, self.axes, "e", views=1) as (at,), b.when(operation("eq", order, 0)):
            a, c = (self._element(from_expr(slice_) * self.stride + at) for slice_ in (one, other))
            later = select(self._precedes(c, a), number(1, DType.I32), 0)
            b.assign(order, select(self._precedes(a, c), -1, later))
        return order

    def follows(self, one: Ref, other: Ref) -> Expr:
        """Whether slice `one` belongs after slice `other`; of equal ones the one that stands later does."""
        order = self.compare(one, other)
        return operation("or", less(0, order), operation("and", operation("eq", order, 0), less(other, one)))

    def _element(self, at: Index) -> Ref:
        element = self.b.load(self.x, at)
        return self.b.let("e", cast(element, DType.I32 if self.x.dtype is DType.BOOL else compute_type(self.x.dtype)))

    @staticmethod
    def _precedes(a: Expr, c: Expr) -> Expr:
        if not a.dtype.is_float:
            return less(a, c)
        return operation("or", less(a, c), operation("and", operation("eq", a, a), operation("not", operation("eq", c, c))))


@kernel_for(Unique, is_open=True)
def lower_unique(request: Request) -> Kernel:
    """Heapsort of positions; each learns the first position of its slice, then different slices are numbered in order."""
    op, x_view = request.op, request.operand(0).view
    if not isinstance(op, Unique):
        raise TypeError(op)
    y_view, first_view, inverse_view, counts_view, count_view = request.outputs
    size = x_view.size(op.axis)
    b = KernelBuilder(request, "unique", f"different slices of {shape_text(x_view)} along axis {op.axis}")
    x, y, first, inverse, counts, count = b.input(0, "x"), *(b.output(i, name) for i, name in
                                                             enumerate(("y", "first", "inverse", "counts", "count")))
    others = [axis for axis in range(len(x_view.dims)) if axis != op.axis]
    rows = simplified(axes_of([y_view, x_view], others))
    slices = _Slices(b, x, x_view.strides[op.axis], simplified(axes_of([x_view], others)))
    order, leader, numbers = (b.workspace(name, DType.I64, x_view.dims[op.axis]) for name in ("order", "leader", "numbers"))
    found = b.declare("found", number(0, DType.I64))
    if x_view.dims[op.axis] and elements(slices.axes):
        with nullcontext() if size.is_const else b.when(less(0, FromIndex(size, DType.I64))):
            _sort(b, slices, order, size)
            _lead(b, slices, order, leader, size)
    else:
        with b.loop("k", size) as k:  # slices without elements are all equal
            b.store(order, k, FromIndex(k, DType.I64))
            b.store(leader, k, number(0, DType.I64))
    with b.loop("k", size) as k:
        position = b.let("position", b.load(order, k) if op.sorted else FromIndex(k, DType.I64))
        leading = b.let("leading", b.load(leader, from_expr(position)))
        with b.when(operation("eq", leading, position)):
            copy(b, y, x, rows, (from_expr(found) * y_view.strides[op.axis], from_expr(position) * x_view.strides[op.axis]), top_level=False)
            b.store(first, from_expr(found) * first_view.strides[0], position)
            b.store(counts, from_expr(found) * counts_view.strides[0], number(0, DType.I64))
            b.store(numbers, from_expr(position), found)
            b.assign(found, add(found, 1))
        own = b.let("own", b.load(numbers, from_expr(leading)))
        b.store(inverse, from_expr(position) * inverse_view.strides[0], own)
        b.store(counts, from_expr(own) * counts_view.strides[0], add(b.load(counts, from_expr(own) * counts_view.strides[0]), 1))
    with b.loop("k", size, start=from_expr(found)) as k:
        _clear(b, y, y_view, op.axis, k, others)
        b.store(first, k * first_view.strides[0], 0)
        b.store(counts, k * counts_view.strides[0], 0)
    b.store(count, count_view.at(()), found)
    return b.kernel(choice="heapsort of positions")


def _clear(b: KernelBuilder, y: Buffer, view: View, axis: int, slice_: Index, others: Sequence[int]) -> None:
    axes = [open_axis(view.dims[a], (view.strides[a],), view.size(a)) for a in others]
    fill(b, y, axes, number(0, y.dtype), slice_ * view.strides[axis], top_level=False)


def _sort(b: KernelBuilder, slices: _Slices, order: Buffer, size: Index) -> None:
    """Fills `order` with the positions, ascending by slice, then by position."""
    with b.loop("i", size) as i:
        b.store(order, i, FromIndex(i, DType.I64))
    with b.loop("node", size.floordiv(2)) as node:
        root = size.floordiv(2) - 1 - node
        _sink(b, slices, order, b.let("moved", b.load(order, root)), root, size)
    with b.loop("taken", size - 1) as taken:
        last = size - 1 - taken
        largest, moved = b.let("largest", b.load(order, 0)), b.let("moved", b.load(order, last))
        _sink(b, slices, order, moved, const(0), last)
        b.store(order, last, largest)


def _sink(b: KernelBuilder, slices: _Slices, order: Buffer, moved: Ref, root: Index, size: Index) -> None:
    """Puts a position at `root` of the heap of `size` positions, or below, where its later descendants move up."""
    place = b.declare("place", FromIndex(root, DType.I64))
    with b.loop("level", order.elements.bit_length() - 1):
        left = b.let("left", add(mul(place, 2), 1))
        with b.when(less(left, FromIndex(size, DType.I64))):
            right = b.let("right", operation("min", add(left, 1), FromIndex(size - 1, DType.I64)))
            on_left, on_right = b.let("on_left", b.load(order, from_expr(left))), b.let("on_right", b.load(order, from_expr(right)))
            takes_right = b.let("takes_right", slices.follows(on_right, on_left))
            below = b.let("below", select(takes_right, on_right, on_left))
            with b.when(slices.follows(below, moved)):
                b.store(order, from_expr(place), below)
                b.assign(place, select(takes_right, right, left))
    b.store(order, from_expr(place), moved)


def _lead(b: KernelBuilder, slices: _Slices, order: Buffer, leader: Buffer, size: Index) -> None:
    """Stores for each position the first one with an equal slice."""
    start = b.let("start", b.load(order, 0))
    b.store(leader, from_expr(start), start)
    with b.loop("k", size, start=1) as k:
        before, position = b.let("before", b.load(order, k - 1)), b.let("position", b.load(order, k))
        same = operation("eq", slices.compare(before, position), 0)
        b.store(leader, from_expr(position), select(same, b.load(leader, from_expr(before)), position))
