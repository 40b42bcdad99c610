"""Convolution kernels against the operator's reference, executed by the interpreter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.scalar import Arg, apply, literal
from edgecc.ir.types import DType, Layout
from edgecc.kernels.registry import lower
from edgecc.loop.ir import For
from edgecc.ops.convolution import Conv, ConvTranspose, Pool
from edgecc.passes.loop import apply_schedule
from tests.support.kernel_check import Given, any_strides, check_kernel, request_for

TARGETS = ("cortex-a76", "cortex-a55", "x86-64-v4", "x86-64-v3", "generic-c")


def array(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def relu6():
    x = Arg(0, DType.F32)
    return apply("min", apply("max", x, literal(0.0, DType.F32)), literal(6.0, DType.F32))


def add_residual():
    return apply("max", apply("add", Arg(0, DType.F32), Arg(1, DType.F32)), literal(0.0, DType.F32))


@st.composite
def convolutions(draw):
    rank = draw(st.sampled_from([1, 2, 2, 2, 3]))
    kind = draw(st.sampled_from(["dense", "pointwise", "depthwise", "grouped"]))
    group = 1 if kind in ("dense", "pointwise") else draw(st.sampled_from([2, 3, 5, 8, 17]))
    if kind == "depthwise":
        inputs = outputs = group
    else:
        inputs, outputs = group * draw(st.integers(1, 9)), group * draw(st.sampled_from([1, 2, 3, 5, 13, 17, 24]))
    kernel = tuple(1 if kind == "pointwise" else draw(st.integers(1, 4)) for _ in range(rank))
    strides = tuple(1 if kind == "pointwise" else draw(st.integers(1, 3)) for _ in range(rank))
    dilations = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    pads = tuple(0 if kind == "pointwise" else draw(st.integers(0, 3)) for _ in range(2 * rank))
    sizes = tuple(max(draw(st.integers(1, 9)), (kernel[i] - 1) * dilations[i] + 1 - pads[i] - pads[rank + i]) for i in range(rank))
    batch = draw(st.integers(1, 2))
    seed = draw(st.integers(0, 1000))
    layout_x = Layout.channels_last(rank + 2) if draw(st.booleans()) else None
    layout_y = Layout.channels_last(rank + 2) if draw(st.booleans()) else None
    bias = draw(st.booleans())
    epilogue = draw(st.sampled_from([None, "relu6", "residual"]))
    return (batch, inputs, outputs, group, kernel, strides, dilations, pads, sizes, seed, layout_x, layout_y, bias, epilogue,
            draw(st.sampled_from(TARGETS)), draw(st.booleans()))


def run_case(case, runner=None):
    batch, inputs, outputs, group, kernel, strides, dilations, pads, sizes, seed, layout_x, layout_y, bias, epilogue, target, constant = case
    expr = {None: None, "relu6": relu6(), "residual": add_residual()}[epilogue]
    op = Conv(strides, pads, dilations, group, expr)
    values = array(seed, batch, inputs, *sizes)
    x = Given(values, layout=layout_x, strides=any_strides(values.shape, seed) if seed % 3 == 0 else None)
    w = Given(array(seed + 1, outputs, inputs // group, *kernel), constant=constant)
    b = Given(array(seed + 2, outputs), constant=constant) if bias or epilogue == "residual" else None
    operands = [x, w] + ([b] if b is not None else [])
    if epilogue == "residual":
        shape = Conv(strides, pads, dilations, group).reference([x.array, w.array])[0].shape
        operands.append(Given(array(seed + 3, *shape), layout=layout_y))
    kwargs = {} if runner is None else {"runner": runner}
    check_kernel(op, operands, target, [layout_y], **kwargs)


@settings(max_examples=120)
@given(convolutions())
def test_convolution_agrees_with_the_reference(case):
    run_case(case)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("width", [7, 13, 17, 49])
def test_rows_and_channels_that_no_tile_divides(target, width):
    op = Conv((1, 1), (1, 1, 1, 1), (1, 1), 1, relu6())
    check_kernel(op, [Given(array(0, 1, 5, 3, width), layout=Layout.channels_last(4)), Given(array(1, 37, 5, 3, 3), True),
                      Given(array(2, 37), True)], target, [Layout.channels_last(4)])


def test_a_long_window_with_wide_padding_stays_small():
    op = Conv((1,), (40, 40), (1,), 1)
    check_kernel(op, [Given(array(0, 1, 3, 50)), Given(array(1, 4, 3, 81), True)], "cortex-a76", [None], units=32)


@pytest.mark.parametrize("size, depth, divided", [(32, 3, "share_of_thread"), (14, 40, "panel")])
def test_threads_divide_rows_unless_weights_are_larger_than_results(size, depth, divided):
    """What they have written they read in the next layer then; all of them read all weights."""
    op, layout = Conv((1, 1), (2, 2, 2, 2), (1, 1), 1), Layout.channels_last(4)
    given = [Given(array(0, 1, depth, size, size), layout=layout), Given(array(1, 48, depth, 5, 5), True)]
    kernel = lower(request_for(op, given, "x86-64-v3", [layout], threads=2))
    (loop,) = apply_schedule(kernel.function, kernel.schedule).body
    assert isinstance(loop, For) and (loop.kind, loop.var) == ("parallel", divided)


@st.composite
def pools(draw):
    rank = draw(st.sampled_from([1, 2, 2, 3]))
    kernel = tuple(draw(st.integers(1, 4)) for _ in range(rank))
    pads = tuple(draw(st.integers(0, k - 1)) for k in kernel) + tuple(draw(st.integers(0, k - 1)) for k in kernel)
    dilations = tuple(draw(st.integers(1, 2)) for _ in range(rank))
    sizes = tuple(max(draw(st.integers(2, 9)), (kernel[i] - 1) * dilations[i] + 1) for i in range(rank))
    strides = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    op = Pool(draw(st.sampled_from(["max", "average"])), kernel, strides, pads, dilations, draw(st.booleans()), draw(st.booleans()))
    layout = Layout.channels_last(rank + 2) if draw(st.booleans()) else None
    return op, (draw(st.integers(1, 2)), draw(st.sampled_from([1, 3, 16, 37])), *sizes), layout, draw(st.sampled_from(TARGETS)), draw(st.integers(0, 99))


@settings(max_examples=80)
@given(pools())
def test_pool_agrees_with_the_reference(case):
    op, shape, layout, target, seed = case
    check_kernel(op, [Given(array(seed, *shape), layout=layout)], target, [layout])


def test_threads_divide_the_rows_of_large_pools():
    op, layout = Pool("max", (3, 3), (2, 2), (1, 1, 1, 1), (1, 1)), Layout.channels_last(4)
    for channels, loops in ((1, "serial"), (4, "parallel")):
        given = [Given(array(0, 1, channels, 87, 85), layout=layout)]
        kernel = lower(request_for(op, given, "generic-c", [layout], threads=3))
        assert {stmt.kind for stmt in apply_schedule(kernel.function, kernel.schedule).body if isinstance(stmt, For)} == {loops}
        check_kernel(op, given, "generic-c", [layout], threads=3)


@st.composite
def transposed(draw):
    rank = draw(st.sampled_from([1, 2, 2]))
    group = draw(st.sampled_from([1, 1, 2, 3]))
    inputs, outputs = draw(st.integers(1, 5)), draw(st.sampled_from([1, 3, 17]))
    kernel = tuple(draw(st.integers(1, 5)) for _ in range(rank))
    strides = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    dilations = tuple(draw(st.integers(1, 2)) for _ in range(rank))
    sizes = tuple(draw(st.integers(1, 5)) for _ in range(rank))
    room = [strides[i] * (sizes[i] - 1) + (kernel[i] - 1) * dilations[i] for i in range(rank)]
    pads = tuple(draw(st.integers(0, min(2, r // 2))) for r in room + room)
    padding = tuple(draw(st.integers(0, s - 1)) for s in strides)
    op = ConvTranspose(strides, pads, dilations, group, padding, draw(st.sampled_from([None, relu6()])))
    layouts = [Layout.channels_last(rank + 2) if draw(st.booleans()) else None for _ in range(2)]
    return (op, array(draw(st.integers(0, 99)), draw(st.integers(1, 2)), inputs * group, *sizes),
            array(7, inputs * group, outputs, *kernel), array(8, outputs * group), layouts, draw(st.sampled_from(TARGETS)))


@settings(max_examples=100)
@given(transposed())
def test_transposed_convolution_agrees_with_the_reference(case):
    op, x, w, b, layouts, target = case
    check_kernel(op, [Given(x, layout=layouts[0]), Given(w, True), Given(b, True)], target, [layouts[1]])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_types_are_summed_in_a_type_that_holds_the_sums(target, dtype):
    def values(seed, *shape):
        return (array(seed, *shape) * 3).astype(dtype)

    last = Layout.channels_last(4)
    check_kernel(Conv((1, 1), (1, 1, 1, 1), (1, 1), 1), [Given(values(0, 1, 5, 4, 6), layout=last), Given(values(1, 19, 5, 3, 3), True),
                                                         Given(values(2, 19), True)], target, [last])
    check_kernel(Conv((1, 1), (0, 0, 0, 0), (1, 1), 1), [Given(values(0, 1, 5, 4, 6), layout=last), Given(values(1, 19, 5, 1, 1), True)],
                 target, [last])
    check_kernel(Conv((1, 1), (1, 1, 1, 1), (1, 1), 5), [Given(values(0, 1, 5, 4, 6), layout=last), Given(values(1, 5, 1, 3, 3), True)],
                 target, [last])
