"""Reductions against the operators' references, over kinds, axes, types, layouts and targets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.types import DType, TensorType
from edgecc.kernels.registry import lower
from edgecc.loop.ir import Declare, For, Horizontal, Load, expressions, subexpressions, walk
from edgecc.ops.reduction import REDUCE_KINDS, WIDE_SUMS, ArgReduce, Reduce
from tests.support import kernels

F32, F16, I32, I64, U8, BOOL = DType.F32, DType.F16, DType.I32, DType.I64, DType.U8, DType.BOOL


@st.composite
def reductions(draw):
    dims = draw(kernels.shapes(0, 4, most_elements=400))
    kind = draw(st.sampled_from(REDUCE_KINDS))
    dtype = draw(st.sampled_from(tuple(WIDE_SUMS) if kind == "wide_sum" else (F32, F32, F32, I32, I64, F16, U8, DType.I8)))
    axes = tuple(sorted(draw(st.sets(st.integers(0, len(dims) - 1))))) if dims else ()
    op = Reduce(kind, axes, draw(st.booleans()))
    scale = 1.0 if kind != "prod" else 0.5
    return request(draw, op, kernels.numbers(draw(st.integers(0, 99)), dims, dtype, scale))


def request(draw, op, x):
    x_type = TensorType.of(x)
    (result,) = op.infer([x_type])
    return kernels.request_for(op, [x], draw(st.sampled_from(kernels.TARGETS)), inputs=[draw(kernels.views(x_type))],
                               outputs=[draw(kernels.views(result))], threads=draw(st.sampled_from((1, 4)))), [x]


@settings(max_examples=150)
@given(reductions())
def test_reduce_agrees_with_the_reference(case):
    op = case[0].op
    if op.kind == "l2" and case[1][0].dtype.kind in "iu":  # squares wrap; the root of a negative sum means nothing
        case[1][0][...] = np.abs(case[1][0]) % 2
    kernels.check(*case, units=16.0)


@st.composite
def arg_reductions(draw):
    dims = draw(kernels.shapes(1, 4, most_elements=400))
    op = ArgReduce(draw(st.sampled_from(("max", "min"))), draw(st.integers(0, len(dims) - 1)), draw(st.booleans()),
                   draw(st.booleans()))
    dtype = draw(st.sampled_from((F32, F32, I32, I64, F16, U8)))
    x = np.round(kernels.numbers(draw(st.integers(0, 99)), dims, DType.F64, 2.0))  # many ties
    if dtype.is_float and draw(st.booleans()):
        x[kernels.numbers(1, dims) > 1.0] = np.nan
    return request(draw, op, (np.abs(x) if dtype is U8 else x).astype(dtype.numpy))


@settings(max_examples=100)
@given(arg_reductions())
def test_arg_reduce_agrees_with_the_reference(case):
    kernels.check(*case)


@pytest.mark.parametrize("kind", [kind for kind in REDUCE_KINDS if kind != "wide_sum"])
@pytest.mark.parametrize("dtype", [F32, I64])
def test_empty_axes(kind, dtype):
    x = kernels.numbers(0, (3, 0), dtype)
    kernels.check(kernels.request_for(Reduce(kind, (1,)), [x]), [x])


@pytest.mark.parametrize("kind", ["max", "min"])
def test_extrema_of_bools_and_of_nans(kind):
    x = kernels.numbers(0, (5, 3), BOOL)
    kernels.check(kernels.request_for(Reduce(kind, (0,)), [x]), [x])
    for shape, axis in (((20, 9), 0), ((9, 20), 1)):
        y = kernels.numbers(0, shape)
        y[3, 4] = np.nan
        kernels.check(kernels.request_for(Reduce(kind, (axis,)), [y]), [y])


def test_channels_last_average_keeps_vectors_of_channels_in_registers():
    x = kernels.numbers(0, (1, 80, 7, 7))
    request = kernels.request_for(Reduce("mean", (2, 3)), [x], inputs=[kernels.laid_out(TensorType.of(x), (0, 2, 3, 1))])
    function = lower(request).function
    loads = [e for s in walk(function.body) for r in expressions(s) for e in subexpressions(r) if isinstance(e, Load)]
    assert all(e.lanes == 8 and e.stride == 1 and not e.valid for e in loads)
    assert sum(isinstance(s, For) for s in walk(function.body)) <= 4  # blocks of channels, pixels; and the last block
    assert not any(isinstance(e, Horizontal) for s in walk(function.body) for r in expressions(s) for e in subexpressions(r))
    kernels.check(request, [x])


def test_contiguous_sums_have_several_accumulators():
    for rows in (1, 2):  # two rows side by side have two each
        x = kernels.numbers(0, (rows, 200))
        function = lower(kernels.request_for(Reduce("sum", (1,)), [x])).function
        assert sum(isinstance(s, Declare) for s in walk(function.body)) == 4


def test_long_sums_stay_accurate():
    x = np.abs(kernels.numbers(0, (1, 50_000)))
    kernels.check(kernels.request_for(Reduce("sum", (1,)), [x]), [x], units=8.0)


@pytest.mark.parametrize("machine", kernels.TARGETS)
def test_compiled_code_agrees(machine):
    x = kernels.numbers(0, (2, 21, 3, 10))
    last = kernels.laid_out(TensorType.of(x), (0, 2, 3, 1))
    for kind, axes in (("mean", (2, 3)), ("max", (1,)), ("l2", (3,)), ("min", (0, 1, 2, 3)), ("prod", (3,))):
        for views in ((), (last,)):
            kernels.check(kernels.request_for(Reduce(kind, axes), [x], machine, inputs=views), [x], units=10.0,
                          machine=machine)  # a product of ten elements is rounded nine times
    for axis in (1, 3):
        kernels.check(kernels.request_for(ArgReduce("max", axis), [x], machine, inputs=[last]), [x], machine=machine)
    whole = kernels.numbers(0, (4, 30), I32)
    kernels.check(kernels.request_for(Reduce("sum", (1,)), [whole], machine), [whole], machine=machine)


@pytest.mark.parametrize("dtype", WIDE_SUMS)
@pytest.mark.parametrize("machine", ["generic-c", "cortex-a76"])
def test_wide_sums_as_c(dtype, machine):
    """Compilers that turn sums side by side into vectors have mixed up the terms of those that widen."""
    least, most = dtype.limits
    x = np.random.default_rng(5).integers(least, most + 1, (3, 12, 7, 13)).astype(dtype.numpy)
    last = kernels.laid_out(TensorType.of(x), (0, 2, 3, 1))
    for axes in ((2, 3), (1,)):
        for views in ({"inputs": [last]}, {}):
            kernels.check(kernels.request_for(Reduce("wide_sum", axes), [x], machine, **views), [x], machine=machine)
