"""What the quantizing and dequantizing nodes of a graph say about its values, in TFLite's terms.

TFLite computes on int8. Unsigned integers of ONNX models are the same numbers moved by 128, zero points included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from edgecc.backends.tflite.schema import Quantization
from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Arg, Literal
from edgecc.ir.types import Array, DType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.requantize import as_dequantized, as_quantized

T = TypeVar("T")

SHIFT = {DType.I8: 0, DType.U8: 128}
"""What is subtracted from integers of a type to make them int8."""


@dataclass(frozen=True)
class Codes:
    """A constant in integers: `array` is of int8 or int32, and `scales` one number or one for each index of `axis`."""

    array: Array
    scales: Array
    axis: int


def quantization_of(node: Node) -> Quantization | None:
    """What a node that quantizes its operand makes; None for every other node, and for other types than 8 bits."""
    if not isinstance(node.op, Elementwise) or len(node.outputs) != 1:
        return None
    parts = as_quantized(node.op.expr)
    if parts is None or parts.x != Arg(0, DType.F32) or parts.dtype not in SHIFT:
        return None
    return _per_tensor(node, parts.scale, parts.zero, parts.dtype)


def dequantization_of(node: Node) -> Quantization | None:
    """What a node that dequantizes a computed operand reads it as; None for every other node."""
    if not isinstance(node.op, Elementwise):
        return None
    parts = as_dequantized(node.op.expr)
    if parts is None or parts.q.index != 0 or parts.q.dtype not in SHIFT or node.operand(0).constant is not None:
        return None
    return _per_tensor(node, parts.scale, parts.zero, parts.q.dtype)


def present(part: T | None) -> T:
    """What has to be there. Raises: EdgeccError E900 where it is not."""
    if part is None:
        raise EdgeccError("E900", "a part of a quantized value is missing")
    return part


def constant_codes(value: Value) -> Codes | None:
    """The integers behind a dequantized constant; None where it is none, or one whose zero point is not 0."""
    node = value.producer
    if node is None or not isinstance(node.op, Elementwise):
        return None
    parts = as_dequantized(node.op.expr)
    q = None if parts is None else node.operand(parts.q.index).constant
    if parts is None or q is None or parts.q.dtype not in (*SHIFT, DType.I32):
        return None
    scale, zero = _array(node, parts.scale), 0 if parts.zero is None else _array(node, parts.zero)
    shift = SHIFT.get(parts.q.dtype, 0)
    if scale is None or zero is None or np.any(zero != shift):
        return None
    codes = q if shift == 0 else (q.astype(np.int16) - shift).astype(np.int8)
    axes = [axis for axis, size in enumerate(scale.shape) if size != 1]
    if len(axes) > 1:
        return None
    return Codes(codes, scale.reshape(-1), codes.ndim - scale.ndim + axes[0] if axes else 0)


def is_constant(value: Value) -> bool:
    """Whether a value is known while compiling, possibly as dequantized integers."""
    return value.constant is not None or constant_codes(value) is not None


def constant_floats(value: Value) -> Array:
    """The numbers of a value for which `is_constant` holds."""
    if value.constant is not None:
        return value.constant
    node = present(value.producer)
    (result,) = node.op.reference([None if operand is None else operand.constant for operand in node.inputs])
    return result


def quantizers(graph: Graph, value: Value) -> tuple[list[Node], Quantization] | None:
    """The nodes that read a value, if all of them quantize it alike and the graph does not return it."""
    readers = list(value.users)
    found = {quantization_of(reader) for reader in readers}
    (quantization,) = found if len(found) == 1 else (None,)
    return None if quantization is None or graph.is_output(value) else (readers, quantization)


def dequantizers(value: Value) -> Quantization | None:
    """The quantization of integers that the caller gives, if every node that reads them dequantizes them alike."""
    found = {dequantization_of(reader) for reader in value.users}
    return next(iter(found)) if value.type.dtype in SHIFT and len(found) == 1 else None


def _per_tensor(node: Node, scale: Arg | Literal, zero: Arg | Literal | None, dtype: DType) -> Quantization | None:
    scales, zeros = _array(node, scale), np.zeros(1) if zero is None else _array(node, zero)
    if scales is None or zeros is None or scales.size != 1 or zeros.size != 1:
        return None
    return Quantization((float(scales.reshape(())),), int(zeros.reshape(())) - SHIFT[dtype])


def _array(node: Node, parameter: Arg | Literal) -> Array | None:
    """A parameter's numbers, where they are known."""
    if isinstance(parameter, Literal):
        return np.asarray([parameter.value], parameter.dtype.numpy)
    return node.operand(parameter.index).constant
