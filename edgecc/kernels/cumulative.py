"""Running sums and products along any axis of any layout."""

from __future__ import annotations

from edgecc.ir.types import DType
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.folding import ACCUMULATORS
from edgecc.kernels.iteration import (
    Axis,
    Step,
    axes_of,
    axis_lanes,
    elements,
    nest,
    simplified,
    split_for_threads,
    vector_blocks,
)
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Request
from edgecc.loop.builder import cast, number, operation
from edgecc.ops.reduction import CumProd, CumSum, Cumulative

RESULT, SOURCE = 0, 1
"""The views among the strides of an axis."""


@kernel_for(CumSum, is_open=True)
@kernel_for(CumProd, is_open=True)
def lower_cumulative(request: Request) -> Kernel:
    """Several rows are walked side by side, as lanes where they are neighbours in memory.

    Floats are combined in f64, which costs little here, since operations wait for one another anyway:
    each result is rounded once.
    """
    op, x_view, y_view = request.op, request.operand(0).view, request.outputs[0]
    if not isinstance(op, Cumulative):
        raise TypeError(op)
    combine = "add" if isinstance(op, CumSum) else "mul"
    aliased = x_view.shows_same(y_view)
    b = KernelBuilder(request, op.name, f"running {'sums' if combine == 'add' else 'products'} of {shape_text(x_view)} along axis {op.axis}")
    x, y = b.input(0, "x", aliased=aliased), b.output(0, "y", aliased=aliased)
    views = [y_view, x_view]
    kept = simplified(axes_of(views, [a for a in range(len(x_view.dims)) if a != op.axis])) or (Axis(1, (0, 0)),)
    (walked,) = axes_of(views, [op.axis])
    dtype = DType.F64 if x_view.dtype.is_float else x_view.dtype
    neighbours = x_view.dtype in (DType.F32, DType.I32) and kept[-1].strides == (1, 1)
    lanes = axis_lanes(request.target, kept[-1], dtype) if neighbours else 1
    divided, parallel = split_for_threads(kept, request.threads, lanes, elements(kept) * walked.extent)

    def rows(steps: tuple[Step, ...]) -> None:
        sums = [b.declare("sum", number(op.neutral, dtype, lanes)) for _ in steps]
        with b.loop("k", walked.stop) as k:
            at = walked.stop - 1 - k if op.reverse else k
            for step, total in zip(steps, sums, strict=True):
                here = step.moved([at * s for s in walked.strides])
                following = b.let("next", operation(combine, total, cast(here.load(b, SOURCE, x), dtype)))
                here.store(b, RESULT, y, cast(total if op.exclusive else following, y.dtype))
                b.assign(total, following)

    with nest(b, divided[:-1], parallel=parallel, views=2) as offsets:
        vector_blocks(b, divided[-1], offsets, lanes, ACCUMULATORS, rows)
    return b.kernel(in_place=((0, 0),) if aliased else (), choice=f"vectors of {lanes} rows")
