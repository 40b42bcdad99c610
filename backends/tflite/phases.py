"""The pass that states transposed convolutions as convolutions with a channel for each phase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.backends.tflite import quantized
from edgecc.backends.tflite.passes import dequantize
from edgecc.backends.tflite.transposed import transposed_obstacle
from edgecc.ir.dims import numbers
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ops.convolution import Conv, ConvTranspose
from edgecc.ops.movement import Reshape, Slice, Transpose
from edgecc.passes.base import NodePass


@dataclass(frozen=True)
class SumTransposed(NodePass):
    """States a transposed convolution as a convolution that has a channel for each phase, and puts the pixels in order.

        %y = conv_transpose(%x, w) {strides=(3,3)}   ->   %c = conv(%x, phases of w); %y = slice(pixels of %c in order)

    Before anything is cut off, result s*q + r sums x[q - j] * w[r + s*j] over j.

    Options: largest_stride, of those that TFLite's own operator may have, the same along all axes; 0 is any.

    Declines where TFLite's operator does it, for epilogues, and for weights that are computed.
    """

    name: ClassVar[str] = "tflite.sum-transposed"
    # The same terms, summed in another order.
    tolerance: ClassVar[float] = 2.0

    largest_stride: int = 0

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one transposed convolution."""
        op = node.op
        if not isinstance(op, ConvTranspose):
            return False
        x, w = node.operand(0), node.operand(1)
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if op.epilogue is not None or x.type.rank not in (3, 4) or not quantized.is_constant(w) or (
                bias is not None and not quantized.is_constant(bias)) or not (x.type.is_static and x.type.elements):
            return self.decline(node, "weights or bias are computed, or the image has another rank")
        if transposed_obstacle(op, node) is None and self._fits(op):
            return self.decline(node, "TFLite has it")
        graph.replace_all_uses(node.output, _phases(graph, node, op, w, bias))
        graph.erase_dead([node])
        return True

    def _fits(self, op: ConvTranspose) -> bool:
        return not self.largest_stride or (len(set(op.strides)) == 1 and op.strides[0] <= self.largest_stride)


def _phases(graph: Graph, node: Node, op: ConvTranspose, w: Value, bias: Value | None) -> Value:
    x, rank = node.operand(0), len(op.strides)
    batch, channels, *wanted = numbers(node.output.type.dims)
    sizes = numbers(x.type.dims)[2:]
    codes = quantized.weight_codes(w)
    array = quantized.constant_floats(w) if codes is None else codes.array
    for axis, dilation in enumerate(op.dilations):
        spread = np.zeros([(n - 1) * dilation + 1 if place == axis + 2 else n for place, n in enumerate(array.shape)], array.dtype)
        spread[(slice(None),) * (axis + 2) + (slice(None, None, dilation),)] = array
        array = spread
    terms = [-(-taps // stride) for taps, stride in zip(array.shape[2:], op.strides, strict=True)]
    array = np.pad(array, [(0, 0), (0, 0), *((0, n * s - taps) for n, s, taps in zip(terms, op.strides, array.shape[2:], strict=True))])
    # [C,O/G,j1,r1,j2,r2] -> [O/G,r1,r2,C,j1,j2], where j counts backwards as the window goes forwards.
    array = array.reshape(*array.shape[:2], *(n for pair in zip(terms, op.strides, strict=True) for n in pair))
    spatial = [2 + 2 * axis for axis in range(rank)]
    array = np.flip(array, tuple(spatial)).transpose(1, *(axis + 1 for axis in spatial), 0, *spatial)
    phases = int(np.prod(op.strides))
    grouped = array.reshape(channels // op.group * phases, op.group, -1, *terms)
    kernel = np.ascontiguousarray(np.moveaxis(grouped, 1, 0)).reshape(channels * phases, -1, *terms)
    if codes is None:
        weights = graph.constant(kernel)
    else:
        every = np.tile(codes.scales, op.group) if codes.scales.size > 1 else np.broadcast_to(codes.scales, (channels,))
        weights = dequantize(graph, kernel, np.repeat(every, phases).reshape(-1, *[1] * (rank + 1)), node)
    added = None if bias is None else graph.constant(np.repeat(np.broadcast_to(quantized.constant_floats(bias).reshape(-1), (channels,)), phases))

    def add(made: Conv | Reshape | Transpose | Slice, *operands: Value | None) -> Value:
        return graph.add(made, *operands, before=node, loc=node.loc)

    begin = op.pads[:rank]
    # Rows behind the last term are there where the result reaches further.
    more = [max(-(-(b + size) // s) - (n + j - 1), 0) for b, size, s, n, j in zip(begin, wanted, op.strides, sizes, terms, strict=True)]
    pads = (*(n - 1 for n in terms), *(n - 1 + extra for n, extra in zip(terms, more, strict=True)))
    y = add(Conv((1,) * rank, pads, (1,) * rank, group=op.group), x, weights, added)
    rows = numbers(y.type.dims)[2:]
    y = add(Reshape((batch, channels, *op.strides, *rows)), y)
    y = add(Transpose((0, 1, *(place for axis in range(rank) for place in (2 + rank + axis, 2 + axis)))), y)
    whole = [n * s for n, s in zip(rows, op.strides, strict=True)]
    y = add(Reshape((batch, channels, *whole)), y)
    return y if whole == wanted else add(Slice((0, 0, *begin), (batch, channels, *wanted), (1,) * (rank + 2)), y)
