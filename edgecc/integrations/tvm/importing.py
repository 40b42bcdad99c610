"""Functions of Relax as graphs: one converter an operator.

Tensors have shapes of numbers, and convolutions and pools the channels first, as Relax has them by default.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from edgecc.backends.tvm.emitter import TYPES
from edgecc.backends.tvm.scalar import OPERATORS
from edgecc.errors import EdgeccError, printable
from edgecc.ir.graph import Graph, Value
from edgecc.ir.op import Op
from edgecc.ir.scalar import Arg, ScalarExpr, apply, convert, literal
from edgecc.ir.types import DType, TensorType
from edgecc.ops.convolution import Conv, ConvTranspose, Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose
from edgecc.ops.reduction import Normalize, Reduce, Softmax
from edgecc.ops.requantize import dequantized, quantized

_TYPES: Mapping[str, DType] = MappingProxyType({str(dtype.numpy): dtype for dtype in TYPES})

Operand = Any
"""A `Value`, a tuple of operands, or an expression of Relax that is no tensor, such as a shape."""

Converter = Callable[[Graph, Any, Sequence[Operand]], Value]


def unsupported(what: str) -> EdgeccError:
    """The error for what edgecc is not given."""
    return EdgeccError("E102", what, where="Relax")


def tensor_type(ty: Any) -> TensorType:
    """The type of a tensor. Raises: EdgeccError E102 where its shape is not known, or it has numbers that edgecc lacks."""
    name, shape = str(getattr(ty, "dtype", "")), getattr(ty, "shape", None)
    if name not in _TYPES or shape is None:
        raise unsupported(f"{printable(str(ty))} is no tensor of known shape")
    try:
        return TensorType(_TYPES[name], tuple(int(dim) for dim in shape))
    except TypeError:
        raise unsupported(f"the shape of {printable(str(ty))} is not made of numbers") from None


def import_function(function: Any, name: str) -> Graph:
    """A function of Relax, functions inside of it included, as a graph.

    Args:
        function: a `relax.Function` whose parameters are tensors and whose result is one, or a tuple of some.
        name: of the graph. Its inputs are called in0, in1, ..., its outputs out0, out1, ...
    Raises: EdgeccError E102 for what cannot be converted, E110 where shapes do not fit.
    """
    graph = Graph(name)
    inputs = [graph.add_input(tensor_type(parameter.ty), f"in{index}") for index, parameter in enumerate(function.params)]
    result = _Importer(graph).call(function, inputs)
    outputs = list(result) if isinstance(result, tuple) else [result]
    graph.set_outputs(outputs, [f"out{index}" for index in range(len(outputs))])
    return graph


def obstacle(call: Any) -> str | None:
    """Why edgecc cannot take one call of an operator; None where it can."""
    graph = Graph("call")
    relax = importlib.import_module("tvm.relax")

    def operand(expr: Any) -> Operand:
        if isinstance(expr, relax.Tuple):
            return tuple(operand(field) for field in expr.fields)
        return graph.add_input(tensor_type(expr.ty), "x") if isinstance(getattr(expr, "ty", None), relax.TensorType) else expr

    try:
        convert_call(graph, call, [operand(expr) for expr in call.args])
    except EdgeccError as error:
        return error.message
    return None


def convert_call(graph: Graph, call: Any, operands: Sequence[Operand]) -> Value:
    """Adds what stands for a call of an operator. Raises: EdgeccError E102, E110."""
    name = str(getattr(call.op, "name", call.op))
    converter = CONVERTERS.get(name)
    if converter is None:
        raise unsupported(f"{printable(name)} is not known")
    wanted, result = tensor_type(call.ty), converter(graph, call, operands)
    if result.type != wanted:
        raise unsupported(f"{name} gives {result.type}, Relax wants {wanted}")
    return result


class _Importer:
    """Follows the bindings of functions."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.relax = graph, importlib.import_module("tvm.relax")

    def call(self, function: Any, operands: Sequence[Operand]) -> Operand:
        """The result of a function for operands."""
        known: dict[Any, Any] = dict(zip(function.params, operands, strict=True))
        for block in function.body.blocks:
            for binding in block.bindings:
                known[binding.var] = self.value(binding.value, known)
        return self.value(function.body.body, known)

    def value(self, expr: Any, known: Mapping[Any, Any]) -> Operand:
        """What stands for an expression."""
        relax = self.relax
        if expr in known:
            return known[expr]
        if isinstance(expr, relax.Function):
            return expr
        if isinstance(expr, relax.Tuple):
            return tuple(self.value(field, known) for field in expr.fields)
        if isinstance(expr, relax.TupleGetItem):
            return self.value(expr.tuple_value, known)[expr.index]
        if isinstance(expr, relax.Call):
            operands = [self.value(arg, known) for arg in expr.args]
            function = known.get(expr.op)
            return convert_call(self.graph, expr, operands) if function is None else self.call(function, operands)
        data: Any = getattr(expr, "value", None)
        if data is not None and hasattr(data, "numpy"):
            return self.graph.constant(np.array(data.numpy()))
        return expr


# -- converters ---------------------------------------------------------------------------------


def _add(graph: Graph, op: Op, *operands: Value | None) -> Value:
    return graph.add(op, *operands, loc=[op.name])


def _elementwise(graph: Graph, expr: ScalarExpr, *operands: Value) -> Value:
    return _add(graph, Elementwise(expr), *operands)


def _arguments(operands: Sequence[Value]) -> list[ScalarExpr]:
    return [Arg(index, value.type.dtype) for index, value in enumerate(operands)]


def _primitive(name: str) -> Converter:
    return lambda graph, call, operands: _elementwise(graph, apply(name, *_arguments(operands)), *operands)


def _function(build: Callable[[ScalarExpr, Any], ScalarExpr]) -> Converter:
    """An operator of one tensor whose elements are a function of its elements."""
    return lambda graph, call, operands: _elementwise(graph, build(Arg(0, operands[0].type.dtype), call), operands[0])


def _relu(x: ScalarExpr, call: Any) -> ScalarExpr:
    return apply("max", x, literal(0, x.dtype))


def _limited(x: ScalarExpr, low: Any, high: Any) -> ScalarExpr:
    return apply("min", apply("max", x, literal(_number(low), x.dtype)), literal(_number(high), x.dtype))


def _number(expr: Any) -> float | int:
    value = getattr(expr, "value", expr)
    if not isinstance(value, int | float):
        raise unsupported(f"{printable(str(expr))} is no number")
    return value


def _leaky(x: ScalarExpr, call: Any) -> ScalarExpr:
    slope = literal(float(call.attrs.alpha), x.dtype)
    return apply("select", apply("lt", x, literal(0, x.dtype)), apply("mul", x, slope), x)


def _gelu(x: ScalarExpr, call: Any) -> ScalarExpr:
    def times(factor: float, value: ScalarExpr) -> ScalarExpr:
        return apply("mul", literal(factor, x.dtype), value)

    if str(call.op.name).endswith("_tanh"):
        cube = apply("mul", times(0.044715, x), apply("mul", x, x))
        inner = apply("tanh", times(math.sqrt(2.0 / math.pi), apply("add", x, cube)))
    else:
        inner = apply("erf", times(math.sqrt(0.5), x))
    return apply("mul", times(0.5, x), apply("add", literal(1.0, x.dtype), inner))


def _ints(values: Any) -> tuple[int, ...]:
    return tuple(int(getattr(value, "value", value)) for value in values)


def _channels_first(attrs: Any, *layouts: str) -> None:
    for name in layouts:
        if str(getattr(attrs, name)).strip("0123456789") not in ("NCW", "NCHW", "NCDHW", "OIW", "OIHW", "OIDHW", "IOW", "IOHW", "IODHW"):
            raise unsupported(f"{name} {getattr(attrs, name)} has not the channels first")


def _conv(graph: Graph, call: Any, operands: Sequence[Operand]) -> Value:
    attrs, (x, w) = call.attrs, operands
    _channels_first(attrs, "data_layout", "kernel_layout", "out_layout")
    return _add(graph, Conv(_ints(attrs.strides), _ints(attrs.padding), _ints(attrs.dilation), int(attrs.groups)), x, w)


def _conv_transpose(graph: Graph, call: Any, operands: Sequence[Operand]) -> Value:
    attrs, (x, w) = call.attrs, operands
    _channels_first(attrs, "data_layout", "kernel_layout", "out_layout")
    op = ConvTranspose(_ints(attrs.strides), _ints(attrs.padding), _ints(attrs.dilation), int(attrs.groups), _ints(attrs.output_padding))
    return _add(graph, op, x, w)


def _pool(kind: str) -> Converter:
    def converter(graph: Graph, call: Any, operands: Sequence[Operand]) -> Value:
        attrs = call.attrs
        _channels_first(attrs, "layout", "out_layout")
        op = Pool(kind, _ints(attrs.pool_size), _ints(attrs.strides), _ints(attrs.padding), _ints(attrs.dilation),
                  bool(attrs.count_include_pad) and kind == "average", bool(attrs.ceil_mode))
        return _add(graph, op, operands[0])
    return converter


def _matmul(graph: Graph, call: Any, operands: Sequence[Operand]) -> Value:
    return _add(graph, MatMul(), *operands)


def _reduce(kind: str) -> Converter:
    def converter(graph: Graph, call: Any, operands: Sequence[Operand]) -> Value:
        rank, axes = operands[0].type.rank, call.attrs.axis
        chosen = tuple(range(rank)) if axes is None else tuple(sorted(axis % rank for axis in _ints(axes)))
        return _add(graph, Reduce(kind, chosen, bool(call.attrs.keepdims)), operands[0])
    return converter


def _softmax(graph: Graph, call: Any, operands: Sequence[Operand]) -> Value:
    op = Softmax(int(call.attrs.axis) % operands[0].type.rank, log=str(call.op.name).endswith("log_softmax"))
    return _add(graph, op, operands[0])


def _layer_norm(graph: Graph, call: Any, operands: Sequence[Operand]) -> Value:
    x, scale, bias = operands
    axes = tuple(sorted(axis % x.type.rank for axis in _ints(call.attrs.axes)))
    if not (call.attrs.center and call.attrs.scale and axes == tuple(range(x.type.rank - len(axes), x.type.rank))):
        raise unsupported("a normalization over other axes than the last ones, or without its scale or bias, is not known")
    return _add(graph, Normalize(axes, float(call.attrs.epsilon)), x, scale, bias)


def _reshape(graph: Graph, call: Any, operands: Sequence[Operand]) -> Value:
    return _add(graph, Reshape(tensor_type(call.ty).shape), operands[0])


def _permute(graph: Graph, call: Any, operands: Sequence[Operand]) -> Value:
    rank, axes = operands[0].type.rank, call.attrs.axes
    perm = tuple(reversed(range(rank))) if axes is None else tuple(axis % rank for axis in _ints(axes))
    return _add(graph, Transpose(perm), operands[0])


def _concat(graph: Graph, call: Any, operands: Sequence[Operand]) -> Value:
    values = operands[0] if isinstance(operands[0], tuple) else tuple(operands)
    return _add(graph, Concat(int(call.attrs.axis) % values[0].type.rank), *values)


def _broadcast(graph: Graph, call: Any, operands: Sequence[Operand]) -> Value:
    return _add(graph, Expand(tensor_type(call.ty).shape), operands[0])


def _pad(graph: Graph, call: Any, operands: Sequence[Operand]) -> Value:
    widths, mode = _ints(call.attrs.pad_width), {"constant": "constant", "reflect": "reflect", "replicate": "edge"}.get(call.attrs.pad_mode)
    if mode is None:
        raise unsupported(f"padding of mode {printable(str(call.attrs.pad_mode))} is not known")
    x = operands[0]
    value = graph.constant(np.asarray(_number(call.attrs.pad_value)).astype(x.type.dtype.numpy)) if mode == "constant" else None
    return _add(graph, Pad(widths[::2], widths[1::2], mode), x, *([] if value is None else [value]))


def _slice(graph: Graph, call: Any, operands: Sequence[Operand]) -> Value:
    x = operands[0]
    dims = [int(dim) for dim in x.type.dims]
    starts, steps = [0] * len(dims), [1] * len(dims)
    fields = [_ints(operand) for operand in call.args[1:]]
    strides = fields[3] if len(fields) > 3 else (1,) * len(fields[0])
    for axis, begin, step in zip(fields[0], fields[1], strides, strict=True):
        if step < 1:
            raise unsupported("a slice that runs backwards is not known")
        starts[axis], steps[axis] = min(begin + dims[axis] if begin < 0 else begin, dims[axis]), step
    return _add(graph, Slice(tuple(starts), tensor_type(call.ty).shape, tuple(steps)), x)


def _spread(graph: Graph, call: Any, parameter: Value, x: Value) -> Value:
    """A scale or zero point shaped to broadcast to `x`: one for all, or one per entry of an axis."""
    dims: tuple[int, ...] = ()
    if parameter.type.elements != 1:
        axis = int(call.attrs.axis) % x.type.rank
        dims = tuple(parameter.type.elements if a == axis else 1 for a in range(x.type.rank))
    if parameter.constant is not None:
        return graph.constant(parameter.constant.reshape(dims))
    return _add(graph, Reshape(dims), parameter)


def _quantize(graph: Graph, call: Any, operands: Sequence[Operand]) -> Value:
    """As ONNX has it: half to even, and saturated. Passes make integer operators of what lies between."""
    x, scale, zero = operands
    dtype = tensor_type(call.ty).dtype
    if dtype.is_float or dtype.size > 2 or scale.type.dtype is not DType.F32:
        raise unsupported(f"quantization to {dtype.value} by a scale of {scale.type.dtype.value} is not known")
    a, s, z = _arguments([x, scale, zero])
    return _elementwise(graph, quantized(a, s, z, dtype, DType.F32), x, _spread(graph, call, scale, x), _spread(graph, call, zero, x))


def _dequantize(graph: Graph, call: Any, operands: Sequence[Operand]) -> Value:
    x, scale, zero = operands
    dtype = tensor_type(call.ty).dtype
    if x.type.dtype.is_float or x.type.dtype.size > 4 or dtype is not DType.F32:
        raise unsupported(f"dequantization from {x.type.dtype.value} to {dtype.value} is not known")
    a, s, z = _arguments([x, scale, zero])
    if zero.constant is not None and not zero.constant.any():
        return _elementwise(graph, dequantized(a, s, None, dtype), x, _spread(graph, call, scale, x))
    return _elementwise(graph, dequantized(a, s, z, dtype), x, _spread(graph, call, scale, x), _spread(graph, call, zero, x))


CONVERTERS: Mapping[str, Converter] = MappingProxyType({
    **{f"relax.{name}": _primitive(primitive) for primitive, name in OPERATORS.items()},
    "relax.divide": _primitive("div"),
    "relax.nn.relu": _function(_relu),
    "relax.clip": _function(lambda x, call: _limited(x, call.args[1], call.args[2])),
    "relax.nn.leakyrelu": _function(_leaky),
    "relax.nn.silu": _function(lambda x, call: apply("mul", x, apply("sigmoid", x))),
    "relax.nn.gelu": _function(_gelu), "relax.nn.gelu_tanh": _function(_gelu), "relax.nn.layer_norm": _layer_norm,
    "relax.square": _function(lambda x, call: apply("mul", x, x)),
    "relax.astype": _function(lambda x, call: convert(x, tensor_type(call.ty).dtype)),
    **{f"relax.nn.conv{rank}d": _conv for rank in (1, 2, 3)},
    **{f"relax.nn.conv{rank}d_transpose": _conv_transpose for rank in (1, 2, 3)},
    **{f"relax.nn.max_pool{rank}d": _pool("max") for rank in (1, 2, 3)},
    **{f"relax.nn.avg_pool{rank}d": _pool("average") for rank in (1, 2, 3)},
    "relax.matmul": _matmul,
    **{f"relax.{kind}": _reduce(kind) for kind in ("sum", "mean", "max", "min", "prod")},
    "relax.nn.softmax": _softmax, "relax.nn.log_softmax": _softmax,
    "relax.reshape": _reshape, "relax.expand_dims": _reshape, "relax.squeeze": _reshape, "relax.flatten": _reshape,
    "relax.nn.batch_flatten": _reshape,
    "relax.permute_dims": _permute, "relax.concat": _concat, "relax.broadcast_to": _broadcast, "relax.nn.pad": _pad,
    "relax.strided_slice": _slice, "relax.quantize": _quantize, "relax.dequantize": _dequantize,
})
"""The converter of each operator."""
