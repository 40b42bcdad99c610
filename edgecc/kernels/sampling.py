"""Reading images at computed positions: grids of positions, and regions of interest.

Addresses and weights of a position are computed once and serve all channels, which are the inner loop: in
vectors where they lie side by side in memory, else one after the other. Coordinates are bounded as floats
before they become integers, and the integers once more, so that no address leaves the image whatever the
coordinates are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgecc.errors import EdgeccError
from edgecc.ir.dims import lower_bound
from edgecc.ir.types import Dim, DType
from edgecc.kernels.copying import copy, fill
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.folding import computes_in_vectors
from edgecc.kernels.iteration import (
    Axis,
    Step,
    axes_of,
    axis_lanes,
    nest,
    open_axis,
    simplified,
    split_for_threads,
    vectors,
)
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Request, size_dim
from edgecc.kernels.scalar_lowering import compute_type
from edgecc.kernels.taps import Tap, interpolate, product
from edgecc.loop.builder import add, cast, div, fma, less, mul, number, operation, repeat, select, sub
from edgecc.loop.index import ZERO, Index, from_expr
from edgecc.loop.ir import Buffer, Expr, FromIndex
from edgecc.loop.module import IndexRange
from edgecc.ops.sampling import BEYOND, CUBIC_COEFFICIENT, ROI_OVERSIZE, GridSample, RoiAlign, grid_borders

RESULT, SOURCE, GRID = 0, 1, 2
"""The views among the strides of an axis."""


@dataclass(frozen=True)
class _Size:
    """The size of an axis of the image; the run may decide it."""

    size: Index

    def scaled(self, offset: float, factor: float, dtype: DType) -> Expr | float:
        """(size + offset) * factor, a number where the size is known."""
        if self.size.is_const:
            return (self.size.const + offset) * factor
        moved: Expr = FromIndex(self.size, dtype)
        moved = add(moved, offset) if offset else moved
        return moved if factor == 1.0 else mul(moved, factor)

    def last(self, dtype: DType) -> Expr | float:
        """The number of the last element."""
        return self.scaled(-1.0, 1.0, dtype)


def _size(request: Request, axis: int) -> _Size:
    """The size of an axis of the image.

    Raises: EdgeccError E112 where a run may leave it empty: there is no address that is inside then.
    """
    size = request.operand(0).view.size(axis)
    if lower_bound(size_dim(request, size)) < 1:
        raise EdgeccError("E112", f"{request.op.name} has no kernel for images that may be empty", hint="let the bounds of its sizes begin at 1")
    return _Size(size)


@kernel_for(GridSample, is_open=True)
def lower_grid_sample(request: Request) -> Kernel:
    """Loops over positions, in the order of the result's memory; channels are the inner loop."""
    op, x_view, grid_view, y_view = request.op, request.operand(0).view, request.operand(1).view, request.outputs[0]
    if not isinstance(op, GridSample):
        raise TypeError(op)
    moves = op.mode == "nearest"
    b = KernelBuilder(request, f"grid_sample_{op.mode}", f"{op.mode} samples of {shape_text(x_view)} at "
                                                        f"{shape_text(grid_view)} coordinates, {op.padding} outside")
    if not y_view.elements:
        b.output(0, "y", raw=moves)
        return b.kernel(choice="nothing to read")
    x, grid, y = b.input(0, "x", raw=moves), b.input(1, "grid"), b.output(0, "y", raw=moves)
    outer = [open_axis(y_view.dims[0], (y_view.strides[0], x_view.strides[0], grid_view.strides[0]), y_view.size(0))]
    outer += [open_axis(y_view.dims[a], (y_view.strides[a], 0, grid_view.strides[a - 1]), y_view.size(a)) for a in range(2, len(y_view.dims))]
    channels = open_axis(x_view.dims[1], (y_view.strides[1], x_view.strides[1]), x_view.size(1))
    sizes = [_size(request, 2 + axis) for axis in range(len(x_view.dims) - 2)]
    divided, parallel = split_for_threads(simplified(outer, RESULT), request.threads, 1, 4 * y_view.elements)
    rank = len(x_view.dims) - 2
    with nest(b, divided, "p", views=3, parallel=parallel) as (to, source, at):
        taps, inside = [Tap(ZERO, None)], None
        for axis in range(rank):
            coordinate = b.load(grid, at + (rank - 1 - axis) * grid_view.strides[-1])
            own, own_inside = _axis_taps(b, op, coordinate, sizes[axis], x_view.strides[2 + axis], x_view.dtype)
            taps = [product(b, tap, one) for one in own for tap in taps]
            inside = own_inside if inside is None else inside if own_inside is None else operation("and", inside, own_inside)
        if moves:
            _read_nearest(b, y, x, channels, (to, source), taps[0].address, inside)
        else:
            interpolate(b, y, x, [channels], (to, source), taps)
    return b.kernel(choice=f"{len(taps)} taps for {channels.extent} channels")


def _read_nearest(b: KernelBuilder, y: Buffer, x: Buffer, channels: Axis, start: tuple[Index, Index], address: Index,
                  inside: Expr | None) -> None:
    """Copies the channels of one element, or fills in zeros where it lies outside."""
    if inside is None:
        copy(b, y, x, [channels], (start[0], start[1] + address), top_level=False)
        return
    with b.when(inside):
        copy(b, y, x, [channels], (start[0], start[1] + address), top_level=False)
    with b.otherwise():
        fill(b, y, [replace(channels, strides=channels.strides[:1])], number(0, y.dtype), start[0], top_level=False)


def _axis_taps(b: KernelBuilder, op: GridSample, coordinate: Expr, size: _Size, stride: int,
               dtype: DType) -> tuple[list[Tap], Expr | None]:
    """The taps along an axis of the image, and, for "nearest" with "zeros", whether the tap is inside.

    The statements are `edgecc.ops.sampling.grid_taps`, one for one.
    """
    wide = DType.F64 if coordinate.dtype is DType.F64 else DType.F32
    at: Expr = cast(coordinate, wide)
    match op.coordinates:
        case "corners":
            at = mul(add(at, 1.0), size.scaled(-1.0, 0.5, wide))
        case "edges":
            at = fma(add(at, 1.0), size.scaled(0.0, 0.5, wide), -0.5)
    if op.mode == "nearest":
        at = operation("round", at)
    low, beyond = grid_borders(op, 1)
    high = size.scaled(beyond - 1.0, 1.0, wide)
    if op.padding == "border" and op.mode != "cubic":
        at = b.let("at", at)
        held = operation("min", operation("max", at, 0.0), size.last(wide))
        at = select(operation("or", less(at, low), less(high, at)), held, at)
    elif op.padding == "reflection":
        at = _mirrored(b, b.let("at", at), low, high)
    at = b.let("at", operation("min", operation("max", at, -BEYOND), size.scaled(BEYOND - 1.0, 1.0, wide)))
    below = b.let("below", operation("floor", at))
    offsets: tuple[int, ...] = (0,)
    weights: list[Expr | None] = [None]
    if op.mode != "nearest":
        ratio = b.let("ratio", cast(sub(at, below), compute_type(dtype)))
        offsets = (0, 1) if op.mode == "linear" else (-1, 0, 1, 2)
        weights = [sub(1.0, ratio), ratio] if op.mode == "linear" else _cubic_weights(b, ratio)
    taps: list[Tap] = []
    inside: Expr | None = None
    for offset, weight in zip(offsets, weights, strict=True):
        place: Expr = below if offset == 0 else b.let("place", add(below, float(offset)))
        counted = weight
        if op.padding == "zeros":
            inside = b.let("inside", operation("and", operation("le", 0.0, place), operation("le", place, size.last(wide))))
            counted = None if weight is None else b.let("weight", select(inside, weight, 0.0))
        elif op.padding == "reflection" and op.mode != "nearest":
            place = _mirrored(b, place, low, high)
        taps.append(Tap(_address(b, place, size, stride), counted))
    return taps, inside


def _address(b: KernelBuilder, place: Expr, size: _Size, stride: int) -> Index:
    """The distance of an element from the first one along an axis; positions outside are moved to the border."""
    last = size.size - 1
    held = operation("min", operation("max", cast(place, DType.I64), 0), last.const if last.is_const else FromIndex(last, DType.I64))
    return from_expr(b.let("address", mul(held, stride)))


def _mirrored(b: KernelBuilder, at: Expr, low: float, high: Expr | float) -> Expr:
    """`at` mirrored at `low` and `high` until it lies between them."""
    if isinstance(high, float) and high <= low:
        return select(operation("eq", at, at), low, at)
    turn = 2.0 * (high - low) if isinstance(high, float) else b.let("turn", operation("max", mul(sub(high, low), 2.0), 1.0))
    distance = b.let("distance", operation("abs", sub(at, low)))
    within = b.let("within", sub(distance, mul(operation("floor", div(distance, turn)), turn)))
    inside = add(operation("min", within, sub(turn, within)), low)
    if isinstance(high, float):
        return inside
    mirrored = b.let("mirrored", inside)
    return select(less(high, mirrored), high, mirrored)  # an axis of one element may be narrower than half of the turn


def _cubic_weights(b: KernelBuilder, ratio: Expr) -> list[Expr | None]:
    a = CUBIC_COEFFICIENT
    rest = b.let("rest", sub(1.0, ratio))

    def near(d: Expr) -> Expr:
        return fma(mul(sub(mul(a + 2.0, d), a + 3.0), d), d, 1.0)

    def far(d: Expr) -> Expr:
        return mul(fma(fma(sub(d, 5.0), d, 8.0), d, -4.0), a)

    return [b.let("weight", w) for w in (far(b.let("farther", add(1.0, ratio))), near(ratio), near(rest),
                                         far(b.let("farther", add(1.0, rest))))]


# -- regions of interest ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Bins:
    """An axis of a region: where its first bin begins, the size of a bin, how many points one has, and their distance."""

    first: Expr
    step: Expr
    points: Expr
    distance: Expr

    def point(self, b: KernelBuilder, bin_index: Index, point: Index) -> Expr:
        """The coordinate of a point of a bin."""
        dtype = self.first.dtype
        start = fma(FromIndex(bin_index, dtype), self.step, self.first)
        return b.let("at", fma(add(FromIndex(point, dtype), 0.5), self.distance, start))


@kernel_for(RoiAlign, is_open=True)
def lower_roi_align(request: Request) -> Kernel:
    """Region by region and bin by bin; the points of a bin are summed up for all channels in scratch memory."""
    op, x_view, y_view = request.op, request.operand(0).view, request.outputs[0]
    rois_view, batch_view = request.operand(1).view, request.operand(2).view
    if not isinstance(op, RoiAlign):
        raise TypeError(op)
    b = KernelBuilder(request, f"roi_align_{op.kind}", f"{op.kind} of {y_view.dims[0]} regions of {shape_text(x_view)}, "
                                                       f"{op.height}x{op.width} bins each")
    if not y_view.elements:
        b.output(0, "y")
        return b.kernel(choice="nothing to read")
    x, rois, batch, y = b.input(0, "x"), b.input(1, "rois"), b.input(2, "batch"), b.output(0, "y")
    dtype, images, heights, widths = compute_type(x_view.dtype), *(_size(request, axis) for axis in (0, 2, 3))
    channels = open_axis(x_view.dims[1], (1, x_view.strides[1], y_view.strides[1]), x_view.size(1))
    sums = b.workspace("sums", dtype, x_view.dims[1])
    with b.loop("r", y_view.size(0)) as r:
        index = b.let("index", cast(b.load(batch, r * batch_view.strides[0]), DType.I64))
        counted = select(less(index, 0), add(index, FromIndex(images.size, DType.I64)), index)
        plane = _address(b, counted, images, x_view.strides[0])
        corners = [b.let("corner", fma(cast(b.load(rois, r * rois_view.strides[0] + k * rois_view.strides[1]), dtype),
                                       op.spatial_scale, -0.5 if op.half_pixel else 0.0)) for k in range(4)]
        rows, columns = (_bins(b, op, corners[1 - axis], corners[3 - axis], size, bins)
                         for axis, size, bins in ((0, heights, op.height), (1, widths, op.width)))
        count = cast(mul(rows.points, columns.points), dtype)
        factor = b.let("share", div(1.0, operation("max", count, 1.0)) if op.kind == "average"
                       else select(less(0.0, count), number(1, dtype), 0.0))
        with b.loop("h", op.height) as h, b.loop("w", op.width) as w:
            fill(b, sums, [replace(channels, strides=(1,))], number(0 if op.kind == "average" else -math.inf, dtype), top_level=False)
            with b.loop("i", from_expr(rows.points)) as i:
                row_taps = _border_taps(b, rows.point(b, h, i), heights, x_view.strides[2])
                with b.loop("j", from_expr(columns.points)) as j:
                    column_taps = _border_taps(b, columns.point(b, w, j), widths, x_view.strides[3])
                    taps = [product(b, row, column) for row in row_taps for column in column_taps]
                    _accumulate(b, op, sums, x, replace(channels, strides=channels.strides[:2]), plane, taps)
            to = r * y_view.strides[0] + h * y_view.strides[2] + w * y_view.strides[3]
            _finish_bin(b, op, y, sums, replace(channels, strides=(y_view.strides[1], 1)), to, factor)
    return b.kernel(choice=f"{x_view.dims[1]} channels at each point", checks=_batch_checks(request, size_dim(request, images.size)))


def _batch_checks(request: Request, size: Dim) -> tuple[tuple[int, IndexRange], ...]:
    """What the run has to look at before the kernel: that regions name images there are."""
    batch = request.operand(2)
    if batch.is_constant or request.checks != "trap":
        return ()
    axes = tuple((size_dim(request, axis.stop), axis.strides[0]) for axis in simplified(axes_of([batch.view])))
    return ((2, IndexRange(batch.view.dtype, axes, 0, size)),)


def _bins(b: KernelBuilder, op: RoiAlign, first: Expr, last: Expr, size: _Size, bins: int) -> _Bins:
    extent: Expr = sub(last, first)
    if not op.half_pixel:
        extent = operation("max", extent, 1.0)
    step = b.let("step", div(extent, float(bins)))
    points: Expr = number(op.sampling_ratio, DType.I64)
    if not op.sampling_ratio:
        most: Expr | float = float(op.sample_limit(size.size.const, bins)) if size.size.is_const else operation(
            "max", FromIndex((size.size * ROI_OVERSIZE + bins - 1).floordiv(bins), step.dtype), 1.0)
        wanted = cast(operation("min", operation("ceil", step), most), DType.I64)
        points = b.let("points", operation("max", wanted, 0))
    at_least_one = operation("max", points, 1)
    return _Bins(first, step, points, b.let("distance", div(step, cast(at_least_one, step.dtype))))


def _border_taps(b: KernelBuilder, at: Expr, size: _Size, stride: int) -> list[Tap]:
    """The two elements around a coordinate; without weight where it lies outside of [-1, size], or is NaN."""
    inside = b.let("inside", operation("and", operation("le", -1.0, at), operation("le", at, size.scaled(0.0, 1.0, at.dtype))))
    held = b.let("held", operation("min", operation("max", select(inside, at, 0.0), 0.0), size.last(at.dtype)))
    below = b.let("below", operation("floor", held))
    ratio = b.let("ratio", sub(held, below))
    weights = [b.let("weight", select(inside, weight, 0.0)) for weight in (sub(1.0, ratio), ratio)]
    places: tuple[Expr, Expr] = (below, add(below, 1.0))
    return [Tap(_address(b, place, size, stride), weight) for place, weight in zip(places, weights, strict=True)]


def _accumulate(b: KernelBuilder, op: RoiAlign, sums: Buffer, x: Buffer, channels: Axis, start: Index, taps: Sequence[Tap]) -> None:
    """Adds a point to the sums (or maxima) of all channels; `channels` has strides (sums, source)."""
    is_vector = channels.strides[1] == 1 and computes_in_vectors(x.dtype)
    lanes = axis_lanes(b.request.target, channels) if is_vector else 1
    weights = [repeat(tap.weight, lanes) for tap in taps if tap.weight is not None]

    def body(step: Step, _: int) -> None:
        total: Expr = step.load(b, 0, sums)
        for tap, weight in zip(taps, weights, strict=True):
            element = cast(step.moved((ZERO, tap.address)).load(b, 1, x), sums.dtype)
            total = fma(element, weight, total) if op.kind == "average" else operation("max", total, mul(element, weight))
        step.store(b, 0, sums, total)

    vectors(b, channels, (ZERO, start), lanes, body)


def _finish_bin(b: KernelBuilder, op: RoiAlign, y: Buffer, sums: Buffer, channels: Axis, to: Index, factor: Expr) -> None:
    """Writes the results of a bin, sums times a factor, or maxima where it is not 0; `channels` has strides (result, sums)."""
    is_vector = channels.strides[0] == 1 and computes_in_vectors(y.dtype)
    lanes = axis_lanes(b.request.target, channels) if is_vector else 1

    def body(step: Step, _: int) -> None:
        total, wide = step.load(b, 1, sums), repeat(factor, lanes)
        value = mul(total, wide) if op.kind == "average" else select(operation("eq", wide, 0.0), wide, total)
        step.store(b, 0, y, cast(value, y.dtype))

    vectors(b, channels, (to, ZERO), lanes, body)
