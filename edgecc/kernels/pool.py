"""Pooling windows: maximum and average over any rank, with the nest of a depthwise convolution."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from edgecc.ir.types import DType
from edgecc.kernels.contraction import PIXEL
from edgecc.kernels.grouped import grouped_view
from edgecc.kernels.iteration import PARALLEL_WORK
from edgecc.kernels.kernel import FromInput, FromOutput, Kernel
from edgecc.kernels.nearest import saturated
from edgecc.kernels.register_tile import narrowest_lanes, vector_lanes
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Request
from edgecc.kernels.rows import Bounds, axis_loop, axis_position, row_bounds, row_parameters, rows_suffix
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

MOST_UNROLLED_TAPS = 8
"""Windows of up to so many taps along a row are written out."""

VECTOR_TYPES = frozenset({DType.F32, DType.F16, DType.BF16, DType.I8, DType.U8, DType.U32})
"""Types of elements that vectors have; u32 are four bytes each."""


@kernel_for(Pool, rows=True)
def lower_pool(request: Request) -> Kernel:
    """The kernel of a pool. Lanes are channels where those are contiguous, else the code is scalar."""
    op = request.op
    if not isinstance(op, Pool):
        raise TypeError(op)
    pool = _windows(request, op)
    x, y, own = pool.x, pool.y, request.outputs[0]
    lane_type = DType.F16 if request.computes_in(x.dtype) else accumulator_type(x.dtype)
    lanes = vector_lanes(request.target, lane_type) if pool.is_vector else 1
    block = min(32, max(lanes, x.dims[1] // lanes * lanes)) if lanes > 1 else 1
    window = "x".join(str(k) for k in op.kernel)
    schedule = [f"tile{{loop={PIXEL},factor={PIXELS}}}",
                f"vectorize{{loop=channel,lanes={lanes},narrowest={narrowest_lanes(request.target, lane_type) if lanes > 1 else 1}}}",
                f"jam{{loop={PIXEL}_inner}}"]
    if pool.axes[-1].kernel <= MOST_UNROLLED_TAPS:
        schedule += ["unroll{loop=tap}", "reuse-loads"]
    if request.threads > 1 and y.elements * math.prod(op.kernel) >= PARALLEL_WORK * max(1, lanes):
        schedule.append(f"parallelize{{threads={request.threads}}}")
    function = Function(f"{op.kind}_pool_{window}_{own.dims[1]}{rows_suffix(request)}",
                        (Buffer("x", x.dtype, max(1, x.span), "input"), Buffer("y", y.dtype, max(1, y.span), "output")), pool.nest(block),
                        f"{window} {op.kind} pool, {own.dims[1]} channels, {'x'.join(str(a.out) for a in pool.axes)} pixels",
                        row_parameters(request))
    return Kernel(function, (FromInput(0), FromOutput(0)), tuple(schedule), choice=f"{op.kind} pool: {PIXELS} pixels x {block} channels")


@dataclass(frozen=True)
class _Windows:
    """A pool as loops: where its elements lie, and in which type they are combined.

    Attributes:
        x, y: operand and result, of channels, or of groups of four of them where `in_groups`.
        own: the type of the numbers themselves.
        dtype: the type they are combined in.
        rows: bounds of the loop over the positions of each axis but the last, where it visits only some.
    """

    op: Pool
    x: View
    y: View
    own: DType
    dtype: DType
    axes: tuple[Axis, ...]
    rows: tuple[Bounds | None, ...]
    in_groups: bool

    @property
    def is_vector(self) -> bool:
        """Whether lanes are channels."""
        return self.x.strides[1] == 1 and self.y.strides[1] == 1 and self.x.dtype in VECTOR_TYPES

    @property
    def is_widened(self) -> bool:
        """Whether bytes lie in lanes of 32 bits: saturating stores join them again."""
        return self.is_vector and self.x.dtype in (DType.I8, DType.U8)

    @property
    def _positions(self) -> list[Index]:
        return [axis_position(f"row{i}", a.out, b) for i, (a, b) in enumerate(zip(self.axes[:-1], self.rows, strict=True))]

    def nest(self, block: int) -> Body:
        """All loops, with `block` channels at a time."""
        segments, channels = self.axes[-1].segments(), self.x.dims[1]
        blocks, rest = divmod(channels, block)
        body: list[Stmt] = []
        if blocks:
            first = var("panel") * block if blocks > 1 else ZERO
            inner = tuple(self._segment(s, first, block) for s in segments)
            body.extend((For("panel", ZERO, const(blocks), inner),) if blocks > 1 else inner)
        if rest:
            body.extend(self._segment(s, const(blocks * block), rest) for s in segments)
        nest: Body = tuple(body)
        for i, axis in reversed(list(enumerate(self.axes[:-1]))):
            nest = axis_loop(f"row{i}", axis.out, self.rows[i], nest)
        return (For("image", ZERO, const(self.x.dims[0]), nest),) if self.x.dims[0] > 1 else nest

    def _segment(self, segment: Segment, first: Index, size: int) -> Stmt:
        """The loops over the positions of a segment of the last axis and `size` channels from `first` on."""
        edge = segment.tap_start is None or segment.tap_stop is None
        loop = "edge" if edge else PIXEL
        image = var("image") if self.x.dims[0] > 1 else ZERO
        column, channel = var(loop) + segment.start, first + var("channel")
        places = [*self._positions, column]
        names = [*(f"tap{i}" for i in range(len(self.axes) - 1)), "edge_tap" if edge else "tap"]
        bounds = [a.bounds(p) for a, p in zip(self.axes[:-1], places[:-1], strict=True)]
        bounds.append(self.axes[-1].bounds(column) if edge else (const(segment.tap_start or 0), const(segment.tap_stop or 0)))
        coordinates = [a.first(p) + var(n) * a.dilation for a, p, n in zip(self.axes, places, names, strict=True)]
        accumulator = Ref("acc", self.dtype)
        element = convert(Load("x", self.x.at([image, channel, *coordinates]), self.x.dtype), self.dtype)
        body: Body = (Assign("acc", Op(self._combination(), (accumulator, element), self.dtype)),)
        for name, (start, stop) in reversed(list(zip(names, bounds, strict=True))):
            body = (For(name, start, stop, body),)
        result: Expr = accumulator
        if self.op.kind == "average":
            result = Op("mul", (accumulator, _reciprocal(self.op, self.axes, places, bounds, self.dtype)), self.dtype)
        value = saturated(result, self.y.dtype) if self.is_widened else convert(result, self.y.dtype)
        store = Store("y", self.y.at([image, channel, *places]), value)
        channels = For("channel", ZERO, const(size), (Declare("acc", _identity(self.op, self.own, self.dtype)), *body, store))
        return For(loop, ZERO, const(segment.stop - segment.start), (channels,))

    def _combination(self) -> str:
        """The operation that takes one more element in."""
        if self.op.kind != "max":
            return "add"
        return "max" if not self.in_groups else "max_s8" if self.own.is_signed else "max_u8"


def _windows(request: Request, op: Pool) -> _Windows:
    """The loops of a pool, with the type its elements are combined in."""
    grouped = _in_groups(request, op)
    x, y = grouped or (request.operand(0).view, request.outputs[0])
    axes = axes_of(x.dims[2:], y.dims[2:], op.kernel, op.strides, op.dilations, op.pads)
    rows = tuple(row_bounds(request) if i == 0 else None for i in range(len(axes) - 1))
    exact = op.kind == "max" and (request.computes_in(x.dtype) or x.dtype is not DType.F16)
    dtype = x.dtype if exact else accumulator_type(x.dtype)
    windows = _Windows(op, x, y, request.outputs[0].dtype, dtype, axes, rows, grouped is not None)
    return replace(windows, dtype=DType.I32) if windows.is_widened else windows


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
