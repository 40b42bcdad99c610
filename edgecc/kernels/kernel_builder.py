"""A `Builder` that also notes where each buffer comes from, and ends in a `Kernel`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgecc.ir.dims import upper_bound
from edgecc.ir.types import Array, DType
from edgecc.kernels.kernel import FromInput, FromOutput, Kernel, KernelArgument, Packed, SameMemory, Workspace
from edgecc.kernels.request import Request, size_dim
from edgecc.kernels.view import View
from edgecc.loop.builder import Builder, operation, repeat
from edgecc.loop.index import Index
from edgecc.loop.ir import Buffer, Expr, FromIndex
from edgecc.loop.module import IndexRange

_MOST_LANES = 16


def _ones() -> Array:
    return np.ones(_MOST_LANES, np.float32)


def storage_type(dtype: DType) -> DType:
    """The integer type that elements of a type without arithmetic of its own are kept as.

    Kernels that only move elements use it, so that no conversion comes between load and store.
    """
    return {DType.F16: DType.U16, DType.BF16: DType.U16, DType.BOOL: DType.U8}.get(dtype, dtype)


def _numbers() -> Array:
    return np.arange(_MOST_LANES, dtype=np.float32)


class KernelBuilder(Builder):
    """Builds the kernel of one request. Buffers are added in the order of the function's parameters."""

    def __init__(self, request: Request, name: str, doc: str = "") -> None:
        super().__init__(name, doc)
        self.request = request
        self._arguments: list[KernelArgument] = []
        self._ones: Buffer | None = None
        self._numbers: Buffer | None = None

    def input(self, index: int, name: str, *, aliased: bool = False, raw: bool = False, stored: DType | None = None) -> Buffer:
        """The memory of operand `index`, which must be present; with `raw` as its `storage_type`, or as the type `stored`, of whole elements."""
        view = self.request.operand(index).view
        self._arguments.append(FromInput(index))
        dtype = storage_type(view.dtype) if raw else stored or view.dtype
        return self.buffer(name, dtype, self._elements(view) * view.dtype.size // dtype.size, "input", aliased=aliased)

    def output(self, index: int, name: str, *, aliased: bool = False, raw: bool = False, stored: DType | None = None) -> Buffer:
        """The memory of result `index`; with `raw` as its `storage_type`, or as the type `stored`, of whole elements."""
        view = self.request.outputs[index]
        self._arguments.append(FromOutput(index))
        dtype = storage_type(view.dtype) if raw else stored or view.dtype
        return self.buffer(name, dtype, self._elements(view) * view.dtype.size // dtype.size, "output", aliased=aliased)

    def _elements(self, view: View) -> int:
        """Elements from the pointer to the last one of a view, wherever the run lets it begin."""
        return max(1, view.span) + (0 if view.start.is_const else upper_bound(size_dim(self.request, view.start)))

    def packed(self, name: str, dtype: DType, elements: int, inputs: tuple[int, ...],
               pack: Callable[..., Array]) -> Buffer:
        """Weights arranged at compile time; see `Packed`."""
        self._arguments.append(Packed(inputs, pack))
        return self.buffer(name, dtype, max(1, elements), "input")

    def same_memory(self, name: str, dtype: DType, buffer: Buffer) -> Buffer:
        """The memory of `buffer`, which nothing writes, as elements of type `dtype`."""
        self._arguments.append(SameMemory(self._buffers.index(buffer)))
        return self.buffer(name, dtype, buffer.elements * buffer.dtype.size // dtype.size, "input")

    def workspace(self, name: str, dtype: DType, elements: int) -> Buffer:
        """Scratch memory of `elements` elements."""
        self._arguments.append(Workspace(max(1, elements) * dtype.size))
        return self.buffer(name, dtype, max(1, elements), "workspace")

    def first_lanes(self, lanes: int, count: int) -> Expr:
        """A mask of `lanes` bools of which the first `count` are true."""
        if self._ones is None:
            self._ones = self.packed("ones", DType.F32, _MOST_LANES, (), _ones)
        return operation("lt", 0.0, self.load(self._ones, 0, lanes, valid=count))

    def lanes_below(self, lanes: int, limit: Index) -> Expr:
        """A mask of `lanes` bools of which those whose number is below `limit` are true."""
        if self._numbers is None:
            self._numbers = self.packed("lane_numbers", DType.F32, _MOST_LANES, (), _numbers)
        bound = self.let("limit", repeat(FromIndex(limit, DType.F32), lanes))
        return operation("lt", self.load(self._numbers, 0, lanes), bound)

    def kernel(self, *, schedule: tuple[str, ...] = (), in_place: tuple[tuple[int, int], ...] = (),
               choice: str = "", checks: tuple[tuple[int, IndexRange], ...] = ()) -> Kernel:
        """The finished kernel; every block must be closed."""
        return Kernel(self.function(), tuple(self._arguments), schedule, in_place, choice, checks=checks)
