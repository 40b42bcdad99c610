"""Transposed convolutions in TFLite.

TRANSPOSE_CONV is told the shape of its result and cuts half of what is too much, rounded down, off the begin. Where another number of
rows has to go there, the whole result is computed and a slice of it taken.
"""

from __future__ import annotations

import numpy as np

from edgecc.backends.tflite import quantized, windows
from edgecc.backends.tflite.emitter import Emitter, Result
from edgecc.backends.tflite.recorder import Quantization
from edgecc.ir.dims import numbers
from edgecc.ir.graph import Node
from edgecc.ir.types import Array
from edgecc.ops.convolution import ConvTranspose


def transposed_obstacle(op: ConvTranspose, node: Node) -> str | None:
    """Why a transposed convolution has no form in TFLite."""
    x, w = node.operand(0), node.operand(1)
    if x.type.rank not in (3, 4):
        return f"transposed convolutions over {x.type.rank - 2} spatial axes have no form in TFLite"
    if op.epilogue is not None or op.group != 1 or any(d != 1 for d in op.dilations):
        return "a transposed convolution with groups, dilations or an epilogue has no form in TFLite"
    if any(taps < step for taps, step in zip(numbers(w.type.dims)[2:], op.strides, strict=True)):
        return "a transposed convolution whose kernel is smaller than its stride has no form in TFLite"
    if any(extra > after for extra, after in zip(_output_padding(op), op.pads[len(op.strides):], strict=True)):
        return "a transposed convolution that adds rows at the end has no form in TFLite"
    if not quantized.is_constant(w) or any(value is not None and not quantized.is_constant(value) for value in node.inputs[2:3]):
        return "weights that are computed have no form in TFLite"
    return None


def takes_integers(node: Node) -> bool:
    """Whether the weights are int8, with a scale for each result channel or one for all."""
    weights = quantized.weight_codes(node.operand(1))
    return weights is not None and weights.array.dtype == np.int8 and (weights.axis == 1 or weights.scales.size == 1)


def emit_transposed(emitter: Emitter, op: ConvTranspose, node: Node, result: Result) -> None:
    """TRANSPOSE_CONV, and STRIDED_SLICE where it is needed."""
    x, w = node.operand(0), node.operand(1)
    writer, flat, rank = emitter.writer, x.type.rank == 3, len(op.strides)
    n, channels, *wanted = numbers(node.output.type.dims)
    taps, sizes = numbers(w.type.dims)[2:], numbers(x.type.dims)[2:]
    whole = [(size - 1) * step + tap for size, step, tap in zip(sizes, op.strides, taps, strict=True)]
    before = op.pads[:rank]
    direct = all(b == (full - size) // 2 for b, full, size in zip(before, whole, wanted, strict=True))
    source = windows.image(emitter, x, result)
    weights, bias = _weights(emitter, node, result, flat=flat)
    target, pending = windows.place_image(emitter, result)
    rows = ([1] if flat else []) + (wanted if direct else whole)
    shape = (n, *rows, channels)
    final = writer.tensors[target]
    made = target if direct else writer.tensor("whole", shape, final.kind, final.quantization)
    strides = (1, *op.strides) if flat else op.strides
    fits = all(full == size for full, size in zip(whole, wanted, strict=True)) or not direct
    writer.operator("TRANSPOSE_CONV", [emitter.vector(shape, "shape"), weights, source, bias], [made], "TransposeConvOptions", 3,
                    padding=writer.value("Padding", "VALID" if fits else "SAME"), strideH=strides[0], strideW=strides[1],
                    fusedActivationFunction=writer.value("ActivationFunctionType", "NONE"))
    if not direct:
        begin = [0, *([0] if flat else []), *before, 0]
        end = [b + size for b, size in zip(begin, final.shape, strict=True)]
        vectors = [emitter.vector(v, "slice") for v in (begin, end, [1] * 4)]
        writer.operator("STRIDED_SLICE", [made, *vectors], [target], "StridedSliceOptions", 1 if result.quantization is None else 2,
                        beginMask=0, endMask=0, ellipsisMask=0, newAxisMask=0, shrinkAxisMask=0)
    windows.finish_image(emitter, pending)


def _output_padding(op: ConvTranspose) -> tuple[int, ...]:
    return op.output_padding or (0,) * len(op.strides)


def _weights(emitter: Emitter, node: Node, result: Result, *, flat: bool) -> tuple[int, int]:
    """The tensors of weights [O,H,W,I] and bias."""
    w, bias = node.operand(1), node.inputs[2] if len(node.inputs) > 2 else None
    channels = numbers(w.type.dims)[1]
    if result.quantization is None:
        zeros = np.zeros(channels, np.float32) if bias is None else quantized.constant_floats(bias).reshape(-1)
        return emitter.writer.constant("weights", _arranged(quantized.constant_floats(w), flat=flat)), emitter.writer.constant("bias", zeros)
    codes, source = quantized.present(quantized.weight_codes(w)), quantized.present(emitter.held(node.operand(0)).quantization)
    scales, index = windows.quantized_weights(emitter, codes, source, bias, channels)
    return emitter.writer.constant("weights", _arranged(codes.array, flat=flat), Quantization(tuple(float(s) for s in scales))), index


def _arranged(array: Array, *, flat: bool) -> Array:
    square = array[:, :, None, :] if flat else array
    return np.ascontiguousarray(square.transpose(1, 2, 3, 0))
