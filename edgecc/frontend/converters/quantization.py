"""Quantize and dequantize nodes in their literal meaning: float arithmetic and conversions."""

from __future__ import annotations

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.items import Item
from edgecc.frontend.registry import Unsupported, converter
from edgecc.frontend.tensors import element_type
from edgecc.ir.graph import Value
from edgecc.ir.scalar import ScalarExpr, apply, convert, literal
from edgecc.ir.types import DType
from edgecc.ops.casts import cast_expression
from edgecc.ops.reduction import Reduce
from edgecc.ops.requantize import dequantized, quantized, quotient

_STORED = frozenset({
    DType.I8, DType.U8, DType.I16, DType.U16, DType.I4, DType.U4, DType.I2, DType.U2, DType.F4E2M1, DType.F8E4M3FN,
    DType.F8E4M3FNUZ, DType.F8E5M2, DType.F8E5M2FNUZ,
})
"""Types that quantized values have."""


def _spread(call: Call, parameter: Value, x: Value) -> Value:
    """A scale or zero point shaped to broadcast to `x`: one for all, one per entry of an axis, or one per block."""
    if parameter.type.elements == 1 and parameter.type.rank <= 1:
        return call.reshape(parameter, ())
    axis = call.axis(call.integer("axis", 1), x.type.rank)
    size, block = x.type.shape[axis], call.integer("block_size", 0)
    if block > 0:
        dims = parameter.type.dims
        if len(dims) != x.type.rank or dims[axis] != -(-size // block):
            raise EdgeccError("E110", f"a parameter is {parameter.type}; blocks of {block} along axis {axis} of {x.type} differ")
        columns = call.reshape(parameter, (*dims[:axis + 1], 1, *dims[axis + 1:]))
        repeated = call.expand(columns, (*dims[:axis + 1], block, *dims[axis + 1:]))
        joined = call.reshape(repeated, (*dims[:axis], dims[axis] * block, *dims[axis + 1:]))
        return call.slice(joined, axis, 0, size)
    if parameter.type.shape != (size,):
        raise EdgeccError("E110", f"a parameter is {parameter.type}; axis {axis} of {x.type} has {size} elements")
    return call.reshape(parameter, [size if a == axis else 1 for a in range(x.type.rank)])


@converter("QuantizeLinear", since=10)
@converter("QuantizeLinear", domain="com.microsoft")
def _quantize(call: Call) -> Value:
    """saturate(round half to even(x / scale) + zero point); for short floats the conversion rounds."""
    x, scale, zero = call.input(0), call.input(1), call.optional(2)
    code = call.integer("output_dtype", 0)
    dtype = zero.type.dtype if zero is not None else element_type(code, "the result") if code else DType.U8
    if dtype not in _STORED:
        raise Unsupported(f"quantization to {dtype.value}", "use integers of up to 16 bits, or floats of 8 or 4")
    precision = call.integer("precision", 0)
    kind = element_type(precision, "the quotient") if precision else scale.type.dtype
    saturate = call.flag("saturate", True)
    if zero is not None and zero.constant is not None and not zero.constant.astype(np.float64).any():
        zero = None

    def quantize(a: ScalarExpr, s: ScalarExpr, *z: ScalarExpr) -> ScalarExpr:
        point = z[0] if z else None
        if not dtype.is_float:
            return quantized(a, s, point, dtype, kind)
        steps = quotient(a, s, kind)
        return cast_expression(steps if point is None else apply("add", steps, convert(point, steps.dtype)), dtype, saturate=saturate)

    parameters = [_spread(call, v, x) for v in (scale, zero) if v is not None]
    return call.map(quantize, x, *parameters)


@converter("DequantizeLinear", since=10)
@converter("DequantizeLinear", domain="com.microsoft")
def _dequantize(call: Call) -> Value:
    """(x - zero point) * scale, the difference of integers in 32 bits.

    That of constants is not computed here: passes that make integer operators look for the integers.
    """
    x, scale, zero = call.input(0), call.input(1), call.optional(2)
    source = x.type.dtype
    if source not in _STORED and source not in (DType.I32, DType.U32):
        raise Unsupported(f"dequantization from {source.value}", "use integers of up to 32 bits, or floats of 8 or 4")
    code = call.integer("output_dtype", 0)
    kind = element_type(code, "the result") if code else scale.type.dtype
    if zero is not None and zero.constant is not None and not zero.constant.astype(np.float64).any():
        zero = None

    def dequantize(a: ScalarExpr, s: ScalarExpr, *z: ScalarExpr) -> ScalarExpr:
        return dequantized(a, s, z[0] if z else None, kind)

    return call.map(dequantize, x, *(_spread(call, v, x) for v in (scale, zero) if v is not None),
                    fold=source.is_float or kind is not DType.F32)


def dynamically_quantized(call: Call, x: Value) -> tuple[Value, Value, Value]:
    """(y, scale, zero point) of ONNX DynamicQuantizeLinear-11: the range of x and zero onto 0..255 of u8.

    The scale is computed in f64 and rounded once, so that it has the same bits everywhere. That of zeros alone is 1, as in onnxruntime, where
    the formula of ONNX divides by zero.
    """
    axes, zero = tuple(range(x.type.rank)), call.scalar(0.0, x.type.dtype)
    low, high = (call.map(lambda a, z, op=kind: apply(op, a, z), call.add(Reduce(kind, axes, keepdims=False), x), zero) for kind in ("min", "max"))
    kind = x.type.dtype

    def scale_of(a: ScalarExpr, b: ScalarExpr) -> ScalarExpr:
        extent = apply("sub", convert(b, DType.F64), convert(a, DType.F64))
        step = convert(apply("div", extent, literal(255.0, DType.F64)), kind)
        return apply("select", apply("eq", a, b), literal(1.0, kind), step)

    scale = call.map(scale_of, low, high)
    point = call.map(lambda a, s: convert(apply("round", apply("min", apply("max", apply("neg", apply("div", a, s)), literal(0.0, kind)),
                                                               literal(255.0, kind))), DType.U8), low, scale)
    y = call.map(lambda a, s, z: convert(apply("add", apply("round", apply("div", a, s)), convert(z, kind)), DType.U8), x, scale, point)
    return y, scale, point


@converter("DynamicQuantizeLinear", since=11)
def _dynamic_quantize(call: Call) -> list[Item | None]:
    return list(dynamically_quantized(call, call.input()))
