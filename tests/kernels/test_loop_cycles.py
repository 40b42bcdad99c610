"""Cycles counted from scheduled loop programs."""

from __future__ import annotations

import dataclasses

import pytest

import edgecc.kernels  # noqa: F401  (registers all kernels)
from edgecc.ir.scalar import Arg, apply, convert, literal
from edgecc.ir.types import DType
from edgecc.kernels.loop_cycles import LOOP_INSTRUCTIONS, loop_cycles
from edgecc.kernels.registry import lower
from edgecc.kernels.request import Operand, Request
from edgecc.kernels.view import View
from edgecc.loop.index import const, var
from edgecc.loop.ir import (
    Assign,
    Bitcast,
    Broadcast,
    Buffer,
    Const,
    Declare,
    Expr,
    For,
    Function,
    Load,
    Op,
    Parameter,
    Ref,
    Store,
)
from edgecc.lowering.cycles import kernel_cycles
from edgecc.memory.strides import row_major_strides
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.requantize import Steps
from edgecc.targets.schema import Target, load_target

A76, A53, V4, PORTABLE = (load_target(name) for name in ("cortex-a76", "cortex-a53", "x86-64-v4", "generic-c"))


SHUFFLING = dataclasses.replace(V4, rates=dataclasses.replace(V4.rates, shuffles=0.01))


def scaled(value: Expr, trips: int = 1000, *parameters: Parameter) -> Function:
    """`y[i] = value` for whole vectors of four."""
    stop = var(parameters[0].name) if parameters else const(4 * trips)
    return Function("f", (Buffer("x", DType.F32, 4 * trips, "input"), Buffer("y", DType.F32, 4 * trips, "output")),
                    (For("i", const(0), stop, (Store("y", var("i"), value),), 4),), parameters=parameters)


X = Load("x", var("i"), DType.F32, 4)


def test_the_busiest_resource_decides():
    instructions = 2 + LOOP_INSTRUCTIONS  # a load and a store
    assert loop_cycles(scaled(X), A76) == 1000 * max(1 / A76.core.stores_per_cycle, instructions / A76.core.issue_width)
    quotient = Op("div", (X, Op("div", (X, X), DType.F32, 4)), DType.F32, 4)
    assert loop_cycles(scaled(quotient), A76) == pytest.approx(1000 * 2 / A76.rates.divisions)


def test_compilers_make_vectors_of_sums_of_integers_but_not_of_floats():
    def total(dtype: DType) -> float:
        step = Assign("sum", Op("add", (Ref("sum", dtype), Load("x", var("i"), dtype)), dtype))
        body = (Declare("sum", Const(0, dtype)), For("i", const(0), const(4096), (step,)), Store("y", const(0), Ref("sum", dtype)))
        return loop_cycles(Function("f", (Buffer("x", dtype, 4096, "input"), Buffer("y", dtype, 1, "output")), body), A76)

    assert 0.4 < total(DType.I32) / total(DType.F32) < 0.6
    assert 0.2 < total(DType.I16) / total(DType.F32) < 0.3


def test_bits_are_turned_around_behind_a_broadcast():
    def cycles(flipped: bool) -> float:
        word: Expr = Load("x", var("i"), DType.U32)
        word = Op("bit_xor", (word, Const(0x80808080, DType.U32)), DType.U32) if flipped else word
        return loop_cycles(scaled(Bitcast(Broadcast(word, 4), DType.F32)), SHUFFLING)

    assert cycles(True) - cycles(False) <= 1000 / SHUFFLING.rates.arithmetic


def test_loads_add_to_arithmetic_where_they_issue_alone():
    product = Op("mul", (X, X), DType.F32, 4)
    assert loop_cycles(scaled(product), A53) == 1000 * (
        1 / A53.rates.arithmetic + 1 / A53.core.loads_per_cycle + 1 / A53.core.stores_per_cycle)  # x is loaded once


def test_ranges_of_rows_are_counted_whole():
    whole, half = Parameter("row_stop", 0, 4000), Parameter("size0", 0, 4000)
    assert loop_cycles(scaled(X, 1000, whole), A76) == loop_cycles(scaled(X), A76)
    assert loop_cycles(scaled(X, 1000, half), A76) == loop_cycles(scaled(X), A76) / 2


@pytest.mark.parametrize("target", [A76, A53, V4, PORTABLE], ids=lambda target: target.name)
@pytest.mark.parametrize("family", ["conversions", "widenings", "arithmetic"])
def test_requantizing_takes_longer_where_its_instructions_do(target: Target, family: str):
    steps = Steps(0.7, 3, DType.I8)
    expr = steps.quantized(apply("mul", convert(convert(Arg(0, DType.I8), DType.I32), DType.F32), literal(0.3, DType.F32)))
    dims = (64, 1000)

    def cycles(machine: Target) -> float:
        view = View(DType.I8, dims, row_major_strides(dims))
        return kernel_cycles(lower(Request(Elementwise(expr), (Operand(view),), (view,), machine)))

    slow = dataclasses.replace(target, rates=dataclasses.replace(target.rates, **{family: getattr(target.rates, family) / 50}))
    assert cycles(slow) > cycles(target)
