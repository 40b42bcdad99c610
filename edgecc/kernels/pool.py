"""Pooling windows: maximum and average over any rank, with the nest of a depthwise convolution."""

from __future__ import annotations

import math

from edgecc.ir.types import DType
from edgecc.kernels.contraction import PIXEL
from edgecc.kernels.grouped import grouped_view
from edgecc.kernels.iteration import PARALLEL_WORK
from edgecc.kernels.kernel import FromInput, FromOutput, Kernel
from edgecc.kernels.nearest import saturated
from edgecc.kernels.register_tile import narrowest_lanes, vector_lanes
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Request
from edgecc.kernels.rows import axis_loop, axis_position, row_bounds, row_parameters, rows_suffix
from edgecc.kernels.spatial import Axis, Segment, axes_of
from edgecc.kernels.sum_types import accumulator_type, convert
from edgecc.kernels.view import View
from edgecc.loop.dot import DOTS
from edgecc.loop.index import ZERO, Index, const, maximum, minimum, var
from edgecc.loop.ir import (
    Assign,
    Body,
    Buffer,
    Const,
    Declare,
    Expr,
    For,
    FromIndex,
    Function,
    Load,
    Op,
    Ref,
    Stmt,
    Store,
)
from edgecc.ops.convolution import Pool

PIXELS = 4


@kernel_for(Pool, rows=True)
def lower_pool(request: Request) -> Kernel:
    """The kernel of a pool. Lanes are channels where those are contiguous, else the code is scalar."""
    op = request.op
    if not isinstance(op, Pool):
        raise TypeError(op)
    x, y = request.operand(0).view, request.outputs[0]
    whole = _in_groups(request, op)
    x, y = (x, y) if whole is None else whole
    axes = axes_of(x.dims[2:], y.dims[2:], op.kernel, op.strides, op.dilations, op.pads)
    is_vector = x.strides[1] == 1 and y.strides[1] == 1 and x.dtype in (DType.F32, DType.F16, DType.BF16, DType.I8, DType.U8, DType.U32)
    narrow = is_vector and x.dtype in (DType.I8, DType.U8)  # they lie in lanes of 32 bits, and saturating stores join them again
    dtype = x.dtype if op.kind == "max" and (request.computes_in(x.dtype) or x.dtype is not DType.F16) else accumulator_type(x.dtype)
    dtype = DType.I32 if narrow else dtype
    lane_type = DType.F16 if request.computes_in(x.dtype) else accumulator_type(x.dtype)
    lanes = vector_lanes(request.target, lane_type) if is_vector else 1
    last = axes[-1]
    image = var("image") if x.dims[0] > 1 else ZERO
    rows = [row_bounds(request) if i == 0 else None for i in range(len(axes) - 1)]
    positions = [axis_position(f"row{i}", a.out, b) for i, (a, b) in enumerate(zip(axes[:-1], rows, strict=True))]
    block = min(32, max(lanes, x.dims[1] // lanes * lanes)) if lanes > 1 else 1

    def segment_nest(segment: Segment, first: Index, size: int) -> Stmt:
        edge = segment.tap_start is None or segment.tap_stop is None
        loop = "edge" if edge else PIXEL
        column, channel = var(loop) + segment.start, first + var("channel")
        tap_name = "edge_tap" if edge else "tap"
        bounds = [a.bounds(p) for a, p in zip(axes[:-1], positions, strict=True)]
        bounds.append(last.bounds(column) if edge else (const(segment.tap_start or 0), const(segment.tap_stop or 0)))
        names = [f"tap{i}" for i in range(len(axes) - 1)] + [tap_name]
        coordinates = [a.first(p) + var(n) * a.dilation
                       for a, p, n in zip(axes, [*positions, column], names, strict=True)]
        element = convert(Load("x", x.at([image, channel, *coordinates]), x.dtype), dtype)
        accumulator = Ref("acc", dtype)
        combine = "add" if op.kind != "max" else "max" if whole is None else "max_s8" if request.outputs[0].dtype.is_signed else "max_u8"
        update = Op(combine, (accumulator, element), dtype)
        body: Body = (Assign("acc", update),)
        for name, (start, stop) in reversed(list(zip(names, bounds, strict=True))):
            body = (For(name, start, stop, body),)
        result: Expr = accumulator
        if op.kind == "average":
            result = Op("mul", (accumulator, _reciprocal(op, axes, [*positions, column], bounds, dtype)), dtype)
        store = Store("y", y.at([image, channel, *positions, column]), saturated(result, y.dtype) if narrow else convert(result, y.dtype))
        return For(loop, ZERO, const(segment.stop - segment.start),
                   (For("channel", ZERO, const(size), (Declare("acc", _identity(op, request.outputs[0].dtype, dtype)), *body, store)),))

    body: list[Stmt] = []
    blocks, rest = divmod(x.dims[1], block)
    if blocks:
        first = var("panel") * block if blocks > 1 else ZERO
        inner = tuple(segment_nest(s, first, block) for s in last.segments())
        body.extend((For("panel", ZERO, const(blocks), inner),) if blocks > 1 else inner)
    if rest:
        body.extend(segment_nest(s, const(blocks * block), rest) for s in last.segments())
    nest: Body = tuple(body)
    for i, axis in reversed(list(enumerate(axes[:-1]))):
        nest = axis_loop(f"row{i}", axis.out, rows[i], nest)
    if x.dims[0] > 1:
        nest = (For("image", ZERO, const(x.dims[0]), nest),)
    window = "x".join(str(k) for k in op.kernel)
    schedule = [f"tile{{loop={PIXEL},factor={PIXELS}}}",
                f"vectorize{{loop=channel,lanes={lanes},narrowest={narrowest_lanes(request.target, lane_type) if lanes > 1 else 1}}}",
                f"jam{{loop={PIXEL}_inner}}"]
    if last.kernel <= 8:
        schedule += ["unroll{loop=tap}", "reuse-loads"]
    if request.threads > 1 and y.elements * math.prod(op.kernel) >= PARALLEL_WORK * max(1, lanes):
        schedule.append(f"parallelize{{threads={request.threads}}}")
    function = Function(f"{op.kind}_pool_{window}_{request.outputs[0].dims[1]}{rows_suffix(request)}",
                        (Buffer("x", x.dtype, max(1, x.span), "input"), Buffer("y", y.dtype, max(1, y.span), "output")), nest,
                        f"{window} {op.kind} pool, {request.outputs[0].dims[1]} channels, {'x'.join(str(a.out) for a in axes)} pixels",
                        row_parameters(request))
    return Kernel(function, (FromInput(0), FromOutput(0)), tuple(schedule), choice=f"{op.kind} pool: {PIXELS} pixels x {block} channels")


def _identity(op: Pool, own: DType, dtype: DType) -> Const:
    """What no element changes, among numbers of type `own`, in `dtype`."""
    if op.kind == "average":
        return Const(0.0, dtype)
    if dtype is DType.U32:
        return Const(0x80808080 if own.is_signed else 0, dtype)
    return Const(float("-inf") if dtype.is_float else int(own.limits[0]), dtype)


def _in_groups(request: Request, op: Pool) -> tuple[View, View] | None:
    """Operand and result of maxima of bytes as groups of four, which whole vectors hold (NEON); None for other pools."""
    views = request.operand(0).view, request.outputs[0]
    if op.kind != "max" or views[0].dtype not in (DType.I8, DType.U8) or not request.target.has("neon") or views[0].dims[1] % 16:
        return None
    x, y = (grouped_view(view, 1, DOTS["dot_s8"]) for view in views)
    return None if x is None or y is None else (x, y)


def _reciprocal(op: Pool, axes: tuple[Axis, ...], positions: list[Index], bounds: list[tuple[Index, Index]], dtype: DType) -> Expr:
    """1 / number of elements under the window; with count_include_pad elements of the padding count too."""
    total: Expr | None = None
    static = 1
    for number, (axis, position) in enumerate(zip(axes, positions, strict=True)):
        start, stop = bounds[number]
        if op.count_include_pad:
            after = op.pads[len(axes) + number]
            start = ZERO
            stop = minimum((maximum(const(axis.size + axis.pad + after) - position * axis.stride, 0)
                            + (axis.dilation - 1)).floordiv(axis.dilation), axis.kernel) \
                if (axis.out - 1) * axis.stride + (axis.kernel - 1) * axis.dilation >= axis.size + axis.pad + after \
                else const(axis.kernel)
        extent = stop - start
        if extent.is_const:
            static *= extent.const
        else:
            part: Expr = FromIndex(extent, dtype)
            total = part if total is None else Op("mul", (total, part), dtype)
    if total is None:
        return Const(1.0 / static if static else math.inf, dtype)  # no tap meets the image: 0 times infinity is NaN, as is 0 / 0
    return Op("div", (Const(1.0, dtype), total if static == 1 else Op("mul", (total, Const(float(static), dtype)), dtype)), dtype)
