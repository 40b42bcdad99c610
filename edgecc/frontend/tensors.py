"""From TensorProto to numpy, without trusting it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import onnx
from onnx import numpy_helper

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.limits import stored_bytes
from edgecc.frontend.registry import Unsupported
from edgecc.ir.strings import check_strings, string_array, zeros
from edgecc.ir.types import Array, DType


def type_name(code: int) -> str:
    """The ONNX name of an element type number, lower case: "float16"."""
    try:
        return str(onnx.TensorProto.DataType.Name(code)).lower()
    except ValueError:
        return f"number {code}"


def element_type(code: int, what: str) -> DType:
    """The IR's element type for an ONNX number.

    Raises: EdgeccError E102 for a number that ONNX does not define, Unsupported for types the IR lacks.
    """
    dtype = DType.from_code(code)
    if dtype is not None:
        return dtype
    if code == onnx.TensorProto.UNDEFINED or code not in onnx.TensorProto.DataType.values():
        raise EdgeccError("E102", f"{what} has the undefined element type {code}")
    raise Unsupported(f"{what} has elements of type {type_name(code)}")


def tensor_array(tensor: onnx.TensorProto) -> Array:
    """The data of a tensor whose dims were checked against the limits and whose data is in memory.

    Raises: EdgeccError E102 where data and shape disagree, Unsupported for element types the IR lacks.
    """
    what = f"tensor '{printable(tensor.name)}'"
    dtype = element_type(tensor.data_type, what)
    if tensor.HasField("segment"):
        raise Unsupported(f"{what} is stored in segments")
    if tensor.HasField("raw_data") and len(tensor.raw_data) != stored_bytes(tensor):
        raise EdgeccError("E102", f"{what} has {len(tensor.raw_data)} bytes of data; its shape {list(tensor.dims)} needs "
                                  f"{stored_bytes(tensor)}")
    if dtype is DType.STRING:
        return _strings(tensor, what)
    try:
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, OverflowError) as error:
        raise EdgeccError("E102", f"the data of {what} does not fit its shape {list(tensor.dims)}: "
                                  f"{printable(str(error))}") from error
    if array.dtype != dtype.numpy or array.shape != tuple(tensor.dims):
        raise EdgeccError("E102", f"the data of {what} does not fit its shape {list(tensor.dims)}")
    if dtype is DType.BOOL:
        return np.asarray(array.view(np.uint8) != 0)
    return array


def _strings(tensor: onnx.TensorProto, what: str) -> Array:
    """A tensor of strings; `numpy_helper.to_array` gives each the room of the longest, and drops NULs at the end."""
    if len(tensor.string_data) != math.prod(tensor.dims):
        raise EdgeccError("E102", f"{what} has {len(tensor.string_data)} strings; its shape is {list(tensor.dims)}")
    return strings_of(tensor.string_data, what).reshape(tuple(tensor.dims))


def strings_of(data: Iterable[bytes], what: str) -> Array:
    """An array of the strings that a model stores as UTF-8.

    Raises: EdgeccError E102 where one is not UTF-8 or has a NUL in it.
    """
    try:
        return check_strings(string_array(bytes(text).decode("utf-8") for text in data), what)
    except UnicodeDecodeError as error:
        raise EdgeccError("E102", f"{what} has a string that is not UTF-8") from error


def sparse_array(sparse: onnx.SparseTensorProto, dims: tuple[int, ...]) -> Array:
    """A sparse tensor as a dense array of shape `dims` (checked against the limits by the caller).

    Raises: EdgeccError E102 for indices that do not fit, Unsupported for element types the IR lacks.
    """
    values = tensor_array(sparse.values)
    indices = tensor_array(sparse.indices)
    dense = zeros(dims, DType.from_numpy(values.dtype))
    try:
        if indices.dtype != np.int64 or values.ndim != 1:
            raise ValueError("wrong type of indices or values")
        flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), dims)
        if len(flat) != len(values) or np.any(flat < 0):
            raise ValueError("wrong number of indices, or negative ones")
        dense.reshape(-1)[flat] = values
    except (ValueError, IndexError) as error:
        raise EdgeccError("E102", f"sparse tensor '{printable(sparse.values.name)}': {error}") from error
    return dense
