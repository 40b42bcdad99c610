"""What compilers make of the micro-kernels: accumulators stay in registers, and one load feeds many multiply-adds.

The property that makes a register tile fast cannot be seen in results, so the assembly is read: in
the loop that does the multiply-adds nothing may go through the stack.
"""

import re

import pytest

from tests.support.assembly import (
    BYTE_CASES,
    CASES,
    HALF_CASES,
    SIGNED_CASES,
    WORD_CASES,
    Loop,
    assembly,
    innermost_loops,
    main_loop,
    scheduled,
)


def loop_of(name: str, target: str, compiler: str, choice: str = "direct") -> Loop:
    try:
        return main_loop(scheduled({**CASES, **BYTE_CASES, **SIGNED_CASES, **WORD_CASES, **HALF_CASES}[name], target, choice), target, compiler)
    except LookupError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith(("depthwise", "first"))])
def test_neon_tiles_multiply_by_lane_without_touching_the_stack(name):
    main = loop_of(name, "cortex-a76", "zig")
    multiply_adds = [line for line in main.lines if line.startswith("fmla")]
    assert len(multiply_adds) >= 64
    assert all(re.search(r"\.s\[\d\]", line) for line in multiply_adds), "a factor was broadcast instead of taken from a lane"
    assert main.stack_accesses == 0
    loads = sum(len(re.findall(r"\bq\d+", line.split("[")[0])) for line in main.lines if line.startswith("ld"))
    assert len(multiply_adds) >= 2 * loads, f"{loads} vectors loaded for {len(multiply_adds)} multiply-adds"
    assert len(multiply_adds) >= 0.75 * len(main.lines), "less than three quarters of the instructions are multiply-adds"


@pytest.mark.parametrize("name", ["pointwise 64 to 384, 14x14", "pointwise 960 to 320, 7x7", "3x3 32 to 32, 28x28", "first layer 3 to 32, 3x3 stride 2",
                                  "depthwise 3x3, 96 channels, 28x28", "f16 pointwise 64 to 384, 14x14", "f16 first layer 3 to 32, 3x3 stride 2", *SIGNED_CASES])
def test_gcc_keeps_neon_accumulators_in_their_registers(name):
    main = loop_of(name, "cortex-a76", "gcc")
    assert main.multiply_adds >= 48
    assert main.stack_accesses == 0
    # In an iteration of a depthwise kernel three sums of two vectors start as copies of zero, and may move once.
    most = 2 * 6 + 0.03 * main.multiply_adds if name.startswith("depthwise") else 0
    assert sum(bool(re.match(r"mov v", line)) for line in main.lines) <= most, "accumulators are copied around"


@pytest.mark.parametrize("name", CASES)
def test_avx512_tiles_do_not_touch_the_stack(name):
    main = loop_of(name, "x86-64-v4", "zig")
    assert main.multiply_adds >= 32
    assert not [line for line in main.lines if "zmm" in line and "(%rsp" in line]


@pytest.mark.parametrize("name", ["pointwise 64 to 384, 14x14", "pointwise 960 to 320, 7x7"])
def test_gcc_keeps_avx2_accumulators_in_their_registers(name):
    """Tiles leave one of 16 registers, which gcc needs some sums' places for, unless each is tied to its own."""
    main = loop_of(name, "x86-64-v3", "gcc")
    assert main.multiply_adds >= 32
    assert not [line for line in main.lines if "ymm" in line and "(%rsp" in line]


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("name", BYTE_CASES)
def test_sums_of_products_of_bytes_do_not_touch_the_stack(name, compiler):
    main = loop_of(name, "x86-64-v4-bf16", compiler)
    assert sum(line.startswith("vpdpbusd") for line in main.lines) >= 32
    assert not [line for line in main.lines if "zmm" in line and "(%rsp" in line]


@pytest.mark.parametrize(("name", "least"), [("pointwise 1024 to 256, 14x14", 32), ("words pointwise 1024 to 256, 14x14", 64)])
def test_gcc_does_not_hold_sums_of_products_of_bytes_in_memory(name, least):
    """A tile of AVX2 fills the registers, so that some constants and factors come from memory; sums would be stored as well."""
    main = loop_of(name, "x86-64-v3", "gcc")
    assert main.multiply_adds >= least
    assert main.stack_accesses <= main.multiply_adds // 2


@pytest.mark.parametrize("choice", ["winograd 2x2", "winograd 4x4", "winograd 6x6"])
@pytest.mark.parametrize("target", ["cortex-a76", "x86-64-v4"])
def test_products_of_winograd_tiles_do_not_touch_the_stack(choice, target):
    try:
        loops = innermost_loops(assembly(scheduled(CASES["3x3 32 to 32, 28x28"], target, choice), target, "zig"))
    except LookupError as error:
        pytest.skip(str(error))
    products = [loop for loop in loops if 2 * loop.multiply_adds >= len(loop.lines)]
    assert max(loop.multiply_adds for loop in products) >= 40
    assert not [line for loop in products for line in loop.lines if "[sp" in line or "(%rsp" in line]
