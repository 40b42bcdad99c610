"""Sizes of a run written to memory."""

from __future__ import annotations

from edgecc.errors import EdgeccError
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Request
from edgecc.loop.index import const
from edgecc.loop.ir import FromIndex
from edgecc.ops.sizes import Sizes


@kernel_for(Sizes, is_open=True)
def lower_sizes(request: Request) -> Kernel:
    """A store for each element."""
    op, view = request.op, request.outputs[0]
    if not isinstance(op, Sizes):
        raise TypeError(op)
    if not view.is_row_major:
        raise EdgeccError("E112", "sizes has no kernel for a result with gaps")
    b = KernelBuilder(request, "sizes", f"{len(op.elements)} sizes of the run")
    y = b.output(0, "y")
    values = request.values or tuple(const(int(element)) for element in op.elements)
    for place, value in enumerate(values):
        b.store(y, place, FromIndex(value, op.dtype))
    return b.kernel(choice="stores")
