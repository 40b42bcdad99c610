"""The pass that states convolutions of large strides as such of stride 1 over blocks of pixels."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from edgecc.backends.tflite import quantized
from edgecc.backends.tflite.passes import dequantize
from edgecc.ir.dims import numbers
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ops.convolution import Conv
from edgecc.ops.movement import Pad, Reshape, Slice, Transpose
from edgecc.passes.base import NodePass

LARGEST = 3
"""The largest stride that the accelerators compute (Vela 5.2, constraint_stride_width_no_upper_limit)."""


class FoldStrides(NodePass):
    """Makes channels of the pixels of a block, as large as the strides, so that windows go on block by block.

        %y = conv(%x, w) {strides=(4,4)}   ->   %b = blocks of 4 x 4 pixels of %x as channels; %y = conv(%b, blocks of w) {strides=(1,1)}

    Windows are widened by weights of 0 until they begin and end with a block. So AlexNet's 11 x 11 pixels of 3 channels become 4 x 4
    of 48.

    Declines where Vela folds by itself, for single channels, dilations, padding as wide as the window, and weights that are not of int8.
    """

    name: ClassVar[str] = "ethosu.fold-strides"
    # The same terms, summed in another order.
    tolerance: ClassVar[float] = 2.0

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one convolution."""
        op = node.op
        if not isinstance(op, Conv) or max(op.strides) <= LARGEST:
            return False
        x, codes = node.operand(0), quantized.weight_codes(node.operand(1))
        if codes is None or (codes.scales.size > 1 and codes.axis != 0) or op.epilogue is not None or not (x.type.is_static and x.type.elements):
            return self.decline(node, "it does not compute on int8")
        kernel = codes.array.shape[2:]
        if set(op.dilations) != {1} or op.group == x.type.dims[1] > 1:
            return self.decline(node, "windows have gaps, or channels stand alone")
        if any(pad >= taps for pad, taps in zip(op.pads, kernel * 2, strict=True)):
            return self.decline(node, "a window may lie beside the image")
        if not any(op.pads) and all(taps in (1, stride) and size % stride == 0
                                    for taps, stride, size in zip(kernel, op.strides, numbers(x.type.dims)[2:], strict=True)):
            return self.decline(node, "Vela does it")
        graph.replace_all_uses(node.output, _folded(graph, node, op, codes))
        graph.erase_dead([node])
        return True


def _folded(graph: Graph, node: Node, op: Conv, codes: quantized.Codes) -> Value:
    x, rank = node.operand(0), len(op.strides)
    batch, channels, *sizes = numbers(x.type.dims)
    wanted, taps = numbers(node.output.type.dims)[2:], codes.array.shape[2:]
    # Blocks in front of the image, and weights of 0 in front of a window, so that it begins with a block.
    begin = [-(-pad // stride) for pad, stride in zip(op.pads[:rank], op.strides, strict=True)]
    lead = [n * stride - pad for n, pad, stride in zip(begin, op.pads[:rank], op.strides, strict=True)]
    terms = [-(-(before + n) // stride) for before, n, stride in zip(lead, taps, op.strides, strict=True)]
    # The last window ends with this block of the image, or with one behind it.
    read = [count - 1 - first + n for count, first, n in zip(wanted, begin, terms, strict=True)]
    kept = [min(-(-size // stride), n) for size, stride, n in zip(sizes, op.strides, read, strict=True)]

    def add(made: Conv | Pad | Reshape | Slice | Transpose, *operands: Value | None) -> Value:
        return graph.add(made, *operands, before=node, loc=node.loc)

    whole = [n * stride for n, stride in zip(kept, op.strides, strict=True)]
    cut = [min(size, n) for size, n in zip(sizes, whole, strict=True)]
    if cut != sizes:
        x = add(Slice((0,) * (rank + 2), (batch, channels, *cut), (1,) * (rank + 2)), x)
    if cut != whole:
        x = add(Pad((0,) * (rank + 2), (0, 0, *(n - size for n, size in zip(whole, cut, strict=True)))), x)
    # [N,G,C/G,h,r,w,s] -> [N,G,r,s,C/G,h,w], the weights [O,C/G,j,r,k,s] -> [O,r,s,C/G,j,k]
    within, blocks = [2 * axis + 1 for axis in range(rank)], [2 * axis for axis in range(rank)]
    pairs = [number for pair in zip(kept, op.strides, strict=True) for number in pair]
    x = add(Reshape((batch, op.group, channels // op.group, *pairs)), x)
    x = add(Transpose((0, 1, *(3 + axis for axis in within), 2, *(3 + axis for axis in blocks))), x)
    x = add(Reshape((batch, channels * int(np.prod(op.strides)), *kept)), x)
    around = [(before, n * stride - before - size) for before, n, stride, size in zip(lead, terms, op.strides, taps, strict=True)]
    array = np.pad(codes.array, [(0, 0), (0, 0), *around])
    array = array.reshape(*array.shape[:2], *(number for pair in zip(terms, op.strides, strict=True) for number in pair))
    array = array.transpose(0, *(2 + axis for axis in within), 1, *(2 + axis for axis in blocks)).reshape(array.shape[0], -1, *terms)
    scales = codes.scales.reshape(-1, *[1] * (rank + 1)) if codes.scales.size > 1 else codes.scales.reshape(())
    end = [n - there for n, there in zip(read, kept, strict=True)]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return add(Conv((1,) * rank, (*begin, *end), (1,) * rank, group=op.group), x, dequantize(graph, np.ascontiguousarray(array), scales, node), bias)
