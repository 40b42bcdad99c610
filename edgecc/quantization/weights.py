"""Weights as 8-bit integers: symmetric, a scale for each output channel (or one for all), biases as 32-bit integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgecc.ir.types import Array
from edgecc.quantization.scheme import WEIGHT_LIMIT

BIAS_LIMIT = 2**30
"""Biases stay below this in units of their scale, so that an accumulator has room for the sums."""


@dataclass(frozen=True)
class QuantizedWeights:
    """real = scales * integers, with `scales` along `axis` of the tensor, or a scalar.

    Attributes:
        integers: int8, in -127..127. scales: float32, [channels] or []. axis: of the channels.
    """

    integers: Array
    scales: Array
    axis: int

    @property
    def real(self) -> Array:
        """The weights as they are after rounding, in float64."""
        return np.asarray(self.integers.astype(np.float64) * along(self.scales.astype(np.float64), self.axis, self.integers.ndim))


def along(scales: Array, axis: int, rank: int) -> Array:
    """Scales shaped so that they broadcast along `axis` of a tensor of this rank."""
    return scales.reshape([-1 if a == axis else 1 for a in range(rank)]) if scales.ndim else scales


def weight_scales(weights: Array, axis: int, *, per_channel: bool, least: Array | None = None) -> Array:
    """float32 scales that map the largest weight (of each channel) to 127.

    Args:
        least: scales that may not be undercut, so that a bias fits into 32 bits. A channel of zeros gets 1 or this.
    """
    others = tuple(a for a in range(weights.ndim) if a != axis) if per_channel else None
    largest = np.abs(weights.astype(np.float64)).max(axis=others, initial=0.0)
    scales = np.where(largest > 0, largest / WEIGHT_LIMIT, 1.0 if least is None else 0.0)
    if least is not None:
        bound = least if per_channel else np.max(least, initial=0.0)
        scales = np.maximum(scales, bound)
        scales = np.where(scales > 0, scales, 1.0)
    return np.maximum(np.asarray(scales, np.float32), np.finfo(np.float32).tiny)


def round_weights(weights: Array, axis: int, scales: Array) -> QuantizedWeights:
    """The nearest integers."""
    steps = np.rint(weights.astype(np.float64) / along(scales.astype(np.float64), axis, weights.ndim))
    return QuantizedWeights(np.clip(steps, -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8), scales, axis)


def least_scales(bias: Array, operand_scale: float) -> Array:
    """The smallest weight scales with which a bias, in units of operand scale times weight scale, stays below `BIAS_LIMIT`."""
    return np.abs(bias.astype(np.float64)) / (operand_scale * BIAS_LIMIT)


def round_bias(bias: Array, scales: Array) -> Array:
    """The bias as int32 in units of `scales` (operand scale times weight scales)."""
    steps = np.rint(bias.astype(np.float64) / scales.astype(np.float64))
    return np.clip(steps, -(2**31), 2**31 - 1).astype(np.int32)
