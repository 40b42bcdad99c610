"""Convolutions and transposed convolutions."""

from __future__ import annotations

from dataclasses import replace

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.converters.windows import auto_pad, cut, distribute, per_axis, window
from edgecc.frontend.known import known_data
from edgecc.frontend.registry import converter
from edgecc.ir.graph import Value
from edgecc.ir.types import Shape
from edgecc.ops.convolution import Conv, ConvTranspose
from edgecc.ops.movement import Concat, Pad, Slice


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
    return cut(call, _added(call, op, x, w, b), slide)


def _added(call: Call, op: Conv, x: Value, w: Value, b: Value | None) -> Value:
    """A convolution; of images of open sizes one for each group, for there are kernels for one group and for one of each channel."""
    if not _is_open(x) or op.group == 1 or op.group == w.type.shape[0] == x.type.shape[1]:
        return call.add(op, x, w, b)
    op.infer([x.type, w.type, None if b is None else b.type])
    inside, outside = w.type.dims[1], w.type.dims[0] // op.group
    parts = []
    for group in range(op.group):
        own = [call.slice(x, 1, group * inside, inside), call.slice(w, 0, group * outside, outside)]
        parts.append(call.add(replace(op, group=1), *own, None if b is None else call.slice(b, 0, group * outside, outside)))
    return call.add(Concat(1), *parts)


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
    wanted: Shape | None = call.ints("output_shape")
    if wanted is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = tuple(size * stride for size, stride in zip(x.type.shape[2:], strides, strict=True))
    if wanted is None:
        pads = (0,) * (2 * rank) if mode == "VALID" else per_axis(call, "pads", 2 * rank, 0, 0)
    else:
        wanted = wanted[2:] if len(wanted) == rank + 2 else wanted
        if len(wanted) != rank or min(wanted) < 0:
            raise EdgeccError("E110", f"output_shape is {list(wanted)}; there are {rank} spatial axes")
        totals = []
        for axis in range(rank):
            natural = strides[axis] * (x.type.shape[2 + axis] - 1) + output_padding[axis] + (kernel[axis] - 1) * dilations[axis] + 1
            beyond = int(natural - wanted[axis])  # E104 where only the run knows
            output_padding[axis] += max(-beyond, 0)
            totals.append(max(beyond, 0))
        pads = distribute(totals, extra_at_end=mode == "SAME_UPPER")
    op = ConvTranspose(strides, pads, dilations, call.integer("group", 1), tuple(output_padding))
    return _as_convolution(call, op, x, w, b) if _is_open(x) or known_data(w) is None else call.add(op, x, w, b)


def _is_open(x: Value) -> bool:
    """Whether the run decides on the size of images."""
    return not all(isinstance(size, int) for size in x.type.shape[2:])


def _as_convolution(call: Call, op: ConvTranspose, x: Value, w: Value, b: Value | None) -> Value:
    """A transposed convolution whose weights are computed: one of the enlarged input with the weights turned around.

    The kernels of `ConvTranspose` sort the weights by phase when compiling. Here zeros are put between the elements
    instead (Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016, section 4).
    """
    op.infer([x.type, w.type, None if b is None else b.type])
    kernel, rank = w.type.dims[2:], x.type.rank - 2
    batch, channels, *spatial = x.type.shape
    apart = call.reshape(x, (batch, channels, *(size for s in spatial for size in (s, 1))))
    after = (0, 0, *(size for stride in op.strides for size in (0, stride - 1)))
    wide = call.add(Pad((0,) * len(after), after), apart)
    wide = call.reshape(wide, (batch, channels, *(s * stride for s, stride in zip(spatial, op.strides, strict=True))))
    reach = [(k - 1) * dilation for k, dilation in zip(kernel, op.dilations, strict=True)]
    before = (reach[axis] - op.pads[axis] for axis in range(rank))
    behind = (reach[axis] - op.pads[rank + axis] + op.output_padding[axis] - op.strides[axis] + 1 for axis in range(rank))
    wide = call.add(Pad((0, 0, *before), (0, 0, *behind)), wide)
    turned = call.add(Slice((0, 0, *(k - 1 for k in kernel)), w.type.dims, (1, 1, *[-1] * rank)), w)
    inside, outside = channels // op.group, w.type.dims[1]
    grouped = call.reshape(turned, (op.group, inside, outside, *kernel))
    swapped = call.transpose(grouped, (0, 2, 1, *range(3, 3 + rank)))
    weights = call.reshape(swapped, (op.group * outside, inside, *kernel))
    return _added(call, Conv((1,) * rank, (0,) * (2 * rank), op.dilations, op.group), wide, weights, b)
