"""The pass that states a normalization by sums and arithmetic, for formats that have no operator for it."""

from __future__ import annotations

from typing import ClassVar

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Arg, ScalarExpr, apply, literal
from edgecc.ir.types import DType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.reduction import Normalize, Reduce
from edgecc.passes.base import NodePass

_X, _Y = Arg(0, DType.F32), Arg(1, DType.F32)


class StateNormalize(NodePass):
    """States what normalizes f32 by the operators that it is made of.

        %y = normalize(%x, %scale, %bias)
        ->  %c = %x - mean(%x); %v = mean(%c * %c); %y = %c / sqrt(%v + epsilon) * %scale + %bias
    """

    name: ClassVar[str] = "tflite.state-normalize"
    # The same terms in f32, the difference and the mean of squares rounded in between.
    tolerance: ClassVar[float] = 8.0

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one normalization."""
        op = node.op
        if not isinstance(op, Normalize) or node.operand(0).type.dtype is not DType.F32:
            return False
        x = node.operand(0)

        def add(made: Elementwise | Reduce, *operands: Value) -> Value:
            return graph.add(made, *operands, before=node, loc=node.loc)

        mean = Reduce("mean", op.axes, keepdims=True)
        centred = x if op.rms else add(Elementwise(apply("sub", _X, _Y)), x, add(mean, x))
        variance = add(mean, add(Elementwise(apply("mul", _X, _X)), centred))
        expr: ScalarExpr = apply("div", _X, apply("sqrt", apply("add", _Y, literal(op.epsilon, DType.F32))))
        operands = [centred, variance]
        for primitive, operand in zip(("mul", "add"), node.inputs[1:], strict=False):
            if operand is not None:
                expr = apply(primitive, expr, Arg(len(operands), DType.F32))
                operands.append(operand)
        graph.replace_all_uses(node.output, add(Elementwise(expr), *operands))
        graph.erase_dead([node])
        return True
