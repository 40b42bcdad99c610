"""Arithmetic of scalar integers in C: the interpreter's numbers without undefined behaviour, and no conversion that says nothing."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.backends.c.expression import constant_text
from edgecc.backends.c.wrapping import TYPES, arithmetic, interval
from edgecc.ir.types import DType
from edgecc.loop.builder import Builder
from edgecc.loop.index import const
from edgecc.loop.interpreter import run_function
from edgecc.loop.ir import Cast, Const, Expr, Load, Op, Ref
from tests.support import ccompile

VALUES = 6
KINDS = sorted(TYPES, key=lambda dtype: dtype.value)
SIGNS = {"add": 2, "sub": 2, "mul": 2, "fma": 3, "neg": 1}


def random_expression(random: np.random.Generator, dtype: DType, depth: int) -> Expr:
    choice = random.integers(0, 8)
    if depth == 0 or choice == 0:
        return Load(f"x_{dtype.value}", const(int(random.integers(0, VALUES))), dtype)
    lowest, highest = (int(limit) for limit in dtype.limits)
    if choice == 1:
        small = int(random.integers(max(lowest, -300), min(highest, 300), endpoint=True))
        return Const([small, lowest, highest][random.integers(0, 3)], dtype)
    if choice in (2, 3):
        return Cast(random_expression(random, KINDS[random.integers(0, len(KINDS))], depth - 1), dtype)
    name = list(SIGNS)[random.integers(0, len(SIGNS))]
    return Op(name, tuple(random_expression(random, dtype, depth - 1) for _ in range(SIGNS[name])), dtype)


@pytest.mark.parametrize("seed", [1, 2])
def test_random_expressions_have_the_interpreters_numbers(seed):
    random = np.random.default_rng(seed)
    b = Builder("sums")
    wanted, wider = {}, []
    for dtype in KINDS:
        lowest, highest = (int(limit) for limit in dtype.limits)
        b.buffer(f"x_{dtype.value}", dtype, VALUES, "input")
        some = random.integers(lowest, highest, VALUES - 3, dtype=dtype.numpy, endpoint=True)
        wanted[f"x_{dtype.value}"] = np.array([lowest, highest, 1, *some], dtype.numpy)
    for dtype in KINDS:
        y = b.buffer(f"y_{dtype.value}", dtype, 30, "output")
        for place in range(30):
            expression = random_expression(random, dtype, 4)
            b.store(y, place, expression)
            wider.append(Cast(expression, DType.I64 if dtype.size < 8 else dtype))
        wanted[y.name] = np.zeros(30, dtype.numpy)
    wide = b.buffer("wide", DType.F64, len(wider), "output")  # what is converted later must have the sign that it should
    for place, expression in enumerate(wider):
        b.store(wide, place, Cast(expression, DType.F64))
    wanted["wide"] = np.zeros(len(wider))
    function = b.function()
    given = {name: array.copy() for name, array in wanted.items()}
    with np.errstate(over="ignore"):
        run_function(function, wanted)
    flags = ("-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all", "-Werror=sign-compare")
    for name, got in ccompile.run_function(function, given, ccompile.PORTABLE, flags=flags).items():
        np.testing.assert_array_equal(got, wanted[name])


def printed(op: Op) -> str:
    def text(expr: Expr) -> str:
        match expr:
            case Ref(name=name):
                return name
            case Const(value=value, dtype=dtype):
                return constant_text(value, dtype)
            case Cast(arg=arg, dtype=dtype):
                return f"({dtype.value}){text(arg)}"
            case Op():
                return arithmetic(expr, text)
        raise AssertionError(expr)

    return arithmetic(op, text)


X, W = Cast(Ref("x", DType.I8), DType.I32), Cast(Ref("w", DType.I8), DType.I32)
ACC, LONG = Ref("acc", DType.I32), Ref("n", DType.I64)


def binary(op: str, a: Expr, b: Expr) -> Op:
    return Op(op, (a, b), a.dtype)


@pytest.mark.parametrize(("op", "expected"), [
    (binary("mul", binary("sub", X, Const(83, DType.I32)), W), "((x - 83) * w)"),
    (binary("add", ACC, binary("mul", X, W)), "(int32_t)((uint32_t)acc + (uint32_t)(x * w))"),
    (binary("add", X, Const(-5, DType.I32)), "(x - 5)"),
    (binary("sub", ACC, Const(-128, DType.I32)), "(int32_t)((uint32_t)acc + 128u)"),
    (binary("mul", binary("add", ACC, ACC), ACC), "(int32_t)(((uint32_t)acc + (uint32_t)acc) * (uint32_t)acc)"),
    (binary("sub", Cast(Const(0, DType.U8), DType.I32), Cast(Ref("b", DType.U8), DType.I32)), "(0 - b)"),
    (binary("add", Ref("b", DType.U8), Const(7, DType.U8)), "(uint8_t)(b + 7)"),
    (binary("add", LONG, Cast(ACC, DType.I64)), "(int64_t)((uint64_t)n + (uint64_t)acc)"),
    (binary("add", Cast(ACC, DType.I64), Const(1, DType.I64)), "((i64)acc + INT64_C(1))"),
    (binary("add", Ref("x", DType.I8), Ref("w", DType.I8)), "(int8_t)(x + w)"),
    (binary("mul", Ref("a", DType.U16), Ref("b", DType.U16)), "(uint16_t)((uint32_t)a * (uint32_t)b)"),
    (binary("sub", Ref("a", DType.U32), Const(1, DType.U32)), "(a - 1u)"),
    (Op("neg", (ACC,), DType.I32), "(int32_t)(0u - (uint32_t)acc)"),
    (Op("neg", (X,), DType.I32), "(-x)"),
    (Op("fma", (X, W, ACC), DType.I32), "(int32_t)((uint32_t)(x * w) + (uint32_t)acc)")])
def test_conversions_stand_where_c_needs_them(op, expected):
    assert printed(op) == expected


def test_intervals_know_what_wraps():
    assert interval(binary("mul", X, W)) == (-128 * 127, 128 * 128)
    assert interval(binary("add", ACC, X)) == tuple(DType.I32.limits)
    assert interval(Cast(binary("mul", X, W), DType.I8)) == (-128, 127)
