"""Reductions along any axes: sums, means, extrema, products, norms, and positions of extrema."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from edgecc.ir.types import DType
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.folding import SOURCE, Group, Rule, computes_in_vectors, for_each_group, make_plan
from edgecc.kernels.iteration import (
    Axis,
    Step,
    axis_lanes,
    elements,
    nest,
    open_axis,
    simplified,
    split_for_threads,
    vector_blocks,
)
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Request
from edgecc.kernels.scalar_lowering import compute_type
from edgecc.kernels.view import View
from edgecc.loop.builder import cast, div, mul, number, operation, repeat, select
from edgecc.loop.index import ZERO
from edgecc.loop.ir import Expr, FromIndex, Lane, Ref
from edgecc.ops.reduction import ArgReduce, Reduce

RESULT = 0
"""The view of results among the strides of an axis: (result, source)."""


def open_count(axes: Sequence[Axis], dtype: DType) -> Expr:
    """The number of positions of some axes as a number, for axes whose sizes the run decides."""
    count: Expr = FromIndex(axes[0].stop, dtype)
    for axis in axes[1:]:
        count = mul(count, FromIndex(axis.stop, dtype))
    return count


def split_axes(x: View, y: View, axes: Sequence[int], keepdims: bool) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
    """The kept and the reduced axes of a reduction of x to y, simplified; strides are (y, x), 0 in y where reduced."""
    kept: list[Axis] = []
    reduced: list[Axis] = []
    position = 0
    for axis, (dim, stride) in enumerate(zip(x.dims, x.strides, strict=True)):
        if axis in axes:
            reduced.append(open_axis(dim, (0, stride), x.size(axis), padded=x.padded and stride == 1))
            position += keepdims
        else:
            strides = (y.strides[position], stride)
            kept.append(open_axis(dim, strides, x.size(axis), padded=x.padded and y.padded and strides == (1, 1)))
            position += 1
    return simplified(kept, SOURCE), simplified(reduced, SOURCE)


@kernel_for(Reduce, is_open=True)
def lower_reduce(request: Request) -> Kernel:
    """The kernel of a reduction; see edgecc/kernels/folding.py for its nests and accuracy."""
    op, x_view, y_view = request.op, request.operand(0).view, request.outputs[0]
    if not isinstance(op, Reduce):
        raise TypeError(op)
    rule = Rule({"mean": "sum", "wide_sum": "sum", "l2": "sum_square"}.get(op.kind, op.kind), compute_type(y_view.dtype))
    b = KernelBuilder(request, f"reduce_{op.kind}",
                      f"{op.kind} of {shape_text(x_view)} over axes {','.join(map(str, op.axes)) or 'none'}")
    x, y = b.input(0, "x"), b.output(0, "y")
    kept, reduced = split_axes(x_view, y_view, op.axes, op.keepdims)
    plan = make_plan(request.target, kept, reduced, in_vectors=computes_in_vectors(y_view.dtype))
    if op.kind == "wide_sum" and plan.lanes == 1:
        # GCC 12 mixes up the terms of scalar sums side by side if they are wider than the terms; additions of integers
        # follow each other without waiting, so one sum after the other is as fast.
        plan = replace(plan, rows=1, sums=1)

    def reduce(group: Group) -> None:
        totals = group.fold(rule, lambda step, _: cast(step.load(b, SOURCE, x), rule.dtype), zero_padded=True)
        for step, total in zip(group.results, totals, strict=True):
            step.store(b, RESULT, y, cast(_finish(op.kind, total, reduced), y.dtype))

    for_each_group(b, plan, 2, reduce, most=plan.sums)
    return b.kernel(choice=plan.description)


def _finish(kind: str, total: Expr, reduced: Sequence[Axis]) -> Expr:
    """The result from the total over the elements of some axes."""
    dtype, count = total.dtype, elements(reduced)
    if kind == "mean":
        if any(axis.size is not None for axis in reduced):
            return cast(div(total if dtype.is_float else cast(total, DType.I64), repeat(
                open_count(reduced, dtype if dtype.is_float else DType.I64), total.lanes)), dtype)
        if dtype.is_float:
            return mul(total, 1.0 / count if count else math.nan)
        return cast(div(cast(total, DType.I64), max(count, 1)), dtype)
    if kind == "l2":
        return operation("sqrt", total) if dtype.is_float else cast(operation("sqrt", cast(total, DType.F64)), dtype)
    return total


# -- positions of extrema ---------------------------------------------------------------------


@kernel_for(ArgReduce, is_open=True)
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
    lanes = axis_lanes(request.target, kept[-1]) if is_vector else 1
    position_type = DType.I32 if lanes > 1 and extent < 1 << 31 else DType.I64
    divided, parallel = split_for_threads(kept or (Axis(1, (0, 0)),), request.threads, lanes, elements(kept) * extent)

    def block(steps: tuple[Step, ...]) -> None:
        best = [b.declare("best", cast(step.load(b, SOURCE, x), dtype)) for step in steps]
        found = [b.declare("found", number(0, position_type, lanes)) for _ in steps]
        with b.loop("k", x_view.size(op.axis), start=1) as k:
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
