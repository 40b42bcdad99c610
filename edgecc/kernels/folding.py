"""Loops that combine elements along some axes and keep the others: what reductions, softmax and norms share.

Two nests cover all layouts. Where the combined (reduced) axes hold the elements that lie side by side,
lanes are positions along them, and are joined at the end of a row: `AlongGroup`. Where kept axes do,
such as the channels of a channels-last average, lanes are results, which stay in registers while the
reduced axes are walked: `AcrossGroup`. A kernel is written once, against `Group`:

    def row(group):
        largest = group.fold("max", lambda step, v: step.load(b, SOURCE, x))
        ...
    for_each_group(b, plan, row)

Accuracy: floats are added in f32 (f64 in f64), in independent sums where registers are left. What one sum in f32 takes term by
term is cut into runs (edgecc/kernels/partial_sums.py), so that the error of a sum is at most some 500 roundings of the
sum of magnitudes for 65,000 terms, and a fraction of that where lanes lie along the terms.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgecc.ir.types import DType
from edgecc.kernels.iteration import (
    Axis,
    Step,
    axis_lanes,
    elements,
    nest,
    split_for_threads,
    vector_blocks,
    vectors,
)
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.partial_sums import Part, cut
from edgecc.kernels.scalar_lowering import compute_type
from edgecc.loop.builder import add, fma, number, operation, repeat, select
from edgecc.loop.index import ZERO, Index, const
from edgecc.loop.ir import Expr, Horizontal, Ref
from edgecc.targets.schema import Target

ACCUMULATORS = 4
"""Independent sums: additions take about four cycles, and one or two start in each."""

MOST_ROWS, SHORT_ROWS = 4, 64
"""Most rows worked on side by side, half as many with fewer than 32 registers, and how many vectors they may have together."""

SOURCE = 1
"""The view whose memory decides the order of axes: strides are (result, source, further operands...)."""

Element = Callable[[Step, int], Expr]
"""The value to combine for a vector of positions; the number says which result of the group they belong to."""


def computes_in_vectors(dtype: DType) -> bool:
    """Whether values of a type are computed with in lanes of 32 bits."""
    return compute_type(dtype) in (DType.F32, DType.I32)


@dataclass(frozen=True)
class Rule:
    """How elements of type `dtype` are combined: "sum", "sum_square", "l1", "prod", "max" or "min"."""

    kind: str
    dtype: DType

    @property
    def neutral(self) -> float | int | bool:
        """The result over no elements, which is also an element that changes nothing."""
        dtype = self.dtype
        if self.kind == "prod":
            return 1
        if self.kind not in ("max", "min"):
            return 0
        if dtype.is_float:
            return -math.inf if self.kind == "max" else math.inf
        if dtype is DType.BOOL:
            return self.kind == "min"
        bits = dtype.size * 8 - dtype.is_signed
        lowest = -(1 << bits) if dtype.is_signed else 0
        return lowest if self.kind == "max" else (1 << bits) - 1

    @property
    def combine(self) -> str:
        """The primitive that joins two partial results."""
        if self.dtype is DType.BOOL:
            return "or" if self.kind == "max" else "and"
        return {"prod": "mul", "max": "max", "min": "min"}.get(self.kind, "add")

    @property
    def is_idempotent(self) -> bool:
        """Whether an element may be taken twice."""
        return self.kind in ("max", "min")

    @property
    def rounds(self) -> bool:
        """Whether each element that is taken rounds to f32, so that many are better taken in runs."""
        return self.combine == "add" and self.dtype is DType.F32

    def take(self, total: Expr, element: Expr) -> Expr:
        """`total` with one more element."""
        match self.kind:
            case "sum_square":
                return fma(element, element, total)
            case "l1":
                return add(total, operation("abs", element) if self.dtype.is_signed else element)
        return operation(self.combine, total, element)

    def join(self, parts: Sequence[Expr]) -> Expr:
        """Partial results combined pairwise."""
        level = list(parts)
        while len(level) > 1:
            level = [operation(self.combine, *level[i:i + 2]) if i + 1 < len(level) else level[i]
                     for i in range(0, len(level), 2)]
        return level[0]


@dataclass(frozen=True)
class Plan:
    """The axes of a kernel that combines elements, and what lanes are.

    Attributes:
        kept, reduced: simplified axes, ordered by the source's strides.
        lanes: positions in a vector; 1 for scalar code.
        along: whether lanes are positions along the reduced axes, else results.
        rows: along: how many neighbouring results are worked on side by side.
        sums: independent partial results of each result, at most.
    """

    kept: tuple[Axis, ...]
    reduced: tuple[Axis, ...]
    lanes: int
    along: bool
    rows: int = 1
    sums: int = ACCUMULATORS

    @property
    def description(self) -> str:
        """For `Kernel.choice`."""
        return f"vectors of {self.lanes} {'along the reduced axes' if self.along else 'results'}"


def make_plan(target: Target, kept: tuple[Axis, ...], reduced: tuple[Axis, ...], *, in_vectors: bool) -> Plan:
    """Lanes go where the source's elements lie side by side, except along short rows of many."""
    across = axis_lanes(target, kept[-1]) if in_vectors and kept else 1
    if not reduced:
        return Plan(kept, reduced, across, along=False)
    inner = reduced[-1]
    if kept:
        few = inner.extent * 2 <= across <= kept[-1].extent
        if few or abs(inner.strides[SOURCE]) > abs(kept[-1].strides[SOURCE]):
            return Plan(kept, reduced, across, along=False)
    lanes = axis_lanes(target, inner) if in_vectors and inner.strides[SOURCE] == 1 else 1
    return Plan(kept, reduced, lanes, along=True, rows=_rows_together(target, kept, reduced, lanes))


def _rows_together(target: Target, kept: tuple[Axis, ...], reduced: tuple[Axis, ...], lanes: int) -> int:
    """How many short rows to work on side by side.

    What joins the lanes of a row, and what then waits for it, are chains of dependent instructions. In rows of few
    vectors they take longer than the rest, unless there are other rows to fill the time; cores that execute out of
    order see some of the next row themselves, but not past a few hundred instructions.
    """
    row_vectors = -(-elements(reduced) // lanes)
    if lanes == 1 or not kept:
        return 1
    most = MOST_ROWS if target.vector.registers >= 32 else MOST_ROWS // 2
    return max(1, min(most, kept[-1].extent, SHORT_ROWS // row_vectors))


class Group(ABC):
    """Results that are computed together: one or some rows (along), or some vectors of neighbouring ones (across).

    Values that belong to the results (totals, means) are lists with one expression for each vector of
    results: scalar along, of `lanes` lanes across.
    """

    def __init__(self, b: KernelBuilder, plan: Plan) -> None:
        self.b = b
        self.plan = plan

    @property
    @abstractmethod
    def results(self) -> tuple[Step, ...]:
        """Where the results lie: one vector of positions for each value; scalar along."""

    @abstractmethod
    def fold(self, rule: Rule, element: Element, *, zero_padded: bool = False) -> list[Expr]:
        """Combines `element` over the reduced positions.

        `zero_padded` promises that lanes of `element` past the end of a row are zero.
        """

    @property
    def whole(self) -> Part:
        """All reduced positions."""
        return Part((ZERO,) * len(self.results[0].offsets), (), self.plan.reduced)

    def in_runs(self, rule: Rule, count: int, sums: int, fold: Callable[[Part, str], list[Expr]]) -> list[Expr]:
        """`count` totals over all reduced positions, from what `fold` makes of the run of a part, in locals of a name; `sums` as in `cut`."""
        parts = cut(self.plan.reduced, sums) if rule.rounds else ()
        if not any(part.outer for part in parts):
            return fold(self.whole, "total")
        totals = [self.b.declare("total", number(rule.neutral, rule.dtype, self.plan.lanes)) for _ in range(count)]
        for part in parts:
            with nest(self.b, part.outer, "run", start=part.start) as start:
                for total, partial in zip(totals, fold(Part(start, (), part.run), "partial"), strict=True):
                    self.b.assign(total, operation(rule.combine, total, partial))
        return list(totals)

    @abstractmethod
    def each(self, visit: Callable[[Step, int], None]) -> None:
        """Visits the reduced positions of each vector of results."""

    def spread(self, name: str, values: Sequence[Expr]) -> list[Expr]:
        """Values of results bound to locals as wide as the vectors that `each` and `fold` visit."""
        return [self.b.let(name, repeat(value, self.plan.lanes)) for value in values]


class AlongGroup(Group):
    """One result, or some in neighbouring rows; vectors along the innermost reduced axis."""

    def __init__(self, b: KernelBuilder, plan: Plan, rows: Sequence[Sequence[Index]]) -> None:
        """`rows`: where each row starts in every view."""
        super().__init__(b, plan)
        self.rows = tuple(tuple(offsets) for offsets in rows)

    @property
    def results(self) -> tuple[Step, ...]:
        """The result of each row."""
        return tuple(Step(offsets, (0,) * len(offsets), 1) for offsets in self.rows)

    def fold(self, rule: Rule, element: Element, *, zero_padded: bool = False) -> list[Expr]:
        """See `Group`. Lanes past the end of the row are replaced by the neutral element."""
        lanes = self.plan.lanes
        most = max(1, self.plan.sums // min(2, len(self.rows)))

        def run(part: Part, name: str) -> list[Expr]:
            inner = part.run[-1]
            repeats = rule.is_idempotent and inner.extent >= lanes and inner.size is None
            copies = max(1, min(most, inner.extent // lanes))
            totals = [[self.b.declare(name, number(rule.neutral, rule.dtype, lanes)) for _ in range(copies)] for _ in self.rows]

            def take(step: Step, row: int, copy: int) -> None:
                value = element(step, row)
                if not (zero_padded and rule.combine == "add") or step.limit is not None:
                    value = self.padded(step, value, rule.neutral)
                self.b.assign(totals[row][copy], rule.take(totals[row][copy], value))

            self._walk(part, take, copies, overlap=repeats)
            return [rule.join(own) for own in totals]

        return [self.join(rule, [total]) for total in self.in_runs(rule, len(self.rows), lanes * most, run)]

    def join(self, rule: Rule, parts: Sequence[Expr]) -> Expr:
        """The scalar that vectors of partial results of a row make."""
        total = rule.join(parts)
        return self.b.let("total", Horizontal(rule.combine, total) if self.plan.lanes > 1 else total)

    def padded(self, step: Step, value: Expr, padding: float | int | bool) -> Expr:
        """`value` with the lanes past the end of the row replaced."""
        if step.limit is not None:
            return select(self.b.lanes_below(step.lanes, step.limit), value, padding)
        if not step.valid:
            return value
        return select(self.b.first_lanes(step.lanes, step.valid), value, padding)

    def row_steps(self) -> list[list[Step]]:
        """All vectors of each row; a row must be one axis."""
        (axis,) = self.plan.reduced
        found: list[list[Step]] = []
        for offsets in self.rows:
            steps: list[Step] = []
            vector_blocks(self.b, axis, offsets, self.plan.lanes, -(-axis.extent // self.plan.lanes) or 1, steps.extend)
            found.append(steps)
        return found

    def each(self, visit: Callable[[Step, int], None]) -> None:
        """See `Group`."""
        self._walk(self.whole, lambda step, row, _: visit(step, row), 1)

    def _walk(self, part: Part, take: Callable[[Step, int, int], None], copies: int, *, overlap: bool = False) -> None:
        """`take(vector, row, copy)` for the vectors of a part of all rows, side by side."""
        with nest(self.b, part.run[:-1], "r", start=part.start) as places:

            def visit(step: Step, copy: int) -> None:
                for row, offsets in enumerate(self.rows):
                    take(step.moved(offsets), row, copy)

            vectors(self.b, part.run[-1], places, self.plan.lanes, visit, unroll=copies, overlap=overlap)


class AcrossGroup(Group):
    """Some vectors of neighbouring results; the reduced positions are walked one by one."""

    def __init__(self, b: KernelBuilder, plan: Plan, steps: tuple[Step, ...]) -> None:
        super().__init__(b, plan)
        self.steps = steps

    @property
    def results(self) -> tuple[Step, ...]:
        """The vectors of results."""
        return self.steps

    def fold(self, rule: Rule, element: Element, *, zero_padded: bool = False) -> list[Expr]:
        """See `Group`."""
        most = max(1, self.plan.sums // len(self.steps))
        neutral = number(rule.neutral, rule.dtype, self.plan.lanes)

        def run(part: Part, name: str) -> list[Expr]:
            copies = max(1, min(most, part.run[-1].extent if part.run else 1))
            totals = [[self.b.declare(name, neutral) for _ in self.steps] for _ in range(copies)]

            def take(offsets: tuple[Index, ...], copy: int) -> None:
                for vector, (total, step) in enumerate(zip(totals[copy], self.steps, strict=True)):
                    self.b.assign(total, rule.take(total, element(step.moved(offsets), vector)))

            self._walk(part, take, copies)
            return [rule.join(parts) for parts in zip(*totals, strict=True)]

        return [value if isinstance(value, Ref) else self.b.let("total", value) for value in self.in_runs(rule, len(self.steps), most, run)]

    def each(self, visit: Callable[[Step, int], None]) -> None:
        """See `Group`."""

        def take(offsets: tuple[Index, ...], _: int) -> None:
            for vector, step in enumerate(self.steps):
                visit(step.moved(offsets), vector)

        self._walk(self.whole, take, 1)

    def _walk(self, part: Part, take: Callable[[tuple[Index, ...], int], None], copies: int) -> None:
        if not part.run:
            take(part.start, 0)
            return
        with nest(self.b, part.run[:-1], "r", start=part.start) as places:
            vectors(self.b, part.run[-1], places, 1, lambda step, copy: take(step.offsets, copy), unroll=copies, name="r")


def for_each_group(b: KernelBuilder, plan: Plan, views: int, body: Callable[[Group], None], *, work: int = 1,
                   most: int = ACCUMULATORS) -> None:
    """Runs `body` for all results.

    Args:
        views: number of strides of each axis.
        work: operations for each combined element, to judge whether threads pay.
        most: vectors of results in one group.
    """
    kept = plan.kept or (Axis(1, (0,) * views),)
    total = elements(kept) * max(1, elements(plan.reduced)) * work
    if plan.along:
        outer, parallel = split_for_threads(kept, b.request.threads, 1, total)
        with nest(b, outer[:-1], views=views, parallel=parallel) as offsets:
            _row_groups(b, outer[-1], offsets, plan.rows, lambda rows: body(AlongGroup(b, plan, rows)))
        return
    divided, parallel = split_for_threads(kept, b.request.threads, plan.lanes, total)
    with nest(b, divided[:-1], views=views, parallel=parallel) as offsets:
        vector_blocks(b, divided[-1], offsets, plan.lanes, most, lambda steps: body(AcrossGroup(b, plan, steps)))


def _row_groups(b: KernelBuilder, axis: Axis, offsets: Sequence[Index], together: int,
                body: Callable[[list[tuple[Index, ...]]], None]) -> None:
    """Visits the rows along an axis, `together` at a time, and what remains; `body` gets where each row starts."""

    def rows(first: Index, count: int) -> list[tuple[Index, ...]]:
        return [tuple(o + (first + row) * s for o, s in zip(offsets, axis.strides, strict=True)) for row in range(count)]

    if axis.size is not None:
        main = axis.size.floordiv(together) * together if together > 1 else ZERO
        if together > 1:
            with b.loop("i", main, step=together) as i:
                body(rows(i, together))
        with b.loop("i", axis.size, start=main) as i:
            body(rows(i, 1))
        return
    whole = axis.extent // together * together
    if whole:
        with b.loop("i", whole, step=together) as i:
            body(rows(i, together))
    if whole < axis.extent:
        body(rows(const(whole), axis.extent - whole))
