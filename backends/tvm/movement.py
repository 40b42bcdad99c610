"""Operators that move elements, and those that read and write at computed positions, in Relax."""

from __future__ import annotations

import numpy as np

from edgecc.backends.tvm.emitter import Emitter, Expr, dims_of
from edgecc.ir.dims import numbers
from edgecc.ir.graph import Node, Value
from edgecc.ir.types import DType
from edgecc.ops.indexing import Gather, GatherElements, GatherND, ScatterElements, ScatterND
from edgecc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose, source_positions


def transpose(emitter: Emitter, op: Transpose, node: Node) -> list[Expr]:
    """permute_dims."""
    return [emitter.emit(emitter.op.permute_dims(emitter.expr(node.operand(0)), list(op.perm)))]


def reshape(emitter: Emitter, op: Reshape, node: Node) -> list[Expr]:
    """reshape."""
    return [emitter.emit(emitter.op.reshape(emitter.expr(node.operand(0)), dims_of(node.output)))]


def expand(emitter: Emitter, op: Expand, node: Node) -> list[Expr]:
    """broadcast_to."""
    return [emitter.broadcast(emitter.expr(node.operand(0)), dims_of(node.output))]


def concat(emitter: Emitter, op: Concat, node: Node) -> list[Expr]:
    """concat."""
    return [emitter.emit(emitter.op.concat([emitter.expr(value) for value in node.inputs if value is not None], axis=op.axis))]


def slice_(emitter: Emitter, op: Slice, node: Node) -> list[Expr]:
    """strided_slice; one that runs backwards to the first element ends before it, which is said by -size - 1."""
    x = node.operand(0)
    axes, begins, ends = [], [], []
    for axis, (start, size, step, extent) in enumerate(zip(numbers(op.starts), numbers(op.sizes), op.steps, dims_of(x), strict=True)):
        if (start, size, step) != (0, extent, 1):
            end = start + size * step
            axes.append(axis)
            begins.append(start)
            ends.append(end if end >= 0 else -extent - 1)
    if not axes:
        return [emitter.expr(x)]
    return [emitter.emit(emitter.op.strided_slice(emitter.expr(x), axes, begins, ends, [op.steps[axis] for axis in axes]))]


def pad_obstacle(op: Pad, node: Node) -> str | None:
    """Why padding cannot be written; None where it can."""
    if op.mode != "constant":
        return None
    if any(n < 0 for n in (*op.before, *op.after)):
        return "padding by less than 0 has no form in TVM"
    value = node.inputs[1] if len(node.inputs) > 1 else None
    if value is not None and value.constant is None:
        return "padding by a computed number has no form in TVM"
    return "padding of truth values has no form in TVM" if node.output.type.dtype is DType.BOOL else None


def pad(emitter: Emitter, op: Pad, node: Node) -> list[Expr]:
    """pad; what is repeated is taken along one axis after the other."""
    x = node.operand(0)
    result = emitter.expr(x)
    if op.mode == "constant":
        value = node.inputs[1].constant if len(node.inputs) > 1 and node.inputs[1] is not None else None
        widths = [n for pair in zip(op.before, op.after, strict=True) for n in pair]
        return [emitter.emit(emitter.nn.pad(result, widths, "constant", 0.0 if value is None else value.item()))]
    for axis, size in enumerate(dims_of(x)):
        if op.before[axis] or op.after[axis]:
            positions = source_positions(op.mode, size, op.before[axis], op.after[axis])
            result = emitter.emit(emitter.op.take(result, emitter.constant(positions), axis=axis, mode="clip"))
    return [result]


# -- computed positions -------------------------------------------------------------------------


def indices_obstacle(op: Gather | GatherElements, node: Node) -> str | None:
    """Why reading at computed positions cannot be written; None where it can."""
    return "TVM reads nothing from an empty axis" if 0 in dims_of(node.operand(0)) else None


def gather(emitter: Emitter, op: Gather, node: Node) -> list[Expr]:
    """take."""
    x, indices = node.operand(0), node.operand(1)
    at = _positions(emitter, emitter.expr(indices), indices, dims_of(x)[op.axis])
    return [emitter.emit(emitter.op.take(emitter.expr(x), at, axis=op.axis, mode="clip"))]


def gather_elements(emitter: Emitter, op: GatherElements, node: Node) -> list[Expr]:
    """gather_elements."""
    x, indices = node.operand(0), node.operand(1)
    at = _positions(emitter, emitter.expr(indices), indices, dims_of(x)[op.axis])
    return [emitter.emit(emitter.op.gather_elements(emitter.expr(x), at, axis=op.axis))]


def gather_nd(emitter: Emitter, op: GatherND, node: Node) -> list[Expr]:
    """gather_nd."""
    at = _rows(emitter, node.operand(1), dims_of(node.operand(0))[op.batch_dims:])
    return [emitter.emit(emitter.op.gather_nd(emitter.expr(node.operand(0)), at, batch_dims=op.batch_dims))]


def scatter_elements(emitter: Emitter, op: ScatterElements, node: Node) -> list[Expr]:
    """scatter_elements."""
    x, indices, updates = node.operand(0), node.operand(1), node.operand(2)
    at = _positions(emitter, emitter.expr(indices), indices, dims_of(x)[op.axis])
    return [emitter.emit(emitter.op.scatter_elements(emitter.expr(x), at, emitter.expr(updates), axis=op.axis, reduction=_reduction(op)))]


def scatter_nd(emitter: Emitter, op: ScatterND, node: Node) -> list[Expr]:
    """scatter_nd."""
    x, updates = node.operand(0), node.operand(2)
    at = _rows(emitter, node.operand(1), dims_of(x))
    return [emitter.emit(emitter.op.scatter_nd(emitter.expr(x), at, emitter.expr(updates), reduction=_reduction(op)))]


def _reduction(op: ScatterElements | ScatterND) -> str:
    return "update" if op.reduction == "none" else op.reduction


def _positions(emitter: Emitter, indices: Expr, value: Value, size: int) -> Expr:
    """Indices as positions: negative ones from the end, those out of range clamped."""
    constant = value.constant
    if constant is not None and constant.size and constant.min() >= 0 and constant.max() < size:
        return indices
    op, emit, last = emitter.op, emitter.emit, emitter.scalar(max(size - 1, 0), DType.I64)
    zero, wide = emitter.scalar(0, DType.I64), emitter.convert(indices, value.type.dtype, DType.I64)
    moved = emit(op.where(emit(op.less(wide, zero)), emit(op.add(wide, emitter.scalar(size, DType.I64))), wide))
    return emit(op.minimum(emit(op.maximum(moved, zero)), last))


def _rows(emitter: Emitter, indices: Value, dims: tuple[int, ...]) -> Expr:
    """Rows of indices as positions, in axes of these sizes."""
    op, emit, depth = emitter.op, emitter.emit, dims_of(indices)[-1]
    sizes = emitter.constant(np.array(dims[:depth], np.int64))
    zero, wide = emitter.scalar(0, DType.I64), emitter.convert(emitter.expr(indices), indices.type.dtype, DType.I64)
    moved = emit(op.where(emit(op.less(wide, zero)), emit(op.add(wide, sizes)), wide))
    return emit(op.minimum(emit(op.maximum(moved, zero)), emitter.constant(np.array(dims[:depth], np.int64) - 1)))
