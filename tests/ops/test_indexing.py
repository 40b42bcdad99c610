import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.ir.types import DType, TensorType
from edgecc.ops.indexing import Gather, GatherElements, GatherND, ScatterElements, ScatterND


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 3), (0,)])
@pytest.mark.parametrize("dtype", ["f4", "?", "i8"])
def test_gather_agrees_with_onnx(draw, by_onnx, check_op, axis, shape, dtype):
    x, indices = draw((4, 5, 6), dtype), draw(shape, "i8", -4, 3)
    check_op(Gather(axis), [x, indices], by_onnx("Gather", [x, indices], {"axis": axis}), units=0)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(4, 5), (7, 5), (2, 3)])
def test_gather_elements_agrees_with_numpy(draw, check_op, axis, shape):
    shape = shape if axis == 0 else (min(shape[0], 4), shape[1] + 3)
    x, indices = draw((4, 5)), draw(shape, "i4", -4, 3)
    source = x[:, :shape[1]] if axis == 0 else x[:shape[0]]
    check_op(GatherElements(axis), [x, indices], [np.take_along_axis(source, indices.astype("i8") % x.shape[axis], axis)], units=0)


@pytest.mark.parametrize(("shape", "batch_dims"), [((2, 2), 0), ((5, 3), 0), ((2, 1, 1), 0), ((2, 4, 2), 1), ((2, 2), 1), ((2, 3, 1), 2)])
def test_gather_nd_agrees_with_onnx(draw, by_onnx, check_op, shape, batch_dims):
    x, indices = draw((2, 3, 4)), draw(shape, "i8", -2, 1)
    check_op(GatherND(batch_dims), [x, indices], by_onnx("GatherND", [x, indices], {"batch_dims": batch_dims}), units=0)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "min", "max"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_scatter_nd_agrees_with_onnx(draw, by_onnx, check_op, reduction, depth):
    x, indices = draw((2, 3, 4)), draw((5, depth), "i8", -2, 1)  # repeated positions
    updates = draw((5, *x.shape[depth:]))
    expected = by_onnx("ScatterND", [x, indices, updates], {"reduction": reduction})
    check_op(ScatterND(reduction), [x, indices, updates], expected, units=0 if reduction in ("none", "min", "max") else 16)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "min", "max"])
@pytest.mark.parametrize("axis", [0, 1])
def test_scatter_elements_agrees_with_onnx(draw, by_onnx, check_op, reduction, axis):
    x, indices, updates = draw((4, 5)), draw((3, 4), "i8", 0, 3), draw((3, 4))  # repeated positions
    attributes = {"axis": axis, "reduction": reduction}
    expected = by_onnx("ScatterElements", [x, indices, updates], attributes)
    check_op(ScatterElements(axis, reduction), [x, indices, updates], expected, units=0 if reduction == "none" else 16)


def test_integers_scatter_in_their_own_type():
    x, indices, updates = np.zeros(2, np.int8), np.array([[0], [0]]), np.array([100, 100], np.int8)
    assert ScatterND("add").reference([x, indices, updates])[0].tolist() == [-56, 0]


def test_indices_out_of_range_are_clamped():
    x = np.array([1.0, 2.0, 3.0], "f4")
    indices = np.array([-9, -1, 0, 7])
    assert Gather(0).reference([x, indices])[0].tolist() == [1, 3, 1, 3]
    assert GatherElements(0).reference([x, indices])[0].tolist() == [1, 3, 1, 3]
    assert GatherND().reference([x, indices[:, None]])[0].tolist() == [1, 3, 1, 3]
    assert ScatterND().reference([x, np.array([[9]]), np.array([5.0], "f4")])[0].tolist() == [1, 2, 5]
    assert Gather(0).reference([x, np.array([2**64 - 1], np.uint64)])[0].tolist() == [3]


def test_magnitudes_do_not_touch_the_indices():
    x, indices = np.array([1.0, -2.0, 3.0], "f4"), np.array([-2])
    assert Gather(0).magnitude([x, indices])[0].tolist() == [2.0]
    assert ScatterND("add").magnitude([x, indices[:, None], np.array([2.0], "f4")])[0].tolist() == [1, 4, 3]


def kind(shape, dtype=DType.F32):
    return TensorType(dtype, shape)


def index(shape):
    return TensorType(DType.I64, shape)


@pytest.mark.parametrize(("op", "types", "message"), [
    (Gather(2), [kind((2, 3)), index((1,))], "axis is 2"),
    (Gather(0), [kind((2, 3)), kind((1,))], "indices have type f32, wanted an integer"),
    (Gather(0), [kind((0, 3)), index((1,))], "empty"),
    (GatherElements(0), [kind((2, 3)), index((2,))], "indices have rank 1, wanted that of x, 2"),
    (GatherElements(0), [kind((2, 3)), index((5, 4))], "axis 1 of indices has 4 elements, x has only 3"),
    (GatherND(2), [kind((2, 3)), index((2, 1))], "batch_dims is 2, wanted 0 <= batch_dims < 2"),
    (GatherND(1), [kind((2, 3)), index((3, 1))], "the batch sizes are [2] in x and [3] in indices"),
    (GatherND(), [kind((2, 3)), index((2, 3))], "rows of indices have 3 entries, wanted 1 to 2"),
    (ScatterND("mean"), [kind((2,)), index((1, 1)), kind((1,))], "reduction is 'mean'"),
    (ScatterND(), [kind((2, 3)), index((4, 1)), kind((4, 2))], "updates has shape [4, 2], wanted [4, 3]"),
    (ScatterND(), [kind((2, 3)), index((4, 3)), kind((4,))], "wanted 1 to 2 entries"),
    (ScatterND(), [kind((2, 3)), index((4, 1)), kind((4, 3), DType.F64)], "updates has type f64, wanted f32"),
    (ScatterND("add"), [kind((2,), DType.BOOL), index((1, 1)), kind((1,), DType.BOOL)], "does not take bool"),
    (ScatterElements(0), [kind((2, 3)), index((1, 2)), kind((1, 3))], "updates has shape [1, 3], wanted [1, 2]"),
])
def test_shape_rules_say_what_is_wrong(op, types, message):
    with pytest.raises(EdgeccError) as caught:
        op.infer(types)
    assert caught.value.code == "E110" and message in caught.value.message
