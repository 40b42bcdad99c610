import itertools

import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.ir.types import DType, TensorType
from edgecc.ops.reduction import ArgReduce, BatchNorm, CumSum, Normalize, Reduce, Softmax, TopK

F32 = DType.F32
ONNX_NAMES = {"sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin", "prod": "ReduceProd",
              "sum_square": "ReduceSumSquare", "l1": "ReduceL1", "l2": "ReduceL2"}


@pytest.mark.parametrize("kind", ONNX_NAMES)
@pytest.mark.parametrize("axes", [(0,), (2,), (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("dtype", ["f4", "i4"])
def test_reduce_agrees_with_onnx(draw, by_onnx, check_op, kind, axes, keepdims, dtype):
    x = draw((3, 4, 5), dtype, -3, 3)
    expected = by_onnx(ONNX_NAMES[kind], [x, np.array(axes)], {"keepdims": int(keepdims)})
    check_op(Reduce(kind, axes, keepdims), [x], expected, units=64)


def test_reduce_without_axes_combines_nothing():
    x = np.array([-3.0, 2.0], "f4")
    assert Reduce("sum", ()).reference([x])[0].tolist() == [-3, 2]
    assert Reduce("l1", ()).reference([x])[0].tolist() == [3, 2]
    assert Reduce("sum_square", ()).reference([x])[0].tolist() == [9, 4]
    assert Reduce("mean", ()).reference([np.array([-3, 2])])[0].tolist() == [-3, 2]


@pytest.mark.parametrize(("kind", "expected"), [("sum", 0.0), ("prod", 1.0), ("mean", np.nan), ("max", -np.inf), ("min", np.inf),
                                                ("l2", 0.0)])
def test_reduce_over_no_elements(kind, expected):
    y = Reduce(kind, (1,), False).reference([np.zeros((2, 0), "f4")])[0]
    np.testing.assert_array_equal(y, np.full(2, expected, "f4"))


def test_reduce_of_small_types():
    assert Reduce("sum", (0,), False).reference([np.full(300, 1, np.uint8)])[0] == 44


@pytest.mark.parametrize(("narrow", "wide"), [("i1", "i4"), ("u1", "i4"), ("i2", "i4"), ("u2", "i4"), ("i4", "i8")])
def test_wide_sums_do_not_wrap(narrow, wide):
    x = np.full((3, 300), np.iinfo(narrow).max, narrow)
    (y,) = Reduce("wide_sum", (1,)).reference([x])
    assert y.dtype == np.dtype(wide) and y.tolist() == [[300 * np.iinfo(narrow).max]] * 3
    assert Reduce("max", (0,), False).reference([np.array([False, True])])[0]
    assert Reduce("sum", (0,), False).reference([np.full(4096, 1.0, "f2")])[0] == 4096
    assert np.isnan(Reduce("max", (0,), False).reference([np.array([np.nan, 1], "f4")])[0])


@pytest.mark.parametrize("kind", ["max", "min"])
@pytest.mark.parametrize(("axis", "keepdims", "last"), list(itertools.product((0, 1, 2), (False, True), (False, True))))
def test_arg_reduce_agrees_with_onnx(draw, by_onnx, check_op, kind, axis, keepdims, last):
    x = draw((3, 6, 4), "i4").astype("f4")  # integers: many ties
    expected = by_onnx("ArgMax" if kind == "max" else "ArgMin", [x],
                       {"axis": axis, "keepdims": int(keepdims), "select_last_index": int(last)})
    check_op(ArgReduce(kind, axis, keepdims, last), [x], expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("log", [False, True])
def test_softmax_agrees_with_onnx(draw, by_onnx, check_op, axis, log):
    x = draw((3, 4, 5), low=-30, high=30)
    check_op(Softmax(axis, log), [x], by_onnx("LogSoftmax" if log else "Softmax", [x], {"axis": axis}))


def test_magnitude_of_softmax_includes_the_exponent():
    x = np.array([0.0, -10.0])
    y, magnitude = Softmax(0).reference([x])[0], Softmax(0).magnitude([x])[0]
    np.testing.assert_allclose(magnitude / y, [1, 11])
    np.testing.assert_allclose(Softmax(0, log=True).magnitude([x])[0], [1, 11], atol=1e-4)


def test_softmax_of_large_masked_and_no_numbers():
    y = Softmax(0).reference([np.array([1e30, -np.inf, 1e30], "f4")])[0]
    assert y.tolist() == [0.5, 0.0, 0.5]
    assert Softmax(1).reference([np.zeros((2, 0), "f4")])[0].shape == (2, 0)


@pytest.mark.parametrize("axes", [(2,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("bias", [False, True])
def test_normalize_agrees_with_layer_norm(draw, by_onnx, check_op, axes, bias):
    x = draw((3, 4, 5))
    scale, shift = draw(x.shape[axes[0]:]), draw(x.shape[axes[0]:]) if bias else None
    expected = by_onnx("LayerNormalization", [x, scale, shift], {"axis": axes[0], "epsilon": 1e-2})
    check_op(Normalize(axes, 1e-2), [x, scale, shift], expected)


def test_normalize_agrees_with_rms_norm(draw, by_onnx, check_op):
    x, scale = draw((3, 4, 5)), draw((5,))
    expected = by_onnx("RMSNormalization", [x, scale], {"axis": -1, "epsilon": 1e-2})
    check_op(Normalize((2,), 1e-2, rms=True), [x, scale], expected)


def test_normalize_agrees_with_instance_norm(draw, by_onnx, check_op):
    x, scale, bias = draw((2, 3, 4, 5)), draw((3,)), draw((3,))
    expected = by_onnx("InstanceNormalization", [x, scale, bias], {"epsilon": 1e-3})
    check_op(Normalize((2, 3), 1e-3), [x, scale.reshape(3, 1, 1), bias.reshape(3, 1, 1)], expected)


def test_magnitude_of_normalize_grows_where_the_mean_dominates():
    x = np.array([[1000.0, 1000.1, 1000.2]])
    assert Normalize((1,)).magnitude([x])[0].max() > 1e3 > Normalize((1,)).magnitude([x - 1000])[0].max()


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (1, 3, 2, 5)])
def test_batch_norm_agrees_with_onnx(draw, by_onnx, check_op, shape):
    operands = [draw(shape), draw((3,)), draw((3,)), draw((3,)), draw((3,), low=1e-4, high=1)]
    check_op(BatchNorm(1e-3), operands, by_onnx("BatchNormalization", operands, {"epsilon": 1e-3}, opset=15))


@pytest.mark.parametrize(("axis", "exclusive", "reverse"), list(itertools.product((0, 1), (False, True), (False, True))))
@pytest.mark.parametrize("dtype", ["f4", "i8"])
def test_cum_sum_agrees_with_onnx(draw, by_onnx, check_op, axis, exclusive, reverse, dtype):
    x = draw((4, 5), dtype)
    expected = by_onnx("CumSum", [x, np.array(axis)], {"exclusive": int(exclusive), "reverse": int(reverse)}, opset=14)
    check_op(CumSum(axis, exclusive, reverse), [x], expected)


def test_cum_sum_of_nothing():
    assert CumSum(0, exclusive=True).reference([np.zeros((0, 2), "f4")])[0].shape == (0, 2)


@pytest.mark.parametrize(("axis", "largest", "k"), list(itertools.product((0, 1), (False, True), (0, 1, 3))))
def test_top_k_agrees_with_onnx(draw, by_onnx, check_op, axis, largest, k):
    x = draw((5, 4), "i4").astype("f4")  # integers: ties
    values, positions = TopK(k, axis, largest).reference([x])
    if k:
        expected = by_onnx("TopK", [x, np.array([k])], {"axis": axis, "largest": int(largest)}, outputs=2)
        check_op(TopK(k, axis, largest), [x], expected)
    order = np.argsort(-x if largest else x, axis=axis, kind="stable")
    np.testing.assert_array_equal(positions, np.take(order, range(k), axis))
    np.testing.assert_array_equal(values, np.take_along_axis(x, positions, axis))


def test_top_k_of_unsigned_and_extreme_integers():
    x = np.array([0, 255, 3], np.uint8)
    assert TopK(2, 0).reference([x])[1].tolist() == [1, 2]
    x = np.array([-2**63, 2**63 - 1, 0], np.int64)
    assert TopK(3, 0).reference([x])[1].tolist() == [1, 2, 0]


X = TensorType(F32, (2, 3, 4))


@pytest.mark.parametrize(("op", "types", "message"), [
    (Reduce("median", (0,)), [X], "kind is 'median'"),
    (Reduce("sum", (1, 0)), [X], "axes are [1, 0], wanted ascending numbers from 0 to 2"),
    (Reduce("sum", (-1,)), [X], "axes are [-1]"),
    (Reduce("sum", (0,)), [TensorType(DType.BOOL, (2,))], "sum does not take bool"),
    (ArgReduce("max", 3), [X], "axis is 3, wanted 0 <= axis < 3"),
    (ArgReduce("mean", 0), [X], "kind is 'mean'"),
    (ArgReduce("max", 0), [TensorType(F32, (0, 2))], "axis 0 of x is empty"),
    (Softmax(-1), [X], "axis is -1"),
    (Softmax(0), [TensorType(DType.I32, (2,))], "x has type i32, wanted a float"),
    (Normalize((0, 1)), [X], "axes are [0, 1], wanted one or more of the last axes"),
    (Normalize(()), [X], "axes are []"),
    (Normalize((2,), -1.0), [X], "epsilon is -1.0"),
    (Normalize((2,)), [X, TensorType(F32, (3,))], "scale has shape [3], which does not broadcast to [2, 3, 4]"),
    (Normalize((2,)), [X, None, TensorType(DType.F64, (4,))], "bias has type f64, wanted f32"),
    (BatchNorm(), [X, *[TensorType(F32, (3,))] * 3, TensorType(F32, (4,))], "variance has shape [4], wanted [3]"),
    (BatchNorm(), [TensorType(F32, (3,))] * 5, "x has rank 1"),
    (CumSum(3), [X], "axis is 3"),
    (TopK(5, 2), [X], "k is 5, axis 2 of x has 4 elements"),
])
def test_shape_rules_say_what_is_wrong(op, types, message):
    with pytest.raises(EdgeccError) as caught:
        op.infer(types)
    assert caught.value.code == "E110" and message in caught.value.message
