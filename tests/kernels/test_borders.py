"""Biases of windows at the border: a zero point that is folded into them, for any window."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.types import DType, TensorType
from edgecc.kernels.borders import Borders
from edgecc.kernels.registry import lower
from edgecc.kernels.spatial import axes_of
from edgecc.loop.ir import Op, expressions, subexpressions, walk
from edgecc.ops.convolution import Conv
from tests.support import kernels


@st.composite
def cases(draw):
    kernel = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    strides = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilations = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    pads = tuple(draw(st.integers(0, 5)) for _ in range(4))
    size = tuple(max(1, draw(st.integers(1, 9)), (k - 1) * d + 1 - a - b)
                 for k, d, a, b in zip(kernel, dilations, pads[:2], pads[2:], strict=True))
    return kernel, strides, dilations, pads, size


@given(cases(), st.integers(0, 9))
@settings(max_examples=40)
def test_sums_of_valid_weights(case, seed):
    kernel, strides, dilations, pads, size = case
    w = np.random.default_rng(seed).integers(-128, 128, (3, 2, *kernel)).astype(np.int8)
    op = Conv(strides, pads, dilations)
    ones = np.ones((1, 2, *size), np.int8)
    (expected,) = op.reference([ones, w])
    axes = axes_of(size, expected.shape[2:], kernel, strides, dilations, pads)
    borders = Borders.of(axes)
    sums = borders.sums(w)
    assert sums.shape == (borders.count, 3)
    for position in np.ndindex(*expected.shape[2:]):
        number = 0
        for own, axis, p in zip(borders.axes, axes, position, strict=True):
            start, stop = axis.static_bounds(p)
            stop = stop if start < stop else start
            number = number * own.count + start * own.ends + axis.kernel - stop
        assert 0 <= number < borders.count
        assert (sums[number] == expected[0, :, position[0], position[1]]).all()


@given(cases(), st.sampled_from([DType.I8, DType.U8]), st.sampled_from([-5, 7, 127]), st.sampled_from(["cortex-a76", "x86-64-v4-bf16"]))
@settings(max_examples=25)
def test_windows(case, dtype, zero, target):
    kernel, strides, dilations, pads, size = case
    random = np.random.default_rng(3)
    low, high = map(int, dtype.limits)
    x = random.integers(low, high + 1, (1, 4, *size)).astype(dtype.numpy)
    w, b = random.integers(-128, 128, (5, 4, *kernel)).astype(np.int8), random.integers(-9999, 9999, 5).astype(np.int32)
    op = Conv(strides, pads, dilations, 1, None, max(low, zero))
    (result,) = op.infer([TensorType.of(a) for a in (x, w, b)])
    order = (0, 2, 3, 1)
    request = kernels.request_for(op, [x, w, b], target, inputs=[kernels.laid_out(TensorType.of(x), order)],
                                  outputs=[kernels.laid_out(result, order)], constants=[1, 2])
    function = lower(request).function
    assert any(isinstance(e, Op) and e.op.startswith("dot") for s in walk(function.body) for top in expressions(s) for e in subexpressions(top))
    kernels.check(request, [x, w, b])


@pytest.mark.parametrize("machine", ["cortex-a76", "x86-64-v4-bf16"])
def test_windows_as_c(machine):
    random = np.random.default_rng(3)
    x, w = random.integers(0, 256, (1, 8, 9, 13)).astype(np.uint8), random.integers(-128, 128, (35, 8, 3, 3)).astype(np.int8)
    for strides, pads in (((1, 1), (1, 1, 1, 1)), ((2, 2), (0, 0, 1, 1))):
        op = Conv(strides, pads, (1, 1), 1, None, 77)
        (result,) = op.infer([TensorType.of(a) for a in (x, w)])
        order = (0, 2, 3, 1)
        request = kernels.request_for(op, [x, w], machine, inputs=[kernels.laid_out(TensorType.of(x), order)],
                                      outputs=[kernels.laid_out(result, order)], constants=[1])
        kernels.check(request, [x, w], machine=machine)
