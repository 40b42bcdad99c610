"""Pools and resizing in Relax."""

from __future__ import annotations

import numpy as np

from edgecc.backends.tvm.emitter import Emitter, Expr, dims_of
from edgecc.backends.tvm.products import SPATIAL_RANKS
from edgecc.ir.graph import Node
from edgecc.ir.types import DType
from edgecc.ops.convolution import Pool, window_extents
from edgecc.ops.resize import Resize, axis_taps

MOST_TAPS = 16
"""Taps of an axis that a resize reads one after the other; antialiasing may want many."""


def pool_obstacle(op: Pool, node: Node) -> str | None:
    """Why a pool cannot be written; None where it can."""
    rank = len(op.kernel)
    if rank not in SPATIAL_RANKS:
        return f"TVM has no pool over {rank} axes"
    if op.kind == "average" and op.count_include_pad and _end_pads(op, node) != op.pads[rank:]:
        return "an average that counts padding, with windows beyond it, has no form in TVM"
    return None


def pool(emitter: Emitter, op: Pool, node: Node) -> list[Expr]:
    """max_pool1d, 2d, 3d or avg_pool1d, 2d, 3d; windows that reach beyond the padding are said by more of it."""
    rank, dtype = len(op.kernel), node.output.type.dtype
    between = DType.F32 if op.kind == "average" and dtype is DType.F16 else dtype
    function = getattr(emitter.nn, f"{'max' if op.kind == 'max' else 'avg'}_pool{rank}d")
    result = emitter.emit(function(
        emitter.convert(emitter.expr(node.operand(0)), dtype, between), pool_size=op.kernel, strides=op.strides,
        padding=(*op.pads[:rank], *_end_pads(op, node)), dilation=op.dilations, count_include_pad=op.count_include_pad))
    return [emitter.convert(result, between, dtype)]


def _end_pads(op: Pool, node: Node) -> tuple[int, ...]:
    """The padding behind each axis with which as many windows fit, the division rounded down."""
    rank, sizes, positions = len(op.kernel), dims_of(node.operand(0))[2:], dims_of(node.output)[2:]
    extents = window_extents(op.kernel, op.dilations)
    if not op.ceil_mode:
        return op.pads[rank:]
    return tuple(max((positions[a] - 1) * op.strides[a] + extents[a] - sizes[a] - op.pads[a], 0) for a in range(rank))


def resize_obstacle(op: Resize, node: Node) -> str | None:
    """Why a resize cannot be written; None where it can."""
    if op.coordinate_mode == "tf_crop_and_resize":
        return "a resize of a region has no form in TVM"
    taps = max((axis_taps(op, axis, size)[0].shape[1] for axis, size in enumerate(dims_of(node.operand(0)))), default=0)
    return f"a resize that reads {taps} elements along an axis has no form in TVM" if taps > MOST_TAPS else None


def resize(emitter: Emitter, op: Resize, node: Node) -> list[Expr]:
    """take along one axis after the other; where there are several taps, the sum of what is taken times their weights."""
    x, dtype = node.operand(0), node.output.type.dtype
    between = DType.F32 if op.mode != "nearest" and dtype is DType.F16 else dtype
    result = emitter.convert(emitter.expr(x), dtype, between)
    for axis, size in enumerate(dims_of(x)):
        indices, weights = axis_taps(op, axis, size)
        if indices.shape == (size, 1) and np.array_equal(indices[:, 0], np.arange(size)) and np.all(weights == 1.0):
            continue
        total: Expr = None
        for tap in range(indices.shape[1]):
            part = emitter.emit(emitter.op.take(result, emitter.constant(indices[:, tap]), axis=axis, mode="clip"))
            if not np.all(weights == 1.0):
                factors = emitter.along(weights[:, tap].astype(between.numpy), axis, x.type.rank)
                part = emitter.emit(emitter.op.multiply(part, factors))
            total = part if total is None else emitter.emit(emitter.op.add(total, part))
        result = total
    return [emitter.convert(result, between, dtype)]
