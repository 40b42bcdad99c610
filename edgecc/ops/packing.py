"""Operators between packed elements of less than 8 bits, as networks exchange and store them, and one element in a byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.op import Op, present, register, required
from edgecc.ir.types import Array, DType, TensorType
from edgecc.ops import rules


def _check_bits(op: Op, bits: int, inputs: Sequence[TensorType | None]) -> None:
    if bits not in (2, 4):
        raise op.fail(f"bits is {bits}, wanted 2 or 4", inputs)


@register
@dataclass(frozen=True)
class Unpack(Op):
    """y[k*i + j] = bits j*b to j*b + b - 1 of x[i], k = 8/b elements of b bits in a byte, the first in the lowest bits.

    Shapes: x u8 [ceil(n*b/8)] -> y [shape] with n elements, in row-major order.
    Attributes: bits, b = 2 or 4; signed, whether the elements are two's complement and y is i8 instead of u8; shape.
    Raises: E110 where x is not a row of that many bytes.
    Source: ONNX TensorProto, raw_data of INT4, UINT4, INT2, UINT2 and FLOAT4E2M1.
    """

    name: ClassVar[str] = "unpack"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    bits: int
    signed: bool
    shape: tuple[int, ...]

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The shape of the attribute."""
        (x,) = required(inputs)
        _check_bits(self, self.bits, inputs)
        rules.check_dtype(self, "x", x, DType.U8, inputs)
        y = rules.result_type(self, DType.I8 if self.signed else DType.U8, self.shape, inputs)
        rules.check_dims(self, "x", x, (-(-y.elements * self.bits // 8),), inputs)
        return (y,)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Shifts and masks; the sign bit is subtracted twice."""
        (x,) = present(inputs)
        shifts = np.arange(8 // self.bits, dtype=np.uint8) * np.uint8(self.bits)
        elements = (x.reshape(-1, 1) >> shifts) & np.uint8((1 << self.bits) - 1)
        flat = elements.reshape(-1)[:int(np.prod(self.shape, dtype=np.int64))]
        if self.signed:
            sign = np.int8(1 << (self.bits - 1))
            flat = (flat.astype(np.int8) ^ sign) - sign
        return (flat.reshape(self.shape),)


@register
@dataclass(frozen=True)
class Pack(Op):
    """y[i] = the lowest b bits of x[k*i], x[k*i + 1], ..., k = 8/b elements in a byte, the first in the lowest bits.

    Shapes: x i8 or u8 of any shape with n elements, read in row-major order -> y u8 [ceil(n*b/8)]; bits beyond are zero.
    Attributes: bits, b = 2 or 4.
    Raises: E110 where x has another type.
    Source: as for `Unpack`, whose inverse it is.
    """

    name: ClassVar[str] = "pack"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    bits: int

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """A row of bytes."""
        (x,) = required(inputs)
        _check_bits(self, self.bits, inputs)
        if x.dtype not in (DType.I8, DType.U8):
            raise self.fail(f"x has type {x.dtype.value}, wanted i8 or u8", inputs)
        return (rules.result_type(self, DType.U8, (-(-x.elements * self.bits // 8),), inputs),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Masks and shifts."""
        (x,) = present(inputs)
        per_byte = 8 // self.bits
        out = np.zeros((-(-x.size // per_byte), per_byte), np.uint8)
        out.reshape(-1)[:x.size] = np.ascontiguousarray(x).reshape(-1).view(np.uint8) & np.uint8((1 << self.bits) - 1)
        shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(self.bits)
        return (np.asarray(np.bitwise_or.reduce(out << shifts, axis=1)),)
