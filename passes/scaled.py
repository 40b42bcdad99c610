"""Values that stand for integers with a scale and a zero point, and nodes that round to such integers.

Passes that move arithmetic onto the integers ask here what a value is made of; the expressions themselves are built and
recognised in edgecc/ops/requantize.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgecc.ir.graph import Node, Value
from edgecc.ir.scalar import Arg, Literal
from edgecc.ir.types import Array, DType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.requantize import Steps, as_dequantized, as_quantized
from edgecc.ops.rules import NARROW_INTEGERS

SHORT = frozenset({*NARROW_INTEGERS, DType.I4, DType.U4, DType.I2, DType.U2})
"""Types of quantized values; products of two of them are summed in 32 bits."""


@dataclass(frozen=True)
class Scaled:
    """What a dequantized value stands for: (integers - zero) * scale.

    Attributes:
        integers: the value of integers.
        scale: finite numbers above 0 in f64, which f32 holds; broadcasts to `integers`.
        zero: numbers in i64; broadcasts to `integers`.
    """

    integers: Value
    scale: Array
    zero: Array

    @property
    def steps(self) -> Steps | None:
        """The scale and the zero point of all elements, or None where they differ."""
        return _steps(self.scale, self.zero, self.integers.type.dtype)

    @property
    def single_zero(self) -> int | None:
        """The zero point, if all elements have the same."""
        flat = self.zero.reshape(-1)
        return int(flat[0]) if flat.size and (flat == flat[0]).all() else None


@dataclass(frozen=True)
class Rounding:
    """What a quantizing node does: saturate(round(operand / scale) + zero) of type `dtype`; as in `Scaled`."""

    operand: Value
    scale: Array
    zero: Array
    dtype: DType

    @property
    def steps(self) -> Steps | None:
        """The scale and the zero point of all elements, or None where they differ."""
        return _steps(self.scale, self.zero, self.dtype)


def _steps(scale: Array, zero: Array, dtype: DType) -> Steps | None:
    return Steps(float(scale.item()), int(zero.item()), dtype) if scale.size == 1 and zero.size == 1 else None


def scaled(value: Value | None) -> Scaled | None:
    """What a value stands for if it is dequantized by constant parameters, else None."""
    producer = None if value is None else value.producer
    if producer is None or not isinstance(producer.op, Elementwise):
        return None
    form = as_dequantized(producer.op.expr)
    if form is None:
        return None
    integers = producer.operand(form.q.index)
    parameters = _parameters(producer, form.scale, form.zero)
    if parameters is None or integers.type.shape != producer.output.type.shape:
        return None
    return Scaled(integers, *parameters)


def rounding(node: Node) -> Rounding | None:
    """What a node does if it quantizes one operand by constant parameters, else None."""
    form = as_quantized(node.op.expr) if isinstance(node.op, Elementwise) else None
    if form is None or not isinstance(form.x, Arg) or form.dtype not in SHORT:
        return None
    operand = node.operand(form.x.index)
    parameters = _parameters(node, form.scale, form.zero)
    if parameters is None or operand.type.shape != node.output.type.shape:
        return None
    return Rounding(operand, *parameters, form.dtype)


def _parameters(node: Node, scale: Arg | Literal, zero: Arg | Literal | None) -> tuple[Array, Array] | None:
    """Scale and zero point as arrays, if they are constant and a scale a quantizer can have."""
    scales = _known(node, scale)
    zeros = np.zeros((), np.int64) if zero is None else _known(node, zero)
    if scales is None or zeros is None or not zeros.size:
        return None
    if not scales.size or not (np.isfinite(scales) & (scales > 0)).all():
        return None
    return scales.astype(np.float64), zeros.astype(np.int64)


def _known(node: Node, part: Arg | Literal) -> Array | None:
    return np.asarray(part.value) if isinstance(part, Literal) else node.operand(part.index).constant
