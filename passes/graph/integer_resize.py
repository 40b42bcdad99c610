"""Interpolates the integers behind a dequantized operand.

    %x = (%p - z) * s; %y = resize(%x) {linear}   ->   %t = i32(resize(f32(%p - z)) {units=(1,1,4,4)}); %y = %t * (s / 16)

Weights are multiples of one number for each axis: of 1/4 where an image becomes twice as large. Floats hold the integers and their sums
exactly, so every machine has the same ones in whatever order it adds; integers would need more instructions.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Arg, ScalarExpr, apply, convert, literal
from edgecc.ir.types import DType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.requantize import dequantized
from edgecc.ops.resize import Resize, axis_taps, whole_unit
from edgecc.ops.rules import NARROW_INTEGERS
from edgecc.passes.base import NodePass
from edgecc.passes.rewrite import replace
from edgecc.passes.scaled import scaled

LARGEST_SUM = 2**24
"""Integers up to this are numbers of f32."""


@dataclass(frozen=True)
class IntegerResize(NodePass):
    """Makes Resize by interpolation of a dequantized operand exact sums of integers, held by floats; the sums are dequantized.

    Where every result is one element, it becomes "nearest", which moves them. Only kernels of this compiler know the operator that is left.

    Declines when:
    1. Elements have scales of their own, or 32 bits.
    2. A size is open, or positions outside of the operand have a value of their own.
    3. Weights are no multiples of a number that is large enough, or sums may exceed what f32 holds.
    """

    name: ClassVar[str] = "integer-resize"
    tolerance: ClassVar[float] = 4.0  # a scale is divided by the units and rounded
    rounds_anew: ClassVar[bool] = True

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one resampling."""
        op = node.op
        if not isinstance(op, Resize) or op.mode == "nearest" or op.units:
            return False
        operand = scaled(node.operand(0))
        if operand is None:
            return False
        steps = operand.steps
        if steps is None or steps.dtype not in NARROW_INTEGERS:
            return self.decline(node, "elements have scales of their own, or an operand has integers of 32 bits")
        sizes = node.operand(0).type.shape
        known = [size for size in sizes if isinstance(size, int)]
        if len(known) != len(sizes) or not node.output.type.is_static or 0 in known or op.coordinate_mode == "tf_crop_and_resize":
            return self.decline(node, "a size is open, or what lies outside of the operand has a value of its own")
        units = [whole_unit(op, axis, size) for axis, size in enumerate(known)]
        whole = [unit for unit in units if unit is not None]
        total = math.prod(whole)
        least, most = (int(limit) for limit in steps.dtype.limits)
        reach = math.prod(float(np.abs(axis_taps(op, axis, size)[1]).sum(axis=1).max(initial=0.0)) for axis, size in enumerate(known))
        if total == 1 and len(whole) == len(units):  # nothing lies between two elements
            replace(graph, node, dataclasses.replace(op, mode="nearest", nearest_mode="round_prefer_floor"), node.operand(0))
            return True
        if len(whole) != len(units) or max(most - steps.zero, steps.zero - least) * reach * total > LARGEST_SUM:
            return self.decline(node, "the weights of its interpolation are no multiples of a number whose sums f32 holds")

        def mapped(expr: ScalarExpr, value: Value) -> Value:
            return graph.add(Elementwise(expr), value, before=node, loc=node.loc, name=node.output.name)

        difference = apply("sub", convert(Arg(0, steps.dtype), DType.I32), literal(steps.zero, DType.I32))
        numbers = mapped(convert(difference, DType.F32), operand.integers)
        sums = graph.add(dataclasses.replace(op, units=tuple(whole)), numbers, before=node, loc=node.loc, name=node.output.name)
        form = dequantized(Arg(0, DType.I32), literal(steps.scale / total, DType.F32), None)
        replace(graph, node, Elementwise(form), mapped(convert(Arg(0, DType.F32), DType.I32), sums))
        return True
