"""What convolutions and matrix products share: sums of products with a bias, rounded once, and an epilogue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecc.ir.op import Op, present
from edgecc.ir.scalar import ScalarExpr
from edgecc.ir.types import Array
from edgecc.ops import rules


class SumOfProducts(Op):
    """An operator of two factors, an optional bias and extra operands of its epilogue."""

    epilogue: ScalarExpr | None

    def sums(self, inputs: Sequence[Array | None]) -> Array:
        """The sums with bias: of floats in float64, of integers in their own type."""
        raise NotImplementedError

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """The sums, rounded to the type of the first factor or to that of integers, through the epilogue."""
        first, _ = present(inputs[:2])
        return (rules.apply_epilogue(self.epilogue, self.sums(inputs), first.dtype, inputs[3:]),)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Sum of the magnitudes of the products and the bias, then through the epilogue."""
        absolute = [None if a is None else np.abs(a) for a in inputs[:3]]
        return (rules.epilogue_magnitude(self.epilogue, self.sums(inputs), self.sums(absolute), inputs[3:]),)
