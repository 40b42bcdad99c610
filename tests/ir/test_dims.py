"""Symbolic dimensions: arithmetic agrees with numbers at every size, bounds hold, and the text parses back."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from edgecc.errors import EdgeccError
from edgecc.ir.dims import SymbolicDim, evaluate, lower_bound, stepped, symbol, symbols_of, upper_bound
from edgecc.ir.graph import Graph
from edgecc.ir.instance import sizes_of, sources
from edgecc.ir.parser import parse
from edgecc.ir.text import to_text
from edgecc.ir.types import DType, TensorType
from edgecc.ops.movement import Reshape

BATCH, LENGTH = symbol("batch", 1, 4), symbol("length", 0, 7)
SIZES = [{"batch": b, "length": n} for b, n in itertools.product(range(1, 5), range(8))]

DIMS = st.recursive(st.sampled_from([BATCH, LENGTH]) | st.integers(0, 9), lambda inner: st.one_of(
    st.tuples(inner, inner).map(lambda p: p[0] + p[1]), st.tuples(inner, inner).map(lambda p: p[0] * p[1]),
    st.tuples(inner, st.integers(-4, 4)).map(lambda p: p[0] * p[1]),
    st.tuples(inner, st.integers(1, 5)).map(lambda p: p[0] // p[1])), max_leaves=6)


@given(DIMS, DIMS, st.integers(1, 6))
@settings(max_examples=150)
def test_arithmetic_agrees_with_numbers(a, b, divisor):
    for sizes in SIZES:
        x, y = evaluate(a, sizes), evaluate(b, sizes)
        assert evaluate(a + b, sizes) == x + y and evaluate(a - b, sizes) == x - y and evaluate(a * b, sizes) == x * y
        assert evaluate(a // divisor, sizes) == x // divisor and evaluate(a % divisor, sizes) == x % divisor
        assert lower_bound(a) <= x <= upper_bound(a)
        assert evaluate(-a, sizes) == -x and evaluate(7 - a, sizes) == 7 - x
    assert (a + b) - b == a and a * b == b * a and hash(a * b) == hash(b * a)


@given(DIMS, DIMS)
@settings(max_examples=100)
def test_comparisons_hold_for_all_sizes_or_are_refused(a, b):
    truth = {evaluate(a, sizes) < evaluate(b, sizes) for sizes in SIZES}
    try:
        assert truth == {a < b}
        assert {evaluate(a, sizes) >= evaluate(b, sizes) for sizes in SIZES} == {a >= b}
    except EdgeccError as error:
        assert error.code == "E104" and truth == {True, False}
    if a == b:
        assert all(evaluate(a, sizes) == evaluate(b, sizes) for sizes in SIZES)


@pytest.mark.parametrize(("compare", "bound"), [
    (lambda t: t < 10, 10), (lambda t: 2 * t - 1 >= 10, 6), (lambda t: (t + 3) // 4 < 8, 29), (lambda t: t * t > 5, 3), (lambda t: t > 99, 100),
    (lambda t: 40 - t < 3, 38)])
def test_a_refused_comparison_names_the_bound_that_decides_it(compare, bound):
    with pytest.raises(EdgeccError) as raised:
        compare(symbol("t", 1, 100))
    assert raised.value.hint == f"give 't' one size with --shape, or raise its lower bound to {bound}"
    assert compare(symbol("t", bound, 100)) in (False, True)
    with pytest.raises(EdgeccError):
        compare(symbol("t", bound - 1, 100))


@pytest.mark.parametrize("compare", [lambda t, n: t < n, lambda t, n: t % 2 < 1])
def test_a_refused_comparison_names_no_bound_where_none_decides_it(compare):
    with pytest.raises(EdgeccError) as raised:
        compare(symbol("t", 1, 100), symbol("n", 1, 100))
    assert raised.value.hint.endswith("one size with --shape")


def test_bounds_of_what_fills_up_to_a_multiple():
    """Of too many sizes to look at each: multiples of a quotient by its divisor are the dividend less a remainder."""
    n, m = symbol("n", 1, 100_000), symbol("m", 1, 100_000)
    fills = 256 * ((n + 255) // 256) - n
    assert (lower_bound(fills), upper_bound(fills)) == (0, 255)
    assert (lower_bound(512 - fills), upper_bound(512 - fills)) == (257, 512)
    both = 3 * m - 4 * ((3 * m + n) // 4) + n
    assert (lower_bound(both), upper_bound(both)) == (0, 3)
    nested = 4 * ((8 * ((n + 7) // 8) + 2) // 4) - n
    assert (lower_bound(nested), upper_bound(nested)) == (0, 7)


@given(st.lists(st.tuples(st.integers(-12, 12), st.integers(-3, 3), st.integers(-3, 3), st.integers(-9, 9), st.integers(2, 6)), min_size=1, max_size=3),
       st.integers(-4, 4), st.integers(1, 9_999), st.integers(1, 9_999))
@settings(max_examples=100)
def test_bounds_hold_where_sizes_are_too_many_to_look_at_each(quotients, times, at_n, at_m):
    n, m = symbol("n", 1, 9_999), symbol("m", 1, 9_999)
    dim = times * n + sum(c * ((a * n + b * m + k) // d) for c, a, b, k, d in quotients)
    assert lower_bound(dim) <= evaluate(dim, {"n": at_n, "m": at_m}) <= upper_bound(dim)


def test_bounds_are_exact_for_few_sizes():
    assert lower_bound(LENGTH - LENGTH // 2) == 0
    assert isinstance(wide := symbol("wide", 1, 10**6) - symbol("other", 0, 10**6), SymbolicDim)
    assert (wide.lower, wide.upper) == (1 - 10**6, 10**6)


def test_division_of_products():
    assert (BATCH * LENGTH * 12) // (BATCH * 4) == LENGTH * 3
    assert ((LENGTH + 1) * 32) // ((LENGTH + 1) * 8) == 4
    assert (LENGTH * 4 + 6) // 4 == LENGTH + 1 and (LENGTH * 4 + 6) % 4 == 2
    with pytest.raises(EdgeccError, match="not a multiple"):
        _ = (BATCH * 12) // LENGTH


@pytest.mark.parametrize("use", [int, range, bool, lambda dim: [0][dim]])
def test_a_symbolic_dimension_is_no_number(use):
    with pytest.raises(EdgeccError) as raised:
        use(LENGTH)
    assert raised.value.code == "E104" and "'length'" in raised.value.hint


def test_hints_call_a_dimension_in_steps_as_the_user_does():
    height = stepped("h", 6, 30, 4)
    assert [height.evaluate({"h by 4": steps}) for steps in (height.symbols[0].lower, height.symbols[0].upper)] == [6, 30]
    with pytest.raises(EdgeccError) as raised:
        int(height)
    assert raised.value.hint == "give 'h' one size with --shape, or leave it open in larger steps"
    with pytest.raises(EdgeccError, match="is below") as raised:
        _ = height < 10
    assert raised.value.hint.endswith("or raise its lower bound to 12")


@given(DIMS.filter(lambda dim: lower_bound(dim) >= 0))
@settings(max_examples=60)
def test_text_parses_back(dim):
    graph = Graph()
    x = graph.add_input(TensorType(DType.F32, (dim, 3)), "x")
    graph.set_outputs([graph.add(Reshape((3, dim)), x)], ["y"])
    again = parse(to_text(graph))
    assert again.inputs[0].type == x.type and again.nodes[0].op == Reshape((3, dim))


def test_sizes_are_read_off_the_shapes_of_inputs():
    types = [TensorType(DType.F32, (LENGTH + 1, 3)), TensorType(DType.F32, (BATCH * 2, LENGTH + BATCH))]
    assert [s.symbol.name for s in sources(types)] == ["batch", "length"]
    assert sizes_of(types, [(6, 3), (4, 7)]) == {"length": 5, "batch": 2}
    assert [s.name for s in symbols_of([BATCH * 2 + LENGTH // 2])] == ["batch", "length"]
    with pytest.raises(EdgeccError, match="no dimension"):
        sources([TensorType(DType.F32, (BATCH * LENGTH,))])


def test_quotients_of_quotients_are_one_quotient():
    n = symbol("n", 10, 400)
    nested = ((n - 7) // 4 - 6) // 3
    assert nested == (n - 7) // 12 - 2 == (n - 31) // 12
    assert ((n - 10) // 5 * 2 + 3) // 4 != (2 * n - 5) // 20  # the inner quotient counts twice
    for size in range(10, 401):
        assert evaluate(nested, {"n": size}) == ((size - 7) // 4 - 6) // 3
        assert evaluate(((n - 10) // 5 * 2 + 3) // 4, {"n": size}) == ((size - 10) // 5 * 2 + 3) // 4
        assert evaluate((3 * n - 1000) // 7, {"n": size}) == (3 * size - 1000) // 7
