"""Floats quantized to bytes: without division, in whole registers of bytes, planes turned into pixels on the way."""

import numpy as np
import pytest

from edgecc.ir.scalar import Arg, apply, convert, literal
from edgecc.ir.types import DType, TensorType
from edgecc.kernels.reciprocal import factors_of, quantize_alike
from edgecc.kernels.registry import lower
from edgecc.loop.ir import Op, Store, expressions, subexpressions, walk
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.requantize import Steps
from tests.support.kernels import laid_out, request_for, run

F32, I32, I8, U8 = DType.F32, DType.I32, DType.I8, DType.U8


def quantizer(scale, zero, dtype, turned=False):
    """x / scale, rounded and moved by the zero point; `turned`: by way of u8, of which 128 is taken."""
    expr = Steps(scale, zero, dtype).quantized(Arg(0, F32))
    return Elementwise(convert(apply("sub", convert(expr, I32), literal(128, I32)), I8) if turned else expr)


def difficult(dims, scale, seed=0):
    """Ties, their neighbours, infinities, NaN, and numbers of every size."""
    random = np.random.default_rng(seed)
    count = int(np.prod(dims))
    ties = ((random.integers(-300, 300, count) + 0.5) * np.float32(scale)).astype(np.float32)
    x = np.nextafter(ties, ties + random.integers(-1, 2, count).astype(np.float32))
    some = random.integers(0, count, 12)
    x[some] = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40, -1e-40, 0.0, -0.0, 1e9, -1e9, 2.0**31], np.float32)
    return x.reshape(dims)


def check_bytes(request, x, machine=""):
    """The kernel's bytes are those of the operator in f32."""
    (result,), (expected,) = run(request, [x], machine), request.op.reference([x])
    assert np.array_equal(result, expected)


@pytest.mark.parametrize(("machine", "dtype", "turned"), [
    ("cortex-a76", U8, True), ("cortex-a53", U8, False), ("x86-64-v3", I8, False), ("x86-64-v4", U8, True)])
def test_the_same_bytes_everywhere(machine, dtype, turned):
    scale = float(np.float32(0.037720583379268646))
    x = difficult((1, 115), scale)
    check_bytes(request_for(quantizer(scale, 126 if dtype is U8 else -3, dtype, turned), [x], machine), x, machine)


@pytest.mark.parametrize(("machine", "dtype", "zero"), [
    ("x86-64-v4", U8, None), ("x86-64-v4", I8, None), ("x86-64-v4", U8, 7), ("x86-64-v4", I8, -3), ("x86-64-v3", I8, None), ("x86-64-v3", U8, 9)])
def test_bytes_of_converted_floats(machine, dtype, zero):
    """No zero point is added to what is rounded: both are one instruction; 115 numbers end in a vector that is no whole one."""
    x = difficult((1, 115), 0.25)
    op = Elementwise(convert(apply("round", apply("mul", Arg(0, F32), literal(4.0, F32))), dtype)) if zero is None else quantizer(0.25, zero, dtype)
    check_bytes(request_for(op, [x], machine), x, machine)


@pytest.mark.parametrize("machine", ["cortex-a76", "x86-64-v3"])
@pytest.mark.parametrize(("channels", "size", "turned"), [(3, (2, 35), True), (3, (1, 16), False), (2, (3, 17), False), (2, (1, 40), True),
                                                          (3, (1, 64), False), (4, (1, 100), True), (5, (1, 49), False)])
def test_planes_become_pixels(channels, size, turned, machine):
    dims, scale = (1, channels, *size), float(np.float32(0.0371))
    x = difficult(dims, scale, seed=channels)
    out = laid_out(TensorType(I8 if turned else U8, dims), (0, 2, 3, 1))
    request = request_for(quantizer(scale, 7, U8, turned), [x], machine, outputs=[out])
    stores = [s for s in walk(lower(request).function.body) if isinstance(s, Store)]
    assert any(s.stride == channels for s in stores) == (channels < 5)
    check_bytes(request, x)
    if turned or (channels, machine) == (3, "x86-64-v3"):
        check_bytes(request, x, machine)


def uses_division(request):
    return any(isinstance(e, Op) and e.op == "div" for s in walk(lower(request).function.body) for top in expressions(s) for e in subexpressions(top))


def test_division_stays_where_multiply_adds_are_none_or_an_integer_would_change():
    x = difficult((1, 64), 0.1)
    op = quantizer(float(np.float32(0.1)), 3, U8)
    assert not uses_division(request_for(op, [x], "cortex-a76"))
    assert uses_division(request_for(op, [x], "generic-c"))
    assert factors_of(0.25, 0.0, U8) is None
    assert factors_of(2.0**-100 * 1.25, 0.0, U8) is None


def test_factors_quantize_like_the_quotient():
    random, found = np.random.default_rng(3), 0
    for scale in np.exp(random.uniform(-12, 3, 40)).astype(np.float32):
        factors = factors_of(float(scale), 5.0, U8)
        if factors is None:
            continue
        found += 1
        x = ((np.arange(-8, 256) + 0.5) * scale).astype(np.float32)
        x = np.concatenate([x, np.nextafter(x, np.float32(0)), np.nextafter(x, np.float32(1e30))])
        exact = x.astype(np.float64) * factors[0] + (x * np.float32(factors[1])).astype(np.float64)
        assert np.array_equal(np.rint(exact.astype(np.float32)), np.rint(x / scale))
    assert found >= 20


def test_one_factor_alone_changes_integers_and_is_seen_to():
    scale = float(np.float32(0.1))
    high, low = factors_of(scale, 0.0, U8)
    assert quantize_alike((high, low), scale, 0.0, U8)
    assert not quantize_alike((high, 0.0), scale, 0.0, U8)
