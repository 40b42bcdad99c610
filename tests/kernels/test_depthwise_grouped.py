"""Depthwise convolutions of 8-bit integers by products of four: any window, border, zero point and sign; whole maps and stripes."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.scalar import Arg
from edgecc.ir.types import DType, TensorType
from edgecc.kernels.registry import candidates, lower
from edgecc.loop.interpreter import run_function
from edgecc.loop.ir import Op, expressions, subexpressions, walk
from edgecc.ops.convolution import Conv
from edgecc.ops.requantize import requantized
from edgecc.passes.loop.base import apply_schedule
from tests.support import kernels

EPILOGUE = requantized(Arg(0, DType.I32), Arg(1, DType.F32), Arg(2, DType.U8), DType.U8)


SHORT = ("cortex-a53", "cortex-a72")
"""Machines that sum products in 16 bits, where weights are above -128."""


def case(target, dtype, zero, channels, size, kernel, strides, pads, *, seed=0):
    random = np.random.default_rng(seed)
    low, high = map(int, dtype.limits)
    x = random.integers(low, high + 1, (1, channels, *size)).astype(dtype.numpy)
    w = random.integers(-127 if target in SHORT else -128, 128, (channels, 1, *kernel)).astype(np.int8)
    scale = np.full((1, channels, 1, 1), 2.0**-8, np.float32)
    arrays = [x, w, random.integers(-9999, 9999, channels).astype(np.int32), scale, np.array(7, np.uint8)]
    op = Conv(strides, pads, (1, 1), channels, EPILOGUE, min(max(zero, low), high))
    (result,) = op.infer([TensorType.of(a) for a in arrays])
    order = (0, 2, 3, 1)
    return kernels.request_for(op, arrays, target, inputs=[kernels.laid_out(TensorType.of(x), order)],
                               outputs=[kernels.laid_out(result, order)], constants=[1, 2, 3, 4]), arrays


def is_grouped(request):
    return any(isinstance(e, Op) and e.op == "interleave" for s in walk(lower(request).function.body)
               for top in expressions(s) for e in subexpressions(top))


@st.composite
def cases(draw):
    kernel = (draw(st.integers(1, 7)), draw(st.integers(1, 5)))
    strides = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    pads = tuple(draw(st.integers(0, k // 2)) for k in (*kernel, *kernel))
    size = tuple(draw(st.integers(k, 12)) for k in kernel)
    return (draw(st.sampled_from(["cortex-a76", "cortex-a53", "x86-64-v3", "x86-64-v4-bf16"])), draw(st.sampled_from([DType.I8, DType.U8])), draw(st.sampled_from([-128, -3, 0, 128, 255])),
            draw(st.sampled_from([3, 8, 17, 24, 40])), size, kernel, strides, pads)


@given(cases())
@settings(max_examples=30)
def test_windows(given_case):
    request, arrays = case(*given_case)
    ways = [c for c in candidates(request) if c.name == "depthwise grouped"]
    if ways:
        expected = request.op.reference(arrays)[0]
        kernel = lower(request, "depthwise grouped")
        assert kernel.candidate == "depthwise grouped" and expected.dtype == np.uint8
        kernels.check(request, arrays, choice="depthwise grouped")
    else:
        kernels.check(request, arrays)


@pytest.mark.parametrize(("machine", "kernel", "stride"), [
    *((machine, *window) for machine in ("cortex-a76", "x86-64-v4-bf16") for window in ((3, 1), (3, 2), (5, 1))), ("cortex-a53", 3, 2)])
def test_as_c(machine, kernel, stride):
    for dtype, zero, channels in ((DType.U8, 0, 40), (DType.I8, -7, 19)):
        request, arrays = case(machine, dtype, zero, channels, (11, 13), (kernel, kernel), (stride, stride), (kernel // 2,) * 4)
        assert is_grouped(request)
        kernels.check(request, arrays, machine=machine)


@pytest.mark.parametrize(("target", "way"), [("cortex-a76", "depthwise grouped"), ("x86-64-v4-bf16", "depthwise grouped"), ("x86-64-v3", "depthwise paired")])
def test_ranges_of_rows(target, way):
    request, arrays = case(target, DType.U8, 9, 16, (12, 6), (3, 3), (1, 1), (1, 1, 1, 1))
    request = dataclasses.replace(request, rows=True)
    kernel = lower(request, way)
    assert kernel.candidate == way
    function = apply_schedule(kernel.function, kernel.schedule)
    (expected,) = request.op.reference(arrays)
    memory: dict[str, np.ndarray] = {"x": np.ascontiguousarray(arrays[0].transpose(0, 2, 3, 1)).reshape(-1), "y": np.zeros(expected.size, np.uint8),
              "r0": arrays[3].reshape(-1), "r1": arrays[4].reshape(-1)}
    for buffer, argument in zip(kernel.function.buffers, kernel.arguments, strict=True):
        if hasattr(argument, "pack"):
            memory[buffer.name] = argument.pack(*(arrays[i] for i in argument.inputs))
    done = memory["y"].copy()
    for start, stop in ((0, 1), (1, 4), (4, 4), (4, 9), (9, 12)):
        memory["y"][:] = 0
        run_function(function, memory, {"row_start": start, "row_stop": stop})
        done.reshape(12, -1)[start:stop] = memory["y"].reshape(12, -1)[start:stop]
    assert (done.reshape(12, 6, 16).transpose(2, 0, 1) == expected[0]).all()


def test_rows_of_the_padding_need_no_biases_of_their_own():
    request, arrays = case("cortex-a76", DType.U8, 9, 16, (12, 6), (3, 3), (1, 1), (1, 1, 1, 1))
    kernel = lower(request, "depthwise grouped")
    (biases,) = [a.pack(*(arrays[i] for i in a.inputs)) for b, a in zip(kernel.function.buffers, kernel.arguments, strict=True) if b.name == "b"]
    assert biases.size == 4 * 16  # with and without the first and the last column of the window
