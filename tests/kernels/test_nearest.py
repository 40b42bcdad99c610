"""Requantization in integers: recognised where it is the same, and the same bytes at ties and at both ends."""

import numpy as np
import pytest

from edgecc.ir.scalar import Arg, apply, convert, literal
from edgecc.ir.types import DType
from edgecc.kernels.nearest import in_integers, magnitude
from edgecc.kernels.registry import lower
from edgecc.loop.index import ZERO
from edgecc.loop.ir import Cast, Const, Load, Op, expressions, subexpressions, walk
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.ops.requantize import requantized, rounded
from tests.support import kernels

F32, I32, U8, I8 = DType.F32, DType.I32, DType.U8, DType.I8


def uses_nearest(request):
    function = lower(request).function
    return any(isinstance(e, Op) and e.op == "nearest" for s in walk(function.body) for top in expressions(s) for e in subexpressions(top))


def products(dtype, zero, channels, scale=0.5):
    """Sums that reach both ends of i32, odd numbers of halves, and everything between."""
    random = np.random.default_rng(5)
    x = random.integers(0, 256, (9, 8)).astype(np.uint8)
    w = random.integers(-128, 128, (8, channels)).astype(np.int8)
    x[0], w[:, 0] = 0, 0
    bias = random.integers(-300, 300, channels).astype(np.int32)
    bias[:3] = [2**31 - 1, -2**31, 1]
    scales = np.full(channels, scale, np.float32)
    scales[3:] = random.choice(np.array([0.5, 2.0**-10, 0.0013, 1e-9, -0.25], np.float32), channels - 3)
    op = MatMul(epilogue=requantized(Arg(0, I32), Arg(1, F32), Arg(2, dtype), dtype))
    return op, [x, w, bias, scales, np.array(zero, dtype.numpy)]


@pytest.mark.parametrize(("dtype", "zero"), [(U8, 0), (U8, 255), (I8, -128), (I8, 5)])
@pytest.mark.parametrize("machine", ["x86-64-v4", "x86-64-v3", "cortex-a76", "cortex-a53", "generic-c"])
def test_the_same_bytes_everywhere(machine, dtype, zero):
    for channels in (17, 160):
        op, arrays = products(dtype, zero, channels)
        request = kernels.request_for(op, arrays, machine, constants=[1, 2, 3, 4])
        assert uses_nearest(request)
        if channels == 17:
            kernels.check(request, arrays)
        kernels.check(request, arrays, machine=machine)


def test_scales_that_may_overflow_or_are_computed_stay_in_floats():
    op, arrays = products(U8, 3, 17, scale=0.75)
    request = kernels.request_for(op, arrays, "x86-64-v3", constants=[1, 2, 3, 4])
    assert not uses_nearest(request)
    kernels.check(request, arrays)
    assert not uses_nearest(kernels.request_for(op, arrays, "x86-64-v3", constants=[1, 2]))


def added(number, dtype, zero, scale):
    """What a quantized number stands for."""
    return apply("mul", convert(apply("sub", convert(number, I32), literal(zero, I32)), F32), literal(scale, F32))


@pytest.mark.parametrize("machine", ["x86-64-v4-bf16", "x86-64-v3", "cortex-a76", "generic-c"])
@pytest.mark.parametrize(("dtype", "zero"), [(U8, 107), (I8, -5)])
def test_results_that_are_quantized_and_added_stay_in_registers(machine, dtype, zero):
    """A residual behind a requantized sum: integers are limited as bytes would be, and are none on the way."""
    random = np.random.default_rng(6)
    op, arrays = products(dtype, zero, 33)
    inner = rounded(apply("mul", convert(Arg(0, I32), F32), Arg(1, F32)), literal(float(zero), F32), dtype)
    total = apply("add", added(inner, dtype, zero, 1.0365), added(Arg(2, dtype), dtype, 21, 1.925))
    op = MatMul(epilogue=rounded(total, literal(7.0, F32), dtype))
    residual = random.integers(*map(int, dtype.limits), (9, 33), endpoint=True).astype(dtype.numpy)
    given = [*arrays[:4], residual]
    request = kernels.request_for(op, given, machine, constants=[1, 2, 3])
    narrow = [sum(isinstance(e, Cast) and e.dtype is dtype for top in expressions(s) for e in subexpressions(top))
              for s in walk(lower(request).function.body)]
    assert max(narrow) == 1, "only what is stored becomes bytes"
    if machine == "cortex-a76":
        kernels.check(request, given)
    kernels.check(request, given, machine=machine)


@pytest.mark.parametrize("machine", ["x86-64-v4", "x86-64-v3", "cortex-a76"])
def test_sums_of_two_scales(machine):
    def scaled(index, zero, scale):
        return apply("mul", convert(apply("sub", convert(Arg(index, U8), I32), literal(zero, I32)), F32), literal(scale, F32))

    random = np.random.default_rng(1)
    arrays = [random.integers(0, 256, (3, 5, 37)).astype(np.uint8) for _ in range(2)]
    op = Elementwise(rounded(apply("add", scaled(0, 3, 0.5), scaled(1, 128, 0.75)), literal(7, U8), U8))
    request = kernels.request_for(op, arrays, machine)
    assert uses_nearest(request)
    kernels.check(request, arrays)
    kernels.check(request, arrays, machine=machine)


def test_bounds():
    x, known = Load("x", ZERO, F32), Load("r", ZERO, F32)
    total = Cast(Load("s", ZERO, I32), F32)
    assert magnitude(Op("mul", (total, known), F32), {"r"}) == pytest.approx(2.0**30)
    assert magnitude(Op("mul", (total, x), F32), {"r"}) == np.inf
    assert magnitude(Op("mul", (x, Const(0.0, F32)), F32), ()) == np.inf
    value = Cast(Op("add", (Op("round", (Op("mul", (total, known), F32),), F32), Const(0.5, F32)), F32), U8)
    assert in_integers(value, {"r"}) == value  # not a zero point
