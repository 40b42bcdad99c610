"""Quantized operators of the domain com.microsoft that other operators are made of: products, attention, recurrent layers, tables.

Source of the formulas: onnxruntime, docs/ContribOperators.md.
"""

from __future__ import annotations

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.converters.convolution import convolve
from edgecc.frontend.converters.integer import centred, known_zero, number_of, parameter, product, requantize, scale_of
from edgecc.frontend.converters.microsoft import embedded
from edgecc.frontend.converters.microsoft_attention import projected_attention
from edgecc.frontend.converters.recurrent import recurrent
from edgecc.frontend.items import Item
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.graph import Value
from edgecc.ir.scalar import apply, convert
from edgecc.ir.types import DType
from edgecc.ops.matrix import MatMul
from edgecc.ops.reduction import Reduce
from edgecc.ops.requantize import requantized

_DOMAIN = "com.microsoft"


def _plus(call: Call, a: Value, b: Value) -> Value:
    return call.map(lambda x, y: apply("add", x, y), a, b)


def dequantized(call: Call, x: Value, scale: Value, zero: Value | None) -> Value:
    """(x - zero) * scale as f32; scale and zero broadcast to x."""
    return call.map(lambda a, s, *z: apply("mul", convert(apply("sub", convert(a, DType.I32), convert(z[0], DType.I32)) if z else a, DType.F32), s),
                    x, scale, *([] if zero is None else [zero]))


@converter("QGemm", domain=_DOMAIN)
def _qgemm(call: Call) -> Value:
    """alpha * a_scale * b_scale * ((A - a_zero)' @ (B - b_zero)' + C), requantized where the result has a scale, else f32."""
    a, b, c, y_scale, y_zero = call.input(0), call.input(3), call.optional(6), call.optional(7), call.optional(8)
    if (y_scale is None) != (y_zero is None):
        raise EdgeccError("E102", "y_scale and y_zero_point are there together or not at all")
    a, b = (call.transpose(x, (1, 0)) if call.flag(f"trans{name}") else x for x, name in ((a, "A"), (b, "B")))
    total = product(call, a, call.input(2), b, call.input(5))
    total = total if c is None else _plus(call, total, c)
    columns = b.type.dims[1:]
    alpha = call.scalar(call.number("alpha", 1.0), DType.F32)
    scales = [alpha, parameter(call, call.input(1), ()), parameter(call, call.input(4), columns)]
    if y_scale is None or y_zero is None:
        return call.map(lambda t, s: apply("mul", convert(t, DType.F32), s), total, scale_of(call, scales))
    return requantize(call, total, scale_of(call, scales, parameter(call, y_scale, ())), parameter(call, y_zero, ()), y_zero.type.dtype)


@converter("QLinearConv", domain=_DOMAIN)
def _qlinear_conv(call: Call) -> Value:
    """QLinearConv of ONNX; with channels_last on and into [N,...,C]."""
    x, w, zero, rank = call.input(0), call.input(3), call.input(7), call.input(0).type.rank
    last = call.flag("channels_last")
    planar = call.transpose(x, (0, rank - 1, *range(1, rank - 1))) if last else x
    channels = w.type.dims[0]
    weights = centred(call, w, parameter(call, call.input(5), (channels, *[1] * (w.type.rank - 1))))
    x_zero = known_zero(call.input(2))
    if x_zero is None:
        planar, x_zero = centred(call, planar, parameter(call, call.input(2), ())), 0
    total = convolve(call, planar, weights, call.optional(8), x_zero or None)
    scales = [parameter(call, call.input(1), ()), parameter(call, call.input(4), (1, channels, *[1] * (w.type.rank - 2)))]
    y = requantize(call, total, scale_of(call, scales, parameter(call, call.input(6), ())), parameter(call, zero, ()), zero.type.dtype)
    return call.transpose(y, (0, *range(2, rank), 1)) if last else y


@converter("QLinearReduceMean", domain=_DOMAIN)
def _qlinear_mean(call: Call) -> Value:
    """The sum of x - x_zero, requantized by x_scale / (y_scale * number of elements)."""
    x, x_zero, y_zero = call.input(0), call.optional(2), call.optional(4)
    axes = call.axes(call.ints("axes") or tuple(range(x.type.rank)), x.type.rank)
    wide = call.map(lambda a, *z: apply("sub", convert(a, DType.I32), convert(z[0], DType.I32)) if z else convert(a, DType.I32),
                    x, *([] if x_zero is None else [parameter(call, x_zero, ())]))
    total = call.add(Reduce("sum", axes, keepdims=call.flag("keepdims", True)), wide)
    count = number_of(call, x, axes)
    divisor = call.map(lambda s, n: apply("mul", convert(s, DType.F64), n), parameter(call, call.input(3), ()), count)
    zero = None if y_zero is None else parameter(call, y_zero, ())
    return requantize(call, total, scale_of(call, [parameter(call, call.input(1), ())], divisor), zero, x.type.dtype)


@converter("QLinearWhere", domain=_DOMAIN)
def _qlinear_where(call: Call) -> Value:
    """x where the condition holds, else y, each requantized to the scale of the result."""
    condition, z_scale, z_zero = call.input(0), parameter(call, call.input(7), ()), parameter(call, call.input(8), ())
    sides = []
    for index in (1, 4):
        x, scale, zero = call.input(index), parameter(call, call.input(index + 1), ()), parameter(call, call.input(index + 2), ())
        sides.append(call.map(lambda a, z, s, own: requantized(apply("sub", convert(a, DType.I32), convert(z, DType.I32)), s, own, own.dtype),
                              x, zero, scale_of(call, [scale], z_scale), z_zero))
    return call.map(lambda c, a, b: apply("select", convert(c, DType.BOOL), a, b), condition, *sides)


@converter("MulInteger", domain=_DOMAIN)
def _mul_integer(call: Call) -> Value:
    """(A - a_zero) * (B - b_zero) as i32."""
    sides = [call.map(lambda x, *z: apply("sub", convert(x, DType.I32), convert(z[0], DType.I32)) if z else convert(x, DType.I32),
                      call.input(index), *([] if zero is None else [parameter(call, zero, ())]))
             for index, zero in ((0, call.optional(1)), (2, call.optional(3)))]
    return call.map(lambda a, b: apply("mul", a, b), *sides)


@converter("ReduceSumInteger", domain=_DOMAIN)
def _sum_integer(call: Call) -> Value:
    x = call.input()
    axes = call.axes(call.ints("axes") or tuple(range(x.type.rank)), x.type.rank)
    return call.add(Reduce("sum", axes, keepdims=call.flag("keepdims", True)), call.cast(x, DType.I32))


@converter("QAttention", domain=_DOMAIN)
def _quantized_attention(call: Call) -> list[Item | None]:
    """Attention whose projection is a product of integers: (x - x_zero) @ (w - w_zero) * (x_scale * w_scale) + bias."""
    x, weights, bias = call.input(0), call.input(1), call.input(2)
    columns = weights.type.dims[1:]
    total = product(call, x, call.optional(6), weights, call.optional(7))
    scale = scale_of(call, [parameter(call, call.input(3), ()), parameter(call, call.input(4), columns)])
    projected = call.map(lambda t, s, b: apply("add", apply("mul", convert(t, DType.F32), s), convert(b, DType.F32)), total, scale, bias)
    return projected_attention(call, call.cast(projected, bias.type.dtype), mask=call.optional(5), past=call.optional(8), bias=None)


@converter("DynamicQuantizeLSTM", domain=_DOMAIN)
def _quantized_lstm(call: Call) -> tuple[Value, ...]:
    """LSTM with weights W [D,I,4H] and R [D,H,4H] of 8 bits, a scale for each direction or each column.

    The definition lets inputs and states be quantized on the way; here they stay floats, which is the more exact of both.
    """
    def matrix(index: int, first: int) -> Value:
        codes, scale, zero = call.input(index), call.input(first), call.input(first + 1)
        directions, _, columns = codes.type.dims
        shape = (directions, 1, columns) if scale.type.elements == directions * columns else (directions, 1, 1)
        real = dequantized(call, codes, parameter(call, scale, shape), parameter(call, zero, shape if zero.type.elements > 1 else ()))
        return call.transpose(real, (0, 2, 1))

    return recurrent(call, "lstm", call.input(0), matrix(1, 8), matrix(2, 10), [call.optional(index) for index in range(3, 8)])


@converter("QEmbedLayerNormalization", domain=_DOMAIN)
def _quantized_embedding(call: Call) -> list[Item | None]:
    """EmbedLayerNormalization on tables of 8 bits, which are dequantized when compiling."""
    real = []
    for index, scale, zero in ((2, 8, 13), (3, 9, 14), (4, 10, 15), (5, 11, 16), (6, 12, 17)):
        codes, factor, point = call.optional(index), call.optional(scale), call.optional(zero)
        real.append(None if codes is None or factor is None else dequantized(
            call, codes, parameter(call, factor, ()), None if point is None else parameter(call, point, ())))
    words, positions, segments, gamma, beta = real
    if words is None or positions is None or gamma is None or beta is None:
        raise EdgeccError("E102", "a table, or the scale of one, is missing")
    result, count, _ = embedded(call, (words, positions, segments), (gamma, beta), None)
    return [result, count]


@converter("MatMulBnb4", domain=_DOMAIN)
def _matmul_bnb4(call: Call) -> Value:
    """A @ B' with B [N,K] of codes of 4 bits, a table of 16 floats that they stand for, and the largest magnitude of each block.

    Source of the tables: bitsandbytes, FP4 (quant_type 0) and NF4 (1). The high half of a byte is the first code.
    """
    return call.add(MatMul(transpose_b=True), call.input(0), _bnb4_weights(call))


_FP4 = (0.0, 5.208333333e-03, 0.66666667, 1.0, 0.33333333, 0.5, 0.16666667, 0.25,
        -0.0, -5.208333333e-03, -0.66666667, -1.0, -0.33333333, -0.5, -0.16666667, -0.25)
_NF4 = (-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495,
        0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
        0.7229568362236023, 1.0)


def _bnb4_weights(call: Call) -> Value:
    rows, depth, block, kind = call.integer("N"), call.integer("K"), call.integer("block_size"), call.integer("quant_type")
    packed, largest = call.known(1, "the weights"), call.known(2, "the largest magnitudes")
    if min(rows, depth, block) < 1 or kind not in (0, 1) or not call.flag("transB", True):
        raise Unsupported(f"N is {rows}, K is {depth}, block_size is {block}, quant_type is {kind}")
    count = rows * depth
    if packed.dtype != np.uint8 or packed.size != (count + 1) // 2 or largest.size != -(-count // block):
        raise EdgeccError("E110", f"{packed.size} bytes and {largest.size} magnitudes are given for {rows} x {depth} codes in blocks of {block}")
    call.reserve((rows, depth), "the weights", 4)
    flat = packed.reshape(-1)
    codes = np.stack([flat >> np.uint8(4), flat & np.uint8(15)], axis=1).reshape(-1)[:count]
    scales = np.repeat(largest.reshape(-1).astype(np.float32), min(block, count))[:count]
    table = np.array(_NF4 if kind else _FP4, np.float32)
    return call.constant((table[codes] * scales).reshape(rows, depth).astype(call.input().type.dtype.numpy))
