"""What is kept of a value over the calibration data: its range, then a histogram over that range, and means by channel.

The memory is bounded: data is looked at sample by sample, twice. The first look finds ranges, the second one counts
into bins of the final range, so no bin is ever split or guessed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgecc.ir.types import Array

BINS = 2048

PIECE = 1 << 15
"""Elements that are counted at a time: what is computed of them on the way stays in the cache."""


@dataclass
class Extent:
    """The smallest and the largest finite element seen so far.

    Attributes:
        count: samples with finite elements. sums, squares: of their own smallest and largest elements, and of the squares of these.
    """

    lowest: float = np.inf
    highest: float = -np.inf
    count: int = 0
    sums: tuple[float, float] = (0.0, 0.0)
    squares: tuple[float, float] = (0.0, 0.0)

    def add(self, values: Array) -> None:
        """Looks at one sample."""
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not np.isfinite(low) or not np.isfinite(high):
            finite = values[np.isfinite(values)]
            if not finite.size:
                return
            low, high = float(finite.min()), float(finite.max())
        self.lowest, self.highest = min(self.lowest, low), max(self.highest, high)
        self.count += 1
        self.sums = self.sums[0] + low, self.sums[1] + high
        self.squares = self.squares[0] + low * low, self.squares[1] + high * high

    @property
    def spreads(self) -> tuple[float, float]:
        """The standard deviations of the samples' smallest and of their largest elements."""
        count = max(1, self.count)
        below, above = (max(0.0, square / count - (total / count) ** 2) ** 0.5 for total, square in zip(self.sums, self.squares, strict=True))
        return below, above

    @property
    def range(self) -> tuple[float, float]:
        """The range, widened to hold 0; (0, 0) where nothing was seen."""
        return (min(self.lowest, 0.0), max(self.highest, 0.0)) if self.lowest <= self.highest else (0.0, 0.0)


class Histogram:
    """Counts of elements in `BINS` bins of equal width over a range.

    Attributes:
        lowest, highest: the range. counts: elements in each bin, float64.
    """

    def __init__(self, lowest: float, highest: float) -> None:
        self.lowest, self.highest = lowest, highest
        self.counts = np.zeros(BINS)

    @property
    def width(self) -> float:
        """Of one bin."""
        return (self.highest - self.lowest) / BINS

    @property
    def centres(self) -> Array:
        """The middle of each bin."""
        return self.lowest + (np.arange(BINS) + 0.5) * self.width

    def add(self, values: Array) -> None:
        """Counts one sample; what is not finite is left out, what lies outside of the range counts at its end."""
        if self.highest <= self.lowest or not values.size:
            return
        flat, lowest, factor = values.reshape(-1), np.float32(self.lowest), np.float32(1.0 / self.width)
        for start in range(0, flat.size, PIECE):
            with np.errstate(invalid="ignore"):
                position = (flat[start:start + PIECE] - lowest) * factor
            finite = np.isfinite(position)
            if not finite.all():
                position = position[finite]
            self.counts += np.bincount(np.clip(position, 0, BINS - 1).astype(np.int32), minlength=BINS)


class ChannelMean:
    """The mean of each channel, axis 1 of what Conv and Gemm read, over all samples and positions."""

    def __init__(self) -> None:
        self.total: Array | None = None
        self.count = 0

    def add(self, values: Array) -> None:
        """Looks at one sample."""
        axis = min(1, values.ndim - 1)
        others = tuple(a for a in range(values.ndim) if a != axis)
        sums = values.sum(axis=others, dtype=np.float64)
        self.total = sums if self.total is None else self.total + sums
        self.count += values.size // max(1, values.shape[axis])

    @property
    def mean(self) -> Array:
        """One number a channel."""
        return np.zeros(0) if self.total is None else self.total / max(1, self.count)
