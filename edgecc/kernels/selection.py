"""Positions that are not 0, and boxes that do not overlap: results as long as the data says, in memory for the longest.

Elements are appended at a counter that never exceeds the number of elements looked at, so no store leaves the
result, whatever the data is. Indices read back from scratch memory were written there by the same call.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from edgecc.ir.types import DType
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Request
from edgecc.kernels.scalar_lowering import compute_type
from edgecc.loop.builder import add, cast, less, mul, number, operation, select, sub
from edgecc.loop.index import Index, from_expr
from edgecc.loop.ir import Buffer, Expr, FromIndex, Ref
from edgecc.ops.selection import PADDING_INDEX, NonMaxSuppression, NonZero


@kernel_for(NonZero, is_open=True)
def lower_non_zero(request: Request) -> Kernel:
    """One walk in row-major order, then zeros up to the end."""
    x_view, y_view, count_view = request.operand(0).view, *request.outputs
    if not isinstance(request.op, NonZero):
        raise TypeError(request.op)
    b = KernelBuilder(request, "non_zero", f"positions of what is not 0 of {shape_text(x_view)}")
    x, y, count = b.input(0, "x"), b.output(0, "y"), b.output(1, "count")
    found = b.declare("found", number(0, DType.I64))
    with ExitStack() as stack:
        at = [stack.enter_context(b.loop(f"i{axis}", x_view.size(axis))) for axis in range(len(x_view.dims))]
        element = cast(b.load(x, x_view.at(at)), compute_type(x_view.dtype))
        with b.when(element if x_view.dtype is DType.BOOL else operation("not", operation("eq", element, 0))):
            for axis, i in enumerate(at):
                b.store(y, from_expr(found) * y_view.strides[1] + axis * y_view.strides[0], FromIndex(i, DType.I64))
            b.assign(found, add(found, 1))
    with b.loop("j", y_view.size(1), start=from_expr(found)) as j, b.loop("axis", y_view.dims[0]) as axis_index:
        b.store(y, j * y_view.strides[1] + axis_index * y_view.strides[0], 0)
    b.store(count, count_view.at(()), found)
    return b.kernel(choice="one walk")


@dataclass(frozen=True)
class _Boxes:
    """Lower and upper corners of all boxes of an image, in scratch memory, four numbers each."""

    b: KernelBuilder
    corners: Buffer

    def prepare(self, boxes: Buffer, at: Index, stride: int, box: Index, centred: bool) -> None:
        """Stores the corners of one box, whose four numbers lie `stride` apart from `at` on."""
        b = self.b
        a = [b.let("a", cast(b.load(boxes, at + k * stride), self.corners.dtype)) for k in range(4)]
        for k in range(2):
            half = mul(a[k + 2], 0.5)
            low, high = (sub(a[k], half), add(a[k], half)) if centred else (operation("min", a[k], a[k + 2]), operation("max", a[k], a[k + 2]))
            b.store(self.corners, box * 4 + k, low)
            b.store(self.corners, box * 4 + k + 2, high)

    def load(self, box: Expr) -> list[Ref]:
        """Lower and upper corners of a box."""
        return [self.b.let("corner", self.b.load(self.corners, from_expr(box) * 4 + k)) for k in range(4)]

    @staticmethod
    def area(corners: list[Ref]) -> Expr:
        """The area between corners."""
        return mul(sub(corners[2], corners[0]), sub(corners[3], corners[1]))

    def overlaps(self, one: list[Ref], other: list[Ref], limit: Expr) -> Expr:
        """Whether two boxes share more than `limit` of their union."""
        common = [self.b.let("common", sub(operation("min", one[k + 2], other[k + 2]), operation("max", one[k], other[k]))) for k in range(2)]
        shared = self.b.let("shared", mul(common[0], common[1]))
        union = sub(add(self.area(one), self.area(other)), shared)
        is_shared = operation("and", less(0.0, common[0]), less(0.0, common[1]))
        return operation("and", is_shared, less(mul(limit, union), shared))

    def suppressed_by(self, best: Ref, limit: Expr) -> Callable[[Ref], Expr]:
        """Whether a box is `best` itself, or overlaps it by more than `limit`."""
        kept = self.load(best)
        return lambda box: operation("or", self.overlaps(self.load(box), kept, limit), operation("eq", box, best))


@dataclass(frozen=True)
class _Candidates:
    """The boxes of a class that may still be kept: their numbers in scratch memory, and how many they are."""

    b: KernelBuilder
    listed: Buffer
    left: Ref

    def take(self, box: Index) -> None:
        """Puts a box at the end."""
        self.b.store(self.listed, from_expr(self.left), FromIndex(box, DType.I64))
        self.b.assign(self.left, add(self.left, 1))

    def best(self, score: Callable[[Index], Ref]) -> Ref:
        """The box of the highest score, the first one of equals; there must be one."""
        b = self.b
        best = b.declare("best", b.load(self.listed, 0))
        highest = b.declare("highest", score(from_expr(best)))
        with b.loop("k", from_expr(self.left), start=1) as k:
            box = b.let("box", b.load(self.listed, k))
            one = score(from_expr(box))
            better = b.let("better", less(highest, one))
            b.assign(best, select(better, box, best))
            b.assign(highest, select(better, one, highest))
        return best

    def drop(self, is_dropped: Callable[[Ref], Expr]) -> None:
        """Leaves out boxes; the others keep their order."""
        b = self.b
        rest = b.declare("rest", number(0, DType.I64))
        with b.loop("k", from_expr(self.left)) as k:
            box = b.let("box", b.load(self.listed, k))
            with b.when(operation("not", is_dropped(box))):
                b.store(self.listed, from_expr(rest), box)
                b.assign(rest, add(rest, 1))
        b.assign(self.left, rest)


@kernel_for(NonMaxSuppression, is_open=True)
def lower_non_max_suppression(request: Request) -> Kernel:
    """Candidates of a class are listed first; each box kept shortens the list by what it overlaps.

    Loops of the Loop IR are not left early: once the list is empty, the remaining rounds do nothing.
    """
    op, boxes_view, scores_view = request.op, request.operand(0).view, request.operand(1).view
    if not isinstance(op, NonMaxSuppression):
        raise TypeError(op)
    y_view, count_view = request.outputs
    most_boxes = scores_view.dims[2]
    images, classes, total = (scores_view.size(axis) for axis in range(3))
    b = KernelBuilder(request, "non_max_suppression", f"at most {op.per_class} of {most_boxes} boxes for each of {scores_view.dims[1]} classes")
    boxes, scores, most, overlap = b.input(0, "boxes"), b.input(1, "scores"), b.input(2, "max_output"), b.input(3, "iou_threshold")
    threshold = b.input(4, "score_threshold") if request.optional(4) is not None else None
    y, count = b.output(0, "y"), b.output(1, "count")
    wide = compute_type(boxes_view.dtype)
    corners = _Boxes(b, b.workspace("corners", wide, 4 * most_boxes))
    listed = b.workspace("listed", DType.I64, most_boxes)
    limit = b.let("limit", cast(b.load(overlap, 0), wide))
    rounds = b.let("rounds", operation("min", operation("max", b.load(most, 0), 0), op.per_class))
    least = None if threshold is None else b.let("least", cast(b.load(threshold, 0), wide))
    found = b.declare("found", number(0, DType.I64))

    def store_row(row: Index, entries: tuple[Expr, Expr, Expr]) -> None:
        for column, entry in enumerate(entries):
            b.store(y, row * y_view.strides[0] + column * y_view.strides[1], entry)

    with b.loop("n", images) as n:
        with b.loop("i", total) as i:
            corners.prepare(boxes, n * boxes_view.strides[0] + i * boxes_view.strides[1], boxes_view.strides[2], i, op.centred)
        with b.loop("c", classes) as c:
            first = n * scores_view.strides[0] + c * scores_view.strides[1]

            def score(box: Index, first: Index = first) -> Ref:
                return b.let("score", cast(b.load(scores, first + box * scores_view.strides[2]), wide))

            candidates = _Candidates(b, listed, b.declare("left", number(0, DType.I64)))
            with b.loop("i", total) as i:
                s = score(i)
                with b.when(operation("eq", s, s) if least is None else less(least, s)):
                    candidates.take(i)
            with b.loop("kept", from_expr(rounds)), b.when(less(0, candidates.left)):
                best = candidates.best(score)
                store_row(from_expr(found), (FromIndex(n, DType.I64), FromIndex(c, DType.I64), best))
                b.assign(found, add(found, 1))
                candidates.drop(corners.suppressed_by(best, limit))
    with b.loop("row", y_view.size(0), start=from_expr(found)) as row:
        padding = number(PADDING_INDEX, DType.I64)
        store_row(row, (padding, padding, padding))
    b.store(count, count_view.at(()), found)
    return b.kernel(choice="lists of candidates")
