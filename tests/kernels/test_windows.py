"""Positions of maxima, windows added up, and determinants against the operators' references."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.types import DType, TensorType
from edgecc.ops.convolution import Pool
from edgecc.ops.matrix import Determinant
from edgecc.ops.windows import Col2Im, MaxPosition
from tests.support import kernels

F32, F16, BF16, F64, I32, U8 = DType.F32, DType.F16, DType.BF16, DType.F64, DType.I32, DType.U8


def request_of(draw, op, arrays, threads=1):
    types = [TensorType.of(a) for a in arrays]
    (result,) = op.infer(types)
    return kernels.request_for(op, arrays, draw(st.sampled_from(kernels.TARGETS)), inputs=[draw(kernels.views(t)) for t in types],
                               outputs=[draw(kernels.views(result))], threads=threads)


def geometry(draw, rank, kernels_from=1):
    kernel = tuple(draw(st.integers(kernels_from, 3)) for _ in range(rank))
    pads = tuple(draw(st.integers(0, 2)) for _ in range(2 * rank))
    return kernel, tuple(draw(st.integers(1, 3)) for _ in range(rank)), pads, tuple(draw(st.integers(1, 2)) for _ in range(rank))


@st.composite
def positions(draw):
    rank = draw(st.integers(1, 3))
    kernel, strides, pads, dilations = geometry(draw, rank)
    sizes = [draw(st.integers(max(1, (k - 1) * d + 1 - pads[a] - pads[rank + a]), 7)) for a, (k, d) in enumerate(zip(kernel, dilations, strict=True))]
    x = np.round(kernels.numbers(draw(st.integers(0, 99)), (draw(st.integers(1, 2)), draw(st.integers(1, 3)), *sizes), F64, 3.0))  # ties
    dtype = draw(st.sampled_from((F32, F16, F64, I32, U8)))
    if dtype.is_float:
        x[kernels.numbers(1, x.shape) > 1.4] = np.nan
        x[kernels.numbers(2, x.shape) > 1.4] = -np.inf
    x = (np.abs(x) if dtype is U8 else x).astype(dtype.numpy)
    op = MaxPosition(kernel, strides, pads, dilations, draw(st.booleans()), draw(st.booleans()))
    return request_of(draw, op, [x], draw(st.sampled_from((1, 3)))), [x]


@settings(max_examples=100)
@given(positions())
def test_positions_of_maxima_agree_with_the_reference(case):
    kernels.check(*case, units=0.0)


@settings(max_examples=50)
@given(positions())
def test_there_is_the_maximum_that_a_pool_finds(case):
    request, (x,) = case
    op = request.op
    if op.column_major or np.isnan(x.astype(float)).any():
        return
    (found,), (largest,) = op.reference([x]), op.pool().reference([x])
    chosen = x.reshape(-1)[found]
    padding_alone = Pool("max", op.kernel, op.strides, op.pads, op.dilations, ceil_mode=op.ceil_mode).reference([np.ones(x.shape, np.float32)])[0] < 0
    np.testing.assert_array_equal(np.where(padding_alone, largest, chosen), largest)


@st.composite
def windows(draw):
    rank = draw(st.integers(1, 3))
    kernel, strides, pads, dilations = geometry(draw, rank)
    sizes = tuple(draw(st.integers(max(1, (k - 1) * d + 1 - pads[a] - pads[rank + a]), 11))
                  for a, (k, d) in enumerate(zip(kernel, dilations, strict=True)))
    op = Col2Im(sizes, kernel, strides, pads, dilations)
    dtype = draw(st.sampled_from((F32, F32, F16, BF16, F64)))
    dims = (draw(st.integers(1, 2)), draw(st.integers(1, 3)), int(np.prod(kernel)), int(np.prod(op.positions())))
    x = kernels.numbers(draw(st.integers(0, 99)), dims, dtype)
    return request_of(draw, op, [x]), [x]


@settings(max_examples=80)
@given(windows())
def test_col2im_agrees_with_the_reference(case):
    kernels.check(*case, units=8.0)


@st.composite
def matrices(draw):
    size, dtype = draw(st.sampled_from((0, 1, 2, 3, 4, 7))), draw(st.sampled_from((F32, F32, F16, F64)))
    x = kernels.numbers(draw(st.integers(0, 99)), (*draw(kernels.shapes(0, 2, most_elements=9)), size, size), dtype)
    if draw(st.booleans()):
        x = np.round(x)  # pivots of 0, singular matrices
    return request_of(draw, Determinant(), [x]), [x]


@settings(max_examples=80)
@given(matrices())
def test_determinants_agree_with_the_reference(case):
    kernels.check(*case, units=4.0)


@pytest.mark.parametrize("machine", kernels.TARGETS)
def test_compiled_code_agrees(machine):
    image, columns = kernels.numbers(0, (2, 5, 13, 10)), kernels.numbers(1, (1, 3, 9, 49))
    for op, x in ((MaxPosition((3, 2), (2, 1), (1, 0, 1, 1), (1, 2), column_major=True), image), (Determinant(), kernels.numbers(2, (5, 6, 6))),
                  (Col2Im((13, 13), (3, 3), (2, 2), (1,) * 4, (1, 1)), columns),
                  (Col2Im((7, 7), (3, 3), (1, 1), (1,) * 4, (1, 1)), columns.astype(np.float16))):
        kernels.check(kernels.request_for(op, [x], machine), [x], units=8.0, machine=machine)
