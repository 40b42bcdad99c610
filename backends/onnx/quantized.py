"""Quantization as ONNX writes it: expressions that quantize and dequantize become QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from edgecc.backends.onnx.writer import OLDEST_OPSET, Writer
from edgecc.ir.graph import Graph, Node
from edgecc.ir.scalar import Arg, Literal
from edgecc.ir.types import Array, DType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.requantize import as_dequantized, as_quantized

FIRST_OPSET: Mapping[DType, int] = MappingProxyType({DType.I8: 17, DType.U8: 17, DType.I16: 21, DType.U16: 21})
"""Since which of the opsets that are written QuantizeLinear makes a type; DequantizeLinear takes i32 as well."""


def write_quantization(writer: Writer, op: Elementwise, operands: Sequence[str | None], node: Node) -> str | None:
    """Adds a QuantizeLinear or DequantizeLinear if the node is one; returns the name of its result, or None for any other node."""
    quantized = as_quantized(op.expr)
    if quantized is not None and isinstance(quantized.x, Arg) and _has(writer, quantized.dtype):
        return _write(writer, "QuantizeLinear", node, operands, quantized.x, quantized.scale, quantized.zero, quantized.dtype)
    dequantized = as_dequantized(op.expr)
    if dequantized is not None and (_has(writer, dequantized.q.dtype) or dequantized.q.dtype is DType.I32):
        return _write(writer, "DequantizeLinear", node, operands, dequantized.q, dequantized.scale, dequantized.zero, dequantized.q.dtype)
    return None


def opset_for(graph: Graph) -> int:
    """The oldest opset that is written whose QuantizeLinear makes every type that the graph quantizes to."""
    made = [as_quantized(node.op.expr) for node in graph.nodes if isinstance(node.op, Elementwise)]
    return max((FIRST_OPSET[each.dtype] for each in made if each is not None and each.dtype in FIRST_OPSET), default=OLDEST_OPSET)


def _has(writer: Writer, dtype: DType) -> bool:
    return dtype in FIRST_OPSET and FIRST_OPSET[dtype] <= writer.opset


def _write(writer: Writer, name: str, node: Node, operands: Sequence[str | None], x: Arg, scale: Arg | Literal, zero: Arg | Literal | None,
           dtype: DType) -> str | None:
    dims = node.operand(x.index).type.dims
    scales = _known(node, scale, DType.F32)
    zeros = np.zeros((), dtype.numpy) if zero is None else _known(node, zero, dtype)
    if scales is None or zeros is None or dims != node.output.type.dims or x.dtype is DType.F16:
        return None
    if scales.size == zeros.size == 1:
        return writer.one(name, operands[x.index], writer.constant(scales.reshape(()), "scale"), writer.constant(zeros.reshape(()), "zero"))
    padded = np.broadcast_shapes((1,) * len(dims), scales.shape, zeros.shape)
    axes = [axis for axis, size in enumerate(padded) if size != 1]
    if len(padded) != len(dims) or len(axes) != 1:
        return None
    each = [np.broadcast_to(array, padded).reshape(-1) for array in (scales, zeros)]
    return writer.one(name, operands[x.index], writer.constant(each[0], "scale"), writer.constant(each[1], "zero"), axis=axes[0])


def _known(node: Node, parameter: Arg | Literal, dtype: DType) -> Array | None:
    """The numbers of a parameter, if they are known and of that type or fit it."""
    found = np.asarray(parameter.value) if isinstance(parameter, Literal) else node.operand(parameter.index).constant
    if found is None:
        return None
    held = found.astype(dtype.numpy)
    return held if np.array_equal(held.astype(np.float64), found.astype(np.float64)) else None
