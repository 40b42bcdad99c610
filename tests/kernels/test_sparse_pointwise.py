"""Pointwise convolutions with blocks of zeros: against the reference, chosen where the cost model says so, with all that is fused into them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.scalar import Arg, apply, literal
from edgecc.ir.types import DType, TensorType
from edgecc.kernels.registry import candidates, lower
from edgecc.ops.convolution import Conv
from edgecc.ops.sparse import BLOCK
from tests.support import kernels, llvm

RESIDUAL = apply("max", apply("add", Arg(0, DType.F32), Arg(1, DType.F32)), literal(0.0, DType.F32))
VECTORS = [target for target in kernels.TARGETS if target != "generic-c"]


def layer(images=1, depth=24, channels=40, density=0.3, seed=0, bias=True, epilogue=None, size=(5, 7)):
    """An operator and its arrays; some panels have no block at all."""
    random = np.random.default_rng(seed)
    panels = -(-channels // BLOCK)
    kept = np.repeat(random.random((depth, panels)) < density, BLOCK, axis=1)[:, :channels]
    kept[:, :BLOCK] &= seed % 2 == 0
    weights = (random.standard_normal((depth, channels)) * kept).T.reshape(channels, depth, 1, 1).astype(np.float32)
    weights[-1, -1] = 1.0  # one block at least
    arrays = [random.standard_normal((images, depth, *size)).astype(np.float32), weights,
              random.standard_normal(channels).astype(np.float32) if bias else None]
    if epilogue is not None:
        arrays.append(random.standard_normal((images, channels, *size)).astype(np.float32))
    return Conv((1, 1), (0,) * 4, (1, 1), 1, epilogue), arrays


def request_of(op, arrays, target, order=(0, 2, 3, 1)):
    types = [None if a is None else TensorType.of(a) for a in arrays]
    views = [None if t is None else kernels.laid_out(t, order) for t in types]
    (result,) = op.infer(types)
    constants = [1, *([] if arrays[2] is None else [2])]
    return kernels.request_for(op, arrays, target, inputs=[views[0], None, None, *views[3:]], outputs=[kernels.laid_out(result, order)], constants=constants)


def sparse(request):
    return next((c.name for c in candidates(request) if "blocks" in c.name), None)


@given(st.sampled_from([1, 2]), st.sampled_from([1, 13, 24]), st.sampled_from([1, 16, 33, 40]), st.sampled_from([0.0, 0.2, 0.6]), st.integers(0, 9),
       st.booleans(), st.sampled_from([None, RESIDUAL]), st.sampled_from(VECTORS), st.sampled_from([(0, 2, 3, 1), (0, 1, 2, 3)]))
@settings(max_examples=15)
def test_convolutions(images, depth, channels, density, seed, bias, epilogue, target, order):
    op, arrays = layer(images, depth, channels, density, seed, bias, epilogue)
    request = request_of(op, arrays, target, order)
    if not request.stored_blocks:
        return
    kernels.check(request, arrays, choice=sparse(request))


@pytest.mark.parametrize("machine", ["x86-64-v3", "cortex-a76"])
def test_convolutions_as_c(machine):
    op, arrays = layer(epilogue=RESIDUAL, density=0.2)
    request = request_of(op, arrays, machine)
    kernels.check(request, arrays, units=16.0, machine=machine, choice=sparse(request))


def test_convolutions_as_llvm():
    pytest.importorskip("llvmlite")
    op, arrays = layer(bias=False)
    kernel = lower(request_of(op, arrays, "host"), sparse(request_of(op, arrays, "host")))
    given_ = {"x": np.ascontiguousarray(arrays[0].transpose(0, 2, 3, 1)).reshape(-1)}
    for buffer, argument in zip(kernel.function.buffers[1:4], kernel.arguments[1:4], strict=True):
        given_[buffer.name] = argument.pack(arrays[1])
    found = llvm.run_function(kernel.function, given_, "host")["y"].reshape(1, 5, 7, -1).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, op.reference(arrays)[0], rtol=1e-5, atol=1e-5)


def test_the_cost_model_chooses():
    for density, size, wanted in ((0.05, (14, 14), True), (0.65, (14, 14), True), (0.65, (1, 1), False)):  # sums of one pixel wait for each other
        request = request_of(*layer(depth=256, channels=256, density=density, size=size), "x86-64-v3")
        assert request.stored_blocks and ("blocks" in lower(request).candidate) == wanted
    assert sparse(request_of(*layer(density=1.0), "x86-64-v3")) is None
    assert sparse(request_of(*layer(density=0.05), "generic-c")) is None


def test_requests_tell_numbers_of_blocks_apart():
    op, arrays = layer(density=0.2)
    request = request_of(op, arrays, "x86-64-v3")
    panels = -(-arrays[1].shape[0] // BLOCK)
    padded = np.zeros((panels * BLOCK, arrays[1].shape[1]), np.float32)
    padded[:arrays[1].shape[0]] = arrays[1][:, :, 0, 0]
    assert request.stored_blocks == padded.reshape(panels, BLOCK, -1).any(axis=1).sum()
    assert request != replace(request, stored_blocks=request.stored_blocks + 1)
