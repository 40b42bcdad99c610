"""How each operator of the Graph IR is written in TFLite, besides windows and arithmetic: one rule an operator.

A rule gets the emitter, the node and the result wanted, adds operators and places the result. `obstacle` tells why a node cannot
be written at all, and `takes_integers` whether a rule can compute it on integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from edgecc.backends.tflite import arithmetic, quantized, transposed, windows
from edgecc.backends.tflite.emitter import KINDS, Emitter, Result, channels_last, plain
from edgecc.backends.tflite.gathering import emit_gather, gather_obstacle
from edgecc.backends.tflite.quantized import present
from edgecc.backends.tflite.recorder import Quantization
from edgecc.ir.dims import numbers
from edgecc.ir.graph import Node, Value
from edgecc.ir.op import Op
from edgecc.ir.types import DType
from edgecc.ops.convolution import Conv, ConvTranspose, Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Concat, Pad, Reshape, Slice, Transpose
from edgecc.ops.reduction import ArgReduce, Reduce, Softmax
from edgecc.ops.resize import Resize

Rule = Callable[[Emitter, Any, Node, Result], None]
Check = Callable[[Any, Node], str | None]

SOFTMAX_RESULT = Quantization((1 / 256,), -128)
"""The quantization that TFLite demands of probabilities."""

_ACTIVATED_AFTER: tuple[type[Op], ...] = (ConvTranspose, Reduce)
"""Operators that TFLite applies no activation in, so that one becomes an operator behind."""

_MOVEMENT: tuple[type[Op], ...] = (Reshape, Transpose, Slice, Concat, Pad, Gather)

_FIRST_IS_MOVED: tuple[type[Op], ...] = (Pad, Gather)
"""Those of them that take values from their first operand alone."""


def keeps_values(op: Op) -> bool:
    """Whether results are values of the operands, so that integers pass through with the quantization they have."""
    return isinstance(op, _MOVEMENT) or (isinstance(op, Pool) and op.kind == "max") or (isinstance(op, Resize) and op.mode == "nearest")


def moved(node: Node) -> list[Value]:
    """The operands that an operator takes values from; for those that `keeps_values` holds for."""
    values = [value for value in node.inputs if value is not None]
    return values[:1] if isinstance(node.op, _FIRST_IS_MOVED) else values


def obstacle(node: Node) -> str | None:
    """Why a node cannot be written in TFLite; None where it can."""
    op = node.op
    if type(op) not in RULES:
        return f"{op.name} has no form in TFLite"
    for value in (*node.inputs, *node.outputs):
        if value is not None and value.type.dtype not in KINDS:
            return f"TFLite has no tensors of {value.type.dtype.value}"
        if value is not None and not all(isinstance(dim, int) for dim in value.type.dims):
            return "dimensions have to be numbers"
    _, check = RULES[type(op)]
    return check(op, node)


def emit(emitter: Emitter, node: Node, result: Result) -> None:
    """Writes a node for which `obstacle` is None."""
    rule, _ = RULES[type(node.op)]
    if result.activation == "NONE" or not isinstance(node.op, _ACTIVATED_AFTER):
        rule(emitter, node.op, node, result)
        return
    rule(emitter, node.op, node, replace(result, activation="NONE"))
    order = emitter.order_of(result.value)
    target = emitter.new(result, order)
    # On integers of the same quantization it only sets limits.
    emitter.writer.operator(result.activation, [emitter.operand(result.value, order, result)], [target], version=1 if result.quantization is None else 2)
    emitter.place(result.value, target, order, result.quantization)


def takes_integers(node: Node, is_quantized: Callable[[Value], bool]) -> bool:
    """Whether a node whose result is quantized can be computed on the integers of its operands; `is_quantized` tells who has some."""
    op = node.op
    if isinstance(op, MatMul) and _is_of_computed_factors(node):
        return len(node.inputs) == 2 and all(is_quantized(node.operand(index)) for index in (0, 1))
    if isinstance(op, Conv | MatMul):
        weights = quantized.weight_codes(node.operand(1))
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if weights is None or not is_quantized(node.operand(0)) or (bias is not None and not quantized.is_constant(bias)):
            return False
        if isinstance(op, MatMul) and not is_fully_connected(node):
            return False
        return weights.array.dtype == np.int8 and ((isinstance(op, Conv) and weights.axis == 0) or weights.scales.size == 1
                                                   or (isinstance(op, MatMul) and weights.axis == (0 if op.transpose_b else 1)))
    if isinstance(op, ConvTranspose):
        return is_quantized(node.operand(0)) and transposed.takes_integers(node)
    if isinstance(op, Elementwise):
        return arithmetic.takes_integers(node, is_quantized)
    values = [value for value in node.inputs if value is not None]
    if isinstance(op, Concat):
        return any(map(is_quantized, values)) and all(is_quantized(value) or quantized.is_constant(value) for value in values)
    return isinstance(op, Pool | Reduce | Softmax | Resize) and all(map(is_quantized, values))


def fuses_activation(node: Node) -> bool:
    """Whether an activation can be written with the operator; with sums and products of two operands on integers only."""
    if isinstance(node.op, MatMul):
        return is_fully_connected(node)
    return isinstance(node.op, (Conv, *_ACTIVATED_AFTER)) or (isinstance(node.op, Elementwise) and arithmetic.fuses_activation(node))


def required_quantization(node: Node, source: Quantization | None) -> Quantization | None:
    """The quantization that TFLite demands of the result of a node on integers; None where it may be any."""
    if isinstance(node.op, Softmax):
        return SOFTMAX_RESULT
    if isinstance(node.op, Pool | Resize):
        return source
    if isinstance(node.op, Elementwise):
        return arithmetic.required_quantization(node, source)
    return None


# -- matrices -----------------------------------------------------------------------------------


def _matmul_obstacle(op: MatMul, node: Node) -> str | None:
    a, b = node.operand(0), node.operand(1)
    if op.epilogue is not None or op.a_zero or op.b_zero or not a.type.dtype.is_float:
        return "a product of integers, or one with an epilogue, has no form in TFLite"
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and (not quantized.is_constant(bias) or bias.type.elements not in (1, numbers(node.output.type.dims)[-1])):
        return "a bias that differs between rows has no form in TFLite"
    if a.type.rank < 2 or b.type.rank < 2:
        return "a product with a vector has no form in TFLite"
    return None


def _matmul(emitter: Emitter, op: MatMul, node: Node, result: Result) -> None:
    """FULLY_CONNECTED where the second factor is a constant matrix, else BATCH_MATMUL."""
    a, b = node.operand(0), node.operand(1)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    order = plain(node.output.type.rank)
    if is_fully_connected(node):
        _fully_connected(emitter, op, node, result)
        return
    version = 1 if result.quantization is None else 2
    left, right = emitter.operand(a, plain(a.type.rank), result), emitter.operand(b, plain(b.type.rank), result)
    target = emitter.new(result, order)
    product = target if bias is None else emitter.new(Result(result.value, None), order)
    emitter.writer.operator("BATCH_MATMUL", [left, right], [product], "BatchMatMulOptions", version, adjX=op.transpose_a, adjY=op.transpose_b)
    if bias is not None:
        emitter.writer.operator("ADD", [product, emitter.floats(bias, plain(bias.type.rank))], [target], "AddOptions")
    emitter.place(result.value, target, order, result.quantization)


def _is_of_computed_factors(node: Node) -> bool:
    """Whether no factor of a product is known while compiling."""
    return not any(quantized.is_constant(node.operand(index)) for index in (0, 1))


def is_fully_connected(node: Node) -> bool:
    """Whether a product is by a constant matrix."""
    b = node.operand(1)
    return isinstance(node.op, MatMul) and quantized.is_constant(b) and b.type.rank == 2


def _fully_connected(emitter: Emitter, op: MatMul, node: Node, result: Result) -> None:
    a, b = node.operand(0), node.operand(1)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    order, channels = plain(node.output.type.rank), numbers(node.output.type.dims)[-1]
    columns, rows = a.type.rank - 1, a.type.rank - 2
    source = emitter.operand(a, (*range(rows), columns, rows) if op.transpose_a else plain(a.type.rank), result)
    if result.quantization is None:
        array = quantized.constant_floats(b)
        weights = emitter.writer.constant("weights", array if op.transpose_b else array.T)
        zeros = np.zeros(channels, np.float32) if bias is None else quantized.constant_floats(bias).reshape(-1)
        added = emitter.writer.constant("bias", np.broadcast_to(zeros, (channels,)))
    else:
        codes, given = quantized.present(quantized.weight_codes(b)), quantized.present(emitter.held(a).quantization)
        scales, added = windows.quantized_weights(emitter, codes, given, bias, channels)
        weights = emitter.writer.constant("weights", codes.array if op.transpose_b else codes.array.T,
                                          Quantization(tuple(float(s) for s in scales)))
    target = emitter.new(result, order)
    if emitter.products_as_convolutions and result.quantization is not None:
        _as_convolution(emitter, source, weights, added, target, result.activation)
        emitter.place(result.value, target, order, result.quantization)
        return
    emitter.writer.operator("FULLY_CONNECTED", [source, weights, added], [target], "FullyConnectedOptions", 1 if result.quantization is None else 4,
                            keepNumDims=a.type.rank > 2,
                            fusedActivationFunction=emitter.writer.value("ActivationFunctionType", result.activation))
    emitter.place(result.value, target, order, result.quantization)


def _as_convolution(emitter: Emitter, source: int, weights: int, bias: int, target: int, activation: str) -> None:
    """A product of rows by a matrix as CONV_2D of one row of pixels."""
    writer = emitter.writer
    matrix, result = writer.tensors[weights], writer.tensors[target]
    outputs, inputs = matrix.shape
    pixels = math.prod(result.shape[:-1])
    kernel = writer.constant("weights", np.frombuffer(present(matrix.data), np.int8).reshape(outputs, 1, 1, inputs), matrix.quantization)
    row = emitter.reshaped(source, (1, 1, pixels, inputs), "row")
    made = target if result.shape == (1, 1, pixels, outputs) else writer.tensor("row", (1, 1, pixels, outputs), result.kind, result.quantization)
    writer.operator("CONV_2D", [row, kernel, bias], [made], "Conv2DOptions", 3, padding=writer.value("Padding", "VALID"), strideH=1, strideW=1,
                    dilationHFactor=1, dilationWFactor=1, fusedActivationFunction=writer.value("ActivationFunctionType", activation))
    if made != target:
        emitter.reshaped(made, result.shape, "result", into=target)


# -- reductions ---------------------------------------------------------------------------------

_REDUCTIONS = {"mean": "MEAN", "sum": "SUM", "max": "REDUCE_MAX", "min": "REDUCE_MIN", "prod": "REDUCE_PROD"}


def _reduce_obstacle(op: Reduce, node: Node) -> str | None:
    if op.kind not in _REDUCTIONS or getattr(op, "epilogue", None) is not None:
        return f"a reduction by {op.kind} has no form in TFLite"
    return None


def _reduce(emitter: Emitter, op: Reduce, node: Node, result: Result) -> None:
    x = node.operand(0)
    order = emitter.order_of(x)
    source = emitter.operand(x, order, result)
    axes = sorted(order.index(axis) for axis in op.axes)
    if op.keepdims:
        kept = order
    else:
        left = [axis for axis in order if axis not in op.axes]
        kept = tuple(sorted(left).index(axis) for axis in left)
    target = emitter.new(result, kept)
    emitter.writer.operator(_REDUCTIONS[op.kind], [source, emitter.vector(axes, "axes")], [target], "ReducerOptions",
                            1 if result.quantization is None else 2, keepDims=op.keepdims)
    emitter.place(result.value, target, kept, result.quantization)



def _arg_reduce_obstacle(op: ArgReduce, node: Node) -> str | None:
    if op.select_last or node.operand(0).type.dtype is not DType.F32:
        return "positions of extrema that are not the first one, or not of floats, have no form in TFLite"
    return None


def _arg_reduce(emitter: Emitter, op: ArgReduce, node: Node, result: Result) -> None:
    """ARG_MAX or ARG_MIN, of integers where there are some, which have the same order."""
    x = node.operand(0)
    order = emitter.order_of(x)
    source = emitter.integers(x, order) if emitter.is_quantized(x) else emitter.floats(x, order)
    left = [axis for axis in order if axis != op.axis]
    kept = tuple(sorted(left).index(axis) for axis in left)
    dims = numbers(x.type.dims)
    kind = "INT32" if emitter.short_positions else "INT64"
    made = emitter.writer.tensor(result.value.name, [dims[axis] for axis in left], kind)
    emitter.writer.operator("ARG_MAX" if op.kind == "max" else "ARG_MIN", [source, emitter.writer.constant("axis", np.array(order.index(op.axis), np.int32))],
                            [made], "ArgMaxOptions" if op.kind == "max" else "ArgMinOptions", 2, outputType=emitter.writer.value("TensorType", kind))
    if op.keepdims:
        made, kept = emitter.reshaped(made, [1 if axis == op.axis else dims[axis] for axis in order], result.value.name), order
    emitter.place(result.value, made, kept)


def _softmax(emitter: Emitter, op: Softmax, node: Node, result: Result) -> None:
    x = node.operand(0)
    rank = x.type.rank
    last = (*(axis for axis in range(rank) if axis != op.axis % rank), op.axis % rank)
    source = emitter.operand(x, last, result)
    target = emitter.new(result, last)
    if op.log:
        emitter.writer.operator("LOG_SOFTMAX", [source], [target], "LogSoftmaxOptions", 1)
    else:
        emitter.writer.operator("SOFTMAX", [source], [target], "SoftmaxOptions", 1 if result.quantization is None else 2, beta=1.0)
    emitter.place(result.value, target, last, result.quantization)


# -- movement -----------------------------------------------------------------------------------


def _always(op: Op, node: Node) -> str | None:
    return None


def _reshape(emitter: Emitter, op: Reshape, node: Node, result: Result) -> None:
    x, order = node.operand(0), plain(node.output.type.rank)
    held, dims = emitter.order_of(x), numbers(x.type.dims)
    # Where only axes of one element stand elsewhere, the elements lie as they should already.
    long = [axis for axis in held if dims[axis] != 1]
    source = emitter.operand(x, held if long == sorted(long) else plain(x.type.rank), result)
    target = emitter.new(result, order)
    emitter.reshaped(source, numbers(node.output.type.dims), result.value.name, into=target)
    emitter.place(result.value, target, order, result.quantization)


def _transpose(emitter: Emitter, op: Transpose, node: Node, result: Result) -> None:
    """The same tensor, whose axes are counted another way."""
    x = node.operand(0)
    order = emitter.order_of(x)
    source = emitter.operand(x, order, result)
    emitter.place(result.value, source, tuple(op.perm.index(axis) for axis in order), result.quantization)


def _slice(emitter: Emitter, op: Slice, node: Node, result: Result) -> None:
    x = node.operand(0)
    order = emitter.order_of(x)
    starts, sizes, steps = (numbers(v) for v in (op.starts, op.sizes, op.steps))
    ends = [start + size * step for start, size, step in zip(starts, sizes, steps, strict=True)]
    # An end in front of the first element cannot be said by its number, which would count from the other end.
    mask = sum(1 << place for place, axis in enumerate(order) if ends[axis] < 0)
    source = emitter.operand(x, order, result)
    target = emitter.new(result, order)
    vectors = [emitter.vector([v[axis] for axis in order], "slice") for v in (starts, [max(end, 0) for end in ends], steps)]
    emitter.writer.operator("STRIDED_SLICE", [source, *vectors], [target], "StridedSliceOptions", 1 if result.quantization is None else 2,
                            beginMask=0, endMask=mask, ellipsisMask=0, newAxisMask=0, shrinkAxisMask=0)
    emitter.place(result.value, target, order, result.quantization)


def _concat(emitter: Emitter, op: Concat, node: Node, result: Result) -> None:
    values = [value for value in node.inputs if value is not None]
    order = next((emitter.order_of(value) for value in values if not quantized.is_constant(value)), plain(node.output.type.rank))
    # What is put together has one quantization: that of the result.
    sources = [emitter.floats(value, order) if result.quantization is None else emitter.rescaled(value, order, result.quantization)
               for value in values]
    target = emitter.new(result, order)
    emitter.writer.operator("CONCATENATION", sources, [target], "ConcatenationOptions", 1 if result.quantization is None else 2,
                            axis=order.index(op.axis % len(order)), fusedActivationFunction=0)
    emitter.place(result.value, target, order, result.quantization)


def _pad_obstacle(op: Pad, node: Node) -> str | None:
    if op.mode != "constant" or any(n < 0 for n in (*numbers(op.before), *numbers(op.after))):
        return f"padding of mode {op.mode}, or by less than 0, has no form in TFLite"
    value = node.inputs[1] if len(node.inputs) > 1 else None
    return "padding by a computed number has no form in TFLite" if value is not None and not quantized.is_constant(value) else None


def _pad(emitter: Emitter, op: Pad, node: Node, result: Result) -> None:
    x = node.operand(0)
    value = node.inputs[1] if len(node.inputs) > 1 else None
    number = 0.0 if value is None else float(quantized.constant_floats(value).reshape(()))
    order = emitter.order_of(x)
    # A number other than 0 may have no integer; then it is put around floats.
    done = result if number == 0.0 else Result(result.value, None)
    source = emitter.operand(x, order, done)
    padded = emitter.padded(source, [numbers(op.before)[axis] for axis in order], [numbers(op.after)[axis] for axis in order],
                            x.name, None if number == 0.0 else number)
    emitter.place(result.value, padded, order, done.quantization)


def _resize_obstacle(op: Resize, node: Node) -> str | None:
    x = node.operand(0)
    if x.type.rank != 4 or numbers(op.sizes)[:2] != numbers(x.type.dims)[:2] or op.mode not in ("nearest", "linear") or op.roi:
        return f"a resize of mode {op.mode} over these axes has no form in TFLite"
    if op.mode == "linear":
        known = op.coordinate_mode in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
    else:
        known = (op.coordinate_mode == "asymmetric" and op.nearest_mode == "floor") or (all(
            size % old == 0 for size, old in zip(numbers(op.sizes)[2:], numbers(x.type.dims)[2:], strict=True)) and (
            op.coordinate_mode in ("asymmetric", "half_pixel") and op.nearest_mode in ("floor", "round_prefer_floor")))
        known = known and not (op.coordinate_mode == "asymmetric" and op.nearest_mode != "floor")
    return None if known else f"a resize by {op.coordinate_mode} coordinates and {op.nearest_mode} has no form in TFLite"


def _resize(emitter: Emitter, op: Resize, node: Node, result: Result) -> None:
    x = node.operand(0)
    order = channels_last(4)
    source = emitter.operand(x, order, result)
    target = emitter.new(result, order)
    kind = "RESIZE_NEAREST_NEIGHBOR" if op.mode == "nearest" else "RESIZE_BILINEAR"
    half = op.mode == "linear" and op.coordinate_mode in ("half_pixel", "pytorch_half_pixel")
    emitter.writer.operator(kind, [source, emitter.vector(numbers(op.sizes)[2:], "size")], [target],
                            "ResizeNearestNeighborOptions" if op.mode == "nearest" else "ResizeBilinearOptions", 3,
                            alignCorners=op.coordinate_mode == "align_corners", halfPixelCenters=half)
    emitter.place(result.value, target, order, result.quantization)


RULES: Mapping[type[Op], tuple[Rule, Check]] = MappingProxyType({
    Conv: (windows.emit_conv, windows.conv_obstacle), Pool: (windows.emit_pool, windows.pool_obstacle),
    ConvTranspose: (transposed.emit_transposed, transposed.transposed_obstacle),
    Elementwise: (arithmetic.emit, arithmetic.obstacle), MatMul: (_matmul, _matmul_obstacle),
    Reduce: (_reduce, _reduce_obstacle), ArgReduce: (_arg_reduce, _arg_reduce_obstacle), Softmax: (_softmax, _always),
    Reshape: (_reshape, _always), Transpose: (_transpose, _always), Slice: (_slice, _always), Concat: (_concat, _always), Gather: (emit_gather, gather_obstacle),
    Pad: (_pad, _pad_obstacle), Resize: (_resize, _resize_obstacle),
})
"""For each operator how it is written, and what keeps a node from being written."""
