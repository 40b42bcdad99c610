"""Convolutions and matrix products in Relax, their biases and epilogues, and sums of products of short integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgecc.backends.tvm import scalar
from edgecc.backends.tvm.emitter import Emitter, Expr, dims_of, type_name
from edgecc.ir.graph import Node, Value
from edgecc.ir.types import Array, DType
from edgecc.ops.convolution import Conv, ConvTranspose
from edgecc.ops.matrix import MatMul
from edgecc.ops.rules import sum_type

SPATIAL_RANKS = (1, 2, 3)
"""For as many axes Relax has convolutions and pools."""


def conv_obstacle(op: Conv | ConvTranspose, node: Node) -> str | None:
    """Why a convolution cannot be written; None where it can."""
    rank = len(op.strides)
    if rank not in SPATIAL_RANKS:
        return f"TVM has no convolution over {rank} axes"
    return epilogue_obstacle(op, node)


def epilogue_obstacle(op: Any, node: Node) -> str | None:
    """Why the epilogue of a product cannot be written; None where it can, or there is none."""
    return None if op.epilogue is None else scalar.obstacle(op.epilogue)


def conv(emitter: Emitter, op: Conv, node: Node) -> list[Expr]:
    """conv1d, conv2d or conv3d."""
    x, w, sums, rank = node.operand(0), node.operand(1), _sums(op, node.operand(0)), len(op.strides)
    source, weights, pads = emitter.expr(x), emitter.expr(w), op.pads
    correction: Array | None = None
    if op.x_zero and w.constant is None:
        source, weights = emitter.operand(x, DType.I32, less=op.x_zero), emitter.operand(w, DType.I32)
    elif op.x_zero and w.constant is not None:
        # sum of (x - zero) * w = sum of x * w - zero * sum of w, where what is around x is `zero`.
        source, pads = _surrounded(emitter, source, pads, op.x_zero), (0,) * (2 * rank)
        correction = -op.x_zero * w.constant.astype(np.int64).sum(axis=tuple(range(1, rank + 2)))
    function = getattr(emitter.nn, f"conv{rank}d")
    result = emitter.emit(function(source, weights, strides=op.strides, padding=pads, dilation=op.dilations, groups=op.group,
                                   out_dtype=type_name(sums)))
    return [_finished(emitter, op, node, result, _of_channels(emitter, node, sums, correction))]


def conv_transpose(emitter: Emitter, op: ConvTranspose, node: Node) -> list[Expr]:
    """conv1d_transpose, conv2d_transpose or conv3d_transpose."""
    sums, rank = _sums(op, node.operand(0)), len(op.strides)
    x, w = (emitter.operand(node.operand(i), sums) for i in (0, 1))
    function = getattr(emitter.nn, f"conv{rank}d_transpose")
    result = emitter.emit(function(x, w, strides=op.strides, padding=op.pads, dilation=op.dilations, groups=op.group,
                                   output_padding=op.output_padding or (0,) * rank))
    return [_finished(emitter, op, node, result, _of_channels(emitter, node, sums, None))]


def matmul(emitter: Emitter, op: MatMul, node: Node) -> list[Expr]:
    """matmul, of operands whose last axes are exchanged where the product is of transposed ones."""
    bias, sums = _operand(node, 2), _sums(op, node.operand(0))
    factors = []
    for value, zero, transpose in ((node.operand(0), op.a_zero, op.transpose_a), (node.operand(1), op.b_zero, op.transpose_b)):
        rank = value.type.rank
        factors.append(emitter.operand(value, DType.I32 if op.a_zero or op.b_zero else value.type.dtype, less=zero or 0,
                                       perm=[*range(rank - 2), rank - 1, rank - 2] if transpose else None))
    result = emitter.emit(emitter.op.matmul(*factors, out_dtype=type_name(sums)))
    return [_finished(emitter, op, node, result, None if bias is None else emitter.operand(bias, sums))]


def _operand(node: Node, index: int) -> Value | None:
    return node.inputs[index] if len(node.inputs) > index else None


def _sums(op: Any, x: Value) -> DType:
    """The type of the sums: of short integers 32 bits; of 16-bit floats too, which are rounded once."""
    held = sum_type(op.epilogue, x.type.dtype)
    return DType.F32 if held is DType.F16 else held


def _surrounded(emitter: Emitter, x: Expr, pads: Sequence[int], zero: int) -> Expr:
    if not any(pads):
        return x
    rank = len(pads) // 2
    widths = [0] * 4
    for axis in range(rank):
        widths += [pads[axis], pads[rank + axis]]
    return emitter.emit(emitter.nn.pad(x, widths, "constant", zero))


def _of_channels(emitter: Emitter, node: Node, sums: DType, correction: Array | None) -> Expr | None:
    """The bias and a vector that is added to it, as a tensor that broadcasts to the result; integers wrap."""
    bias, rank = _operand(node, 2), node.output.type.rank
    dims = [dims_of(node.output)[1] if axis == 1 else 1 for axis in range(rank)]
    if correction is None:
        return None if bias is None else emitter.operand(bias, sums, dims)
    if bias is None or bias.constant is not None:
        known = 0 if bias is None or bias.constant is None else bias.constant
        return emitter.constant((correction + known).astype(np.int32).reshape(dims))
    return emitter.emit(emitter.op.add(emitter.operand(bias, sums, dims), emitter.constant(correction.astype(np.int32).reshape(dims))))


def _finished(emitter: Emitter, op: Any, node: Node, result: Expr, bias: Expr | None) -> Expr:
    """Sums with bias, rounding and epilogue."""
    if bias is not None:
        result = emitter.emit(emitter.op.add(result, bias))
    result = emitter.convert(result, _sums(op, node.operand(0)), sum_type(op.epilogue, node.operand(0).type.dtype))
    if op.epilogue is None:
        return result
    extra = [emitter.expr(value) for value in node.inputs[3:] if value is not None]
    return scalar.write(emitter, op.epilogue, [result, *extra], dims_of(node.output))
