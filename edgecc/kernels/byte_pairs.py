"""Sums and products of two bytes that are rounded to quantized integers: multiply-adds where no pair of bytes tells them apart.

    nearest(f32(a - za) * sa + f32(b - zb) * sb) + z    ->    nearest(fma(a, ta, fma(b, tb, c)))
    nearest(f32((a - za) * (b - zb)) * s) + z           ->    nearest(fma(a, f, g))     with f = f32(b - zb) * t, g = fma(f, -za, z)

All zero points are in one number, and the second form needs two operations on vectors where b is a factor that comes again, such as
one for each channel. Both forms are off the real number by some roundings of f32, so they differ where that lies as near to a tie, which a
few of the 65,536 pairs do. Factors that are off by a unit in the last place move those numbers: the nearest ones with which every pair
gives the same integer are taken, and where there are none the first form stays.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgecc.ir.types import Array, DType
from edgecc.loop.arithmetic import operation
from edgecc.loop.builder import Builder, add, cast, fma, mul, sub
from edgecc.loop.ir import Cast, Const, Expr, Op, Ref, map_children
from edgecc.targets.schema import Target

F32, I32 = DType.F32, DType.I32
BYTES = (DType.I8, DType.U8)

UNITS = 2
"""Units in the last place that factors may be off."""

MOST = 2.0**12
"""Results of larger magnitude are left alone: roundings of f32 would be no small part of a step."""

MOST_NEAR = 2048
"""Where more pairs lie near ties, scales are powers of two or nearly so, and other factors would move all of them: none are tried."""

NEAR = 2.0**-9
"""Pairs whose real result is no nearer to a tie get the same integer from either form: together they are off by less."""


@dataclass(frozen=True)
class Bytes:
    """An operand of a sum or product: integers of this type, less a zero point."""

    dtype: DType
    zero: int

    def codes(self) -> Array:
        """All of them, i64."""
        low, high = (int(limit) for limit in self.dtype.limits)
        return np.arange(low, high + 1, dtype=np.int64)


@dataclass(frozen=True)
class _Found:
    """`operands` (bytes) and `kinds` of a rounded sum with a scale for each, or of a product with one scale, and the zero point of the result."""

    operands: tuple[Expr, Expr]
    kinds: tuple[Bytes, Bytes]
    scales: tuple[float, ...]
    zero: int


@dataclass(frozen=True)
class Prepared:
    """What the integers of the other operand are multiplied with, and what is added before and after rounding.

    `factor` names the local that they are made of.
    """

    factor: str
    scale: Expr
    offset: Expr
    zero: int


def with_fewer_operations(value: Expr, target: Target, prepared: Prepared | None = None) -> Expr:
    """`value`, a vector, with the sums of two bytes that are rounded in it by multiply-adds, and products with the factor that is `prepared`.

    Only on machines that have multiply-adds of vectors; everything else comes back as it is.
    """
    if not _has_multiply_adds(value, target):
        return value
    found = _found(value)
    if found is None:
        return map_children(value, lambda child: with_fewer_operations(child, target, prepared))
    a, b = found.operands
    if len(found.scales) == 1:
        if prepared is None or not isinstance(b, Ref) or b.name != prepared.factor:
            return value
        return _nearest(fma(_real(a), prepared.scale, prepared.offset), prepared.zero)
    for inside, outside in _zeros(found.zero):
        terms = sum_of(found.kinds, found.scales, inside)
        if terms is not None:
            first, second, offset = terms
            return _nearest(fma(_real(a), first, fma(_real(b), second, offset)), outside)
    return value


def _has_multiply_adds(value: Expr, target: Target) -> bool:
    """Whether the machine multiplies and adds vectors such as `value` in one instruction."""
    return value.lanes > 1 and (target.has("neon") or target.has("avx2", "fma"))


def prepare(b: Builder, value: Expr, target: Target) -> Prepared | None:
    """Binds the factors of a product in `value` in front of a loop, where one of its operands is a local; None where nothing is gained."""
    if not _has_multiply_adds(value, target):
        return None
    found = _found(value)
    if found is None:
        return next(filter(None, (prepare(b, child, target) for child in value.children())), None)
    factor = found.operands[1]
    if len(found.scales) != 1 or not isinstance(factor, Ref):
        return None
    for inside, outside in _zeros(found.zero):
        scale = product_of(found.kinds, found.scales[0], inside)
        if scale is not None:
            wide = cast(factor, I32)
            own = b.let("f", mul(cast(sub(wide, found.kinds[1].zero) if found.kinds[1].zero else wide, F32), scale))
            zero = Const(float(inside), F32, value.lanes)
            offset = b.let("g", fma(own, -float(found.kinds[0].zero), zero)) if found.kinds[0].zero else zero
            return Prepared(factor.name, own, offset, outside)
    return None


def _zeros(zero: int) -> list[tuple[int, int]]:
    """What of a zero point to add before rounding and what after it: an odd one moves ties between even and odd numbers."""
    return [(zero, 0), (0, zero)] if zero else [(0, 0)]


def _real(integers: Expr) -> Expr:
    return cast(cast(integers, I32), F32)


def _nearest(value: Expr, zero: int) -> Expr:
    rounded = Op("nearest", (value,), I32, value.lanes)
    return add(rounded, zero) if zero else rounded


# -- recognising --------------------------------------------------------------------------------


def _found(value: Expr) -> _Found | None:
    """A rounded sum or product, with the zero point that is added to it, taken apart. Of a product a local is the second operand."""
    match value:
        case Op("add", (Op("nearest", (real,)), Const(value=zero))):
            offset = int(zero)
        case Op("nearest", (real,)):
            offset = 0
        case _:
            return None
    match real:
        case Op("add", (Op("mul", (Cast(arg=left), Const(value=first))), Op("mul", (Cast(arg=right), Const(value=second))))):
            scales: tuple[float, ...] = (float(first), float(second))
        case Op("mul", (Cast(arg=Op("mul", (left, right))), Const(value=scale))):
            scales = (float(scale),)
        case _:
            return None
    operands = tuple(filter(None, (_bytes(left), _bytes(right))))
    if len(operands) != 2:
        return None
    if len(scales) == 1 and isinstance(operands[0][0], Ref) and not isinstance(operands[1][0], Ref):
        operands = operands[::-1]
    (a, own), (b, other) = operands
    return _Found((a, b), (own, other), scales, offset)


def _bytes(integer: Expr) -> tuple[Expr, Bytes] | None:
    match integer:
        case Op("sub", (Cast(arg=inner, dtype=DType.I32), Const(value=zero))) if inner.dtype in BYTES:
            return inner, Bytes(inner.dtype, int(zero))
        case Cast(arg=inner, dtype=DType.I32) if inner.dtype in BYTES:
            return inner, Bytes(inner.dtype, 0)
    return None


# -- proving ------------------------------------------------------------------------------------


@functools.cache
def sum_of(kinds: tuple[Bytes, Bytes], scales: tuple[float, ...], zero: int) -> tuple[float, float, float] | None:
    """Factors of both operands and the offset with which the sum of all pairs is rounded to the same integers; None where there are none."""
    a, b = ((kind.codes() - kind.zero).astype(np.float32) for kind in kinds)
    (s, t) = map(np.float32, scales)
    with np.errstate(all="ignore"):
        wanted = np.rint((a * s)[:, None] + (b * t)[None, :])
        real = a.astype(np.float64)[:, None] * float(s) + b.astype(np.float64)[None, :] * float(t)
    near = _near_ties(real)
    if near is None:
        return None
    x, y = (kind.codes().astype(np.float32) for kind in kinds)
    offset = np.float32(zero - kinds[0].zero * float(s) - kinds[1].zero * float(t))
    fused = operation("fma", F32, F32)

    def sums(x: Array, y: Array, first: np.float32, second: np.float32, offset: np.float32) -> Array:
        return np.asarray(np.rint(fused(x, first, fused(y, second, offset)))) - np.float32(zero)

    rows, columns = near
    for factors in _neighbours(len(rows), s, t, offset):
        if np.array_equal(sums(x[rows], y[columns], *factors), wanted[rows, columns]) and np.array_equal(sums(x[:, None], y[None, :], *factors), wanted):
            first, second, third = map(float, factors)
            return first, second, third
    return None


@functools.cache
def product_of(kinds: tuple[Bytes, Bytes], scale: float, zero: int) -> float | None:
    """The scale with which the product of all pairs is rounded to the same integers; None where there is none."""
    a, b = (kind.codes() - kind.zero for kind in kinds)
    product = np.multiply.outer(a, b)
    with np.errstate(all="ignore"):
        wanted = np.rint(product.astype(np.float32) * np.float32(scale))
        near = _near_ties(product * float(np.float32(scale)))
    if near is None:
        return None
    x, y = kinds[0].codes().astype(np.float32), b.astype(np.float32)
    fused = operation("fma", F32, F32)

    def products(x: Array, y: Array, own: np.float32) -> Array:
        factor = y * own
        return np.asarray(np.rint(fused(x, factor, fused(factor, np.float32(-kinds[0].zero), np.float32(zero))))) - np.float32(zero)

    rows, columns = near
    for (own,) in _neighbours(len(rows), np.float32(scale)):
        if np.array_equal(products(x[rows], y[columns], own), wanted[rows, columns]) and np.array_equal(products(x[:, None], y[None, :], own), wanted):
            return float(own)
    return None


def _near_ties(real: Array) -> tuple[Array, Array] | None:
    """Places of the numbers that lie near a tie; None where they are too large."""
    if not np.isfinite(real).all() or np.abs(real).max() > MOST:
        return None
    rows, columns = np.nonzero(np.abs(real - np.floor(real) - 0.5) < NEAR)
    return rows, columns


def _neighbours(near: int, *values: np.float32) -> Iterator[tuple[np.float32, ...]]:
    """All combinations of floats up to `UNITS` from these, those nearest first; they alone where many pairs are `near` ties."""
    units = UNITS if near <= MOST_NEAR else 0
    steps = sorted(itertools.product(range(-units, units + 1), repeat=len(values)), key=lambda own: (sum(map(abs, own)), own))
    for own in steps:
        yield tuple(np.float32(value + count * np.spacing(value)) for value, count in zip(values, own, strict=True))
