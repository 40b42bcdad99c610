"""Convolutions and transposed convolutions."""

from __future__ import annotations

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.converters.windows import auto_pad, distribute, per_axis, window
from edgecc.frontend.registry import converter
from edgecc.ir.graph import Value
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


def convolve(call: Call) -> Value:
    """The node's operands 0 to 2 convolved as its attributes say."""
    x, w, b = call.input(0), call.input(1), call.optional(2)
    slide = window(call, x.type.shape[2:], _kernel(call, x, w))
    return call.add(Conv(slide.strides, slide.pads, slide.dilations, call.integer("group", 1)), x, w, b)


@converter("Conv")
def _conv(call: Call) -> Value:
    return convolve(call)


@converter("ConvTranspose")
def _conv_transpose(call: Call) -> Value:
    x, w, b = call.input(0), call.input(1), call.optional(2)
    kernel, rank = _kernel(call, x, w), x.type.rank - 2
    strides = per_axis(call, "strides", rank, 1, 1)
    dilations = per_axis(call, "dilations", rank, 1, 1)
    output_padding = list(per_axis(call, "output_padding", rank, 0, 0))
    mode, wanted = auto_pad(call), call.ints("output_shape")
    if wanted is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = tuple(size * stride for size, stride in zip(x.type.dims[2:], strides, strict=True))
    if wanted is None:
        pads = (0,) * (2 * rank) if mode == "VALID" else per_axis(call, "pads", 2 * rank, 0, 0)
    else:
        wanted = wanted[2:] if len(wanted) == rank + 2 else wanted
        if len(wanted) != rank or min(wanted) < 0:
            raise EdgeccError("E110", f"output_shape is {list(wanted)}; there are {rank} spatial axes")
        totals, spatial = [], x.type.dims[2:]
        for axis in range(rank):
            natural = strides[axis] * (spatial[axis] - 1) + output_padding[axis] + (kernel[axis] - 1) * dilations[axis] + 1
            output_padding[axis] += max(wanted[axis] - natural, 0)
            totals.append(max(natural - wanted[axis], 0))
        pads = distribute(totals, extra_at_end=mode == "SAME_UPPER")
    op = ConvTranspose(strides, pads, dilations, call.integer("group", 1), tuple(output_padding))
    return call.add(op, x, w, b)
