"""Turns the sum of a convolution or matrix product and a constant into its bias operand.

    %p = matmul(%a, %b); %y = elementwise(%p, %c) {expr=`add($0:f32, $1:f32)`}   ->  %y = matmul(%a, %b, %c)
    %p = conv(%x, %w, %b); %y = elementwise(%p, %c) {expr=`add(...)`}            ->  %y = conv(%x, %w, %b + %c)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Apply, Arg
from edgecc.ir.types import Array
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.passes.base import NodePass
from edgecc.passes.epilogue import Contraction, contraction_of
from edgecc.passes.rewrite import is_constant, replace, sole_user


@dataclass(frozen=True)
class RecognizeBias(NodePass):
    """Adds a constant summand to the bias of the contraction it follows; sums start from the bias at no cost.

    Run canonicalize first, which puts the constant on the right.

    Declines when:
    1. The contraction has another reader, is returned, or has an epilogue.
    2. The constant makes the result larger.
    3. Conv and ConvTranspose: the constant is not one number per channel.
    4. There is a bias already that is not constant.
    """

    name: ClassVar[str] = "recognize-bias"
    tolerance: ClassVar[float] = 1.0  # where two constants are added, their sum is rounded once; measured 0.3

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one sum."""
        match node.op:
            case Elementwise(expr=Apply("add", (Arg(0), Arg(1)))) if len(node.inputs) == 2:
                contraction, constant = contraction_of(node.operand(0)), node.operand(1)
            case _:
                return False
        if contraction is None or not is_constant(constant):
            return False
        op = contraction.op
        if sole_user(graph, contraction.output) is not node or not isinstance(op, Contraction) or op.epilogue is not None:
            return self.decline(node, f"{op.name} has an epilogue or another reader, or is returned")
        if contraction.output.type != node.output.type:
            return self.decline(node, "the constant makes the result larger")
        bias = contraction.inputs[2] if len(contraction.inputs) > 2 else None
        if bias is not None and not is_constant(bias):
            return self.decline(node, f"{op.name} has a bias that is not constant")
        summand = _summand(constant, contraction)
        if summand is None:
            return self.decline(node, "the constant is not one number per channel")
        if bias is not None and bias.constant is not None:
            with np.errstate(over="ignore"):
                wide = bias.constant.astype(np.float64) + summand.astype(np.float64)
                summand = (wide if bias.type.dtype.is_float else bias.constant + summand).astype(bias.constant.dtype)
        replace(graph, node, op, *contraction.inputs[:2], graph.constant(summand, "bias"), absorbed=[contraction])
        return True


def _summand(constant: Value, contraction: Node) -> Array | None:
    """The constant in the shape of the contraction's bias operand, or None where it does not fit."""
    array = constant.constant
    if array is None or isinstance(contraction.op, MatMul):
        return array
    dims = contraction.output.type.dims
    full = (1,) * (len(dims) - array.ndim) + array.shape
    if any(size != 1 for axis, size in enumerate(full) if axis != 1):
        return None
    return np.array(np.broadcast_to(array.reshape(-1), (dims[1],)))
