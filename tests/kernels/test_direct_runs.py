"""Convolutions of 8-bit integers whose channels do not come in fours: bytes of a row in groups that overlap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.types import DType, TensorType
from edgecc.kernels.complements import MASKS
from edgecc.kernels.direct_runs import ByteRuns
from edgecc.kernels.registry import lower
from edgecc.kernels.spatial import Axis
from edgecc.loop.ir import For, Op, expressions, subexpressions, walk
from edgecc.ops.convolution import Conv
from tests.support import kernels


def case(target, dtype, zero, channels, out, size, kernel, strides, pads):
    random = np.random.default_rng(1)
    low, high = map(int, dtype.limits)
    x = random.integers(low, high + 1, (2, channels, *size)).astype(dtype.numpy)
    arrays = [x, random.integers(-128, 128, (out, channels, *kernel)).astype(np.int8), random.integers(-9999, 9999, out).astype(np.int32)]
    op = Conv(strides, pads, (1, 1), 1, None, min(max(zero, low), high))
    (result,) = op.infer([TensorType.of(a) for a in arrays])
    order = (0, 2, 3, 1)
    return kernels.request_for(op, arrays, target, inputs=[kernels.laid_out(TensorType.of(x), order)],
                               outputs=[kernels.laid_out(result, order)], constants=[1, 2]), arrays


def is_grouped(request):
    return any(isinstance(e, Op) and e.op == "interleave" for s in walk(lower(request).function.body)
               for top in expressions(s) for e in subexpressions(top))


@st.composite
def cases(draw):
    kernel = (draw(st.integers(1, 4)), draw(st.integers(2, 5)))
    pads = tuple(draw(st.integers(0, k // 2)) for k in (*kernel, *kernel))
    size = tuple(draw(st.integers(k, 11)) for k in kernel)
    return (draw(st.sampled_from(["cortex-a76", "x86-64-v4-bf16"])), draw(st.sampled_from([DType.I8, DType.U8])), draw(st.sampled_from([-128, -3, 0, 128, 255])),
            draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([3, 17, 32])), size, kernel,
            (draw(st.integers(1, 2)), draw(st.integers(1, 3))), pads)


@given(cases())
@settings(max_examples=25)
def test_windows(given_case):
    kernels.check(*case(*given_case))


@pytest.mark.parametrize("machine", ["cortex-a76", "x86-64-v4-bf16"])
def test_first_layers_as_c(machine):
    for dtype, zero, channels, kernel in ((DType.U8, 114, 3, 3), (DType.I8, -14, 3, 7), (DType.I8, 83, 1, 4)):
        request, arrays = case(machine, dtype, zero, channels, 35, (15, 21), (kernel, kernel), (2, 2), (kernel // 2,) * 4)
        assert is_grouped(request)
        kernels.check(request, arrays, machine=machine)


def extreme(dtype, zero, channels, kernel, stride, pads, size=(9, 23)):
    """A case whose weights and bytes are the largest there are, of both signs."""
    request, (x, w, bias) = case("x86-64-v3", dtype, zero, channels, 19, size, (kernel, kernel), (stride, stride), pads)
    random = np.random.default_rng(2)
    low, high = map(int, dtype.limits)
    x = np.where(random.random(x.shape) < 0.5, x, random.choice([low, high], x.shape)).astype(x.dtype)
    w = np.where(random.random(w.shape) < 0.3, w.clip(-127), random.choice([-127, 127, 64, 65], w.shape)).astype(w.dtype)
    order = (0, 2, 3, 1)
    return kernels.request_for(request.op, [x, w, bias], "x86-64-v3", inputs=[kernels.laid_out(TensorType.of(x), order)],
                               outputs=request.outputs, constants=[1, 2]), [x, w, bias]


@pytest.mark.parametrize(("dtype", "zero", "channels", "kernel", "stride", "pads"), [
    (DType.U8, 114, 3, 3, 2, (1, 1, 1, 1)), (DType.I8, -128, 3, 3, 1, (0, 0, 0, 0)), (DType.U8, 0, 5, 2, 1, (1, 0, 0, 1)), (DType.I8, 3, 1, 5, 2, (2, 2, 2, 2))])
def test_bytes_are_complemented_in_the_order_of_the_run(dtype, zero, channels, kernel, stride, pads):
    """Pairs are neighbours in the run, and each class of windows has its own: rows and columns of the padding lack some."""
    request, arrays = extreme(dtype, zero, channels, kernel, stride, pads)
    loops = {s.var for s in walk(lower(request).function.body) if isinstance(s, For)}
    assert MASKS in {b.name for b in lower(request).function.buffers}
    assert "edge_tap0" in loops or pads == (0, 0, 0, 0)
    kernels.check(request, arrays, machine="x86-64-v3")


def test_bytes_of_large_windows_are_complemented_in_a_loop_over_rows():
    request, arrays = extreme(DType.I8, -14, 3, 7, 2, (3, 3, 3, 3), (15, 21))
    assert "edge_tap0" not in {s.var for s in walk(lower(request).function.body) if isinstance(s, For)}
    kernels.check(request, arrays, machine="x86-64-v3")


def test_groups_lie_within_the_run():
    runs = ByteRuns.of((Axis(9, 4, 3, 2, 1, 1), Axis(9, 5, 3, 2, 1, 1)), 3)
    assert runs is not None and [runs.offsets(v) for v in runs.variants] == [(0, 2), (0, 4, 5), (0, 2)]
    assert ByteRuns.of((Axis(9, 9, 3, 1, 1, 1), Axis(9, 9, 3, 1, 1, 1)), 1) is None  # three bytes at most
    runs = ByteRuns.of((Axis(9, 9, 3, 1, 1, 1), Axis(10, 5, 4, 2, 1, 1)), 1)
    assert runs is not None and [runs.offsets(v) for v in runs.variants] == [(0,), (0,), (0,)]  # three bytes at the border


@pytest.mark.parametrize("target", ["cortex-a76", "x86-64-v4-bf16"])
def test_a_single_channel_is_innermost_in_any_layout(target):
    channels_last, arrays = case(target, DType.I8, 83, 1, 17, (13, 10), (5, 4), (2, 2), (2, 1, 2, 1))
    request = kernels.request_for(channels_last.op, arrays, target, outputs=channels_last.outputs, constants=[1, 2])
    assert is_grouped(request)
    kernels.check(request, arrays, units=0.0)
