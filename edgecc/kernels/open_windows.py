"""Convolutions and pools over images whose size the run decides.

The taps of a window that lie inside of the image follow from the position, by bounds of the loops over
them; along the last axis the positions where all do have a loop of their own, which becomes a micro-kernel:

    for image: for row: for panel of channels:
        for column at the left border, then inside, then at the right border:
            for channel: sum over taps inside and input channels
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.types import Array, DType
from edgecc.kernels.contraction import INNER, PIXEL, assemble, panel_loops, tile_nest, zeros_of
from edgecc.kernels.contraction_weights import weights_of
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.epilogue import epilogue_of
from edgecc.kernels.half_sums import Reduction
from edgecc.kernels.iteration import Axis, Step, axis_lanes, vectors
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.register_tile import Panel, RegisterTile, choose_tile, cut_panels, narrowest_lanes
from edgecc.kernels.request import Request
from edgecc.kernels.scalar_lowering import compute_type
from edgecc.kernels.sum_types import compute_target, sum_type
from edgecc.kernels.tile_schedule import tile_schedule
from edgecc.kernels.view import View
from edgecc.loop.builder import add, cast, div, mul, number, operation, repeat
from edgecc.loop.index import ZERO, Index, as_index, const, maximum, minimum, var
from edgecc.loop.ir import Body, Expr, For, FromIndex, Load
from edgecc.ops.convolution import Conv, Pool
from edgecc.ops.reduction import lowest

HINT = "give the dimension one size with --shape"


@dataclass(frozen=True)
class Window:
    """A window along one axis of an image of `size` elements, with `pad` positions in front and `behind` after it."""

    size: Index
    kernel: int
    stride: int
    dilation: int
    pad: int
    behind: int

    @property
    def is_inside(self) -> bool:
        """Whether no tap is ever outside."""
        return self.pad == 0 and self.behind == 0

    def first(self, position: Index) -> Index:
        """Where the first tap lies for a position of the result."""
        return position * self.stride - self.pad

    def taps(self, position: Index) -> tuple[Index, Index]:
        """The first tap inside of the image, and the one after the last."""
        if self.is_inside:
            return ZERO, const(self.kernel)
        start = (const(self.dilation - 1) - self.first(position)).floordiv(self.dilation)
        stop = (self.size - self.first(position) + (self.dilation - 1)).floordiv(self.dilation)
        return maximum(ZERO, start), minimum(self.kernel, stop)

    def inside(self, count: Index) -> tuple[Index, Index]:
        """The positions, of `count`, at which all taps are inside: the first, and the one after the last."""
        if self.is_inside:
            return ZERO, count
        first = minimum(-(-self.pad // self.stride), count)
        room = self.size + self.pad - ((self.kernel - 1) * self.dilation + 1)
        return first, maximum(first, minimum(count, room.floordiv(self.stride) + 1))


def windows_of(x: View, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int]) -> list[Window]:
    """The window along each spatial axis of `x`; `pads` are (begin..., end...)."""
    rank = len(kernel)
    return [Window(x.size(2 + i), kernel[i], strides[i], dilations[i], pads[i], pads[rank + i]) for i in range(rank)]


def lower_open_convolution(request: Request) -> Kernel:
    """A convolution with constant weights, of one group or depthwise, with open batch and image sizes.

    Raises: EdgeccError E112 for others.
    """
    op, x, w, y = request.op, request.operand(0).view, request.operand(1).view, request.outputs[0]
    if not isinstance(op, Conv):
        raise TypeError(op)
    dtype, depth, channels = sum_type(request), w.dims[1], w.dims[0]
    depthwise = op.group > 1 and depth == 1 and channels == op.group
    if (not request.operand(1).is_constant or (op.group > 1 and not depthwise) or dtype is DType.F16
            or not x.size(1).is_const):
        raise EdgeccError("E112", "conv has no kernel for sizes known only at run time with these weights, groups or types", hint=HINT)
    target, windows = compute_target(request, op.epilogue), windows_of(x, w.dims[2:], op.strides, op.dilations, op.pads)
    taps = math.prod(w.dims[2:])
    tile = choose_tile(y.dims[-1], channels, taps * depth, target, dtype)
    if depthwise:  # each vector of channels has its own input: a tile of one vector has registers for both
        tile = RegisterTile(min(4, y.dims[-1]), 1, tile.lanes)
    panels = cut_panels(channels, tile, narrowest_lanes(target, dtype))
    weights, epilogue = weights_of(request, channels, taps * depth, panels, _by_tap), epilogue_of(request, op.epilogue, 3)
    rows = [var(f"row{i}") for i in range(len(windows) - 1)]

    def in_panel(panel: Panel, channel0: Index, w_start: Index, b_start: Index) -> Body:
        channel = channel0 + var("channel")

        def run(first: Index, count: Index, loop: str) -> For:
            column = first + var(loop)
            places = [*rows, column]
            reductions: list[Reduction] = []
            tap, position = ZERO, list[Index]()
            for i, (window, place) in enumerate(zip(windows, places, strict=True)):
                is_last = i == len(windows) - 1
                own = ZERO
                if window.kernel > 1 or not window.is_inside:
                    name = INNER if is_last and depthwise and loop == PIXEL else f"tap{i}"
                    bounds = (ZERO, const(window.kernel)) if is_last and loop == PIXEL else window.taps(place)
                    reductions.append(Reduction(name, *bounds, window.kernel))
                    own = var(name)
                tap = tap * window.kernel + own
                position.append(window.first(place) + own * window.dilation)
            if not depthwise:
                reductions.append(Reduction(INNER, ZERO, const(depth)))
            elif loop == PIXEL and (not reductions or reductions[-1].name != INNER):
                reductions.append(Reduction(INNER, ZERO, const(1)))
            term = tap if depthwise else tap * depth + var(INNER)
            source = x.at([image, channel if depthwise else var(INNER), *position])

            def address(view: View) -> Index:
                return view.at([image, channel, *places])

            return tile_nest(count, panel.size, reductions, Load("x", source, x.dtype),
                             Load("w", w_start + term * panel.padded + var("channel"), w.dtype),
                             weights.bias(b_start + var("channel"), address), lambda acc: epilogue.store(acc, address), row_loop=loop, zeros=zeros_of(op))

        columns = y.size(len(y.dims) - 1)
        start, stop = windows[-1].inside(columns)
        body: Body = (run(start, stop - start, PIXEL),)
        if not windows[-1].is_inside:
            body = (run(ZERO, start, "left"), *body, run(stop, columns - stop, "right"))
        for i in reversed(range(len(rows))):
            body = (For(f"row{i}", ZERO, y.size(2 + i), body),)
        return body

    image = var("image")
    body: Body = (For("image", ZERO, y.size(0), panel_loops(panels, taps * depth, in_panel)),)
    shape = "x".join(str(k) for k in w.dims[2:])
    return assemble(replace(request, threads=1), f"{'depthwise' if depthwise else 'conv'}_{shape}_{x.dims[1]}_{channels}", body,
                    tile_schedule(tile, target, w.dims[-1] if depthwise else depth, weights.padded, dtype, open_rows=True),
                    weights, epilogue, 3, doc=f"{shape} convolution, {x.dims[1]} to {channels} channels, images of any size up to {shape_text(x)}",
                    choice=f"direct {shape}, open sizes: tile {tile.rows} x {tile.vectors} vectors of {tile.lanes}")


def _by_tap(weights: Array) -> Array:
    """[outputs, inputs, taps...] as [outputs, terms], the channels of a tap side by side."""
    return np.ascontiguousarray(np.moveaxis(weights, 1, -1)).reshape(weights.shape[0], -1)


def lower_open_pool(request: Request) -> Kernel:
    """A pool with open batch and image sizes: vectors of channels, or single elements where channels do not lie side by side.

    Raises: EdgeccError E112 for an open number of channels.
    """
    op, x_view, y_view = request.op, request.operand(0).view, request.outputs[0]
    if not isinstance(op, Pool):
        raise TypeError(op)
    if not x_view.size(1).is_const:
        raise EdgeccError("E112", "pool has no kernel for channels whose number is known only at run time", hint=HINT)
    rank = len(op.kernel)
    # Rounding up lets windows reach behind the padding.
    pads = (*op.pads[:rank], *(pad + op.ceil_mode for pad in op.pads[rank:]))
    windows = windows_of(x_view, op.kernel, op.strides, op.dilations, pads)
    b = KernelBuilder(request, f"pool_{op.kind}", f"{op.kind} of windows of images of any size up to {shape_text(x_view)}")
    x, y = b.input(0, "x"), b.output(0, "y")
    dtype = compute_type(x_view.dtype)
    channels = Axis(x_view.dims[1], (y_view.strides[1], x_view.strides[1]))
    is_vector = channels.strides == (1, 1) and dtype is DType.F32
    lanes = axis_lanes(request.target, channels) if is_vector else 1
    least = lowest(np.zeros(1, x_view.dtype.numpy)) if op.kind == "max" else 0
    places: list[Index] = []

    def window(step: Step, _: int) -> None:
        total = b.declare("total", number(least, dtype, step.lanes))
        bounds = [w.taps(place) for w, place in zip(windows, places[1:], strict=True)]

        def visit(axis: int, at: Index) -> None:
            if axis == len(windows):
                element = cast(step.moved((ZERO, at)).load(b, 1, x), dtype)
                b.assign(total, operation("max", total, element) if op.kind == "max" else add(total, element))
                return
            own, stride = windows[axis], x_view.strides[2 + axis]
            with b.loop(f"tap{axis}", bounds[axis][1], start=bounds[axis][0]) as tap:
                visit(axis + 1, at + (own.first(places[1 + axis]) + tap * own.dilation) * stride)

        visit(0, ZERO)
        value: Expr = total
        if op.kind == "average" and (all(w.is_inside for w in windows) or (op.count_include_pad and not op.ceil_mode)):
            value = mul(total, 1.0 / math.prod(op.kernel))
        elif op.kind == "average":
            counts = [stop - start for start, stop in bounds]
            if op.count_include_pad:  # all taps but those that rounding up lets reach behind the padding
                counts = [minimum(w.kernel, (w.size + pad - w.first(place) + (w.dilation - 1)).floordiv(w.dilation))
                          for w, pad, place in zip(windows, op.pads[rank:], places[1:], strict=True)]
            count: Expr = FromIndex(maximum(counts[0], 1), dtype)
            for more in counts[1:]:
                count = mul(count, FromIndex(maximum(more, 1), dtype))
            value = div(total, repeat(count, step.lanes))
        step.store(b, 0, y, cast(value, y.dtype))

    def rows(axis: int) -> None:
        if axis == len(windows) + 2:
            to = y_view.at([places[0], 0, *places[1:]])
            vectors(b, channels, (to, as_index(places[0]) * x_view.strides[0]), lanes, window)
        elif axis == 1:
            rows(2)
        else:
            with b.loop(f"p{axis}", y_view.size(axis)) as place:
                places.append(place)
                rows(axis + 1)
                places.pop()

    rows(0)
    return b.kernel(choice=f"vectors of {lanes} channels, open sizes")
