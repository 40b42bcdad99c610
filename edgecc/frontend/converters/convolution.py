"""Convolutions and transposed convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.converters.open_convolution import add_convolution, by_phases, is_open
from edgecc.frontend.converters.windows import auto_pad, cut, distribute, padded, per_axis, window
from edgecc.frontend.known import known_data
from edgecc.frontend.registry import converter
from edgecc.ir.dims import lower_bound
from edgecc.ir.graph import Value
from edgecc.ir.types import Dim
from edgecc.ops.convolution import Conv, ConvTranspose


def _kernel(call: Call, x: Value, w: Value) -> tuple[int, ...]:
    """The spatial sizes of the weights, which a kernel_shape must repeat."""
    if x.type.rank < 3 or w.type.rank != x.type.rank:
        raise EdgeccError("E110", f"the input is {x.type} and the weights are {w.type}; "
                                  "wanted equal ranks of at least 3: [N,C,...] and [O,C/group,...]")
    kernel = w.type.dims[2:]
    stated = call.ints("kernel_shape")
    if stated is not None and stated != kernel:
        raise EdgeccError("E110", f"kernel_shape is {list(stated)}; the weights are {w.type}")
    return kernel


def convolve(call: Call, x: Value, w: Value, b: Value | None, x_zero: int | None = None) -> Value:
    """x convolved with w as the node's attributes say, plus b; `x_zero` is the zero point of integers x."""
    slide = window(call, x.type.shape[2:], _kernel(call, x, w))
    op = Conv(slide.strides, slide.pads, slide.dilations, call.integer("group", 1), x_zero=x_zero)
    return cut(call, add_convolution(call, op, padded(call, x, slide, x_zero or 0), w, b), slide)


@converter("Conv")
def _conv(call: Call) -> Value:
    return convolve(call, call.input(0), call.input(1), call.optional(2))


@converter("ConvTranspose")
def _conv_transpose(call: Call) -> Value:
    x, w, b = call.input(0), call.input(1), call.optional(2)
    kernel, rank = _kernel(call, x, w), x.type.rank - 2
    strides = per_axis(call, "strides", rank, 1, 1)
    dilations = per_axis(call, "dilations", rank, 1, 1)
    output_padding = list(per_axis(call, "output_padding", rank, 0, 0))
    mode = auto_pad(call)
    wanted: Sequence[Dim] | None = call.ints("output_shape")
    if wanted is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = tuple(size * stride for size, stride in zip(x.type.shape[2:], strides, strict=True))
    if wanted is None:
        pads = (0,) * (2 * rank) if mode == "VALID" else per_axis(call, "pads", 2 * rank, 0, 0)
    else:
        wanted = wanted[2:] if len(wanted) == rank + 2 else wanted
        if len(wanted) != rank or any(lower_bound(size) < 0 for size in wanted):
            raise EdgeccError("E110", f"output_shape is {list(wanted)}; there are {rank} spatial axes")
        totals = []
        for axis in range(rank):
            natural = strides[axis] * (x.type.shape[2 + axis] - 1) + output_padding[axis] + (kernel[axis] - 1) * dilations[axis] + 1
            beyond = int(natural - wanted[axis])  # E104 where only the run knows
            output_padding[axis] += max(-beyond, 0)
            totals.append(max(beyond, 0))
        pads = distribute(totals, extra_at_end=mode == "SAME_UPPER")
    op = ConvTranspose(strides, pads, dilations, call.integer("group", 1), tuple(output_padding))
    return by_phases(call, op, x, w, b) if is_open(x) or known_data(w) is None else call.add(op, x, w, b)
