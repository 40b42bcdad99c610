"""What compilers make of the micro-kernels: accumulators stay in registers, and one load feeds many multiply-adds.

The property that makes a register tile fast cannot be seen in results, so the assembly is read: in
the block of instructions that does the multiply-adds nothing may go through the stack.
"""

import re

import pytest

from tests.support.assembly import A76_FLAGS, AVX512_FLAGS, CASES, main_block

pytest.importorskip("ziglang", reason="the ziglang wheel (a cross compiler) is not installed")


@pytest.mark.parametrize("name", CASES)
def test_neon_tiles_multiply_by_lane_without_touching_the_stack(name):
    main = main_block(CASES[name], "cortex-a76", A76_FLAGS, "fmla")
    multiply_adds = [line for line in main if line.startswith("fmla")]
    assert len(multiply_adds) >= 64
    assert all(re.search(r"\.s\[\d\]", line) for line in multiply_adds), "a factor was broadcast instead of taken from a lane"
    assert not [line for line in main if "[sp" in line]
    loads = sum(len(re.findall(r"\bq\d+", line.split("[")[0])) for line in main if line.startswith("ld"))
    assert len(multiply_adds) >= 2 * loads, f"{loads} vectors loaded for {len(multiply_adds)} multiply-adds"
    assert len(multiply_adds) >= 0.75 * len(main), "less than three quarters of the instructions are multiply-adds"


@pytest.mark.parametrize("name", CASES)
def test_avx512_tiles_do_not_touch_the_stack(name):
    main = main_block(CASES[name], "x86-64-v4", AVX512_FLAGS, "vfmadd")
    assert sum("vfmadd" in line for line in main) >= 32
    assert not [line for line in main if "zmm" in line and "(%rsp" in line]
