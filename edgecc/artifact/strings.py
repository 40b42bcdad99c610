"""Strings on their way between Python and a compiled network: arrays of pointers, or text through a pipe.

Through a pipe go the bytes of all strings, each ended by a NUL, after their number as 64 bits.
"""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Callable, Sequence

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.packing import unpack
from edgecc.ir.strings import decoded, encoded, is_string_array, zeros
from edgecc.ir.types import Array, DType, TensorType


def result_memory(tensor_type: TensorType) -> Array:
    """Memory that executors fill with a result: elements of less than 8 bits as rows of bytes, strings as objects."""
    if tensor_type.dtype is DType.STRING:
        return zeros(tensor_type.dims, DType.STRING)
    if tensor_type.dtype.bits < 8:
        return np.empty(tensor_type.packed_bytes, np.uint8)
    return np.empty(tensor_type.dims, tensor_type.dtype.numpy)


def result_array(memory: Array, tensor_type: TensorType) -> Array:
    """What such memory, which may be larger, holds: an element of its own in each place."""
    if tensor_type.dtype.bits < 8:
        return unpack(memory[:tensor_type.packed_bytes], tensor_type.dtype, tensor_type.dims)
    return memory.reshape(-1)[:tensor_type.elements].reshape(tensor_type.dims)


def pointers(strings: Array) -> tuple[Array, Array]:
    """Addresses of strings, and the memory they lie in, which must live as long."""
    texts = [encoded(text) + b"\0" for text in strings.reshape(-1)]
    memory = np.frombuffer(b"".join(texts) or b"\0", np.uint8).copy()
    starts = np.cumsum([0, *map(len, texts)])[:-1]
    return (starts + memory.ctypes.data).astype(np.uintp), memory


class Memories:
    """Arrays as memory for a library that is called in this process: strings become pointers for as long as this lives."""

    def __init__(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        self._texts: list[Array] = []
        self._outputs = outputs
        self.inputs = [self._pointers(array) if is_string_array(array) else array for array in inputs]
        self.outputs = [np.zeros(array.size, np.uintp) if is_string_array(array) else array for array in outputs]

    def _pointers(self, strings: Array) -> Array:
        found, memory = pointers(strings)
        self._texts.append(memory)
        return found

    def finish(self, shapes: Sequence[tuple[int, ...]] = ()) -> None:
        """Reads the strings that the library has written pointers to, where shapes differ from run to run as many as these say."""
        for position, (array, memory) in enumerate(zip(self._outputs, self.outputs, strict=True)):
            if is_string_array(array):
                count = math.prod(shapes[position]) if shapes else array.size
                array.reshape(-1)[:count] = [decoded(ctypes.string_at(int(address))) for address in memory[:count]]


def piped(array: Array) -> bytes:
    """An array as bytes for a process."""
    if not is_string_array(array):
        return array.tobytes()
    text = b"".join(encoded(element) + b"\0" for element in array.reshape(-1))
    return struct.pack("=Q", len(text)) + text


def read_piped(array: Array, read: Callable[[int], bytes], shape: tuple[int, ...] | None = None) -> None:
    """Fills an array with what a process answers; of strings as many as `shape`, if it is given, says.

    Raises: EdgeccError E401 where these are not as many strings.
    """
    if not is_string_array(array):
        array.reshape(-1).view(np.uint8)[:] = np.frombuffer(read(array.nbytes), np.uint8)
        return
    (size,) = struct.unpack("=Q", read(8))
    texts = read(size).split(b"\0")
    count = array.size if shape is None else math.prod(shape)
    if len(texts) != count + 1:
        raise EdgeccError("E401", f"the process answered {len(texts) - 1} strings, wanted {count}")
    array.reshape(-1)[:count] = [decoded(text) for text in texts[:-1]]
