"""Quantize and dequantize nodes in their literal meaning: float arithmetic and conversions."""

from __future__ import annotations

import math

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.registry import Unsupported, converter
from edgecc.frontend.tensors import element_type
from edgecc.ir.graph import Value
from edgecc.ir.scalar import apply, convert
from edgecc.ir.types import DType

_STORED = frozenset({DType.I8, DType.U8, DType.I16, DType.U16})


def _spread(call: Call, parameter: Value, x: Value) -> Value:
    """A scale or zero point shaped to broadcast to `x`: one for all, one per entry of an axis, or one per block."""
    if parameter.type.elements == 1 and parameter.type.rank <= 1:
        return call.reshape(parameter, ())
    axis = call.axis(call.integer("axis", 1), x.type.rank)
    size, block = x.type.dims[axis], call.integer("block_size", 0)
    if block > 0:
        dims = parameter.type.dims
        if len(dims) != x.type.rank or dims[axis] != math.ceil(size / block):
            raise EdgeccError("E110", f"a parameter is {parameter.type}; blocks of {block} along axis {axis} of {x.type} differ")
        columns = call.reshape(parameter, (*dims[:axis + 1], 1, *dims[axis + 1:]))
        repeated = call.expand(columns, (*dims[:axis + 1], block, *dims[axis + 1:]))
        joined = call.reshape(repeated, (*dims[:axis], dims[axis] * block, *dims[axis + 1:]))
        return call.slice(joined, axis, 0, size)
    if parameter.type.dims != (size,):
        raise EdgeccError("E110", f"a parameter is {parameter.type}; axis {axis} of {x.type} has {size} elements")
    return call.reshape(parameter, [size if a == axis else 1 for a in range(x.type.rank)])


@converter("QuantizeLinear", since=10)
@converter("QuantizeLinear", domain="com.microsoft")
def _quantize(call: Call) -> Value:
    """saturate(round half to even(x / scale) + zero point)."""
    x, scale, zero = call.input(0), call.input(1), call.optional(2)
    code = call.integer("output_dtype", 0)
    dtype = zero.type.dtype if zero is not None else element_type(code, "the result") if code else DType.U8
    if dtype not in _STORED:
        raise Unsupported(f"quantization to {dtype.value}", "use 8 or 16 bit integers")
    scale = call.cast(scale, x.type.dtype)
    if zero is None:
        return call.map(lambda a, s: convert(apply("round", apply("div", a, s)), dtype), x, _spread(call, scale, x))
    return call.map(
        lambda a, s, z: convert(apply("add", apply("round", apply("div", a, s)), convert(z, a.dtype)), dtype),
        x, _spread(call, scale, x), _spread(call, zero, x))


@converter("DequantizeLinear", since=10)
@converter("DequantizeLinear", domain="com.microsoft")
def _dequantize(call: Call) -> Value:
    """(x - zero point) * scale, the difference in 32-bit integers."""
    x, scale, zero = call.input(0), call.input(1), call.optional(2)
    if x.type.dtype not in _STORED and x.type.dtype is not DType.I32:
        raise Unsupported(f"dequantization from {x.type.dtype.value}", "use 8, 16 or 32 bit integers")
    kind = scale.type.dtype
    if zero is None or (zero.constant is not None and not zero.constant.any()):
        return call.map(lambda a, s: apply("mul", convert(a, kind), s), x, _spread(call, scale, x))
    return call.map(
        lambda a, s, z: apply("mul", convert(apply("sub", convert(a, DType.I32), convert(z, DType.I32)), kind), s),
        x, _spread(call, scale, x), _spread(call, zero, x))
