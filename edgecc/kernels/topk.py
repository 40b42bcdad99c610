"""The largest or smallest elements along an axis, in order, with their positions.

While the axis is walked, most elements are dismissed by one comparison with the worst of the k that are
kept. A few are kept sorted, by insertion; more are kept as a heap with the worst at the root, which is
sorted at the end by taking the root out until none is left: O(n + k log k) where few elements get in,
O(n log k) at worst. Of equal elements the one with the lower position comes first.

Source: J. W. J. Williams, "Algorithm 232: Heapsort", 1964; R. W. Floyd, "Algorithm 245: Treesort 3", 1964.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from edgecc.ir.types import DType
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.iteration import nest, open_axis, simplified
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Request
from edgecc.kernels.scalar_lowering import compute_type
from edgecc.loop.builder import add, cast, mul, number, operation, select
from edgecc.loop.index import Index, const, from_expr
from edgecc.loop.ir import Buffer, Expr, FromIndex, Ref
from edgecc.ops.reduction import TopK

MOST_INSERTED = 16
"""Insertion is used for up to so many elements: it moves about half of them for each one it accepts."""


@kernel_for(TopK, is_open=True)
def lower_top_k(request: Request) -> Kernel:
    """The kernel of a selection; see the module."""
    op, x_view = request.op, request.operand(0).view
    if not isinstance(op, TopK):
        raise TypeError(op)
    values_view, positions_view = request.outputs
    count, k = x_view.size(op.axis), values_view.size(op.axis)
    most = values_view.dims[op.axis]
    inserts = most <= MOST_INSERTED
    b = KernelBuilder(request, "top_k", f"the {most} {'largest' if op.largest else 'smallest'} of {shape_text(x_view)} "
                                        f"along axis {op.axis}")
    x, values, positions = b.input(0, "x"), b.output(0, "values"), b.output(1, "positions")
    row = _Row(b, op, x, count, k, b.workspace("best", compute_type(x.dtype), most), b.workspace("found", DType.I64, most))
    kept = simplified([open_axis(d, (sv, sp, sx), x_view.size(axis)) for axis, (d, sv, sp, sx) in enumerate(
        zip(x_view.dims, values_view.strides, positions_view.strides, x_view.strides, strict=True)) if axis != op.axis])
    if most:
        with nest(b, kept, views=3) as (to_values, to_positions, source):
            (row.insert_all if inserts else row.sort_heap)(source, x_view.strides[op.axis])
            with b.loop("j", k) as j:
                best = cast(b.load(row.best, j), values.dtype)
                b.store(values, to_values + j * values_view.strides[op.axis], best)
                b.store(positions, to_positions + j * positions_view.strides[op.axis], b.load(row.found, j))
    return b.kernel(choice="insertion" if inserts else "heap")


@dataclass(frozen=True)
class _Candidate:
    """An element and its position along the axis."""

    element: Expr
    position: Expr


@dataclass(frozen=True)
class _Row:
    """The statements for one row of `count` elements: the `k` best and their positions are kept in the workspaces."""

    b: KernelBuilder
    op: TopK
    x: Buffer
    count: Index
    k: Index
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

    def insert_all(self, source: Index, stride: int) -> None:
        """Leaves the k best in order in the workspaces."""
        b, k = self.b, self.k
        with b.loop("i", k) as i:
            self._insert(self._element(source + i * stride), i, i)
        with self._some(), b.loop("i", self.count, start=k) as i:
            element = self._element(source + i * stride)
            with b.when(self._precedes(element, b.load(self.best, k - 1))):
                self._insert(element, i, k - 1)

    def _some(self) -> AbstractContextManager[None]:
        """What is inside happens if any element is to be kept at all."""
        return nullcontext() if self.k.is_const else self.b.when(operation("lt", number(0, DType.I64), FromIndex(self.k, DType.I64)))

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

    # -- heap -------------------------------------------------------------------------------------

    def sort_heap(self, source: Index, stride: int) -> None:
        """Leaves the k best in order in the workspaces."""
        b, k = self.b, self.k
        with b.loop("i", k) as i:
            b.store(self.best, i, self._element(source + i * stride))
            b.store(self.found, i, FromIndex(i, DType.I64))
        with b.loop("node", k.floordiv(2)) as node:
            root = k.floordiv(2) - 1 - node
            self._sink(self._candidate(root), root, k)
        with self._some(), b.loop("i", self.count, start=k) as i:
            element = self._element(source + i * stride)
            # an equal element comes later than what is kept, so it does not replace it
            with b.when(self._precedes(element, b.load(self.best, 0))):
                self._sink(_Candidate(element, FromIndex(i, DType.I64)), const(0), k)
        with b.loop("taken", k - 1) as taken:
            last = k - 1 - taken
            worst, moved = self._candidate(const(0)), self._candidate(last)
            self._sink(moved, const(0), last)
            self._place(last, worst)

    def _candidate(self, at: Index) -> _Candidate:
        return _Candidate(self.b.let("e", self.b.load(self.best, at)), self.b.let("position", self.b.load(self.found, at)))

    def _place(self, at: Index, candidate: _Candidate) -> None:
        self.b.store(self.best, at, candidate.element)
        self.b.store(self.found, at, candidate.position)

    def _follows(self, a: _Candidate, other: _Candidate) -> Expr:
        """Whether `a` belongs after `other`, which is another element."""
        later = operation("lt", other.position, a.position)
        undecided = operation("not", self._precedes(a.element, other.element))
        return operation("or", self._precedes(other.element, a.element), operation("and", undecided, later))

    def _sink(self, candidate: _Candidate, root: Index, size: Index) -> None:
        """Puts a candidate at `root` of the heap of `size` elements, or below, where its worse descendants move up.

        Loops of the Loop IR are not left early: once the candidate stays, the remaining levels change nothing.
        """
        b = self.b
        place = b.declare("place", FromIndex(root, DType.I64))
        with b.loop("level", self.best.elements.bit_length() - 1):
            left = b.let("left", add(mul(place, 2), 1))
            with b.when(operation("lt", left, FromIndex(size, DType.I64))):
                right = b.let("right", operation("min", add(left, 1), FromIndex(size - 1, DType.I64)))
                takes_right = self._follows(self._candidate(from_expr(right)), self._candidate(from_expr(left)))
                child = b.let("child", select(takes_right, right, left))
                below = self._candidate(from_expr(child))
                with b.when(self._follows(below, candidate)):
                    self._place(from_expr(place), below)
                    b.assign(place, child)
        self._place(from_expr(place), candidate)
