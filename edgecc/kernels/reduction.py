"""Reductions along any axes: sums, means, extrema, products, norms, and positions of extrema.

Two nests cover all layouts. Where the reduced axes hold the elements that lie side by side, lanes are
positions along them and are combined at the end (`_along`). Where kept axes do, such as the channels
of a channels-last average, lanes are results and stay in registers while the reduced axes are walked
(`_across`).

Accuracy: floats are added in f32 (f64 in f64) in at least four independent sums, so the error of a sum
of n terms is at most about n/4 roundings of the sum of magnitudes, n/(4*lanes) along contiguous
elements, and grows with the square root of that in practice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgecc.ir.types import DType
from edgecc.kernels.base import Kernel, Request, View, kernel_for
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.iteration import (
    Axis,
    Step,
    elements,
    full_lanes,
    nest,
    simplified,
    split_for_threads,
    vector_blocks,
    vector_lanes,
    vectors,
)
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.scalar_lowering import compute_type
from edgecc.loop.builder import add, cast, div, fma, mul, number, operation, repeat, select
from edgecc.loop.index import ZERO, Index
from edgecc.loop.ir import Buffer, Expr, FromIndex, Horizontal, Lane, Ref
from edgecc.ops.reduction import ArgReduce, Reduce

ACCUMULATORS = 4
"""Independent sums: additions take about four cycles, and one or two start in each."""

RESULT, SOURCE = 0, 1
"""Views of an axis here: strides are (result, operand)."""


def split_axes(x: View, y: View, axes: Sequence[int], keepdims: bool) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
    """The kept and the reduced axes of a reduction of x to y, simplified; strides are (y, x), 0 in y where reduced."""
    kept: list[Axis] = []
    reduced: list[Axis] = []
    position = 0
    for axis, (dim, stride) in enumerate(zip(x.dims, x.strides, strict=True)):
        if axis in axes:
            reduced.append(Axis(dim, (0, stride)))
            position += keepdims
        else:
            kept.append(Axis(dim, (y.strides[position], stride)))
            position += 1
    return simplified(kept, SOURCE), simplified(reduced, SOURCE)


def is_along(kept: Sequence[Axis], reduced: Sequence[Axis], lanes: int) -> bool:
    """Whether lanes should be positions along the reduced axes rather than results.

    So if those lie side by side, unless they are few and the results many.
    """
    if not reduced:
        return False
    if not kept:
        return True
    along, across = reduced[-1], kept[-1]
    if along.extent * 2 <= lanes <= across.extent:
        return False
    return abs(along.strides[SOURCE]) <= abs(across.strides[SOURCE])


@dataclass(frozen=True)
class _Rule:
    """How one kind of reduction starts, takes an element, and combines partial results of type `dtype`."""

    kind: str
    dtype: DType

    @property
    def neutral(self) -> float | int | bool:
        """The result over no elements."""
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
    def zero_is_neutral(self) -> bool:
        """Whether taking a zero changes nothing."""
        return self.combine == "add"

    def take(self, total: Expr, element: Expr) -> Expr:
        """`total` with one more element."""
        match self.kind:
            case "sum_square" | "l2":
                return fma(element, element, total)
            case "l1":
                return add(total, operation("abs", element) if self.dtype.is_signed else element)
        return operation(self.combine, total, element)

    def finish(self, total: Expr, count: int) -> Expr:
        """The result from the total over `count` elements."""
        if self.kind == "mean":
            if self.dtype.is_float:
                return mul(total, 1.0 / count if count else math.nan)
            return cast(div(cast(total, DType.I64), max(count, 1)), self.dtype)
        if self.kind == "l2":
            if self.dtype.is_float:
                return operation("sqrt", total)
            return cast(operation("sqrt", cast(total, DType.F64)), self.dtype)
        return total


def computes_in_vectors(dtype: DType) -> bool:
    """Whether values of a type are computed with in lanes of 32 bits."""
    return compute_type(dtype) in (DType.F32, DType.I32)


@kernel_for(Reduce)
def lower_reduce(request: Request) -> Kernel:
    """The kernel of a reduction; see the module."""
    op, x_view, y_view = request.op, request.operand(0).view, request.outputs[0]
    if not isinstance(op, Reduce):
        raise TypeError(op)
    rule = _Rule(op.kind, compute_type(x_view.dtype))
    b = KernelBuilder(request, f"reduce_{op.kind}",
                      f"{op.kind} of {shape_text(x_view)} over axes {','.join(map(str, op.axes)) or 'none'}")
    x, y = b.input(0, "x"), b.output(0, "y")
    kept, reduced = split_axes(x_view, y_view, op.axes, op.keepdims)
    in_vectors = computes_in_vectors(x_view.dtype) and op.kind != "prod"
    lanes = vector_lanes(request.target, kept[-1].extent) if in_vectors and kept else 1
    if is_along(kept, reduced, lanes):
        lanes = 1
        if in_vectors and reduced[-1].strides[SOURCE] == 1:
            choose = vector_lanes if rule.zero_is_neutral else full_lanes
            lanes = choose(request.target, reduced[-1].extent)
        _along(b, rule, x, y, kept, reduced, lanes)
        return b.kernel(choice=f"vectors of {lanes} along the reduced axes")
    _across(b, rule, x, y, kept, reduced, lanes)
    return b.kernel(choice=f"vectors of {lanes} results")


def _total(rule: _Rule, parts: Sequence[Expr]) -> Expr:
    """Partial results combined pairwise."""
    level = list(parts)
    while len(level) > 1:
        level = [operation(rule.combine, *level[i:i + 2]) if i + 1 < len(level) else level[i]
                 for i in range(0, len(level), 2)]
    return level[0]


def _along(b: KernelBuilder, rule: _Rule, x: Buffer, y: Buffer, kept: Sequence[Axis], reduced: Sequence[Axis],
           lanes: int) -> None:
    """One result at a time: vectors of elements into several accumulators, which are joined at the end."""
    work = elements(kept) * elements(reduced)
    outer, parallel = split_for_threads(kept, b.request.threads, 1, work)
    inner = reduced[-1]
    copies = max(1, min(ACCUMULATORS, inner.extent // lanes))
    with nest(b, outer, views=2, parallel=parallel) as offsets:
        totals = [b.declare("total", number(rule.neutral, rule.dtype, lanes)) for _ in range(copies)]

        def take(step: Step, copy: int) -> None:
            b.assign(totals[copy], rule.take(totals[copy], cast(step.load(b, SOURCE, x), rule.dtype)))

        with nest(b, reduced[:-1], "r", start=offsets) as places:
            vectors(b, inner, places, lanes, take, unroll=copies, overlap=rule.is_idempotent)
        total = _total(rule, totals)
        if lanes > 1:
            total = Horizontal(rule.combine, total)
        b.store(y, offsets[RESULT], cast(rule.finish(total, elements(reduced)), y.dtype))


def walk_reduced(b: KernelBuilder, reduced: Sequence[Axis], take: Callable[[tuple[Index, ...], int], None],
                 copies: int = 1) -> None:
    """Visits the reduced positions one by one; `take(offsets, copy)` with up to `copies` of them in one iteration."""
    if not reduced:
        take((ZERO, ZERO), 0)
        return
    with nest(b, reduced[:-1], "r", views=len(reduced[-1].strides)) as places:
        vectors(b, reduced[-1], places, 1, lambda step, copy: take(step.offsets, copy), unroll=copies, name="r")


def _across(b: KernelBuilder, rule: _Rule, x: Buffer, y: Buffer, kept: Sequence[Axis], reduced: Sequence[Axis],
            lanes: int) -> None:
    """Several vectors of results at a time, in registers while the reduced positions are walked."""
    work = elements(kept) * max(1, elements(reduced))
    divided, parallel = split_for_threads(kept or (Axis(1, (0, 0)),), b.request.threads, lanes, work)

    def block(steps: tuple[Step, ...]) -> None:
        copies = max(1, min(ACCUMULATORS // len(steps), reduced[-1].extent if reduced else 1))
        totals = [[b.declare("total", number(rule.neutral, rule.dtype, lanes)) for _ in steps] for _ in range(copies)]

        def take(offsets: tuple[Index, ...], copy: int) -> None:
            for total, step in zip(totals[copy], steps, strict=True):
                element = cast(step.moved(offsets).load(b, SOURCE, x), rule.dtype)
                b.assign(total, rule.take(total, element))

        walk_reduced(b, reduced, take, copies)
        for step, *parts in zip(steps, *totals, strict=True):
            total = _total(rule, parts)
            step.store(b, RESULT, y, cast(rule.finish(total, elements(reduced)), y.dtype))

    with nest(b, divided[:-1], views=2, parallel=parallel) as offsets:
        vector_blocks(b, divided[-1], offsets, lanes, ACCUMULATORS, block)


# -- positions of extrema ---------------------------------------------------------------------


@kernel_for(ArgReduce)
def lower_arg_reduce(request: Request) -> Kernel:
    """Positions of extrema: the best element and its position are kept while the axis is walked.

    Lanes are results where those lie side by side; along a contiguous axis the code is scalar.
    """
    op, x_view, y_view = request.op, request.operand(0).view, request.outputs[0]
    if not isinstance(op, ArgReduce):
        raise TypeError(op)
    b = KernelBuilder(request, f"arg_{op.kind}", f"position of the {op.kind} of {shape_text(x_view)} along axis {op.axis}")
    x, y = b.input(0, "x"), b.output(0, "y")
    kept, _ = split_axes(x_view, y_view, (op.axis,), op.keepdims)
    extent, stride = x_view.dims[op.axis], x_view.strides[op.axis]
    dtype = compute_type(x_view.dtype)
    is_vector = kept and dtype is DType.F32 and (kept[-1].strides[SOURCE] == 1 or extent < kept[-1].extent)
    lanes = vector_lanes(request.target, kept[-1].extent) if is_vector else 1
    position_type = DType.I32 if lanes > 1 and extent < 1 << 31 else DType.I64
    divided, parallel = split_for_threads(kept or (Axis(1, (0, 0)),), request.threads, lanes, elements(kept) * extent)

    def block(steps: tuple[Step, ...]) -> None:
        best = [b.declare("best", cast(step.load(b, SOURCE, x), dtype)) for step in steps]
        found = [b.declare("found", number(0, position_type, lanes)) for _ in steps]
        with b.loop("k", extent, start=1) as k:
            position = repeat(FromIndex(k, position_type), lanes)
            for step, value, at in zip(steps, best, found, strict=True):
                element = b.let("e", cast(step.moved((ZERO, k * stride)).load(b, SOURCE, x), dtype))
                condition = b.let("better", _replaces(op, element, value))
                b.assign(at, select(condition, position, at))
                b.assign(value, select(condition, element, value))
        for step, at in zip(steps, found, strict=True):
            for lane in range(step.count):
                one = at if lanes == 1 else Lane(at, lane)
                b.store(y, step.offsets[RESULT] + lane * step.strides[RESULT], cast(one, DType.I64))

    with nest(b, divided[:-1], views=2, parallel=parallel) as offsets:
        vector_blocks(b, divided[-1], offsets, lanes, 2 if lanes > 1 else 1, block)
    return b.kernel(choice=f"vectors of {lanes} results")


def _replaces(op: ArgReduce, element: Expr, best: Ref) -> Expr:
    """Whether an element replaces the best one so far. NaN beats numbers; ties go to the first or the last."""
    worse, better = (element, best) if op.kind == "max" else (best, element)
    if not element.dtype.is_float:
        return operation("le" if op.select_last else "lt", better, worse)
    if op.select_last:
        return operation("or", operation("le", better, worse), operation("not", operation("eq", element, element)))
    return operation("and", operation("not", operation("le", worse, better)), operation("eq", best, best))
