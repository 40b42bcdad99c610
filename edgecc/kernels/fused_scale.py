"""Integer sums times their scale in one multiply-add, where sums are floats already (edgecc/kernels/shifted_sums.py).

A sum that starts from the bits of a float M, an integer in [2**23, 2**24), is the float M + acc. Taking M away again takes an instruction.
With a scale s = m * 2**e, m an integer of 24 bits, a multiply-add does it on the way, whose only rounding is that of the product:

    acc = bits(M) + bias;  acc += x * w ...;  f32(acc) * s  =  fma(float(acc), s, -M * s)

That needs M * s to be an f32. The product M * m has 47 or 48 bits, so there is an M for it in rare cases only; but M may be another one for each
channel, and there always is one where M * m is r above a multiple of 2**24 (or of 2**23, if it is below 2**47), r being 1, -1, 2, ...:
M = r / m modulo that power of two. The multiply-add then gives acc * s + r * 2**e, rounded once, instead of acc * s: less than a millionth of what
one more in the sum would be. It rounds to another integer only where acc * s lies at a tie, and for each tie there is one sum that can: all of them
are tried, and another r is taken where one differs. So the integers are the same, to the last one.

On machines whose multiply-adds write over what is added to, the loads of -M * s take the place of the subtractions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgecc.ir.scalar import Apply, Convert, Literal, ScalarExpr
from edgecc.ir.types import Array, DType
from edgecc.kernels.integer_bounds import sum_ranges
from edgecc.ops.convolution import Conv
from edgecc.ops.matrix import MatMul
from edgecc.ops.rules import NARROW_INTEGERS

MOST_TIES = 1 << 22
"""As many are tried for a layer; a layer with more has scales that make large numbers of small sums, or thousands of channels."""

NEAR, FAR = 4, 1 << 13
"""The largest |r| that is tried for all channels, and for those for which none of these fits: one in two to four leaves M the room
that sums need, unless r / m is a small number."""

MOST_TRIES, MOST_FAR = 24, 64
"""How many numbers are tried for a channel, each with all of its ties; and for how many channels |r| may be large. Channels in which each number
meets a tie are rare, and their layer loses little."""

LEAST_SCALE, LARGEST_SCALE = 2.0**-60, 2.0**30
ZERO_BITS = 0x4B000000 - 2**23
"""The bits of a float M in [2**23, 2**24) are these, plus M."""


@dataclass(frozen=True)
class FusedScale:
    """For each channel the bits of M (i32), and -M * s (f32)."""

    starts: Array
    addends: Array


def fused_scale(op: Conv | MatMul, dtype: DType, weights: Array, bias: Array, scale: Array) -> FusedScale | None:
    """What the sums of a layer start from and what is added to the product; None where no such numbers were found.

    Args:
        dtype: of the operand that is multiplied with `weights`.
        bias: one number for each channel, i32. scale: as many, or one, f32.
    """
    ranges = sum_ranges(op, dtype, weights)
    if ranges is None or op.epilogue is None or bias.size != ranges[0].size or scale.size not in (1, bias.size):
        return None
    scales = np.broadcast_to(scale.reshape(-1), bias.size).astype(np.float64)
    if not ((scales >= LEAST_SCALE) & (scales <= LARGEST_SCALE)).all():
        return None
    low, high = (bias.reshape(-1).astype(np.int64) + limit.astype(np.int64) for limit in ranges)
    fractions, exponents = np.frexp(scales)
    m, e = np.ldexp(fractions, 24).astype(np.int64), exponents.astype(np.int64) - 24
    ties = _ties(op.epilogue, low, high, scales)
    starts, above = np.zeros(bias.size, np.int64), np.zeros(bias.size, np.int64)
    open_ = np.arange(bias.size)
    for farthest in NEAR, FAR:
        if farthest == FAR and (ties is None or open_.size > MOST_FAR):
            return None
        found = _choices(m[open_], 2**23 - low[open_], 2**24 - 1 - high[open_], farthest)
        if ties is None:  # nothing is known of other numbers than those that are exact
            found = replace(found, fits=found.fits & (found.above == 0))
        for _ in range(MOST_TRIES):
            if not found.fits.any():
                break
            first = np.argmax(found.fits, axis=1)
            rows = np.arange(open_.size)
            starts[open_], above[open_] = found.starts[rows, first], found.above[rows, first]
            right = found.fits[rows, first]
            right &= (above[open_] == 0) | _same(ties, scales, m, e, above, open_)
            found.fits[rows, first] = False
            found, open_ = found.of(~right), open_[~right]
        if not open_.size:
            addends = -np.ldexp((starts * m - above).astype(np.float64), e)
            return FusedScale((ZERO_BITS + starts).astype(np.int32), addends.astype(np.float32))
    return None


@dataclass(frozen=True)
class _Choices:
    """Numbers M, how far M * m is above a multiple of a power of two (r), and whether M lies between its limits: [channels, choices]."""

    starts: Array
    above: Array
    fits: Array

    def of(self, channels: Array) -> _Choices:
        return _Choices(self.starts[channels], self.above[channels], self.fits[channels])


def _choices(m: Array, least: Array, most: Array, farthest: int) -> _Choices:
    """The choices with |r| up to `farthest` times the power of two in m, the smallest first, for scales of mantissas `m`."""
    even = m & -m
    odd = (m // even).astype(np.uint64)
    inverse = odd.copy()
    for _ in range(5):  # Newton's iteration doubles the correct bits, of which there are three
        inverse *= np.uint64(2) - odd * inverse
    order = np.arange(1, 2 * farthest + 2) // 2 * np.tile([-1, 1], farthest + 1)[:2 * farthest + 1]
    bits, r = np.repeat([[23, 24]], order.size, axis=0).reshape(1, -1), np.repeat(order, 2)[None]
    period = np.maximum((1 << bits) // even[:, None], 1)
    residue = (inverse[:, None] * r.astype(np.uint64)).astype(np.int64) & (period - 1)
    starts = least[:, None] + (residue - least[:, None]) % period
    above = r * even[:, None]
    fits = (starts <= most[:, None]) & (starts * m[:, None] - above < np.int64(1) << (bits + 24)) & (np.abs(above) <= FAR)
    return _Choices(starts, above, fits)


def _ties(epilogue: ScalarExpr, low: Array, high: Array, scales: Array) -> tuple[Array, Array] | None:
    """The channel of every tie that a sum may come near to, and that sum; None where there are too many."""
    first, last = np.rint(low * scales) - 1, np.rint(high * scales) + 1
    limits = _limits(epilogue)
    if limits is not None:
        first, last = np.maximum(first, limits[0] - 1), np.minimum(last, limits[1] + 1)
    counts = np.maximum(last - first, 0).astype(np.int64)
    if counts.sum() > MOST_TIES:
        return None
    channel = np.repeat(np.arange(counts.size), counts)
    number = first[channel] + np.arange(channel.size) - (np.cumsum(counts) - counts)[channel]
    return channel, np.rint((number + 0.5) / scales[channel]).astype(np.int64)


def _same(ties: tuple[Array, Array] | None, scales: Array, m: Array, e: Array, above: Array, asked: Array) -> Array:
    """For each of the channels `asked` for whether the multiply-add is known to round to the same integers as the product at all ties."""
    same = np.zeros(m.size, bool)
    if ties is None:
        return same[asked]
    same[asked] = True
    chosen = same[ties[0]]
    channel, sums = (ties[0], ties[1]) if chosen.all() else (ties[0][chosen], ties[1][chosen])
    product = sums.astype(np.float32) * scales.astype(np.float32)[channel]
    fused = np.ldexp((sums * m[channel] + above[channel]).astype(np.float64), e[channel]).astype(np.float32)
    same[channel[np.rint(product) != np.rint(fused)]] = False
    return same[asked]


def _limits(epilogue: ScalarExpr) -> tuple[int, int] | None:
    """The least and the largest rounded number that the result of an epilogue tells apart; None where more than rounding comes before it."""
    match epilogue:
        case Convert(arg=Apply("round"), dtype=dtype) if dtype in NARROW_INTEGERS:
            return int(dtype.limits[0]), int(dtype.limits[1])
        case Convert(arg=Apply("add", (Apply("round"), Literal(value=zero))), dtype=dtype) if dtype in NARROW_INTEGERS and float(zero).is_integer():
            return int(dtype.limits[0]) - int(zero), int(dtype.limits[1]) - int(zero)
    return None
