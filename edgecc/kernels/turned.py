"""Convolutions over columns, computed as over rows.

Kernels take neighbouring pixels of a row together: their register tiles have as many rows as there are pixels. In an image of one pixel
in each row, as which signals come from frameworks that put time before a channel of one pixel, that would be one. Which of the two
spatial axes is called the last one changes no number and no address, so those requests are answered with the axes exchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from edgecc.ir.types import Array
from edgecc.kernels.kernel import Candidate, Kernel, Packed
from edgecc.kernels.request import Request
from edgecc.kernels.view import View
from edgecc.ops.convolution import Conv


def turned(request: Request, op: Conv) -> Request | None:
    """The request of the same convolution with both spatial axes exchanged, where the last one holds one pixel; else None.

    Requests for some rows of a result are left alone: rows are their first spatial axis.
    """
    x, w, y = request.operand(0).view, request.operand(1).view, request.outputs[0]
    if request.rows or request.is_open or len(y.dims) != 4 or y.dims[2] == 1 or (x.dims[3], w.dims[3], y.dims[3]) != (1, 1, 1):
        return None
    begin, end = op.pads[:2], op.pads[2:]
    other = replace(op, strides=op.strides[::-1], pads=(*begin[::-1], *end[::-1]), dilations=op.dilations[::-1])
    operands = tuple(operand and replace(operand, view=_turned_view(operand.view)) for operand in request.inputs)
    return replace(request, op=other, inputs=operands, outputs=tuple(map(_turned_view, request.outputs)))


def for_given_weights(candidate: Candidate) -> Candidate:
    """A candidate for a turned request, for weights whose axes are in the order of the request before."""
    return replace(candidate, build=partial(_build, candidate.build))


def _build(build: Callable[[], Kernel]) -> Kernel:
    kernel = build()
    return replace(kernel, arguments=tuple(replace(argument, pack=partial(_pack, argument.pack)) if isinstance(argument, Packed) else argument
                                           for argument in kernel.arguments))


def _pack(pack: Callable[..., Array], *arrays: Array | None) -> Array:
    return pack(*(np.swapaxes(array, -1, -2) if array is not None and array.ndim == 4 else array for array in arrays))


def _turned_view(view: View) -> View:
    """The view with its last two axes exchanged; one of fewer axes says the same about every pixel."""
    if len(view.dims) < 2:
        return view
    return replace(view, dims=(*view.dims[:-2], *view.dims[:-3:-1]), strides=(*view.strides[:-2], *view.strides[:-3:-1]))
