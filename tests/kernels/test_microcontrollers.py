"""8-bit kernels of microcontrollers (SMLAD, Helium): the reference's bytes, interpreted and as C of this machine, and the instructions of theirs."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

from edgecc.artifact.toolchain import zig_command
from edgecc.ir.scalar import Arg
from edgecc.ir.types import DType, TensorType
from edgecc.kernels.registry import lower
from edgecc.loop.ir import Horizontal, expressions, subexpressions, walk
from edgecc.ops.convolution import Conv
from edgecc.ops.matrix import MatMul
from edgecc.ops.requantize import requantized
from edgecc.targets.schema import load_target
from tests.support import ccompile, kernels

EPILOGUE = requantized(Arg(0, DType.I32), Arg(1, DType.F32), Arg(2, DType.I8), DType.I8)
TARGETS = ("cortex-m4", "cortex-m7", "cortex-m55")
SCALE, ZERO = 2.0**-9, -128

CASES = (
    # channels in and out, size, window, stride, group, zero point, type
    (64, 24, (5, 5), 1, 1, 1, -128, DType.I8), (48, 17, (7, 7), 1, 1, 1, 3, DType.I8), (16, 1, (1, 13), 1, 1, 1, 0, DType.I8),
    (12, 10, (5, 3), 1, 1, 1, -7, DType.I8), (13, 5, (4, 3), 1, 1, 1, 9, DType.I8), (32, 9, (3, 3), 1, 1, 1, 128, DType.U8),
    (16, 7, (6, 5), 3, 1, 1, -5, DType.I8), (3, 8, (9, 8), 3, 2, 1, 4, DType.I8), (1, 6, (12, 5), 4, 2, 1, 83, DType.I8),
    (17, 17, (7, 5), 3, 1, 17, -128, DType.I8), (24, 24, (6, 5), 3, 2, 24, 2, DType.I8), (8, 8, (5, 5), 5, 1, 8, 250, DType.U8),
)


def case(target, channels, results, size, kernel, stride, group, zero, dtype, *, seed=0):
    random = np.random.default_rng(seed)
    low, high = map(int, dtype.limits)
    x = random.integers(low, high + 1, (1, channels, *size)).astype(dtype.numpy)
    w = random.integers(-128, 128, (results, channels // group, kernel, kernel)).astype(np.int8)
    arrays = [x, w, random.integers(-9999, 9999, results).astype(np.int32), np.full((1, results, 1, 1), SCALE, np.float32), np.array(ZERO, np.int8)]
    op = Conv((stride, stride), (kernel // 2,) * 4, (1, 1), group, EPILOGUE, zero)
    (result,) = op.infer([TensorType.of(a) for a in arrays])
    order = (0, 2, 3, 1)
    return kernels.request_for(op, arrays, target, inputs=[kernels.laid_out(TensorType.of(x), order)],
                               outputs=[kernels.laid_out(result, order)], constants=[1, 2, 3, 4]), arrays


def product(target, rows, depth, channels, *, zero=-3):
    random = np.random.default_rng(rows)
    arrays = [random.integers(-128, 128, (rows, depth)).astype(np.int8), random.integers(-128, 128, (depth, channels)).astype(np.int8),
              random.integers(-99999, 99999, channels).astype(np.int32), np.full((1, channels), SCALE, np.float32), np.array(ZERO, np.int8)]
    return kernels.request_for(MatMul(epilogue=EPILOGUE, a_zero=zero), arrays, target, constants=[1, 2, 3, 4]), arrays


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("given", CASES, ids=str)
def test_convolutions(target, given):
    kernels.check(*case(target, *given))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("size", [(1, 640, 10), (3, 64, 12), (2, 20, 13)])
def test_products(target, size):
    kernels.check(*product(target, *size))


@pytest.mark.parametrize(("target", "given"), [("cortex-m4", CASES[3]), ("cortex-m55", CASES[1]), ("cortex-m55", CASES[9])])
def test_as_c_of_this_machine(target, given):
    kernels.check(*case(target, *given), machine=target)


def takes_vectors(request):
    return any(isinstance(e, Horizontal) for s in walk(lower(request).function.body) for top in expressions(s) for e in subexpressions(top))


def test_vectors_are_taken_where_terms_fill_them():
    assert [takes_vectors(case("cortex-m55", *given)[0]) for given in CASES[:5]] == [True, True, True, False, False]
    assert takes_vectors(product("cortex-m55", 1, 640, 10)[0]) and not takes_vectors(product("cortex-m4", 1, 640, 10)[0])


def test_a_window_in_the_padding_takes_no_more_biases_than_weights():
    request, _ = case("cortex-m4", 1, 6, (25, 5), 10, 2, 1, 83, DType.I8)
    biases = next(b for b in lower(request).function.buffers if b.name == "b")
    assert biases.elements <= 8


@pytest.mark.parametrize(("target", "cpu", "given", "wanted"), [
    ("cortex-m4", "cortex_m4+vfp4d16sp", CASES[0], ("smlad", "vcvtr")),
    ("cortex-m55", "cortex_m55+mve_fp+fp_armv8d16", CASES[0], ("vmlava.s8",)),
    ("cortex-m55", "cortex_m55+mve_fp+fp_armv8d16", CASES[10], ("vldrb.s32", "vstrb.32"))])
def test_instructions(target, cpu, given, wanted, tmp_path):
    zig = zig_command()
    if zig is None:
        pytest.skip("zig is not installed")
    source = ccompile.function_source(kernels.scheduled(lower(case(target, *given)[0])), load_target(target))
    (tmp_path / "kernel.c").write_text(source)
    done = subprocess.run([*zig, "cc", "-target", "thumb-linux-musleabihf", f"-mcpu={cpu}", "-std=gnu11", "-O3", "-Wall", "-Wextra", "-Werror", "-Wno-unused-command-line-argument",
                           "-S", "kernel.c", "-o", "kernel.s"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assembly = (tmp_path / "kernel.s").read_text()
    assert all(name in assembly for name in wanted)
