"""TOSA's RESCALE: integers times a multiplier of 31 bits, shifted to the right and rounded.

The numbers are those of TFLite's kernels, and DOUBLE_ROUND rounds as they do, so that both give the same bytes.
Source: TOSA 1.0, apply_scale_32; TFLite kernels/internal/quantization_util.cc, QuantizeMultiplier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgecc.backends.tosa.writer import TosaWriter

EXACT = (1 << 30, 30)
"""Multiplier and shift of 1."""


def multiplier_of(scale: float) -> tuple[int, int]:
    """A multiplier of 31 bits and a shift, scale = multiplier / 2**shift to within rounding; 2 <= shift <= 62."""
    if scale <= 0.0:
        return 0, 31
    fraction, exponent = math.frexp(scale)
    multiplier = math.floor(fraction * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, exponent = multiplier >> 1, exponent + 1
    shift = 31 - exponent
    if shift > 62:
        return multiplier >> min(shift - 62, 31), 62
    return multiplier, shift


def rescaled(writer: TosaWriter, source: str, target: str, factors: Sequence[tuple[int, int]], source_zero: int = 0, target_zero: int = 0,
             *, twice: bool = True) -> str:
    """Adds a RESCALE: (source - source_zero) * factor + target_zero, within the limits of the type of `target`.

    Args:
        factors: multiplier and shift, one pair or one for each index of the last axis.
        twice: round twice where the shift is above 31, as TFLite does; else once.
    """
    multipliers = writer.constant(np.array([m for m, _ in factors]), "INT32")
    shifts = writer.constant(np.array([s for _, s in factors]), "INT8")
    kinds = [writer.constant(np.array([zero]), writer.kinds[name]) for zero, name in ((source_zero, source), (target_zero, target))]
    return writer.operator("RESCALE", [source, multipliers, shifts, *kinds], target, True,
                           f"RoundingMode.{'DOUBLE_ROUND' if twice else 'SINGLE_ROUND'}", len(factors) > 1, False, False)


def widened(writer: TosaWriter, source: str, zero: int, shift_left: int = 0) -> str:
    """The integers of a tensor of i8 less their zero point as i32, times a power of two."""
    target = writer.tensor(writer.shapes[source], "INT32")
    return rescaled(writer, source, target, [(1 << 30, 30 - shift_left)], zero, twice=False)
