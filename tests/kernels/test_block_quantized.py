"""Products with weights of 4 and 8 bits: against the reference, over shapes, blocks and kinds of zero points."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.errors import EdgeccError
from edgecc.ir.types import DType, TensorType
from edgecc.kernels.base import lower
from edgecc.ops.block_quantized import MatMulNBits
from tests.support import kernels


def operands(rows, depth, channels, block, bits, zero, seed=0, dtype=np.float32):
    random = np.random.default_rng(seed)
    kind = DType.U8.numpy  # what a 4-bit constant is when it comes to kernels
    blocks = -(-depth // block)
    arrays = [random.standard_normal((*rows, depth)).astype(dtype), random.integers(0, 1 << bits, (channels, depth)).astype(kind),
              (random.random((channels, blocks)) / 10 + 0.01).astype(np.float32)]
    if zero == "integer":
        arrays.append(random.integers(0, 1 << bits, (channels, blocks)).astype(kind))
    elif zero == "float":
        arrays.append((random.random((channels, blocks)) * 9).astype(np.float32))
    return arrays


@given(st.data())
@settings(max_examples=20, deadline=None)
def test_products(data):
    draw = data.draw
    bits, block = draw(st.sampled_from([4, 8])), draw(st.sampled_from([2, 16, 32]))
    rows = draw(st.sampled_from([(1,), (3,), (4,), (6,), (2, 3)]))
    depth, channels = draw(st.sampled_from([1, 13, 32, 49, 64])), draw(st.sampled_from([1, 4, 17, 33]))
    arrays = operands(rows, depth, channels, block, bits, draw(st.sampled_from(["", "integer", "float"])), draw(st.integers(0, 9)),
                      draw(st.sampled_from([np.float32, np.float16])))
    request = kernels.request_for(MatMulNBits(block, bits), arrays, draw(st.sampled_from(kernels.TARGETS)), constants=[1, 2, 3][:len(arrays) - 1])
    kernels.check(request, arrays, units=16.0)


@pytest.mark.parametrize("machine", ["x86-64-v3", "cortex-a76"])
def test_products_as_c(machine):
    for bits, zero in ((4, ""), (4, "integer"), (8, "float")):
        arrays = operands((5,), 49, 19, 16, bits, zero)
        request = kernels.request_for(MatMulNBits(16, bits), arrays, machine, constants=[1, 2, 3][:len(arrays) - 1])
        kernels.check(request, arrays, units=16.0, machine=machine)


def test_two_weights_share_a_byte():
    arrays = operands((1,), 64, 32, 32, 4, "")
    kernel = lower(kernels.request_for(MatMulNBits(32), arrays, "x86-64-v3", constants=[1, 2]))
    assert kernel.function.buffer("w").elements == 64 * 32 // 2


def test_weights_must_be_known():
    arrays = operands((1,), 8, 8, 8, 8, "")
    with pytest.raises(EdgeccError, match="constants") as caught:
        lower(kernels.request_for(MatMulNBits(8, 8), arrays))
    assert caught.value.code == "E112"


@pytest.mark.parametrize(("types", "message"), [
    ([(DType.I32, (2, 8)), (DType.U8, (4, 8)), (DType.F32, (4, 1))], "wanted a float"),
    ([(DType.F32, (2, 8)), (DType.I8, (4, 8)), (DType.F32, (4, 1))], "wanted u4"),
    ([(DType.F32, (2, 9)), (DType.U4, (4, 8)), (DType.F32, (4, 1))], "inner sizes"),
    ([(DType.F32, (2, 8)), (DType.U4, (4, 8)), (DType.F32, (4, 2))], "scale has shape"),
])
def test_what_does_not_fit(types, message):
    with pytest.raises(EdgeccError, match=message):
        MatMulNBits(8).infer([TensorType(*t) for t in types])
