"""The one-dimensional transforms, in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.types import DType
from edgecc.kernels.spatial import Axis
from edgecc.kernels.winograd_tiles import Tiling
from edgecc.kernels.winograd_transform import (
    POINTS,
    Matrix,
    MinimalFilter,
    input_matrix,
    output_matrix,
    transform_input,
    weight_matrix,
)
from edgecc.loop.ir import Const, Expr, Op, Ref

FILTERS = [MinimalFilter(m, taps, points) for (most, taps), points in POINTS.items() for m in range(1, most + 1)]
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


@pytest.mark.parametrize(("m", "taps"), POINTS)
def test_points_are_distinct_and_enough(m, taps):
    assert len(set(POINTS[m, taps])) == m + taps - 2


def used_rows(f: MinimalFilter) -> Matrix:
    """The transformed weights that a filter uses of all there are."""
    rows = weight_matrix(f)
    return (*rows[:len(f.used)], rows[-1])


@pytest.mark.parametrize("f", FILTERS, ids=lambda f: f"F({f.m},{f.taps}) of {len(f.points)}")
@settings(max_examples=10)
@given(data=st.data())
def test_the_matrices_compute_the_filter(f, data):
    d = [data.draw(numbers) for _ in range(f.inputs)]
    g = [data.draw(numbers) for _ in range(f.taps)]
    products = [a * b for a, b in zip(times(input_matrix(f), d), times(used_rows(f), g), strict=True)]
    assert times(output_matrix(f), products) == [sum(d[k + t] * g[t] for t in range(f.taps)) for k in range(f.m)]


@pytest.mark.parametrize("f", FILTERS, ids=lambda f: f"F({f.m},{f.taps}) of {len(f.points)}")
@settings(max_examples=10)
@given(data=st.data())
def test_straight_line_code_is_what_the_matrices_say(f, data):
    first, last = data.draw(st.integers(0, f.inputs - 1)), data.draw(st.integers(1, f.inputs))
    values = [data.draw(numbers) if first <= i < last else None for i in range(f.inputs)]
    exact = Exact(values)
    dense = [Fraction(0) if v is None else v for v in values]
    assert [exact.value(e) for e in transform_input(f, exact.operands, exact.bind)] == times(input_matrix(f), dense)


@pytest.mark.parametrize(("stride", "m"), [(1, 2), (1, 3), (1, 4), (1, 6), (2, 2), (2, 4)])
@settings(max_examples=15)
@given(data=st.data())
def test_tiles_of_an_axis_filter_it(stride, m, data):
    """Weights, both transforms and the groups of products of whole and shorter tiles, put together in fractions."""
    out = data.draw(st.integers(1, 3 * m))
    count = -(-out // m)
    tiling = Tiling(Axis((out - 1) * stride + 3, out, 3, stride, 1, 0), m, count, data.draw(st.sampled_from([m, out - (count - 1) * m])))
    g = [data.draw(numbers) for _ in range(3)]
    weights = times(tiling.weight_matrix(), g)
    for size in {tiling.size_of(tile) for tile in range(count)}:
        d, bias = [data.draw(numbers) for _ in range(tiling.inputs(size))], data.draw(numbers)
        exact = Exact(d)
        factors = [exact.value(e) for e in tiling.transform_input(size, exact.operands, exact.bind)]
        own = [weight for place, group in enumerate(tiling.groups) for line in range(tiling.group_lines(group, size))
               for weight in [weights[sum(g.points for g in tiling.groups[:place]) + (0 if group.per_result else line)]]]
        exact = Exact([*(a * b for a, b in zip(factors, own, strict=True)), bias])
        results = tiling.transform_output(size, exact.operands[:-1], exact.operands[-1], exact.bind)
        assert [exact.value(e) for e in results] == [bias + sum(d[k * stride + t] * g[t] for t in range(3)) for k in range(size)]


@settings(max_examples=60)
@given(out=st.integers(1, 40), m=st.sampled_from([2, 4, 6]), size=st.integers(1, 11), short=st.booleans())
def test_blocks_cover_all_tiles_once(out, m, size, short):
    count = -(-out // m)
    tiling = Tiling(Axis(out, out, 3, 1, 1, 1), m, count, out - (count - 1) * m if short else m)
    cuts = tiling.cuts(min(size, count))
    covered = [cut.first + block * cut.size + tile for cut in cuts for block in range(cut.count) for tile in range(cut.size)]
    assert covered == list(range(count))
    assert [cut.short for cut in cuts] == [False] * (len(cuts) - 1) + [tiling.rest < m]
    assert sum(cut.count * tiling.results(cut.size, cut.short) for cut in cuts) == (out if short else count * m)
