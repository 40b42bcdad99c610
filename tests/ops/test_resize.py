from dataclasses import replace

import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.ir.types import DType, TensorType
from edgecc.ops.resize import COORDINATE_MODES, NEAREST_MODES, Resize, axis_taps, coordinates, whole_unit

# Sizes that are exact products: elsewhere onnx.reference takes size * scale, no integer, for the size of the result.
SIZES = [((1, 2, 8, 16), (1, 1, 2, 2)), ((1, 2, 2, 10), (1, 1, 0.5, 1.25)), ((1, 2, 6, 3), (1, 1, 1.5, 0.375))]
PLAIN_MODES = [m for m in COORDINATE_MODES if m != "tf_crop_and_resize"]


def resized_by_onnx(by_onnx, x, scales=None, sizes=None, roi=None, **attributes):
    arrays = [x, roi, None if scales is None else np.array(scales, "f4"), None if sizes is None else np.array(sizes)]
    return by_onnx("Resize", arrays, attributes, opset=19)


@pytest.mark.parametrize("coordinate_mode", PLAIN_MODES)
@pytest.mark.parametrize("nearest_mode", NEAREST_MODES)
@pytest.mark.parametrize(("sizes", "scales"), SIZES)
def test_nearest_agrees_with_onnx(draw, by_onnx, check_op, coordinate_mode, nearest_mode, sizes, scales):
    x = draw((1, 2, 4, 8))
    scales = tuple(float(np.float32(s)) for s in scales)
    expected = resized_by_onnx(by_onnx, x, scales, mode="nearest", coordinate_transformation_mode=coordinate_mode,
                               nearest_mode=nearest_mode)
    check_op(Resize("nearest", sizes, scales, coordinate_mode, nearest_mode), [x], expected, units=0)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("coordinate_mode", PLAIN_MODES)
@pytest.mark.parametrize(("sizes", "scales"), SIZES)
@pytest.mark.parametrize("exclude", [False, True])
def test_interpolation_agrees_with_onnx(draw, by_onnx, check_op, mode, coordinate_mode, sizes, scales, exclude):
    x = draw((1, 2, 4, 8))
    scales = tuple(float(np.float32(s)) for s in scales)
    expected = resized_by_onnx(by_onnx, x, scales, mode=mode, coordinate_transformation_mode=coordinate_mode,
                               exclude_outside=int(exclude), cubic_coeff_a=-0.6)
    op = Resize(mode, sizes, scales, coordinate_mode, cubic_coefficient=float(np.float32(-0.6)), exclude_outside=exclude)
    check_op(op, [x], expected, units=256)  # onnx.reference computes cubic weights in float32


@pytest.mark.parametrize("coordinate_mode", ["half_pixel", "asymmetric", "half_pixel_symmetric", "pytorch_half_pixel"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_scales_that_do_not_divide_agree(draw, by_onnx, check_op, coordinate_mode, mode):
    x = draw((4, 9))
    scales = tuple(float(np.float32(s)) for s in (0.8, 1.3))
    expected = resized_by_onnx(by_onnx, x, scales, mode=mode, coordinate_transformation_mode=coordinate_mode)
    check_op(Resize(mode, (3, 11), scales, coordinate_mode), [x], expected, units=256)


@pytest.mark.parametrize("coordinate_mode", ["pytorch_half_pixel", "align_corners"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_a_result_of_one_element_agrees(draw, by_onnxruntime, check_op, coordinate_mode, mode):
    x = draw((1, 1, 4, 8))
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinate_mode}
    expected = by_onnxruntime("Resize", [x, None, None, np.array([1, 1, 1, 1])], attributes, opset=19)
    check_op(Resize(mode, (1, 1, 1, 1), (1.0, 1.0, 0.25, 0.125), coordinate_mode), [x], expected, units=64)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_sizes_give_scales(draw, by_onnx, check_op, mode):
    x = draw((1, 1, 3, 4))
    expected = resized_by_onnx(by_onnx, x, sizes=(1, 1, 7, 9), mode=mode)
    check_op(Resize(mode, (1, 1, 7, 9), (1.0, 1.0, 7 / 3, 9 / 4)), [x], expected, units=64)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("roi", [(0, 0, 0.2, 0.1, 1, 1, 0.7, 0.9), (0, 0, -0.3, 0.4, 1, 1, 0.5, 1.6)])
def test_crop_and_resize_agrees_with_onnx(draw, by_onnx, check_op, mode, roi):
    x, roi = draw((1, 2, 4, 5)), np.array(roi, "f4")
    expected = resized_by_onnx(by_onnx, x, sizes=(1, 2, 3, 6), roi=roi, mode=mode,
                               coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=10.0)
    op = Resize(mode, (1, 2, 3, 6), (1.0, 1.0, 0.75, 1.2), "tf_crop_and_resize", extrapolation_value=10.0,
                roi=tuple(float(r) for r in roi))
    check_op(op, [x], expected, units=64)


def test_nearest_takes_any_type():
    x = np.array([[True, False]])
    assert Resize("nearest", (1, 4), (1.0, 2.0), "asymmetric", "floor").reference([x])[0].tolist() == [[True, True, False, False]]


def test_taps_stay_inside_and_weights_sum_to_one():
    for mode in ("nearest", "linear", "cubic"):
        indices, weights = axis_taps(Resize(mode, (9,), (2.25,)), 0, 4)
        assert indices.min() >= 0 and indices.max() <= 3
        np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-12)


def test_aligned_corners_meet():
    assert coordinates(Resize("linear", (5,), (5 / 3,), "align_corners"), 0, 3).tolist() == [0, 0.5, 1, 1.5, 2]


X = TensorType(DType.F32, (2, 3))


@pytest.mark.parametrize(("op", "x", "message"), [
    (Resize("area", (2, 3), (1.0, 1.0)), X, "mode is 'area'"),
    (Resize("linear", (2, 3), (1.0, 1.0), "half"), X, "coordinate_mode is 'half'"),
    (Resize("nearest", (2, 3), (1.0, 1.0), nearest_mode="up"), X, "nearest_mode is 'up'"),
    (Resize("linear", (2, 3), (1.0,)), X, "scales is [1.0], wanted 2 entries"),
    (Resize("linear", (2, 3), (1.0, 0.0)), X, "scales are [1.0, 0.0], wanted numbers > 0"),
    (Resize("linear", (2, 3), (1.0, float("nan"))), X, "wanted numbers > 0"),
    (Resize("linear", (2, 3), (1.0, 1.0), "tf_crop_and_resize"), X, "roi is [], wanted 4 entries"),
    (Resize("linear", (2, 3), (1.0, 1.0)), TensorType(DType.U8, (2, 3)), "x has type u8, wanted a float"),
    (Resize("linear", (2, 3), (1.0, 1.0)), TensorType(DType.F32, (0, 3)), "x is empty"),
    (Resize("linear", (2, 3), (1.0, 1.0), units=(1,)), X, "units is [1], wanted 2 entries"),
    (Resize("linear", (2, 3), (1.0, 1.0), units=(1, 0)), X, "units"),
    (Resize("nearest", (2, 3), (1.0, 1.0), units=(1, 1)), X, "units are for f32"),
    (Resize("linear", (2, 3), (1.0, 1.0), units=(1, 1)), TensorType(DType.U8, (2, 3)), "units are for f32"),
    (Resize("linear", (2, -3), (1.0, 1.0)), X, "negative size"),
])
def test_shape_rule_says_what_is_wrong(op, x, message):
    with pytest.raises(EdgeccError) as caught:
        op.infer([x])
    assert caught.value.code == "E110" and message in caught.value.message


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_taps_without_weight_are_left_out(mode):
    kept, weights = axis_taps(Resize(mode, (4,), (1.0,)), 0, 4)
    assert kept.tolist() == [[0], [1], [2], [3]] and weights.tolist() == [[1.0]] * 4
    halved, _ = axis_taps(Resize(mode, (3,), (0.5,), coordinate_mode="asymmetric"), 0, 6)
    assert halved.tolist() == [[0], [2], [4]]


def test_units_make_sums_of_integers():
    x = np.arange(-6, 6, dtype=np.float32).reshape(3, 4)
    op = Resize("linear", (6, 6), (2.0, 1.5))
    units = tuple(whole_unit(op, axis, size) for axis, size in enumerate(x.shape))
    assert units == (4, 6)
    (sums,) = replace(op, units=units).reference([x])
    assert (sums == np.rint(sums)).all()
    np.testing.assert_allclose(sums / 24, op.reference([x])[0], atol=1e-6)
    assert whole_unit(Resize("linear", (5,), (float(np.float32(5 / 3)),)), 0, 3) is None, "no weight is quite a tenth"
