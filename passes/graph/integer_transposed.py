"""Makes transposed convolutions of dequantized operands ordinary ones, for which there are kernels on integers.

    %y = conv_transpose(%x, %w) {strides=(2,2), pads=(1,1,1,1)} : f32[1,O,2H,2W]; %q = quantize(%y)
        ->  %c = conv(%x, %v) {strides=(1,1)} : f32[1,4 O,H+1,W+1]; %p = quantize(%c)
            %q = slice(reshape(transpose(reshape(%p)))) : [1,O,2H,2W]

Result position o and input position i meet at tap k where o + pad = i*stride + k. With o + pad = stride*q + phase and
k = stride*t + phase that is i = q - t for every phase: a convolution with stride 1 whose channels are the phases, and movement that
puts these beside each other (Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Arg
from edgecc.ir.types import Array, DType
from edgecc.ops.convolution import Conv, ConvTranspose
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.movement import Reshape, Slice, Transpose
from edgecc.ops.requantize import dequantized
from edgecc.passes.base import NodePass
from edgecc.passes.rewrite import replace, sole_user, uniform_element
from edgecc.passes.scaled import SHORT, Scaled, rounding, scaled

MOST_PRODUCTS = 2.5
"""How many times as many products the convolution may sum, with zeros where phases have fewer taps than others: 3 x 3 taps with strides of 2 are 1.8."""


@dataclass(frozen=True)
class IntegerTransposed(NodePass):
    """Replaces ConvTranspose of a dequantized operand and constant dequantized weights by Conv and movement.

    A quantization behind it, and functions of each element between, come in front of the movement, so that bytes are moved.

    Declines when:
    1. An operand is in float, or has scales of its own for something else than output channels.
    2. Taps are dilated, a size is open or nothing, or a bias is computed.
    3. Strides do not divide the window, and zeros in the place of missing taps would make more than `MOST_PRODUCTS` of each product.
    """

    name: ClassVar[str] = "integer-transposed"
    tolerance: ClassVar[float] = 4.0  # the same products summed in another order
    rounds_anew: ClassVar[bool] = True

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one transposed convolution and the functions behind it."""
        op = node.op
        if not isinstance(op, ConvTranspose) or op.epilogue is not None:
            return False
        x, w = scaled(node.operand(0)), scaled(node.operand(1))
        if x is None or w is None or w.integers.constant is None:
            return x is not w and self.decline(node, f"operand {0 if x is None else 1} is in float")
        if x.integers.type.dtype not in SHORT or w.integers.type.dtype not in SHORT:
            return self.decline(node, "an operand has integers of 32 bits")
        parameters = _weights(op, w)
        if parameters is None:
            return self.decline(node, "scales differ along an axis that is summed over")
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        sizes = [size for size in node.operand(0).type.shape[2:] if isinstance(size, int)]
        if any(d != 1 for d in op.dilations) or len(sizes) != len(op.strides) or node.output.type.count == 0:
            return self.decline(node, "taps are dilated, or a size is open or nothing")
        known = None if bias is None else scaled(bias)
        if bias is not None and (bias if known is None else known.integers).constant is None:
            return self.decline(node, "its bias is computed")
        kernel = w.integers.constant.shape[2:]
        products = math.prod(-(-k // s) * s / k for k, s in zip(kernel, op.strides, strict=True))
        if products > MOST_PRODUCTS:
            return self.decline(node, f"a convolution of its phases sums {products:.1f} times as many products")
        _replace(graph, node, op, parameters, bias, sizes)
        return True


def _weights(op: ConvTranspose, w: Scaled) -> tuple[Array, Array] | None:
    """Integers without zero points [C,O/G,K...], and scales [O/G] or []; None where there are no such."""
    stored = np.asarray(w.integers.constant)
    integers = stored.astype(np.int64) - w.zero
    shape = (1,) * (stored.ndim - w.scale.ndim) + w.scale.shape
    if any(size != 1 for axis, size in enumerate(shape) if axis != 1):
        return None
    for dtype in (np.int8, np.int16):
        if np.iinfo(dtype).min <= integers.min(initial=0) and integers.max(initial=0) <= np.iinfo(dtype).max:
            return integers.astype(dtype), w.scale.reshape(-1) if w.scale.size > 1 else w.scale.reshape(())
    return None


def _replace(graph: Graph, node: Node, op: ConvTranspose, parameters: tuple[Array, Array], bias: Value | None, sizes: Sequence[int]) -> None:
    integers, scales = parameters
    rank, strides, group = len(sizes), op.strides, op.group
    channels = integers.shape[1]
    taps = [-(-k // s) for k, s in zip(integers.shape[2:], strides, strict=True)]
    results = [int(size) for size in node.output.type.dims[2:]]
    # Rows of phases that no result lies in are left out where they are the first ones; others are cut off behind.
    first = [min(pad // s, t - 1) for pad, s, t in zip(op.pads, strides, taps, strict=False)]
    rows = [-(-(pad + size) // s) - skipped for pad, size, s, skipped in zip(op.pads, results, strides, first, strict=False)]
    before = [t - 1 - skipped for t, skipped in zip(taps, first, strict=True)]
    after = [max(0, own - size - begin + t - 1) for own, size, begin, t in zip(rows, sizes, before, taps, strict=True)]
    rows = [size + begin + end - t + 1 for size, begin, end, t in zip(sizes, before, after, taps, strict=True)]

    form = dequantized(Arg(0, DType.I8 if integers.dtype == np.int8 else DType.I16), Arg(1, DType.F32), None)
    phases = math.prod(strides)
    arranged = graph.constant(_arranged(integers, strides, taps, group), node.operand(1).name)
    factors = scales if scales.ndim == 0 else np.tile(scales, group * phases).reshape(-1, *[1] * (rank + 1))
    weights = graph.add(Elementwise(form), arranged, graph.constant(factors.astype(np.float32), "scale"), before=node, loc=node.loc)
    more = [] if bias is None else [_tiled(graph, node, bias, group, channels, phases)]
    conv = Conv((1,) * rank, (*before, *after), (1,) * rank, group)
    value = graph.add(conv, node.operand(0), weights, *more, before=node, loc=node.loc, name=node.output.name)

    last = node
    for behind in _functions(graph, node):
        operands = [value if v is None or v is last.output else _scalar(graph, v) for v in behind.inputs]
        value = graph.add(behind.op, *operands, before=behind, loc=behind.loc, name=behind.output.name)
        last = behind
    batch = value.type.shape[0]
    value = graph.add(Reshape((batch, group, *strides, channels, *rows)), value, before=last, loc=node.loc, name=node.output.name)
    beside = itertools.chain.from_iterable((3 + rank + axis, 2 + axis) for axis in range(rank))
    value = graph.add(Transpose((0, 1, 2 + rank, *beside)), value, before=last, loc=node.loc, name=node.output.name)
    whole = (batch, group * channels, *(count * s for count, s in zip(rows, strides, strict=True)))
    value = graph.add(Reshape(whole), value, before=last, loc=node.loc, name=node.output.name)
    starts = [pad - skipped * s for pad, skipped, s in zip(op.pads, first, strides, strict=False)]
    replace(graph, last, Slice((0, 0, *starts), last.output.type.shape, (1,) * (rank + 2)), value, absorbed=[node])


def _arranged(integers: Array, strides: Sequence[int], taps: Sequence[int], group: int) -> Array:
    """[C,O/G,K...] as weights of the convolution, [G * phases * O/G, C/G, taps...], with zeros where a phase has fewer taps."""
    rank, (inputs, channels) = len(strides), integers.shape[:2]
    room = [(0, t * s - k) for t, s, k in zip(taps, strides, integers.shape[2:], strict=True)]
    split = itertools.chain.from_iterable(zip(taps, strides, strict=True))
    cut = np.pad(integers, [(0, 0), (0, 0), *room]).reshape(group, inputs // group, channels, *split)
    turned = np.flip(cut, axis=tuple(3 + 2 * axis for axis in range(rank)))
    order = (0, *(4 + 2 * axis for axis in range(rank)), 2, 1, *(3 + 2 * axis for axis in range(rank)))
    return np.ascontiguousarray(turned.transpose(order).reshape(-1, inputs // group, *taps))


def _tiled(graph: Graph, node: Node, bias: Value, group: int, channels: int, phases: int) -> Value:
    """The bias [O] for every phase, [G * phases * O/G]."""
    def spread(array: Array) -> Array:
        return np.repeat(array.reshape(group, 1, channels), phases, axis=1).reshape(-1)

    known = scaled(bias)
    if known is None:
        return graph.constant(spread(np.asarray(bias.constant)), bias.name)
    integers = np.asarray(known.integers.constant)
    difference = graph.constant(spread((integers - known.zero).astype(np.int32)), bias.name)
    factors = graph.constant(spread(np.broadcast_to(known.scale, integers.shape)).astype(np.float32), "scale")
    return graph.add(Elementwise(dequantized(Arg(0, DType.I32), Arg(1, DType.F32), None)), difference, factors, before=node, loc=node.loc)


def _scalar(graph: Graph, uniform: Value) -> Value:
    """A constant whose elements are all the same, as one that broadcasts to any shape."""
    return graph.constant(np.asarray(uniform.constant).reshape(-1)[0], uniform.name)


def _functions(graph: Graph, node: Node) -> list[Node]:
    """The functions of single elements between a result and its only quantization, that included; none where there is no such."""
    found: list[Node] = []
    value = node.output
    while not found or rounding(found[-1]) is None:
        user = sole_user(graph, value)
        if user is None or not isinstance(user.op, Elementwise) or user.output.type.shape != value.type.shape:
            return []
        if any(v is not None and v is not value and uniform_element(v) is None for v in user.inputs):
            return []
        found.append(user)
        value = user.output
    return found
