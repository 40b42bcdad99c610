"""Depthwise convolutions of 8-bit integers by pairs of words: any window, border, zero point and sign; whole maps and stripes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.scalar import Arg
from edgecc.ir.types import DType, TensorType
from edgecc.kernels import depthwise_pairs
from edgecc.kernels.depthwise_block import Window
from edgecc.kernels.depthwise_pairs import arrange, products_of
from edgecc.kernels.registry import candidates, lower
from edgecc.kernels.spatial import Axis
from edgecc.loop.ir import For, walk
from edgecc.ops.convolution import Conv
from edgecc.ops.requantize import requantized
from tests.kernels.test_depthwise_grouped import case
from tests.support import kernels

PAIRED, TARGET = "depthwise paired", "x86-64-v3"


@st.composite
def cases(draw):
    kernel = (draw(st.integers(1, 7)), draw(st.integers(1, 5)))
    strides = (draw(st.integers(1, 3)), draw(st.integers(1, min(3, kernel[1]))))
    pads = tuple(draw(st.integers(0, k // 2)) for k in (*kernel, *kernel))
    size = tuple(draw(st.integers(k, 13)) for k in kernel)
    return (draw(st.sampled_from([DType.I8, DType.U8])), draw(st.sampled_from([-128, -3, 0, 128, 255])), draw(st.sampled_from([3, 8, 17, 24, 40])),
            size, kernel, strides, pads), draw(st.sampled_from([depthwise_pairs.CACHED, 0.01]))


@given(cases())
@settings(max_examples=25)
def test_windows(drawn):
    """Whole rows, and rows in tiles as if the first cache were small."""
    given_case, cached = drawn
    request, arrays = case(TARGET, *given_case)
    if PAIRED in {c.name for c in candidates(request)}:  # no window lies in the padding alone
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(depthwise_pairs, "CACHED", cached)
            kernels.check(request, arrays, choice=PAIRED)


@pytest.mark.parametrize("stride", [1, 2])
def test_rows_that_leave_the_cache_come_in_tiles(stride):
    """Two tiles at the borders, and a loop over those between them."""
    request, arrays = case(TARGET, DType.U8, 9, 432, (4, 60), (3, 3), (1, stride), (1, 1, 1, 1))
    assert {"tile", "turn"} <= {s.var for s in walk(lower(request, PAIRED).function.body) if isinstance(s, For)}
    kernels.check(request, arrays, machine=TARGET, choice=PAIRED)
    request, _ = case(TARGET, DType.U8, 9, 96, (4, 60), (3, 3), (1, stride), (1, 1, 1, 1))
    assert "tile" not in {s.var for s in walk(lower(request, PAIRED).function.body) if isinstance(s, For)}


def extreme(dtype, zero, channels, kernel, stride, size=(11, 13)):
    """The largest bytes and weights there are, of all signs, -128 among them."""
    random = np.random.default_rng(kernel)
    request, (x, w, *others) = case(TARGET, dtype, zero, channels, size, (kernel, kernel), (stride, stride), (kernel // 2,) * 4)
    x[:] = random.choice(list(map(int, dtype.limits)), x.shape)
    w[:] = random.choice([-128, 127], w.shape)
    arrays = [x, w, *others]
    return kernels.request_for(request.op, arrays, TARGET, inputs=[kernels.laid_out(TensorType.of(x), (0, 2, 3, 1))],
                               outputs=request.outputs, constants=[1, 2, 3, 4]), arrays


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (4, 2)])
def test_as_c(kernel, stride):
    for dtype, zero, channels in ((DType.U8, 255, 24), *(((DType.I8, -128, 19), (DType.U8, 0, 32)) if kernel == 3 else ())):
        request, arrays = extreme(dtype, zero, channels, kernel, stride, (11, 13) if kernel < 5 else (6, 8))
        kernels.check(request, arrays, machine=TARGET, choice=PAIRED)


def test_every_tap_is_in_one_pair():
    for tall, wide, stride in ((3, 3, 1), (3, 3, 2), (1, 1, 1), (5, 4, 2), (2, 5, 3)):
        window = Window(Axis(19, 9, tall, 1, 1, 0), Axis(19, 9, wide, stride, 1, 0))
        taps = [tap for product in products_of(window) for tap in product.taps if tap is not None]
        assert sorted(taps) == [(row, column) for row in range(tall) for column in range(wide)]
        assert len(products_of(window)) == wide * (tall // 2) + tall % 2 * -(-wide // 2)
        weights = np.arange(1, tall * wide + 1, dtype=np.int8).reshape(1, 1, tall, wide)
        assert arrange(window, weights).sum() == weights.sum()


@pytest.mark.parametrize(("stride", "joined"), [(1, {1, 2}), (2, {1, 3})])
def test_a_single_tap_is_one_of_a_pair_that_is_there_anyway(stride, joined):
    """The last row's columns are joined where they are for the other windows as well: at each column, or at every second one."""
    window = Window(Axis(19, 9, 3, 1, 1, 0), Axis(19, 9, 3, stride, 1, 0))
    assert {product.column for product in products_of(window) if not product.across} == joined


def test_sixteen_channels_at_a_time():
    request, _ = case(TARGET, DType.U8, 0, 40, (9, 12), (3, 3), (1, 1), (1, 1, 1, 1))
    kernel = lower(request, PAIRED)
    assert kernel.candidate == PAIRED
    assert any("lanes=16" in step for step in kernel.schedule)


def test_results_that_are_no_bytes_and_factors_of_pixels_have_other_ways():
    """Lanes in two registers leave as bytes alone, and meet numbers of channels alone."""
    request, arrays = case(TARGET, DType.U8, 0, 40, (9, 12), (3, 3), (1, 1), (1, 1, 1, 1))
    sums = Conv(request.op.strides, request.op.pads, (1, 1), 40, None, request.op.x_zero)
    added = replace(sums, epilogue=requantized(Arg(0, DType.I32), Arg(1, DType.F32), Arg(2, DType.U8), DType.U8))
    for op, others, ways in ((sums, [], 0), (added, arrays[3:], 1), (added, [np.full((1, 40, 9, 1), 0.25, np.float32), arrays[4]], 0)):
        every = [*arrays[:3], *others]
        (result,) = op.infer([TensorType.of(a) for a in every])
        views = [kernels.laid_out(TensorType.of(a), (0, 2, 3, 1)) if a.ndim == 4 else None for a in every]
        other = kernels.request_for(op, every, TARGET, inputs=views, outputs=[kernels.laid_out(result, (0, 2, 3, 1))],
                                    constants=[1, 2, *([3, 4] if others else [])])
        assert len([c for c in candidates(other) if c.name == PAIRED]) == ways
