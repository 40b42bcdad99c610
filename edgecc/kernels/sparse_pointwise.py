"""Pointwise convolutions with block-sparse weights: only blocks of weights that are not all zero are read and multiplied.

    for panel: for pixel: for channel: acc = bias; for block of the panel: acc += x[pixel, term of the block] * values[block, channel]
                                       y = epilogue(acc)

A block is the weights of `BLOCK` neighbouring result channels for one input channel, as pruning by blocks leaves them
(edgecc/passes/graph/prune_magnitude.py). It is one way among those to compute a convolution, which the cost model compares with the ones
that multiply by zeros; what is fused into the convolution stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from edgecc.ir.types import Array, DType
from edgecc.kernels.call_cost import call_cycles
from edgecc.kernels.contraction import CHANNEL, PIXEL, assemble, panel_loops
from edgecc.kernels.contraction_weights import with_bias
from edgecc.kernels.cost import weight_cycles
from edgecc.kernels.epilogue import epilogue_of
from edgecc.kernels.kernel import Candidate, Kernel, Packed
from edgecc.kernels.product import pixels_of
from edgecc.kernels.register_tile import (
    MAX_ROWS,
    MISSED_LOADS,
    Panel,
    RegisterTile,
    fits,
    narrowest_lanes,
    tile_cycles,
    vector_lanes,
)
from edgecc.kernels.request import Request
from edgecc.loop.index import ZERO, Index, const, from_expr, var
from edgecc.loop.ir import Assign, Body, Buffer, Declare, For, Load, Op, Ref
from edgecc.loop.split import balanced_parts
from edgecc.ops.convolution import Conv
from edgecc.ops.sparse import BLOCK, stored_blocks

MOST_STORED = 0.7
"""Share of the blocks up to which this may pay: with more, reading where they belong costs more than it spares."""

VALUES, TERMS, STARTS = "w", "terms", "starts"
"""The buffers of the blocks, of the input channels they belong to, and of where those of each panel begin."""


def with_stored_blocks(request: Request, arrays: Sequence[Array | None]) -> Request:
    """The request of a pointwise convolution with how many blocks of its weights are stored, given the arrays of constant operands."""
    weights = arrays[1] if len(arrays) > 1 else None
    if weights is None or not isinstance(request.op, Conv) or request.is_open or request.op.group != 1 or not weights.size:
        return request
    if any(part is not DType.F32 for part in (request.operand(0).view.dtype, request.operand(1).view.dtype)) or weights.shape[2:].count(1) != weights.ndim - 2:
        return request
    if np.count_nonzero(weights) > MOST_STORED * weights.size:
        return request
    table = weights.reshape(weights.shape[0], -1).T
    stored = len(stored_blocks(table)[0])
    return replace(request, stored_blocks=stored) if 0 < stored <= MOST_STORED * table.shape[0] * -(-table.shape[1] // BLOCK) else request


def sparse_pointwise_candidates(request: Request, op: Conv) -> tuple[Candidate, ...]:
    """The way that skips blocks of zeros, where there are enough of them and vectors to multiply blocks."""
    lanes = vector_lanes(request.target)
    if not request.stored_blocks or lanes == 1:
        return ()
    tile = _tile(request, min(lanes, BLOCK))
    return (Candidate(f"pointwise blocks {tile.rows}", call_cycles(request, _cycles(request, tile)), partial(_lower, request, op, tile), rows=True),)


def _tile(request: Request, lanes: int) -> RegisterTile:
    vectors = BLOCK // lanes
    return RegisterTile(max((rows for rows in range(1, MAX_ROWS // 2 + 1) if fits(rows, vectors, request.target)), default=1), vectors, lanes)


def _cycles(request: Request, tile: RegisterTile) -> float:
    """Modelled cycles: a block costs its products, or the loads of its weights, of where it belongs and of a number for each row."""
    target, core, y = request.target, request.target.core, request.outputs[0]
    pixels, panels = y.elements // max(1, y.dims[1]), -(-y.dims[1] // BLOCK)
    total = 0.0
    for rows, count in balanced_parts(pixels, tile.rows):
        products, loads = rows * tile.vectors, rows + tile.vectors + 1
        step = max(products / core.fma_per_cycle, loads / core.loads_per_cycle, (products + loads + 2) / core.issue_width) + MISSED_LOADS * loads / core.loads_per_cycle
        step = max(step, float(core.fma_latency))
        total += count * (request.stored_blocks * step + panels * tile_cycles(rows, tile.vectors, tile.lanes, 0, target))
    return total + weight_cycles(4.0 * request.stored_blocks * (BLOCK + 1), target)


def _lower(request: Request, op: Conv, tile: RegisterTile) -> Kernel:
    depth, channels, y = request.operand(1).view.dims[1], request.operand(1).view.dims[0], request.outputs[0]
    epilogue = epilogue_of(request, op.epilogue, 3)
    pixels = pixels_of(request, [view for _, view in epilogue.extras])
    panels = _panels(channels)
    blocks = request.stored_blocks
    values = (Buffer(VALUES, DType.F32, blocks * BLOCK, "input"), Packed((1,), partial(_part, 0)))
    weights = with_bias(request, values, channels, panels, packed=True, bias_axis=1)
    tables = tuple((Buffer(name, DType.U32, elements, "input"), Packed((1,), partial(_part, number)))
                   for number, (name, elements) in enumerate(((TERMS, blocks), (STARTS, -(-channels // BLOCK) + 1)), 1))
    weights = replace(weights, arguments=(weights.arguments[0], *tables, *weights.arguments[1:]))
    row, channel, block, total = var(PIXEL), var(CHANNEL), var("block"), Ref("acc", DType.F32)

    def nest(panel: Panel, first: Index, w_start: Index, b_start: Index) -> Body:
        number = first.floordiv(BLOCK)
        begin, end = (from_expr(Load(STARTS, number + after, DType.U32)) for after in (0, 1))
        x = Load("x", pixels.at(request.operand(0).view, row, from_expr(Load(TERMS, block, DType.U32))), DType.F32)
        step = Assign("acc", Op("fma", (x, Load(VALUES, block * BLOCK + channel, DType.F32), total), DType.F32))
        bias = weights.bias(b_start + channel, lambda view: pixels.at(view, row, first + channel))
        store = epilogue.store(total, lambda view: pixels.at(view, row, first + channel))
        return (For(PIXEL, ZERO, const(pixels.rows), (For(CHANNEL, ZERO, const(panel.size), (
            Declare("acc", bias), For("block", begin, end, (step,)), store)),)),)

    padded = "+".join(weights.padded)
    schedule = (f"tile{{loop={PIXEL},factor={tile.rows},balanced=1}}", f"jam{{loop={PIXEL}_inner}}",
                f"vectorize{{loop={CHANNEL},lanes={tile.lanes},narrowest={narrowest_lanes(request.target)},padded={padded}}}", "reuse-loads")
    share = 100 * blocks / (depth * -(-channels // BLOCK))
    return assemble(request, f"conv_sparse_{depth}_{channels}", pixels.loops(panel_loops(panels, 1, nest)), schedule, weights, epilogue, 3,
                    doc=f"pointwise convolution with {blocks} blocks of {BLOCK} weights, {depth} to {channels} channels, "
                        f"{y.elements // max(1, y.dims[1])} pixels",
                    choice=f"pointwise: {share:.0f} % of the blocks of weights, tile {tile.rows} x {tile.vectors} vectors of {tile.lanes}")


def _panels(channels: int) -> tuple[Panel, ...]:
    """Panels of whole blocks, and one of the channels that are left, whose bias fills a block as well."""
    whole, rest = divmod(channels, BLOCK)
    return (*([Panel(0, BLOCK, BLOCK, whole)] if whole else []), *([Panel(whole * BLOCK, rest, BLOCK, 1)] if rest else []))


def _part(number: int, weights: Array) -> Array:
    """The values, the terms or the starts of weights [channels, depth, 1...]."""
    found = stored_blocks(weights.reshape(weights.shape[0], -1).T)[number].reshape(-1)
    return found if number == 0 else found.astype(np.uint32)
