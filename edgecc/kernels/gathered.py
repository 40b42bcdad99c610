"""Convolution of small maps with strides: the inputs of each result are gathered in scratch memory, then multiplied.

    p[pixel, tap, channel] = x[...] or 0;  y = epilogue(p * w)

The direct kernel tiles neighbours within a row of the result, so rows of 7 pixels leave much of a register tile empty,
and every row reads a panel of weights again. Gathered, the pixels of all rows are the rows of one matrix product
(edgecc/kernels/product.py), whose tiles divide well and which prefetches large weights. Patches of results overlap, so
gathering moves up to as many elements as there are terms: it pays where strides are large or maps small, and only
while the patches stay in the second-level cache.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from edgecc.ir.types import Array, DType
from edgecc.kernels.call_cost import call_cycles, view_bytes
from edgecc.kernels.contraction import assemble
from edgecc.kernels.contraction_weights import weights_of
from edgecc.kernels.cost import read_cycles
from edgecc.kernels.depth_cut import cut_depth, cut_text
from edgecc.kernels.epilogue import epilogue_of
from edgecc.kernels.kernel import Candidate, Kernel, Workspace
from edgecc.kernels.product import (
    Product,
    count,
    joined_axes,
    outer_loops,
    outer_position,
    product_nest,
    run_stride,
)
from edgecc.kernels.register_tile import (
    RegisterTile,
    best_tiles,
    cover_cycles,
    cut_panels,
    narrowest_lanes,
    vector_lanes,
)
from edgecc.kernels.request import Request
from edgecc.kernels.spatial import Axis
from edgecc.kernels.sum_types import compute_target
from edgecc.kernels.tile_schedule import tile_schedule
from edgecc.kernels.view import View
from edgecc.loop.index import ZERO, Index, const, var
from edgecc.loop.ir import Body, Buffer, Const, For, Load, Stmt, Store
from edgecc.ops.convolution import Conv

LANE = "lane"
"""The loop over the elements of one vector that are moved."""

MARGIN = 0.05
"""How much faster a product must be to be chosen where patches are as large as the input: they push out of the caches what the layer
before has left there. Windows of one pixel with stride 2 have patches a quarter as large."""

BEST = 3
"""How many tiles are candidates."""


def gathered_candidates(request: Request, op: Conv, axes: Sequence[Axis]) -> tuple[Candidate, ...]:
    """The best tiles; none where patches are too large or the convolution is of another kind."""
    x, w, y = request.operand(0).view, request.operand(1), request.outputs[0]
    second = request.target.cache(2)
    if request.rows or op.group != 1 or not w.is_constant or second is None or all(a.stride == 1 for a in axes):
        return ()
    if x.dtype is not DType.F32 or compute_target(request, op.epilogue) is not request.target or x.strides[1] != 1:
        return ()
    pixels, terms = y.elements // max(1, y.dims[1]), w.view.elements // max(1, w.view.dims[0])
    patches = 4 * pixels * terms
    if not 0 < patches <= second.size:
        return ()
    moved = 2 * read_cycles(patches, patches, request.target)
    margin = 1 + MARGIN * min(1.0, patches / view_bytes(x))
    judged = best_tiles(pixels, y.dims[1], request.target, DType.F32, lambda tile: cover_cycles(pixels, y.dims[1], terms, tile, request.target))
    return tuple(Candidate(f"gathered {tile.rows}x{tile.vectors}", call_cycles(request, margin * cycles, moved),
                           partial(lower_gathered, request, op, tuple(axes), tile)) for tile, cycles in judged[:BEST])


def lower_gathered(request: Request, op: Conv, axes: tuple[Axis, ...], tile: RegisterTile) -> Kernel:
    """The kernel with a tile."""
    target, x, w, y = request.target, request.operand(0).view, request.operand(1).view, request.outputs[0]
    channels, terms = w.dims[0], w.elements // w.dims[0]
    panels = cut_panels(channels, tile, narrowest_lanes(target))
    epilogue = epilogue_of(request, op.epilogue, 3)
    patches = _patch_view(y, terms)
    outer, joined = joined_axes([patches, y, *(view for _, view in epilogue.extras)], [0, *range(2, len(y.dims))])
    cut = None if outer else cut_depth(count(y.dims, joined), tile, terms, channels, request)
    weights = weights_of(request, channels, terms, panels, _taps_first, bias_axis=1, parts=1 if cut is None else cut.parts)

    def at(view: View, row: Index, channel: Index) -> Index:
        coordinates = [outer_position(y.dims, outer, axis) for axis in range(len(y.dims))]
        coordinates[1] = channel
        return view.at(coordinates) + row * run_stride(view, joined)

    product = Product(count(y.dims, joined), channels, terms, patches, replace(w, dims=(channels, terms)), partial(at, patches),
                      lambda k, channel: ZERO, at)
    nest = product_nest(product, tile, panels, weights, epilogue, target, first="p", cut=cut)
    gather = _Gather(x, axes, w.dims[1], terms, vector_lanes(target)).nest()
    schedule = (f"vectorize{{loop={LANE},lanes={vector_lanes(target)},narrowest={narrowest_lanes(target)}}}",
                *tile_schedule(tile, target, nest.inner, weights.padded))
    window = "x".join(str(a.kernel) for a in axes)
    size = patches.elements
    return assemble(request, f"conv_gathered_{window}_{w.dims[1]}_{channels}", (*gather, *outer_loops(nest.body, y.dims, outer)),
                    schedule, weights, epilogue, 3,
                    doc=f"{window} convolution, {w.dims[1]} to {channels} channels, {'x'.join(str(a.out) for a in axes)} pixels",
                    choice=f"gathered {window}: tile {tile.rows} x {tile.vectors} vectors of {tile.lanes}, blocks of {nest.block} pixels{cut_text(cut)}",
                    workspace=((Buffer("p", DType.F32, size, "workspace"), Workspace(4 * size)),
                               *(() if cut is None else cut.workspace(count(y.dims, joined), panels))))


def _patch_view(y: View, terms: int) -> View:
    """The patches as a view of the result's shape whose channels are terms."""
    strides, step = [0] * len(y.dims), terms
    for axis in (*reversed(range(2, len(y.dims))), 0):
        strides[axis] = step
        step *= y.dims[axis]
    strides[1] = 1
    return View(DType.F32, (y.dims[0], terms, *y.dims[2:]), tuple(strides))


def _taps_first(weights: Array) -> Array:
    """Weights [out, in, taps...] as [out, taps and channels]."""
    return np.ascontiguousarray(np.moveaxis(weights, 1, -1)).reshape(weights.shape[0], -1)


@dataclass(frozen=True)
class _Gather:
    """The loops that fill the patches: p[image, position..., tap..., channel].

    Attributes:
        x: the input, channels next to each other.
        depth, terms: channels of the input, and all terms of a result.
    """

    x: View
    axes: tuple[Axis, ...]
    depth: int
    terms: int
    lanes: int

    def nest(self) -> Body:
        """Image and rows outermost, so that threads divide them."""
        body = self._taps(0, ZERO, [])
        for i, axis in reversed(list(enumerate(self.axes[:-1]))):
            body = (For(f"row{i}", ZERO, const(axis.out), body),) if axis.out > 1 else body
        return (For("image", ZERO, const(self.x.dims[0]), body),) if self.x.dims[0] > 1 else body

    def _row(self, i: int) -> Index:
        return var(f"row{i}") if self.axes[i].out > 1 else ZERO

    def _taps(self, i: int, tap: Index, inputs: list[Index]) -> Body:
        """Taps along axis `i` and those after it; `tap` counts the outer ones, at coordinates `inputs`."""
        axis = self.axes[i]
        inner = math.prod(a.kernel for a in self.axes[i + 1:])
        if i == len(self.axes) - 1:
            return tuple(stmt for t in range(axis.kernel) for stmt in self._columns(axis, t, tap * axis.kernel + t, inputs))
        own = var(f"tap{i}")
        place = tap * axis.kernel + own
        start, stop = axis.bounds(self._row(i))
        zeros = self._positions(ZERO, const(self.axes[-1].out), place * (inner * self.depth), inner * self.depth, None)
        inside = self._taps(i + 1, place, [*inputs, axis.first(self._row(i)) + own * axis.dilation])
        parts = ((ZERO, start, zeros), (start, stop, inside), (stop, const(axis.kernel), zeros))
        return tuple(For(f"tap{i}", first, last, body) for first, last, body in parts if first != last)

    def _columns(self, axis: Axis, t: int, tap: Index, inputs: list[Index]) -> Body:
        """One tap of the last axis, for all positions of a row."""
        valid = [p for p in range(axis.out) if 0 <= p * axis.stride - axis.pad + t * axis.dilation < axis.size]
        first, last = (valid[0], valid[-1] + 1) if valid else (0, 0)
        place = tap * self.depth
        image = var("image") if self.x.dims[0] > 1 else ZERO
        source = self.x.at([image, ZERO, *inputs, axis.first(var("column")) + t * axis.dilation])
        return (*self._positions(ZERO, const(first), place, self.depth, None),
                *self._positions(const(first), const(last), place, self.depth, source),
                *self._positions(const(last), const(axis.out), place, self.depth, None))

    def _positions(self, start: Index, stop: Index, place: Index, length: int, source: Index | None) -> Body:
        """Moves `length` elements for the positions [start, stop) of a row, or zeros."""
        if start == stop:
            return ()
        pixel: Index = var("image") if self.x.dims[0] > 1 else ZERO
        for i, axis in enumerate(self.axes[:-1]):
            pixel = pixel * axis.out + self._row(i)
        pixel = pixel * self.axes[-1].out + var("column")

        def move(first: Index, elements: int) -> Stmt:
            offset = first + var(LANE)
            value = Const(0.0, DType.F32) if source is None else Load("x", source + offset, DType.F32)
            return For(LANE, ZERO, const(elements), (Store("p", pixel * self.terms + place + offset, value),))

        whole, rest = divmod(length, self.lanes)
        moves = [For("vector", ZERO, const(whole), (move(var("vector") * self.lanes, self.lanes),))] if whole else []
        tail = [move(const(whole * self.lanes), rest)] if rest else []
        return (For("column", start, stop, (*moves, *tail)),)
