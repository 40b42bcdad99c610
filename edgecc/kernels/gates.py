"""Products by a gate between 0 and 1 that is spelled out by an odd function: x * 0.5 * (1 + erf(x / sqrt(2))) and y * 0.5 * (1 + tanh(u)).

The functions take care of the last bits near 0, which the addition of 1 drops.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgecc.ir.scalar import Apply, Literal, ScalarExpr

DEPTH = 2
"""Levels of products that are looked through: three factors."""
CLOSE = 2.0**-22
"""How far a factor may be from 1 / sqrt(2), relatively: roundings of it."""


@dataclass(frozen=True)
class Gate:
    """A gated product.

    Attributes:
        factor: what is multiplied.
        argument: operand of tanh; None for the normal distribution function of `factor` itself.
    """

    factor: ScalarExpr
    argument: ScalarExpr | None


def gate_of(expr: ScalarExpr, same: Callable[[ScalarExpr, ScalarExpr], bool]) -> Gate | None:
    """The gated product that `expr` is; `same` says whether two parts of it are equal."""
    scale, factors = _factors(expr)
    if scale != 0.5 or len(factors) != 2:
        return None
    for factor, sum_ in (factors, factors[::-1]):
        odd = _plus_one(sum_)
        if odd is not None and odd.op == "tanh":
            return Gate(factor, odd.args[0])
        if odd is not None and odd.op == "erf":
            scale, below = _factors(odd.args[0])
            if len(below) == 1 and abs(scale * math.sqrt(2) - 1) <= CLOSE and same(below[0], factor):
                return Gate(factor, None)
    return None


def _factors(expr: ScalarExpr, depth: int = DEPTH) -> tuple[float, list[ScalarExpr]]:
    """The product of the numbers, and the other factors, of a product of at most `depth` levels."""
    match expr:
        case Literal(value=value):
            return float(value), []
        case Apply(op="mul", args=(left, right)) if depth:
            scale, factors = _factors(left, depth - 1)
            other, more = _factors(right, depth - 1)
            return scale * other, factors + more
        case Apply(op="div", args=(dividend, Literal(value=value))) if depth and value:
            scale, factors = _factors(dividend, depth - 1)
            return scale / float(value), factors
    return 1.0, [expr]


def _plus_one(expr: ScalarExpr) -> Apply | None:
    """What 1 is added to."""
    match expr:
        case Apply(op="add", args=(Literal(value=1), Apply() as odd) | (Apply() as odd, Literal(value=1))):
            return odd
    return None
