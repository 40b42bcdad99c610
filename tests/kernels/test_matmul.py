"""Matrix product kernels against the operator's reference, executed by the interpreter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.scalar import Arg, apply, literal
from edgecc.ir.types import DType, Layout
from edgecc.kernels.registry import candidates, lower
from edgecc.loop.ir import For
from edgecc.ops.convolution import Conv
from edgecc.ops.matrix import MatMul
from edgecc.passes.loop import apply_schedule
from tests.support.kernel_check import Given, any_strides, check_kernel, request_for, run_lowered

TARGETS = ("cortex-a76", "cortex-a55", "x86-64-v4", "x86-64-v3", "generic-c")
SIZES = (1, 2, 3, 5, 8, 13, 17, 33)


def array(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@st.composite
def products(draw):
    m, k, n = (draw(st.sampled_from(SIZES)) for _ in range(3))
    batch = draw(st.sampled_from([(), (1,), (2,), (2, 3)]))
    batch_a = tuple(draw(st.sampled_from([d, 1])) for d in batch) if draw(st.booleans()) else batch
    batch_b = tuple(draw(st.sampled_from([d, 1])) for d in batch) if draw(st.booleans()) else ()
    transpose_a, transpose_b = draw(st.booleans()), draw(st.booleans())
    if batch_b == () and batch_a != batch:
        batch_a = batch
    bias = draw(st.sampled_from([None, (n,), (m, n), (1, n), (m, 1)]))
    constant = draw(st.booleans())
    permuted = draw(st.booleans())
    return m, k, n, batch_a, batch_b, transpose_a, transpose_b, bias, constant, permuted, draw(st.booleans()), draw(st.sampled_from(TARGETS)), draw(st.integers(0, 99))


def run_case(case, runner=None):
    m, k, n, batch_a, batch_b, transpose_a, transpose_b, bias, constant, permuted, residual, target, seed = case
    a = array(seed, *batch_a, *((k, m) if transpose_a else (m, k)))
    b = array(seed + 1, *batch_b, *((n, k) if transpose_b else (k, n)))
    operands = [Given(a, strides=any_strides(a.shape, seed) if permuted else None),
                Given(b, constant, strides=any_strides(b.shape, seed + 1) if permuted else None)]
    expr = None
    if bias is not None:
        operands.append(Given(array(seed + 2, *bias), constant))
        if residual:
            shape = (*np.broadcast_shapes(batch_a, batch_b), m, n)
            operands.append(Given(array(seed + 3, *shape)))
            expr = apply("max", apply("add", Arg(0, DType.F32), Arg(1, DType.F32)), literal(0.0, DType.F32))
    kwargs = {} if runner is None else {"runner": runner}
    check_kernel(MatMul(transpose_a, transpose_b, expr), operands, target, None, **kwargs)


@settings(max_examples=150)
@given(products())
def test_matmul_agrees_with_the_reference(case):
    run_case(case)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int64])
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("transpose", [True, False])
def test_other_types_are_summed_in_a_type_that_holds_the_sums(target, dtype, constant, transpose):
    a, b = (array(0, 2, 9, 7) * 3).astype(dtype), (array(1, *((19, 7) if transpose else (7, 19))) * 3).astype(dtype)
    check_kernel(MatMul(False, transpose), [Given(a), Given(b, constant)], target, None)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("transpose", [True, False])
@pytest.mark.parametrize("rows", [1, 7])
def test_one_second_factor_serves_every_batch(target, transpose, rows):
    """Axes of extent 1 have strides too, which must not be followed."""
    b = array(1, 1, 1, *((19, 7) if transpose else (7, 19)))
    for constant in (True, False):
        check_kernel(MatMul(False, transpose), [Given(array(0, 2, 3, rows, 7)), Given(b, constant)], target, None)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("rows", [1, 5])
def test_rows_join_only_where_every_view_is_evenly_spaced(target, rows):
    """A repeated batch behind an axis of extent 1: the stride of that axis says nothing."""
    a = Given(np.repeat(array(0, 1, 1, rows, 4), 2, axis=0), strides=(0, 0, 4, 1))
    check_kernel(MatMul(False, False), [a, Given(array(1, 1, 1, 4, 3), True)], target, None)
    check_kernel(Conv((1, 1), (0, 0, 0, 0), (1, 1), 1), [Given(a.array.transpose(0, 3, 1, 2).copy(), strides=(0, 1, 0, 4)),
                                                         Given(array(1, 3, 4, 1, 1), True)], target, [Layout.channels_last(4)])


def agrees(op, operands, request, kernel):
    arrays = [g.array for g in operands]
    want, size = op.reference(arrays)[0], op.magnitude(arrays)[0]
    got = run_lowered(request, kernel, operands)[0]
    assert np.all(np.abs(got - want) <= 16 * 2.0**-24 * np.maximum(size, np.abs(want)) + 1e-30)


@settings(max_examples=25)
@given(st.sampled_from((5, 13, 17)), st.sampled_from((3, 16, 33)), st.sampled_from((13, 40, 100)), st.sampled_from([(), (3,), (2, 3)]),
       st.sampled_from(["constant", "in place", "transposed"]), st.sampled_from(TARGETS), st.sampled_from([1, 3]), st.integers(0, 9))
def test_every_candidate_computes_the_product(m, k, n, batch, form, machine, threads, seed):
    op = MatMul(False, form == "transposed")
    second = () if form == "constant" else batch
    operands = [Given(array(seed, *batch, m, k)), Given(array(seed + 1, *second, *((n, k) if form == "transposed" else (k, n))), form == "constant")]
    request = request_for(op, operands, machine, threads=threads)
    found = candidates(request)
    assert len({c.name for c in found}) == len(found) > 1
    assert [c.cycles for c in found] == sorted(c.cycles for c in found) and found[0].cycles > 0
    for candidate in (found[0], found[-1]):
        agrees(op, operands, request, candidate.build())


def test_threads_divide_the_products_of_attention_heads():
    operands = [Given(array(0, 2, 3, 20, 8)), Given(array(1, 2, 3, 24, 8))]
    request = request_for(MatMul(False, True), operands, "x86-64-v4", threads=2)
    kernel = candidates(request)[0].build()
    assert "packed at run time" in kernel.choice
    scheduled = apply_schedule(kernel.function, kernel.schedule)
    assert [(stmt.kind, stmt.extent) for stmt in scheduled.body if isinstance(stmt, For)] == [("parallel", 2)]
    alone = candidates(request_for(MatMul(False, True), operands, "x86-64-v4"))[0].build()
    assert kernel.function.buffer("p").elements == 6 * alone.function.buffer("p").elements
    agrees(MatMul(False, True), operands, request, kernel)


def test_products_too_small_to_divide_stay_on_one_thread():
    operands = [Given(array(0, 2, 5, 8)), Given(array(1, 2, 8, 9))]
    request = request_for(MatMul(False, False), operands, "x86-64-v4", threads=2)
    assert "parallelize" in " ".join(candidates(request)[0].build().schedule)
    assert "parallelize" not in " ".join(lower(request).schedule)
