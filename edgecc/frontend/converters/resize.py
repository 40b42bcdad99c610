"""Resize and Upsample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.computed_sizes import elements_of, size_of, sizes_of
from edgecc.frontend.converters.open_resize import Factor, needs_positions, resized_by_positions
from edgecc.frontend.known import known_data
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.dims import Dim, lower_bound
from edgecc.ir.graph import Value
from edgecc.ir.scalar import apply, literal
from edgecc.ir.types import DType
from edgecc.ops.matrix import MatMul
from edgecc.ops.resize import Resize, axis_taps
from edgecc.ops.rules import sizes_text

_MOST_TAPS = 32
"""Antialiasing that reads more elements for a result is a matrix product: the kernel would be written out too long."""

_MOST_TAPS_OF_ALL_AXES = 64
"""As many elements one kernel reads for a result: it is written out for each of them."""
_TAPS = {"nearest": 1, "linear": 2, "cubic": 4}
"""Elements read on an axis."""

_MODES = {"nearest": "nearest", "linear": "linear", "bilinear": "linear", "cubic": "cubic"}


def _mode(call: Call) -> str:
    mode = call.text("mode", "nearest")
    if mode not in _MODES:
        raise EdgeccError("E102", f"mode is '{printable(mode)}', wanted nearest, linear or cubic")
    return _MODES[mode]


def _old_resize(call: Call, scales: Sequence[float]) -> Value:
    """Opsets before 11: corners are aligned with a plain division, and nearest rounds towards the origin when
    enlarging and away from it when shrinking, as onnxruntime does."""
    x = call.input()
    _check_scales(scales, x)
    sizes = tuple(_scaled(call, size, scale)[1] for size, scale in zip(x.type.shape, scales, strict=True))
    mode = _mode(call)
    shrinks = any(scale < 1 for scale in scales)
    if mode == "nearest" and shrinks and any(scale > 1 for scale in scales):
        raise Unsupported("nearest resizing that enlarges one axis and shrinks another", "convert the model to opset 11")
    if sizes == x.type.shape:
        return x
    return _interpolated(call, Resize(mode, sizes, tuple(scales), "asymmetric", "ceil" if shrinks else "floor"), x, scales)


def _check_scales(scales: Sequence[float], x: Value) -> None:
    if len(scales) != x.type.rank or any(not (math.isfinite(scale) and scale > 0) for scale in scales):
        raise EdgeccError("E110", f"scales {list(scales)} do not fit {x.type}")


@converter("Upsample", since=7, until=8)
def _upsample_by_attribute(call: Call) -> Value:
    scales = call.floats("scales")
    if scales is None:
        raise EdgeccError("E102", "attribute scales is missing")
    return _old_resize(call, scales)


@converter("Upsample", since=9, until=9)
@converter("Resize", since=10, until=10)
def _resize_by_scales(call: Call) -> Value:
    return _old_resize(call, [float(scale) for scale in call.known(1, "scales").reshape(-1)])


@converter("Resize", since=11)
def _resize(call: Call) -> Value:
    x = call.input()
    scales = _factors(call)
    sizes = (sizes_of(call, 3, "sizes") or None) if call.optional(3) is not None else None
    if (scales is None) == (sizes is None):
        raise EdgeccError("E102", "exactly one of scales and sizes must be given")
    axes = tuple(call.axis(axis, x.type.rank) for axis in call.ints("axes") or range(x.type.rank))
    given = scales if scales is not None else sizes
    if given is None or len(given) != len(axes) or len(set(axes)) != len(axes):
        raise EdgeccError("E110", f"scales or sizes do not fit the {len(axes)} axes to resize of {x.type}")
    dims = x.type.shape
    factors: list[Factor] = [1.0] * x.type.rank
    wanted = list(dims)
    mode, coordinates = _mode(call), call.text("coordinate_transformation_mode", "half_pixel")
    roi = _region(call, x.type.rank, axes) if coordinates == "tf_crop_and_resize" else ()
    if scales is not None:
        _check_scales([1.0 if isinstance(scale, Value) else scale for scale in [*scales, *[1.0] * (x.type.rank - len(axes))]], x)
        for axis, scale in zip(axes, scales, strict=True):
            crop = roi[x.type.rank + axis] - roi[axis] if roi else 1.0
            factors[axis], wanted[axis] = _scaled(call, dims[axis], scale, crop)
    elif sizes is not None:
        _fit(call, tuple(sizes), axes, dims, factors, wanted)
    call.importer.limits.check_dims(wanted, "the result of Resize")
    if tuple(wanted) == dims and all(factor == 1.0 for factor in factors) and not roi:
        return x
    # Opset 11 calls a mode that later ones dropped: it aligns like half_pixel when reading the nearest element.
    nearest_mode = call.text("nearest_mode", "round_prefer_floor")
    if coordinates == "tf_half_pixel_for_nn":  # (p + 0.5) / scale: half a pixel further than half_pixel
        if mode != "nearest" or nearest_mode != "floor":
            raise Unsupported("coordinate_transformation_mode tf_half_pixel_for_nn without nearest_mode floor", "convert the model to opset 13")
        coordinates, nearest_mode = "half_pixel", "round_prefer_ceil"
    known = tuple(factor if isinstance(factor, float) else 1.0 for factor in factors)
    op = Resize(mode, tuple(wanted), known, printable(coordinates), printable(nearest_mode),
                call.number("cubic_coeff_a", -0.75), call.flag("exclude_outside"),
                call.number("extrapolation_value", 0.0), roi, call.flag("antialias") and mode != "nearest")
    return _interpolated(call, op, x, factors)


def _factors(call: Call) -> list[float | Value] | None:
    """The scales: numbers, or values of one element that the run computes; None where the operand is absent or empty."""
    value = call.optional(2)
    if value is None or value.type.count == 0:
        return None
    data = known_data(value)
    if data is None and value.type.rank == 1 and value.type.is_static and value.type.dtype.is_float:
        return list(elements_of(call, value))
    return [float(scale) for scale in call.known(2, "scales").reshape(-1)]


def _interpolated(call: Call, op: Resize, x: Value, factors: Sequence[Factor]) -> Value:
    """The operator on `x`. Interpolated integers are computed in f32 and cut off, as ONNX's reference and onnxruntime do."""
    dtype = x.type.dtype
    if op.mode == "nearest" or dtype.is_float:
        if needs_positions(op, x, factors):
            op.infer([x.type])
            return resized_by_positions(call, op, x, factors)
        resampled = sum(size != wanted or scale != 1 for size, wanted, scale in zip(x.type.shape, op.sizes, op.scales, strict=True))
        return _by_axes(call, op, x) if op.antialias or _TAPS[op.mode] ** resampled > _MOST_TAPS_OF_ALL_AXES else call.add(op, x)
    if not dtype.is_integer or dtype.size > 4:
        raise Unsupported(f"interpolation of elements of type {dtype.value}", "cast them to float before and back after")
    y = _interpolated(call, op, call.cast(x, DType.F32), factors)
    low, high = dtype.limits
    if dtype.size < 4:  # cubic interpolation overshoots
        y = call.map(lambda a: apply("min", apply("max", a, literal(float(low), DType.F32)), literal(float(high), DType.F32)), y)
    return call.cast(y, dtype)


def _by_axes(call: Call, op: Resize, x: Value) -> Value:
    """One axis after the other: the taps of antialiasing, or of many axes, would multiply. Many taps are a product with a matrix."""
    rank = x.type.rank
    for axis in range(rank):
        size, wanted = x.type.dims[axis], op.sizes[axis]
        crop = (op.roi[axis], op.roi[rank + axis]) if op.roi else (0.0, 1.0)
        if (size, op.scales[axis], crop) == (wanted, 1.0, (0.0, 1.0)):
            continue
        sizes = tuple(wanted if a == axis else d for a, d in enumerate(x.type.dims))
        roi = tuple(crop[0] if a == axis else 0.0 for a in range(rank)) + tuple(crop[1] if a == axis else 1.0 for a in range(rank))
        own = replace(op, sizes=sizes, scales=tuple(op.scales[axis] if a == axis else 1.0 for a in range(rank)),
                      roi=roi if op.roi else ())
        own.infer([x.type])
        indices, weights = axis_taps(own, axis, size)
        if indices.shape[1] <= _MOST_TAPS or op.roi:
            x = call.add(own, x)
            continue
        call.reserve((size, wanted), "the weights of Resize")
        matrix = np.zeros((size, len(indices)))
        np.add.at(matrix, (indices, np.arange(len(indices))[:, None]), weights)
        order = [*(a for a in range(rank) if a != axis), axis]
        rows = call.reshape(call.transpose(x, order), (math.prod(x.type.dims) // max(size, 1), size))
        product = call.add(MatMul(), rows, call.constant(matrix.astype(x.type.dtype.numpy)))
        moved = call.reshape(product, [sizes[a] for a in order])
        x = call.transpose(moved, [order.index(a) for a in range(rank)])
    return x


def _region(call: Call, rank: int, axes: Sequence[int]) -> tuple[float, ...]:
    """The region of interest as (begin..., end...) over all axes."""
    data = call.known(1, "roi").reshape(-1)
    if len(data) != 2 * len(axes) or not np.isfinite(data).all():
        raise EdgeccError("E110", f"roi has {len(data)} entries, wanted {2 * len(axes)} finite ones")
    begin, end = [0.0] * rank, [1.0] * rank
    for position, axis in enumerate(axes):
        begin[axis], end[axis] = float(data[position]), float(data[len(axes) + position])
    return (*begin, *end)


def _scaled(call: Call, size: Dim, factor: float | Value, crop: float = 1.0) -> tuple[Factor, Dim]:
    """The factor and floor(size * crop * factor), a number of the run unless both are known or the factor is whole.

    The product is rounded to f32, as onnxruntime does and exporters mean: 10 elements by a factor of 0.7, in f32 less than that, are 7.
    """
    if isinstance(factor, float):
        if isinstance(size, int):
            return factor, math.floor(np.float32(size * crop) * np.float32(factor))
        if factor.is_integer() and crop == 1.0:
            return factor, size * int(factor)
    product = _floor_of_product(call, size, factor, crop)
    return factor, size_of(call, product, "the size of the result of Resize")


def _floor_of_product(call: Call, size: Dim, factor: float | Value, crop: float) -> Value:
    """The integer floor(size * crop * factor)."""
    length = call.map(lambda n: apply("mul", n, literal(crop, DType.F32)), call.cast(call.reshape(call.sizes((size,)), ()), DType.F32))
    by = call.scalar(factor, DType.F32) if isinstance(factor, float) else call.cast(call.reshape(factor, ()), DType.F32)
    return call.cast(call.map(lambda a, b: apply("floor", apply("mul", a, b)), length, by), DType.I64)


def _ratio(size: Dim, old: Dim) -> float | None:
    """size / old; None where neither is a multiple of the other for all sizes of the run."""
    if isinstance(size, int) and isinstance(old, int):
        return size / old if old else 1.0
    try:
        return float(int(size // old)) if lower_bound(size) >= lower_bound(old) else 1 / int(old // size)
    except EdgeccError as error:
        if error.code != "E104":
            raise
        return None


def _fit(call: Call, sizes: Sequence[Dim], axes: Sequence[int], dims: Sequence[Dim], factors: list[Factor],
         wanted: list[Dim]) -> None:
    """Fills in factors and sizes of the result from given sizes and the policy on the aspect ratio."""
    if any(lower_bound(size) < 0 or (dims[axis] == 0 and size != 0) for size, axis in zip(sizes, axes, strict=True)):
        raise EdgeccError("E110", f"sizes {sizes_text(sizes)} do not fit {sizes_text(dims)}")
    policy = call.text("keep_aspect_ratio_policy", "stretch")
    if policy not in ("stretch", "not_larger", "not_smaller"):
        raise EdgeccError("E102", f"keep_aspect_ratio_policy is '{printable(policy)}'")
    ratios = [_ratio(size, dims[axis]) for size, axis in zip(sizes, axes, strict=True)]
    if policy == "stretch":
        for axis, size, ratio in zip(axes, sizes, ratios, strict=True):
            factors[axis], wanted[axis] = ratio if ratio != 0.0 else 1.0, size
        return
    numbers = [ratio for ratio in ratios if ratio is not None]
    if len(numbers) != len(ratios):
        raise EdgeccError("E104", f"the run decides which of the ratios of {sizes_text(sizes)} to {sizes_text([dims[a] for a in axes])} keeps the aspect",
                          hint="give the dimensions one size with --shape")
    factor = (min(numbers) if policy == "not_larger" else max(numbers)) or 1.0
    for axis in axes:
        factors[axis], wanted[axis] = factor, math.floor(factor * int(dims[axis]) + 0.5)
