"""How often a loop runs whose body compares a counter with a bound that does not change: `while i < n: ...; i += 1`.

Exporters of frameworks whose loops go on while a condition holds write every loop over time so. The number of iterations then is an
expression over the sizes of a run, and what the loop collects has a dimension that later shapes are compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgecc.errors import EdgeccError
from edgecc.frontend.known import evaluated, whole_numbers
from edgecc.ir.dims import Dim, SymbolicDim, lower_bound, smaller, symbol, symbols_of, upper_bound
from edgecc.ir.graph import Value
from edgecc.ir.scalar import Apply, ScalarExpr
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.movement import Reshape

MOST_ITERATIONS = 1 << 22
"""Beyond this number loops are not looked at; counters below are exact in floats."""

_ITERATION = symbol("iteration of the loop", 0, MOST_ITERATIONS)
"""Stands for the number of the present iteration; the name is none that a model's dimension can have."""

_DEPTH = 16


def iterations(trips: Value | None, first: Value | None, iteration: Value, states: Sequence[Value], inside: Sequence[Value],
               results: Sequence[Value], captures: Mapping[Value, Value], *, at_most: bool = False) -> Dim | None:
    """The number of iterations of a loop, or None where that is not known; `at_most`: a number that it does not exceed.

    Args:
        trips: the most iterations; without them any number.
        first: the condition before the first iteration; absent where it holds.
        iteration: the number of the iteration, inside of the body.
        states: the values that are carried, before the first iteration.
        inside: the same inside of the body.
        results: the condition that the body gives, then what the states become.
        captures: values inside of the body by those outside that they stand for.
    """
    if not at_most and first is not None and (first.constant is None or not first.constant.reshape(-1)[0]):
        return None
    most = None if trips is None else _single(trips)
    if not at_most and trips is not None and most is None:
        return None
    known: dict[Value, Dim] = {iteration: _ITERATION}
    for outer, inner in captures.items():
        _learn(known, inner, _single(outer))
    for state, inner, result in zip(states, inside, results[1:], strict=False):
        if result is inner:
            _learn(known, inner, _single(state))
    for state, inner, result in zip(states, inside, results[1:], strict=False):
        start = None if result is inner else _single(state)
        if start is not None and not isinstance(start, SymbolicDim):
            known[inner] = start + _ITERATION
            after = _dim(result, known, _DEPTH)
            if after is None or after - known[inner] != 1:
                del known[inner]
    again = results[0].constant
    count = None if again is not None else _while(results[0], known, _DEPTH, at_most)
    if again is not None:
        count = most if again.reshape(-1)[0] else None
    elif most is not None and count is not None:
        try:
            count = smaller(most, count)
        except EdgeccError:
            return None
    if count is None or lower_bound(count) < 0 or upper_bound(count) > MOST_ITERATIONS:
        return None
    return count


def _learn(known: dict[Value, Dim], value: Value, dim: Dim | None) -> None:
    if dim is not None:
        known[value] = dim


def _single(value: Value) -> Dim | None:
    """The one whole number of a value, if it has one and that is known."""
    numbers = whole_numbers(value)
    return numbers[0] if numbers is not None and len(numbers) == 1 else None


def _dim(value: Value, known: Mapping[Value, Dim], depth: int) -> Dim | None:
    """One whole number that the body computes, over the number of the iteration."""
    if value in known:
        return known[value]
    if value.producer is None or depth == 0 or (isinstance(value.producer.op, Elementwise) and not value.producer.inputs):
        return _single(value)
    node = value.producer
    if isinstance(node.op, Reshape):
        return _dim(node.operand(0), known, depth - 1)
    return _expr(node.op.expr, node.inputs, known, depth) if isinstance(node.op, Elementwise) else _single(value)


def _expr(expr: ScalarExpr, operands: Sequence[Value | None], known: Mapping[Value, Dim], depth: int) -> Dim | None:
    elements = [None if value is None else _dim(value, known, depth - 1) for value in operands]
    return None if any(element is None for element in elements) else evaluated(expr, elements)


def _while(condition: Value, known: Mapping[Value, Dim], depth: int, at_most: bool) -> Dim | None:
    """How often the body runs until the condition it gives is false for the first time; `at_most`: or a part of it is, which all of it needs."""
    node = condition.producer
    if node is None or depth == 0:
        return None
    if isinstance(node.op, Reshape):
        return _while(node.operand(0), known, depth - 1, at_most)
    if not isinstance(node.op, Elementwise) or not isinstance(node.op.expr, Apply):
        return None
    expr = node.op.expr
    if expr.op == "and":
        parts = [_while(value, known, depth - 1, at_most) for value in node.inputs if value is not None]
        if at_most and None in parts:
            return next((part for part in parts if part is not None), None)
        try:
            return smaller(parts[0], parts[1]) if len(parts) == 2 and parts[0] is not None and parts[1] is not None else None
        except EdgeccError:
            return None
    if expr.op not in ("lt", "le"):
        return None
    left, right = (_expr(side, node.inputs, known, depth) for side in expr.args)
    if left is None or right is None:
        return None
    # It goes on after iteration i where i + ahead < 0, or <= 0: for the last time before i = -ahead, or after it.
    ahead = left - right - _ITERATION
    if set(symbols_of([_ITERATION])) & set(symbols_of([ahead])):
        return None
    count = 1 - ahead + (expr.op == "le")
    return count if lower_bound(count) >= 1 else None
