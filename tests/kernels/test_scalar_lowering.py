"""Scalar expressions as Loop IR: types, lanes, sharing."""

import numpy as np
import pytest

from edgecc.ir.scalar import Arg, Convert, Literal, apply, literal
from edgecc.ir.types import DType
from edgecc.kernels.scalar_lowering import lower_scalar
from edgecc.loop.builder import Builder, number
from edgecc.loop.index import const
from edgecc.loop.interpreter import run_function
from edgecc.loop.ir import Broadcast, Cast, Const, Let, Load, Op, Ref, expressions, subexpressions, walk

F32, F16, I64, BOOL = DType.F32, DType.F16, DType.I64, DType.BOOL


def load(dtype=F32, lanes=1, name="x"):
    return Load(name, const(0), dtype, lanes)


def test_lowers_primitives_and_repeats_scalars():
    expr = apply("add", apply("mul", Arg(0, F32), Arg(1, F32)), literal(2, F32))
    got = lower_scalar(expr, [load(lanes=4), load(name="y")], 4)
    product = Op("mul", (load(lanes=4), Broadcast(load(name="y"), 4)), F32, 4)
    assert got == Op("add", (product, Const(2.0, F32, 4)), F32, 4)


def test_comparisons_give_bool_vectors():
    expr = apply("select", apply("lt", Arg(0, F32), literal(0, F32)), literal(0, F32), Arg(0, F32))
    got = lower_scalar(expr, [load(lanes=8)], 8)
    assert (got.dtype, got.lanes) == (F32, 8)
    assert (got.args[0].dtype, got.args[0].lanes) == (BOOL, 8)


def test_an_expression_without_operands_has_the_lanes_asked_for():
    assert lower_scalar(Literal(3.0, F32), [], 4) == Const(3.0, F32, 4)


def test_half_precision_is_computed_in_single():
    expr = apply("exp", apply("add", Arg(0, F16), literal(1, F16)))
    got = lower_scalar(expr, [load(F16, 4)], 4)
    assert isinstance(got, Cast) and got.dtype is F16
    assert all(e.dtype is F32 for e in subexpressions(got.arg) if isinstance(e, Op))
    # a value that is only moved is not converted back and forth
    assert lower_scalar(Arg(0, F16), [load(F16)]) == load(F16)
    assert lower_scalar(Convert(Arg(0, F16), F32), [load(F16)]) == Cast(load(F16), F32)


def test_an_explicit_rounding_stays():
    got = lower_scalar(Convert(Convert(Arg(0, F32), F16), F32), [load()])
    assert got == Cast(Cast(load(), F16), F32)


def test_wider_operands_are_accepted_for_half_precision():
    assert lower_scalar(apply("neg", Arg(0, F16)), [load(F32)]) == Cast(Op("neg", (load(F32),), F32), F16)
    with pytest.raises(ValueError, match="operand 0"):
        lower_scalar(Arg(0, F32), [load(I64)])


def test_a_builder_shares_equal_parts():
    expr = Arg(0, F32)
    for _ in range(40):  # 2^40 nodes as a tree
        expr = apply("mul", expr, apply("sigmoid", expr))
    b = Builder("f")
    lower_scalar(expr, [load()], builder=b)
    body = b.function().body
    assert len(body) == 40 and all(isinstance(s, Let) for s in body)


def test_equal_parts_are_found_although_they_are_different_objects():
    def part():
        return apply("exp", Arg(0, F32))

    b = Builder("f")
    got = lower_scalar(apply("add", part(), part()), [Ref("r", F32)], builder=b)
    assert len(b.function().body) == 1
    assert got.args[0] == got.args[1] == Ref("t", F32)


def test_used_constants_are_not_bound():
    b = Builder("f")
    two = literal(2, I64)
    lower_scalar(apply("mul", apply("add", Arg(0, I64), two), two), [number(1, I64)], builder=b)
    assert b.function().body == ()


def quotients(x, divisor, rounds=False):
    """x / divisor as lowered, `rounds` to an integer, by the interpreter."""
    b = Builder("quotient")
    source, result = b.buffer("x", F32, x.size, "input"), b.buffer("y", F32, x.size, "output")
    with b.loop("i", x.size) as i:
        quotient = apply("div", Arg(0, F32), literal(divisor, F32))
        b.store(result, i, lower_scalar(apply("round", quotient) if rounds else quotient, [b.load(source, i)]))
    y = np.zeros_like(x)
    run_function(b.function(), {"x": x, "y": y})
    return y, b.function()


@pytest.mark.parametrize("divisor", (3.0, 49.0, 1.4142135, -7.0, 0.1, 8.0, 1e-20, 1e-40, 0.0))
def test_quotients_by_known_numbers_are_those_of_a_division(divisor):
    divisor = float(np.float32(divisor))
    rng = np.random.default_rng(5)
    with np.errstate(all="ignore"):
        whole = np.arange(-64, 64).astype(np.float32) * np.float32(divisor)
        x = np.concatenate([whole, rng.normal(size=200).astype(np.float32), np.float32([np.inf, -np.inf, np.nan, 0.0, -0.0, 3e38])])
        got, function = quotients(x, divisor)
        assert np.array_equal(got, x / np.float32(divisor), equal_nan=True)
    divides = any(isinstance(e, Op) and e.op == "div" for s in walk(function.body) for r in expressions(s) for e in subexpressions(r))
    assert divides == (abs(divisor) < 1e-18)


def test_what_is_rounded_to_integers_is_divided():
    """Without fused multiply-adds the two parts of a reciprocal are off by a last bit, which decides about ties."""
    x = np.random.default_rng(6).normal(size=100).astype(np.float32)
    got, function = quotients(x, 0.0078, rounds=True)
    assert np.array_equal(got, np.rint(x / np.float32(0.0078)))
    assert any(isinstance(e, Op) and e.op == "div" for s in walk(function.body) for r in expressions(s) for e in subexpressions(r))


def silu(x):
    return apply("mul", x, apply("sigmoid", x))


@pytest.mark.parametrize("expr", [silu(Arg(0, F32)), apply("mul", apply("sigmoid", Arg(0, F32)), Arg(0, F32))], ids=["x first", "x last"])
def test_products_with_their_own_sigmoid_are_quotients(expr):
    x = np.array([-np.inf, -3e38, -100, -88.8, -87, -20, -1.5, -1e-30, -0.0, 0.0, 1e-40, 0.3, 5, 90, 3e38, np.inf], np.float32)
    b = Builder("silu")
    source, out = b.buffer("x", F32, x.size, "input"), b.buffer("out", F32, x.size, "output")
    with b.loop("i", x.size) as i:
        b.store(out, i, lower_scalar(expr, [b.load(source, i)]))
    function = b.function()
    assert "sigmoid" not in {e.op for e in expressions(function.body) if isinstance(e, Op)}
    arrays = {"x": x, "out": np.zeros_like(x)}
    with np.errstate(all="ignore"):
        run_function(function, arrays)
        want = x.astype(np.float64) / (1 + np.exp(-x.astype(np.float64)))
    np.testing.assert_allclose(arrays["out"], want, rtol=3e-7, atol=3e-37)
    assert np.array_equal(np.signbit(arrays["out"][1:]), np.signbit(x[1:]))


def test_a_sigmoid_that_is_needed_elsewhere_or_gates_another_value_stays():
    gate = apply("sigmoid", Arg(0, F32))
    for expr in (apply("add", apply("mul", Arg(0, F32), gate), gate), apply("mul", Arg(1, F32), gate)):
        got = lower_scalar(expr, [load(), load(name="y")])
        assert any(isinstance(e, Op) and e.op == "sigmoid" for e in subexpressions(got))


X, Y = Arg(0, F32), Arg(1, F32)
HALF, ONE = Literal(0.5, F32), Literal(1.0, F32)


def plus_one(op, operand):
    return apply("add", apply(op, operand), ONE)


ERF = plus_one("erf", apply("div", X, Literal(float(np.float32(2**0.5)), F32)))


@pytest.mark.parametrize("expr", [
    apply("mul", apply("mul", X, ERF), HALF), apply("mul", X, apply("mul", HALF, ERF)), apply("div", apply("mul", ERF, X), Literal(2.0, F32)),
    apply("mul", apply("mul", X, HALF), apply("add", ONE, apply("erf", apply("mul", Literal(0.70710677, F32), X)))),
], ids=["half last", "half of the gate", "divided", "half first"])
def test_gelu_written_out_is_one_function(expr):
    (got,) = [e for e in subexpressions(lower_scalar(expr, [load()])) if isinstance(e, Op)]
    assert (got.op, got.args) == ("gelu", (load(),))


@pytest.mark.parametrize("expr", [
    apply("mul", X, ERF), apply("mul", apply("mul", Y, ERF), HALF),
    apply("mul", apply("mul", X, plus_one("erf", apply("mul", X, Literal(0.707, F32)))), HALF),
    apply("mul", apply("mul", X, apply("add", apply("erf", apply("mul", X, Literal(0.70710677, F32))), HALF)), HALF),
    apply("round", apply("mul", apply("mul", X, ERF), HALF)),
], ids=["twice", "of another value", "of another factor", "another number added", "rounded"])
def test_other_products_with_erf_stay(expr):
    assert any(isinstance(e, Op) and e.op == "erf" for e in subexpressions(lower_scalar(expr, [load(), load(name="y")])))


def test_gates_by_tanh_are_quotients():
    u = apply("add", X, Y)
    b = Builder("gate")
    values = np.array([-50, -45, -3, -0.1, 0.0, 1e-3, 2, 60], np.float32)
    buffers = [b.buffer(name, F32, values.size, "input") for name in "xy"]
    out = b.buffer("out", F32, values.size, "output")
    with b.loop("i", values.size) as i:
        b.store(out, i, lower_scalar(apply("mul", apply("mul", X, HALF), plus_one("tanh", u)), [b.load(buffer, i) for buffer in buffers]))
    function = b.function()
    assert "tanh" not in {e.op for e in expressions(function.body) if isinstance(e, Op)}
    arrays = {"x": values, "y": values[::-1].copy(), "out": np.zeros_like(values)}
    with np.errstate(all="ignore"):
        run_function(function, arrays)
    exact = arrays["x"].astype(np.float64) / (1 + np.exp(-2 * (arrays["x"].astype(np.float64) + arrays["y"])))
    np.testing.assert_allclose(arrays["out"], exact, rtol=5e-6, atol=1e-36)
