"""The interpreter: exact arithmetic, and every illegal access is caught."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecc.errors import EdgeccError
from edgecc.ir.types import Array, DType, TensorType
from edgecc.loop.arithmetic import operation
from edgecc.loop.interpreter import run_function, run_module
from edgecc.loop.module import (
    ArenaBytes,
    Call,
    Constant,
    InputBytes,
    Interface,
    Module,
    OutputBytes,
    WeightBytes,
)
from edgecc.loop.parser import parse

F32 = np.float32


def run(text: str, **buffers: Array) -> None:
    run_function(parse(text), buffers)


def matmul_text(m: int, n: int, k: int) -> str:
    return f"""function matmul(a: f32[{m * k}] input, b: f32[{k * n}] input, y: f32[{m * n}] output) {{
      parallel for i in 0..{m} {{
        for j in 0..{n} {{
          var acc = 0.0:f32
          for k in 0..{k} {{
            acc = fma(a[{k}*i + k], b[j + {n}*k], acc)
          }}
          y[{n}*i + j] = acc
        }}
      }}
    }}"""


def test_a_matrix_product() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 5)).astype(F32), rng.standard_normal((5, 4)).astype(F32)
    y = np.empty(12, F32)
    run(matmul_text(3, 4, 5), a=a.ravel(), b=b.ravel(), y=y)
    np.testing.assert_allclose(y.reshape(3, 4), a @ b, rtol=1e-5, atol=1e-6)


def test_vectors_strides_and_valid_lanes() -> None:
    x, y = np.arange(8, dtype=F32), np.full(8, -1, F32)
    run("""function f(x: f32[8] input, y: f32[8] output) {
      let v = x[7, lanes 4, stride -2, valid 3]
      y[0, stride 2, valid 3] = v
      y[1] = horizontal(add, v)
      y[7] = lane(v, 3)
    }""", x=x, y=y)
    assert y.tolist() == [7, 15, 5, -1, 3, -1, -1, 0]


def test_a_loaded_vector_is_a_snapshot() -> None:
    y = np.zeros(4, F32)
    run("""function f(y: f32[4] output) {
      y[0] = 1.0:f32x4
      let v = y[0, lanes 4]
      y[0] = 2.0:f32x4
      y[0] = v
    }""", y=y)
    assert y.tolist() == [1, 1, 1, 1]


def test_index_functions_and_indirect_access() -> None:
    table, y = np.array([3, 0, 2], np.int64), np.zeros(6, np.int32)
    run("""function f(n: i64[3] input, y: i32[6] output) {
      for i in 0..3 {
        y[[n[i]]] = index(10*floordiv(i - 1, 2) + mod(i - 1, 2), i32)
      }
      y[min(4, [n[0]] + 7)] = cast(-2.7:f32, i32)
      y[max(5, [n[0]])] = bitcast(1.0:f32, i32)
    }""", n=table, y=y)
    assert y.tolist() == [0, 0, 1, -9, -2, 0x3F800000]


def test_integers_wrap_and_both_arms_exist() -> None:
    y = np.zeros(3, np.int8)
    run("""function f(y: i8[3] output) {
      y[0] = add(127:i8, 1:i8)
      if lt(1:i8, 0:i8) { y[1] = 1:i8 } else { y[1] = 2:i8 }
      y[2] = select(lt(0:i8, 1:i8), neg(-128:i8), 0:i8)
    }""", y=y)
    assert y.tolist() == [-128, 2, -128]


def test_transcendental_functions_round_a_float64_result() -> None:
    x = np.linspace(-4, 4, 64, dtype=F32)
    y = np.zeros(64, F32)
    run("""function f(x: f32[64] input, y: f32[64] output) {
      for i in 0..64 step 16 { y[i] = tanh(x[i, lanes 16]) }
    }""", x=x, y=y)
    assert np.array_equal(y, np.tanh(x.astype(np.float64)).astype(F32))


def nearest_f32(value: Fraction) -> np.float32:
    """The f32 nearest to a rational, ties to even, by exact comparison with both neighbours."""
    guess = np.float32(float(value))
    near = {float(g): g for g in (guess, np.nextafter(guess, F32(np.inf)), np.nextafter(guess, F32(-np.inf)))}
    best = min(abs(Fraction(g) - value) for g in near)
    ties = [g for key, g in near.items() if abs(Fraction(key) - value) == best]
    return next(g for g in ties if len(ties) == 1 or g.view(np.int32) % 2 == 0)


NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**40), max_value=2.0**40)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_fma_rounds_once(a: float, b: float, c: float) -> None:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    got = operation("fma", DType.F32, DType.F32)(F32(a), F32(b), F32(c))
    assert got == nearest_f32(exact)


TIES = [(2.0**-24, 1 + 2.0**-23, 1.0, 1 + 2.0**-23),  # 1 + 2^-24 lies half way between two floats; 2^-47 more must tip it upwards
        (2.0**-24, 1.0, 1.0, 1.0),
        (2.0**-12 + 2.0**-35, 2.0**-12 - 2.0**-35, 1 + 2.0**-23, 1 + 2.0**-23),  # 2^-70 less than half way, too little for float64
        # Among subnormal numbers: 2^-196 less than half way.
        (2.0**-75 + 2.0**-98, 2.0**-75 - 2.0**-98, 2.0**-127 + 2.0**-149, 2.0**-127 + 2.0**-149),
        (2.0**-75, 2.0**-75, 2.0**-127 + 2.0**-149, 2.0**-127 + 2.0**-148)]


@pytest.mark.parametrize("lanes", [1, 5, 16, 40])
def test_fma_where_double_rounding_would_be_wrong(lanes: int) -> None:
    fma = operation("fma", DType.F32, DType.F32)
    for *operands, wanted in TIES:
        vectors = [F32(x) if lanes == 1 else np.array([1.5] * (lanes - 1) + [x], F32) for x in operands]
        assert np.atleast_1d(fma(*vectors))[-1] == F32(wanted), operands


def test_fma_of_numbers_and_lanes_together() -> None:
    """As code that chooses between kernels asks for all results at once."""
    fma, rows = operation("fma", DType.F32, DType.F32), np.arange(4, dtype=F32)
    for a, b, c in ((rows, F32(3), F32(0.5)), (F32(3), rows, F32(0.5)), (F32(3), F32(0.5), rows), (rows[:, None], F32(3), rows)):
        np.testing.assert_array_equal(fma(a, b, c), a * b + c)


@pytest.mark.parametrize(("statement", "message"), [
    ("y[4] = x[0]", "index 4 is outside y, which has 4 elements"),
    ("y[0] = x[-1]", "index -1 is outside x"),
    ("y[0] = x[1, lanes 4]", "index 1..4 is outside x"),
    ("y[2, stride 2, valid 2] = x[0, lanes 4]", "index 2..4 is outside y"),
    ("y[0] = y[1]", "element 1 of y is read before it is written"),
    ("y[0] = t[0]", "element 0 of t is read before it is written"),
])
def test_illegal_accesses_name_buffer_index_and_statement(statement: str, message: str) -> None:
    text = f"function f(x: f32[4] input, y: f32[4] output, t: f32[2] workspace) {{ {statement} }}"
    with pytest.raises(EdgeccError) as caught:
        run(text, x=np.zeros(4, F32), y=np.zeros(4, F32), t=np.zeros(2, F32))
    assert caught.value.code == "E904"
    assert message in caught.value.message
    assert caught.value.where == statement


def test_a_vector_may_hold_elements_nobody_wrote_but_they_are_nan() -> None:
    y = np.zeros(2, F32)
    run("function f(t: f32[4] workspace, y: f32[2] output) { t[0] = 1.0:f32  t[2] = 3.0:f32  let v = t[0, lanes 4]"
        "  y[0] = add(lane(v, 0), lane(v, 2))  y[1] = add(lane(v, 0), lane(v, 1)) }", t=np.zeros(4, F32), y=y)
    np.testing.assert_array_equal(y, [4.0, np.nan])


def test_lanes_beyond_valid_are_not_touched() -> None:
    y = np.zeros(4, F32)
    run("function f(x: f32[3] input, y: f32[4] output) { y[0] = x[0, lanes 4, valid 3] }", x=np.ones(3, F32), y=y)
    assert y.tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize(("body", "message"), [
    ("t[0] = x[i]", "element 0 of t is written by two iterations"),
    ("y[mod(i + 1, 4)] = y[i]", "element 3 of y is read by one iteration and written by another"),
    ("t[i] = y[min(i + 1, 3)]  y[i] = x[i]", "of y is written by one iteration and read by another"),
    ("t[i] = y[max(i - 1, 0)]  y[i] = x[i]", "element 2 of y is read by one iteration and written by another"),
])
def test_races_between_iterations_are_caught(body: str, message: str) -> None:
    text = f"""function f(x: f32[4] input, y: f32[4] output, t: f32[4] workspace) {{
      for j in 0..4 {{ y[j] = 0.0:f32 }}
      parallel for i in 0..4 {{ {body} }}
    }}"""
    with pytest.raises(EdgeccError) as caught:
        run(text, x=np.zeros(4, F32), y=np.zeros(4, F32), t=np.zeros(4, F32))
    assert message in caught.value.message


def test_iterations_may_use_the_same_element_in_turn() -> None:
    y = np.zeros(4, F32)
    run("""function f(y: f32[4] output) {
      parallel for i in 0..4 { y[i] = 1.0:f32  y[i] = add(y[i], 1.0:f32) }
      parallel for i in 0..4 { y[3 - i] = add(y[3 - i], 1.0:f32) }
    }""", y=y)
    assert y.tolist() == [3, 3, 3, 3]


def test_parameters_bound_what_a_call_does() -> None:
    text = "function f(y: f32[8] output, first: from 0 to 8, last: from 0 to 8) { for i in first..last { y[i] = index(i, f32) } }"
    y = np.full(8, -1, F32)
    run_function(parse(text), {"y": y}, {"first": 2, "last": 5})
    run_function(parse(text), {"y": y}, {"first": 7, "last": 7})
    np.testing.assert_array_equal(y, [-1, -1, 2, 3, 4, -1, -1, -1])
    for wrong in ({"first": 2}, {"first": 2, "last": 9}, {"first": -1, "last": 5}):
        with pytest.raises(EdgeccError, match="last"):
            run_function(parse(text), {"y": y}, wrong)


def test_arrays_must_fit_the_buffers() -> None:
    text = "function f(x: f32[4] input, y: f32[4] output) { y[0] = x[0] }"
    with pytest.raises(EdgeccError, match="no array for y"):
        run(text, x=np.zeros(4, F32))
    with pytest.raises(EdgeccError, match="got float64"):
        run(text, x=np.zeros(4), y=np.zeros(4, F32))


def test_in_place_buffers_share_memory() -> None:
    x = np.ones(4, F32)
    run("""function f(x: f32[4] input aliased, y: f32[4] output aliased) {
      for i in 0..4 { y[i] = add(x[i], y[i]) }
    }""", x=x, y=x)
    assert x.tolist() == [2, 2, 2, 2]


ADD = parse("""function add(a: f32[4] input align 4, b: f32[4] input align 4, y: f32[4] output align 4) {
  y[0] = add(a[0, lanes 4], b[0, lanes 4])
}""")


def module(*calls: Call) -> Module:
    f32x4 = TensorType(DType.F32, (4,))
    return Module("net", (Interface("x", f32x4),), (Interface("y", f32x4),), (ADD,), calls,
                  (Constant(64, np.arange(4, dtype=F32)),), 128, 64, 64)


def test_a_module_runs_its_calls_in_order() -> None:
    network = module(Call("add", (InputBytes(0), WeightBytes(64), ArenaBytes(16)), ()),
                     Call("add", (ArenaBytes(16), ArenaBytes(16), OutputBytes(0)), ()))
    out = run_module(network, {"x": np.ones(4, F32)})
    assert out["y"].tolist() == [2, 4, 6, 8]


@pytest.mark.parametrize(("calls", "message"), [
    ([Call("add", (InputBytes(0), ArenaBytes(0), OutputBytes(0)), ())], "element 0 of b is read before it is written"),
    ([Call("add", (InputBytes(0), ArenaBytes(52), OutputBytes(0)), ())], "takes bytes 52..68 of 64"),
    ([Call("add", (InputBytes(0), WeightBytes(2), OutputBytes(0)), ())], "must be aligned to 4"),
    ([Call("add", (InputBytes(0), InputBytes(0), ArenaBytes(0)), ())], "element 0 of output y was never written"),
])
def test_a_module_that_reads_or_writes_wrongly_is_caught(calls: list[Call], message: str) -> None:
    with pytest.raises(EdgeccError, match="E904") as caught:
        run_module(module(*calls), {"x": np.ones(4, F32)})
    assert message in caught.value.message


def test_module_inputs_must_fit() -> None:
    with pytest.raises(EdgeccError) as caught:
        run_module(module(), {"x": np.ones(3, F32)})
    assert caught.value.code == "E005"
