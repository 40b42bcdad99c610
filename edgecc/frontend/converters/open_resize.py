"""Resize where the run decides on sizes or factors in a way that no table of phases describes.

Each axis is resampled on its own: the coordinates of its positions are computed, the elements around them gathered and
weighted. `axis_taps` and `coordinates` in edgecc/ops/resize.py say the same for sizes that are known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.ir.dims import Dim
from edgecc.ir.graph import Value
from edgecc.ir.scalar import ScalarExpr, apply, convert, literal
from edgecc.ir.types import DType
from edgecc.ops.indexing import Gather
from edgecc.ops.resize import Resize, is_phased

Factor = float | Value | None
"""How much longer an axis becomes: a number, one that the run computes, or the quotient of the sizes."""


def needs_positions(op: Resize, x: Value, factors: Sequence[Factor]) -> bool:
    """Whether the kernels of `op` on `x` do not do, because they know all sizes, or the phases of open axes."""
    dims = x.type.shape
    resized = [axis for axis, factor in enumerate(factors) if factor != 1.0 or dims[axis] != op.sizes[axis]]
    is_open = {axis for axis, pair in enumerate(zip(dims, op.sizes, strict=True)) if not all(isinstance(size, int) for size in pair)}
    if any(not isinstance(factors[axis], float) for axis in resized):
        return True
    alone = len(is_open) <= 1 and not is_open & set(resized)  # a batch: the kernel of one member is repeated
    return not alone and not all(is_phased(op, axis) for axis in resized)


def resized_by_positions(call: Call, op: Resize, x: Value, factors: Sequence[Factor]) -> Value:
    """`x` resampled to the sizes of `op`, one axis after the other, by `factors` instead of the scales of `op`.

    Raises: EdgeccError E104 in modes that need the sizes while compiling.
    """
    if op.antialias or op.roi:
        raise EdgeccError("E104", "the run decides on sizes of a resampling with " + ("antialias" if op.antialias else "a region of interest"),
                          hint="give its dimensions one size with --shape")
    for axis, factor in enumerate(factors):
        if factor != 1.0 or x.type.shape[axis] != op.sizes[axis]:
            x = _along(call, op, x, axis, factor)
    return x


def _along(call: Call, op: Resize, x: Value, axis: int, factor: Factor) -> Value:
    rank, dtype = x.type.rank, x.type.dtype
    old, new = _number(call, x.type.shape[axis]), _number(call, op.sizes[axis])
    if factor is None:
        scale = call.map(lambda n, o: apply("div", n, o), new, old)
    else:
        scale = call.scalar(factor, DType.F64) if isinstance(factor, float) else call.cast(call.reshape(factor, ()), DType.F64)
    position = call.cast(call.positions(op.sizes[axis]), DType.F64)
    at = call.map(lambda *args: _coordinate(op.coordinate_mode, *args), position, scale, old, new)

    def gathered(tap: Value) -> Value:
        inside = call.map(lambda t, o: apply("max", apply("min", t, apply("sub", o, _f64(1.0))), _f64(0.0)), tap, old)
        return call.add(Gather(axis), x, call.cast(inside, DType.I64))

    if op.mode == "nearest":
        return gathered(call.map(_ROUNDED[op.nearest_mode], at))
    below = call.map(lambda a: apply("floor", a), at)
    ratio = call.map(lambda a, b: apply("sub", a, b), at, below)
    taps: list[Value] = []
    weights: list[Value] = []
    for offset, weight in _taps(op):
        taps.append(call.map(lambda b, offset=offset: apply("add", b, _f64(offset)), below))
        weights.append(call.map(weight, ratio))
        if op.exclude_outside:
            weights[-1] = call.map(lambda w, t, o: apply("select", apply("and", apply("le", _f64(0.0), t), apply("lt", t, o)), w, _f64(0.0)),
                                   weights[-1], taps[-1], old)
    if op.exclude_outside:
        total = reduce(lambda a, b: call.map(lambda c, d: apply("add", c, d), a, b), weights)
        weights = [call.map(lambda w, t: apply("div", w, apply("select", apply("eq", t, _f64(0.0)), _f64(1.0), t)), w, total) for w in weights]
    column = [op.sizes[axis] if a == axis else 1 for a in range(rank)]
    parts = [call.map(lambda e, w: apply("mul", e, convert(w, dtype)), gathered(tap), call.reshape(weight, column))
             for tap, weight in zip(taps, weights, strict=True)]
    return reduce(lambda a, b: call.map(lambda c, d: apply("add", c, d), a, b), parts)


def _number(call: Call, size: Dim) -> Value:
    """A dimension as an f64 of rank 0."""
    return call.cast(call.reshape(call.sizes((size,)), ()), DType.F64)


def _f64(value: float) -> ScalarExpr:
    return literal(value, DType.F64)


def _coordinate(mode: str, position: ScalarExpr, scale: ScalarExpr, old: ScalarExpr, new: ScalarExpr) -> ScalarExpr:
    """Where a position of the result lies on the operand's axis."""
    half = apply("sub", apply("div", apply("add", position, _f64(0.5)), scale), _f64(0.5))
    is_long = apply("lt", _f64(1.0), new)
    match mode:
        case "asymmetric":
            return apply("div", position, scale)
        case "align_corners":
            last, end = apply("sub", old, _f64(1.0)), apply("sub", apply("mul", scale, old), _f64(1.0))
            return apply("select", is_long, apply("mul", position, apply("div", last, end)), _f64(0.0))
        case "pytorch_half_pixel":
            return apply("select", is_long, half, _f64(0.0))
        case "half_pixel_symmetric":
            kept = apply("div", new, apply("mul", scale, old))
            return apply("add", apply("mul", apply("div", old, _f64(2.0)), apply("sub", _f64(1.0), kept)), half)
    return half


_ROUNDED: Mapping[str, Callable[[ScalarExpr], ScalarExpr]] = {
    "floor": lambda a: apply("floor", a),
    "ceil": lambda a: apply("ceil", a),
    "round_prefer_ceil": lambda a: apply("floor", apply("add", a, _f64(0.5))),
    "round_prefer_floor": lambda a: apply("ceil", apply("sub", a, _f64(0.5))),
}


def _taps(op: Resize) -> list[tuple[float, Callable[[ScalarExpr], ScalarExpr]]]:
    """Offsets from the element below a coordinate, and their weights by what the coordinate is beyond it."""
    def beyond(r: ScalarExpr) -> ScalarExpr:
        return apply("sub", _f64(1.0), r)

    if op.mode == "linear":
        return [(0.0, beyond), (1.0, lambda r: r)]
    a = op.cubic_coefficient
    near, far = (a + 2.0, -(a + 3.0), 0.0, 1.0), (a, -5.0 * a, 8.0 * a, -4.0 * a)
    return [(-1.0, lambda r: _polynomial(far, apply("add", r, _f64(1.0)))), (0.0, lambda r: _polynomial(near, r)),
            (1.0, lambda r: _polynomial(near, beyond(r))), (2.0, lambda r: _polynomial(far, apply("add", beyond(r), _f64(1.0))))]


def _polynomial(coefficients: Sequence[float], x: ScalarExpr) -> ScalarExpr:
    """By Horner's rule, the highest power first."""
    return reduce(lambda total, c: apply("add", apply("mul", total, x), _f64(c)), coefficients[1:], _f64(coefficients[0]))
