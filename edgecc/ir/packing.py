"""Arrays of elements of less than 8 bits, packed as ONNX stores them: the first element in the lowest bits of a byte."""

from __future__ import annotations

import numpy as np

from edgecc.ir.types import Array, DType


def pack(array: Array) -> Array:
    """The bytes of an array in row-major order, elements of less than 8 bits packed and the last byte filled with zeros.

    Returns: `array` itself where its elements have whole bytes, else a flat array of uint8.
    """
    bits = DType.from_numpy(array.dtype).bits
    if bits >= 8:
        return array
    per_byte = 8 // bits
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8) & np.uint8((1 << bits) - 1)
    padded = np.zeros(-(-flat.size // per_byte) * per_byte, np.uint8)
    padded[:flat.size] = flat
    return np.asarray(np.bitwise_or.reduce(padded.reshape(-1, per_byte) << (np.arange(per_byte, dtype=np.uint8) * bits), axis=1))


def unpack(packed: Array, dtype: DType, dims: tuple[int, ...]) -> Array:
    """The array of type `dtype` and shape `dims` whose packed bytes are `packed`, flat."""
    bits = dtype.bits
    if bits >= 8:
        return packed.view(dtype.numpy).reshape(dims)
    shifts = np.arange(8 // bits, dtype=np.uint8) * np.uint8(bits)
    elements = (packed.reshape(-1, 1) >> shifts) & np.uint8((1 << bits) - 1)
    count = int(np.prod(dims, dtype=np.int64))
    return np.ascontiguousarray(elements.reshape(-1)[:count]).view(dtype.numpy).reshape(dims)


def as_bytes(array: Array) -> Array:
    """The elements of a type that is only stored as one byte each: the value of integers, the bits of floats."""
    dtype = DType.from_numpy(array.dtype)
    if not dtype.is_stored_only:
        return array
    if dtype.is_float:
        return array.view(np.uint8)
    return np.asarray(array.astype(np.int8 if dtype.is_signed else np.uint8))
