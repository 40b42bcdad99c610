"""Convolutions and matrix products of narrow integers: exact, for any zero points, shapes and layouts."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.scalar import Arg
from edgecc.ir.types import DType, TensorType
from edgecc.kernels.registry import lower
from edgecc.loop.dot import DOTS
from edgecc.loop.ir import Op, expressions, subexpressions, walk
from edgecc.ops.convolution import Conv, Pool
from edgecc.ops.matrix import MatMul
from edgecc.ops.requantize import requantized
from tests.support import kernels

NARROW = (DType.I8, DType.U8, DType.I16)
EPILOGUE = requantized(Arg(0, DType.I32), Arg(1, DType.F32), Arg(2, DType.U8), DType.U8)


def integers(draw, dtype, shape):
    low, high = dtype.limits
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(low, high + 1, shape).astype(dtype.numpy)
    if draw(st.integers(0, 4)) == 0:
        values[...] = draw(st.sampled_from([low, high]))  # the largest sums
    return values


def zero_of(draw, dtype):
    low, high = dtype.limits
    return draw(st.sampled_from([None, 0, low, high, 3]))


def extras(draw, shape):
    """A scale that makes ties, and a zero point."""
    scale = np.full(shape, draw(st.sampled_from([0.5, 2.0**-10, 0.0013, 1e-9])), np.float32)
    return [scale, np.array(draw(st.integers(0, 255)), np.uint8)]


@st.composite
def convolutions(draw):
    a, b = draw(st.sampled_from(NARROW)), draw(st.sampled_from(NARROW))
    group = draw(st.sampled_from([1, 1, 2, 5]))
    per_group, out = draw(st.integers(1, 5)), draw(st.sampled_from([1, 2, 17]))
    if draw(st.integers(0, 2)) == 0:
        per_group, out, group = 1, 1, draw(st.sampled_from([7, 16, 33]))
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    pads = tuple(draw(st.integers(0, 2)) for _ in range(4))
    size = [draw(st.integers(k, 9)) for k in kernel]
    x = integers(draw, a, (draw(st.integers(1, 2)), group * per_group, *size))
    w = integers(draw, b, (group * out, per_group, *kernel))
    bias = [np.random.default_rng(1).integers(-2**20, 2**20, group * out).astype(np.int32)] if draw(st.booleans()) else [None]
    more = extras(draw, (1, group * out, 1, 1)) if draw(st.booleans()) else []
    op = Conv((draw(st.integers(1, 2)), draw(st.integers(1, 2))), pads, (1, 1), group, EPILOGUE if more else None, zero_of(draw, a))
    arrays = [x, w, *bias, *more]
    views = [draw(kernels.views(TensorType.of(x)))]
    (result,) = op.infer([None if v is None else TensorType.of(v) for v in arrays])
    constants = [1, 2, 3, 4] if draw(st.integers(0, 3)) else []
    return kernels.request_for(op, arrays, draw(st.sampled_from(kernels.TARGETS)), inputs=views,
                               outputs=[draw(kernels.views(result))], constants=[c for c in constants if c < len(arrays)]), arrays


@st.composite
def products(draw):
    a, b = draw(st.sampled_from(NARROW)), draw(st.sampled_from(NARROW))
    rows, depth, columns = draw(st.sampled_from([1, 3, 13])), draw(st.sampled_from([1, 5, 17, 100])), draw(st.sampled_from([1, 4, 17, 49]))
    batch = draw(st.sampled_from([(), (2,)]))
    turned = draw(st.booleans())
    x, w = integers(draw, a, (*batch, rows, depth)), integers(draw, b, (columns, depth) if turned else (depth, columns))
    more = extras(draw, (columns,)) if draw(st.booleans()) else []
    op = MatMul(False, turned, EPILOGUE if more else None, zero_of(draw, a), zero_of(draw, b))
    arrays = [x, w, None, *more]
    constants = [1, 3, 4] if draw(st.booleans()) else []
    return kernels.request_for(op, arrays, draw(st.sampled_from(kernels.TARGETS)),
                               constants=[c for c in constants if c < len(arrays)]), arrays


@given(convolutions())
@settings(max_examples=25)
def test_convolutions(case):
    kernels.check(*case)


@given(products())
@settings(max_examples=25)
def test_products(case):
    kernels.check(*case)


def grouped_case(dtype, zero, kernel, *, biased=True, target="cortex-a76"):
    """A convolution channels-last, whose input channels come in groups of four."""
    random = np.random.default_rng(7)
    low, high = dtype.limits
    x = random.integers(low, high + 1, (2, 16, 5, 7)).astype(dtype.numpy)
    w = random.integers(-128, 128, (19, 16, kernel, kernel)).astype(np.int8)
    bias = random.integers(-2**20, 2**20, 19).astype(np.int32) if biased else None
    more = [np.full((1, 19, 1, 1), 2.0**-11, np.float32), np.array(7, np.uint8)]
    op = Conv((1, 1), (kernel // 2,) * 4, (1, 1), 1, EPILOGUE, zero)
    arrays = [x, w, bias, *more]
    (result,) = op.infer([None if a is None else TensorType.of(a) for a in arrays])
    order = (0, 2, 3, 1)
    return kernels.request_for(op, arrays, target, inputs=[kernels.laid_out(TensorType.of(x), order)],
                               outputs=[kernels.laid_out(result, order)], constants=[1, *([2] if biased else []), 3, 4]), arrays


def dots(request):
    function = lower(request).function
    return {e.op for s in walk(function.body) for top in expressions(s) for e in subexpressions(top)
            if isinstance(e, Op) and e.op in DOTS}


@pytest.mark.parametrize(("dtype", "zero", "kernel", "used"), [
    (DType.U8, None, 1, True), (DType.U8, 131, 1, True), (DType.I8, None, 1, True), (DType.I8, -5, 1, True),
    (DType.U8, 128, 3, True), (DType.I8, None, 3, True),
    (DType.U8, 131, 3, True)])  # windows at the border lack terms: they have biases of their own
def test_four_terms_a_step(dtype, zero, kernel, used):
    for biased in (True, False):
        request, arrays = grouped_case(dtype, zero, kernel, biased=biased)
        assert dots(request) == ({"dot_s8"} if used else set())
        kernels.check(request, arrays)
        request, arrays = grouped_case(dtype, zero, kernel, biased=biased, target="x86-64-v4-bf16")
        assert dots(request) == ({"dot_u8s8"} if used else set())
        kernels.check(request, arrays)
    assert not dots(grouped_case(dtype, zero, kernel, target="cortex-a72")[0])


@pytest.mark.parametrize("per_group", [2, 3, 6])
@pytest.mark.parametrize("target", ["cortex-a76", "x86-64-v4-bf16", "cortex-a72"])
def test_groups_of_channels_that_are_no_groups_of_terms(target, per_group):
    random = np.random.default_rng(2)
    x = random.integers(0, 256, (1, 4 * per_group, 6, 9)).astype(np.uint8)
    arrays = [x, random.integers(-128, 128, (12, per_group, 3, 3)).astype(np.int8)]
    op = Conv((1, 1), (1, 1, 1, 1), (1, 1), 4)
    order = (0, 2, 3, 1)
    (result,) = op.infer([TensorType.of(a) for a in arrays])
    request = kernels.request_for(op, arrays, target, inputs=[kernels.laid_out(TensorType.of(x), order)],
                                  outputs=[kernels.laid_out(result, order)], constants=[1])
    kernels.check(request, arrays)


@pytest.mark.parametrize(("zero", "kernel"), [(None, 1), (-32768, 1), (None, 3), (32767, 3)])
@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4-bf16", "cortex-m4"])
def test_pairs_of_words_a_step(target, zero, kernel):
    request, arrays = grouped_case(DType.I16, zero, kernel, target=target)
    assert dots(request) == {"dot_s16"}
    kernels.check(request, arrays)
    if zero == 32767:
        kernels.check(request, arrays, machine=target)


@pytest.mark.parametrize("target", ["x86-64-v4", "cortex-m4"])
def test_rows_of_words_by_bytes(target):
    random = np.random.default_rng(4)
    arrays = [random.integers(-32768, 32768, (3, 64)).astype(np.int16), random.integers(-127, 128, (64, 34)).astype(np.int8)]
    request = kernels.request_for(MatMul(a_zero=-3), arrays, target, constants=[1])
    assert dots(request) == {"dot_s16"}
    kernels.check(request, arrays)


@pytest.mark.parametrize("dtype", [DType.U8, DType.I8])
def test_products_of_four_terms_a_step(dtype):
    random = np.random.default_rng(3)
    low, high = dtype.limits
    x = random.integers(low, high + 1, (13, 100)).astype(dtype.numpy)
    w, bias = random.integers(-128, 128, (100, 17)).astype(np.int8), random.integers(-9999, 9999, 17).astype(np.int32)
    op = MatMul(a_zero=3)
    request = kernels.request_for(op, [x, w, bias], "cortex-a76", constants=[1, 2])
    assert dots(request) == {"dot_s8"}
    kernels.check(request, [x, w, bias])
    kernels.check(request, [x, w, bias], machine="cortex-a76")
    computed = kernels.request_for(op, [x, w, bias], "cortex-a76", constants=[1])
    assert not dots(computed)  # the zero point's share of the sums has no bias to go to
    kernels.check(computed, [x, w, bias])


@pytest.mark.parametrize("machine", ["cortex-a76", "x86-64-v4-bf16"])
def test_four_terms_a_step_as_c(machine):
    for dtype, zero, kernel in ((DType.U8, 131, 1), (DType.I8, 3, 1), (DType.U8, 128, 3), (DType.I8, None, 3), (DType.U8, None, 3)):
        request, arrays = grouped_case(dtype, zero, kernel, target=machine)
        kernels.check(request, arrays, machine=machine)


def test_weights_that_are_computed_are_read_one_by_one():
    request, arrays = grouped_case(DType.I8, None, 3)
    computed = kernels.request_for(request.op, arrays, "cortex-a76", inputs=[request.operand(0).view], outputs=request.outputs)
    assert not dots(computed)
    kernels.check(computed, arrays)


@pytest.mark.parametrize("machine", ["x86-64-v3", "cortex-a76"])
def test_sums_wrap_and_ties_go_to_even_as_c(machine):
    x, w = np.full((3, 40), 255, np.uint8), np.full((40, 19), -128, np.int8)
    start = np.full(19, -2**31, np.int32)
    kernels.check(kernels.request_for(MatMul(), [x, w, start], machine, constants=[1, 2]), [x, w, start], machine=machine)
    odd = np.arange(-57, 57, dtype=np.int8).reshape(6, 19)
    one, half, zero = np.eye(6, dtype=np.int8), np.full(19, 0.5, np.float32), np.array(128, np.uint8)
    arrays = [one, odd, None, half, zero]
    kernels.check(kernels.request_for(MatMul(epilogue=EPILOGUE), arrays, machine, constants=[1, 3, 4]), arrays, machine=machine)


@pytest.mark.parametrize("machine", ["x86-64-v3", "x86-64-v4"])
def test_bytes_in_words(machine):
    """Machines without products of four bytes: sums of two products exceed 16 bits."""
    for dtype, kernel in ((DType.U8, 3), (DType.I8, 1)):
        request, arrays = grouped_case(dtype, 131 if dtype is DType.U8 else -5, kernel, target=machine)
        arrays[0][:, :8] = dtype.limits[1]
        arrays[1][:, :8] = -128
        request = replace(request, winograd=False)
        assert dots(request) == {"dot_u8s8"}
        kernels.check(request, arrays)
        kernels.check(request, arrays, machine=machine)


@pytest.mark.parametrize("dtype", [DType.I8, DType.U8])
@pytest.mark.parametrize("machine", ["x86-64-v3", "x86-64-v4", "cortex-a76"])
def test_largest_bytes_of_windows(machine, dtype):
    random = np.random.default_rng(0)
    low, high = map(int, dtype.limits)
    for channels in (3, 80):
        x = random.integers(low, high + 1, (1, channels, 9, 7)).astype(dtype.numpy)
        op = Pool("max", (3, 3), (2, 2), (1, 1, 1, 1), (1, 1))
        (result,) = op.infer([TensorType.of(x)])
        order = (0, 2, 3, 1)
        request = kernels.request_for(op, [x], machine, inputs=[kernels.laid_out(TensorType.of(x), order)],
                                      outputs=[kernels.laid_out(result, order)])
        kernels.check(request, [x])
        kernels.check(request, [x], machine=machine)


@pytest.mark.parametrize("target", ["cortex-a53", "cortex-a72"])
@pytest.mark.parametrize(("dtype", "zero"), [(DType.I8, 5), (DType.U8, 131)])
def test_bytes_are_multiplied_without_products_of_groups(target, dtype, zero):
    random = np.random.default_rng(9)
    low, high = dtype.limits
    bias = random.integers(-9999, 9999, 18).astype(np.int32)
    x = random.choice([low, low + 1, high], (7, 40)).astype(dtype.numpy)  # sums of two products at the limits of 16 bits
    w = random.choice([-127, 127], (40, 18)).astype(np.int8)
    request = kernels.request_for(MatMul(a_zero=zero), [x, w, bias], target, constants=[1, 2])
    assert dots(request) == {"dot_s8_short"}
    kernels.check(request, [x, w, bias])
    kernels.check(request, [x, w, bias], machine=target)
    w[3, 4] = -128
    request = kernels.request_for(MatMul(a_zero=zero), [x, w, bias], target, constants=[1, 2])
    assert not dots(request)  # twice -128 * -128 would not fit
    kernels.check(request, [x, w, bias])


@pytest.mark.parametrize("kernel", [1, 3])
def test_convolutions_without_products_of_groups(kernel):
    random = np.random.default_rng(10)
    x = random.integers(-128, 128, (1, 16, 5, 7)).astype(np.int8)
    w = random.integers(-127, 128, (18, 16, kernel, kernel)).astype(np.int8)
    op = Conv((1, 1), (kernel // 2,) * 4, (1, 1), 1, EPILOGUE, 3)
    arrays = [x, w, random.integers(-2**20, 2**20, 18).astype(np.int32), np.full((1, 18, 1, 1), 2.0**-11, np.float32), np.array(7, np.uint8)]
    (result,) = op.infer([TensorType.of(a) for a in arrays])
    order = (0, 2, 3, 1)
    request = kernels.request_for(op, arrays, "cortex-a72", inputs=[kernels.laid_out(TensorType.of(x), order)],
                                  outputs=[kernels.laid_out(result, order)], constants=[1, 2, 3, 4])
    assert dots(request) == {"dot_s8_short"}
    kernels.check(request, arrays)
    kernels.check(request, arrays, machine="cortex-a72")


@pytest.mark.parametrize(("rows", "depth", "columns"), [(7, 72, 20), (12, 52, 34)])
def test_matrices_of_bytes(rows, depth, columns):
    random = np.random.default_rng(11)
    x = random.choice([-128, 127, 3], (rows, depth)).astype(np.int8)
    w = random.integers(-128, 128, (depth, columns)).astype(np.int8)
    bias = random.integers(-2**20, 2**20, columns).astype(np.int32)
    arrays = [x, w, bias, np.full(columns, 2.0**-11, np.float32), np.array(7, np.uint8)]
    request = kernels.request_for(MatMul(a_zero=-5, epilogue=EPILOGUE), arrays, "cortex-a710", constants=[1, 2, 3, 4])
    assert dots(request) == {"dot_s8"}
    kernels.check(request, arrays)
    kernels.check(request, arrays, machine="cortex-a710")


@pytest.mark.parametrize(("depth", "pairs"), [(32, False), (64, True)])
def test_products_of_matrices_are_left_to_sums_that_pay_for_them(depth, pairs):
    arrays = [np.zeros((12, depth), np.int8), np.zeros((depth, 16), np.int8), np.zeros(16, np.int32), np.ones(16, np.float32), np.array(7, np.uint8)]
    request = kernels.request_for(MatMul(a_zero=-5, epilogue=EPILOGUE), arrays, "cortex-a710", constants=[1, 2, 3, 4])
    assert ("pair-products" in lower(request).schedule) == pairs
