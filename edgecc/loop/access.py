"""Accesses to buffers as the interpreter sees them: every one is checked.

An index outside of its buffer, an element of an output or a workspace that nothing has written yet,
and an element that one iteration of a parallel loop writes and another touches are errors (E904) that
name the buffer, the index and the statement. A vector of which only some elements have been written may be read,
since kernels load what lies between the elements they need; the others are NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.types import Array


def _outside(name: str, first: int, last: int, elements: int, text: str) -> EdgeccError:
    place = str(first) if first == last else f"{first}..{last}"
    return EdgeccError("E904", f"index {place} is outside {name}, which has {elements} elements", where=text)


class Race:
    """Which iteration of a parallel loop touched which element last; iteration 0 is what runs outside of them."""

    def __init__(self, arrays: list[Array]) -> None:
        self.first = self.current = 0
        self.writers = [np.zeros(a.size, np.int64) for a in arrays]
        self.readers = [np.zeros(a.size, np.int64) for a in arrays]

    def iterations(self, values: range) -> Iterator[int]:
        """The values of a parallel loop's variable, backwards."""
        latest = self.first = self.current + 1
        for value in reversed(values):
            self.current = latest
            yield value
            latest += 1
        self.first = self.current = latest

    def read(self, position: int, places: Array | slice | int, name: str, text: str) -> None:
        """Notes a read and checks it against the writes of other iterations."""
        self._check(self.writers[position], places, f"{name} is written by one iteration and read by another", text)
        self.readers[position][places] = self.current

    def write(self, position: int, places: Array | slice | int, name: str, text: str) -> None:
        """Notes a write and checks it against the accesses of other iterations."""
        self._check(self.writers[position], places, f"{name} is written by two iterations", text)
        self._check(self.readers[position], places, f"{name} is read by one iteration and written by another", text)
        self.writers[position][places] = self.current

    def _check(self, owners: Array, places: Array | slice | int, message: str, text: str) -> None:
        owner = np.atleast_1d(owners[places])
        clash = (owner >= self.first) & (owner != self.current)
        if clash.any():
            place = int(np.atleast_1d(np.arange(owners.size)[places])[clash][0])
            raise EdgeccError("E904", f"element {place} of {message} of a parallel loop", where=text)


def _places(index: int, count: int, stride: int) -> Array | slice:
    """What selects `count` elements from `index` on: a slice, which is fast, where they come in order."""
    return slice(index, index + count * stride, stride) if stride > 0 else np.arange(count) * stride + index


def loader(arrays: list[Array], masks: list[Array | None], position: int, elements: int, name: str,
            texts: Mapping[int, str], race: Race | None) -> Callable[[int, int, int, int, int], Any]:
    """The function that loads from buffer number `position`: (index, lanes, stride, valid, number of the statement's text)."""
    array, written = arrays[position], masks[position]

    def load(index: int, lanes: int, stride: int, valid: int, text: int) -> Any:
        count = valid or lanes
        last = index + (count - 1) * stride
        if not (0 <= index < elements and 0 <= last < elements):
            raise _outside(name, index, last, elements, texts[text])
        if lanes == 1:
            if written is not None and not written[index]:
                raise EdgeccError("E904", f"element {index} of {name} is read before it is written", where=texts[text])
            if race is not None:
                race.read(position, index, name, texts[text])
            return array[index]
        places = _places(index, count, stride)
        present = None if written is None else written[places]
        known = count if present is None else np.count_nonzero(present)
        if not known:
            raise EdgeccError("E904", f"element {index} of {name} is read before it is written", where=texts[text])
        if race is not None:
            race.read(position, places, name, texts[text])
        if count == lanes:
            out = array[places].copy()
        else:
            out = np.zeros(lanes, array.dtype)
            out[:count] = array[places]
        if present is not None and known < count and array.dtype.kind == "f":
            out[:count][~present] = np.nan
        return out

    return load


def storer(arrays: list[Array], masks: list[Array | None], position: int, elements: int, name: str,
            texts: Mapping[int, str], race: Race | None) -> Callable[[int, int, int, int, Any, int], None]:
    """The function that stores to buffer number `position`: (index, lanes, stride, valid, value, number of the statement's text)."""
    array, written = arrays[position], masks[position]

    def store(index: int, lanes: int, stride: int, valid: int, value: Any, text: int) -> None:
        count = valid or lanes
        last = index + (count - 1) * stride
        if not (0 <= index < elements and 0 <= last < elements):
            raise _outside(name, index, last, elements, texts[text])
        places: Array | slice | int = index if lanes == 1 else _places(index, count, stride)
        if race is not None:
            race.write(position, places, name, texts[text])
        array[places] = value if lanes == 1 else value[:count]
        if written is not None:
            written[places] = True

    return store
