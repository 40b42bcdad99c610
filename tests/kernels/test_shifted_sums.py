"""Sums that start from the bits of a float: the same bytes as by conversions, at ties, at the limits, and only where it is known to hold."""

import re

import numpy as np
import pytest

from edgecc.backends.c.function import new_prelude, print_function
from edgecc.backends.c.isa import isa_of
from edgecc.ir.scalar import Arg, literal
from edgecc.ir.types import DType, TensorType
from edgecc.kernels.registry import lower
from edgecc.kernels.shifted_sums import BITS, MAGIC, SHORT, SMALL
from edgecc.loop.ir import Bitcast, expressions, subexpressions, walk
from edgecc.ops.convolution import Conv
from edgecc.ops.matrix import MatMul
from edgecc.ops.requantize import requantized
from edgecc.passes.loop import apply_schedule
from tests.support import kernels

F32, I32, U8, I8 = DType.F32, DType.I32, DType.U8, DType.I8


def product(dtype, zero, scale, depth=8, largest=127, bias=True):
    random = np.random.default_rng(2)
    x = random.integers(0, 256, (7, depth)).astype(np.uint8)
    w = random.integers(-largest, largest + 1, (depth, 36)).astype(np.int8)
    scales = np.full(36, scale, np.float32)
    op = MatMul(a_zero=3, epilogue=requantized(Arg(0, I32), Arg(1, F32), Arg(2, dtype), dtype))
    return op, [x, w, random.integers(-300, 300, 36).astype(np.int32) if bias else None, scales, np.array(zero, dtype.numpy)]


def by_addition(request):
    return any(isinstance(e, Bitcast) for s in walk(lower(request).function.body) for top in expressions(s) for e in subexpressions(top))


def test_the_identity():
    n = np.arange(-2**22 + 1, 2**22, 997, dtype=np.int64)
    assert ((n + BITS).astype(np.int32).view(np.float32) - np.float32(MAGIC) == n).all()
    v = np.concatenate([np.arange(-9, 9, 0.25), [2.0**22 - 0.5, -2.0**22 + 0.5]]).astype(np.float32)
    assert ((v + np.float32(MAGIC)).view(np.int32) - BITS == np.rint(v)).all()


@pytest.mark.parametrize(("dtype", "zero"), [(U8, 0), (U8, 255), (I8, -128), (I8, 5)])
def test_the_same_bytes(dtype, zero):
    for scale, level in ((2.0**-6, SHORT), (0.5, SMALL)):
        for bias in (True, False):
            op, arrays = product(dtype, zero, scale, bias=bias)
            request = kernels.request_for(op, arrays, "cortex-a76", constants=[1, 2, 3, 4])
            assert request.known_sums == level and by_addition(request)
            kernels.check(request, arrays)
    kernels.check(request, arrays, machine="cortex-a76")
    op, arrays = product(dtype, zero, 2.0**-6)
    request = kernels.request_for(op, arrays, "cortex-a76", constants=[1, 2, 3, 4])
    kernels.check(request, arrays, machine="cortex-a76", flags=("-O2",))
    kernels.check(request, arrays, machine="cortex-a76", flags=("-O2", "-ffp-contract=fast"))


def test_large_sums_are_converted():
    op, arrays = product(U8, 3, 2.0**-6, depth=1200)
    request = kernels.request_for(op, arrays, "cortex-a76", constants=[1, 2, 3, 4])
    assert request.known_sums == 0 and not by_addition(request)
    kernels.check(request, arrays)
    op, arrays = product(U8, 3, 2.0**-6)
    assert kernels.request_for(op, arrays, "cortex-a76", constants=[2, 3, 4]).known_sums == 0  # weights of the run
    assert kernels.request_for(op, arrays, "x86-64-v4", constants=[1, 2, 3, 4]).known_sums == 0


@pytest.mark.parametrize(("group", "kernel", "channels"), [(1, 1, 8), (1, 3, 8), (1, 3, 3), (16, 3, 16)])
def test_convolutions(group, kernel, channels):
    random = np.random.default_rng(4)
    x = random.integers(0, 256, (1, channels, 7, 9)).astype(np.uint8)
    w = random.integers(-20, 21, (16, channels // group, kernel, kernel)).astype(np.int8)
    op = Conv((1, 1), (kernel // 2,) * 4, (1, 1), group, requantized(Arg(0, I32), Arg(1, F32), Arg(2, U8), U8), 130)
    arrays = [x, w, random.integers(-300, 300, 16).astype(np.int32), np.full((1, 16, 1, 1), 2.0**-7, np.float32), np.array(9, np.uint8)]
    (result,) = op.infer([TensorType.of(a) for a in arrays])
    order = (0, 2, 3, 1)
    request = kernels.request_for(op, arrays, "cortex-a76", inputs=[kernels.laid_out(TensorType.of(x), order)],
                                  outputs=[kernels.laid_out(result, order)], constants=[1, 2, 3, 4])
    assert request.known_sums == SHORT and by_addition(request)
    kernels.check(request, arrays)
    kernels.check(request, arrays, machine="cortex-a76")


@pytest.mark.parametrize(("zero", "added"), [(0, False), (6, False), (-128, False), (7, True)])
def test_even_zero_points_cost_nothing_and_neighbours_are_one_store(zero, added):
    random = np.random.default_rng(5)
    epilogue = requantized(Arg(0, I32), Arg(1, F32), literal(zero, F32) if zero else None, I8)
    arrays = [random.integers(0, 256, (6, 16)).astype(np.uint8), random.integers(-20, 21, (16, 16)).astype(np.int8),
              random.integers(-300, 300, 16).astype(np.int32), np.full(16, 2.0**-5, np.float32)]
    request = kernels.request_for(MatMul(a_zero=3, epilogue=epilogue), arrays, "cortex-a76", constants=[1, 2, 3])
    kernel = lower(request)
    text = print_function(apply_schedule(kernel.function, kernel.schedule), new_prelude(isa_of("aarch64", ("neon", "dotprod"), 128)), "f").definition
    stores = set(re.findall(r"edgecc_store_low\w*_i8x4", text))
    assert stores and stores <= {f"edgecc_store_low{'_plus' if added else ''}_{count}_i8x4" for count in (2, 4)}
    kernels.check(request, arrays)
    kernels.check(request, arrays, machine="cortex-a76")
