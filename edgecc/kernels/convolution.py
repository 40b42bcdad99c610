"""Convolution: the depthwise, the pointwise and the direct kernel, and what each costs.

Padding exists in no memory, and patches (im2col) only for small maps with strides (edgecc/kernels/gathered.py). The
result is a matrix of pixels x channels; the register tile takes neighbouring pixels of a row and a panel of channels,
and the reduction runs over the taps and the input channels (edgecc/kernels/direct.py). A window of one pixel makes a
matrix product over all pixels at once (edgecc/kernels/product.py).
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

from edgecc.kernels import complements
from edgecc.kernels.ahead import waited_cycles
from edgecc.kernels.borders import Borders
from edgecc.kernels.call_cost import call_cycles, view_bytes
from edgecc.kernels.contraction import assemble, zeros_of
from edgecc.kernels.contraction_weights import flatten, folds_offset, weights_of
from edgecc.kernels.depth_cut import cut_depth, cut_text
from edgecc.kernels.depthwise import Way, lower_depthwise, ways_of
from edgecc.kernels.depthwise_block import Block
from edgecc.kernels.depthwise_pairs import Paired
from edgecc.kernels.depthwise_rolling import Rolling
from edgecc.kernels.direct import Direct
from edgecc.kernels.direct_runs import ByteRuns
from edgecc.kernels.epilogue import epilogue_of
from edgecc.kernels.few_channels import few_channels_candidates
from edgecc.kernels.gathered import gathered_candidates
from edgecc.kernels.grouped import DSP, Terms, byte_dot, product_target, takes_complements, terms_of
from edgecc.kernels.kernel import Candidate, Kernel
from edgecc.kernels.lines import Line
from edgecc.kernels.product import (
    Product,
    count,
    pixels_of,
    product_nest,
)
from edgecc.kernels.register_tile import (
    RegisterTile,
    best_tiles,
    cover_cycles,
    cut_panels,
    narrowest_lanes,
    vector_lanes,
)
from edgecc.kernels.registry import candidates_for
from edgecc.kernels.request import Request
from edgecc.kernels.rows import row_bounds
from edgecc.kernels.sparse_pointwise import sparse_pointwise_candidates
from edgecc.kernels.spatial import Axis, axes_of
from edgecc.kernels.sum_types import compute_target, sum_type
from edgecc.kernels.tile_schedule import tile_schedule
from edgecc.kernels.turned import for_given_weights, turned
from edgecc.kernels.winograd import winograd_candidates
from edgecc.loop.index import ZERO
from edgecc.ops.convolution import Conv
from edgecc.ops.rules import NARROW_INTEGERS
from edgecc.targets.schema import Target


@candidates_for(Conv)
def convolution_candidates(request: Request) -> tuple[Candidate, ...]:
    """The ways to compute a convolution."""
    op = request.op
    if not isinstance(op, Conv):
        raise TypeError(op)
    other = turned(request, op)
    if other is not None:
        return tuple(map(for_given_weights, convolution_candidates(other)))
    x, w, y = request.operand(0).view, request.operand(1).view, request.outputs[0]
    axes = axes_of(x.dims[2:], y.dims[2:], w.dims[2:], op.strides, op.dilations, op.pads)
    if op.group > 1 and w.dims[1] == 1 and w.dims[0] == op.group and request.operand(1).is_constant:
        return _depthwise(request, op, axes)
    if op.group == 1 and all(a.kernel == 1 and a.stride == 1 and a.pad == 0 and a.size == a.out for a in axes):
        return (*_pointwise(request, op), *sparse_pointwise_candidates(request, op), *few_channels_candidates(request, op, axes))
    if x.dims[1] == 1 and x.dtype in NARROW_INTEGERS:  # one channel lies wherever it is said to: innermost, so that taps are neighbours
        x = replace(x, strides=(x.strides[0], 1, *x.strides[2:]))
    borders = Borders.of(axes)
    # Microcontrollers have little memory for weights, and gain less by products of groups.
    folds = folds_offset(request) and borders.fits(w.dims[0], *([view_bytes(w)] if request.target.has(DSP) else []))
    pixels = math.prod(y.dims[2:]) * y.dims[0]
    terms = terms_of(request, x, 1, zero=zeros_of(op)[0], folds=folds, rows=pixels)
    if w.dims[1] % terms.group:  # groups of terms end with the channels of a group of the convolution
        terms = Terms(x)
    grouped = replace(w, dims=(w.dims[0], w.dims[1] // terms.group, *w.dims[2:]), dtype=terms.element(w.dtype))
    direct = Direct(terms.x, grouped, axes, op.group, w.dims[0] // op.group, grouped.dims[1], ((1, 0),) * len(axes),
                    bounds=row_bounds(request), dot=terms.dot, zeros=zeros_of(op), flip=terms.flip,
                    borders=borders if terms.offset or terms.masked else None, downwards=request.threads == 1)
    if not terms.dot and direct.joins:
        runs, dot = ByteRuns.of(axes, w.dims[1]), byte_dot(request, x.dtype, zero=zeros_of(op)[0], folds=folds)
        if runs is not None and dot is not None:
            short = takes_complements(request, folds=folds, rows=pixels)
            terms = Terms(x, 4, complements.PRODUCT if short else dot.name, dot.flip, dot.offset)
            direct = replace(direct, dot=terms.dot, flip=dot.flip, borders=borders if dot.offset or short else None, byte_runs=runs)
    return (*_direct(request, op, direct, terms), *few_channels_candidates(request, op, axes), *gathered_candidates(request, op, axes),
            *winograd_candidates(request, op, axes))


def _depthwise(request: Request, op: Conv, axes: tuple[Axis, ...]) -> tuple[Candidate, ...]:
    def candidate(way: Way, cycles: float) -> Candidate:
        name = "" if way is None else f" {way.rows}x{way.columns}" if isinstance(way, Block) else " rolling" if isinstance(way, Rolling) else " paired" if isinstance(way, Paired) else " grouped"
        return Candidate(f"depthwise{name}", call_cycles(request, cycles),
                         partial(lower_depthwise, request, axes, op.epilogue, way, zeros_of(op)), rows=True)

    terms = float(request.outputs[0].elements * math.prod(a.kernel for a in axes))
    alone = ((None, terms / vector_lanes(request.target, sum_type(request))),)
    return tuple(candidate(way, cycles) for way, cycles in ways_of(request, axes, op.epilogue, zeros_of(op)) or alone)


def _direct(request: Request, op: Conv, direct: Direct, terms: Terms) -> tuple[Candidate, ...]:
    target = _direct_target(request, op, direct, terms)
    maps = direct.group * request.outputs[0].dims[0]
    kernel, lines = direct.axes[-1].kernel, direct.lines

    def line_cycles(line: Line, tile: RegisterTile) -> float:
        taps = line.run.taps
        steps = direct.reduction * (kernel if taps is None else taps) // kernel
        if direct.byte_runs is not None:
            steps = direct.byte_runs.steps // len(direct.byte_runs.variants)
        return cover_cycles(line.extent, direct.channels, steps, tile, target, sum_type(request), shared=line.shares_weights)

    def cycles_of(tile: RegisterTile) -> float:
        return maps * sum(count * line_cycles(line, tile) for line, count in lines)

    longest = max((run.extent for run in direct.runs), default=1)
    waited = waited_cycles(view_bytes(request.operand(1).view), target)
    return tuple(Candidate(f"direct {tile.rows}x{tile.vectors}", call_cycles(request, cycles, waited),
                           partial(_lower_direct, request, op, direct, terms, tile), rows=True)
                 for tile, cycles in best_tiles(longest, direct.channels, target, sum_type(request), cycles_of))


def _direct_target(request: Request, op: Conv, direct: Direct, terms: Terms) -> Target:
    """The target for the tiles of a direct kernel."""
    return product_target(request, compute_target(request, op.epilogue), terms)


def _pointwise_terms(request: Request, op: Conv) -> Terms:
    y = request.outputs[0]
    return terms_of(request, request.operand(0).view, 1, zero=zeros_of(op)[0], folds=folds_offset(request), vectors=True,
                    rows=y.elements // max(1, y.dims[1]))


def _pointwise(request: Request, op: Conv) -> tuple[Candidate, ...]:
    terms = _pointwise_terms(request, op)
    target = product_target(request, compute_target(request, op.epilogue), terms)
    y, w = request.outputs[0], request.operand(1).view
    steps = w.dims[1] // terms.group
    pixels = y.elements // y.dims[1]
    together = y.dims[-1] if request.rows else pixels
    judged = best_tiles(together, y.dims[1], target, sum_type(request),
                        lambda tile: cover_cycles(together, y.dims[1], steps, tile, target, sum_type(request)))
    return tuple(Candidate(f"pointwise {tile.rows}x{tile.vectors}", call_cycles(request, cycles * pixels / max(1, together)),
                           partial(_lower_pointwise, request, op, tile), rows=True) for tile, cycles in judged)


def _lower_direct(request: Request, op: Conv, direct: Direct, terms: Terms, tile: RegisterTile) -> Kernel:
    target, dtype = _direct_target(request, op, direct, terms), sum_type(request)
    panels = cut_panels(direct.channels, tile, narrowest_lanes(target, dtype))
    weights = weights_of(request, direct.channels, direct.reduction, panels, direct.term_order, groups=op.group, bias_axis=1,
                         terms=terms, borders=direct.borders, term_sums=direct.term_sums)
    epilogue = epilogue_of(request, op.epilogue, 3)
    window = "x".join(str(a.kernel) for a in direct.axes)
    return assemble(request, f"conv_{window}_{direct.x.dims[1] * terms.group}_{direct.w.dims[0]}", direct.nest(panels, weights, epilogue, ahead=_reads_ahead(direct, target)),
                    (*(["unroll{loop=tap0,fence=1}"] if direct.short_windows else []),
                     *tile_schedule(tile, target, direct.inner_extent, weights.padded, dtype, groups=direct.byte_runs is not None)), weights, epilogue, 3,
                    doc=f"{window} convolution, {direct.x.dims[1] * terms.group} to {direct.w.dims[0]} channels, "
                        f"{'x'.join(str(a.out) for a in direct.axes)} pixels",
                    choice=f"direct {window}: tile {tile.rows} x {tile.vectors} vectors of {tile.lanes}{terms.text}", terms=terms)


def _reads_ahead(direct: Direct, target: Target) -> bool:
    """Whether to prefetch rows of the input: first layers read planes that are larger than the second-level cache holds,
    in more streams than the machine follows (224 x 224 pixels on Zen 5: half of the time of the layer)."""
    second = target.cache(2)
    return second is not None and not direct.channels_last and direct.x.span * direct.x.dtype.size > second.size // 2


def _lower_pointwise(request: Request, op: Conv, tile: RegisterTile) -> Kernel:
    w, y = request.operand(1).view, request.outputs[0]
    epilogue = epilogue_of(request, op.epilogue, 3)
    pixels = pixels_of(request, [view for _, view in epilogue.extras])
    terms = _pointwise_terms(request, op)
    target, dtype = product_target(request, compute_target(request, op.epilogue), terms), sum_type(request)
    rows, depth, channels = pixels.rows, w.dims[1], w.dims[0]
    steps = depth // terms.group
    panels = cut_panels(channels, tile, narrowest_lanes(target, dtype))
    cut = cut_depth(rows, tile, steps, channels, request) if request.operand(1).is_constant and not pixels.outer else None
    weights = weights_of(request, channels, steps, panels, flatten, bias_axis=1, terms=terms, parts=1 if cut is None else cut.parts)

    product = Product(rows, channels, steps, terms.x, replace(w, dtype=terms.element(w.dtype)), lambda row, k: pixels.at(terms.x, row, k),
                      lambda k, channel: w.at([channel, k, *[ZERO] * (len(w.dims) - 2)]), pixels.at, terms.dot,
                      zeros=zeros_of(op), factor=terms.factor)
    nest = product_nest(product, tile, panels, weights, epilogue, target, cut=cut)
    return assemble(request, f"conv_pointwise_{depth}_{channels}", pixels.loops(nest.body),
                    tile_schedule(tile, target, nest.inner, weights.padded, dtype), weights, epilogue, 3,
                    doc=f"pointwise convolution, {depth} to {channels} channels, {count(y.dims, [0, *range(2, len(y.dims))])} pixels",
                    choice=f"pointwise: tile {tile.rows} x {tile.vectors} vectors of {tile.lanes}{terms.text}, blocks of {nest.block} pixels{cut_text(cut)}",
                    terms=terms, workspace=() if cut is None else cut.workspace(rows, panels))
