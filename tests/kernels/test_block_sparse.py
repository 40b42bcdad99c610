"""Products with blocks of zeros: against the reference, with all blocks, none, and rows without any."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.errors import EdgeccError
from edgecc.ir.types import DType, TensorType
from edgecc.kernels.registry import candidates, lower
from edgecc.ops.sparse import BLOCK, BlockSparseMatMul, dense_weights, stored_blocks
from tests.support import kernels
from tests.support.kernel_check import Given, check_kernel


def weights_of(depth, channels, density, seed):
    random = np.random.default_rng(seed)
    panels = -(-channels // BLOCK)
    kept = np.repeat(random.random((depth, panels)) < density, BLOCK, axis=1)[:, :channels]
    return (random.standard_normal((depth, channels)) * kept).astype(np.float32)


@given(st.sampled_from([1, 2, 9]), st.sampled_from([1, 13, 17]), st.sampled_from([1, 16, 33]), st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 9),
       st.sampled_from(kernels.TARGETS), st.sampled_from(["blocks", "dense"]))
@settings(max_examples=12)
def test_products(rows, depth, channels, density, seed, target, choice):
    x = np.random.default_rng(seed).standard_normal((rows, depth)).astype(np.float32)
    stored = stored_blocks(weights_of(depth, channels, density, seed))
    check_kernel(BlockSparseMatMul(channels), [Given(x), *(Given(a, constant=True) for a in stored)], target, choice=choice)


@pytest.mark.parametrize("machine", ["x86-64-v3", "cortex-a76", "generic-c"])
def test_products_as_c(machine):
    for rows, density in ((1, 0.2), (5, 0.4)):
        x = np.random.default_rng(rows).standard_normal((rows, 100)).astype(np.float32)
        arrays = [x, *stored_blocks(weights_of(100, 49, density, rows))]
        kernels.check(kernels.request_for(BlockSparseMatMul(49), arrays, machine, constants=[1, 2, 3]), arrays, units=16.0, machine=machine)


@given(st.integers(1, 40), st.integers(1, 50), st.floats(0, 1), st.integers(0, 99))
def test_blocks_stand_for_the_weights(depth, channels, density, seed):
    weights = weights_of(depth, channels, density, seed)
    values, terms, starts = stored_blocks(weights)
    assert values.any(axis=1).all() and starts[-1] == len(values) == len(terms)
    np.testing.assert_array_equal(dense_weights(values, terms, starts, depth, channels), weights)


def test_the_cost_model_chooses():
    for density, wanted in ((0.05, "blocks"), (1.0, "dense")):
        arrays = [np.zeros((64, 256), np.float32), *stored_blocks(weights_of(256, 256, density, 0))]
        request = kernels.request_for(BlockSparseMatMul(256), arrays, "cortex-a76", constants=[1, 2, 3])
        assert lower(request).candidate == wanted and {c.name for c in candidates(request)} == {"blocks", "dense"}


def test_weights_must_be_known():
    arrays = [np.zeros((1, 8), np.float32), *stored_blocks(np.ones((8, 16), np.float32))]
    with pytest.raises(EdgeccError, match="must be constants"):
        lower(kernels.request_for(BlockSparseMatMul(16), arrays))


@pytest.mark.parametrize(("dims", "message"), [([(2, 8), (3, 8), (3,), (2,)], "values"), ([(2, 8), (3, 16), (2,), (2,)], "terms"),
                                               ([(2, 8), (3, 16), (3,), (3,)], "starts"), ([(8,), (3, 16), (3,), (2,)], "rank 1")])
def test_what_does_not_fit(dims, message):
    types = [TensorType(t, d) for t, d in zip((DType.F32, DType.F32, DType.I32, DType.I32), dims, strict=True)]
    with pytest.raises(EdgeccError, match=message):
        BlockSparseMatMul(16).infer(types)
