"""Every operation at every number of lanes on every machine means what numpy says.

All operations of a group of types are compiled as one file for each machine, with optimization: only so does gcc follow data and warn of it.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgecc.ir.scalar import PRIMITIVES
from edgecc.ir.types import DType
from edgecc.loop.builder import Builder
from edgecc.loop.index import const
from edgecc.loop.interpreter import operation as meaning_of
from edgecc.loop.ir import Broadcast, Cast, Const, Lane, Op
from tests.support.ccompile import MACHINES, NEON_FP16, PORTABLE, SANITIZERS, run_functions
from tests.support.operations import (
    GROUPS,
    LOOP_TYPES,
    SHIFTS,
    N,
    cast_meaning,
    check,
    constant_cases,
    conversion_cases,
    data,
    lanes_of,
    meaning,
    memory_cases,
    operation_case,
    partial_case,
    parts_case,
    takes,
    tolerance,
    unary_case,
)

FLAGS = ("-O1",)


@pytest.mark.parametrize("compiler, group", [*(("gcc", group) for group in GROUPS), ("clang", "f32"), ("clang", "half")])
@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_operations(machine, compiler, group):
    cases, wanted = [], []
    for dtype in GROUPS[group]:
        for op in ("fma", *PRIMITIVES):
            for lanes in lanes_of(machine, dtype):
                if takes(op, dtype):
                    function, arrays, want = operation_case(op, dtype, lanes, 3 if op == "fma" else PRIMITIVES[op].arity)
                    cases.append((function, arrays))
                    wanted.append((want, tolerance(op, dtype), function.name))
    results = run_functions(cases, machine, compiler=compiler, flags=FLAGS)
    for result, (want, relative, name) in zip(results, wanted, strict=True):
        check(result["out"], want, relative, f"{name} on {machine.name}")


def test_operations_have_no_undefined_behaviour():
    cases = [operation_case(op, dtype, 1, 3 if op == "fma" else PRIMITIVES[op].arity)[:2]
             for dtype in LOOP_TYPES for op in ("fma", *PRIMITIVES) if takes(op, dtype)]
    run_functions(cases, PORTABLE, flags=("-O1", *SANITIZERS))


@pytest.mark.parametrize("cases_of", [conversion_cases, memory_cases, constant_cases], ids=lambda f: f.__name__)
@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_conversions_memory_and_constants(machine, cases_of):
    """Partial and strided loads and stores touch only what they say; min, max and shifts with a number have forms of their own."""
    cases = cases_of(machine)
    if not cases:
        pytest.skip("no vectors")
    results = run_functions([c[:2] for c in cases], machine, flags=FLAGS)
    for (function, _, wants), result in zip(cases, results, strict=True):
        for name, want in wants.items():
            check(result[name], want, 0, f"{function.name}: {name} on {machine.name}")


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_products_with_one_lane_of_a_register(machine):
    cases = []
    for dtype in (DType.F32, DType.F64):
        for lanes in lanes_of(machine, dtype)[1:]:
            for source_lanes in lanes_of(machine, dtype)[1:]:
                for position in range(source_lanes):
                    b = Builder(f"by_lane_{dtype.value}_{lanes}_{source_lanes}_{position}")
                    x, w = b.buffer("x", dtype, lanes, "input"), b.buffer("w", dtype, source_lanes, "input")
                    out = b.buffer("out", dtype, 3 * lanes, "output")
                    v, row = b.let("v", b.load(x, 0, lanes)), b.let("row", b.load(w, 0, source_lanes))
                    one = Broadcast(Lane(row, position), lanes)
                    b.store(out, const(0), Op("mul", (one, v), dtype, lanes))
                    b.store(out, const(lanes), Op("fma", (one, v, v), dtype, lanes))
                    b.store(out, const(2 * lanes), Op("fma", (v, one, v), dtype, lanes))
                    xs = (np.arange(lanes) + 1).astype(dtype.numpy)
                    ws = (np.arange(source_lanes) * 2 + 3).astype(dtype.numpy)
                    product = xs * ws[position]
                    cases.append((b.function(), {"x": xs, "w": ws}, np.concatenate([product, product + xs, product + xs])))
    if not cases:
        pytest.skip("no vectors")
    for (function, _, want), result in zip(cases, run_functions([c[:2] for c in cases], machine, flags=FLAGS), strict=True):
        check(result["out"], want, 0, f"{function.name} on {machine.name}")


def test_f16_arithmetic_rounds_each_operation_once():
    """Machines with f16 arithmetic; fma is compared with the interpreter's, bit for bit."""
    cases, wanted = [], []
    for op in ("fma", *(name for name in PRIMITIVES if takes(name, DType.F16))):
        for lanes in (1, 4, 8):
            arity = 3 if op == "fma" else PRIMITIVES[op].arity
            function, arrays, want = operation_case(op, DType.F16, lanes, arity)
            if op == "fma":
                with np.errstate(all="ignore"):
                    want = meaning_of("fma", DType.F16, DType.F16)(*arrays.values())
            cases.append((function, arrays))
            wanted.append((want, 0 if op == "fma" else tolerance(op, DType.F16), function.name))
    for result, (want, relative, name) in zip(run_functions(cases, NEON_FP16), wanted, strict=True):
        check(result["out"], want, relative, name)


def test_vectors_of_two_registers_stand_beside_vectors_of_halves():
    """8 lanes of 32-bit types: operations, conversions, partial and strided memory, constants."""
    cases, wanted = [], []
    for dtype, ops in ((DType.F32, ("add", "fma", "lt", "select", "max", "exp", "isnan")), (DType.I32, ("mul", "min", "shift_right", "eq")),
                       (DType.BOOL, ("and", "not", "select"))):
        for op in ops:
            function, arrays, want = operation_case(op, dtype, 8, 3 if op == "fma" else PRIMITIVES[op].arity)
            cases.append((function, arrays))
            wanted.append(("out", want, tolerance(op, dtype), function.name))
    for source, result in itertools.permutations((DType.F16, DType.F32, DType.BF16, DType.I32, DType.U8, DType.BOOL), 2):
        array = data(source, 3)
        function, arrays, wants = unary_case("cast", source, result, 8, lambda v, r=result: Cast(v, r), array,
                                            cast_meaning(array, source, result))
        cases.append((function, arrays))
        wanted.append(("out", wants["out"], 0, function.name))
    for dtype in (DType.F16, DType.F32):
        for valid, stride in ((0, 1), (1, 1), (3, 1), (4, 1), (5, 1), (7, 1), (0, 3), (6, 3)):
            function, arrays, wants = partial_case(dtype, 8, valid, stride, data(dtype, 5))
            cases.append((function, arrays))
            wanted.append(("stored", wants["stored"], 0, function.name))
        function, arrays, wants = parts_case(dtype, 8, data(dtype, 5))
        cases.append((function, arrays))
        wanted.append(("combined", wants["combined"], 0, function.name))
    for op in SHIFTS:
        want = meaning(op, DType.U32, [data(DType.U32, 11), np.full(N, 5, np.uint32)])
        function, arrays, _ = unary_case(op, DType.U32, DType.U32, 8, lambda v, op=op: Op(op, (v, Const(5, DType.U32, 8)), DType.U32, 8),
                                         data(DType.U32, 11), want)
        cases.append((function, arrays))
        wanted.append(("out", want, 0, function.name))
    for result, (name, want, relative, what) in zip(run_functions(cases, NEON_FP16), wanted, strict=True):
        check(result[name], want, relative, what)
