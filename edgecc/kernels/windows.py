"""Windows over images, besides pools: positions of maxima, and windows added up to an image."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, ExitStack

from edgecc.ir.types import DType
from edgecc.kernels.copying import fill
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.folding import computes_in_vectors
from edgecc.kernels.iteration import PARALLEL_WORK, Axis, Step, vector_lanes, vectors
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.open_windows import windows_of
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Request
from edgecc.kernels.scalar_lowering import compute_type
from edgecc.kernels.spatial import Axis as SpatialAxis
from edgecc.kernels.spatial import axes_of
from edgecc.loop.builder import add, cast, mul, number, operation, select
from edgecc.loop.index import ZERO, Index, const, maximum, minimum
from edgecc.loop.ir import Buffer, Expr, FromIndex, Ref
from edgecc.ops.windows import Col2Im, MaxPosition


@kernel_for(MaxPosition, is_open=True)
def lower_max_position(request: Request) -> Kernel:
    """The best element and its position are kept while a window is walked, one window after the other."""
    op, x_view, y_view = request.op, request.operand(0).view, request.outputs[0]
    if not isinstance(op, MaxPosition):
        raise TypeError(op)
    b = KernelBuilder(request, "max_position", f"positions of the maxima of {'x'.join(map(str, op.kernel))} windows of {shape_text(x_view)}")
    if not y_view.elements:
        b.output(0, "y")
        return b.kernel(choice="nothing to read")
    x, y = b.input(0, "x"), b.output(0, "y")
    rank, dtype = len(op.kernel), compute_type(x_view.dtype)
    # Where sizes are rounded up, windows reach behind the padding.
    pads = (*op.pads[:rank], *(pad + op.ceil_mode for pad in op.pads[rank:]))
    axes = windows_of(x_view, op.kernel, op.strides, op.dilations, pads)
    order = [1, *(range(1 + rank, 1, -1) if op.column_major else range(2, 2 + rank))]

    def position(*at: Index) -> Expr:
        """The number of an element. Sizes of the run make it no affine form of the indices."""
        if not request.is_open:
            strides = {axis: math.prod(x_view.dims[other] for other in order[order.index(axis) + 1:]) for axis in order}
            return FromIndex(at[0] * math.prod(x_view.dims[1:]) + _dot(list(at[1:]), tuple(strides[axis] for axis in sorted(strides))), DType.I64)
        number: Expr = FromIndex(at[0], DType.I64)
        for axis in order:
            number = add(mul(number, FromIndex(x_view.size(axis), DType.I64)), FromIndex(at[axis], DType.I64))
        return number

    kind = "parallel" if request.threads > 1 and y_view.elements * math.prod(op.kernel) >= PARALLEL_WORK else "serial"
    with ExitStack() as stack:
        loops = [stack.enter_context(b.loop(name, y_view.size(index), kind=kind if index == 0 else "serial"))
                 for index, name in enumerate(("n", "c", *(f"p{a}" for a in range(rank))))]
        image, channel, place = loops[0], loops[1], loops[2:]
        best, taken = b.declare("best", number(0, dtype)), b.declare("taken", number(False, DType.BOOL))
        # Where every tap is padding: the element nearest to the last tap.
        last = [minimum(maximum(a.first(p) + (a.kernel - 1) * a.dilation, 0), a.size - 1) for a, p in zip(axes, place, strict=True)]
        found = b.declare("found", position(image, channel, *last))
        with ExitStack() as taps:
            at = []
            for index, (axis, p) in enumerate(zip(axes, place, strict=True)):
                start, stop = axis.taps(p)
                tap = taps.enter_context(b.loop(f"k{index}", stop, start=start))
                at.append(axis.first(p) + tap * axis.dilation)
            element = b.let("e", cast(b.load(x, x_view.at([image, channel, *at])), dtype))
            better = b.let("better", operation("or", operation("not", taken), _exceeds(element, best)))
            b.assign(best, select(better, element, best))
            b.assign(found, select(better, position(image, channel, *at), found))
            b.assign(taken, number(True, DType.BOOL))
        b.store(y, y_view.at(loops), found)
    return b.kernel(choice="window by window")


def _dot(indices: list[Index], strides: tuple[int, ...]) -> Index:
    return sum((index * stride for index, stride in zip(indices, strides, strict=True)), ZERO)


def _exceeds(element: Expr, best: Ref) -> Expr:
    if not element.dtype.is_float:
        return operation("lt", best, element)
    return operation("and", operation("not", operation("le", element, best)), operation("eq", best, best))


@kernel_for(Col2Im)
def lower_col2im(request: Request) -> Kernel:
    """Tap by tap the positions that fall into the image are added to it; along the last axis in vectors.

    Results of half precision are summed in scratch memory in f32.
    """
    op, x_view, y_view = request.op, request.operand(0).view, request.outputs[0]
    if not isinstance(op, Col2Im):
        raise TypeError(op)
    b = KernelBuilder(request, "col2im", f"{'x'.join(map(str, op.kernel))} windows added up to {shape_text(y_view)}")
    x, y = b.input(0, "x"), b.output(0, "y")
    dtype, rank, positions = compute_type(y_view.dtype), len(op.sizes), op.positions()
    rows = [math.prod(op.sizes[a + 1:]) for a in range(rank)]
    plane = b.workspace("plane", dtype, math.prod(op.sizes))
    axes = axes_of(op.sizes, positions, op.kernel, op.strides, op.dilations, op.pads)
    if not y_view.elements:
        return b.kernel(choice="nothing to add")
    inner = axes[-1]
    with b.loop("n", y_view.dims[0]) as n, b.loop("c", y_view.dims[1]) as c:
        fill(b, plane, [Axis(math.prod(op.sizes), (1,))], number(0, dtype), top_level=False)
        with ExitStack() as stack:
            to, source = ZERO, n * x_view.strides[0] + c * x_view.strides[1]
            for a, axis in enumerate(axes[:-1]):
                tap = stack.enter_context(b.loop("k", axis.kernel))
                p = stack.enter_context(_positions_inside(b, axis, tap))
                source = source + tap * (math.prod(op.kernel[a + 1:]) * x_view.strides[2])
                source = source + p * (math.prod(positions[a + 1:]) * x_view.strides[3])
                to = to + (axis.first(p) + tap * axis.dilation) * rows[a]
            for k in range(inner.kernel):
                offset = k * inner.dilation - inner.pad
                first, stop = max(0, -(offset // inner.stride)), min(inner.out, (inner.size - 1 - offset) // inner.stride + 1)
                if first < stop:
                    walked = Axis(stop - first, (inner.stride, x_view.strides[3]))
                    begin = source + (k * x_view.strides[2] + first * x_view.strides[3])
                    _accumulate(b, plane, x, walked, (to + (first * inner.stride + offset), begin))
        with ExitStack() as stack:
            q = [stack.enter_context(b.loop("q", size)) for size in op.sizes]
            b.store(y, y_view.at([n, c, *q]), cast(b.load(plane, _dot(q, tuple(rows))), y.dtype))
    return b.kernel(choice="tap by tap")


def _positions_inside(b: KernelBuilder, axis: SpatialAxis, tap: Index) -> AbstractContextManager[Index]:
    """A loop over the positions at which a tap falls into the image."""
    first = (maximum(const(axis.pad) - tap * axis.dilation, 0) + (axis.stride - 1)).floordiv(axis.stride)
    stop = (maximum(const(axis.size + axis.pad) - tap * axis.dilation, 0) + (axis.stride - 1)).floordiv(axis.stride)
    return b.loop("p", minimum(stop, axis.out), start=first)


def _accumulate(b: KernelBuilder, sums: Buffer, x: Buffer, walked: Axis, start: tuple[Index, Index]) -> None:
    """Adds a row of x to the sums; `walked` has strides (sums, x)."""
    is_vector = walked.strides == (1, 1) and computes_in_vectors(x.dtype)
    lanes = vector_lanes(b.request.target, walked.extent) if is_vector else 1

    def add_step(step: Step, _: int) -> None:
        step.store(b, 0, sums, add(step.load(b, 0, sums), cast(step.load(b, 1, x), sums.dtype)))

    vectors(b, walked, start, lanes, add_step)
