"""What the operations of the Loop IR compute, on numpy scalars and arrays.

Every operation rounds to its type, `fma` rounds once, transcendental functions are computed in float64
and rounded; integers wrap.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.scalar import PRIMITIVES, convert_array
from edgecc.ir.types import DType
from edgecc.loop.activations import ACTIVATIONS
from edgecc.loop.dot import DOTS
from edgecc.loop.narrow import NARROW
from edgecc.loop.narrow import meaning as narrow_meaning
from edgecc.loop.tables import TABLES
from edgecc.loop.tables import meaning as tables_meaning

_FEW_LANES = 16


def operation(op: str, dtype: DType, result: DType) -> Callable[..., Any]:
    """The function that computes primitive `op` on operands of `dtype`: scalars give a scalar of type `result`."""
    if op == "fma":
        return _fused(dtype)
    if op in DOTS:
        meaning_of_dot, fused = DOTS[op].meaning, _fused(DType.F32)
        return lambda a, b, total: meaning_of_dot(fused, a, b, total)[()]
    if op in NARROW:
        return lambda *args: narrow_meaning(op, args)[()]
    if op in TABLES:
        return lambda *args: tables_meaning(op, args)[()]
    if op in ACTIVATIONS:
        return lambda *args: ACTIVATIONS[op].meaning(*args).astype(result.numpy)[()]
    row = PRIMITIVES.get(op)
    if row is None:
        raise EdgeccError("E904", f"no primitive {op!r}")
    meaning = row.meaning
    if dtype.is_float and dtype is not DType.F64:
        inner = meaning
        # Double rounding is harmless for the basic operations: 53 >= 2 * 24 + 2 bits.
        if op == "select":
            def meaning(c: Any, a: Any, b: Any) -> Any:
                return np.where(c, a, b)
        elif op not in ("add", "sub", "mul", "div", "neg", "abs", "lt", "le", "eq", "min", "max"):
            def meaning(*args: Any) -> Any:
                return inner(*(np.asarray(a, np.float64) for a in args))
    target = result.numpy

    def run(*args: Any) -> Any:
        return np.asarray(meaning(*[np.asarray(a) for a in args])).astype(target, copy=False)[()]

    return run


def _fused(dtype: DType) -> Callable[[Any, Any, Any], Any]:
    """a*b+c rounded once."""
    if dtype is DType.F64:
        return _fused_exactly
    if dtype.is_float:
        return _fused_narrow(dtype)
    return lambda a, b, c: (np.asarray(a) * np.asarray(b) + np.asarray(c)).astype(dtype.numpy)[()]


def _fused_narrow(dtype: DType) -> Callable[[Any, Any, Any], Any]:
    """a*b+c of floats of up to 24 bits, whose product is exact in float64.

    Where rounding the sum to float64 first could matter, it is rounded to odd: its error term (Knuth's two-sum) tells whether and
    which way the last bit must be forced, so that rounding again to the narrow type is correct (Boldo and Melquiond, "Emulation of
    FMA and correctly rounded sums").
    """
    target = dtype.numpy
    doubtful = _may_round_twice(dtype)
    is_listed = dtype is not DType.BF16  # whose lists hold no numbers of Python

    def narrow(a: Any, b: Any, c: Any) -> Any:
        # Numbers of Python are much faster than arrays of a few lanes.
        if all(isinstance(number, target.type) for number in (a, b, c)):
            number = float(a) * float(b) + float(c)
            if not any(map(doubtful, _bits([number]))):
                return target.type(number)
        elif is_listed and isinstance(c, np.ndarray) and c.shape == a.shape == b.shape and c.ndim == 1 and c.size <= _FEW_LANES:
            numbers = [x * y + z for x, y, z in zip(a.tolist(), b.tolist(), c.tolist(), strict=True)]
            if not any(map(doubtful, _bits(numbers))):
                return np.array(numbers, target)
        product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
        addend = np.asarray(c, np.float64)
        total = product + addend
        bits = total.view(np.int64)
        back = total - product
        error = (product - (total - back)) + (addend - back)
        inexact = (error != 0) & np.isfinite(total) & (bits & 1 == 0)
        towards_larger_magnitude = (error > 0) == (total > 0)
        odd = np.where(inexact, bits + np.where(towards_larger_magnitude, 1, -1), bits)
        return np.asarray(odd).view(np.float64).astype(target)[()]

    return narrow


def _fused_exactly(a: Any, b: Any, c: Any) -> Any:
    out = [_fma_exact(float(x), float(y), float(z))
           for x, y, z in np.broadcast(np.atleast_1d(a), np.atleast_1d(b), np.atleast_1d(c))]
    return np.float64(out[0]) if np.ndim(a) == 0 else np.array(out, np.float64)


def _bits(numbers: list[float]) -> tuple[int, ...]:
    count = len(numbers)
    return struct.unpack(f"={count}q", struct.pack(f"={count}d", *numbers))


def _may_round_twice(dtype: DType) -> Callable[[int], bool]:
    """Whether a float64 number, given by its bits, is halfway between two numbers of a narrower type, or so small that these lie
    further apart than the bits tell. Any other is on the same side of halfway as what it was rounded from."""
    kind = np.finfo(np.float32 if dtype is DType.BF16 else dtype.numpy)
    dropped = 52 - (7 if dtype is DType.BF16 else kind.nmant)
    below, half, magnitude = (1 << dropped) - 1, 1 << (dropped - 1), (1 << 63) - 1
    (least,) = _bits([float(kind.smallest_normal)])
    return lambda bits: bits & below == half or 0 < bits & magnitude < least


def _fma_exact(a: float, b: float, c: float) -> float:
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return a * b + c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        return a * b + c  # keeps the sign of zero
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def caster(dtype: DType) -> Callable[[Any], Any]:
    """The function that converts values to `dtype` by the rules of `Cast`."""
    def cast(value: Any) -> Any:
        return convert_array(np.asarray(value), dtype)[()]

    return cast


def from_int(dtype: DType) -> Callable[[int], Any]:
    """The function that makes a value of `dtype` of an index."""
    def make(value: int) -> Any:
        return np.asarray(value).astype(dtype.numpy)[()]

    return make


def horizontal(combine: Callable[..., Any]) -> Callable[[Any], Any]:
    """The function that combines all lanes of a vector, halves first."""
    def fold(value: Any) -> Any:
        while len(value) > 1:
            half = len(value) // 2
            value = combine(value[:half], value[half:])
        return value[0]

    return fold
