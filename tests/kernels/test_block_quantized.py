"""Products with weights of 4 and 8 bits: against the reference, over shapes, blocks and kinds of zero points."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.errors import EdgeccError
from edgecc.ir.types import DType, TensorType
from edgecc.kernels.ahead import stream_ahead, stream_far
from edgecc.kernels.registry import lower
from edgecc.loop.index import const
from edgecc.loop.ir import Prefetch, walk
from edgecc.ops.block_quantized import MatMulNBits
from edgecc.targets.schema import load_target
from tests.support import kernels


def operands(rows, depth, channels, block, bits, zero, seed=0, dtype=np.float32, scale=np.float32):
    random = np.random.default_rng(seed)
    kind = DType.U8.numpy  # what a 4-bit constant is when it comes to kernels
    blocks = -(-depth // block)
    arrays = [random.standard_normal((*rows, depth)).astype(dtype), random.integers(0, 1 << bits, (channels, depth)).astype(kind),
              (random.random((channels, blocks)) / 10 + 0.01).astype(scale)]
    if zero == "integer":
        arrays.append(random.integers(0, 1 << bits, (channels, blocks)).astype(kind))
    elif zero == "float":
        arrays.append((random.random((channels, blocks)) * 9).astype(np.float32))
    return arrays


@st.composite
def products(draw):
    """An operator and its operands."""
    bits, block, quantized = draw(st.sampled_from([4, 8])), draw(st.sampled_from([2, 16, 32, 64])), draw(st.booleans())
    rows = draw(st.sampled_from([(1,), (2,), (3,), (4,), (6,), (13,), (2, 3)]))
    depth, channels = draw(st.sampled_from([1, 13, 32, 49, 64, 100])), draw(st.sampled_from([1, 4, 17, 33, 70]))
    zero = draw(st.sampled_from(["", "integer"] if quantized else ["", "integer", "float"]))
    half, half_scale = draw(st.booleans()), draw(st.booleans())
    arrays = operands(rows, depth, channels, block, bits, zero, draw(st.integers(0, 9)), np.float16 if half else np.float32,
                      np.float16 if half_scale else np.float32)
    return MatMulNBits(block, bits, quantized), arrays


def request_of(op, arrays, target):
    return kernels.request_for(op, arrays, target, constants=[1, 2, 3][:len(arrays) - 1])


@given(products(), st.sampled_from(["x86-64-v3", "x86-64-v4-bf16", "cortex-a76", "cortex-a53", "generic-c"]))
@settings(max_examples=30)
def test_products(product, target):
    op, arrays = product
    kernels.check(request_of(op, arrays, target), arrays, units=16.0)


@given(products())
@settings(max_examples=8)
def test_every_target_computes_the_same_bits(product):
    op, arrays = product
    results = [kernels.run(request_of(op, arrays, target), arrays)[0].tobytes()
               for target in ("generic-c", "x86-64-v3", "x86-64-v4-bf16", "cortex-a76", "cortex-a53")]
    assert len(set(results)) == 1


CASES = [(MatMulNBits(32, 4), (1,), ""), (MatMulNBits(16, 4), (5,), "integer"), (MatMulNBits(16, 8), (2,), "float"),
         (MatMulNBits(32, 4, True), (1,), ""), (MatMulNBits(64, 8, True), (3,), "integer")]


@pytest.mark.parametrize("machine", ["x86-64-v3", "cortex-a76", "generic-c"])
def test_products_as_c(machine):
    for op, rows, zero in CASES:
        arrays = operands(rows, 100, 35, op.block, op.bits, zero)
        kernels.check(request_of(op, arrays, machine), arrays, units=16.0, machine=machine)


def test_products_as_c_for_this_machine():
    for op, rows, zero in CASES:
        arrays = operands(rows, 100, 35, op.block, op.bits, zero)
        here = kernels.run(request_of(op, arrays, "host"), arrays, machine="host")[0]
        assert here.tobytes() == kernels.run(request_of(op, arrays, "generic-c"), arrays)[0].tobytes()


def test_quantized_operands_are_integers():
    """Ties, a block of zeros, one of subnormal numbers, and the largest magnitude on either side."""
    x = np.zeros((1, 64), np.float32)
    x[0, :16] = np.arange(16) + 0.5
    x[0, 15] = -127
    x[0, 32:48] = 1e-40
    x[0, 48:] = 3.4e38
    weights = np.eye(64, dtype=np.uint8) + 8
    arrays = [x, weights, np.ones((64, 4), np.float32)]
    wanted = np.concatenate([np.rint(x[0, :15]), [-127], np.zeros(32), x[0, 48:]])
    for target in ("x86-64-v4", "generic-c", "cortex-a76"):
        (y,) = kernels.run(request_of(MatMulNBits(16, 4, True), arrays, target), arrays)
        np.testing.assert_allclose(y[0], wanted, rtol=1e-6)


@pytest.mark.parametrize("block", [16, 32, 64, 128])
def test_extreme_codes_and_operands_give_exact_sums(block):
    """Sums of 16 bits are as large as they get: every code 15 or 0, every number of the operand +-127 steps."""
    signs = np.array([np.ones(256), -np.ones(256), np.resize([1, -1], 256), np.resize(np.repeat([1, -1], block // 4), 256)], np.float32)
    codes = np.repeat(np.array([[15], [0], [15]], np.uint8), 256, axis=1)
    codes[2, ::2] = 0
    for zeros in ((), (0, 15, 7)):
        arrays = [signs * 127, codes, np.ones((3, 256 // block), np.float32)]
        if zeros:
            arrays.append(np.repeat(np.array(zeros, np.uint8)[:, None], 256 // block, axis=1))
        wanted = arrays[0] @ (codes.astype(np.float32) - (np.array(zeros, np.float32)[:, None] if zeros else 8)).T
        for target in ("x86-64-v3", "x86-64-v4", "generic-c"):
            for rows in (1, 4):
                (y,) = kernels.run(request_of(MatMulNBits(block, 4, True), [arrays[0][:rows], *arrays[1:]], target), [arrays[0][:rows], *arrays[1:]])
                np.testing.assert_array_equal(y, wanted[:rows])


def test_what_is_no_number_gives_the_same_bits_everywhere():
    x, weights, scale = operands((5,), 96, 16, 32, 4, "")
    x[0, 3], x[1, 40], x[2, 95], x[3, :32] = np.nan, np.inf, -np.inf, -0.0
    x[4, 10:14] = [np.nan, 3e38, -np.inf, 1e-40]
    arrays = [x, weights, scale]
    for target in ("x86-64-v4-bf16", "cortex-a76"):
        request = request_of(MatMulNBits(32, 4, True), arrays, target)
        (wanted,), (got,) = kernels.run(request, arrays), kernels.run(request, arrays, target)
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("quantized", [False, True])
def test_eight_weights_share_a_word(quantized):
    arrays = operands((1,), 64, 32, 32, 4, "")
    kernel = lower(request_of(MatMulNBits(32, 4, quantized), arrays, "x86-64-v4"))
    scales = 0 if not quantized else 32 * 2  # which follow the weights of their block there
    assert kernel.function.buffer("w").elements == 64 * 32 // 8 + scales


def test_far_weights_are_prefetched():
    """So large that they do not stay in the second-level cache; what is prefetched may lie behind the end."""
    arrays = operands((1,), 2048, 1024, 32, 4, "")
    for quantized in (False, True):
        request = request_of(MatMulNBits(32, 4, quantized), arrays, "x86-64-v4-bf16")
        function = lower(request).function
        ahead = [s for s in walk(function.body) if isinstance(s, Prefetch)]
        assert {s.buffer for s in ahead} == {"w"} and len(ahead) == 4 + 2 + 8 * quantized  # lines, two of a page, and the first ones beside each block of x
        small = lower(request_of(MatMulNBits(32, 4, quantized), operands((1,), 64, 64, 32, 4, ""), "x86-64-v4-bf16")).function
        assert not any(isinstance(s, Prefetch) for s in walk(small.body))
    kernels.check(request, arrays, units=16.0, machine="x86-64-v4-bf16")


def test_streams_are_prefetched_as_far_as_the_target_says_and_a_page_is_touched_twice_at_most():
    target = load_target("x86-64-v3")
    far = [stream_far("w", const(64), const(block), 144, 4, 1e9, target) for block in range(64)]
    lines = {touch.index.const for touches in far for touch in touches}
    assert {len(touches) for touches in far} == {target.stream.page_lines} == {1}
    assert len(lines) == 16 and min(lines) == 64 + 20480 // 4  # blocks of 576 bytes, four of them in half a page
    (near,) = stream_ahead("w", const(64), 16, 4, 1e9, target)
    assert near.index.const == 64 + target.stream.ahead // 4 == 64 + 512
    two = stream_far("w", const(0), const(3), 528, 4, 1e9, load_target("x86-64-v4"))
    assert [touch.index.const for touch in two] == [3 * 528 + 5120, 3 * 528 + 5120 + 16]


def test_groups_of_bytes_are_multiplied_where_the_target_can():
    arrays = operands((1,), 64, 32, 32, 4, "")
    for target, dot in (("x86-64-v4-bf16", "dot_u8s8"), ("cortex-a76", "dot_s8"), ("cortex-a53", "scaled")):
        assert dot in lower(request_of(MatMulNBits(32, 4, True), arrays, target)).choice


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
    ([(DType.F32, (2, 8)), (DType.U4, (4, 8)), (DType.F64, (4, 1))], "wanted f32 or f16"),
])
def test_what_does_not_fit(types, message):
    with pytest.raises(EdgeccError, match=message):
        MatMulNBits(8).infer([TensorType(*t) for t in types])


def test_what_does_not_fit_quantized():
    types = [TensorType(DType.F32, (2, 512)), TensorType(DType.U4, (4, 512)), TensorType(DType.F32, (4, 1))]
    with pytest.raises(EdgeccError, match="at most 256"):
        MatMulNBits(512, 4, True).infer(types)
    with pytest.raises(EdgeccError, match="zero has type f32, wanted u4"):
        MatMulNBits(256, 4, True).infer([*types[:2], TensorType(DType.F32, (4, 2)), TensorType(DType.F32, (4, 2))])
