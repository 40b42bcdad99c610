"""Copies between strided views: the one loop nest of all operators that move elements.

A copy is a set of axes with a stride in the result and one in the source, plus, rarely, loops along
which the source is not affine (a reshape of a view with gaps whose shapes share no factors, or a
padding many times as wide as what it mirrors).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from edgecc.ir.types import DType
from edgecc.kernels.iteration import (
    Axis,
    Step,
    axis_lanes,
    blocks,
    elements,
    nest,
    open_axis,
    simplified,
    split_for_threads,
    vector_lanes,
    vectors,
)
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.view import View
from edgecc.loop.builder import add, number, repeat
from edgecc.loop.index import ZERO, Index, const, from_expr
from edgecc.loop.ir import Buffer, Expr, FromIndex


@dataclass(frozen=True)
class Irregular:
    """Loops along which the result has strides, but the source is read at any `source(i, j, ...)` elements from the start.

    Each loop is (extent, stride in the result), the first outermost.
    """

    loops: tuple[tuple[int, int], ...]
    source: Callable[..., Index]


def copy_lanes(b: KernelBuilder, axis: Axis, dtype: DType) -> int:
    """Lanes for copying along an axis of strides (result, source): vectors of 4- and 8-byte elements between runs.

    Narrow elements would be widened in registers; C compilers do better on a plain loop.
    """
    if dtype.size < 4 or axis.strides[0] != 1 or axis.strides[1] not in (0, 1):
        return 1
    return axis_lanes(b.request.target, axis, dtype)


def copy(b: KernelBuilder, result: Buffer, source: Buffer, axes: Sequence[Axis],
         start: tuple[Index, Index] = (ZERO, ZERO), irregular: Sequence[Irregular] = (), *,
         top_level: bool = True) -> None:
    """Copies the elements of a space whose axes have strides (result, source).

    `top_level` says that no loop is open, so that the outermost one may be divided among threads.
    """
    if elements(axes) == 0:
        return
    ordered = simplified(axes) or (Axis(1, (0, 0)),)
    with ExitStack() as stack:
        for group in irregular:
            indices = [stack.enter_context(b.loop("r", extent)) for extent, _ in group.loops]
            moved = sum((i * stride for i, (_, stride) in zip(indices, group.loops, strict=True)), start[0])
            start = (moved, start[1] + group.source(*indices))
        for begin, part in blocks(ordered):
            threads = b.request.threads if top_level and not irregular else 1
            divided, parallel = split_for_threads(part, threads, 16, elements(part))
            inner = divided[-1]
            lanes = copy_lanes(b, inner, result.dtype)
            first = [o + s for o, s in zip(begin, start, strict=True)]
            with nest(b, divided[:-1], start=first, parallel=parallel) as offsets:
                repeated = inner.strides[1] == 0 and inner.extent > 1
                value = b.let("c", repeat(b.load(source, offsets[1]), lanes)) if repeated else None

                def move(step: Step, _: int, value: Expr | None = value) -> None:
                    step.store(b, 0, result, step.load(b, 1, source) if value is None else value)

                vectors(b, inner, offsets, lanes, move, unroll=2 if inner.extent >= 4 * lanes > 4 else 1)


def copy_packed(b: KernelBuilder, result: Buffer, source: Buffer, y: View, x: View) -> None:
    """Copies between a view that is packed in the shape of the run and one with the strides of the largest shape.

    The packed elements are one run; a register counts where in it each row begins. Nothing outside of the shape is
    written on either side.
    """
    strided = x if y.packed else y
    axes = _rows_of(strided)
    done = b.declare("done", number(0, DType.I64))
    inner = axes[-1]
    is_vector = inner.strides[0] == 1 and result.dtype.size >= 4
    lanes = vector_lanes(b.request.target, inner.extent, result.dtype) if is_vector else 1
    with nest(b, axes[:-1], start=[strided.start]) as (base,):

        def move(position: Index, count: int) -> None:
            places = from_expr(done) + position, base + position * inner.strides[0]
            to, at = places if y.packed else places[::-1]
            b.store(result, to, b.load(source, at, count, stride=inner.strides[0] if y.packed else 1),
                    stride=1 if y.packed else inner.strides[0])

        whole = inner.stop.floordiv(lanes) * lanes if lanes > 1 else ZERO
        if lanes > 1:
            with b.loop("v", whole, step=lanes) as v:
                move(v, lanes)
        with b.loop("i", inner.stop, start=whole) as i:
            move(i, 1)
        b.assign(done, add(done, FromIndex(inner.stop, DType.I64)))


def _rows_of(view: View) -> list[Axis]:
    """The axes of a view in logical order; what runs on behind the end of an axis is part of the axis."""
    axes: list[Axis] = []
    for axis, (dim, stride) in enumerate(zip(view.dims, view.strides, strict=True)):
        own = open_axis(dim, (stride,), view.size(axis))
        if own.extent == 1 and own.size is None:
            continue
        if axes and own.size is None and axes[-1].strides[0] == stride * dim:
            outer = axes[-1]
            axes[-1] = open_axis(outer.extent * dim, (stride,), outer.stop * dim)
        else:
            axes.append(own)
    return axes or [Axis(1, (0,))]


def fill(b: KernelBuilder, result: Buffer, axes: Sequence[Axis], value: Expr, start: Index = ZERO, *,
         top_level: bool = True) -> None:
    """Gives every element of a space (axes with one stride, that of the result) one scalar value.

    `top_level` as in `copy`.
    """
    if elements(axes) == 0:
        return
    ordered = simplified(axes) or (Axis(1, (0,)),)
    divided, parallel = split_for_threads(ordered, b.request.threads if top_level else 1, 16, elements(ordered))
    inner = divided[-1]
    is_vector = inner.strides[0] == 1 and result.dtype.size >= 4
    lanes = axis_lanes(b.request.target, inner, result.dtype) if is_vector else 1
    wide = repeat(value, lanes)
    with nest(b, divided[:-1], start=[start], parallel=parallel) as offsets:
        vectors(b, inner, offsets, lanes, lambda step, _: step.store(b, 0, result, wide))


def fill_around(b: KernelBuilder, result: Buffer, view: View, kept: Sequence[tuple[int, int]], value: Expr) -> None:
    """Gives every element of a view one value, but those inside the box `kept`: (first position, count) of each axis."""
    for axis, (first, count) in enumerate(kept):
        # what lies before and after the box along this axis, within the box along the axes before it
        for begin, end in ((0, first), (first + count, view.dims[axis])):
            ranges = [*kept[:axis], (begin, end - begin), *((0, d) for d in view.dims[axis + 1:])]
            origin = sum(s * r[0] for s, r in zip(view.strides, ranges, strict=True))
            fill(b, result, [Axis(r[1], (s,)) for s, r in zip(view.strides, ranges, strict=True)], value, const(origin))


@dataclass(frozen=True)
class AffineRun:
    """Consecutive results that read a source at a constant step: those from `first` on read `source`, `source + step`, ..."""

    first: int
    count: int
    source: int
    step: int


def affine_runs(positions: Sequence[int]) -> list[AffineRun]:
    """Source positions, one for each result, cut into runs of a constant step, greedily from the first."""
    runs: list[AffineRun] = []
    first = 0
    while first < len(positions):
        step = positions[first + 1] - positions[first] if first + 1 < len(positions) else 0
        last = first
        while last + 1 < len(positions) and positions[last + 1] - positions[last] == step:
            last += 1
        runs.append(AffineRun(first, last - first + 1, positions[first], step))
        first = last + 1
    return runs
