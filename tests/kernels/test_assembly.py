"""What compilers make of the micro-kernels: accumulators stay in registers, and one load feeds many multiply-adds.

The property that makes a register tile fast cannot be seen in results, so the assembly is read: in
the block of instructions that does the multiply-adds nothing may go through the stack.
"""

import re
import subprocess
import sys

import numpy as np
import pytest

from edgecc.ir.types import Layout
from edgecc.kernels.base import lower
from edgecc.ops.convolution import Conv
from edgecc.ops.matrix import MatMul
from edgecc.passes.loop import apply_schedule
from edgecc.targets.schema import load_target
from tests.support.ccompile import function_source, machine_of
from tests.support.kernel_check import Given, request_for

pytest.importorskip("ziglang", reason="the ziglang wheel (a cross compiler) is not installed")


def array(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def conv(channels: int, outputs: int, size: int, kernel: int, pad: int):
    op = Conv((1, 1), (pad,) * 4, (1, 1), 1)
    last = Layout.channels_last(4)
    return op, [Given(array(1, channels, size, size), layout=last), Given(array(outputs, channels, kernel, kernel), True)], [last]


def matmul(rows: int, depth: int, columns: int):
    return MatMul(False, False), [Given(array(rows, depth)), Given(array(depth, columns), True)], None


CASES = {
    "pointwise 96 to 24": conv(96, 24, 56, 1, 0),
    "pointwise 64 to 384": conv(64, 384, 14, 1, 0),
    "3x3 32 to 32": conv(32, 32, 28, 3, 1),
    "matmul 128 x 384 x 384": matmul(128, 384, 384),
    "matmul 128 x 384 x 1000": matmul(128, 384, 1000),
}


def blocks(case, target: str, flags: list[str], tmp_path) -> list[list[str]]:
    """The basic blocks of the kernel, as zig compiles it."""
    op, given, layouts = case
    kernel = lower(request_for(op, given, target, layouts))
    source = tmp_path / "kernel.c"
    source.write_text(function_source(apply_schedule(kernel.function, kernel.schedule), machine_of(load_target(target))))
    assembly = tmp_path / "kernel.s"
    subprocess.run([sys.executable, "-m", "ziglang", "cc", *flags, "-O2", "-g0", "-ffp-contract=off", "-S", str(source), "-o", str(assembly)],
                   check=True, timeout=300)
    out: list[list[str]] = [[]]
    for line in assembly.read_text().splitlines():
        text = line.strip()
        if re.match(r"^\.LBB\w+:", text):
            out.append([])
        elif re.match(r"^[a-z]", text):
            out[-1].append(text)
            if re.match(r"^(b|b\.\w+|cbn?z|tbn?z|j\w+|ret)\b", text):
                out.append([])
    return out


@pytest.mark.parametrize("name", CASES)
def test_neon_tiles_multiply_by_lane_without_touching_the_stack(name, tmp_path):
    found = blocks(CASES[name], "cortex-a76", ["-target", "aarch64-linux-musl", "-mcpu=cortex_a76"], tmp_path)
    main = max(found, key=lambda block: sum("fmla" in line for line in block))
    multiply_adds = [line for line in main if line.startswith("fmla")]
    assert len(multiply_adds) >= 64
    assert all(re.search(r"\.s\[\d\]", line) for line in multiply_adds), "a factor was broadcast instead of taken from a lane"
    assert not [line for line in main if "[sp" in line]
    loads = sum(len(re.findall(r"\bq\d+", line.split("[")[0])) for line in main if line.startswith("ld"))
    assert len(multiply_adds) >= 2 * loads, f"{loads} vectors loaded for {len(multiply_adds)} multiply-adds"
    assert len(multiply_adds) >= 0.75 * len(main), "less than three quarters of the instructions are multiply-adds"


@pytest.mark.parametrize("name", CASES)
def test_avx512_tiles_do_not_touch_the_stack(name, tmp_path):
    found = blocks(CASES[name], "x86-64-v4", ["-target", "x86_64-linux-musl", "-mcpu=x86_64_v4"], tmp_path)
    main = max(found, key=lambda block: sum("vfmadd" in line for line in block))
    assert sum("vfmadd" in line for line in main) >= 32
    assert not [line for line in main if "zmm" in line and "(%rsp" in line]
