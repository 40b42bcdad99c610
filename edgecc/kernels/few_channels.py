"""Convolutions to few channels: the lanes of a vector are input channels.

The other kernels keep result channels in the lanes, of which 3 fill a quarter of the narrowest vector. Here

    for pixel: for channel: acc[lanes] = 0; for tap, block of input channels: acc += x[block] * w[channel, tap, block]
               y = epilogue(bias + sum of the lanes of acc)

every lane works, and each result pays for adding up the lanes once. Networks that draw images, depth or masks end with such
layers, at the size of their input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from edgecc.ir.scalar import Apply, ScalarExpr, children
from edgecc.ir.types import Array, DType
from edgecc.kernels.call_cost import call_cycles
from edgecc.kernels.contraction import CHANNEL, INNER, PIXEL, assemble, multiply_add
from edgecc.kernels.contraction_weights import Weights, with_bias
from edgecc.kernels.direct import Direct
from edgecc.kernels.epilogue import Epilogue, epilogue_of
from edgecc.kernels.half_sums import Reduction
from edgecc.kernels.kernel import Candidate, Kernel, Packed
from edgecc.kernels.lines import Line
from edgecc.kernels.register_tile import MAX_ROWS, Panel, fits, step_cycles
from edgecc.kernels.request import Request
from edgecc.kernels.rows import axis_loop, axis_position, row_bounds
from edgecc.kernels.spatial import Axis
from edgecc.kernels.sum_types import sum_type
from edgecc.loop.index import ZERO, Index, const, var
from edgecc.loop.ir import Assign, Body, Buffer, Const, Declare, For, Horizontal, Load, Op, Ref
from edgecc.loop.math import DEFINED
from edgecc.loop.split import balanced_parts
from edgecc.ops.convolution import Conv
from edgecc.targets.schema import Target

MOST_CHANNELS = 8
"""More are written out side by side by no tile."""
LEAST_LANES = 4
RESULT_CYCLES = 1.5
"""For each halving of the lanes of a sum: a shuffle and an addition, side by side with those of other results."""
FUNCTION_CYCLES = 12.0
"""A mathematical function of one float; the other kernels compute it for a vector."""
SHORT = 4
"""Longest innermost loops that are written out."""


def few_channels_candidates(request: Request, op: Conv, axes: tuple[Axis, ...]) -> tuple[Candidate, ...]:
    """The way with input channels in the lanes, where there are as many; none where it does not apply."""
    x, w = request.operand(0).view, request.operand(1).view
    channels, depth = w.dims[:2]
    lanes = _lanes(depth, request.target)
    if (channels > MOST_CHANNELS or op.group != 1 or not request.operand(1).is_constant or x.strides[1] != 1 or lanes == 1
            or any(part is not DType.F32 for part in (x.dtype, w.dtype, sum_type(request)))):
        return ()
    blocks = replace(x, dims=(x.dims[0], depth // lanes, *x.dims[2:]), strides=(x.strides[0], lanes, *x.strides[2:]))
    direct = Direct(blocks, w, axes, 1, channels, depth // lanes, ((1, 0),) * len(axes), bounds=row_bounds(request))
    rows, cycles = min(((rows, _cycles(direct, rows, lanes, op.epilogue, request.target)) for rows in range(1, MAX_ROWS + 1)
                        if rows == 1 or fits(rows, channels, request.target)), key=lambda way: (way[1], -way[0]))
    return (Candidate(f"lanes of input channels {rows}", call_cycles(request, x.dims[0] * cycles),
                      partial(_lower, request, op, direct, rows, lanes), rows=True),)


def _lanes(depth: int, target: Target) -> int:
    """The most floats of a vector that divide the input channels; 1 where there is none."""
    return max((n for n in (bits // 32 for bits in target.vector.widths) if n >= LEAST_LANES and depth % n == 0), default=1)


def _cycles(direct: Direct, rows: int, lanes: int, epilogue: ScalarExpr | None, target: Target) -> float:
    """Modelled cycles of a map by tiles of `rows` pixels and all channels."""
    result = RESULT_CYCLES * (lanes.bit_length() - 1) + FUNCTION_CYCLES * _functions(epilogue)
    return sum(lines * count * (direct.reduction * step_cycles(own, direct.channels, 1, _plain(target)) + own * direct.channels * result + 10.0)
               for line, lines in direct.lines for own, count in balanced_parts(line.extent, rows))


def _plain(target: Target) -> Target:
    """The target without products by lane: both factors are vectors."""
    return replace(target, vector=replace(target.vector, fma_by_lane=False))


def _functions(expr: ScalarExpr | None) -> int:
    """How many mathematical functions an epilogue computes."""
    found: set[int] = set()
    pending = [] if expr is None else [expr]
    while pending:
        node = pending.pop()
        if isinstance(node, Apply) and node.op in DEFINED:
            found.add(id(node))
        pending.extend(children(node))
    return len(found)


def _lower(request: Request, op: Conv, direct: Direct, rows: int, lanes: int) -> Kernel:
    w = request.operand(1).view
    elements = w.dims[0] * direct.reduction * lanes
    buffer = (Buffer("w", w.dtype, elements, "input"), Packed((1,), partial(_pack, direct, lanes)))
    weights = with_bias(request, buffer, w.dims[0], (Panel(0, w.dims[0], w.dims[0], 1),), packed=True, bias_axis=1)
    epilogue = epilogue_of(request, op.epilogue, 3)
    window = "x".join(str(a.kernel) for a in direct.axes)
    unroll = (f"unroll{{loop={INNER},fence=1}}",) if direct.inner_extent <= SHORT else ()
    schedule = (f"tile{{loop={PIXEL},factor={rows},balanced=1}}", f"jam{{loop={PIXEL}_inner}}", f"jam{{loop={CHANNEL}}}", *unroll, "reuse-loads")
    return assemble(request, f"conv_{window}_{w.dims[1]}_{w.dims[0]}", _nest(direct, lanes, weights, epilogue), schedule, weights, epilogue, 3,
                    doc=f"{window} convolution, {w.dims[1]} to {w.dims[0]} channels, {'x'.join(str(a.out) for a in direct.axes)} pixels",
                    choice=f"{lanes} input channels in the lanes of {rows} x {w.dims[0]} sums")


def _nest(direct: Direct, lanes: int, weights: Weights, epilogue: Epilogue) -> Body:
    image = var("image") if direct.x.dims[0] > 1 else ZERO
    rows = [axis_position(f"row{i}", a.out, direct.bounds if i == 0 else None) for i, a in enumerate(direct.axes[:-1])]
    body: Body = tuple(_line(direct, direct.along_row(run, rows), image, lanes, weights, epilogue) for run in direct.runs)
    for i, axis in reversed(list(enumerate(direct.axes[:-1]))):
        body = axis_loop(f"row{i}", axis.out, direct.bounds if i == 0 else None, body)
    return (For("image", ZERO, const(direct.x.dims[0]), body),) if direct.x.dims[0] > 1 else body


def _line(direct: Direct, line: Line, image: Index, lanes: int, weights: Weights, epilogue: Epilogue) -> For:
    place = [image, var(CHANNEL), *line.rows, line.column]
    reductions, x_index, term = direct.terms_at(line, image, ZERO)
    acc = Ref("acc", DType.F32, lanes)
    factors = Load("x", x_index, DType.F32, lanes), Load("w", (var(CHANNEL) * direct.reduction + term) * lanes, DType.F32, lanes)
    total = Op("add", (Horizontal("add", acc), weights.bias(var(CHANNEL), lambda view: view.at(place))), DType.F32)
    step = _loops(reductions, (Assign("acc", multiply_add(*factors, acc)),))
    body = (Declare("acc", Const(0.0, DType.F32, lanes)), *step, epilogue.store(total, lambda view: view.at(place)))
    return For(line.loop, ZERO, const(line.extent), (For(CHANNEL, ZERO, const(direct.channels), body),))


def _loops(reductions: Sequence[Reduction], body: Body) -> Body:
    for reduction in reversed(reductions):
        body = (For(reduction.name, reduction.start, reduction.stop, body),)
    return body


def _pack(direct: Direct, lanes: int, weights: Array) -> Array:
    """Weights [out, in, taps...] as [out][terms][lanes] in the order of the loops."""
    blocks = weights.reshape(weights.shape[0], direct.depth, lanes, *weights.shape[2:])
    by_lane = np.moveaxis(blocks, 2, 1).reshape(-1, direct.depth, *weights.shape[2:])
    terms = direct.term_order(by_lane).reshape(weights.shape[0], lanes, -1)
    return np.ascontiguousarray(terms.swapaxes(1, 2)).reshape(-1)
