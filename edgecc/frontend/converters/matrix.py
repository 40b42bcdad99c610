"""Matrix products."""

from __future__ import annotations

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.registry import converter
from edgecc.ir.graph import Value
from edgecc.ir.scalar import ScalarExpr, apply, literal
from edgecc.ops.matrix import Determinant, MatMul

_PLAIN = MatMul()


def scaled(x: ScalarExpr, factor: float) -> ScalarExpr:
    """x * factor, or x itself for 1."""
    return x if factor == 1.0 else apply("mul", x, literal(factor, x.dtype))


def matmul(call: Call, a: Value, b: Value, *, op: MatMul = _PLAIN) -> Value:
    """numpy.matmul with the attributes of `op`: vectors take part as a row and as a column, and leave no axis behind."""
    if a.type.rank == 0 or b.type.rank == 0:
        raise EdgeccError("E110", f"the operands are {a.type} and {b.type}; scalars cannot be multiplied as matrices")
    row, column = a.type.rank == 1, b.type.rank == 1
    left = call.reshape(a, (1, *a.type.shape)) if row else a
    right = call.reshape(b, (*b.type.shape, 1)) if column else b
    y = call.add(op, left, right)
    batch, (m, n) = y.type.shape[:-2], y.type.shape[-2:]
    return call.reshape(y, (*batch, *(() if row else (m,)), *(() if column else (n,))))


@converter("MatMul")
def _matmul(call: Call) -> Value:
    return matmul(call, call.input(0), call.input(1))


def gemm(call: Call) -> Value:
    """alpha * A' @ B' + beta * C with the node's attributes."""
    a, b, c = call.input(0), call.input(1), call.optional(2)
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    if a.type.rank != 2 or b.type.rank != 2:
        raise EdgeccError("E110", f"the operands are {a.type} and {b.type}, wanted rank 2")
    product = MatMul(call.flag("transA"), call.flag("transB"))
    if c is None or beta == 0.0:
        y = call.add(product, a, b)
        return call.map(lambda p: scaled(p, alpha), y)
    if alpha == 1.0:
        return call.add(product, a, b, call.map(lambda x: scaled(x, beta), c))
    y = call.add(product, a, b)
    return call.map(lambda p, x: apply("add", scaled(p, alpha), scaled(x, beta)), y, c)


@converter("Gemm")
def _gemm(call: Call) -> Value:
    return gemm(call)


@converter("Det")
def _determinant(call: Call) -> Value:
    return call.add(Determinant(), call.input())
