"""Kernels for cores that issue instructions in program order: right results, and loads ahead of their use in the machine code."""

import functools
import re

import numpy as np
import pytest

from benches.in_order import cycles
from edgecc.ir.types import Layout
from edgecc.loop.interpreter import run_function
from edgecc.ops.convolution import Conv
from edgecc.ops.matrix import MatMul
from edgecc.targets.schema import load_target
from tests.support import ccompile
from tests.support.assembly import (
    CASES,
    HALF_CASES,
    SIGNED_CASES,
    assembly,
    convolution,
    innermost_loops,
    main_loop,
    scheduled,
)
from tests.support.kernel_check import Given, check_kernel

TARGET = "cortex-a55"
LAST = Layout.channels_last(4)


def array(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def run_as_c(function, buffers) -> None:
    target = load_target(TARGET)
    ccompile.require(target)
    for name, result in ccompile.run_function(function, buffers, target, flags=("-O2",)).items():
        buffers[name][:] = result


KERNELS = {
    "product": (MatMul(False, False), [Given(array(0, 13, 49)), Given(array(1, 49, 17), True)], None),
    "pointwise": (Conv((1, 1), (0,) * 4, (1, 1), 1), [Given(array(0, 1, 100, 7, 3), layout=LAST), Given(array(1, 13, 100, 1, 1), True)], [LAST]),
    "direct": (Conv((2, 2), (1,) * 4, (1, 1), 1), [Given(array(0, 1, 17, 9, 13), layout=LAST), Given(array(1, 17, 17, 3, 3), True)], [LAST]),
    "depthwise": (Conv((1, 1), (1,) * 4, (1, 1), 17), [Given(array(0, 1, 17, 5, 13), layout=LAST), Given(array(1, 17, 1, 3, 3), True)], [LAST]),
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("runner", ["interpreter", "C"])
def test_agrees_with_the_reference(name, runner):
    op, given, layouts = KERNELS[name]
    kwargs = {} if runner == "interpreter" else {"runner": run_as_c}
    check_kernel(op, given, TARGET, layouts, **kwargs)


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("name", ["pointwise 64 to 384, 14x14", "3x3 32 to 32, 28x28"])
@pytest.mark.parametrize("target", ["cortex-a53", "cortex-a55"])
def test_hardly_an_instruction_needs_the_load_in_front_of_it(target, name, compiler):
    loop = loop_of(name, target, compiler)
    loads = waits = 0
    for load, following in zip(loop.lines, loop.lines[1:], strict=False):
        loaded = re.findall(r"\b([qdx])(\d+)", load.split("[")[0]) if load.startswith("ld") else []
        loads += len(loaded)
        waits += any(re.search(rf"\b{'x' if file == 'x' else '[vqd]'}{register}\b", following) for file, register in loaded)
    assert loads and 8 * waits <= loads, f"{waits} of {loads}"


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize(("target", "share"), [("cortex-a53", 0.59), ("cortex-a55", 0.7)])
def test_depthwise_loops_load_halves_beside_sums_and_their_starts(target, share, compiler):
    """With whole loads, and sums that wait for themselves, it would be 46 to 56 % of the peak by the issue rules."""
    loop = loop_of("depthwise 3x3, 96 channels, 28x28", target, compiler)
    assert loop.multiply_adds / cycles(loop.lines, target=target) >= share


@pytest.mark.parametrize(("stride", "size"), [(1, 9), (2, 13)])
def test_depthwise_sums_have_the_order_of_terms_of_other_cores(stride, size):
    case = convolution(5, 5, size, 3, 1, 5, stride)
    results = []
    for target in ("cortex-a55", "cortex-a76"):
        function = scheduled(case, target)
        arrays = {buffer.name: array(seed, buffer.elements) for seed, buffer in enumerate(function.buffers)}
        run_function(function, arrays)
        results.append(arrays["y"])
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
def test_loads_of_halves_and_insertions_start_together_on_cortex_a53(compiler):
    """Alone, each would keep multiply-adds out for a cycle: 65 % of the peak by the issue rules, as with whole loads."""
    loop = loop_of("pointwise 64 to 384, 14x14", "cortex-a53", compiler)
    assert loop.multiply_adds / cycles(loop.lines, target="cortex-a53") >= (0.69 if compiler == "gcc" else 0.75)


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("name", ["pointwise 64 to 384, 14x14", "3x3 32 to 32, 28x28", "first layer 3 to 32, 3x3 stride 2", *HALF_CASES, *SIGNED_CASES])
def test_vectors_come_in_halves_that_start_beside_multiply_adds(name, compiler):
    """By the issue rules of Cortex-A55, loops whose vectors came whole would reach 68 % of the peak at most."""
    loop = loop_of(name, "cortex-a55", compiler)
    by_rows = "first layer" in name or "i8 3x3" in name  # an iteration is a row of taps, and begins with loads that no multiply-add stands before
    assert len([line for line in loop.lines if line.startswith("ld") and re.search(r"\bq\d", line)]) <= 2 * by_rows
    assert loop.multiply_adds / cycles(loop.lines, target="cortex-a55") >= (0.91 if by_rows or compiler == "gcc" else 0.95)


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
def test_products_of_bytes_for_two_sums_take_turns_without_dot_products(compiler):
    """One after the other, each instruction would wait for the one before: 42 % by the issue rules, instead of 65."""
    try:
        text = assembly(scheduled(SIGNED_CASES["i8 pointwise 64 to 384, 14x14"], "cortex-a53"), "cortex-a53", compiler)
    except LookupError as error:
        pytest.skip(str(error))
    products = re.compile(r"^(smull|smlal|sadalp)")
    loop = max(innermost_loops(text), key=lambda loop: sum(map(bool, map(products.match, loop.lines))))
    assert loop.stack_accesses == 0
    assert sum(map(bool, map(products.match, loop.lines))) / cycles(loop.lines, target="cortex-a53") >= 0.63


@functools.cache
def loop_of(name, target, compiler):
    try:
        loop = main_loop(scheduled({**CASES, **HALF_CASES, **SIGNED_CASES}[name], target), target, compiler)
    except LookupError as error:
        pytest.skip(str(error))
    assert loop.multiply_adds >= 64
    assert loop.stack_accesses == 0
    return loop
