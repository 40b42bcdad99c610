"""Every operation at every number of lanes means to LLVM what numpy says, in this process and under an emulator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from edgecc.ir.scalar import PRIMITIVES
from edgecc.ir.types import DType
from edgecc.loop.arithmetic import operation as meaning_of
from edgecc.loop.builder import Builder
from edgecc.loop.dot import DOTS
from edgecc.loop.ir import Op
from edgecc.loop.math import DEFINED
from edgecc.loop.narrow import meaning
from edgecc.targets.schema import Target, load_target
from tests.support.llvm import run_functions
from tests.support.operations import (
    LOOP_TYPES,
    check,
    constant_cases,
    conversion_cases,
    lanes_of,
    memory_cases,
    operation_case,
    takes,
    tolerance,
)

TARGETS = ("generic-c", "x86-64-v4", "cortex-a76")
CASES = [(conversion_cases, "x86-64-v4"), (conversion_cases, "cortex-a53"), (memory_cases, "x86-64-v3"), (memory_cases, "x86-64-v4"),
         (memory_cases, "cortex-a76"), (constant_cases, "x86-64-v3"), (constant_cases, "cortex-a76")]
"""Not optimised first: what instructions are chosen for each operation is what matters here."""



@dataclass(frozen=True)
class Vectors:
    """What the cases ask of a machine."""

    architecture: str
    features: tuple[str, ...]
    vector_bits: int

    @staticmethod
    def of(target: Target) -> Vectors:
        return Vectors(target.architecture, target.isa.features, target.vector.bits)


@pytest.mark.parametrize("name", TARGETS)
def test_operations(name):
    target = load_target(name)
    cases, wanted = [], []
    for dtype in LOOP_TYPES:
        for op in ("fma", *PRIMITIVES):
            for lanes in sorted({1, max(lanes_of(Vectors.of(target), dtype))}):
                if takes(op, dtype) and not (op in DEFINED and dtype is DType.F16):  # computed as f32, as those of bf16 are
                    function, arrays, want = operation_case(op, dtype, lanes, 3 if op == "fma" else PRIMITIVES[op].arity)
                    cases.append((function, arrays))
                    wanted.append((want, tolerance(op, dtype)))
    for (function, _), result, (want, relative) in zip(cases, run_functions(cases, target, optimize=False), wanted, strict=True):
        check(result["out"], want, relative, function.name)


@pytest.mark.parametrize("cases_of, name", CASES, ids=lambda case: getattr(case, "__name__", case))
def test_conversions_memory_and_constants(cases_of, name):
    target = load_target(name)
    cases = cases_of(Vectors.of(target))
    for (function, _, wants), result in zip(cases, run_functions([c[:2] for c in cases], target, optimize=False), strict=True):
        for out, want in wants.items():
            check(result[out], want, 0, f"{function.name}: {out}")


@pytest.mark.parametrize("name", TARGETS)
def test_operations_around_bytes(name):
    target = load_target(name)
    rng = np.random.default_rng(2)
    cases, wanted = [], []
    for lanes in lanes_of(Vectors.of(target), DType.I32):
        b = Builder(f"bytes_{lanes}")
        parts = [b.buffer(part, DType.I8, 16, "input") for part in "abcd"]
        x, groups, near = b.buffer("x", DType.F32, 16, "input"), b.buffer("groups", DType.U32, 16, "output"), b.buffer("near", DType.I32, 16, "output")
        words = b.buffer("words", DType.U32, 16, "output")
        u, v = (b.buffer(name, DType.U32, 16, "input") for name in "uv")
        larger = {out: b.buffer(out, DType.U32, 16, "output") for out in ("max_s8", "max_u8")}
        with b.loop("i", 16, step=lanes) as i:
            b.store(groups, i, Op("interleave", tuple(b.load(part, i, lanes) for part in parts), DType.U32, lanes))
            b.store(words, i, Op("join_words", tuple(b.load(part, i, lanes) for part in parts[:2]), DType.U32, lanes))
            b.store(near, i, Op("nearest", (b.load(x, i, lanes),), DType.I32, lanes))
            for out, kind in larger.items():
                b.store(kind, i, Op(out, (b.load(u, i, lanes), b.load(v, i, lanes)), DType.U32, lanes))
        arrays = {part: rng.integers(-128, 128, 16).astype(np.int8) for part in "abcd"}
        x_values = np.array([0.5, 1.5, -0.5, -2.5, 0.49, -7.51, 2e9, -2e9, *rng.normal(size=8) * 50], np.float32)
        pair = {name: rng.integers(0, 2**32, 16, dtype=np.uint32) for name in "uv"}
        cases.append((b.function(), {**arrays, "x": x_values, **pair}))
        wanted.append({"groups": meaning("interleave", tuple(arrays.values())), "words": meaning("join_words", tuple(arrays.values())[:2]), "near": meaning("nearest", (x_values,)),
                       **{out: meaning(out, tuple(pair.values())) for out in larger}})
    for result, want in zip(run_functions(cases, target), wanted, strict=True):
        for key, value in want.items():
            np.testing.assert_array_equal(result[key], value)


@pytest.mark.parametrize("name", [*TARGETS, "x86-64-v3", "x86-64-v4-bf16"])
def test_grouped_products_are_those_of_the_interpreter(name):
    target = load_target(name)
    rng = np.random.default_rng(5)
    cases, wanted = [], []
    for row in DOTS.values():
        for lanes in lanes_of(Vectors.of(target), DType.I32):
            b = Builder(f"{row.name}_{lanes}")
            x, y = b.buffer("x", DType.U32, 16, "input"), b.buffer("y", DType.U32, 16, "input")
            total, out = b.buffer("total", row.sum, 16, "input"), b.buffer("out", row.sum, 16, "output")
            with b.loop("i", 16, step=lanes) as i:
                b.store(out, i, Op(row.name, (b.load(x, i, lanes), b.load(y, i, lanes), b.load(total, i, lanes)), row.sum, lanes))
            groups = [rng.integers(0, 2**32, 16, dtype=np.uint32) for _ in range(2)]
            if row.sum.is_float:  # pairs of numbers of moderate size
                groups = [np.ascontiguousarray(rng.normal(size=32).astype(DType.BF16.numpy)).view(np.uint32) for _ in range(2)]
            if row.name in ("dot_u8s8_short", "dot_u8s8_halves"):
                groups[0] &= np.uint32(0x0F0F0F0F)
            sums = (rng.normal(size=16) if row.sum.is_float else rng.integers(-1000, 1000, 16)).astype(row.sum.numpy)
            cases.append((b.function(), {"x": groups[0], "y": groups[1], "total": sums}))
            wanted.append(meaning_of(row.name, DType.U32, row.sum)(*groups, sums))
    for (function, _), result, want in zip(cases, run_functions(cases, target), wanted, strict=True):
        check(result["out"], want, 1e-6 if name == "generic-c" and want.dtype.kind == "f" else 0, function.name)
