"""Biases that differ where windows meet the padding: a zero point folded into them, for the taps that are inside.

    sum over valid taps of (x - z) * w  =  sum over valid taps of x * w  -  z * (sum over valid taps of w)

Elements of the padding stand for zero, so windows that lack taps lack these shares of the zero point, too. The last
sum is known when compiling; it depends on the first and the last valid tap along each axis. Positions that agree in
these are a class, and there are few: 3 x 3 windows with padding on all sides have 16, most of them rare.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgecc.ir.types import Array
from edgecc.kernels.spatial import Axis, Run
from edgecc.loop.index import ZERO, Index, const

MOST_BYTES = 2**18
"""Most bytes of biases; layers with more would need a kernel that knows its zero point."""


@dataclass(frozen=True)
class AxisClasses:
    """The classes of positions along one axis: number `start` * `ends` + kernel - `stop` for valid taps [start, stop)."""

    axis: Axis
    starts: int
    ends: int

    @staticmethod
    def of(axis: Axis) -> AxisClasses:
        """The classes there are; outermost positions lack the most taps."""
        if axis.is_inside or axis.out == 0:
            return AxisClasses(axis, 1, 1)
        before, after = axis.pad, axis.size + axis.pad - (axis.out - 1) * axis.stride
        first = min(-(-max(before, 0) // axis.dilation), axis.kernel)
        last = min(-(-max(after, 0) // axis.dilation), axis.kernel)
        return AxisClasses(axis, first + 1, axis.kernel - last + 1)

    @property
    def count(self) -> int:
        """Number of classes."""
        return self.starts * self.ends

    def at(self, position: Index) -> Index:
        """The class of an output position."""
        if self.count == 1:
            return ZERO
        return self.of_taps(*self.axis.bounds(position))

    def of_taps(self, start: Index, stop: Index) -> Index:
        """The class of positions with these valid taps."""
        return start * self.ends + const(self.axis.kernel) - stop

    def number(self, start: int, stop: int) -> int:
        """The class of the valid taps [start, stop), as `of_taps` has it; all are one where there is just one."""
        return start * self.ends + self.axis.kernel - stop if self.count > 1 else 0

    def in_run(self, run: Run, position: Index) -> Index:
        """The class of a position of a run."""
        segment = run.segment
        if self.count == 1:
            return ZERO
        if segment.tap_start is None or segment.tap_stop is None:
            return self.at(run.column(position))
        shift = run.shift(position)
        return self.of_taps(const(segment.tap_start) + shift, const(segment.tap_stop) + shift)

    def valid(self) -> Array:
        """Which taps are valid in each class: bools [classes, kernel]."""
        taps = np.arange(self.axis.kernel)
        return np.array([(taps >= start) & (taps < self.axis.kernel - end) for start in range(self.starts) for end in range(self.ends)])


@dataclass(frozen=True)
class Borders:
    """The classes of positions of a window operator."""

    axes: tuple[AxisClasses, ...]

    @staticmethod
    def of(axes: Sequence[Axis]) -> Borders:
        """The classes of windows over these axes."""
        return Borders(tuple(map(AxisClasses.of, axes)))

    @property
    def count(self) -> int:
        """Number of classes."""
        return math.prod(axis.count for axis in self.axes)

    def fits(self, channels: int, most_bytes: int = MOST_BYTES) -> bool:
        """Whether there is room for the biases of so many channels."""
        return 4 * self.count * channels <= most_bytes

    def number(self, classes: Sequence[Index]) -> Index:
        """The class of a position, given that along each axis."""
        number = ZERO
        for axis, own in zip(self.axes, classes, strict=True):
            number = number * axis.count + own
        return number

    def sums(self, weights: Array) -> Array:
        """The sum of the valid weights [channels, in, taps...] in each class: i64 [classes, channels]."""
        total = weights.astype(np.int64).sum(axis=1)
        for axis in reversed(self.axes):  # the last one is contracted each time, classes gather in front
            total = np.moveaxis(total @ axis.valid().T.astype(np.int64), -1, 0)
        return np.asarray(total.reshape(-1, weights.shape[0]))
