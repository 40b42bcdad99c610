"""The largest or smallest elements along an axis, in order, with their positions.

Few elements are kept sorted by insertion while the axis is walked: most candidates are dismissed by
one comparison with the worst that is kept. Many are found by a merge sort of the whole axis. Both
are stable, so of equal elements the one with the lower position comes first.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgecc.ir.types import DType
from edgecc.kernels.base import Kernel, Request, kernel_for
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.iteration import Axis, nest, simplified
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.scalar_lowering import compute_type
from edgecc.loop.builder import add, cast, number, operation, select, sub
from edgecc.loop.index import Index, const, from_expr, minimum
from edgecc.loop.ir import Buffer, Expr, FromIndex, Ref
from edgecc.ops.reduction import TopK

MOST_INSERTED = 64
"""Insertion is used for up to so many elements: it moves about half of them for each one it accepts."""


@kernel_for(TopK)
def lower_top_k(request: Request) -> Kernel:
    """The kernel of a selection; see the module."""
    op, x_view = request.op, request.operand(0).view
    if not isinstance(op, TopK):
        raise TypeError(op)
    values_view, positions_view = request.outputs
    count = x_view.dims[op.axis]
    inserts = op.k <= MOST_INSERTED
    b = KernelBuilder(request, "top_k", f"the {op.k} {'largest' if op.largest else 'smallest'} of {shape_text(x_view)} "
                                        f"along axis {op.axis}")
    x, values, positions = b.input(0, "x"), b.output(0, "values"), b.output(1, "positions")
    room = op.k if inserts else 2 * count
    row = _Row(b, op, x, count, b.workspace("best", compute_type(x.dtype), room), b.workspace("found", DType.I64, room))
    kept = simplified([Axis(d, (sv, sp, sx)) for axis, (d, sv, sp, sx) in enumerate(
        zip(x_view.dims, values_view.strides, positions_view.strides, x_view.strides, strict=True)) if axis != op.axis])
    if op.k:
        with nest(b, kept, views=3) as (to_values, to_positions, source):
            first = (row.insert_all if inserts else row.sort)(source, x_view.strides[op.axis])
            with b.loop("j", op.k) as j:
                best = cast(b.load(row.best, first + j), values.dtype)
                b.store(values, to_values + j * values_view.strides[op.axis], best)
                b.store(positions, to_positions + j * positions_view.strides[op.axis], b.load(row.found, first + j))
    return b.kernel(choice="insertion" if inserts else "merge sort")


@dataclass(frozen=True)
class _Row:
    """The statements for one row: candidates and their positions are kept in the workspaces `best` and `found`."""

    b: KernelBuilder
    op: TopK
    x: Buffer
    count: int
    best: Buffer
    found: Buffer

    def _precedes(self, a: Expr, other: Expr) -> Expr:
        """Whether `a` belongs strictly before `other`. NaN is larger than every number."""
        smaller, larger = (other, a) if self.op.largest else (a, other)
        beyond = operation("lt", smaller, larger)
        if not a.dtype.is_float:
            return beyond
        is_number, is_nan = operation("eq", smaller, smaller), operation("not", operation("eq", larger, larger))
        return operation("or", beyond, operation("and", is_nan, is_number))

    def _element(self, at: Index) -> Ref:
        return self.b.let("e", cast(self.b.load(self.x, at), self.best.dtype))

    # -- insertion --------------------------------------------------------------------------------

    def insert_all(self, source: Index, stride: int) -> int:
        """Leaves the k best in order in the workspaces, and returns where they begin."""
        b, k = self.b, self.op.k
        with b.loop("i", k) as i:
            self._insert(self._element(source + i * stride), i, i)
        with b.loop("i", self.count, start=k) as i:
            element = self._element(source + i * stride)
            with b.when(self._precedes(element, b.load(self.best, k - 1))):
                self._insert(element, i, const(k - 1))
        return 0

    def _insert(self, element: Ref, position: Index, kept: Index) -> None:
        """Puts an element in its place among the first `kept` of the sorted ones; what follows moves up by one."""
        b = self.b
        place = b.declare("place", number(0, DType.I64))
        with b.loop("j", kept) as j:
            stays = operation("not", self._precedes(element, b.load(self.best, j)))
            b.assign(place, add(place, cast(stays, DType.I64)))
        at = from_expr(place)
        with b.loop("j", kept - at) as j:
            to = kept - j
            b.store(self.best, to, b.load(self.best, to - 1))
            b.store(self.found, to, b.load(self.found, to - 1))
        b.store(self.best, at, element)
        b.store(self.found, at, FromIndex(position, DType.I64))

    # -- merge sort -------------------------------------------------------------------------------

    def sort(self, source: Index, stride: int) -> int:
        """Sorts the whole row in one half of the workspaces, and returns where that half begins."""
        b, n = self.b, self.count
        with b.loop("i", n) as i:
            b.store(self.best, i, self._element(source + i * stride))
            b.store(self.found, i, FromIndex(i, DType.I64))
        width, start = 1, 0
        while width < n:
            self._merge_runs(width, start, n - start)
            width, start = 2 * width, n - start
        return start

    def _merge_runs(self, width: int, source: int, target: int) -> None:
        """Merges neighbouring sorted runs of `width` elements from one half of the workspaces to the other."""
        b, n = self.b, self.count
        with b.loop("run", n, step=2 * width) as run:
            middle, end = minimum(run + width, n), minimum(run + 2 * width, n)
            left, right = (b.declare(name, FromIndex(at, DType.I64)) for name, at in (("left", run), ("right", middle)))
            with b.loop("i", end, start=run) as i:
                # Where a run is used up its last element is looked at again, but not taken.
                from_left = source + minimum(from_expr(left), middle - 1)
                from_right = source + minimum(from_expr(right), n - 1)
                a, c = b.let("a", b.load(self.best, from_left)), b.let("c", b.load(self.best, from_right))
                left_is_empty = operation("le", FromIndex(middle, DType.I64), left)
                right_has_more = operation("lt", right, FromIndex(end, DType.I64))
                takes_right = b.let("takes_right", operation("or", left_is_empty, operation(
                    "and", right_has_more, self._precedes(c, a))))
                b.store(self.best, target + i, select(takes_right, c, a))
                b.store(self.found, target + i, select(takes_right, b.load(self.found, from_right),
                                                       b.load(self.found, from_left)))
                step = b.let("step", cast(takes_right, DType.I64))
                b.assign(right, add(right, step))
                b.assign(left, add(left, sub(1, step)))
