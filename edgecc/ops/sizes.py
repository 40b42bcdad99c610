"""Sizes of a run: as a tensor, and out of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.dims import Symbol, lower_bound, numbers, symbols_of, upper_bound
from edgecc.ir.op import Op, present, register, required
from edgecc.ir.types import Array, Dim, DType, TensorType
from edgecc.ops import rules


@register
@dataclass(frozen=True)
class Sizes(Op):
    """y = the numbers `elements`, which may be dimensions known only at run time, in row-major order.

    Shapes: no operand -> y [shape].
    Attributes: elements; shape; dtype, an integer type that holds every element.
    Raises: E110 where the element count differs or dtype is no integer type.
    Source: ONNX Shape-21 and arithmetic on its results.
    """

    name: ClassVar[str] = "sizes"
    inputs: ClassVar[tuple[str, ...]] = ()

    elements: tuple[Dim, ...]
    shape: tuple[int, ...]
    dtype: DType = DType.I64

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The shape of the attribute."""
        if not self.dtype.is_integer:
            raise self.fail(f"dtype is {self.dtype.value}, wanted an integer type", inputs)
        if math.prod(self.shape) != len(self.elements):
            raise self.fail(f"shape {list(self.shape)} is given {len(self.elements)} elements", inputs)
        return (rules.result_type(self, self.dtype, self.shape, inputs),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """An array of the numbers."""
        return (np.array(numbers(self.elements), dtype=self.dtype.numpy).reshape(self.shape),)


@register
@dataclass(frozen=True)
class BindSize(Op):
    """y = x, the number that the size `size` has in this run from here on.

    The types of later values of the graph, and of the regions inside later nodes, may depend on the size.

    Shapes: x i64 [] -> y i64 [].
    Attributes: size, a dimension that is one named size and no other; a number where the sizes of a run are known.
    Raises: E110 where x is no single i64 or size is something else; while running E406 where x is not within its bounds.
    Source: none; ONNX leaves sizes that depend on data to the run time.
    """

    name: ClassVar[str] = "bind_size"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    size: Dim

    @property
    def binds(self) -> Symbol | None:
        """The size, unless it is known."""
        symbols = symbols_of([self.size])
        return symbols[0] if symbols else None

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The type of the operand."""
        (x,) = required(inputs)
        if x != TensorType(DType.I64, ()):
            raise self.fail("wanted one i64", inputs)
        if not isinstance(self.size, int) and str(self.size) != str(self.binds):
            raise self.fail(f"{self.size} is no single size", inputs)
        return (x,)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """The operand, if the bounds allow it."""
        (x,) = present(inputs)
        if not lower_bound(self.size) <= int(x) <= upper_bound(self.size):
            raise EdgeccError("E406", f"a size is {int(x)}, not within {self.size}")
        return (x,)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """It is exact."""
        return self.reference(inputs)
