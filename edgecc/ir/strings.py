"""Arrays of strings: numpy object arrays of `str`.

A string is any text of Unicode without the character NUL, which ends strings in C. Bytes of a run's strings that are not
UTF-8 are kept as lone surrogates (Python's "surrogateescape"), so that they come out as they went in.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.types import Array, DType


def string_array(strings: Iterable[str], dims: Sequence[int] | None = None) -> Array:
    """The strings in row-major order as an array of this shape; a vector without one."""
    elements = list(strings)
    out = np.empty(len(elements), dtype=object)
    out[:] = elements
    return out if dims is None else out.reshape(tuple(dims))


def is_string_array(array: Array) -> bool:
    """Whether an array holds objects, which are strings everywhere in the IR."""
    return array.dtype.kind == "O"


def encoded(text: str) -> bytes:
    """UTF-8 of a string, with the bytes that were none."""
    return text.encode("utf-8", "surrogateescape")


def decoded(data: bytes) -> str:
    """The string of these bytes."""
    return data.decode("utf-8", "surrogateescape")


def check_strings(array: Array, what: str, code: str = "E102") -> Array:
    """The array itself if each element is a string that may be one.

    Raises: EdgeccError `code` naming the first element that is no text, or has a NUL in it.
    """
    for position, element in enumerate(array.reshape(-1)):
        if not isinstance(element, str):
            raise EdgeccError(code, f"element {position} of {what} is no text but of type {type(element).__name__}")
        if "\0" in element:
            raise EdgeccError(code, f"element {position} of {what} has the character NUL in it, which ends strings in C")
    return array


def array_bytes(array: Array) -> bytes:
    """Bytes that are equal for equal arrays of one type and shape; the memory of an array of numbers."""
    if not is_string_array(array):
        return np.ascontiguousarray(array).tobytes()
    texts = [encoded(text) for text in array.reshape(-1)]
    return b"".join(struct.pack("<Q", len(text)) + text for text in texts)


def data_bytes(array: Array) -> int:
    """Bytes that an array takes; of strings with their texts, as often as they stand there."""
    return array.nbytes + text_bytes(array)


def text_bytes(array: Array) -> int:
    """Bytes of the texts of an array of strings; 0 for one of others."""
    if not is_string_array(array):
        return 0
    return sum((len(encoded(text)) + 1) * count for text, count in Counter(array.reshape(-1).tolist()).items())


def zeros(dims: Sequence[int], dtype: DType) -> Array:
    """An array of zeros, or of empty strings."""
    return np.full(tuple(dims), "", dtype=object) if dtype is DType.STRING else np.zeros(tuple(dims), dtype.numpy)


SAMPLES = ("", "a", "word", "Two words", "4711", "na\u00efve", "\u732b")
"""Strings to try things with: empty, short, with blanks, digits, letters beyond ASCII."""


def sample_strings(dims: Sequence[int], generator: np.random.Generator) -> Array:
    """An array of this shape of some of `SAMPLES`."""
    picked = generator.integers(0, len(SAMPLES), tuple(dims)).reshape(-1)
    return string_array([SAMPLES[number] for number in picked], dims)
