"""Computes softmax between a dequantized operand and quantized results on integers.

    %x = (%p - z) * s; %y = softmax(%x); %q = quantize(%y, t, zq)
        ->  %m = reduce(%p) {max}; %d = u8(%m - %p); %e = gather(table, %d) : i32; %n = reduce(%e) {wide_sum} : i64
            %q = saturate(round(f32(%e) * (1 / (f32(%n) * t))) + zq)

table[d] is exp(-s d) times 2^30, rounded: no machine computes it its own way, and sums of integers do not depend on their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.graph import Graph, Node
from edgecc.ir.scalar import Arg, apply, convert, literal
from edgecc.ir.types import DType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather
from edgecc.ops.reduction import Reduce, Softmax
from edgecc.ops.requantize import rounded
from edgecc.passes.base import NodePass
from edgecc.passes.requantization import EIGHT_BITS
from edgecc.passes.rewrite import replace
from edgecc.passes.scaled import rounding, scaled

TABLE_BITS = 30
"""Powers are multiples of 2^-30: with 32 bits for each and 64 for sums, the error of a quotient stays near that of float32."""


@dataclass(frozen=True)
class IntegerSoftmax(NodePass):
    """Replaces a quantization of a softmax of one dequantized operand of 8 bits.

    Declines when:
    1. The operand is in float or has more bits, or elements have scales of their own.
    2. It is the logarithm of a softmax.
    """

    name: ClassVar[str] = "integer-softmax"
    tolerance: ClassVar[float] = 8.0  # two conversions, two products and a quotient round; powers have 30 bits
    rounds_anew: ClassVar[bool] = True

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one quantization."""
        result = rounding(node)
        producer = None if result is None else result.operand.producer
        if result is None or producer is None or not isinstance(producer.op, Softmax):
            return False
        operand = scaled(producer.operand(0))
        if operand is None or operand.integers.type.dtype not in EIGHT_BITS:
            return self.decline(node, "the operand of the softmax is no dequantized number of 8 bits")
        source, steps = operand.steps, result.steps
        if source is None or steps is None:
            return self.decline(node, "elements have scales of their own")
        if producer.op.log:
            return self.decline(node, "logarithms are computed in float")
        integers, axes = operand.integers, (producer.op.axis,)

        largest = graph.add(Reduce("max", axes), integers, before=node, loc=producer.loc, name="largest")
        dtype = integers.type.dtype
        below = apply("sub", convert(Arg(1, dtype), DType.I32), convert(Arg(0, dtype), DType.I32))
        distance = graph.add(Elementwise(convert(below, DType.U8)), integers, largest, before=node, loc=producer.loc, name="distance")
        powers = np.rint(np.exp(-source.scale * np.arange(256.0)) * 2.0**TABLE_BITS).astype(np.int32)
        terms = graph.add(Gather(0), graph.constant(powers, "powers"), distance, before=node, loc=producer.loc, name="powers")
        total = graph.add(Reduce("wide_sum", axes), terms, before=node, loc=producer.loc, name="total")
        inverse = apply("div", literal(1.0, DType.F32), apply("mul", convert(Arg(0, DType.I64), DType.F32), literal(steps.scale, DType.F32)))
        factor = graph.add(Elementwise(inverse), total, before=node, loc=producer.loc, name="factor")
        expr = rounded(apply("mul", convert(Arg(0, DType.I32), DType.F32), Arg(1, DType.F32)), steps.offset, steps.dtype)
        replace(graph, node, Elementwise(expr), terms, factor, absorbed=[producer])
        return True
