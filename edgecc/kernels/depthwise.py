"""Depthwise convolution: every channel with its own window.

    for image, row: for channel block: for pixel: for channel: acc = bias; for taps: acc += x * w; y = epilogue(acc)

Lanes are channels. The register tile takes several pixels of a row, so that a column of the input,
once loaded, serves every window it lies in, and a weight serves every pixel of the tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from edgecc.ir.scalar import ScalarExpr
from edgecc.ir.types import DType
from edgecc.kernels import complements
from edgecc.kernels.contraction import PIXEL, assemble, multiply_add, panel_loops
from edgecc.kernels.contraction_weights import Weights, flatten, folds_offset, weights_of
from edgecc.kernels.depthwise_block import MAX_TAPS, Block, BlockNest, Window, block_cycles, choose_block
from edgecc.kernels.depthwise_grouped import (
    GROUP,
    Grouped,
    GroupedNest,
    arrange,
    borders_of,
    grouped_cycles,
    grouped_of,
    shifts_of,
)
from edgecc.kernels.depthwise_pairs import Paired, PairedNest, paired_cycles, paired_terms, pays, products_of, tile_of
from edgecc.kernels.depthwise_pairs import arrange as arrange_pairs
from edgecc.kernels.depthwise_rolling import Rolling, RollingNest, rolling_cycles, rolling_of
from edgecc.kernels.epilogue import Epilogue, epilogue_of
from edgecc.kernels.grouped import HELIUM, HELIUM_LANES, SHORT_PRODUCT, ByteDot, Terms, byte_dot
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.register_tile import Panel, narrowest_lanes, packed_channels, vector_lanes
from edgecc.kernels.request import Request
from edgecc.kernels.rows import axis_loop, axis_position, row_bounds
from edgecc.kernels.spatial import Axis, Segment
from edgecc.kernels.sum_types import compute_target, sum_type
from edgecc.kernels.tile_schedule import start_schedule
from edgecc.kernels.view import View
from edgecc.loop.index import ZERO, Index, const, maximum, minimum, var
from edgecc.loop.ir import Assign, Body, Declare, For, Load, Ref, Stmt
from edgecc.loop.split import balanced_parts
from edgecc.targets.schema import Target

SINGLE_ROWS = 1.1
"""What a row at a time costs over a block of one row: positions at borders have loops of their own."""

ROWS_OF_A_RANGE = 2
"""Most rows of a block where a call computes a range of rows: what fills no block goes row by row."""

INTEGER_STEP = 2.0
"""What multiplying and adding widened integers costs over a multiply-add of floats: two instructions, and one on fewer units."""

COMPILERS_BLOCK = Block(1, 2)
"""Results at a time where compilers make vectors (Helium) of a plain loop over all channels: they have eight registers for them."""

MANY_REGISTERS = 32
"""With so many, two vectors of sums have room beside a row of weights."""

WEIGHTS_FROM_MEMORY = 16
"""With so many, two vectors of sums have room beside one weight each."""

MAX_UNROLLED_TAPS = 16
"""Longest window along a row whose taps are unrolled; longer ones keep a loop."""


Way = Block | Rolling | Grouped | Paired | None
"""How a depthwise convolution is computed: by blocks of rows and columns, with rolling sums, with rolling sums of products of
four bytes or of pairs of words, or row by row."""


def ways_of(request: Request, axes: Sequence[Axis], expr: ScalarExpr | None, zeros: tuple[int, int] = (0, 0)) -> tuple[tuple[Way, float], ...]:
    """The ways to compute a depthwise convolution beside row by row, which always will do, and modelled cycles of each."""
    x, y, target = request.operand(0).view, request.outputs[0], compute_target(request, expr)
    lanes = vector_lanes(target, sum_type(request))
    by_compiler = request.target.has(HELIUM) and lanes == 1 and sum_type(request) is DType.I32
    if len(axes) != 2 or (lanes == 1 and not by_compiler) or x.strides[1] != 1 or y.strides[1] != 1 or 0 in y.dims:
        return ()
    window = Window(*axes)
    if window.taps > MAX_TAPS or any(s.tap_start is None for axis in axes for s in axis.segments()):
        return ()
    if by_compiler:
        return ((COMPILERS_BLOCK, x.dims[0] * x.dims[1] / HELIUM_LANES * block_cycles(window, COMPILERS_BLOCK, target)),)
    block = choose_block(window, ROWS_OF_A_RANGE if request.rows else axes[0].out, target)
    single = Block(1, _tile(axes, x.dims[1], lanes, target)[0])
    vectors = -(-x.dims[1] // lanes) * x.dims[0] * (1.0 if sum_type(request).is_float else INTEGER_STEP)
    out: list[tuple[Way, float]] = [(block, vectors * block_cycles(window, block, target)),
                                    (None, vectors * SINGLE_ROWS * block_cycles(window, single, target))]
    rolling = rolling_of(window, x.dims[1], lanes, target)
    if rolling is not None:
        out.append((rolling, vectors * rolling_cycles(window, rolling, target)))
    dot = _byte_dot(request, axes, zeros)
    is_short = dot is not None and dot.name == SHORT_PRODUCT
    grouped = grouped_of(window, x.dims[1], lanes, *([1] if is_short else []))  # of sums in two registers each fewer fit
    if grouped is not None and dot is not None:
        several = is_short or complements.pays(request.target)  # instructions for a product
        cycles = grouped_cycles(window, grouped, target, target.rates.dot_products / target.core.fma_per_cycle if several else 1.0)
        out.append((grouped, vectors / INTEGER_STEP * cycles))
        if pays(request, epilogue_of(request, expr, 3)):
            out.append((Paired(), vectors / INTEGER_STEP / 2 * paired_cycles(window, target)))
    return tuple(out)


def _byte_dot(request: Request, axes: Sequence[Axis], zeros: tuple[int, int]) -> ByteDot | None:
    x = request.operand(0).view
    return byte_dot(request, x.dtype, zero=zeros[0], folds=folds_offset(request) and len(axes) == 2 and borders_of(axes).fits(x.dims[1]))


def lower_depthwise(request: Request, axes: Sequence[Axis], expr: ScalarExpr | None, way: Way = None,
                    zeros: tuple[int, int] = (0, 0)) -> Kernel:
    """The kernel of a depthwise convolution with one result channel for each input channel.

    `zeros`: the zero points of integer operands.
    """
    x, w = request.operand(0).view, request.operand(1).view
    target, channels, last = compute_target(request, expr), x.dims[1], axes[-1]
    dtype = sum_type(request)
    lanes = vector_lanes(target, dtype)
    rows, vectors = _tile(axes, channels, lanes, target)
    if way is not None:
        rows, vectors = (way.columns, 1) if isinstance(way, Block) else (1, way.vectors)
    panels = _channel_panels(channels, vectors * lanes, lanes, narrowest_lanes(target, dtype))
    if way is COMPILERS_BLOCK:
        panels = (Panel(0, channels, channels, 1),)
    dot = _byte_dot(request, axes, zeros) if isinstance(way, Grouped) else None
    if isinstance(way, Paired):
        window, borders = Window(*axes), borders_of(axes)
        depth = len(products_of(window))
        weights = weights_of(request, channels, depth, panels, partial(arrange_pairs, window), bias_axis=1, terms=paired_terms(x, zeros[0]),
                             borders=borders if zeros[0] else None)
    elif isinstance(way, Grouped) and dot is not None:
        window, borders = Window(*axes), borders_of(axes)
        depth = len(shifts_of(window, way)) * window.wide.kernel
        weights = weights_of(request, channels, depth, panels, partial(arrange, window, way), bias_axis=1,
                             terms=Terms(x, GROUP, dot.name, dot.flip, dot.offset), borders=borders if dot.offset else None)
    else:
        depth = math.prod(w.dims[2:])
        weights = weights_of(request, channels, depth, panels, flatten, bias_axis=1)
    epilogue = epilogue_of(request, expr, 3)
    image = var("image") if x.dims[0] > 1 else ZERO
    bounds = row_bounds(request)

    def row_nest(positions: Sequence[Index]) -> Body:
        nest = partial(_segment_nest, request, axes, weights, epilogue, zeros, image, positions)
        return panel_loops(panels, math.prod(w.dims[2:]), lambda *panel: tuple(nest(s, *panel) for s in last.segments()))

    starts = start_schedule(target, weights.padded)
    if isinstance(way, Grouped) and dot is not None:
        four = GroupedNest(x, window, way, dot, weights, epilogue, image, borders if dot.offset else None, zeros[0], packed_channels(panels),
                           bool(start_schedule(request.target, weights.padded)))
        body = four.rows(bounds, lambda nest: panel_loops(panels, depth, nest))
    elif isinstance(way, Paired):
        pairs = PairedNest(x, window, weights, epilogue, image, borders if zeros[0] else None, zeros[0], packed_channels(panels),
                           tile_of(window, channels, target))
        body = pairs.rows(bounds, lambda nest: panel_loops(panels, depth, nest))
    elif isinstance(way, Rolling):
        window = Window(*axes)
        rolling = RollingNest(x, w.dtype, window, weights, epilogue, image, bool(starts), zeros[0])
        body = rolling.rows(bounds, panels, target)
    elif not isinstance(way, Block):
        each = [bounds if i == 0 else None for i in range(len(axes) - 1)]
        body = row_nest([axis_position(f"row{i}", a.out, b) for i, (a, b) in enumerate(zip(axes[:-1], each, strict=True))])
        for i, axis in reversed(list(enumerate(axes[:-1]))):
            body = axis_loop(f"row{i}", axis.out, each[i], body)
    else:
        window, block = Window(*axes), way
        tiles = BlockNest(x, w.dtype, window, weights, epilogue, image, zeros[0], target.core.in_order)

        def block_nest(first: Index, count: int, taps: tuple[int, int]) -> Body:
            return panel_loops(panels, window.taps, lambda *panel: tiles.rows(first, count, taps, block.columns, *panel))

        body = _all_blocks(window, block, block_nest) if bounds is None else _blocks_within(window, block, bounds, block_nest, row_nest)
    if x.dims[0] > 1:
        body = (For("image", ZERO, const(x.dims[0]), body),)
    shape = "x".join(str(a.kernel) for a in axes)
    schedule = (f"tile{{loop={PIXEL},factor={rows},balanced=1}}",
                f"vectorize{{loop=channel,lanes={way.lanes if isinstance(way, Paired) else lanes},narrowest={narrowest_lanes(target, dtype)},padded={'+'.join(weights.padded)}}}",
                f"jam{{loop={PIXEL}_inner}}", "unroll{loop=tap}", *starts,
                *(["pair-products"] if dot is not None and dot.name == SHORT_PRODUCT else []), "reuse-loads",
                *(["hoist-invariants{loop=tile}"] if isinstance(way, Block) and target.core.half_loads and dtype.is_float else []))
    if way is COMPILERS_BLOCK:
        schedule = ("reuse-loads",)
    tile = f"tile {rows} pixels x {vectors} vectors of {lanes}"
    if way is not None:
        tile = (f"rolling sums, {vectors} x {lanes} channels" if isinstance(way, Rolling)
                else f"rolling sums of {way.rows} rows, {vectors} x {lanes} channels, 4 terms a step" if isinstance(way, Grouped)
                else f"rolling sums, {vectors} x {lanes} channels, pairs of words" if isinstance(way, Paired)
                else f"tile {way.rows} x {way.columns} pixels of {lanes} channels")
    return assemble(request, f"depthwise_{shape}_{channels}", body, schedule, weights, epilogue, 3,
                    doc=f"{shape} depthwise convolution, {channels} channels, {'x'.join(str(a.out) for a in axes)} pixels",
                    choice=f"depthwise {shape}: {tile}")


def _all_blocks(window: Window, block: Block, nest: Callable[[Index, int, tuple[int, int]], Body]) -> Body:
    """Every row of the result, in blocks of rows whose windows lose the same taps to the padding."""
    out: list[Stmt] = []
    for segment in window.high.segments():
        start = segment.start
        for size, count in balanced_parts(segment.extent, block.rows):
            first = const(start) + (var("block") * size if count > 1 else ZERO)
            body = nest(first, size, (segment.tap_start or 0, segment.tap_stop or 0))
            out.extend((For("block", ZERO, const(count), body),) if count > 1 else body)
            start += size * count
    return tuple(out)


def _blocks_within(window: Window, block: Block, bounds: tuple[Index, Index], nest: Callable[[Index, int, tuple[int, int]], Body],
                   row_nest: Callable[[Sequence[Index]], Body]) -> Body:
    """The rows within `bounds`: blocks as far as windows lie inside the input, the others one by one."""
    top, bottom = window.interior()
    start, stop = bounds
    first = minimum(maximum(start, top), stop)
    blocks = (maximum(minimum(stop, bottom), first) - first).floordiv(block.rows)
    row = row_nest([var("row0")])
    return (For("row0", start, first, row),
            For("block", ZERO, blocks, nest(first + var("block") * block.rows, block.rows, (0, window.high.kernel))),
            For("row0", first + blocks * block.rows, stop, row))


def _segment_nest(request: Request, axes: Sequence[Axis], weights: Weights, epilogue: Epilogue, zeros: tuple[int, int],
                  image: Index, positions: Sequence[Index], segment: Segment, panel: Panel, channel0: Index, w_start: Index, b_start: Index) -> Stmt:
    """The positions of a segment of a row, at `positions` along the other axes."""
    x, w, last = request.operand(0).view, request.operand(1).view, axes[-1]
    edge = segment.tap_start is None or segment.tap_stop is None
    loop = "edge" if edge else PIXEL
    column, channel = var(loop) + segment.start, channel0 + var("channel")
    tap_name = "edge_tap" if edge or last.kernel > MAX_UNROLLED_TAPS else "tap"
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
                        Ref("acc", accumulator.dtype), zeros=zeros)
    body: Body = (For(tap_name, start, stop, (Assign("acc", step),)),)
    for i, axis in reversed(list(enumerate(axes[:-1]))):
        if not taps[i].is_const:
            lower, upper = axis.bounds(positions[i])
            body = (For(f"tap{i}", lower, upper, body),)
    store = epilogue.store(Ref("acc", accumulator.dtype), address_in_result)
    return For(loop, ZERO, const(segment.stop - segment.start),
               (For("channel", ZERO, const(panel.size), (Declare("acc", accumulator), *body, store)),))


def _tile(axes: Sequence[Axis], channels: int, lanes: int, target: Target) -> tuple[int, int]:
    """Pixels and vectors of the register tile: accumulators, a column of input and a row of weights in registers.

    Where registers are few, large windows over several axes read each weight where it is used and make room for a second vector: the
    positions at borders, which have loops of their own, then have two sums that need not wait for each other, and lines of the cache
    are used whole (Zen 3, 7 x 7: 74 to 79 % of the peak instead of 63 to 74 %, 5 x 2 better than 4 x 2 and 8 x 1).
    """
    last, registers = axes[-1], target.vector.registers
    wide = channels >= 2 * lanes
    if wide and lanes > 1 and WEIGHTS_FROM_MEMORY <= registers < MANY_REGISTERS and len(axes) > 1 and math.prod(a.kernel for a in axes) > MAX_TAPS:
        vectors, kept = 2, 1
    else:
        vectors, kept = 2 if wide and registers >= MANY_REGISTERS and last.stride == 1 else 1, min(last.kernel, 3)
    room = (registers - vectors * (kept + 2)) // vectors
    return max(1, min(room, 8, last.out)), vectors


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
