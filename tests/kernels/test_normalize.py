"""Normalisation kernels against the operators' references."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.types import DType, TensorType
from edgecc.kernels.kernel import FromInput
from edgecc.kernels.registry import lower
from edgecc.ops.reduction import BatchNorm, Normalize
from tests.support import kernels

F32, F16, F64 = DType.F32, DType.F16, DType.F64


@st.composite
def normalizations(draw):
    dims = draw(kernels.shapes(1, 4, most_elements=400))
    first = draw(st.integers(0, len(dims) - 1))
    op = Normalize(tuple(range(first, len(dims))), draw(st.sampled_from((1e-5, 0.1))), draw(st.booleans()))
    dtype = draw(st.sampled_from((F32, F32, F32, F16, F64)))
    seed = draw(st.integers(0, 99))
    x = (kernels.numbers(seed, dims, F64) + draw(st.sampled_from((0.0, 10.0)))).astype(dtype.numpy)
    arrays = [x]
    views = [draw(kernels.views(TensorType.of(x)))]
    for count in range(draw(st.integers(0, 2))):
        own = tuple(1 if draw(st.integers(0, 3)) == 0 else d for d in dims)[draw(st.integers(0, len(dims))):]
        absent = count == 0 and draw(st.integers(0, 5)) == 0
        arrays.append(None if absent else kernels.numbers(seed + count + 1, own, dtype))
        views.append(None if absent else draw(kernels.views(TensorType(dtype, own))))
    output = views[0] if draw(st.booleans()) else draw(kernels.views(TensorType.of(x)))
    constants = [i for i in range(1, len(arrays)) if draw(st.booleans())]
    return kernels.request_for(op, arrays, draw(st.sampled_from(kernels.TARGETS)), inputs=views, outputs=[output],
                               constants=constants, threads=draw(st.sampled_from((1, 4)))), arrays


@settings(max_examples=150)
@given(normalizations())
def test_normalize_agrees_with_the_reference(case):
    request, arrays = case
    kernels.check(request, arrays, units=16.0)
    if lower(request).in_place:
        kernels.check(request, arrays, units=16.0, in_place=(0, 0))


def test_instance_norm_in_channels_last_fills_vectors_with_channels():
    x = kernels.numbers(0, (1, 24, 5, 5))
    scale, bias = kernels.numbers(1, (24, 1, 1)), kernels.numbers(2, (24, 1, 1))
    request = kernels.request_for(Normalize((2, 3)), [x, scale, bias], inputs=[kernels.laid_out(TensorType.of(x), (0, 2, 3, 1))])
    assert lower(request).choice == "vectors of 8 results"
    kernels.check(request, [x, scale, bias], units=16.0)


def test_scalar_parameters_become_code():
    arrays = [kernels.numbers(0, (3, 24)), np.asarray(1.5, np.float32), kernels.numbers(1, (1,))]
    request = kernels.request_for(Normalize((1,)), arrays, constants=[1, 2])
    assert lower(request).arguments[0] == FromInput(0)
    assert not {FromInput(1), FromInput(2)} & set(lower(request).arguments)
    kernels.check(request, arrays, units=16.0)


@st.composite
def batch_norms(draw):
    dims = draw(kernels.shapes(2, 4, most_elements=400))
    dtype = draw(st.sampled_from((F32, F32, F16)))
    seed = draw(st.integers(0, 99))
    x = kernels.numbers(seed, dims, dtype)
    parameters = [kernels.numbers(seed + i, (dims[1],), dtype) for i in range(1, 5)]
    parameters[3] = np.abs(parameters[3])
    views = [draw(kernels.views(TensorType.of(x)))]
    output = views[0] if draw(st.booleans()) else draw(kernels.views(TensorType.of(x)))
    return kernels.request_for(BatchNorm(0.01), [x, *parameters], draw(st.sampled_from(kernels.TARGETS)), inputs=views,
                               outputs=[output]), [x, *parameters]


@settings(max_examples=80)
@given(batch_norms())
def test_batch_norm_agrees_with_the_reference(case):
    request, arrays = case
    kernels.check(request, arrays, units=8.0)
    if lower(request).in_place:
        kernels.check(request, arrays, units=8.0, in_place=(0, 0))


@pytest.mark.parametrize("machine", kernels.TARGETS)
def test_compiled_code_agrees(machine):
    x, scale, bias = kernels.numbers(0, (2, 6, 43)), kernels.numbers(1, (43,)), kernels.numbers(2, (43,))
    for rms in (False, True):
        kernels.check(kernels.request_for(Normalize((2,), rms=rms), [x, scale, bias], machine), [x, scale, bias], units=8.0,
                      machine=machine)
    last = kernels.laid_out(TensorType.of(x), (0, 2, 1))
    kernels.check(kernels.request_for(Normalize((2,)), [x, scale], machine, inputs=[last]), [x, scale], units=8.0,
                  machine=machine)
    parameters = [np.abs(kernels.numbers(i, (6,))) for i in range(4)]
    kernels.check(kernels.request_for(BatchNorm(), [x, *parameters], machine), [x, *parameters], machine=machine)
