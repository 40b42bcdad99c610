"""Kernels as compilers see them: the innermost loops of the assembly that a compiler makes of a kernel."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgecc.artifact.toolchain import BASE_FLAGS
from edgecc.ir.op import Op
from edgecc.ir.types import DType, Layout
from edgecc.kernels.registry import lower
from edgecc.loop.ir import Function
from edgecc.ops.convolution import Conv
from edgecc.ops.matrix import MatMul
from edgecc.passes.loop import apply_schedule
from edgecc.targets.schema import Target, load_target
from tests.support.ccompile import command_of, flags_of, function_source, machine_of
from tests.support.kernel_check import Given, request_for

Case = tuple[Op, list[Given], list[Layout | None] | None]
COMPILERS = ("gcc", "clang", "zig")
_MULTIPLY_ADD = re.compile(r"^(fmla|fmadd|vfmadd\w+|fmls|sdot|vpdpbusd|vpmaddwd)\b")
_BRANCH = re.compile(r"^(b|b\.?[a-z]{2}|cbn?z|tbn?z|j[a-z]+)\s")


@dataclass(frozen=True)
class Loop:
    """The instructions of an innermost loop, from the label at its start to the branch back to it."""

    lines: tuple[str, ...]

    @property
    def multiply_adds(self) -> int:
        """Number of multiply-add instructions."""
        return sum(bool(_MULTIPLY_ADD.match(line)) for line in self.lines)

    @property
    def stack_accesses(self) -> int:
        """Number of instructions that address memory through the stack pointer."""
        return sum(bool(re.search(r"\[sp\b|\(%rsp[,)]", line)) for line in self.lines)


def convolution(channels: int, outputs: int, size: int, kernel: int = 1, pad: int = 0, group: int = 1, stride: int = 1,
                dtype: type[np.floating[Any]] = np.float32) -> Case:
    """A channels-last convolution."""
    op = Conv((stride, stride), (pad,) * 4, (1, 1), group)
    last = Layout.channels_last(4)
    x, w = np.zeros((1, channels, size, size), dtype), np.zeros((outputs, channels // group, kernel, kernel), dtype)
    return op, [Given(x, layout=last), Given(w, True)], [last]


def byte_convolution(channels: int, outputs: int, size: int, kernel: int = 1, pad: int = 0, *, signed: bool = False, weight: int = 0) -> Case:
    """A channels-last convolution of u8 with a zero point, or of i8, with weights in i8, all of them `weight`, and sums in i32."""
    op = Conv((1, 1), (pad,) * 4, (1, 1), 1, x_zero=0 if signed else 3)
    last = Layout.channels_last(4)
    x, w = np.zeros((1, channels, size, size), np.int8 if signed else np.uint8), np.full((outputs, channels, kernel, kernel), weight, np.int8)
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
    "first layer 3 to 32, 3x3 stride 2": convolution(3, 32, 112, 3, 1, stride=2),
    "depthwise 3x3, 96 channels, 28x28": convolution(96, 96, 28, 3, 1, 96),
}

BYTE_CASES: dict[str, Case] = {
    "pointwise 1024 to 256, 14x14": byte_convolution(1024, 256, 14),
    "3x3 64 to 64, 56x56": byte_convolution(64, 64, 56, 3, 1),
}

WORD_CASES: dict[str, Case] = {
    "words pointwise 1024 to 256, 14x14": byte_convolution(1024, 256, 14, weight=-128),
}
"""With weights that keep AVX2 from products of bytes in pairs."""

SIGNED_CASES: dict[str, Case] = {
    "i8 pointwise 64 to 384, 14x14": byte_convolution(64, 384, 14, signed=True),
    "i8 3x3 64 to 64, 56x56": byte_convolution(64, 64, 56, 3, 1, signed=True),
}
"""As zero points of activations leave them behind."""


HALF_CASES: dict[str, Case] = {
    "f16 pointwise 64 to 384, 14x14": convolution(64, 384, 14, dtype=np.float16),
    "f16 3x3 32 to 32, 28x28": convolution(32, 32, 28, 3, 1, dtype=np.float16),
    "f16 first layer 3 to 32, 3x3 stride 2": convolution(3, 32, 112, 3, 1, stride=2, dtype=np.float16),
}
"""With sums in f16."""


def scheduled(case: Case, target: str, choice: str = "direct") -> Function:
    """The kernel named `choice` of a case, or the usual one where there is none of that name, after its schedule."""
    op, given, layouts = case
    request = request_for(op, given, target, layouts)
    if given[0].array.dtype == np.float16:
        request = replace(request, precision=DType.F16)
    kernel = lower(request, choice)
    return apply_schedule(kernel.function, kernel.schedule)


def command(target: Target, compiler: str) -> list[str] | None:
    """The command that compiles to assembly with the flags of the product; None where the compiler is not installed."""
    machine = machine_of(target)
    found = command_of(machine, compiler)
    if found is None:
        return None
    return [*found, *flags_of(machine, compiler), *BASE_FLAGS, "-g0", "-S", "-fno-asynchronous-unwind-tables"]


def assembly(function: Function, target: str, compiler: str) -> str:
    """The assembly of a function; raises LookupError where the compiler is not installed."""
    machine = load_target(target)
    compile_command = command(machine, compiler)
    if compile_command is None:
        raise LookupError(f"no {compiler} for {machine.architecture}")
    with tempfile.TemporaryDirectory() as folder:
        source, text = Path(folder, "kernel.c"), Path(folder, "kernel.s")
        source.write_text(function_source(function, machine_of(machine)), encoding="utf-8")
        subprocess.run([*compile_command, str(source), "-o", str(text)], check=True, timeout=300, stderr=subprocess.DEVNULL)
        return text.read_text(encoding="utf-8")


def innermost_loops(text: str) -> list[Loop]:
    """The loops of assembly text that hold no other loop."""
    lines: list[str] = []
    labels: dict[str, int] = {}
    spans: list[tuple[int, int]] = []
    for line in (re.sub(r"\s+", " ", line.split("//")[0].split(" # ")[0].strip()) for line in text.splitlines()):
        label = re.match(r"^([.\w]+):", line)
        if label:
            labels[label[1]] = len(lines)
        elif re.match(r"^[a-z]", line):
            lines.append(line)
            if _BRANCH.match(line) and line.split()[-1] in labels:
                spans.append((labels[line.split()[-1]], len(lines)))
    inner = [span for span in spans if not any(other != span and span[0] <= other[0] and other[1] <= span[1] for other in spans)]
    return [Loop(tuple(lines[start:stop])) for start, stop in inner]


def main_loop(function: Function, target: str, compiler: str = "zig") -> Loop:
    """The innermost loop of a function with the most multiply-adds."""
    return max(innermost_loops(assembly(function, target, compiler)), key=lambda loop: loop.multiply_adds)
