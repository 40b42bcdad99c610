"""Depthwise convolution: every channel with its own window.

    for image, row: for channel block: for pixel: for channel: acc = bias; for taps: acc += x * w; y = epilogue(acc)

Lanes are channels. The register tile takes several pixels of a row, so that a column of the input,
once loaded, serves every window it lies in, and a weight serves every pixel of the tile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgecc.ir.scalar import ScalarExpr
from edgecc.kernels.base import Kernel, Request, View
from edgecc.kernels.contraction import (
    PIXEL,
    assemble,
    compute_target,
    epilogue_of,
    flatten,
    multiply_add,
    sum_type,
    weights_of,
)
from edgecc.kernels.register_tile import Panel, narrowest_lanes, vector_lanes
from edgecc.kernels.rows import axis_loop, axis_position, row_bounds
from edgecc.kernels.spatial import Axis, Segment
from edgecc.loop.index import ZERO, Index, const, var
from edgecc.loop.ir import Assign, Body, Declare, For, Load, Ref, Stmt
from edgecc.targets.schema import Target

MAX_UNROLLED_TAPS = 16
"""Longest window along a row whose taps are unrolled; longer ones keep a loop."""


def lower_depthwise(request: Request, axes: Sequence[Axis], expr: ScalarExpr | None) -> Kernel:
    """The kernel of a depthwise convolution with one result channel for each input channel."""
    x, w = request.operand(0).view, request.operand(1).view
    target, channels, last = compute_target(request, expr), x.dims[1], axes[-1]
    dtype = sum_type(request)
    lanes = vector_lanes(target, dtype)
    rows, vectors = _tile(last, channels, lanes, target)
    panels = _channel_panels(channels, vectors * lanes, lanes, narrowest_lanes(target, dtype))
    weights = weights_of(request, channels, math.prod(w.dims[2:]), panels, flatten, bias_axis=1)
    epilogue = epilogue_of(request, expr, 3)
    image = var("image") if x.dims[0] > 1 else ZERO
    bounds = [row_bounds(request) if i == 0 else None for i in range(len(axes) - 1)]
    positions = [axis_position(f"row{i}", a.out, b) for i, (a, b) in enumerate(zip(axes[:-1], bounds, strict=True))]
    static_taps = last.kernel <= MAX_UNROLLED_TAPS

    def segment_nest(segment: Segment, panel: Panel, channel0: Index, w_start: Index, b_start: Index) -> Stmt:
        edge = segment.tap_start is None or segment.tap_stop is None
        loop = "edge" if edge else PIXEL
        column, channel = var(loop) + segment.start, channel0 + var("channel")
        tap_name = "edge_tap" if edge or not static_taps else "tap"
        start, stop = last.bounds(column) if edge else (const(segment.tap_start or 0), const(segment.tap_stop or 0))
        taps = [var(f"tap{i}") if a.kernel > 1 or not a.is_inside else ZERO for i, a in enumerate(axes[:-1])]
        term: Index = ZERO
        for tap, axis in zip(taps, axes[:-1], strict=True):
            term = term * axis.kernel + tap
        term = term * last.kernel + var(tap_name)
        inputs = [a.first(p) + t * a.dilation for a, p, t in zip(axes[:-1], positions, taps, strict=True)]
        address = x.at([image, channel, *inputs, last.first(column) + var(tap_name) * last.dilation])
        def address_in_result(view: View) -> Index:
            return view.at([image, channel, *positions, column])

        accumulator = weights.bias(b_start + var("channel"), address_in_result)
        step = multiply_add(Load("x", address, x.dtype), Load("w", w_start + term * panel.padded + var("channel"), w.dtype),
                            Ref("acc", accumulator.dtype))
        body: Body = (For(tap_name, start, stop, (Assign("acc", step),)),)
        for i, axis in reversed(list(enumerate(axes[:-1]))):
            if not taps[i].is_const:
                lower, upper = axis.bounds(positions[i])
                body = (For(f"tap{i}", lower, upper, body),)
        store = epilogue.store(Ref("acc", accumulator.dtype), address_in_result)
        return For(loop, ZERO, const(segment.stop - segment.start),
                   (For("channel", ZERO, const(panel.size), (Declare("acc", accumulator), *body, store)),))

    body: list[Stmt] = []
    w_start = b_start = 0
    for panel in panels:
        step = var("panel") if panel.count > 1 else ZERO
        inner = tuple(segment_nest(segment, panel, const(panel.start) + step * panel.size,
                                   const(w_start) + step * (panel.padded * math.prod(w.dims[2:])),
                                   const(b_start) + step * panel.padded) for segment in last.segments())
        body.extend((For("panel", ZERO, const(panel.count), inner),) if panel.count > 1 else inner)
        w_start += panel.count * panel.padded * math.prod(w.dims[2:])
        b_start += panel.count * panel.padded
    nest: Body = tuple(body)
    for i, axis in reversed(list(enumerate(axes[:-1]))):
        nest = axis_loop(f"row{i}", axis.out, bounds[i], nest)
    if x.dims[0] > 1:
        nest = (For("image", ZERO, const(x.dims[0]), nest),)
    window = "x".join(str(a.kernel) for a in axes)
    schedule = (f"tile{{loop={PIXEL},factor={rows}}}",
                f"vectorize{{loop=channel,lanes={lanes},narrowest={narrowest_lanes(target, dtype)},padded={'+'.join(weights.padded)}}}",
                f"jam{{loop={PIXEL}_inner}}", "unroll{loop=tap}", "reuse-loads")
    return assemble(request, f"depthwise_{window}_{channels}", nest, schedule, weights, epilogue, 3,
                    doc=f"{window} depthwise convolution, {channels} channels, {'x'.join(str(a.out) for a in axes)} pixels",
                    choice=f"depthwise {window}: tile {rows} pixels x {vectors} vectors of {lanes}")


def _tile(axis: Axis, channels: int, lanes: int, target: Target) -> tuple[int, int]:
    """Pixels and vectors of the register tile: accumulators, a column of input and a row of weights in registers."""
    vectors = 2 if channels >= 2 * lanes and target.vector.registers >= 32 and axis.stride == 1 else 1
    room = (target.vector.registers - vectors * (min(axis.kernel, 3) + 2)) // vectors
    return max(1, min(room, 8, axis.out)), vectors


def _channel_panels(channels: int, width: int, lanes: int, narrowest: int) -> tuple[Panel, ...]:
    """Cuts channels into panels of `width`, then whole vectors, then a narrow rest."""
    out: list[Panel] = []
    start = 0
    for size in dict.fromkeys((width, lanes)):
        count = (channels - start) // size
        if count:
            out.append(Panel(start, size, size, count))
            start += count * size
    rest = channels - start
    if rest:
        out.append(Panel(start, rest, min(lanes, max(narrowest, 1 << (rest - 1).bit_length())), 1))
    return tuple(out)
