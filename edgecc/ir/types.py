"""Types of the Graph IR: element types, dimensions, tensor types and memory layouts.

All of them are frozen and compared by value. A shape is a tuple of dimensions, each a plain `int`
or a `SymbolicDim` with bounds (edgecc/ir/dims.py). A `Layout` says in which order the axes of a value lie in
memory; it is a property of a value, not of its meaning, so shape rules and reference execution
never look at it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx

from edgecc.errors import EdgeccError
from edgecc.ir.dims import Dim, Shape, SymbolicDim, evaluate, upper_bound

__all__ = ["Array", "DType", "Dim", "Layout", "Shape", "SymbolicDim", "TensorType"]

Array = npt.NDArray[Any]


class DType(Enum):
    """Element types, named as in the textual IR.

    `code` is the number ONNX gives the type (TensorProto.DataType), which is also what the C ABI
    stores; `numpy` is the type its arrays have in memory. Types of 8 bits and less but i8, u8 and bool are
    only stored: they are moved and converted, never computed with (`is_stored_only`). So are strings, texts of Unicode
    without the character NUL, whose arrays are numpy object arrays of `str` (edgecc/ir/strings.py).
    """

    F64 = "f64"
    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    I64 = "i64"
    I32 = "i32"
    I16 = "i16"
    I8 = "i8"
    U64 = "u64"
    U32 = "u32"
    U16 = "u16"
    U8 = "u8"
    BOOL = "bool"
    F8E4M3FN = "f8e4m3fn"
    F8E4M3FNUZ = "f8e4m3fnuz"
    F8E5M2 = "f8e5m2"
    F8E5M2FNUZ = "f8e5m2fnuz"
    F8E8M0 = "f8e8m0"
    F4E2M1 = "f4e2m1"
    I4 = "i4"
    U4 = "u4"
    I2 = "i2"
    U2 = "u2"
    STRING = "string"

    __hash__ = object.__hash__  # Enum hashes the name, in Python: types are asked for in every step of a compilation

    @property
    def code(self) -> int:
        """The TensorProto.DataType number of this type."""
        return _CODES[self]

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy type of arrays that hold such elements."""
        return _NUMPY[self]

    @property
    def size(self) -> int:
        """Bytes of one element; types of less than 8 bits take one, unless they are packed; strings those of a pointer."""
        return self.numpy.itemsize

    @property
    def bits(self) -> int:
        """Bits of one element: 4 for i4, 8 for bool."""
        return _SUB_BYTE_BITS.get(self, 8 * self.size)

    @property
    def is_stored_only(self) -> bool:
        """Whether elements are moved and converted, but never computed with."""
        return self in _STORED_ONLY

    @property
    def is_float(self) -> bool:
        """Whether this is a floating point type."""
        return self in _FLOATS

    @property
    def is_integer(self) -> bool:
        """Whether this is an integer type; bool is not one."""
        return self not in _FLOATS and self is not DType.BOOL and self is not DType.STRING

    @property
    def is_signed(self) -> bool:
        """Whether this is a signed integer or a floating point type."""
        return self.is_float or self.value.startswith("i")

    @property
    def limits(self) -> tuple[int, int] | tuple[float, float]:
        """The least and the largest finite number; 0 and 1 for bool."""
        if self is DType.BOOL:
            return 0, 1
        if self.is_integer:
            return (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1) if self.is_signed else (0, (1 << self.bits) - 1)
        found: Any = ml_dtypes.finfo(self.numpy)  # type: ignore[no-untyped-call]
        return float(found.min), float(found.max)

    @property
    def unit_roundoff(self) -> float:
        """Half the distance from 1 to the next float: 2^-24 for f32. Zero for integers and bool."""
        return _UNIT_ROUNDOFFS.get(self, 0.0)

    @staticmethod
    def from_code(code: int) -> DType | None:
        """Returns the type with this TensorProto.DataType number, or None where the IR has none."""
        return _FROM_CODE.get(code)

    @staticmethod
    def from_numpy(dtype: npt.DTypeLike) -> DType:
        """Returns the type of arrays of numpy type `dtype`.

        Raises: EdgeccError E110 where the IR has no such type.
        """
        found = _FROM_NUMPY.get(np.dtype(dtype))
        if found is None:
            raise EdgeccError("E110", f"arrays of type {np.dtype(dtype)} are not supported")
        return found


_SHORT_FLOATS = frozenset({DType.F8E4M3FN, DType.F8E4M3FNUZ, DType.F8E5M2, DType.F8E5M2FNUZ, DType.F8E8M0, DType.F4E2M1})
_FLOATS = frozenset({DType.F64, DType.F32, DType.F16, DType.BF16}) | _SHORT_FLOATS
_SUB_BYTE_BITS = {DType.F4E2M1: 4, DType.I4: 4, DType.U4: 4, DType.I2: 2, DType.U2: 2}
_STORED_ONLY = _SHORT_FLOATS | frozenset(_SUB_BYTE_BITS) | {DType.STRING}
_UNIT_ROUNDOFFS = {
    DType.F64: 2.0**-53, DType.F32: 2.0**-24, DType.F16: 2.0**-11, DType.BF16: 2.0**-8, DType.F8E4M3FN: 2.0**-4,
    DType.F8E4M3FNUZ: 2.0**-4, DType.F8E5M2: 2.0**-3, DType.F8E5M2FNUZ: 2.0**-3, DType.F8E8M0: 0.5, DType.F4E2M1: 2.0**-2,
}
_CODES: dict[DType, int] = {
    DType.F64: onnx.TensorProto.DOUBLE, DType.F32: onnx.TensorProto.FLOAT, DType.F16: onnx.TensorProto.FLOAT16,
    DType.BF16: onnx.TensorProto.BFLOAT16, DType.I64: onnx.TensorProto.INT64, DType.I32: onnx.TensorProto.INT32,
    DType.I16: onnx.TensorProto.INT16, DType.I8: onnx.TensorProto.INT8, DType.U64: onnx.TensorProto.UINT64,
    DType.U32: onnx.TensorProto.UINT32, DType.U16: onnx.TensorProto.UINT16, DType.U8: onnx.TensorProto.UINT8,
    DType.BOOL: onnx.TensorProto.BOOL, DType.F8E4M3FN: onnx.TensorProto.FLOAT8E4M3FN,
    DType.F8E4M3FNUZ: onnx.TensorProto.FLOAT8E4M3FNUZ, DType.F8E5M2: onnx.TensorProto.FLOAT8E5M2,
    DType.F8E5M2FNUZ: onnx.TensorProto.FLOAT8E5M2FNUZ, DType.I4: onnx.TensorProto.INT4, DType.U4: onnx.TensorProto.UINT4,
    DType.STRING: onnx.TensorProto.STRING, DType.F4E2M1: 23, DType.F8E8M0: 24, DType.U2: 25, DType.I2: 26,  # by number: older versions of onnx lack the names
}
_NUMPY: dict[DType, np.dtype[Any]] = {
    DType.F64: np.dtype(np.float64), DType.F32: np.dtype(np.float32), DType.F16: np.dtype(np.float16),
    DType.BF16: np.dtype(ml_dtypes.bfloat16), DType.I64: np.dtype(np.int64), DType.I32: np.dtype(np.int32),
    DType.I16: np.dtype(np.int16), DType.I8: np.dtype(np.int8), DType.U64: np.dtype(np.uint64),
    DType.U32: np.dtype(np.uint32), DType.U16: np.dtype(np.uint16), DType.U8: np.dtype(np.uint8),
    DType.BOOL: np.dtype(np.bool_), DType.F8E4M3FN: np.dtype(ml_dtypes.float8_e4m3fn),
    DType.F8E4M3FNUZ: np.dtype(ml_dtypes.float8_e4m3fnuz), DType.F8E5M2: np.dtype(ml_dtypes.float8_e5m2),
    DType.F8E5M2FNUZ: np.dtype(ml_dtypes.float8_e5m2fnuz), DType.F8E8M0: np.dtype(ml_dtypes.float8_e8m0fnu),
    DType.F4E2M1: np.dtype(ml_dtypes.float4_e2m1fn), DType.I4: np.dtype(ml_dtypes.int4), DType.U4: np.dtype(ml_dtypes.uint4),
    DType.I2: np.dtype(ml_dtypes.int2), DType.U2: np.dtype(ml_dtypes.uint2),
    DType.STRING: np.dtype(object),
}
_FROM_CODE = {code: dtype for dtype, code in _CODES.items()}
_FROM_NUMPY = {numpy_type: dtype for dtype, numpy_type in _NUMPY.items()}


def is_float_array(array: Array) -> bool:
    """Whether an array holds floats. (numpy's kind of floats and integers that come from ml_dtypes is "V".)"""
    return array.dtype.kind == "f" or (array.dtype.kind not in "biu" and DType.from_numpy(array.dtype).is_float)


@dataclass(frozen=True)
class TensorType:
    """Element type and shape of a value: `f32[1,3,224,224]`, `f32[batch:1..8,3]`, `i64[]`."""

    dtype: DType
    shape: Shape

    @property
    def rank(self) -> int:
        """Number of axes; 0 for a scalar."""
        return len(self.shape)

    @property
    def is_static(self) -> bool:
        """Whether every dimension is a plain number."""
        return all(isinstance(dim, int) for dim in self.shape)

    @property
    def dims(self) -> tuple[int, ...]:
        """The shape as plain numbers.

        Raises: EdgeccError E104 if a dimension is symbolic.
        """
        out = []
        for dim in self.shape:
            if not isinstance(dim, int):
                raise EdgeccError("E104", f"dimension {dim} of {self} has no fixed size",
                                  hint="bind it with --shape name=AxBxC or pass --inputs")
            out.append(dim)
        return tuple(out)

    @property
    def max_dims(self) -> tuple[int, ...]:
        """The largest size of each dimension."""
        return tuple(upper_bound(dim) for dim in self.shape)

    @property
    def largest(self) -> TensorType:
        """The static type with the largest size of each dimension."""
        return self if self.is_static else self.with_shape(self.max_dims)

    def at(self, sizes: Mapping[str, int]) -> TensorType:
        """The static type for these sizes of the named dimensions."""
        return self if self.is_static else self.with_shape(tuple(evaluate(dim, sizes) for dim in self.shape))

    @property
    def capacity(self) -> int:
        """The largest number of elements."""
        return math.prod(self.max_dims)

    @property
    def count(self) -> Dim:
        """Number of elements of any type."""
        return math.prod(self.shape, start=cast("Dim", 1))

    @property
    def elements(self) -> int:
        """Number of elements of a static type."""
        return math.prod(self.dims)

    @property
    def size_bytes(self) -> int:
        """Bytes of a static type stored without gaps, elements of less than 8 bits in a byte each."""
        return self.elements * self.dtype.size

    @property
    def packed_bytes(self) -> int:
        """Bytes of a static type as ONNX stores it: elements of less than 8 bits share bytes."""
        return -(-self.elements * self.dtype.bits // 8)

    def with_shape(self, shape: Shape) -> TensorType:
        """The same element type with another shape."""
        return TensorType(self.dtype, tuple(shape))

    def with_dtype(self, dtype: DType) -> TensorType:
        """The same shape with another element type."""
        return TensorType(dtype, self.shape)

    @staticmethod
    def of(array: Array) -> TensorType:
        """The type of a numpy array."""
        return TensorType(DType.from_numpy(array.dtype), tuple(int(d) for d in array.shape))

    def __str__(self) -> str:
        return f"{self.dtype.value}[{','.join(str(dim) for dim in self.shape)}]"


@dataclass(frozen=True)
class Layout:
    """The order in which the axes of a value lie in memory, outermost first, without gaps.

    `Layout((0, 2, 3, 1))` stores an NCHW-shaped value channels-last. Printed as `{0,2,3,1}`.
    """

    order: tuple[int, ...]

    @staticmethod
    def row_major(rank: int) -> Layout:
        """The default: the last axis is contiguous."""
        return Layout(tuple(range(rank)))

    @staticmethod
    def channels_last(rank: int) -> Layout:
        """N, spatial axes, C: the channel axis (axis 1) is contiguous. Ranks below 3 are row-major."""
        return Layout((0, *range(2, rank), 1)) if rank >= 3 else Layout.row_major(rank)

    @property
    def is_row_major(self) -> bool:
        """Whether the axes lie in their own order."""
        return self.order == tuple(range(len(self.order)))

    def strides(self, dims: tuple[int, ...]) -> tuple[int, ...]:
        """Strides in elements of each axis of a value with shape `dims`, stored without gaps."""
        strides = [0] * len(dims)
        step = 1
        for axis in reversed(self.order):
            strides[axis] = step
            step *= dims[axis]
        return tuple(strides)

    def __str__(self) -> str:
        return "{" + ",".join(str(axis) for axis in self.order) + "}"
