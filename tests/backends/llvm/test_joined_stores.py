"""Stores that leave together and bytes that are loaded together mean to LLVM what they mean to the interpreter."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from edgecc.backends.llvm.engine import Code
from edgecc.backends.llvm.machine import machine_of
from edgecc.ir.types import DType
from edgecc.loop.builder import Builder, add, cast, number, operation, sub
from edgecc.loop.interpreter import run_function
from edgecc.loop.ir import Buffer, Expr, Function, Op
from edgecc.targets.schema import load_target
from tests.support.llvm import functions_text, run_functions

TARGETS = ("x86-64-v3", "x86-64-v4", "cortex-a76", "generic-c")
COUNT = 7
"""Neighbouring vectors: four, two and one leave together."""

I8, U8, I16, I32, F32 = DType.I8, DType.U8, DType.I16, DType.I32, DType.F32


def limited(value: Expr, dtype: DType) -> Expr:
    low, high = map(int, dtype.limits)
    return cast(operation("min", operation("max", value, low), high), dtype)


def turned(value: Expr) -> Expr:
    return cast(sub(cast(limited(value, U8), I32), 128), I8)


def shifted(value: Expr, dtype: DType) -> Expr:
    """The lower half of words, plus a number."""
    return limited(add(cast(cast(value, I16), I32), 77), dtype)


def neighbours(lanes: int) -> Iterator[Function]:
    for dtype in (I8, U8):
        for name, make in (("limited", limited), ("shifted", shifted)):
            b, x, y = start(f"{name}_{dtype.value}_{lanes}", I32, dtype, COUNT * lanes)
            for place in range(COUNT):
                b.store(y, place * lanes, make(b.load(x, place * lanes, lanes), dtype))
            yield b.function()
        b, x, y = start(f"float_{dtype.value}_{lanes}", F32, dtype, COUNT * lanes)
        for place in reversed(range(COUNT)):
            b.store(y, place * lanes, cast(b.load(x, place * lanes, lanes), dtype))
        yield b.function()
    b, x, y = start(f"turned_{lanes}", I32, I8, COUNT * lanes)
    for place in range(COUNT):
        b.store(y, place * lanes, turned(b.load(x, place * lanes, lanes)))
    yield b.function()


def alternating(lanes: int) -> Iterator[Function]:
    """Vectors of bytes, four for each place, and of halves, whose lanes alternate."""
    for stride in (2, 3, 4):
        for name, make in (("limited", lambda value: limited(value, U8)), ("turned", turned)):
            b, x, y = start(f"{name}_by_{stride}_{lanes}", I32, I8 if make is turned else U8, 4 * stride * lanes)
            for vector in range(4):
                for place in range(stride):
                    position = vector * stride * lanes + place
                    b.store(y, position, make(b.load(x, position, lanes, stride=stride)), stride=stride)
            yield b.function()
        b, x, y = start(f"halves_by_{stride}_{lanes}", DType.F16, DType.F16, stride * lanes)
        for place in range(stride):
            b.store(y, place, add(b.load(x, place * lanes, lanes), 1.0), stride=stride)
        yield b.function()


def groups(lanes: int) -> Iterator[Function]:
    """Four neighbouring bytes, of which the next group takes two again, and bytes beside zeros."""
    b, x, y = start(f"overlapping_{lanes}", U8, DType.U32, 4, inputs=10)
    for place in range(4):
        parts = tuple(b.load(x, 2 * place + number) for number in range(4))
        b.store(y, place, Op("interleave", parts, DType.U32, 1))
    yield b.function()
    for mask in (0, 1, 6, 7, 15):
        b, x, y = start(f"beside_zeros_{mask}_{lanes}", I8, DType.U32, lanes, inputs=4 * lanes)
        parts = tuple(b.load(x, place * lanes, lanes) if mask >> place & 1 else number(0, I8, lanes) for place in range(4))
        b.store(y, 0, Op("interleave", parts, DType.U32, lanes))
        yield b.function()


def start(name: str, source: DType, result: DType, elements: int, *, inputs: int = 0) -> tuple[Builder, Buffer, Buffer]:
    b = Builder(name)
    return b, b.buffer("x", source, inputs or elements, "input"), b.buffer("y", result, elements, "output")


def numbers(buffer: Buffer, rng: np.random.Generator) -> np.ndarray:
    if not buffer.dtype.is_float:
        wide = rng.integers(-(2**31), 2**31, buffer.elements) >> rng.integers(0, 32, buffer.elements)
        return wide.astype(buffer.dtype.numpy)
    values = rng.normal(size=buffer.elements) * 150
    if buffer.dtype is F32:
        values[:8] = [np.nan, np.inf, -np.inf, 3e9, -3e9, 127.9, -128.9, 255.5]
    return values.astype(buffer.dtype.numpy)


@pytest.mark.parametrize("name", TARGETS)
def test_results_are_those_of_the_interpreter(name):
    target, rng = load_target(name), np.random.default_rng(3)
    machine = machine_of(target)
    assert machine is not None
    lanes = machine.isa.lanes_of(I32) or (4,)
    functions = [function for count in lanes for kind in (neighbours, groups) for function in kind(count)]
    functions += [function for count in {*lanes[-1:], *machine.isa.half_lanes} for function in alternating(count)]
    cases = [(function, {"x": numbers(function.buffers[0], rng)}) for function in functions]
    for (function, arrays), result in zip(cases, run_functions(cases, target), strict=True):
        memory = {"x": arrays["x"].copy(), "y": np.zeros(function.buffers[1].elements, function.buffers[1].dtype.numpy)}
        run_function(function, memory)
        np.testing.assert_array_equal(result["y"], memory["y"], err_msg=function.name)


@pytest.mark.parametrize("name, lanes, instruction", [("x86-64-v4", 16, "vpackuswb"), ("x86-64-v3", 8, "vpackuswb"), ("cortex-a76", 4, "sqxtun2")])
def test_neighbouring_bytes_leave_by_instructions_that_saturate(name, lanes, instruction):
    machine = machine_of(load_target(name))
    assert machine is not None
    function = next(f for f in neighbours(lanes) if f.name.startswith("limited_u8"))
    text = Code(functions_text([function], machine), machine.triple, machine.cpu, machine.features).assembly()
    assert instruction in text and "smin" not in text
