"""GridSample, RoiAlign, and DeformConv, which samples and then multiplies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.converters.indexing import check_range
from edgecc.frontend.converters.movement import stacked
from edgecc.frontend.converters.windows import Window, per_axis
from edgecc.frontend.registry import converter
from edgecc.ir.dims import lower_bound
from edgecc.ir.graph import Value
from edgecc.ir.scalar import ScalarExpr, apply, convert, literal
from edgecc.ir.types import Dim, DType, TensorType
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Slice
from edgecc.ops.reduction import Reduce
from edgecc.ops.rules import sizes_text
from edgecc.ops.sampling import SAMPLE_PADDINGS, GridSample, RoiAlign

_SAMPLE_MODES = {"nearest": "nearest", "bilinear": "linear", "linear": "linear", "bicubic": "cubic", "cubic": "cubic"}


def _one_of(call: Call, name: str, default: str, known: dict[str, str]) -> str:
    text = call.text(name, default)
    if text not in known:
        raise EdgeccError("E102", f"{name} is '{printable(text)}', wanted one of {', '.join(known)}")
    return known[text]


@converter("GridSample", since=16)
@converter("GridSample", domain="com.microsoft")
def _grid_sample(call: Call) -> Value:
    mode = _one_of(call, "mode", "linear", _SAMPLE_MODES)
    padding = _one_of(call, "padding_mode", "zeros", {name: name for name in SAMPLE_PADDINGS})
    op = GridSample(mode, padding, "corners" if call.flag("align_corners") else "edges")
    return call.add(op, call.input(0), call.input(1))


@converter("RoiAlign", since=10)
def _roi_align(call: Call) -> Value:
    """Opset 10 has no mode of coordinates: regions are not moved by half a pixel."""
    default = "half_pixel" if call.version >= 16 else "output_half_pixel"
    half = _one_of(call, "coordinate_transformation_mode", default, {"half_pixel": "yes", "output_half_pixel": "no"}) == "yes"
    op = RoiAlign(_one_of(call, "mode", "avg", {"avg": "average", "max": "max"}), call.integer("output_height", 1),
                  call.integer("output_width", 1), call.integer("sampling_ratio", 0), call.number("spatial_scale", 1.0), half)
    x, regions, images = (call.input(index) for index in range(3))
    check_range(images, x.type.shape[0] if x.type.rank else 0)
    return call.add(op, x, regions, images)


@converter("DeformConv", since=19)
def _deform_conv(call: Call) -> Value:
    """Samples x at the taps moved by their offsets, weighs them by the mask, and multiplies with the weights."""
    x, w, offset, bias, mask = call.input(0), call.input(1), call.input(2), call.optional(3), call.optional(4)
    rank, group, offset_groups = x.type.rank - 2, call.integer("group", 1), call.integer("offset_group", 1)
    if rank < 1 or w.type.rank != x.type.rank or offset.type.rank != x.type.rank:
        raise EdgeccError("E110", f"x is {x.type}, w {w.type} and the offsets {offset.type}; wanted equal ranks from 3 on")
    batch, (channels,), spatial = x.type.shape[0], TensorType(x.type.dtype, x.type.shape[1:2]).dims, x.type.shape[2:]
    out_channels, group_channels, *kernel = w.type.dims
    window = Window(tuple(kernel), per_axis(call, "strides", rank, 1, 1), per_axis(call, "dilations", rank, 1, 1),
                    per_axis(call, "pads", 2 * rank, 0, 0))
    out = [(size + window.pads[a] + window.pads[rank + a] - extent) // window.strides[a] + 1
           for a, (size, extent) in enumerate(zip(spatial, window.extents, strict=True))]
    taps, positions = math.prod(kernel), math.prod(out)
    if min(group, offset_groups) < 1 or group_channels * group != channels or out_channels % group or channels % offset_groups:
        raise EdgeccError("E110", f"x {x.type}, w {w.type}, group {group} and offset_group {offset_groups} do not fit")
    if any(lower_bound(size) < 0 for size in out) or offset.type.shape != (batch, offset_groups * taps * rank, *out):
        raise EdgeccError("E110", f"the offsets are {offset.type}, wanted {sizes_text([batch, offset_groups * taps * rank, *out])}")
    if mask is not None and mask.type.shape != (batch, offset_groups * taps, *out):
        raise EdgeccError("E110", f"the mask is {mask.type}, wanted {sizes_text([batch, offset_groups * taps, *out])}")
    call.importer.limits.check_dims((batch, channels, taps, positions), "the samples of DeformConv")
    at = _positions(call, window, out, call.reshape(offset, (batch * offset_groups, taps, rank, positions)))
    image = call.reshape(x, (batch * offset_groups, channels // offset_groups, *spatial))
    samples = call.add(GridSample("linear", "zeros", "pixels"), image, at)  # [N*offset groups, channels of one, positions, taps]
    if mask is not None:
        weight = call.transpose(call.reshape(mask, (batch * offset_groups, 1, taps, positions)), (0, 1, 3, 2))
        samples = call.map(lambda s, m: apply("mul", s, m), samples, weight)
    y = _multiplied(call, samples, w, batch, group, offset_groups)  # [N, out channels, positions]
    y = call.reshape(y, (batch, out_channels, *out))
    if bias is None:
        return y
    if bias.type.dims != (out_channels,):
        raise EdgeccError("E110", f"the bias is {bias.type}, wanted {out_channels} entries")
    return call.map(lambda a, c: apply("add", a, c), y, call.reshape(bias, (out_channels, *[1] * rank)))


def _multiplied(call: Call, samples: Value, w: Value, batch: Dim, group: int, offset_groups: int) -> Value:
    """Samples [N*offset groups, channels, positions, taps] times the weights: [N, out channels, positions].

    With one group, rows of the product are positions, and their samples lie side by side where channels lie last.
    """
    _, channels, positions, taps = samples.type.shape
    out_channels = w.type.dims[0]
    if group == 1:
        rows = call.reshape(call.transpose(samples, (0, 2, 3, 1)), (batch, offset_groups, positions, taps * channels))
        weights = call.transpose(call.reshape(w, (out_channels, offset_groups, channels, taps)), (1, 3, 2, 0))
        y = call.add(MatMul(), rows, call.reshape(weights, (offset_groups, taps * channels, out_channels)))
        total = call.reshape(y, (batch, positions, out_channels)) if offset_groups == 1 else call.add(Reduce("sum", (1,), keepdims=False), y)
        return call.transpose(total, (0, 2, 1))
    columns = call.reshape(call.transpose(samples, (0, 1, 3, 2)), (batch, group, w.type.dims[1] * taps, positions))
    weights = call.reshape(w, (1, group, out_channels // group, w.type.dims[1] * taps))
    return call.reshape(call.add(MatMul(), weights, columns), (batch, out_channels, positions))


def _positions(call: Call, window: Window, out: Sequence[Dim], offset: Value) -> Value:
    """Coordinates [.., positions, taps, rank], last axis of the image first, from offsets [.., taps, rank, positions]."""
    rank = len(out)
    call.reserve((math.prod(window.kernel), math.prod(out), rank), "the positions of DeformConv")
    tap = np.stack([g.reshape(-1) for g in np.meshgrid(*(np.arange(k) * d for k, d in zip(window.kernel, window.dilations, strict=True)),
                                                       indexing="ij")], axis=-1)
    kind = offset.type.dtype if offset.type.dtype is DType.F64 else DType.F32
    rows = []
    for axis, (count, stride, pad) in enumerate(zip(out, window.strides, window.pads, strict=False)):
        along = call.map(partial(_first_tap, stride, pad, kind), call.positions(count))
        spread = call.expand(call.reshape(along, tuple(count if a == axis else 1 for a in range(rank))), out)
        rows.append(call.reshape(spread, (math.prod(out),)))
    base = call.map(lambda t, p: apply("add", t, p), call.constant(tap[:, :, None].astype(kind.numpy)), stacked(call, rows, 0))  # [taps, rank, positions]
    moved = call.map(lambda o, c: apply("add", o, c), call.cast(offset, kind), base)
    turned = call.transpose(moved, (0, 3, 1, 2))
    dims = turned.type.shape
    return turned if rank == 1 else call.add(Slice((0, 0, 0, rank - 1), dims, (1, 1, 1, -1)), turned)


def _first_tap(stride: int, pad: int, dtype: DType, position: ScalarExpr) -> ScalarExpr:
    """Where the window lies at a position."""
    return convert(apply("sub", apply("mul", position, literal(stride, DType.I64)), literal(pad, DType.I64)), dtype)
