"""Determinants by Gaussian elimination.

Source: G. H. Golub, C. F. Van Loan, "Matrix Computations", 4th edition, algorithm 3.4.1 (partial pivoting).
"""

from __future__ import annotations

from edgecc.ir.types import DType
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.iteration import Axis, nest, simplified
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Request
from edgecc.loop.builder import cast, div, fma, less, mul, number, operation, select
from edgecc.loop.index import from_expr
from edgecc.loop.ir import FromIndex
from edgecc.ops.matrix import Determinant


@kernel_for(Determinant)
def lower_determinant(request: Request) -> Kernel:
    """Each matrix is copied to scratch memory and eliminated there, in f64.

    Rows are not exchanged but for what is still read of them. A pivot of 0 leaves the product 0; its row is divided
    by 1 instead. NaN is never chosen for its size, and reaches the product through its own column.
    """
    op, x_view, y_view = request.op, request.operand(0).view, request.outputs[0]
    if not isinstance(op, Determinant):
        raise TypeError(op)
    size, wide = x_view.dims[-1], DType.F64
    b = KernelBuilder(request, "determinant", f"determinants of {shape_text(x_view)}")
    x, y = b.input(0, "x"), b.output(0, "y")
    m = b.workspace("m", wide, size * size)
    stack = simplified([Axis(d, (s, t)) for d, s, t in zip(y_view.dims, y_view.strides, x_view.strides, strict=False)])
    if not y_view.elements:
        return b.kernel(choice="nothing to compute")
    with nest(b, stack, views=2) as (to, source):
        with b.loop("i", size) as i, b.loop("j", size) as j:
            b.store(m, i * size + j, cast(b.load(x, source + i * x_view.strides[-2] + j * x_view.strides[-1]), wide))
        total = b.declare("product", number(1, wide))
        with b.loop("k", size) as k:
            largest = b.declare("largest", operation("abs", b.load(m, k * size + k)))
            row = b.declare("row", FromIndex(k, DType.I64))
            with b.loop("i", size, start=k + 1) as i:
                entry = b.let("entry", operation("abs", b.load(m, i * size + k)))
                better = b.let("better", less(largest, entry))
                b.assign(row, select(better, FromIndex(i, DType.I64), row))
                b.assign(largest, select(better, entry, largest))
            chosen = from_expr(b.let("chosen", mul(row, size)))
            pivot = b.let("pivot", b.load(m, chosen + k))
            b.assign(total, mul(total, select(operation("eq", row, FromIndex(k, DType.I64)), pivot, operation("neg", pivot))))
            divisor = b.let("divisor", select(operation("eq", pivot, 0.0), number(1, wide), pivot))
            with b.loop("j", size, start=k) as j:
                exchanged = b.let("exchanged", b.load(m, k * size + j))
                b.store(m, k * size + j, b.load(m, chosen + j))
                b.store(m, chosen + j, exchanged)
            with b.loop("i", size, start=k + 1) as i:
                factor = b.let("factor", div(operation("neg", b.load(m, i * size + k)), divisor))
                with b.loop("j", size, start=k + 1) as j:
                    b.store(m, i * size + j, fma(factor, b.load(m, k * size + j), b.load(m, i * size + j)))
        b.store(y, to, cast(total, y.dtype))
    return b.kernel(choice="elimination with partial pivoting")
