"""Running sums and selections against the operators' references."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.types import DType, TensorType
from edgecc.kernels.registry import lower
from edgecc.loop.ir import Store, walk
from edgecc.ops.reduction import CumProd, CumSum, TopK
from tests.support import kernels

F32, F16, I32, I64, U8 = DType.F32, DType.F16, DType.I32, DType.I64, DType.U8


def request_of(draw, op, x):
    x_type = TensorType.of(x)
    views = [draw(kernels.views(x_type))]
    outputs = [draw(kernels.views(t)) for t in op.infer([x_type])]
    if outputs[0].dims == views[0].dims and draw(st.booleans()):
        outputs[0] = views[0]
    return kernels.request_for(op, [x], draw(st.sampled_from(kernels.TARGETS)), inputs=views, outputs=outputs,
                               threads=draw(st.sampled_from((1, 4)))), [x]


@st.composite
def sums(draw):
    dims = draw(kernels.shapes(1, 4, most_elements=400))
    op = draw(st.sampled_from((CumSum, CumSum, CumProd)))(draw(st.integers(0, len(dims) - 1)), draw(st.booleans()), draw(st.booleans()))
    dtype = draw(st.sampled_from((F32, F32, F16, I32, I64, U8, DType.F64)))
    return request_of(draw, op, kernels.numbers(draw(st.integers(0, 99)), dims, dtype))


@settings(max_examples=120)
@given(sums())
def test_cum_sum_agrees_with_the_reference(case):
    request, arrays = case
    units = 16.0 if arrays[0].dtype == np.float64 else 1.0  # summed in f64, so other floats are rounded once
    kernels.check(request, arrays, units=units)
    if lower(request).in_place:
        kernels.check(request, arrays, units=units, in_place=(0, 0))


@pytest.mark.parametrize("axis", [0, 1])
def test_long_sums_are_rounded_once(axis):
    x = np.abs(kernels.numbers(0, (2, 20_000)[:: 1 if axis else -1]))
    kernels.check(kernels.request_for(CumSum(axis), [x]), [x], units=1.0)


def test_sums_of_neighbours_are_in_vectors():
    x = kernels.numbers(0, (12, 64))
    request = kernels.request_for(CumSum(0), [x])
    assert {s.value.lanes for s in walk(lower(request).function.body) if isinstance(s, Store)} == {4}
    kernels.check(request, [x], units=1.0)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_empty_sums(shape):
    x = kernels.numbers(0, shape)
    kernels.check(kernels.request_for(CumSum(1), [x]), [x])


@st.composite
def selections(draw):
    dims = draw(kernels.shapes(1, 3, most_elements=200))
    axis = draw(st.integers(0, len(dims) - 1))
    op = TopK(draw(st.integers(0, dims[axis])), axis, draw(st.booleans()))
    dtype = draw(st.sampled_from((F32, F32, F16, I32, I64, U8)))
    x = np.round(kernels.numbers(draw(st.integers(0, 99)), dims, DType.F64, 3.0))  # many ties
    if dtype.is_float:
        x[kernels.numbers(1, dims) > 1.3] = np.nan
        x[kernels.numbers(2, dims) > 1.6] = -np.inf
    return request_of(draw, op, (np.abs(x) if dtype is U8 else x).astype(dtype.numpy))


@settings(max_examples=120)
@given(selections())
def test_top_k_agrees_with_the_reference(case):
    kernels.check(*case, units=0.0)


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("k", [17, 64, 100, 131])
def test_many_are_sorted_from_a_heap(k, largest):
    x = np.round(kernels.numbers(3, (2, 131), scale=20.0))
    x[1, ::9] = np.nan
    request = kernels.request_for(TopK(k, 1, largest), [x])
    assert lower(request).choice == "heap"
    kernels.check(request, [x], units=0.0)


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("order", ["ascending", "descending", "equal"])
def test_sorted_and_equal_elements(largest, order):
    x = {"ascending": np.arange(100), "descending": np.arange(100)[::-1].copy(), "equal": np.zeros(100)}[order].astype(np.float32)
    for k in (1, 2, 3, 7, 16, 17, 31, 32, 64, 100):
        kernels.check(kernels.request_for(TopK(k, 0, largest), [x]), [x], units=0.0)


@pytest.mark.parametrize("dtype", [F32, F16, DType.F64])
@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("k", [5, 40])
def test_special_floats_are_ordered_as_in_the_reference(dtype, largest, k):
    x = np.random.default_rng(0).choice(np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0], dtype.numpy), 60)
    kernels.check(kernels.request_for(TopK(k, 0, largest), [x]), [x], units=0.0)


@pytest.mark.parametrize("machine", kernels.TARGETS)
def test_compiled_code_agrees(machine):
    x = kernels.numbers(0, (3, 90, 18))
    x[:, 4] = x[:, 40]
    for op in (CumSum(1, exclusive=True), CumSum(2, reverse=True), CumProd(0, reverse=True), TopK(7, 1), TopK(30, 1, largest=False)):
        kernels.check(kernels.request_for(op, [x], machine), [x], units=16.0, machine=machine)
