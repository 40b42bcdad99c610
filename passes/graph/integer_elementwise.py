"""Computes elementwise functions between dequantized operands and a quantized result on the integers.

    %x = (%p - zp) * s; %y = max(%x, 0); %q = quantize(%y, t, z)
        ->  %q = elementwise(%p) {expr=`saturate(max(round(f32(%p - zp) * (s / t)) + z, z))`}
    %x = (%p - zp) * s; %y = (%r - zr) * t; %a = %x + %y; %q = quantize(%a, u, z)
        ->  %q = elementwise(%p, %r) {expr=`saturate(round(f32(%p - zp) * (s / u) + f32(%r - zr) * (t / u)) + z)`}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgecc.ir.graph import Graph, Node
from edgecc.passes.base import NodePass
from edgecc.passes.quantized_region import Region, region_behind
from edgecc.passes.requantization import integer_form
from edgecc.passes.rewrite import forward, replace
from edgecc.passes.scaled import rounding


@dataclass(frozen=True)
class IntegerElementwise(NodePass):
    """Replaces a quantization and the elementwise operators in front of it, up to dequantized operands.

    Scales are divided by that of the result, once, when compiling. In this order:
    1. Limits around everything else (Relu, Clip) become limits of the integers; those the type has anyway are free.
    2. An operand alone: nothing, where its integers mean the same; else one multiplication.
    3. Sums of multiples of operands: one multiplication for each.
    4. A product of two operands of 8 bits: the integers are multiplied.
    5. Anything else made of primitives that IEEE arithmetic rounds in one way is computed as it stands, at once.

    Declines when:
    6. The operands of the quantization are not all dequantized or constant.
    7. Each element, or each channel, of the result has its own scale.
    8. A function would be computed that machines approximate differently (exp, tanh, ...).
    """

    name: ClassVar[str] = "integer-elementwise"
    tolerance: ClassVar[float] = 8.0  # quotients of scales are rounded once each, then products and sums of them
    rounds_anew: ClassVar[bool] = True

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one quantization."""
        result = rounding(node)
        if result is None or result.operand.constant is not None:
            return False
        steps = result.steps
        if steps is None:
            return self.decline(node, "elements of the result have scales of their own")
        region = region_behind(graph, result.operand)
        if not isinstance(region, Region):
            return self.decline(node, region)
        form = integer_form(graph, region, steps, node.output.type)
        if isinstance(form, str):
            return self.decline(node, form)
        op, operands = form
        if op is None:
            forward(graph, node, operands[0])
        else:
            replace(graph, node, op, *operands, absorbed=region.nodes)
        return True
