"""Pools of images whose size the run decides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.types import DType
from edgecc.kernels.elementwise import shape_text
from edgecc.kernels.iteration import Axis, Step, axis_lanes, vectors
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.open_windows import HINT, Window, windows_of
from edgecc.kernels.request import Request
from edgecc.kernels.scalar_lowering import compute_type
from edgecc.loop.builder import add, cast, div, mul, number, operation, repeat
from edgecc.loop.index import ZERO, Index, as_index, maximum, minimum
from edgecc.loop.ir import Expr, FromIndex
from edgecc.ops.convolution import Pool
from edgecc.ops.reduction import lowest


def lower_open_pool(request: Request) -> Kernel:
    """A pool with open batch and image sizes: vectors of channels, or single elements where channels do not lie side by side.

    Raises: EdgeccError E112 for an open number of channels.
    """
    op, x_view, y_view = request.op, request.operand(0).view, request.outputs[0]
    if not isinstance(op, Pool):
        raise TypeError(op)
    if not x_view.size(1).is_const:
        raise EdgeccError("E112", "pool has no kernel for channels whose number is known only at run time", hint=HINT)
    rank = len(op.kernel)
    # Rounding up lets windows reach behind the padding.
    pads = (*op.pads[:rank], *(pad + op.ceil_mode for pad in op.pads[rank:]))
    windows = windows_of(x_view, op.kernel, op.strides, op.dilations, pads)
    b = KernelBuilder(request, f"pool_{op.kind}", f"{op.kind} of windows of images of any size up to {shape_text(x_view)}")
    x, y = b.input(0, "x"), b.output(0, "y")
    dtype = compute_type(x_view.dtype)
    channels = Axis(x_view.dims[1], (y_view.strides[1], x_view.strides[1]))
    is_vector = channels.strides == (1, 1) and dtype is DType.F32
    lanes = axis_lanes(request.target, channels) if is_vector else 1
    least = lowest(np.zeros(1, x_view.dtype.numpy)) if op.kind == "max" else 0
    with ExitStack() as stack:
        image, *at = [stack.enter_context(b.loop(f"p{axis}", y_view.size(axis))) for axis in (0, *range(2, rank + 2))]

        def window(step: Step, _: int) -> None:
            total = b.declare("total", number(least, dtype, step.lanes))
            bounds = [w.taps(place) for w, place in zip(windows, at, strict=True)]
            with ExitStack() as taps:
                offset: Index = ZERO
                for axis, (own, (start, stop), place) in enumerate(zip(windows, bounds, at, strict=True)):
                    tap = taps.enter_context(b.loop(f"tap{axis}", stop, start=start))
                    offset = offset + (own.first(place) + tap * own.dilation) * x_view.strides[2 + axis]
                element = cast(step.moved((ZERO, offset)).load(b, 1, x), dtype)
                b.assign(total, operation("max", total, element) if op.kind == "max" else add(total, element))
            value = total if op.kind == "max" else _mean(op, windows, at, bounds, total)
            step.store(b, 0, y, cast(value, y.dtype))

        vectors(b, channels, (y_view.at([image, 0, *at]), as_index(image) * x_view.strides[0]), lanes, window)
    return b.kernel(choice=f"vectors of {lanes} channels, open sizes")


def _mean(op: Pool, windows: Sequence[Window], at: Sequence[Index], bounds: Sequence[tuple[Index, Index]], total: Expr) -> Expr:
    """A sum over the window at a position, divided by the number of its taps: those inside of the image, or of the padding too."""
    if all(w.is_inside for w in windows) or (op.count_include_pad and not op.ceil_mode):
        return mul(total, 1.0 / math.prod(op.kernel))
    counts = [stop - start for start, stop in bounds]
    if op.count_include_pad:  # all taps but those that rounding up lets reach behind the padding
        counts = [minimum(w.kernel, (w.size + pad - w.first(place) + (w.dilation - 1)).floordiv(w.dilation))
                  for w, pad, place in zip(windows, op.pads[len(windows):], at, strict=True)]
    count: Expr = FromIndex(maximum(counts[0], 1), total.dtype)
    for more in counts[1:]:
        count = mul(count, FromIndex(maximum(more, 1), total.dtype))
    return div(total, repeat(count, total.lanes))
