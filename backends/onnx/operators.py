"""How each operator of the Graph IR is written in ONNX: one rule an operator.

A rule gets the writer, the node and the names of its operands (None where one is absent), and returns the names of the
results. An operator without a rule cannot be written; `obstacle` tells why a node cannot.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from edgecc.backends.onnx.quantized import write_quantization
from edgecc.backends.onnx.scalar import missing_primitives, write_expression
from edgecc.backends.onnx.writer import Writer
from edgecc.ir.graph import Node, Value
from edgecc.ir.op import Op
from edgecc.ir.scalar import Arg, ScalarExpr, literal, substitute, used_args
from edgecc.ir.types import DType
from edgecc.ops.convolution import Conv, ConvTranspose, Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.elementwise_table import ELEMENTWISE
from edgecc.ops.indexing import Gather, GatherElements, GatherND, ScatterElements, ScatterND
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose
from edgecc.ops.recurrent import Recurrent
from edgecc.ops.reduction import ArgReduce, BatchNorm, CumSum, Normalize, Reduce, Softmax, TopK
from edgecc.ops.resize import Resize
from edgecc.ops.rules import NARROW_INTEGERS

Operands = Sequence[str | None]
Rule = Callable[[Writer, Any, Operands, Node], list[str]]
_RULES: dict[type[Op], Rule] = {}
RULES: Mapping[type[Op], Rule] = MappingProxyType(_RULES)
"""The rule of each operator."""


def _writes(op: type[Op]) -> Callable[[Rule], Rule]:
    def add(rule: Rule) -> Rule:
        _RULES[op] = rule
        return rule
    return add


def obstacle(node: Node) -> str | None:
    """Why a node cannot be written in ONNX; None where it can."""
    op = node.op
    if type(op) not in _RULES:
        return f"{op.name} has no form in ONNX"
    expr = op.expr if isinstance(op, Elementwise) else getattr(op, "epilogue", None)
    missing = () if expr is None else missing_primitives(expr)
    if missing:
        return f"{op.name} computes {', '.join(missing)}, which ONNX has no operator for"
    if isinstance(op, Conv | MatMul) and _sums_integers(node) and any(node.operand(i).type.dtype not in (DType.I8, DType.U8) for i in (0, 1)):
        return f"{op.name} sums products of {node.operand(0).type.dtype.value} and {node.operand(1).type.dtype.value}; ONNX does of 8 bits only"
    if isinstance(op, Recurrent) and node.inputs[1] is None:
        return "a recurrent layer whose input is multiplied already has no form in ONNX"
    return None


def write_node(writer: Writer, node: Node, operands: Operands) -> list[str]:
    """Adds what stands for one node; returns the names of its results."""
    return _RULES[type(node.op)](writer, node.op, operands, node)


# -- arithmetic -------------------------------------------------------------------------------


_PRELU = ELEMENTWISE["PRelu"].build((Arg(0, DType.F32), Arg(1, DType.F32)), {})


@_writes(Elementwise)
def _elementwise(writer: Writer, op: Elementwise, operands: Operands, node: Node) -> list[str]:
    quantization = write_quantization(writer, op, operands, node)
    if quantization is not None:
        return [quantization]
    expr = _with_literals(op.expr, node)
    if expr == _PRELU and _broadcasts(node.operand(1), node.operand(0)):
        return [writer.one("PRelu", *_present(operands))]
    result = write_expression(writer, expr, _present(operands))
    dims = node.output.type.dims
    read = [value.type.dims for index, value in enumerate(node.inputs) if value is not None and index in used_args(expr)]
    if np.broadcast_shapes(*read) != dims:
        # An operand that is not read still takes part in broadcasting.
        result = writer.one("Expand", result, writer.integers(dims, "shape"))
    return [result]


def _broadcasts(value: Value, other: Value) -> bool:
    """Whether a value takes the shape of another one by repeating elements, as ONNX demands of slopes."""
    dims, wanted = value.type.dims, other.type.dims
    return len(dims) <= len(wanted) and all(a in (1, b) for a, b in zip(reversed(dims), reversed(wanted), strict=False))


def _with_literals(expr: ScalarExpr, node: Node) -> ScalarExpr:
    """The expression with operands that are one known number as literals, by which activations are recognised."""
    known: list[ScalarExpr] = []
    for index, value in enumerate(node.inputs):
        data = None if value is None or value.type.dtype.is_stored_only else value.constant
        dtype = DType.F32 if value is None else value.type.dtype
        known.append(Arg(index, dtype) if data is None or data.size != 1 else literal(data.reshape(()).item(), dtype))
    return substitute(expr, known)


@_writes(Conv)
def _conv(writer: Writer, op: Conv, operands: Operands, node: Node) -> list[str]:
    window: dict[str, Any] = {"strides": op.strides, "pads": op.pads, "dilations": op.dilations, "group": op.group,
                              "kernel_shape": node.operand(1).type.dims[2:]}
    if _sums_integers(node):
        total = writer.one("ConvInteger", *operands[:2], _zero_point(writer, op.x_zero, node, 0), **window)
        bias = operands[2] if len(operands) > 2 else None
        if bias is not None:
            channels = writer.integers([1, node.operand(1).type.dims[0], *[1] * (node.output.type.rank - 2)], "shape")
            total = writer.one("Add", total, writer.one("Reshape", bias, channels))
        return [_epilogue(writer, op.epilogue, total, operands[3:])]
    return [_epilogue(writer, op.epilogue, writer.one("Conv", *operands[:3], **window), operands[3:])]


def _sums_integers(node: Node) -> bool:
    """Whether a product is of short integers, with sums of 32 bits."""
    return node.operand(0).type.dtype in NARROW_INTEGERS


def _zero_point(writer: Writer, zero: int | None, node: Node, operand: int) -> str | None:
    return None if not zero else writer.scalar(zero, node.operand(operand).type.dtype)


@_writes(ConvTranspose)
def _conv_transpose(writer: Writer, op: ConvTranspose, operands: Operands, node: Node) -> list[str]:
    more = {"output_padding": op.output_padding} if any(op.output_padding) else {}
    result = writer.one("ConvTranspose", *operands[:3], strides=op.strides, pads=op.pads, dilations=op.dilations, group=op.group,
                        kernel_shape=node.operand(1).type.dims[2:], **more)
    return [_epilogue(writer, op.epilogue, result, operands[3:])]


@_writes(MatMul)
def _matmul(writer: Writer, op: MatMul, operands: Operands, node: Node) -> list[str]:
    a, b, bias = (*operands[:3], None)[:3]
    ranks = [value.type.rank for value in node.inputs[:3] if value is not None]
    dtype = node.operand(0).type.dtype
    if dtype.is_float and ranks[:2] == [2, 2] and (bias is None or ranks[2] <= 2) and (bias is not None or op.transpose_a or op.transpose_b):
        result = writer.one("Gemm", a, b, bias, transA=int(op.transpose_a), transB=int(op.transpose_b))
    else:
        a = _last_axes_swapped(writer, a, ranks[0]) if op.transpose_a else a
        b = _last_axes_swapped(writer, b, ranks[1]) if op.transpose_b else b
        if _sums_integers(node):
            result = writer.one("MatMulInteger", a, b, _zero_point(writer, op.a_zero, node, 0), _zero_point(writer, op.b_zero, node, 1))
        else:
            result = writer.one("MatMul", a, b)
        result = result if bias is None else writer.one("Add", result, bias)
    return [_epilogue(writer, op.epilogue, result, operands[3:])]


def _last_axes_swapped(writer: Writer, name: str | None, rank: int) -> str:
    return writer.one("Transpose", name, perm=[*range(rank - 2), rank - 1, rank - 2])


def _epilogue(writer: Writer, expr: ScalarExpr | None, result: str, extra: Operands) -> str:
    return result if expr is None else write_expression(writer, expr, [result, *_present(extra)])


@_writes(Recurrent)
def _recurrent(writer: Writer, op: Recurrent, operands: Operands, node: Node) -> list[str]:
    # The default is left out, which older operator sets do not have.
    attributes: dict[str, Any] = {"hidden_size": op.hidden_size, "direction": op.direction} | ({"layout": op.layout} if op.layout else {})
    for name in ("activations", "activation_alpha", "activation_beta"):
        if getattr(op, name):
            attributes[name] = getattr(op, name)
    if op.clip:
        attributes["clip"] = op.clip
    if op.kind == "gru":
        attributes["linear_before_reset"] = int(op.linear_before_reset)
    if op.kind == "lstm":
        attributes["input_forget"] = int(op.input_forget)
    inputs = [*operands, *[None] * (8 - len(operands))]
    if op.kind != "lstm":
        inputs = inputs[:6]
    return writer.node(op.kind.upper(), inputs, attributes, results=len(node.outputs))


# -- windows and reductions -------------------------------------------------------------------


@_writes(Pool)
def _pool(writer: Writer, op: Pool, operands: Operands, node: Node) -> list[str]:
    attributes: dict[str, Any] = {"kernel_shape": op.kernel, "strides": op.strides, "pads": op.pads, "ceil_mode": int(op.ceil_mode)}
    if any(d != 1 for d in op.dilations):
        attributes["dilations"] = op.dilations
    if op.kind == "max":
        return [writer.one("MaxPool", operands[0], **attributes)]
    return [writer.one("AveragePool", operands[0], count_include_pad=int(op.count_include_pad), **attributes)]


_REDUCTIONS = {"sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin", "prod": "ReduceProd",
               "l1": "ReduceL1", "l2": "ReduceL2", "sum_square": "ReduceSumSquare"}


@_writes(Reduce)
def _reduce(writer: Writer, op: Reduce, operands: Operands, node: Node) -> list[str]:
    rank = node.operand(0).type.rank
    if op.kind == "wide_sum":
        wide = writer.one("Cast", operands[0], to=node.output.type.dtype.code)
        return [_reduced(writer, "ReduceSum", wide, op.axes, op.keepdims) if op.axes else wide]
    if op.kind == "mean" and rank >= 3 and op.keepdims and op.axes == tuple(range(2, rank)):
        return [writer.one("GlobalAveragePool", operands[0])]
    if not op.axes:
        # An empty list of axes means all of them in ONNX. Each element is then reduced by itself.
        single = {"l1": "Abs", "l2": "Abs"}.get(op.kind)
        if op.kind == "sum_square":
            return [writer.one("Mul", operands[0], operands[0])]
        return [writer.one(single or "Identity", operands[0])]
    return [_reduced(writer, _REDUCTIONS[op.kind], operands[0], op.axes, op.keepdims)]


def _reduced(writer: Writer, name: str, x: str | None, axes: Sequence[int], keepdims: bool) -> str:
    if name == "ReduceSum" or writer.opset >= 18:
        return writer.one(name, x, writer.integers(axes, "axes"), keepdims=int(keepdims))
    return writer.one(name, x, axes=axes, keepdims=int(keepdims))


@_writes(ArgReduce)
def _arg_reduce(writer: Writer, op: ArgReduce, operands: Operands, node: Node) -> list[str]:
    return [writer.one("ArgMax" if op.kind == "max" else "ArgMin", operands[0], axis=op.axis, keepdims=int(op.keepdims),
                       select_last_index=int(op.select_last))]


@_writes(Softmax)
def _softmax(writer: Writer, op: Softmax, operands: Operands, node: Node) -> list[str]:
    return [writer.one("LogSoftmax" if op.log else "Softmax", operands[0], axis=op.axis)]


@_writes(BatchNorm)
def _batch_norm(writer: Writer, op: BatchNorm, operands: Operands, node: Node) -> list[str]:
    return [writer.one("BatchNormalization", *operands, epsilon=op.epsilon)]


@_writes(Normalize)
def _normalize(writer: Writer, op: Normalize, operands: Operands, node: Node) -> list[str]:
    x, scale, bias = (*operands, None, None)[:3]
    value, inner = node.operand(0), tuple(node.operand(0).type.dims[axis] for axis in op.axes)
    fits = all(v is None or v.type.dims == inner for v in node.inputs[1:3])
    if not op.rms and fits:
        if scale is None:
            scale = writer.constant(np.ones(inner, value.type.dtype.numpy), "ones")
        return [writer.one("LayerNormalization", x, scale, bias, axis=op.axes[0], epsilon=op.epsilon)]
    if not op.rms:
        x = writer.one("Sub", x, _reduced(writer, "ReduceMean", x, op.axes, True))
    variance = _reduced(writer, "ReduceMean", writer.one("Mul", x, x), op.axes, True)
    spread = writer.one("Sqrt", writer.one("Add", variance, writer.scalar(op.epsilon, value.type.dtype)))
    result = writer.one("Div", x, spread)
    result = result if scale is None else writer.one("Mul", result, scale)
    return [result if bias is None else writer.one("Add", result, bias)]


@_writes(CumSum)
def _cum_sum(writer: Writer, op: CumSum, operands: Operands, node: Node) -> list[str]:
    axis = writer.constant(np.asarray(op.axis, np.int64), "axis")
    return [writer.one("CumSum", operands[0], axis, exclusive=int(op.exclusive), reverse=int(op.reverse))]


@_writes(TopK)
def _top_k(writer: Writer, op: TopK, operands: Operands, node: Node) -> list[str]:
    return writer.node("TopK", [operands[0], writer.integers([op.k], "k")], {"axis": op.axis, "largest": int(op.largest)}, results=2)


# -- movement ---------------------------------------------------------------------------------


@_writes(Transpose)
def _transpose(writer: Writer, op: Transpose, operands: Operands, node: Node) -> list[str]:
    return [writer.one("Transpose", operands[0], perm=op.perm)]


@_writes(Reshape)
def _reshape(writer: Writer, op: Reshape, operands: Operands, node: Node) -> list[str]:
    attributes = {"allowzero": 1} if 0 in op.shape else {}
    return [writer.one("Reshape", operands[0], writer.integers(op.shape, "shape"), **attributes)]


@_writes(Expand)
def _expand(writer: Writer, op: Expand, operands: Operands, node: Node) -> list[str]:
    return [writer.one("Expand", operands[0], writer.integers(op.shape, "shape"))]


@_writes(Concat)
def _concat(writer: Writer, op: Concat, operands: Operands, node: Node) -> list[str]:
    return [writer.one("Concat", *operands, axis=op.axis)]


@_writes(Slice)
def _slice(writer: Writer, op: Slice, operands: Operands, node: Node) -> list[str]:
    # The end of a slice that runs backwards to the first element lies in front of the axis: a large negative number.
    ends = [start + size * step if start + size * step >= 0 else -(2**31)
            for start, size, step in zip(op.starts, op.sizes, op.steps, strict=True)]
    axes = list(range(len(op.starts)))
    return [writer.one("Slice", operands[0], writer.integers(op.starts, "starts"), writer.integers(ends, "ends"),
                       writer.integers(axes, "axes"), writer.integers(op.steps, "steps"))]


@_writes(Pad)
def _pad(writer: Writer, op: Pad, operands: Operands, node: Node) -> list[str]:
    value = operands[1] if len(operands) > 1 else None
    return [writer.one("Pad", operands[0], writer.integers([*op.before, *op.after], "pads"), value, mode=op.mode)]


@_writes(Gather)
def _gather(writer: Writer, op: Gather, operands: Operands, node: Node) -> list[str]:
    return [writer.one("Gather", *operands, axis=op.axis)]


@_writes(GatherElements)
def _gather_elements(writer: Writer, op: GatherElements, operands: Operands, node: Node) -> list[str]:
    return [writer.one("GatherElements", *operands, axis=op.axis)]


@_writes(GatherND)
def _gather_nd(writer: Writer, op: GatherND, operands: Operands, node: Node) -> list[str]:
    return [writer.one("GatherND", *operands, batch_dims=op.batch_dims)]


@_writes(ScatterElements)
def _scatter_elements(writer: Writer, op: ScatterElements, operands: Operands, node: Node) -> list[str]:
    return [writer.one("ScatterElements", *operands, axis=op.axis, reduction=op.reduction)]


@_writes(ScatterND)
def _scatter_nd(writer: Writer, op: ScatterND, operands: Operands, node: Node) -> list[str]:
    return [writer.one("ScatterND", *operands, reduction=op.reduction)]


@_writes(Resize)
def _resize(writer: Writer, op: Resize, operands: Operands, node: Node) -> list[str]:
    dims = node.operand(0).type.dims
    attributes: dict[str, Any] = {
        "mode": op.mode, "coordinate_transformation_mode": op.coordinate_mode, "nearest_mode": op.nearest_mode,
        "cubic_coeff_a": op.cubic_coefficient, "exclude_outside": int(op.exclude_outside), "extrapolation_value": op.extrapolation_value}
    roi = writer.constant(np.asarray(op.roi, np.float32), "roi") if op.roi else None
    scales = np.asarray(op.scales, np.float32)
    spans = [end - begin for begin, end in zip(op.roi[:len(dims)], op.roi[len(dims):], strict=True)] or [1.0] * len(dims)
    if tuple(math.floor(float(scale) * size * span) for scale, size, span in zip(scales, dims, spans, strict=True)) == op.sizes:
        return [writer.one("Resize", operands[0], roi, writer.constant(scales, "scales"), **attributes)]
    return [writer.one("Resize", operands[0], roi, None, writer.integers(op.sizes, "sizes"), **attributes)]


def _present(operands: Operands) -> list[str]:
    return ["" if name is None else name for name in operands]
