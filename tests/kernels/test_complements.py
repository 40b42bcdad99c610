"""Sums of two products of bytes stay within 16 bits when bytes are complemented, and all sums stay what they were."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from edgecc.ir.types import DType, TensorType
from edgecc.kernels.complements import PRODUCT, complemented, masks, second_factors, sums
from edgecc.kernels.registry import lower
from edgecc.loop.dot import DOTS
from edgecc.loop.ir import Op, expressions, subexpressions, walk
from edgecc.lowering.cycles import kernel_cycles
from edgecc.ops.convolution import Conv
from tests.support import kernels

EXTREME = st.sampled_from([-127, -126, -65, -64, -1, 0, 1, 63, 64, 65, 126, 127])


@given(arrays_of.arrays(np.int8, (3, 8), elements=st.one_of(EXTREME, st.integers(-127, 127))),
       arrays_of.arrays(np.uint8, (8,), elements=st.one_of(st.sampled_from([0, 255]), st.integers(0, 255))), st.sampled_from([0, 128, -128, 3, 255]), st.booleans())
def test_no_sum_of_two_products_leaves_16_bits_and_no_sum_changes(weights, x, zero, flip):
    as_they_are = lambda array: array  # noqa: E731
    read = (x ^ np.uint8(0x80 if flip else 0)).astype(np.uint8)
    factors = (read ^ masks(as_they_are, flip, weights)).astype(np.int64)
    products = factors * second_factors(as_they_are, weights)
    assert abs(products.reshape(3, 4, 2).sum(axis=-1)).max() < 2**15
    too_much = sums(lambda terms: terms.sum(axis=-1), 1, zero, weights)
    np.testing.assert_array_equal(products.sum(axis=-1) - too_much, ((x.astype(np.int64) - zero) * weights).sum(axis=-1))


def test_bytes_are_complemented_only_where_a_sum_might_not_fit():
    weights = np.array([[127, 127, 64, 64, 64, 65, -64, -64, -64, -65, 127, -127, 127, 1, 127, 2]], np.int8)
    np.testing.assert_array_equal(complemented(weights).reshape(-1, 2), [
        [False, True], [False, False], [False, True], [False, False], [False, True], [False, False], [False, False], [False, True]])


def case(draw):
    """A convolution of bytes, channels-last, whose weights and inputs are as large as they may be, here and there."""
    dtype = draw(st.sampled_from([DType.U8, DType.I8]))
    low, high = dtype.limits
    kernel, stride, group = draw(st.sampled_from([(1, 1, 1), (1, 2, 1), (3, 1, 1), (3, 2, 1), (3, 1, 2)]))
    channels, out = draw(st.sampled_from([4, 12, 16])) * group, draw(st.sampled_from([1, 8, 19])) * group
    random = np.random.default_rng(draw(st.integers(0, 99)))
    x = random.integers(low, high + 1, (draw(st.integers(1, 2)), channels, 9, 11)).astype(dtype.numpy)
    w = random.integers(-127, 128, (out, channels // group, kernel, kernel)).astype(np.int8)
    share = draw(st.sampled_from([0.0, 0.5, 1.0]))
    w[random.random(w.shape) < share] = draw(st.sampled_from([-127, 127]))
    x[random.random(x.shape) < share] = draw(st.sampled_from([low, high]))
    bias = random.integers(-2**20, 2**20, out).astype(np.int32) if draw(st.booleans()) else None
    op = Conv((stride, stride), (kernel // 2,) * 4, (1, 1), group, None, draw(st.sampled_from([None, low, high, 3])))
    return op, [x, w, bias]


def request_of(op, arrays, target="x86-64-v3"):
    (result,) = op.infer([None if a is None else TensorType.of(a) for a in arrays])
    order = (0, 2, 3, 1)
    return kernels.request_for(op, arrays, target, inputs=[kernels.laid_out(TensorType.of(arrays[0]), order)],
                               outputs=[kernels.laid_out(result, order)], constants=[1, *([] if arrays[2] is None else [2])])


def products_of(request, choice=None):
    return {e.op for s in walk(lower(request, choice).function.body) for top in expressions(s) for e in subexpressions(top)
            if isinstance(e, Op) and e.op in DOTS}


@given(st.composite(case)())
@settings(max_examples=8)
def test_convolutions_of_extreme_bytes(drawn):
    request = request_of(*drawn)
    assert products_of(request, "direct") == {PRODUCT}
    for candidate in ("direct", None):  # the cheapest may be Winograd's algorithm in words
        kernels.check(request, drawn[1], choice=candidate)


@pytest.mark.parametrize(("zero", "kernel"), [(7, 1), (None, 3)])
def test_the_instruction_gives_the_same_numbers(zero, kernel):
    x = np.full((1, 8, 5, 9), 255, np.uint8)
    x[:, ::3] = 0
    w = np.full((19, 8, kernel, kernel), 127, np.int8)
    w[::2, 1::4] = -127
    drawn = Conv((1, 1), (kernel // 2,) * 4, (1, 1), 1, None, zero), [x, w, None]
    kernels.check(request_of(*drawn), drawn[1], machine="x86-64-v3")


def test_layers_that_words_multiply():
    x, w = np.zeros((1, 8, 5, 5), np.uint8), np.zeros((8, 8, 1, 1), np.int8)
    op = Conv((1, 1), (0,) * 4, (1, 1), 1, None, None)
    assert products_of(request_of(op, [x, w, None])) == {PRODUCT}
    assert products_of(request_of(op, [x, w, None], "x86-64-v4")) == {"dot_u8s8"}
    assert products_of(request_of(op, [x[:, :, :3], w, None])) == {"dot_u8s8"}  # few rows would read masks for little
    w[3, 3] = -128
    assert products_of(request_of(op, [x, w, None])) == {"dot_u8s8"}


def test_masks_are_modelled_to_cost_clearly_less_than_floats():
    x, w = np.zeros((1, 128, 14, 14), np.uint8), np.ones((128, 128, 1, 1), np.int8)
    op = Conv((1, 1), (0,) * 4, (1, 1), 1, None, None)
    in_pairs, in_float = (kernel_cycles(lower(request_of(op, [x.astype(one), w.astype(other), None]))) for one, other in ((np.uint8, np.int8), (np.float32, np.float32)))
    assert 1.25 * in_pairs < in_float, (in_pairs, in_float)
