"""Transposed convolution as interleaved ordinary ones.

Result position o and input position i meet at tap k where o + pad = i*stride + k*dilation. For a fixed
remainder of (o + pad) modulo the stride only some taps take part, and with o + pad = stride*q + phase
they read i = q + c - t*step: a convolution with stride 1 that fills every stride-th position of the
result. One nest for each combination of phases; nothing is written twice and no zeros are inserted
(Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016, section 4).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.types import Array
from edgecc.kernels.contraction import assemble
from edgecc.kernels.contraction_weights import with_bias
from edgecc.kernels.direct import Direct
from edgecc.kernels.epilogue import epilogue_of
from edgecc.kernels.kernel import Kernel, Packed
from edgecc.kernels.register_tile import Panel, choose_tile, cut_panels, narrowest_lanes, pack_panels, packed_channels
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Request
from edgecc.kernels.spatial import Axis
from edgecc.kernels.sum_types import compute_target, sum_type
from edgecc.kernels.tile_schedule import tile_schedule
from edgecc.loop.ir import Body, Buffer
from edgecc.ops.convolution import ConvTranspose

MAX_PHASES = 1024
"""Strides of 32 x 32, which some segmentation networks end with."""


@dataclass(frozen=True)
class Phase:
    """The part of one axis whose positions have one remainder.

    Attributes:
        axis: the equivalent ordinary convolution along this axis.
        taps: the taps of the original window that take part, in the order the equivalent window reads them.
        shift: result position of the first position.
    """

    axis: Axis
    taps: tuple[int, ...]
    shift: int


def phases(size: int, out: int, kernel: int, stride: int, dilation: int, pad: int) -> tuple[Phase, ...]:
    """Cuts one axis into its phases; a phase no tap reaches has no taps (its results are the bias alone)."""
    found = []
    for phase in sorted((shift + pad) % stride for shift in range(min(stride, out))):
        shift = (phase - pad) % stride
        first = (shift + pad - phase) // stride
        taps = [k for k in range(kernel) if (k * dilation) % stride == phase]
        taps.reverse()
        step = dilation // math.gcd(dilation, stride)
        offset = first + (phase - taps[0] * dilation) // stride if taps else 0
        count = -(-(out - shift) // stride)
        found.append(Phase(Axis(size, count, len(taps), 1, step, -offset), tuple(taps), shift))
    return tuple(found)


@kernel_for(ConvTranspose)
def lower_transposed(request: Request) -> Kernel:
    """The kernel of a transposed convolution."""
    op = request.op
    if not isinstance(op, ConvTranspose):
        raise TypeError(op)
    x, w, y = request.operand(0).view, request.operand(1).view, request.outputs[0]
    rank, target, dtype = len(x.dims) - 2, compute_target(request, op.epilogue), sum_type(request)
    group, depth, channels = op.group, w.dims[0] // op.group, w.dims[1]
    count = math.prod(min(stride, size) for stride, size in zip(op.strides, y.dims[2:], strict=True))
    if count > MAX_PHASES:
        raise EdgeccError("E112", f"conv_transpose: strides {list(op.strides)} cut the result into {count} phases, each a loop nest "
                                  f"of its own; at most {MAX_PHASES} are compiled", hint="upsample in several steps")
    per_axis = [phases(x.dims[2 + i], y.dims[2 + i], w.dims[2 + i], op.strides[i], op.dilations[i], op.pads[i]) for i in range(rank)]
    combinations = list(itertools.product(*per_axis))
    tile = choose_tile(max(p.axis.out for p in per_axis[-1]), channels, depth * max(1, math.prod(w.dims[2:]) // len(combinations)),
                       target, dtype)
    panels = cut_panels(channels, tile, narrowest_lanes(target, dtype))
    per_phase = packed_channels(panels) * group * depth
    epilogue = epilogue_of(request, op.epilogue, 3)
    directs: list[Direct] = []
    start = 0
    for phase in combinations:
        directs.append(Direct(x, w, tuple(p.axis for p in phase), group, channels, depth,
                              tuple((op.strides[i], p.shift) for i, p in enumerate(phase)), start))
        start += per_phase * math.prod(len(p.taps) for p in phase)
    if not request.operand(1).is_constant:
        raise EdgeccError("E112", "conv_transpose: weights that are not constant have no kernel",
                          hint="store the weights as an initializer")
    pack = partial(_pack, tuple(directs), tuple(tuple(p.taps for p in phase) for phase in combinations), tuple(panels), group)
    buffer = Buffer("w", w.dtype, max(1, start), "input")
    weights = with_bias(request, (buffer, Packed((1,), pack)), channels, panels, packed=True, groups=group, bias_axis=1)
    body: Body = tuple(stmt for direct in directs for stmt in direct.nest(panels, weights, epilogue))
    window = "x".join(str(k) for k in w.dims[2:])
    return assemble(request, f"conv_transpose_{window}_{w.dims[0]}_{y.dims[1]}", body,
                    tile_schedule(tile, target, max(d.inner_extent for d in directs), weights.padded, dtype),
                    weights, epilogue, 3,
                    doc=f"{window} transposed convolution, {w.dims[0]} to {y.dims[1]} channels, {len(combinations)} phases",
                    choice=f"transposed {window} as {len(combinations)} convolutions: "
                           f"tile {tile.rows} x {tile.vectors} vectors of {tile.lanes}")


def _pack(directs: Sequence[Direct], taps: Sequence[tuple[tuple[int, ...], ...]], panels: Sequence[Panel], group: int,
          weights: Array) -> Array:
    """Weights [inputs, outputs/group, taps...] as [phase][group][panel][terms][lanes]."""
    parts = [np.zeros(0, weights.dtype)]
    for direct, selection in zip(directs, taps, strict=True):
        chosen = weights
        for axis, positions in enumerate(selection):
            chosen = np.take(chosen, np.asarray(positions, dtype=np.int64), axis=2 + axis)
        for part in np.split(chosen, group):
            parts.append(pack_panels(direct.term_order(np.swapaxes(part, 0, 1)), panels))
    packed = np.concatenate(parts)
    return packed if packed.size else np.zeros(1, weights.dtype)
