"""Kernels as compilers see them: basic blocks of the assembly that zig makes of a kernel."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgecc.ir.op import Op
from edgecc.ir.types import Layout
from edgecc.kernels.base import lower
from edgecc.ops.convolution import Conv
from edgecc.ops.matrix import MatMul
from edgecc.passes.loop import apply_schedule
from edgecc.targets.schema import load_target
from tests.support.ccompile import function_source, machine_of
from tests.support.kernel_check import Given, request_for

Case = tuple[Op, list[Given], list[Layout | None] | None]


def convolution(channels: int, outputs: int, size: int, kernel: int = 1, pad: int = 0, group: int = 1, stride: int = 1) -> Case:
    """A channels-last convolution."""
    op = Conv((stride, stride), (pad,) * 4, (1, 1), group)
    last = Layout.channels_last(4)
    x, w = np.zeros((1, channels, size, size), np.float32), np.zeros((outputs, channels // group, kernel, kernel), np.float32)
    return op, [Given(x, layout=last), Given(w, True)], [last]


def product(rows: int, depth: int, columns: int) -> Case:
    """A matrix product with a constant second factor."""
    return MatMul(False, False), [Given(np.zeros((rows, depth), np.float32)), Given(np.zeros((depth, columns), np.float32), True)], None


CASES: dict[str, Case] = {
    "pointwise 96 to 24, 56x56": convolution(96, 24, 56),
    "pointwise 64 to 384, 14x14": convolution(64, 384, 14),
    "pointwise 960 to 320, 7x7": convolution(960, 320, 7),
    "3x3 32 to 32, 28x28": convolution(32, 32, 28, 3, 1),
    "matrix 128 x 384 x 384": product(128, 384, 384),
    "matrix 128 x 384 x 1000": product(128, 384, 1000),
}


def blocks(case: Case, target: str, flags: Sequence[str]) -> list[list[str]]:
    """The basic blocks of the kernel's assembly."""
    op, given, layouts = case
    kernel = lower(request_for(op, given, target, layouts))
    text = function_source(apply_schedule(kernel.function, kernel.schedule), machine_of(load_target(target)))
    with tempfile.TemporaryDirectory() as folder:
        source, assembly = Path(folder, "kernel.c"), Path(folder, "kernel.s")
        source.write_text(text, encoding="utf-8")
        subprocess.run([sys.executable, "-m", "ziglang", "cc", *flags, "-O2", "-g0", "-ffp-contract=off", "-S", str(source),
                        "-o", str(assembly)], check=True, timeout=300, stderr=subprocess.DEVNULL)
        lines = assembly.read_text(encoding="utf-8").splitlines()
    out: list[list[str]] = [[]]
    for line in lines:
        stripped = line.strip()
        if re.match(r"^\.LBB\w+:", stripped):
            out.append([])
        elif re.match(r"^[a-z]", stripped):
            out[-1].append(stripped)
            if re.match(r"^(b|b\.\w+|cbn?z|tbn?z|j\w+|ret)\b", stripped):
                out.append([])
    return out


def main_block(case: Case, target: str, flags: Sequence[str], multiply_add: str) -> list[str]:
    """The block with the most multiply-adds."""
    return max(blocks(case, target, flags), key=lambda block: sum(multiply_add in line for line in block))


A76_FLAGS = ("-target", "aarch64-linux-musl", "-mcpu=cortex_a76")
AVX512_FLAGS = ("-target", "x86_64-linux-musl", "-mcpu=x86_64_v4")
