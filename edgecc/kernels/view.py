"""How tensors lie in memory, as kernels see them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgecc.errors import EdgeccError
from edgecc.ir.types import DType
from edgecc.loop.index import ZERO, Index, as_index, const

ROW_ELEMENTS = 16
"""Rows whose length is known only at run time are held in memory with room for a multiple of so many elements."""
ROW_AXIS = 2
"""The axis whose positions are called rows: the height of images [batch, channels, height, width]."""


@dataclass(frozen=True)
class View:
    """How a tensor lies in memory: its buffer pointer addresses element (0, ..., 0).

    Attributes:
        dtype: element type.
        dims: the logical shape.
        strides: distance in elements between neighbours along each axis; 0 repeats one element
            (an expanded operand), negative runs backwards.
        ring: 0, or the number of rows (positions of axis `ROW_AXIS`) the memory holds: row r then lies where
            row r mod `ring` would, and is overwritten by row r + `ring`.
        sizes: () where `dims` is the shape of every run. Otherwise the shape of a run, of which `dims` is the largest:
            parameters of the function where a dimension is open. Strides are those of the largest shape.
        padded: whether every run of elements along the innermost axis may be read and written up to the next
            multiple of `ROW_ELEMENTS`: what lies there belongs to nobody.
        packed: whether a run's elements lie without gaps in its own shape, row-major; the strides then say nothing.
        start: where the first element lies behind the pointer, in elements; not 0 only where the run decides.
    """

    dtype: DType
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    ring: int = 0
    sizes: tuple[Index, ...] = ()
    padded: bool = False
    packed: bool = False
    start: Index = ZERO

    def size(self, axis: int) -> Index:
        """The number of positions along an axis in a run."""
        return self.sizes[axis] if self.sizes else as_index(self.dims[axis])

    def bound(self, axis: int) -> int | Index:
        """`size` as a number where it is one."""
        size = self.size(axis)
        return size.const if size.is_const else size

    @property
    def is_open(self) -> bool:
        """Whether the shape, or where the elements lie, is known only at run time."""
        return any(not size.is_const for size in self.sizes) or not self.start.is_const

    @property
    def elements(self) -> int:
        """Number of logical elements."""
        return math.prod(self.dims)

    @property
    def span(self) -> int:
        """Elements from the first to the last address, inclusive; what a buffer must at least hold."""
        if self.elements == 0:
            return 0
        return 1 + sum((d - 1) * s for d, s in zip(self.held_dims, self.strides, strict=True) if s > 0)

    @property
    def held_dims(self) -> tuple[int, ...]:
        """`dims` with the rows the memory holds."""
        if self.padded:
            return tuple(-(-dim // ROW_ELEMENTS) * ROW_ELEMENTS if stride == 1 else dim
                         for dim, stride in zip(self.dims, self.strides, strict=True))
        if not self.ring:
            return self.dims
        return (*self.dims[:ROW_AXIS], min(self.ring, self.dims[ROW_AXIS]), *self.dims[ROW_AXIS + 1:])

    @property
    def is_row_major(self) -> bool:
        """Whether the elements lie in logical order without gaps."""
        if self.ring:
            return False
        step = 1
        for dim, stride in zip(reversed(self.dims), reversed(self.strides), strict=True):
            if dim != 1 and stride != step:
                return False
            step *= dim
        return True

    @property
    def is_dense(self) -> bool:
        """Whether the elements lie in some order without gaps."""
        if self.ring:
            return False
        step = 1
        for stride, dim in sorted((s, d) for s, d in zip(self.strides, self.dims, strict=True) if d != 1):
            if stride != step:
                return False
            step *= dim
        return True

    def shows_same(self, other: View) -> bool:
        """Whether both show the same elements at the same places, from one start address."""
        if (self.dtype, self.dims, self.ring, self.sizes, self.packed, self.start) != (
                other.dtype, other.dims, other.ring, other.sizes, other.packed, other.start):
            return False
        return 0 in self.dims or all(s == t for d, s, t in zip(self.dims, self.strides, other.strides, strict=True) if d != 1)

    def at(self, coordinates: Sequence[Index | int]) -> Index:
        """The address of the element at these logical coordinates."""
        address = Index()
        for axis, (coordinate, stride) in enumerate(zip(coordinates, self.strides, strict=True)):
            index = as_index(coordinate)
            if self.ring and axis == ROW_AXIS:
                # Whole turns make the dividend non-negative for whoever looks at it, which makes the remainder cheap.
                turns = max(0, -(index.const // self.ring))
                index = (index + turns * self.ring).mod(self.ring)
            address = address + index * stride
        return address

    def broadcast_to(self, dims: Sequence[int]) -> View:
        """The same memory seen as shape `dims` by numpy's broadcasting rules."""
        lead = len(dims) - len(self.dims)
        own_dims = (1,) * lead + self.dims
        own_strides = (0,) * lead + self.strides
        strides = tuple(0 if own == 1 else stride for own, stride in zip(own_dims, own_strides, strict=True))
        if self.ring and lead:
            raise EdgeccError("E900", f"a ring of rows seen in {len(dims)} dimensions instead of {len(self.dims)}")
        own = (const(1),) * lead + self.sizes
        sizes = tuple(const(dim) if s == const(1) else s for dim, s in zip(dims, own, strict=True)) if self.sizes else ()
        return View(self.dtype, tuple(dims), strides, self.ring, sizes, self.padded)
