"""What the quantizing and dequantizing nodes of a graph say about its values, in TFLite's terms.

TFLite computes on int8. Unsigned integers of ONNX models are the same numbers moved by 128, zero points included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from edgecc.backends.tflite.recorder import Quantization
from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.types import Array, DType
from edgecc.passes.scaled import Rounding, Scaled, rounding, scaled

T = TypeVar("T")

SHIFT = {DType.I8: 0, DType.U8: 128}
"""What is subtracted from integers of a type to make them int8."""


@dataclass(frozen=True)
class Codes:
    """A constant in integers: `array` is of int8 or int32, and `scales` one number or one for each index of `axis`; `zero` stands for 0."""

    array: Array
    scales: Array
    axis: int
    zero: int = 0


def quantization_of(node: Node) -> Quantization | None:
    """What a node that quantizes its operand makes; None for every other node, and for other types than 8 bits."""
    form = rounding(node)
    if form is None or form.operand.type.dtype is not DType.F32 or form.dtype not in SHIFT:
        return None
    return _per_tensor(form)


def dequantization_of(node: Node) -> Quantization | None:
    """What a node that dequantizes a computed operand reads it as; None for every other node."""
    form = scaled(node.outputs[0])
    if form is None or form.integers.type.dtype not in SHIFT or form.integers.constant is not None:
        return None
    return _per_tensor(form)


def states_quantization(node: Node) -> bool:
    """Whether a node says what integers stand for: it quantizes, or dequantizes computed or constant integers."""
    return quantization_of(node) is not None or dequantization_of(node) is not None or (
        len(node.outputs) == 1 and constant_codes(node.output) is not None)


def present(part: T | None) -> T:
    """What has to be there. Raises: EdgeccError E900 where it is not."""
    if part is None:
        raise EdgeccError("E900", "a part of a quantized value is missing")
    return part


def constant_codes(value: Value) -> Codes | None:
    """The integers behind a dequantized constant; None where it is none, or one whose elements have several zero points."""
    form = scaled(value)
    q = None if form is None else form.integers.constant
    if form is None or q is None or form.integers.type.dtype not in (*SHIFT, DType.I32):
        return None
    zero, shift = form.single_zero, SHIFT.get(form.integers.type.dtype, 0)
    if zero is None:
        return None
    codes = q if shift == 0 else (q.astype(np.int16) - shift).astype(np.int8)
    axes = [axis for axis, size in enumerate(form.scale.shape) if size != 1]
    if len(axes) > 1:
        return None
    return Codes(codes, form.scale.reshape(-1), codes.ndim - form.scale.ndim + axes[0] if axes else 0, zero - shift)


def weight_codes(value: Value) -> Codes | None:
    """`constant_codes` of a filter or a bias: TFLite demands that 0 stands for 0 there. None for all others."""
    codes = constant_codes(value)
    return codes if codes is not None and codes.zero == 0 else None


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


def _per_tensor(form: Scaled | Rounding) -> Quantization | None:
    """One scale and one zero point in int8; None where they differ among the elements."""
    steps = form.steps
    return None if steps is None else Quantization((steps.scale,), steps.zero - SHIFT[steps.dtype])
