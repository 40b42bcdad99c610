"""Fixed-point scaling: products with a multiplier, shifted right and rounded as the precision register says.

DOUBLE is TFLite's rule (MultiplyByQuantizedMultiplier of the reference kernels): to 31 bits first, half up, and from there half
away from zero. NATURAL rounds once, half up. TRUNCATE rounds towards zero. SINGLE is DOUBLE without its first step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

DOUBLE, TRUNCATE, NATURAL, SINGLE = 0, 1, 2, 3
"""Values of the precision register, but for the last one, which the accelerator chooses by itself."""


def scaled(values: Array, multiplier: Array | int, shift: Array | int, rounding: int) -> Array:
    """values * multiplier / 2^shift in int64, rounded; multiplier and shift broadcast against the values."""
    product = values.astype(np.int64) * np.asarray(multiplier, np.int64)
    return shifted(product, shift, rounding)


def shifted(product: Array, shift: Array | int, rounding: int) -> Array:
    """product / 2^shift, rounded."""
    shift = np.asarray(shift, np.int64)
    if rounding == TRUNCATE:
        return np.where(product < 0, -(-product >> shift), product >> shift)
    if rounding == NATURAL:
        return _half_up(product, shift)
    whole = 0 if rounding == SINGLE else 31
    first = _half_up(product, np.minimum(shift, whole))
    rest = np.maximum(shift - whole, 0)
    mask = (np.int64(1) << rest) - 1
    return (first >> rest) + ((first & mask) > (mask >> 1) + (first < 0))


def _half_up(product: Array, shift: Array) -> Array:
    half = (np.int64(1) << shift) >> 1
    return (product + half) >> shift
