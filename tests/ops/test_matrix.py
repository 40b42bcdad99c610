import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.ir.scalar import Arg, apply
from edgecc.ir.types import DType, TensorType
from edgecc.ops.matrix import MatMul

F32 = DType.F32


@pytest.mark.parametrize(("a", "b"), [((3, 5), (5, 4)), ((1, 7), (7, 1)), ((2, 3, 5), (5, 4)), ((3, 5), (6, 5, 2)),
                                      ((2, 1, 3, 5), (4, 5, 2)), ((2, 0), (0, 3)), ((0, 2), (2, 3))])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "u8", "f2"])
def test_matmul_agrees_with_numpy_and_onnx(draw, by_onnx, check_op, a, b, dtype):
    x, y = draw(a, dtype, 0), draw(b, dtype, 0)
    expected = by_onnx("MatMul", [x, y]) if dtype != "f2" else [np.matmul(x.astype("f8"), y.astype("f8"))]
    check_op(MatMul(), [x, y], expected)


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("bias", [None, (4,), (3, 1), (1, 1), ()])
def test_transposes_and_bias_agree_with_gemm(draw, by_onnx, check_op, transpose_a, transpose_b, bias):
    a, b = draw((5, 3) if transpose_a else (3, 5)), draw((4, 5) if transpose_b else (5, 4))
    c = None if bias is None else draw(bias)
    expected = by_onnx("Gemm", [a, b, c], {"transA": int(transpose_a), "transB": int(transpose_b)})
    check_op(MatMul(transpose_a, transpose_b), [a, b, c], expected)


def test_batched_transposes_swap_the_last_two_axes(draw, check_op):
    a, b = draw((2, 5, 3)), draw((2, 4, 5))
    check_op(MatMul(True, True), [a, b], [np.einsum("bkm,bnk->bmn", a, b, dtype="f8")])


def test_epilogue_follows_the_bias(draw):
    a, b, bias, extra = draw((3, 5)), draw((5, 4)), draw((4,)), draw((3, 1))
    op = MatMul(epilogue=apply("add", apply("tanh", Arg(0, F32)), Arg(1, F32)))
    (y,) = op.reference([a, b, bias, extra])
    np.testing.assert_allclose(y, np.tanh(a @ b + bias) + extra, rtol=1e-5, atol=1e-6)
    assert op.magnitude([a, b, bias, extra])[0].shape == (3, 4)


def test_integers_wrap():
    a = np.full((1, 3), 2**30 + 1, np.int32)
    assert MatMul().reference([a, a.T])[0].item() == np.array(3 * (2**30 + 1) ** 2).astype(np.int32)


def test_narrow_integers_are_summed_in_i32_less_their_zero_points():
    a, b = np.full((1, 3), 100, np.int8), np.full((3, 1), 255, np.uint8)
    (y,) = MatMul(a_zero=-100, b_zero=55).reference([a, b])
    assert y.dtype == np.int32 and y.item() == 3 * 200 * 200
    with pytest.raises(EdgeccError, match="a_zero is 128"):
        MatMul(a_zero=128).infer([TensorType.of(a), TensorType.of(b)])
    with pytest.raises(EdgeccError, match="a_zero is 1"):
        MatMul(a_zero=1).infer([TensorType(DType.F32, (1, 3)), TensorType(DType.F32, (3, 1))])


@pytest.mark.parametrize(("shapes", "message"), [
    ([(3,), (3, 4)], "a has rank 1 and b rank 2"),
    ([(2, 3), (4, 5)], "the inner sizes differ: a has 3, b has 4"),
    ([(2, 2, 3), (3, 3, 5)], "axis -1 has sizes 2 and 3"),
    ([(2, 3), (3, 5), (2, 4)], "bias has shape [2, 4], which does not broadcast to [2, 5]"),
    ([(2, 3), (3, 5), (1, 2, 5)], "bias has shape [1, 2, 5], which does not broadcast"),
    ([(2, 3), (3, 5), None, (2, 5)], "1 extra operands are given, but there is no epilogue"),
    ([(2**30, 1), (1, 2**30)], "more than 2^40 elements"),
])
def test_shape_rule_says_what_is_wrong(shapes, message):
    with pytest.raises(EdgeccError) as caught:
        MatMul().infer([None if s is None else TensorType(F32, s) for s in shapes])
    assert caught.value.code == "E110" and message in caught.value.message


def test_types_must_be_equal_numbers():
    with pytest.raises(EdgeccError, match="b has type f64, wanted f32"):
        MatMul().infer([TensorType(F32, (2, 2)), TensorType(DType.F64, (2, 2))])
    with pytest.raises(EdgeccError, match="a has type bool"):
        MatMul().infer([TensorType(DType.BOOL, (2, 2))] * 2)
