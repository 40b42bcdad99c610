"""Elementwise computation: one operator that holds a scalar expression, and the table of ONNX operators it covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.op import Op, present, register, required
from edgecc.ir.scalar import ScalarExpr
from edgecc.ir.types import Array, TensorType
from edgecc.ops import rules
from edgecc.ops.elementwise_table import ELEMENTWISE, ElementwiseRow

__all__ = ["ELEMENTWISE", "Elementwise", "ElementwiseRow"]


@register
@dataclass(frozen=True)
class Elementwise(Op):
    """y[p] = expr(x0[p], x1[p], ...) for every position p of the broadcast shape.

    Shapes: any, broadcast by numpy's rules. An operand that the expression does not read still takes part
        in broadcasting. Without operands the result is a scalar.
    Attributes: expr, the scalar expression; `Arg(i)` is operand i and states its element type.
    Result: one tensor of the broadcast shape and of the expression's type.
    Raises: E110 where shapes do not broadcast, or the expression reads an operand that is absent or of
        another type than it states.
    Source: the elementwise operators of ONNX; `ELEMENTWISE` maps each to its expression.
    """

    name: ClassVar[str] = "elementwise"
    inputs: ClassVar[tuple[str, ...]] = ("x*",)

    expr: ScalarExpr

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The broadcast shape, of the expression's type."""
        operands = required(inputs)
        dtype = rules.expression_type(self, self.expr, operands, inputs, "the expression")
        dims = rules.broadcast_dims(self, [t.shape for t in operands], inputs)
        return (rules.result_type(self, dtype, dims, inputs),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Evaluates the expression in float64 and rounds once."""
        operands = present(inputs)
        out = rules.evaluate_over(self.expr, operands)
        dims = np.broadcast_shapes(*(x.shape for x in operands))
        return (out if out.shape == dims else np.array(np.broadcast_to(out, dims)),)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Bound of the error of one rounding in each primitive; see `rules.expression_magnitude`."""
        operands = present(inputs)
        out = rules.expression_magnitude(self.expr, operands, [np.zeros(())] * len(operands))
        return (np.array(np.broadcast_to(out, np.broadcast_shapes(*(x.shape for x in operands)))),)
