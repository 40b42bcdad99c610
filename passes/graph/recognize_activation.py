"""Finds activations that are spelled out in arithmetic.

    %a = %x + 3; %b = clip(%a, 0, 6); %m = %x * %b; %y = %m / 6     ->  %y = hard_swish(%x)
    %n = %x < 0; %s = %x * %slope; %y = select(%n, %s, %x)          ->  %y = prelu(%x, %slope)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Arg, ScalarExpr, evaluate
from edgecc.ir.types import Array, DType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.elementwise_table import ELEMENTWISE
from edgecc.passes.base import NodePass
from edgecc.passes.expressions import canonical
from edgecc.passes.graph.fuse_elementwise import composed
from edgecc.passes.rewrite import replace

_X = Arg(0, DType.F32)
_SAMPLES = np.concatenate([np.linspace(-12, 12, 2401), [-80, -40, -20, 20, 40, 80], *(np.array([-s, s]) for s in (1e-2, 1e-3, 1e-5))]).astype(np.float32)
_SLOPES = np.linspace(-2, 2, 17, dtype=np.float32)
_CLOSE = 4e-6
"""How far functions may differ, relative to the larger of the operand and the result: constants are written with few digits."""

_FUNCTIONS = tuple(
    ELEMENTWISE[name].build((_X,), dict(attributes)) for name, attributes in (
        ("Sigmoid", ()), ("HardSwish", ()), ("HardSigmoid", (("alpha", 1 / 6), ("beta", 0.5))), ("HardSigmoid", ()), ("Mish", ()), ("Softplus", ()),
        ("Softsign", ()), ("Gelu", ()), ("Gelu", (("approximate", "tanh"),))))
_PRELU = ELEMENTWISE["PRelu"].build((_X, Arg(1, DType.F32)), {})


@dataclass(frozen=True)
class RecognizeActivation(NodePass):
    """Replaces arithmetic on one value, or on one and a constant, by the activation that it computes.

    What is compared are the functions, at many places, not how they are written: there are many ways to write each. The
    arithmetic may be spread over up to `max_nodes` nodes that nothing else reads. For formats whose readers know activations
    by name, and for quantization: each value between the nodes would be rounded to 8 bits.

    Declines when:
    1. The function is none that is known.
    """

    name: ClassVar[str] = "recognize-activation"
    # Equal in exact arithmetic but for constants of few digits; measured maximum 0.9.
    tolerance: ClassVar[float] = 4.0

    max_nodes: int = 8

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites the arithmetic that ends in one node."""
        if not isinstance(node.op, Elementwise) or node.output.type.dtype is not DType.F32:
            return False
        operands, expr, absorbed = [v for v in node.inputs if v is not None], node.op.expr, [node]
        while len(absorbed) < self.max_nodes:
            producer = next((p for v in operands if (p := v.producer) is not None and isinstance(p.op, Elementwise) and not graph.is_output(v)
                             and all(user in absorbed for user in v.users)), None)
            if producer is None or not isinstance(producer.op, Elementwise):
                break
            operands, expr = canonical(*composed(operands, expr, producer, producer.op.expr), node.output.type.shape)
            absorbed.append(producer)
            found = _recognized(operands, expr, node.output)
            if found is not None:
                replace(graph, node, found[0], *found[1], absorbed=absorbed[1:])
                return True
        return len(absorbed) > 1 and self.decline(node, f"{len(absorbed)} nodes compute no known activation")


def _recognized(operands: list[Value], expr: ScalarExpr, result: Value) -> tuple[Elementwise, list[Value]] | None:
    """The activation that an expression over operands computes, and its operands."""
    variable = [v for v in operands if v.constant is None]
    if len(variable) != 1 or len(operands) > 2 or variable[0].type != result.type or any(v.type.dtype is not DType.F32 for v in operands):
        return None
    (x,) = variable
    place = operands.index(x)
    if len(operands) == 1:
        got = _values(expr, (_SAMPLES,))
        found = next((known for known, want in _known() if _close(got, want)), None) or _with_factor(got)
        return None if found is None else (Elementwise(found), [x])
    slope = operands[1 - place]
    grid = (_SAMPLES[:, None], _SLOPES[None, :])
    got = _values(expr, grid if place == 0 else grid[::-1])
    return (Elementwise(_PRELU), [x, slope]) if _close(got, _values(_PRELU, grid)) else None


def _with_factor(got: Array) -> ScalarExpr | None:
    """Leaky ReLU or ELU, whose factor is seen from a value below 0; None for other functions."""
    place = int(np.argmin(np.abs(_SAMPLES + 1)))
    x, y = float(_SAMPLES[place]), float(got[place])
    for name, alpha in (("LeakyRelu", y / x), ("Elu", y / math.expm1(x))):
        found = ELEMENTWISE[name].build((_X,), {"alpha": float(np.float32(alpha))})
        if 0 < alpha < 10 and _close(got, _values(found, (_SAMPLES,))):
            return found
    return None


@lru_cache(maxsize=1)
def _known() -> tuple[tuple[ScalarExpr, Array], ...]:
    return tuple((expr, _values(expr, (_SAMPLES,))) for expr in _FUNCTIONS)


def _values(expr: ScalarExpr, operands: Sequence[Array]) -> Array:
    with np.errstate(all="ignore"):
        return evaluate(expr, operands)


def _close(got: Array, want: Array) -> bool:
    if got.shape != want.shape:
        return False
    scale = np.maximum(np.abs(want), np.minimum(np.abs(_SAMPLES.reshape((-1,) + (1,) * (want.ndim - 1))), 1.0))
    return bool(np.all(np.abs(got - want) <= _CLOSE * scale))
