"""Resampling of a tensor to other sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np

from edgecc.ir.op import Op, present, register, required
from edgecc.ir.types import Array, DType, Shape, TensorType
from edgecc.ops import rules

RESIZE_MODES = ("nearest", "linear", "cubic")
COORDINATE_MODES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
                    "tf_crop_and_resize")
INDEPENDENT_MODES = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "asymmetric")
"""Coordinate modes in which the distance of two positions depends on the factor alone."""
NEAREST_MODES = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


LARGEST_UNIT = 4096
"""Of the weights of one axis."""

UNIT_SLACK = 2.0**-34
"""How far a weight may lie from a multiple: 255 of them are less than what f32 rounds off."""


@register
@dataclass(frozen=True)
class Resize(Op):
    """y[p0, p1, ...] = sum over taps of w0 * w1 * ... * x[q0, q1, ...]: each axis is resampled on its own.

    Position p of an axis lies at coordinate c in x (coordinate_mode, `coordinates`). "nearest" reads the element that
    nearest_mode rounds c to; "linear" the two around c, weighted by distance; "cubic" the four around c by the cubic
    convolution kernel with coefficient a (`axis_taps`). Taps outside x read the border element, or with
    exclude_outside weigh nothing and the others are scaled to a sum of 1. With "tf_crop_and_resize", positions whose
    coordinate lies outside x on some axis are extrapolation_value. With antialias, an axis that becomes shorter stretches
    the kernels of "linear" and "cubic" by size over result size, and scales their weights to a sum of 1.

    With units the weights of axis a are taken times units[a] and rounded to integers: x holds such integers that f32 holds every sum exactly.

    Shapes: x [D0..] -> y [sizes].
    Attributes: mode; units, one per axis, >= 1, or none; sizes, the shape of the result; scales, one per axis, > 0: result size over operand size as
        the model states it (coordinates use it); coordinate_mode; nearest_mode; cubic_coefficient a;
        exclude_outside; antialias; extrapolation_value; roi, (begin..., end...) over all axes, in units of the axis, only
        with "tf_crop_and_resize".
    Raises: E110 for unknown modes, wrong lengths, scales <= 0, an empty operand with a non-empty result, or
        interpolation of other types than floats, or with units than f32.
    Source: ONNX Resize-19 (aspect-ratio policies are the frontend's). Keys, "Cubic convolution
        interpolation for digital image processing", 1981. In float64, rounded once.
    """

    name: ClassVar[str] = "resize"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    mode: str
    sizes: Shape
    scales: tuple[float, ...]
    coordinate_mode: str = "half_pixel"
    nearest_mode: str = "round_prefer_floor"
    cubic_coefficient: float = -0.75
    exclude_outside: bool = False
    extrapolation_value: float = 0.0
    roi: tuple[float, ...] = ()
    antialias: bool = False
    units: tuple[int, ...] = ()

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The shape of the attribute sizes."""
        (x,) = required(inputs)
        for what, got, known in (("mode", self.mode, RESIZE_MODES),
                                 ("coordinate_mode", self.coordinate_mode, COORDINATE_MODES),
                                 ("nearest_mode", self.nearest_mode, NEAREST_MODES)):
            if got not in known:
                raise self.fail(f"{what} is {got!r}, wanted one of {', '.join(known)}", inputs)
        if self.units:
            if x.dtype is not DType.F32 or self.mode == "nearest" or self.coordinate_mode == "tf_crop_and_resize":
                raise self.fail("units are for f32 that is interpolated from elements of x", inputs)
            rules.check_lengths(self, inputs, x.rank, units=self.units)
            rules.check_minimum(self, inputs, 1, units=self.units)
        elif self.mode != "nearest":
            rules.check_float(self, "x", x, inputs)
        rules.check_lengths(self, inputs, x.rank, sizes=self.sizes, scales=self.scales)
        crops = self.coordinate_mode == "tf_crop_and_resize"
        rules.check_lengths(self, inputs, 2 * x.rank if crops else 0, roi=self.roi)
        if any(not (math.isfinite(s) and s > 0) for s in self.scales):
            raise self.fail(f"scales are {list(self.scales)}, wanted numbers > 0", inputs)
        if any(not math.isfinite(r) for r in (*self.roi, self.cubic_coefficient)):
            raise self.fail("roi and cubic_coefficient must be finite", inputs)
        y = rules.result_type(self, x.dtype, self.sizes, inputs)
        if y.count != 0 and x.count == 0:
            raise self.fail("x is empty, the result is not", inputs)
        return (y,)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """One axis after another in float64; nearest only moves elements."""
        (x,) = present(inputs)
        return (self._resampled(x, absolute=False).astype(x.dtype),)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """The sum of |weight| * |element|."""
        (x,) = present(inputs)
        return (self._resampled(np.abs(x), absolute=True),)

    def _resampled(self, x: Array, absolute: bool) -> Array:
        out = x if self.mode == "nearest" else rules.wide(x)
        for axis, size in enumerate(x.shape):
            indices, weights = scaled_taps(self, axis, size)
            if indices.shape[1] == 1 and np.all(weights == 1.0):
                out = np.take(out, indices[:, 0], axis=axis)
                continue
            column = [-1 if a == axis else 1 for a in range(x.ndim)]
            out = sum((np.take(out, indices[:, tap], axis=axis)
                       * (np.abs(weights[:, tap]) if absolute else weights[:, tap]).reshape(column)
                       for tap in range(indices.shape[1])), np.zeros(()))
        if self.coordinate_mode == "tf_crop_and_resize":
            outside = np.zeros((1,) * x.ndim, dtype=bool)
            for axis, size in enumerate(x.shape):
                at = coordinates(self, axis, size)
                outside = outside | ((at < 0) | (at > size - 1)).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
            fill = abs(self.extrapolation_value) if absolute else self.extrapolation_value
            out = np.where(outside, np.asarray(fill).astype(out.dtype), out)
        return np.asarray(out)


def coordinates(op: Resize, axis: int, size: int) -> Array:
    """For each position of a result axis, its coordinate in an operand axis of `size` elements (float64).

    Source: the table of coordinate_transformation_mode in ONNX Resize-19.
    """
    count, scale = int(op.sizes[axis]), op.scales[axis]
    position = np.arange(count, dtype=np.float64)
    match op.coordinate_mode:
        case "asymmetric":
            return position / scale
        case "align_corners":
            # The length of the result is not rounded here: of 4 elements by 0.6 it is 2.4.
            return position * ((size - 1) / (scale * size - 1)) if count > 1 else np.zeros(count)
        case "pytorch_half_pixel":
            return (position + 0.5) / scale - 0.5 if count > 1 else np.zeros(count)
        case "half_pixel_symmetric":
            offset = size / 2 * (1 - count / (scale * size)) if size else 0.0
            return offset + (position + 0.5) / scale - 0.5
        case "tf_crop_and_resize":
            begin, end = op.roi[axis], op.roi[len(op.sizes) + axis]
            if count > 1:
                return begin * (size - 1) + position * ((end - begin) * (size - 1) / (count - 1))
            return np.full(count, 0.5 * (begin + end) * (size - 1))
    return (position + 0.5) / scale - 0.5


def is_phased(op: Resize, axis: int) -> bool:
    """Whether what a position of an axis reads depends on its phase alone, whatever the sizes are: the factor is whole or one over a
    whole number, and no rule looks at the ends of the axis but to read the border."""
    scale = op.scales[axis]
    if scale == 1.0:
        return True
    is_special = op.coordinate_mode == "pytorch_half_pixel" and scale < 1.0  # a result of one element is the first one
    return (op.coordinate_mode in INDEPENDENT_MODES and not is_special and not op.exclude_outside and not op.antialias
            and scale == (float(round(scale)) if scale > 1.0 else 1.0 / round(1.0 / scale)))


def axis_taps(op: Resize, axis: int, size: int) -> tuple[Array, Array]:
    """The elements read along one axis of `size` elements, and their weights.

    Shapes: indices i64 [result size, taps], all in 0..size-1; weights f64 of the same shape. One tap for "nearest",
        up to two for "linear" and four for "cubic", more with antialias: those that weigh nothing at any position are left out, so that an
        axis that stays as it is has one tap of weight 1, and infinities do not spread along it.
    """
    at = coordinates(op, axis, size)
    if op.mode == "nearest":
        match op.nearest_mode:
            case "floor":
                nearest = np.floor(at)
            case "ceil":
                nearest = np.ceil(at)
            case "round_prefer_ceil":
                nearest = np.floor(at + 0.5)
            case _:
                nearest = np.ceil(at - 0.5)
        return _clamped(nearest[:, None], size), np.ones((len(at), 1))
    below = np.floor(at)
    ratio = at - below
    if op.antialias and op.scales[axis] < 1.0:
        offsets, weights = _stretched(op, ratio, op.scales[axis])
    elif op.mode == "linear":
        offsets, weights = np.array([0, 1]), np.stack([1.0 - ratio, ratio], axis=1)
    else:
        offsets, weights = np.array([-1, 0, 1, 2]), _cubic_weights(ratio, op.cubic_coefficient)
    taps = below[:, None] + offsets
    if op.exclude_outside:
        weights = np.where((taps < 0) | (taps > size - 1), 0.0, weights)
        total = weights.sum(axis=1, keepdims=True)
        weights = weights / np.where(total == 0.0, 1.0, total)
    weighs = np.any(weights != 0.0, axis=0)
    weighs[0] |= not weighs.any()
    return _clamped(taps[:, weighs], size), weights[:, weighs]


def scaled_taps(op: Resize, axis: int, size: int) -> tuple[Array, Array]:
    """`axis_taps` with the weights as they are summed: whole ones where the operator has units."""
    indices, weights = axis_taps(op, axis, size)
    return indices, np.rint(weights * op.units[axis]) if op.units else weights


def whole_unit(op: Resize, axis: int, size: int) -> int | None:
    """The least number that makes the weights of an axis integers, to the accuracy that coordinates are computed with; None where none does."""
    _, weights = axis_taps(op, axis, size)
    unit = math.lcm(*(Fraction(float(w)).limit_denominator(LARGEST_UNIT).denominator for w in np.unique(weights)))
    if unit > LARGEST_UNIT or np.abs(np.rint(weights * unit) / unit - weights).max(initial=0.0) > UNIT_SLACK:
        return None
    return unit


def _clamped(taps: Array, size: int) -> Array:
    return np.clip(taps, 0, max(size - 1, 0)).astype(np.int64)


def _stretched(op: Resize, ratio: Array, scale: float) -> tuple[Array, Array]:
    """Offsets and weights [positions, taps] of a kernel that is 1 / scale times as wide, at `ratio` beyond an element."""
    reach = math.ceil((1.0 if op.mode == "linear" else 2.0) / scale)
    offsets = np.arange(1 - reach, reach + 1)
    distance = np.abs(offsets - ratio[:, None]) * scale
    if op.mode == "linear":
        weights = np.maximum(1.0 - distance, 0.0)
    else:
        near, far = _cubic_near(distance, op.cubic_coefficient), _cubic_far(distance, op.cubic_coefficient)
        weights = np.where(distance <= 1.0, near, np.where(distance < 2.0, far, 0.0))
    return offsets, weights / weights.sum(axis=1, keepdims=True)


def _cubic_near(d: Array, a: float) -> Array:
    return ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0


def _cubic_far(d: Array, a: float) -> Array:
    return a * (((d - 5.0) * d + 8.0) * d - 4.0)


def _cubic_weights(ratio: Array, a: float) -> Array:
    """Keys' kernel at the distances 1+t, t, 1-t, 2-t: (a+2)d^3-(a+3)d^2+1 below 1, a(d^3-5d^2+8d-4) from 1 to 2."""
    return np.stack([_cubic_far(1.0 + ratio, a), _cubic_near(ratio, a), _cubic_near(1.0 - ratio, a), _cubic_far(2.0 - ratio, a)],
                    axis=1)
