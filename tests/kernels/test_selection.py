"""Results as long as the data says, against the operators' references: on any data, wild numbers included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.types import DType, TensorType
from edgecc.ops.selection import NonMaxSuppression, NonZero, Unique
from tests.support import kernels

F32, F16, BF16, F64, I64, I32, U8, BOOL = (DType.F32, DType.F16, DType.BF16, DType.F64, DType.I64, DType.I32, DType.U8, DType.BOOL)


def request_of(draw, op, arrays):
    types = [None if a is None else TensorType.of(a) for a in arrays]
    return kernels.request_for(op, arrays, draw(st.sampled_from(kernels.TARGETS)), inputs=[None if t is None else draw(kernels.views(t)) for t in types],
                               outputs=[draw(kernels.views(t)) for t in op.infer(types)])


def few_numbers(seed, dims, dtype):
    """Small whole numbers, so that many are equal; floats also -0, infinities and NaN."""
    random = np.random.default_rng(seed)
    x = random.integers(0, 3, dims).astype(dtype.numpy)
    if dtype.is_float and x.size:
        special = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, -1.0], dtype.numpy)
        x = np.where(random.random(dims) < 0.3, special[random.integers(0, 6, dims)], x)
    return x


@st.composite
def searches(draw):
    x = few_numbers(draw(st.integers(0, 99)), draw(kernels.shapes(0, 3, most_elements=80)), draw(st.sampled_from((F32, F16, I64, U8, BOOL))))
    return request_of(draw, NonZero(), [x]), [x]


@settings(max_examples=60)
@given(searches())
def test_positions_of_what_is_not_zero(case):
    kernels.check(*case, units=0.0)


@st.composite
def different(draw):
    dims = draw(kernels.shapes(1, 3, most_elements=60))
    op = Unique(draw(st.integers(0, len(dims) - 1)), draw(st.booleans()))
    x = few_numbers(draw(st.integers(0, 99)), dims, draw(st.sampled_from((F32, F32, F16, BF16, F64, I32, U8, BOOL))))
    return request_of(draw, op, [x]), [x]


@settings(max_examples=100)
@given(different())
def test_different_slices_agree_with_the_reference(case):
    kernels.check(*case, units=0.0)


def test_slices_are_put_together_again():
    x = few_numbers(3, (40, 2), F32)
    y, first, inverse, counts, count = Unique(0).reference([x])
    np.testing.assert_array_equal(y[inverse], x)
    np.testing.assert_array_equal(x[first[:count]], y[:count])
    assert counts.sum() == 40 and not counts[count:].any()


@pytest.mark.parametrize("shape", [(0,), (1,), (2, 0, 3), (3, 0)])
def test_empty_tensors(shape):
    x = np.zeros(shape, np.float32)
    for op in (Unique(0), NonZero()):
        kernels.check(kernels.request_for(op, [x]), [x], units=0.0)


@st.composite
def suppressions(draw):
    random = np.random.default_rng(draw(st.integers(0, 999)))
    images, classes, total = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(0, 12))
    dtype = draw(st.sampled_from((F32, F32, F16, F64)))
    boxes = random.integers(0, 8, (images, total, 4)) / 2  # exact areas
    scores = random.integers(0, 5, (images, classes, total)) / 4
    if draw(st.booleans()):
        boxes[random.random(boxes.shape) < 0.1] = draw(st.sampled_from((np.nan, np.inf, -np.inf)))
        scores[random.random(scores.shape) < 0.2] = draw(st.sampled_from((np.nan, np.inf, -np.inf)))
    op = NonMaxSuppression(draw(st.integers(0, total)), draw(st.booleans()))
    arrays = [boxes.astype(dtype.numpy), scores.astype(dtype.numpy), np.asarray(draw(st.sampled_from((-1, 0, 2, 5, 2**62)))),
              np.asarray(draw(st.sampled_from((0.0, 0.25, 0.5, 1.0)))).astype(dtype.numpy)]
    if draw(st.booleans()):
        arrays.append(np.asarray(draw(st.sampled_from((-1.0, 0.25, np.nan)))).astype(dtype.numpy))
    return request_of(draw, op, arrays), arrays


@settings(max_examples=100)
@given(suppressions())
def test_boxes_that_are_kept_agree_with_the_reference(case):
    kernels.check(*case, units=0.0)


@pytest.mark.parametrize("machine", kernels.TARGETS)
def test_compiled_code_agrees(machine):
    random, x = np.random.default_rng(1), few_numbers(0, (37, 3), F32)
    boxes, scores = random.random((2, 40, 4)).astype(np.float32), random.random((2, 3, 40)).astype(np.float32)
    for op, given_arrays in ((NonZero(), [x]), (Unique(0), [x]), (Unique(0, sorted=False), [np.round(5 * scores).reshape(-1)]),
                       (NonMaxSuppression(7), [boxes, scores, np.asarray(6), np.float32(0.3), np.float32(0.2)])):
        arrays = [np.asarray(a) for a in given_arrays]
        kernels.check(kernels.request_for(op, arrays, machine), arrays, units=0.0, machine=machine)
