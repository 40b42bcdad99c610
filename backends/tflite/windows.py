"""Convolutions and pools in TFLite: images with channels last, padding by name or by an operator of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgecc.backends.tflite import quantized
from edgecc.backends.tflite.emitter import Emitter, Result, channels_last
from edgecc.backends.tflite.recorder import Quantization
from edgecc.ir.dims import numbers
from edgecc.ir.graph import Node, Value
from edgecc.ir.types import Array
from edgecc.ops.convolution import Conv, Pool, window_extents


@dataclass(frozen=True)
class Padding:
    """How TFLite is told of padding.

    Attributes:
        name: "SAME" or "VALID".
        before, after: what has to be put around the image first, for each spatial axis.
    """

    name: str
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


def choose_padding(dims: Sequence[int], results: Sequence[int], extents: Sequence[int], strides: Sequence[int], pads: Sequence[int]) -> Padding:
    """The padding of a window.

    SAME gives ceil(size / stride) results and puts half of the padding that takes, rounded down, in front; VALID has none.
    Args: for each spatial axis the size, the size of the result, the window's extent and stride; pads (begin..., end...).
    """
    rank = len(dims)
    before = tuple(pads[:rank])
    if not any(pads) and all(r == (d - e) // s + 1 for r, d, e, s in zip(results, dims, extents, strides, strict=True)):
        return Padding("VALID")
    totals = [max((-(-d // s) - 1) * s + e - d, 0) for d, e, s in zip(dims, extents, strides, strict=True)]
    # Padding at the end that no window reaches changes nothing, so that only the begin has to agree.
    if all(r == -(-d // s) and b == t // 2 for r, d, s, b, t in zip(results, dims, strides, before, totals, strict=True)):
        return Padding("SAME")
    return explicit_padding(dims, results, extents, strides, pads)


def explicit_padding(dims: Sequence[int], results: Sequence[int], extents: Sequence[int], strides: Sequence[int], pads: Sequence[int]) -> Padding:
    """Padding by an operator of its own, where there is any; see `choose_padding`."""
    before = tuple(pads[:len(dims)])
    # As much at the end as the last window reaches, and no more, which VALID would make results of.
    needed = tuple(max((r - 1) * s + e - d - b, 0) for r, d, e, s, b in zip(results, dims, extents, strides, before, strict=True))
    return Padding("VALID", before, needed) if any((*before, *needed)) else Padding("VALID")


def image(emitter: Emitter, value: Value, result: Result) -> int:
    """The tensor [N,H,W,C] of an operand [N,C,H,W], or of [N,C,W] with H = 1."""
    index = emitter.operand(value, channels_last(value.type.rank), result)
    if value.type.rank == 4:
        return index
    n, c, w = numbers(value.type.dims)
    return emitter.reshaped(index, (n, 1, w, c), value.name)


def place_image(emitter: Emitter, result: Result) -> tuple[int, list[tuple[int, int]]]:
    """A tensor [N,H,W,C] for a result, and a reshape that has to follow (see `finish_image`)."""
    dims = numbers(result.value.type.dims)
    order = channels_last(len(dims))
    final = emitter.new(result, order)
    if len(dims) == 4:
        emitter.place(result.value, final, order, result.quantization)
        return final, []
    inner = emitter.new(result, order, (dims[0], 1, dims[2], dims[1]))
    emitter.place(result.value, final, order, result.quantization)
    return inner, [(inner, final)]


def finish_image(emitter: Emitter, pending: Sequence[tuple[int, int]]) -> None:
    """Adds the reshapes that `place_image` asked for."""
    for index, into in pending:
        emitter.reshaped(index, emitter.writer.tensors[into].shape, "result", into=into)


def conv_obstacle(op: Conv, node: Node) -> str | None:
    """Why a convolution has no form in TFLite."""
    x, w = node.operand(0), node.operand(1)
    if x.type.rank not in (3, 4):
        return f"convolutions over {x.type.rank - 2} spatial axes have no form in TFLite"
    if op.epilogue is not None or op.x_zero:
        return "a convolution with an epilogue has no form in TFLite"
    if not quantized.is_constant(w) or any(value is not None and not quantized.is_constant(value) for value in node.inputs[2:3]):
        return "weights that are computed have no form in TFLite"
    return None


def emit_conv(emitter: Emitter, op: Conv, node: Node, result: Result) -> None:
    """CONV_2D, or DEPTHWISE_CONV_2D where every group has one input channel."""
    x = node.operand(0)
    kernel = numbers(node.operand(1).type.dims)
    flat = x.type.rank == 3
    strides, dilations, pads = op.strides, op.dilations, op.pads
    sizes, results, taps = numbers(x.type.dims)[2:], numbers(node.output.type.dims)[2:], kernel[2:]
    padding = choose_padding(sizes, results, window_extents(taps, dilations), strides, pads)
    if flat:
        strides, dilations = (1, *strides), (1, *dilations)
    depthwise = op.group > 1 and kernel[1] == 1
    source = _pad_image(emitter, image(emitter, x, result), padding, x.name, flat=flat)
    weights, bias = _weights(emitter, node, result, depthwise=depthwise, flat=flat)
    target, pending = place_image(emitter, result)
    fields = {"padding": emitter.writer.value("Padding", padding.name), "strideH": strides[0], "strideW": strides[1],
              "dilationHFactor": dilations[0], "dilationWFactor": dilations[1],
              "fusedActivationFunction": emitter.writer.value("ActivationFunctionType", result.activation)}
    version = 1 if result.quantization is None else 3
    if depthwise:
        emitter.writer.operator("DEPTHWISE_CONV_2D", [source, weights, bias], [target], "DepthwiseConv2DOptions", version,
                                depthMultiplier=kernel[0] // op.group, **fields)
    else:
        emitter.writer.operator("CONV_2D", [source, weights, bias], [target], "Conv2DOptions", version, **fields)
    finish_image(emitter, pending)


def quantized_weights(emitter: Emitter, codes: quantized.Codes, source: Quantization, bias: Value | None, channels: int) -> tuple[Array, int]:
    """The scales of weights, one or one for each of `channels`, and the tensor of their int32 bias, in units of both scales."""
    scales = codes.scales.astype(np.float32)
    units = np.float32(source.scale) * scales
    numbers_ = np.zeros(channels) if bias is None else quantized.constant_floats(bias).reshape(-1).astype(np.float64)
    stored = None if bias is None else quantized.weight_codes(bias)
    if stored is not None and stored.array.dtype == np.int32 and np.allclose(stored.scales, units, rtol=1e-5, atol=0.0):
        array = stored.array.reshape(-1)
    else:
        array = np.clip(np.rint(numbers_ / units), -(2**31), 2**31 - 1).astype(np.int32)
    array = np.broadcast_to(array, (channels,))
    return scales, emitter.constant(array, (0,), "bias", Quantization(tuple(float(u) for u in units)))


def _weights(emitter: Emitter, node: Node, result: Result, *, depthwise: bool, flat: bool) -> tuple[int, int]:
    """The tensors of weights and bias: [O,H,W,I], or [1,H,W,O] for depthwise ones."""
    w, bias = node.operand(1), node.inputs[2] if len(node.inputs) > 2 else None
    channels = numbers(w.type.dims)[0]
    if result.quantization is None:
        array = _image_weights(quantized.constant_floats(w), depthwise=depthwise, flat=flat)
        zeros = np.zeros(channels, np.float32) if bias is None else quantized.constant_floats(bias).reshape(-1)
        return emitter.writer.constant("weights", array), emitter.writer.constant("bias", zeros)
    codes, source = quantized.present(quantized.weight_codes(w)), quantized.present(emitter.held(node.operand(0)).quantization)
    scales, index = quantized_weights(emitter, codes, source, bias, channels)
    array = _image_weights(codes.array, depthwise=depthwise, flat=flat)
    quantization = Quantization(tuple(float(s) for s in scales), 0, 3 if depthwise and scales.size > 1 else 0)
    return emitter.writer.constant("weights", array, quantization), index


def _image_weights(array: Array, *, depthwise: bool, flat: bool) -> Array:
    square = array[:, :, None, :] if flat else array
    return np.ascontiguousarray(square.transpose(1, 2, 3, 0) if depthwise else square.transpose(0, 2, 3, 1))


def _pad_image(emitter: Emitter, index: int, padding: Padding, name: str, *, flat: bool, value: float | None = None) -> int:
    if not padding.before:
        return index
    rows = (0,) if flat else ()
    return emitter.padded(index, (0, *rows, *padding.before, 0), (0, *rows, *padding.after, 0), name, value)


def pool_obstacle(op: Pool, node: Node) -> str | None:
    """Why a pool has no form in TFLite."""
    if node.operand(0).type.rank not in (3, 4):
        return "pools over that many axes have no form in TFLite"
    if any(d != 1 for d in op.dilations):
        return "pools with dilations have no form in TFLite"
    padding = _pool_padding(op, node)
    if op.kind == "average" and padding.before and not op.count_include_pad:
        return "averages over padding that do not count it have no form in TFLite"
    return None


def _pool_padding(op: Pool, node: Node) -> Padding:
    sizes, results, extents = numbers(node.operand(0).type.dims)[2:], numbers(node.output.type.dims)[2:], window_extents(op.kernel, op.dilations)
    if op.kind == "average" and op.count_include_pad:
        return explicit_padding(sizes, results, extents, op.strides, op.pads)
    return choose_padding(sizes, results, extents, op.strides, op.pads)


def emit_pool(emitter: Emitter, op: Pool, node: Node, result: Result) -> None:
    """MAX_POOL_2D or AVERAGE_POOL_2D."""
    x = node.operand(0)
    flat = x.type.rank == 3
    padding = _pool_padding(op, node)
    lowest = None if op.kind == "average" else float("-inf") if result.quantization is None else -128
    source = _pad_image(emitter, image(emitter, x, result), padding, x.name, flat=flat, value=lowest)
    kernel, strides = ((1, *op.kernel), (1, *op.strides)) if flat else (op.kernel, op.strides)
    target, pending = place_image(emitter, result)
    emitter.writer.operator("MAX_POOL_2D" if op.kind == "max" else "AVERAGE_POOL_2D", [source], [target], "Pool2DOptions",
                            1 if result.quantization is None else 2, padding=emitter.writer.value("Padding", padding.name),
                            strideH=strides[0], strideW=strides[1], filterHeight=kernel[0], filterWidth=kernel[1],
                            fusedActivationFunction=emitter.writer.value("ActivationFunctionType", result.activation))
    finish_image(emitter, pending)
