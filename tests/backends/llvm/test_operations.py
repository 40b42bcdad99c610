"""Every operation at every number of lanes means to LLVM what numpy says, in this process and under an emulator."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from edgecc.ir.scalar import PRIMITIVES
from edgecc.ir.types import DType
from edgecc.loop.math import DEFINED
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
