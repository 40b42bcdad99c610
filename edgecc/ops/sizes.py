"""Sizes of a run as a tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.dims import numbers
from edgecc.ir.op import Op, register
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
