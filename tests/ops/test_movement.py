import itertools

import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.ir.types import DType, TensorType
from edgecc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose

DTYPES = ["f4", "i8", "?"]


@pytest.mark.parametrize("perm", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("dtype", DTYPES)
def test_transpose_agrees_with_onnx(draw, by_onnx, check_op, perm, dtype):
    x = draw((2, 3, 4), dtype)
    check_op(Transpose(perm), [x], by_onnx("Transpose", [x], {"perm": perm}), units=0)


def test_transpose_of_a_scalar():
    assert Transpose(()).reference([np.array(3.0, "f4")])[0].shape == ()


@pytest.mark.parametrize("shape", [(24,), (4, 3, 2), (1, 24, 1)])
def test_reshape_agrees_with_onnx(draw, by_onnx, check_op, shape):
    x = draw((2, 3, 4))
    check_op(Reshape(shape), [x], by_onnx("Reshape", [x, np.array(shape)]), units=0)


@pytest.mark.parametrize(("source", "shape"), [((3, 1), (3, 4)), ((1,), (2, 3)), ((), (2,)), ((2, 1, 3), (2, 5, 3)), ((1,), (0,))])
@pytest.mark.parametrize("dtype", DTYPES)
def test_expand_agrees_with_onnx(draw, by_onnx, check_op, source, shape, dtype):
    x = draw(source, dtype)
    check_op(Expand(shape), [x], by_onnx("Expand", [x, np.array(shape)]), units=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concat_agrees_with_onnx(draw, by_onnx, check_op, axis):
    arrays = [draw(tuple(n if a == axis else 3 for a in range(3))) for n in (2, 0, 5)]
    check_op(Concat(axis), arrays, by_onnx("Concat", arrays, {"axis": axis}), units=0)


@pytest.mark.parametrize(("starts", "sizes", "steps"), [
    ((0, 0), (5, 6), (1, 1)), ((1, 2), (3, 2), (1, 2)), ((4, 5), (5, 3), (-1, -2)), ((3, 0), (2, 0), (-3, 1)),
    ((0, 5), (1, 6), (9, -1))])
def test_slice_agrees_with_onnx(draw, by_onnx, check_op, starts, sizes, steps):
    x = draw((5, 6))
    ends = [start + size * step for start, size, step in zip(starts, sizes, steps, strict=True)]
    ends = [-100 if end < 0 else end for end in ends]
    expected = by_onnx("Slice", [x, np.array(starts), np.array(ends), np.array([0, 1]), np.array(steps)])
    check_op(Slice(starts, sizes, steps), [x], expected, units=0)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize(("before", "after"), [((0, 0), (0, 0)), ((1, 2), (2, 0)), ((0, 3), (1, 3)), ((2, 0), (0, 1))])
def test_pad_agrees_with_onnx(draw, by_onnx, check_op, mode, before, after):
    x = draw((3, 4))
    check_op(Pad(before, after, mode), [x], by_onnx("Pad", [x, np.array(before + after)], {"mode": mode}), units=0)


def test_pad_value_and_cropping(draw, by_onnx, check_op):
    x, value = draw((3, 4)), np.array(7.5, "f4")
    check_op(Pad((1, 0), (0, 2)), [x, value], by_onnx("Pad", [x, np.array([1, 0, 0, 2]), value]), units=0)
    y = Pad((-1, 2), (0, -3)).reference([x, value])[0]
    np.testing.assert_array_equal(y, [[7.5, 7.5, x[1, 0]], [7.5, 7.5, x[2, 0]]])


def test_reflect_of_a_single_element_and_beyond_the_size():
    assert Pad((2,), (1,), "reflect").reference([np.array([5])])[0].tolist() == [5, 5, 5, 5]
    np.testing.assert_array_equal(Pad((5,), (4,), "reflect").reference([np.arange(3)])[0],
                                  np.pad(np.arange(3), (5, 4), mode="reflect"))


X = TensorType(DType.F32, (2, 3))


@pytest.mark.parametrize(("op", "types", "message"), [
    (Transpose((0, 0)), [X], "perm is [0, 0], wanted a permutation of the 2 axes"),
    (Transpose((0,)), [X], "perm is [0]"),
    (Reshape((5,)), [X], "shape [5] has 5 elements, x has 6"),
    (Reshape((-1, 6)), [X], "negative size"),
    (Reshape((1,) * 15 + (2, 3)), [X], "rank 17, at most 16"),
    (Expand((3, 3)), [X], "x has shape [2, 3], which does not broadcast to [3, 3]"),
    (Expand((3,)), [X], "does not broadcast"),
    (Expand((2**40, 2, 3)), [X], "more than 2^40 elements"),
    (Concat(0), [], "wanted at least one"),
    (Concat(2), [X], "axis is 2, wanted 0 <= axis < 2"),
    (Concat(0), [X, TensorType(DType.F32, (2, 4))], "operand 1 has shape [2, 4], wanted [2, 3]"),
    (Concat(0), [X, TensorType(DType.I32, (2, 3))], "operand 1 has type i32, wanted f32"),
    (Concat(0), [X, TensorType(DType.F32, (2,))], "operand 1 has shape [2], wanted [2, 3]"),
    (Slice((0, 0), (1, 4), (1, 1)), [X], "axis 1 is read from 0 to 3, x has 3"),
    (Slice((0, 0), (1, 2), (1, -1)), [X], "axis 1 is read from 0 to -1"),
    (Slice((0, -1), (1, 1), (1, 1)), [X], "axis 1 is read from -1 to -1"),
    (Slice((0, 0), (1, 1), (1, 0)), [X], "the step of axis 1 is 0"),
    (Slice((0,), (1,), (1,)), [X], "starts is [0], wanted 2 entries"),
    (Pad((0,), (0,)), [X], "before is [0], wanted 2 entries"),
    (Pad((0, 0), (0, 0), "mirror"), [X], "mode is 'mirror'"),
    (Pad((0, -1), (0, 0), "edge"), [X], "mode 'edge' wants entries >= 0"),
    (Pad((-3, 0), (0, 0)), [X], "axis 0 has 2 elements, -3 and 0 would remove more"),
    (Pad((-2, 0), (-1, 0)), [X], "negative size"),
    (Pad((1, 0), (0, 0)), [X, TensorType(DType.F64, ())], "value has type f64, wanted f32"),
    (Pad((1, 0), (0, 0)), [X, TensorType(DType.F32, (1,))], "value has shape [1], wanted []"),
    (Pad((1, 0), (0, 0), "edge"), [X, TensorType(DType.F32, ())], "takes none"),
    (Pad((1,), (0,), "wrap"), [TensorType(DType.F32, (0,))], "nothing to repeat"),
])
def test_shape_rules_say_what_is_wrong(op, types, message):
    with pytest.raises(EdgeccError) as caught:
        op.infer(types)
    assert caught.value.code == "E110" and message in caught.value.message
