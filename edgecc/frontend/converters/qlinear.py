"""Quantized operators of the domain com.microsoft, on integers all the way.

Sums and products are exact, then requantized (edgecc/ops/requantize.py). Functions of one 8-bit operand are tables of 256
entries, made here by the function's own expression in f64, so that no machine computes them its own way.

Source of the formulas: onnxruntime, docs/ContribOperators.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.converters.integer import known_zero, number_of, parameter, product, requantize, scale_of
from edgecc.frontend.converters.pooling import window_of
from edgecc.frontend.converters.quantization import dynamically_quantized
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.dims import Dim, upper_bound
from edgecc.ir.graph import Value
from edgecc.ir.scalar import Arg, ScalarExpr, apply, convert, evaluate, literal
from edgecc.ir.types import Array, DType, TensorType
from edgecc.ops.convolution import Conv
from edgecc.ops.indexing import Gather
from edgecc.ops.movement import Concat
from edgecc.ops.reduction import Reduce
from edgecc.ops.requantize import requantized, rounded

_DOMAIN = "com.microsoft"
I32, F32, F64 = DType.I32, DType.F32, DType.F64


def _scalar(call: Call, index: int) -> Value:
    return parameter(call, call.input(index), ())


def _zero(call: Call, index: int) -> Value | None:
    value = call.optional(index)
    return None if value is None else parameter(call, value, ())


def _difference(x: ScalarExpr, zero: ScalarExpr | None) -> ScalarExpr:
    wide = convert(x, I32)
    return wide if zero is None else apply("sub", wide, convert(zero, I32))


def _sizes(x: Value, axes: Iterable[int]) -> tuple[int, ...]:
    """The sizes of axes that must have one; those of the others may be the run's.

    Raises: EdgeccError E104 where an axis is open.
    """
    return TensorType(x.type.dtype, tuple(x.type.shape[axis] for axis in axes)).dims


def _all(*values: Value | None) -> list[Value]:
    return [value for value in values if value is not None]


# -- sums, products, joins --------------------------------------------------------------------


@converter("QLinearAdd", domain=_DOMAIN)
def _add(call: Call) -> Value:
    """round((a - a_zero) * (a_scale / c_scale) + (b - b_zero) * (b_scale / c_scale)) + c_zero."""
    a, b, c_scale = call.input(0), call.input(3), _scalar(call, 6)
    zeros = [_zero(call, index) for index in (2, 5, 7)]
    ratios = [scale_of(call, [_scalar(call, index)], c_scale) for index in (1, 4)]

    def total(*args: ScalarExpr) -> ScalarExpr:
        given = iter(args[4:])
        az, bz, cz = (None if zero is None else next(given) for zero in zeros)
        parts = [apply("mul", convert(_difference(x, zero), F32), ratio) for x, zero, ratio in
                 ((args[0], az, args[2]), (args[1], bz, args[3]))]
        return rounded(apply("add", *parts), cz, a.type.dtype)

    return call.map(total, a, b, *ratios, *_all(*zeros))


@converter("QLinearMul", domain=_DOMAIN)
def _mul(call: Call) -> Value:
    """(a - a_zero) * (b - b_zero), requantized by a_scale * b_scale / c_scale."""
    a, b = call.input(0), call.input(3)
    zeros = [_zero(call, index) for index in (2, 5, 7)]
    scale = scale_of(call, [_scalar(call, 1), _scalar(call, 4)], _scalar(call, 6))

    def total(*args: ScalarExpr) -> ScalarExpr:
        given = iter(args[3:])
        az, bz, cz = (None if zero is None else next(given) for zero in zeros)
        return requantized(apply("mul", _difference(args[0], az), _difference(args[1], bz)), args[2], cz, a.type.dtype)

    return call.map(total, a, b, scale, *_all(*zeros))


@converter("QLinearConcat", domain=_DOMAIN)
def _concat(call: Call) -> Value:
    """Each operand requantized to the result's scale, then joined; operands that have it already stay as they are."""
    y_scale, y_zero = _scalar(call, 0), parameter(call, call.input(1), ())
    dtype, parts = y_zero.type.dtype, []
    for index in range(2, len(call.inputs), 3):
        x, x_scale, x_zero = call.input(index), _scalar(call, index + 1), _zero(call, index + 2)
        same = (x.type.dtype is dtype and x_scale.constant is not None and y_scale.constant is not None
                and x_scale.constant == y_scale.constant and known_zero(x_zero) is not None and known_zero(x_zero) == known_zero(y_zero))
        parts.append(x if same else call.map(
            lambda a, s, z, *own: requantized(_difference(a, own[0] if own else None), s, z, dtype),
            x, scale_of(call, [x_scale], y_scale), y_zero, *_all(x_zero)))
    if not parts:
        raise EdgeccError("E102", "no operand is given, wanted at least one")
    return call.add(Concat(call.axis(call.integer("axis"), parts[0].type.rank)), *parts)


# -- averages ---------------------------------------------------------------------------------


def _channels_first(call: Call, x: Value) -> tuple[Value, Callable[[Value], Value]]:
    """The operand as [N,C,...], and what brings the result back to the operand's own order."""
    if not call.flag("channels_last"):
        return x, lambda y: y
    rank = x.type.rank
    return (call.transpose(x, (0, rank - 1, *range(1, rank - 1))),
            lambda y: call.transpose(y, (0, *range(2, rank), 1)))


@converter("QLinearGlobalAveragePool", domain=_DOMAIN)
def _global_average(call: Call) -> Value:
    x, back = _channels_first(call, call.input(0))
    zero, y_zero = _zero(call, 2), parameter(call, call.input(4), ())
    axes = tuple(range(2, x.type.rank))
    wide = call.map(lambda a, *z: _difference(a, z[0] if z else None), x, *_all(zero))
    count = number_of(call, x, axes)
    scale = scale_of(call, [_scalar(call, 1)], call.map(lambda s, n: apply("mul", convert(s, F64), n), _scalar(call, 3), count))
    return back(requantize(call, call.add(Reduce("sum", axes), wide), scale, y_zero, y_zero.type.dtype))


@converter("QLinearAveragePool", domain=_DOMAIN)
def _average(call: Call) -> Value:
    """Sums over windows are a depthwise convolution with ones; the scale has the number of elements in each."""
    x, back = _channels_first(call, call.input(0))
    x_zero, y_zero = known_zero(_zero(call, 2)), parameter(call, call.input(4), ())
    if x_zero is None:
        raise Unsupported("the zero point of a pool is not a constant")
    slide, rank, channels = window_of(call, x), x.type.rank - 2, _sizes(x, (1,))[0]
    pads, spatial = list(slide.pads), _sizes(x, range(2, x.type.rank))
    if call.flag("ceil_mode"):
        for axis, extent in enumerate(slide.extents):
            room = spatial[axis] + pads[axis] + pads[rank + axis] - extent
            missing = -room % slide.strides[axis]
            last = (room + missing) // slide.strides[axis] * slide.strides[axis]
            pads[rank + axis] += missing if last < spatial[axis] + pads[axis] else -(room % slide.strides[axis])
    call.reserve((channels, *slide.kernel), "the windows of the pool")
    call.reserve([max(p + q + size, 0) for p, q, size in zip(pads[:rank], pads[rank:], spatial, strict=True)], "the image with its padding")
    op = Conv(slide.strides, tuple(pads), slide.dilations, channels, x_zero=x_zero or None)
    total = call.add(op, x, call.constant(np.ones((channels, 1, *slide.kernel), np.int8)))
    counts = _window_counts(slide.pads if call.flag("count_include_pad") else (0,) * len(pads), tuple(pads), slide.kernel, op, spatial)
    scale = scale_of(call, [_scalar(call, 1)], call.map(lambda s, n: apply("mul", convert(s, F64), n), _scalar(call, 3),
                                                        call.constant(counts)))
    return back(requantize(call, total, scale, y_zero, y_zero.type.dtype))


def _window_counts(counted: tuple[int, ...], pads: tuple[int, ...], kernel: tuple[int, ...], op: Conv, spatial: tuple[int, ...]) -> Array:
    """How many elements each window [1,1,P...] has: those of the input, and of the padding `counted`."""
    rank = len(spatial)
    ones = np.pad(np.ones(spatial), [(counted[a], counted[rank + a]) for a in range(rank)], constant_values=1.0)
    # Along each axis by itself: the count of a window is a product.
    total = np.ones(())
    for axis in range(rank):
        row = np.zeros(spatial[axis] + pads[axis] + pads[rank + axis])
        start = pads[axis] - counted[axis]
        row[start:start + ones.shape[axis]] = 1.0
        extent = (kernel[axis] - 1) * op.dilations[axis] + 1
        starts = range(0, len(row) - extent + 1, op.strides[axis])
        along = np.array([row[s:s + extent:op.dilations[axis]].sum() for s in starts])
        total = np.multiply.outer(total, along)
    return np.maximum(total, 1.0).reshape(1, 1, *total.shape)


# -- functions of one operand -----------------------------------------------------------------


def _table(call: Call, function: Callable[[ScalarExpr], ScalarExpr]) -> Value:
    """round(function((x - x_zero) * x_scale) / y_scale) + y_zero, looked up."""
    x, zero, y_zero = call.input(0), known_zero(_zero(call, 2)), known_zero(_zero(call, 4))
    dtype = x.type.dtype
    if dtype not in (DType.I8, DType.U8) or zero is None or y_zero is None:
        raise Unsupported("a function of quantized numbers whose zero points are not constants, or not of 8 bits")
    x_scale, y_scale = (float(call.known(index, "a scale").reshape(-1)[0]) for index in (1, 3))
    least, most = dtype.limits
    codes = np.arange(least, most + 1).astype(dtype.numpy)
    real = apply("mul", convert(_difference(Arg(0, dtype), literal(zero, dtype)), F64), literal(x_scale, F64))
    steps = apply("div", function(real), literal(y_scale, F64))
    entries = evaluate(rounded(steps, literal(y_zero, dtype), dtype), [codes])
    index = call.map(lambda a: apply("sub", convert(a, I32), literal(int(least), I32)), x)
    return call.add(Gather(0), call.constant(entries), index)


@converter("QLinearSigmoid", domain=_DOMAIN)
def _sigmoid(call: Call) -> Value:
    return _table(call, lambda x: apply("sigmoid", x))


@converter("QLinearLeakyRelu", domain=_DOMAIN)
def _leaky(call: Call) -> Value:
    alpha = call.number("alpha", 0.01)
    return _table(call, lambda x: apply("select", apply("lt", x, literal(0.0, F64)), apply("mul", x, literal(alpha, F64)), x))


@converter("QLinearSoftmax", domain=_DOMAIN)
def _softmax(call: Call) -> Value:
    """e^(x_scale * (x - largest x)) as integers out of a table, over their sum; sums of integers do not depend on their order."""
    x, scale, y_scale = call.input(0), float(call.known(1, "x_scale").reshape(-1)[0]), _scalar(call, 3)
    y_zero = _zero(call, 4)
    rank = x.type.rank
    axis = call.axis(call.integer("axis", -1), rank)
    axes = (axis,) if call.integer("opset", 13) >= 13 else tuple(range(axis, rank))
    elements = upper_bound(math.prod((x.type.shape[a] for a in axes), start=cast("Dim", 1)))
    bits = 30 - max(0, (elements - 1).bit_length())
    if bits < 16:
        raise Unsupported(f"a softmax of {elements} quantized numbers", "use a float softmax")
    powers = np.rint(np.exp(-scale * np.arange(256, dtype=np.float64)) * 2.0**bits).astype(np.int32)
    wide = call.cast(x, I32)
    below = call.map(lambda a, m: apply("sub", m, a), wide, call.add(Reduce("max", axes, keepdims=True), wide))
    terms = call.add(Gather(0), call.constant(powers), below)
    total = call.add(Reduce("sum", axes, keepdims=True), terms)
    dtype = y_zero.type.dtype if y_zero is not None else x.type.dtype
    return call.map(lambda e, t, s, *z: rounded(apply("div", apply("div", convert(e, F32), convert(t, F32)), convert(s, F32)),
                                                z[0] if z else None, dtype), terms, total, y_scale, *_all(y_zero))


# -- products with float results --------------------------------------------------------------


def _to_float(call: Call, a: Value, a_zero: Value | None, scales: Sequence[Value], b_zero: Value | None, bias: Value | None) -> Value:
    """f32(sum of integer products) * scale (+ bias).

    A zero point of `a` that is computed is taken out of the sums: it counts once for each column of b.
    """
    b = call.input(1)
    late = a_zero is not None and known_zero(a_zero) is None and a_zero.type.elements == 1
    total = product(call, a, None if late else a_zero, b, b_zero)
    factor = scale_of(call, scales)
    if late and a_zero is not None:
        ones = call.constant(np.ones((1, _sizes(b, (-2,))[0]), np.int8))
        columns = product(call, ones, None, b, b_zero)
        total = call.map(lambda t, z, c: apply("sub", t, apply("mul", convert(z, I32), c)), total, parameter(call, a_zero, ()), columns)
    scaled = call.map(lambda t, s: apply("mul", convert(t, F32), s), total, factor)
    return scaled if bias is None else call.map(lambda p, q: apply("add", p, q), scaled, bias)


def _columns(call: Call, value: Value, b: Value) -> Value:
    """A scale of b: one, one for each column, or with the axes of b."""
    if value.type.rank > 1 and value.type.rank == b.type.rank:
        return value
    return parameter(call, value, _sizes(b, (-1,)))


@converter("DynamicQuantizeMatMul", domain=_DOMAIN)
def _dynamic_quantize_matmul(call: Call) -> Value:
    b = call.input(1)
    quantized, scale, zero = dynamically_quantized(call, call.input(0))
    return _to_float(call, quantized, zero, [scale, _columns(call, call.input(2), b)], call.optional(3), call.optional(4))


@converter("MatMulIntegerToFloat", domain=_DOMAIN)
def _matmul_integer_to_float(call: Call) -> Value:
    b = call.input(1)
    scales = [parameter(call, call.input(2), ()), _columns(call, call.input(3), b)]
    return _to_float(call, call.input(0), call.optional(4), scales, call.optional(5), call.optional(6))
