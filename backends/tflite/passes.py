"""Passes that put quantization where TFLite's operators can use it.

They run behind the usual passes for TFLite (`edgecc.backends.tflite.backend.tflite_passes`), on graphs whose quantization is still
stated by nodes.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from edgecc.backends.tflite import arithmetic, operators, quantized
from edgecc.backends.tflite.neighbours import integers_behind
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Arg
from edgecc.ir.types import Array, DType
from edgecc.ops.convolution import Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.movement import Concat, Reshape, Slice, Transpose
from edgecc.ops.requantize import dequantized
from edgecc.passes.base import NodePass
from edgecc.passes.scaled import rounding, scaled

_DEQUANTIZED = Elementwise(dequantized(Arg(0, DType.I8), Arg(1, DType.F32), None))


def dequantize(graph: Graph, codes: Array, scales: Array, before: Node) -> Value:
    """A node that dequantizes constants of int8 whose zero point is 0; `scales` broadcasts to `codes`."""
    return graph.add(_DEQUANTIZED, graph.constant(codes.astype(np.int8)), graph.constant(scales.astype(np.float32)), before=before, loc=before.loc)


class MoveConstants(NodePass):
    """Moves the integers of a dequantized constant instead of what they stand for.

        %w = dequantize(%q, scale); %y = transpose(%w)   ->   %p = constant; %y = dequantize(%p, scale)

    Declines where the scales differ along an axis that is reshaped.
    """

    name: ClassVar[str] = "tflite.move-constants"
    tolerance: ClassVar[float] = 0.0

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one Reshape or Transpose."""
        if not isinstance(node.op, Reshape | Transpose) or graph.is_output(node.output):
            return False
        x = node.operand(0)
        form = scaled(x)
        if form is None or form.integers.constant is None or x.producer is None or not node.output.type.is_static:
            return False
        parts = [value for value in x.producer.inputs if value is not None]
        moved = []
        for value in parts:
            if value.constant is None:
                return False
            if value.type.elements == 1:
                moved.append(graph.constant(value.constant.reshape(())) if value.type.rank else value)
            elif value.type.shape == x.type.shape or (isinstance(node.op, Transpose) and value.type.rank == x.type.rank):
                (array,) = node.op.reference([value.constant])
                moved.append(graph.constant(array, value.name))
            else:
                return self.decline(node, "the scales differ along an axis that is reshaped")
        graph.replace_all_uses(node.output, graph.add(x.producer.op, *moved, before=node, loc=(*x.producer.loc, *node.loc)))
        graph.erase_dead([node])
        return True


class QuantizeBeforeMovement(NodePass):
    """Quantizes what is computed before it is moved, where it is quantized afterwards.

        %y = conv(...); %m = reshape(%y); %q = quantize(%m)
        ->  %y = conv(...); %p = quantize(%y); %d = dequantize(%p); %m = reshape(%d); %q = quantize(%m)

    So the node that computes ends on integers, and they are moved. Declines where somebody else reads a value in between.
    """

    name: ClassVar[str] = "tflite.quantize-before-movement"
    tolerance: ClassVar[float] = 0.0

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites what stands in front of one quantizing node."""
        form = rounding(node)
        steps = None if form is None else form.steps
        if form is None or steps is None or quantized.quantization_of(node) is None:
            return False
        changed, pending = False, [form.operand]
        while pending:
            value = pending.pop()
            mover = value.producer
            if mover is None or not graph.has_single_use(value):
                continue
            if _limits(mover) and graph.has_single_use(before := mover.operand(0)) and before.producer is not None and _moves(before.producer):
                pending.append(before)
                continue
            if not _moves(mover):
                continue
            for index, operand in enumerate(mover.inputs):
                if operand is None or operand not in operators.moved(mover):
                    continue
                if operand.producer is None or quantized.is_constant(operand) or not graph.has_single_use(operand):
                    continue
                if _moves(operand.producer):
                    pending.append(operand)
                elif integers_behind(operand) is None:
                    codes = graph.add(Elementwise(steps.quantized(Arg(0, DType.F32))), operand, before=mover, loc=node.loc)
                    graph.set_operand(mover, index, graph.add(Elementwise(steps.dequantized(Arg(0, steps.dtype))), codes, before=mover, loc=node.loc))
                    changed = True
        return changed


def _limits(node: Node) -> bool:
    """Whether a node is an activation, which keeps the order of numbers."""
    return isinstance(node.op, Elementwise) and arithmetic.activation(node.op.expr) is not None


def _moves(node: Node) -> bool:
    """Whether rounding before or after a node gives the same."""
    return isinstance(node.op, Reshape | Transpose | Slice | Concat) or (isinstance(node.op, Pool) and node.op.kind == "max")
