"""The one-dimensional transforms, in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.types import DType
from edgecc.kernels.winograd_transform import (
    PAIRS,
    TAPS,
    Matrix,
    input_matrix,
    output_matrix,
    points,
    transform_input,
    transform_output,
    weight_matrix,
)
from edgecc.loop.ir import Const, Expr, Op, Ref

SIZES = tuple(PAIRS)
numbers = st.fractions(min_value=-9, max_value=9, max_denominator=7)


def times(matrix: Matrix, vector: list[Fraction]) -> list[Fraction]:
    return [sum((a * b for a, b in zip(row, vector, strict=True)), Fraction(0)) for row in matrix]


class Exact:
    """Evaluates expressions in fractions; what is bound gets a name."""

    def __init__(self, values: list[Fraction | None]) -> None:
        self.known = {f"x{i}": value for i, value in enumerate(values) if value is not None}
        self.operands: list[Expr | None] = [None if v is None else Ref(f"x{i}", DType.F32) for i, v in enumerate(values)]

    def bind(self, expr: Expr) -> Expr:
        name = f"bound{len(self.known)}"
        self.known[name] = self.value(expr)
        return Ref(name, DType.F32)

    def value(self, expr: Expr | None) -> Fraction:
        match expr:
            case None:
                return Fraction(0)
            case Ref(name=name):
                return self.known[name]
            case Const(value=value):
                assert np.float32(value) == value, f"{value} is not exact"
                return Fraction(value)
            case Op(op=op, args=args):
                a, b, *rest = (self.value(arg) for arg in args)
                return {"add": a + b, "sub": a - b, "mul": a * b, "fma": a * b + sum(rest)}[op]
        raise AssertionError(expr)


@pytest.mark.parametrize("m", SIZES)
def test_points_are_distinct_and_enough(m):
    assert len(set(points(m))) == m + 1


@pytest.mark.parametrize("m", SIZES)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(data=st.data())
def test_the_matrices_compute_the_filter(m, data):
    d = [data.draw(numbers) for _ in range(m + TAPS - 1)]
    g = [data.draw(numbers) for _ in range(TAPS)]
    products = [a * b for a, b in zip(times(input_matrix(m), d), times(weight_matrix(m), g), strict=True)]
    assert times(output_matrix(m), products) == [sum(d[k + t] * g[t] for t in range(TAPS)) for k in range(m)]


@pytest.mark.parametrize("m", SIZES)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(data=st.data())
def test_straight_line_code_is_what_the_matrices_say(m, data):
    first, last = data.draw(st.integers(0, 2)), data.draw(st.integers(3, m + 2))
    values = [data.draw(numbers) if first <= i < last else None for i in range(m + TAPS - 1)]
    exact = Exact(values)
    dense = [Fraction(0) if v is None else v for v in values]
    assert [exact.value(e) for e in transform_input(m, exact.operands, exact.bind)] == times(input_matrix(m), dense)
    exact, bias = Exact([*dense, Fraction(5)]), data.draw(st.booleans())
    operands = [e for e in exact.operands if e is not None]
    got = [exact.value(e) for e in transform_output(m, operands[:-1], operands[-1] if bias else None, exact.bind)]
    assert got == [y + (5 if bias else 0) for y in times(output_matrix(m), dense)]
