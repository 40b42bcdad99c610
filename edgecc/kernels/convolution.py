"""Convolution: direct, without im2col; any rank, stride, dilation, group and padding.

The result is a matrix of pixels x channels. The register tile takes neighbouring pixels of a row and
panels of channels; the reduction runs over the taps and the input channels. Channels-last operands
give a contiguous reduction (taps along the row and channels join into one loop); with other layouts,
such as the planes of a camera image, the taps along the row are innermost. A convolution whose
window is one pixel is a matrix product over all pixels at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from edgecc.ir.types import Array
from edgecc.kernels.base import Kernel, Request, View, kernel_for
from edgecc.kernels.contraction import (
    INNER,
    PIXEL,
    Reduction,
    assemble,
    epilogue_of,
    panel_loops,
    tile_nest,
    tile_schedule,
    weights_of,
)
from edgecc.kernels.depthwise import lower_depthwise
from edgecc.kernels.product import Product, count, joined_axes, outer_loops, outer_position, product_nest, run_stride
from edgecc.kernels.register_tile import Panel, choose_tile, cut_panels, narrowest_lanes
from edgecc.kernels.spatial import Axis, Segment, axes_of
from edgecc.loop.index import ZERO, Index, const, var
from edgecc.loop.ir import Body, Expr, For, Load, Stmt
from edgecc.ops.convolution import Conv


@kernel_for(Conv)
def lower_convolution(request: Request) -> Kernel:
    """The kernel of a convolution."""
    op = request.op
    if not isinstance(op, Conv):
        raise TypeError(op)
    x, w, y = request.operand(0).view, request.operand(1).view, request.outputs[0]
    axes = axes_of(x.dims[2:], y.dims[2:], w.dims[2:], op.strides, op.dilations, op.pads)
    if op.group > 1 and w.dims[1] == 1 and w.dims[0] == op.group and request.operand(1).is_constant:
        return lower_depthwise(request, axes, op.epilogue)
    if op.group == 1 and all(a.kernel == 1 and a.stride == 1 and a.pad == 0 and a.size == a.out for a in axes):
        return _lower_pointwise(request, op)
    return _Direct(request, op, axes).lower()


def _lower_pointwise(request: Request, op: Conv) -> Kernel:
    x, w, y = request.operand(0).view, request.operand(1).view, request.outputs[0]
    epilogue = epilogue_of(request, op.epilogue, 3)
    outer, joined = joined_axes([x, y, *(view for _, view in epilogue.extras)], [0, *range(2, len(x.dims))])
    rows, depth, channels, size = count(y.dims, joined), w.dims[1], w.dims[0], x.dtype.size
    tile = choose_tile(rows, channels, depth, request.target, size)
    panels = cut_panels(channels, tile, narrowest_lanes(request.target, size))
    weights = weights_of(request, channels, depth, panels, _flatten)

    def at(view: View, row: Index, channel: Index) -> Index:
        coordinates = [outer_position(y.dims, outer, axis) for axis in range(len(y.dims))]
        coordinates[1] = channel
        return view.at(coordinates) + row * run_stride(view, joined)

    product = Product(rows, channels, depth, x, w, lambda row, k: at(x, row, k),
                      lambda k, channel: w.at([channel, k, *[ZERO] * (len(w.dims) - 2)]), at)
    body, block = product_nest(product, tile, panels, weights, epilogue, request.target)
    return assemble(request, f"conv_pointwise_{depth}_{channels}", outer_loops(body, y.dims, outer),
                    tile_schedule(tile, request.target, size, depth), weights, epilogue, 3,
                    doc=f"pointwise convolution, {depth} to {channels} channels, {count(y.dims, [0, *range(2, len(y.dims))])} pixels",
                    choice=f"pointwise: tile {tile.rows} x {tile.vectors} vectors of {tile.lanes}, blocks of {block} pixels")


def _flatten(weights: Array) -> Array:
    return weights.reshape(weights.shape[0], -1)


@dataclass(frozen=True)
class _Direct:
    """The direct nest of any convolution: image, group, panel, rows, segments of a row, taps, channels."""

    request: Request
    op: Conv
    axes: tuple[Axis, ...]

    @property
    def channels_last(self) -> bool:
        """Whether input channels are contiguous (or there is one): then they are innermost, else the taps of a row are."""
        x, w = self.request.operand(0).view, self.request.operand(1).view
        return x.strides[1] == 1 or (w.dims[1] > 1 and x.strides[-1] != 1)

    @property
    def joins(self) -> bool:
        """Whether the taps of a row and the channels of all of them are one contiguous run."""
        x, last = self.request.operand(0).view, self.axes[-1]
        return (self.channels_last and self.op.group == 1 and x.strides[1] == 1
                and last.dilation * x.strides[-1] == x.dims[1])

    def lower(self) -> Kernel:
        request, op = self.request, self.op
        x, w, y = request.operand(0).view, request.operand(1).view, request.outputs[0]
        channels, depth, size = w.dims[0] // op.group, w.dims[1], x.dtype.size
        reduction = depth * math.prod(w.dims[2:])
        tile = choose_tile(self.axes[-1].out, channels, reduction, request.target, size)
        panels = cut_panels(channels, tile, narrowest_lanes(request.target, size))
        weights = weights_of(request, channels, reduction, panels, partial(_tap_order, self.channels_last), groups=op.group)
        epilogue = epilogue_of(request, op.epilogue, 3)
        group = var("group") if op.group > 1 else ZERO
        image = var("image") if x.dims[0] > 1 else ZERO
        padded = sum(panel.padded * panel.count for panel in panels)

        def in_panel(panel: Panel, channel0: Index, w_start: Index, b_start: Index) -> Body:
            channel = group * channels + channel0 + var("channel")
            bias = weights.bias(group * padded + b_start + var("channel"), channel)
            rows = [var(f"row{i}") if a.out > 1 else ZERO for i, a in enumerate(self.axes[:-1])]

            def segment_nest(segment: Segment) -> Body:
                row_loop = PIXEL if segment.tap_start is not None else "edge"
                column = var(row_loop) + segment.start
                reductions, x_index, tap = self._reduction(segment, image, group * depth, rows, column)
                w_index = (group * (padded * reduction) + w_start + tap * panel.padded + var("channel") if weights.packed
                           else self._weight_address(channel, tap))

                def store(accumulator: Expr) -> Stmt:
                    return epilogue.store(accumulator, lambda view: view.at([image, channel, *rows, column]))

                return (tile_nest(segment.stop - segment.start, panel.size, reductions, Load("x", x_index, x.dtype),
                                  Load("w", w_index, w.dtype), bias, store, row_loop=row_loop),)

            body: Body = tuple(s for segment in self.axes[-1].segments() for s in segment_nest(segment))
            for i, axis in reversed(list(enumerate(self.axes[:-1]))):
                if axis.out > 1:
                    body = (For(f"row{i}", ZERO, const(axis.out), body),)
            return body

        body = panel_loops(panels, reduction, in_panel)
        if op.group > 1:
            body = (For("group", ZERO, const(op.group), body),)
        if x.dims[0] > 1:
            body = (For("image", ZERO, const(x.dims[0]), body),)
        window = "x".join(str(a.kernel) for a in self.axes)
        return assemble(request, f"conv_{window}_{x.dims[1]}_{w.dims[0]}", body,
                        tile_schedule(tile, request.target, size, self._inner_extent()), weights, epilogue, 3,
                        doc=f"{window} convolution, {x.dims[1]} to {w.dims[0]} channels, {'x'.join(str(a.out) for a in self.axes)} pixels",
                        choice=f"direct {window}: tile {tile.rows} x {tile.vectors} vectors of {tile.lanes}")

    def _inner_extent(self) -> int:
        """Extent of the innermost reduction loop where no tap is cut off."""
        depth, kernel = self.request.operand(1).view.dims[1], self.axes[-1].kernel
        if not self.channels_last:
            return kernel
        return kernel * depth if self.joins else depth

    def _reduction(self, segment: Segment, image: Index, first_channel: Index, rows: Sequence[Index],
                   column: Index) -> tuple[list[Reduction], Index, Index]:
        """Loops of the reduction, the input address, and the number of the term in packed order."""
        x = self.request.operand(0).view
        depth = self.request.operand(1).view.dims[1]
        loops: list[Reduction] = []
        taps: list[Index] = []
        positions: list[Index] = []
        for i, axis in enumerate(self.axes[:-1]):
            start, stop = axis.bounds(rows[i])
            if axis.kernel == 1 and axis.is_inside:
                taps.append(ZERO)
            else:
                loops.append(Reduction(f"tap{i}", start, stop))
                taps.append(var(f"tap{i}"))
            positions.append(axis.first(rows[i]) + taps[-1] * axis.dilation)
        last = self.axes[-1]
        if segment.tap_start is None or segment.tap_stop is None:
            start, stop = last.bounds(column)
        else:
            start, stop = const(segment.tap_start), const(segment.tap_stop)
        outer_tap: Index = ZERO
        for tap, axis in zip(taps, self.axes[:-1], strict=True):
            outer_tap = outer_tap * axis.kernel + tap
        k = var(INNER)
        if not self.channels_last:
            channel = var("in") if depth > 1 else ZERO
            if depth > 1:
                loops.insert(0, Reduction("in", ZERO, const(depth)))
            loops.append(Reduction(INNER, start, stop))
            address = x.at([image, first_channel + channel, *positions, last.first(column) + k * last.dilation])
            outer_size = math.prod(a.kernel for a in self.axes[:-1])
            return loops, address, (channel * outer_size + outer_tap) * last.kernel + k
        if self.joins:
            loops.append(Reduction(INNER, start * depth, stop * depth))
            address = x.at([image, ZERO, *positions, last.first(column)]) + k
            return loops, address, outer_tap * (last.kernel * depth) + k
        if last.kernel == 1 and segment.tap_start == 0:
            column_tap: Index = ZERO
        else:
            column_tap = var("column_tap")
            loops.append(Reduction("column_tap", start, stop))
        loops.append(Reduction(INNER, ZERO, const(depth)))
        address = x.at([image, first_channel + k, *positions, last.first(column) + column_tap * last.dilation])
        return loops, address, (outer_tap * last.kernel + column_tap) * depth + k

    def _weight_address(self, channel: Index, term: Index) -> Index:
        """Address of a term's weight in the operand itself, for weights that are not constant."""
        w = self.request.operand(1).view
        depth, kernel = w.dims[1], w.dims[2:]
        if self.channels_last:
            tap, k = term.floordiv(depth), term.mod(depth)
        else:
            taps = math.prod(kernel)
            k, tap = term.floordiv(taps), term.mod(taps)
        coordinates: list[Index] = []
        for size in reversed(kernel):
            coordinates.insert(0, tap.mod(size))
            tap = tap.floordiv(size)
        return w.at([channel, k, *coordinates])


def _tap_order(channels_last: bool, weights: Array) -> Array:
    """[out, in, taps...] as [out, terms]: taps then channels, or channels then taps."""
    return np.moveaxis(weights, 1, -1).reshape(weights.shape[0], -1) if channels_last else weights.reshape(weights.shape[0], -1)


