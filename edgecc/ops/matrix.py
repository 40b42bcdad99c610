"""Matrix products, batched, with an optional bias and epilogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.op import Op, present, register, required
from edgecc.ir.scalar import ScalarExpr
from edgecc.ir.types import Array, Dim, DType, Shape, TensorType
from edgecc.ops import rules
from edgecc.ops.sum_of_products import SumOfProducts


@register
@dataclass(frozen=True)
class MatMul(SumOfProducts):
    """y[...,m,n] = epilogue(sum over k of a[...,m,k] * b[...,k,n] + bias[...,m,n]).

    For integers of 8 and 16 bits a stands for a - a_zero and b for b - b_zero, and sums are i32; both signs go together.

    Shapes: a [...,M,K], or [...,K,M] with transpose_a; b [...,K,N], or [...,N,K] with transpose_b; the leading
        axes broadcast by numpy's rules; bias and extra operands broadcast to the result -> y [...,M,N].
    Attributes: transpose_a, transpose_b: swap the last two axes of the operand first. epilogue, a scalar
        expression or None: Arg(0) is the sum with bias, rounded to a's type (or f32, see Conv), Arg(i) is extra operand i-1; the
        result has the epilogue's type. a_zero, b_zero: zero points of narrow integer operands; None is 0. exact: see Conv.
    Raises: E110 where ranks are below 2, the inner sizes or types differ, or something does not broadcast.
    Source: ONNX MatMul-13, MatMulInteger-10 and Gemm-13 (scaling by alpha and beta, and operands of rank 1, are the frontend's
        work). Floats are summed in float64 and rounded once; integers wrap.
    """

    name: ClassVar[str] = "matmul"
    inputs: ClassVar[tuple[str, ...]] = ("a", "b", "bias?", "extra*")

    transpose_a: bool = False
    transpose_b: bool = False
    epilogue: ScalarExpr | None = None
    a_zero: int | None = None
    b_zero: int | None = None
    exact: bool | None = None

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The product's shape; see the class."""
        a, b = required(inputs[:2])
        if a.dtype is DType.BOOL:
            raise self.fail("a has type bool, wanted a number", inputs)
        sums = rules.product_type(self, "b", a, b, inputs)
        for what, zero, operand in (("a_zero", self.a_zero, a), ("b_zero", self.b_zero, b)):
            rules.check_zero(self, what, zero, operand, inputs)
        if a.rank < 2 or b.rank < 2:
            raise self.fail(f"a has rank {a.rank} and b rank {b.rank}, wanted at least 2 each", inputs)
        rows, inner_a = _swapped(a.shape, self.transpose_a)
        inner_b, columns = _swapped(b.shape, self.transpose_b)
        if inner_a != inner_b:
            raise self.fail(f"the inner sizes differ: a has {inner_a}, b has {inner_b}", inputs)
        batch = rules.broadcast_dims(self, [a.shape[:-2], b.shape[:-2]], inputs)
        y = rules.result_type(self, sums, (*batch, rows, columns), inputs)
        bias = inputs[2] if len(inputs) > 2 else None
        if bias is not None:
            rules.check_bias(self, "bias", bias, a.dtype, inputs)
            rules.check_broadcasts(self, "bias", bias.shape, y.shape, inputs)
        return (rules.epilogue_type(self, self.epilogue, y, inputs[3:], inputs),)

    def sums(self, inputs: Sequence[Array | None]) -> Array:
        """numpy.matmul in float64 (integers: in their own type)."""
        a, b = (rules.centred(x, zero) for x, zero in zip(present(inputs[:2]), (self.a_zero, self.b_zero), strict=True))
        sums = np.matmul(np.swapaxes(a, -1, -2) if self.transpose_a else a,
                         np.swapaxes(b, -1, -2) if self.transpose_b else b)
        bias = inputs[2] if len(inputs) > 2 else None
        return np.asarray(sums if bias is None else sums + rules.wide(bias))


@register
@dataclass(frozen=True)
class Determinant(Op):
    """y[...] = the determinant of x[...,:,:].

    Shapes: x [...,M,M] -> y [...].
    Attributes: none.
    Raises: E110 where x is no stack of square matrices of floats.
    Source: ONNX Det-22. Gaussian elimination with partial pivoting in float64, rounded once.
    """

    name: ClassVar[str] = "determinant"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The leading axes."""
        (x,) = required(inputs)
        rules.check_float(self, "x", x, inputs)
        if x.rank < 2 or x.shape[-1] != x.shape[-2]:
            raise self.fail("x must be square along its last two axes", inputs)
        return (rules.result_type(self, x.dtype, x.shape[:-2], inputs),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """numpy.linalg.det."""
        (x,) = present(inputs)
        with np.errstate(all="ignore"):
            return (np.asarray(np.linalg.det(rules.wide(x))).astype(x.dtype),)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Hadamard's bound, the product of the lengths of the rows."""
        (x,) = present(inputs)
        return (np.asarray(np.sqrt((rules.wide(x) ** 2).sum(axis=-1)).prod(axis=-1)),)


def _swapped(dims: Shape, transpose: bool) -> tuple[Dim, Dim]:
    return (dims[-1], dims[-2]) if transpose else (dims[-2], dims[-1])
