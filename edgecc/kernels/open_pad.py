"""Padding of tensors whose size the run decides: all of the result is filled and x copied into it, or every position of a
padded axis says which element it repeats.
"""

from __future__ import annotations

from contextlib import ExitStack

from edgecc.errors import EdgeccError
from edgecc.ir.dims import lower_bound
from edgecc.ir.types import DType
from edgecc.kernels.copying import copy, fill
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.iteration import axes_of, open_axis
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.movement import filling_of
from edgecc.kernels.request import Request, size_dim
from edgecc.loop.builder import mul, operation, sub
from edgecc.loop.index import ZERO, Index, const, from_expr
from edgecc.loop.ir import Expr, FromIndex
from edgecc.ops.movement import Pad


def lower_open_pad(request: Request) -> Kernel:
    """The kernel of a padding.

    Raises: EdgeccError E112 for mode "wrap", and for mirrors of axes that may be no larger than the padding.
    """
    op = request.op
    if not isinstance(op, Pad):
        raise TypeError(op)
    return _constant(request, op) if op.mode == "constant" else _repeated(request, op)


def _constant(request: Request, op: Pad) -> Kernel:
    x_view, y_view = request.operand(0).view, request.outputs[0]
    b = KernelBuilder(request, "pad_constant", f"pad {shape_text(x_view)} to {shape_text(y_view)}, and less")
    x, y = b.input(0, "x", raw=True), b.output(0, "y", raw=True)
    fill(b, y, axes_of([y_view]), filling_of(b), top_level=False)
    to = sum(max(before, 0) * stride for before, stride in zip(op.before, y_view.strides, strict=True))
    source = sum(max(-before, 0) * stride for before, stride in zip(op.before, x_view.strides, strict=True))
    axes = []
    for axis, (before, after) in enumerate(zip(op.before, op.after, strict=True)):
        less = min(before, 0) + min(after, 0)
        axes.append(open_axis(x_view.dims[axis] + less, (y_view.strides[axis], x_view.strides[axis]), x_view.size(axis) + less))
    copy(b, y, x, axes, (const(to), const(source)), top_level=False)
    return b.kernel(choice="fill and copy, open sizes")


def _repeated(request: Request, op: Pad) -> Kernel:
    x_view, y_view = request.operand(0).view, request.outputs[0]
    b = KernelBuilder(request, f"pad_{op.mode}", f"pad {shape_text(x_view)} to {shape_text(y_view)}, and less ({op.mode})")
    x, y = b.input(0, "x", raw=True), b.output(0, "y", raw=True)
    padded = [axis for axis, (before, after) in enumerate(zip(op.before, op.after, strict=True)) if before or after]
    for axis in padded:
        least = lower_bound(size_dim(request, x_view.size(axis)))
        if op.mode == "wrap" or (op.mode == "reflect" and least <= max(op.before[axis], op.after[axis])) or least < 1:
            raise EdgeccError("E112", f"pad has no kernel for mode {op.mode} and these sizes known only at run time",
                              hint="give the dimension one size with --shape, or raise its lower bound above the padding")
    to, source = ZERO, ZERO
    with ExitStack() as stack:
        for axis in padded:
            i = stack.enter_context(b.loop(f"i{axis}", y_view.size(axis)))
            to = to + i * y_view.strides[axis]
            found = _position(op.mode, FromIndex(i - op.before[axis], DType.I64), x_view.size(axis) - 1)
            source = source + from_expr(b.let("address", mul(found, x_view.strides[axis])))
        copy(b, y, x, [open_axis(x_view.dims[a], (y_view.strides[a], x_view.strides[a]), x_view.size(a))
                       for a in range(len(x_view.dims)) if a not in padded], (to, source), top_level=False)
    return b.kernel(choice="computed positions, open sizes")


def _position(mode: str, at: Expr, last: Index) -> Expr:
    """The element between 0 and `last` that a position repeats; mirrors are passed once at most."""
    end = FromIndex(last, DType.I64)
    if mode == "edge":
        return operation("min", operation("max", at, 0), end)
    forwards = operation("max", at, sub(0, at))
    return sub(end, operation("max", sub(end, forwards), sub(forwards, end)))
