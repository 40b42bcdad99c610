import itertools

import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.ir.scalar import Arg, apply, convert, literal
from edgecc.ir.types import DType, TensorType
from edgecc.ops.convolution import Conv, ConvTranspose, Pool, window_extents

F32 = DType.F32


@pytest.mark.parametrize(("group", "channels", "out"), [(1, 3, 4), (2, 4, 6), (3, 3, 6), (4, 4, 4)])
@pytest.mark.parametrize(("strides", "pads", "dilations"), [
    ((1, 1), (0, 0, 0, 0), (1, 1)), ((2, 1), (1, 0, 2, 1), (1, 1)), ((1, 3), (1, 2, 1, 2), (2, 1)), ((2, 2), (2, 2, 2, 2), (1, 2))])
@pytest.mark.parametrize("bias", [False, True])
def test_conv_agrees_with_onnx(draw, by_onnx, check_op, group, channels, out, strides, pads, dilations, bias):
    x, w = draw((2, channels, 7, 9)), draw((out, channels // group, 3, 2))
    b = draw((out,)) if bias else None
    attributes = {"strides": strides, "pads": pads, "dilations": dilations, "group": group}
    check_op(Conv(strides, pads, dilations, group), [x, w, b], by_onnx("Conv", [x, w, b], attributes), units=16)


@pytest.mark.parametrize("rank", [1, 3])
def test_conv_has_any_spatial_rank(draw, by_onnx, check_op, rank):
    x, w = draw((1, 2, *(6, 5, 4)[:rank])), draw((3, 2, *(3, 2, 1)[:rank]))
    strides, pads, dilations = (2,) * rank, (1,) * rank + (0,) * rank, (1,) * rank
    expected = by_onnx("Conv", [x, w], {"strides": strides, "pads": pads, "dilations": dilations})
    check_op(Conv(strides, pads, dilations), [x, w], expected, units=16)


def test_large_windows_are_summed_tap_by_tap(draw, monkeypatch):
    x, w = draw((2, 4, 7, 9)), draw((6, 2, 3, 2))
    op = Conv((2, 1), (1, 0, 2, 1), (1, 2), 2)
    (at_once,) = op.reference([x, w])
    monkeypatch.setattr("edgecc.ops.convolution.MAX_COLUMN_ELEMENTS", 1)
    np.testing.assert_allclose(op.reference([x, w])[0], at_once, rtol=1e-6, atol=1e-6)


def test_conv_of_an_empty_batch_is_empty():
    y = Conv((1, 1), (0,) * 4, (1, 1)).reference([np.zeros((0, 2, 3, 3), "f4"), np.zeros((4, 2, 3, 3), "f4")])[0]
    assert y.shape == (0, 4, 1, 1)


def test_epilogue_sees_the_rounded_sum_and_broadcast_operands(draw):
    x, w, b, scale = draw((1, 2, 4, 4)), draw((3, 2, 1, 1)), draw((3,)), draw((3, 1, 1))
    epilogue = apply("max", apply("mul", Arg(0, F32), Arg(1, F32)), literal(0.0, F32))
    op = Conv((1, 1), (0,) * 4, (1, 1), epilogue=epilogue)
    (plain,) = Conv((1, 1), (0,) * 4, (1, 1)).reference([x, w, b])
    (y,) = op.reference([x, w, b, scale])
    np.testing.assert_array_equal(y, np.maximum(plain * scale, 0).astype("f4"))
    (wide,) = op.reference([a.astype("f8") for a in (x, w, b, scale)])
    assert wide.dtype == np.float64 and np.max(np.abs(wide - y)) < 1e-5 and np.any(wide != y)


def test_an_epilogue_may_change_the_type(draw):
    op = Conv((1,), (0, 0), (1,), epilogue=convert(Arg(0, F32), DType.I32))
    x, w = draw((1, 1, 5)), draw((1, 1, 2))
    (kind,) = op.infer([TensorType.of(x), TensorType.of(w)])
    (y,) = op.reference([x, w])
    assert kind == TensorType(DType.I32, (1, 1, 4)) and y.dtype == np.int32


def test_magnitude_of_a_clamped_sum_is_that_of_its_terms():
    op = Conv((1,), (0, 0), (1,), epilogue=apply("min", Arg(0, F32), literal(6.0, F32)))
    x, w = np.array([[[1000.0, 999.0]]], "f4"), np.array([[[1.0, -1.0]]], "f4")
    assert op.reference([x, w])[0].item() == 1.0
    assert op.magnitude([x, w])[0].item() >= 1999.0


@pytest.mark.parametrize(("group", "out"), [(1, 3), (2, 2)])
@pytest.mark.parametrize(("strides", "pads", "dilations", "output_padding"), [
    ((1, 1), (0, 0, 0, 0), (1, 1), (0, 0)), ((2, 3), (1, 0, 0, 1), (1, 1), (1, 0)), ((2, 1), (1, 1, 1, 1), (2, 1), (0, 0))])
def test_conv_transpose_agrees_with_others(draw, by_onnx, by_onnxruntime, check_op, group, out, strides, pads, dilations,
                                           output_padding):
    x, w, b = draw((2, 4, 4, 5)), draw((4, out, 3, 2)), draw((out * group,))
    attributes = {"strides": strides, "pads": pads, "dilations": dilations, "group": group, "output_padding": output_padding}
    op = ConvTranspose(strides, pads, dilations, group, output_padding)
    run = by_onnx if group == 1 else by_onnxruntime  # onnx.reference mixes up groups of several channels
    check_op(op, [x, w, b], run("ConvTranspose", [x, w, b], attributes), units=16)


def test_conv_transpose_is_the_gradient_of_conv(draw):
    """<conv(x), z> = <x, conv_transpose(z)>, for a stride that leaves rows of x unread."""
    shape = ((2, 1), (1, 0, 0, 1), (1, 2), 2)
    x, w = draw((1, 4, 8, 7), "f8"), draw((6, 2, 3, 2), "f8")
    (y,) = Conv(*shape).reference([x, w])
    z = draw(y.shape, "f8")
    (back,) = ConvTranspose(*shape).reference([z, w])
    padded = np.zeros_like(x)
    padded[:, :, :back.shape[2], :back.shape[3]] = back
    np.testing.assert_allclose(np.vdot(y, z), np.vdot(x, padded), rtol=1e-12)


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize(("kernel", "strides", "pads", "dilations"), [
    ((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)), ((3, 2), (1, 2), (1, 1, 1, 0), (1, 1)), ((3, 3), (2, 3), (1, 0, 2, 2), (1, 1)),
    ((2, 3), (1, 1), (1, 1, 0, 1), (2, 1))])
@pytest.mark.parametrize(("ceil_mode", "include"), list(itertools.product([False, True], [False, True])))
def test_pool_agrees_with_onnx(draw, by_onnx, check_op, kind, kernel, strides, pads, dilations, ceil_mode, include):
    x = draw((2, 3, 7, 8))
    attributes = {"kernel_shape": kernel, "strides": strides, "pads": pads, "dilations": dilations, "ceil_mode": int(ceil_mode)}
    if kind == "average":
        attributes["count_include_pad"] = int(include)
    expected = by_onnx("MaxPool" if kind == "max" else "AveragePool", [x], attributes)
    check_op(Pool(kind, kernel, strides, pads, dilations, include, ceil_mode), [x], expected)


def test_pool_drops_a_window_that_starts_beyond_the_input():
    pool = Pool("max", (2,), (3,), (0, 0), (1,), ceil_mode=True)
    assert pool.infer([TensorType(F32, (1, 1, 6))])[0].dims == (1, 1, 2)
    assert pool.infer([TensorType(F32, (1, 1, 7))])[0].dims == (1, 1, 3)


def test_integers_can_be_pooled_by_maximum():
    x = np.array([[[-5, -7, -9]]], np.int8)
    y = Pool("max", (2,), (1,), (1, 0), (1,)).reference([x])[0]
    assert y.tolist() == [[[-5, -5, -7]]] and y.dtype == np.int8


def test_windows_of_padding_alone():
    x = np.ones((1, 1, 1), "f4")
    assert Pool("max", (2,), (1,), (1, 2), (2,)).reference([x])[0].tolist() == [[[-np.inf, 1.0]]]
    assert Pool("average", (2,), (1,), (1, 2), (2,)).reference([x])[0].tolist() == [[[0.0, 1.0]]]


def test_extents():
    assert window_extents((1, 3, 2), (9, 1, 4)) == (1, 3, 5)


PLAIN = ((1, 1), (0, 0, 0, 0), (1, 1))


@pytest.mark.parametrize(("op", "shapes", "message"), [
    (Conv(*PLAIN), [(1, 8, 3, 3), (4, 3, 3, 3)], "wants 3 input channels"),
    (Conv(*PLAIN, group=2), [(1, 4, 3, 3), (3, 2, 3, 3)], "multiple of 2 output channels"),
    (Conv(*PLAIN), [(1, 3, 2, 2), (4, 3, 3, 3)], "the kernel spans 3 elements of spatial axis 0, the padded input has 2"),
    (Conv(*PLAIN), [(1, 3, 4, 4), (4, 3, 3, 3), (5,)], "b has shape [5], wanted [4]"),
    (Conv(*PLAIN), [(3, 4, 4), (4, 3, 3)], "strides is [1, 1], wanted 1 entries"),
    (Conv(*PLAIN), [(3, 4), (4, 3)], "wanted equal ranks of at least 3"),
    (Conv((1, 0), (0,) * 4, (1, 1)), [(1, 3, 4, 4), (4, 3, 1, 1)], "strides is [1, 0], wanted numbers >= 1"),
    (Conv((1, 1), (0, 0, -1, 0), (1, 1)), [(1, 3, 4, 4), (4, 3, 1, 1)], "pads is [0, 0, -1, 0], wanted numbers >= 0"),
    (Conv(*PLAIN), [(1, 3, 4, 4), (4, 3, 1, 1), None, (4, 1, 1)], "no epilogue"),
    (Conv(*PLAIN, epilogue=Arg(1, F32)), [(1, 3, 4, 4), (4, 3, 1, 1)], "reads operand 1, there are 1"),
    (Conv(*PLAIN, epilogue=Arg(1, F32)), [(1, 3, 4, 4), (4, 3, 1, 1), None, (5, 1, 1)], "does not broadcast"),
    (Conv(*PLAIN, epilogue=Arg(0, DType.F16)), [(1, 3, 4, 4), (4, 3, 1, 1)], "reads operand 0 as f16, it is f32"),
    (Conv((1, 1), (0, 0, 2**40, 2**40), (1, 1)), [(1, 3, 4, 4), (4, 3, 1, 1)], "more than 2^40 elements"),
    (ConvTranspose(*PLAIN), [(1, 3, 4, 4), (4, 3, 1, 1)], "wants 4 input channels"),
    (ConvTranspose((1, 1), (3, 0, 3, 0), (1, 1)), [(1, 3, 4, 4), (3, 3, 1, 1)], "negative size"),
    (ConvTranspose(*PLAIN, output_padding=(1,)), [(1, 3, 4, 4), (3, 3, 1, 1)], "output_padding is [1], wanted 2 entries"),
    (Pool("median", (1, 1), *PLAIN), [(1, 3, 4, 4)], "kind is 'median'"),
    (Pool("max", (5, 1), *PLAIN), [(1, 3, 4, 4)], "the window spans 5 elements"),
    (Pool("max", (1,), *PLAIN), [(1, 3, 4, 4)], "kernel is [1], wanted 2 entries"),
])
def test_shape_rules_say_what_is_wrong(op, shapes, message):
    with pytest.raises(EdgeccError) as caught:
        op.infer([None if s is None else TensorType(F32, s) for s in shapes])
    assert caught.value.code == "E110" and message in caught.value.message


def test_types_must_be_floats_and_equal():
    x = TensorType(F32, (1, 1, 3))
    with pytest.raises(EdgeccError, match="w has type f16, wanted f32"):
        Conv((1,), (0, 0), (1,)).infer([x, TensorType(DType.F16, (1, 1, 1))])
    with pytest.raises(EdgeccError, match="x has type i32, wanted a float"):
        Pool("average", (1,), (1,), (0, 0), (1,)).infer([TensorType(DType.I32, (1, 1, 3))])
