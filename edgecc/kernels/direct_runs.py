"""Products of four bytes where channels do not come in fours: the taps of a row and their channels are one run of bytes.

    3 taps of 3 channels are 9 bytes: groups of four begin at bytes 0, 4 and 5

The last group overlaps the one before, and its weights for the bytes that both have are zero: nothing is read beyond the
run. Windows at the border have shorter runs, and weights of their own; what such a run lacks to a group are zeros. First layers of
networks are of this kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgecc.ir.types import Array, DType
from edgecc.kernels.borders import Borders
from edgecc.kernels.spatial import Axis
from edgecc.loop.index import Index
from edgecc.loop.ir import Const, Expr, Load, Op

GROUP = 4
MOST_GROUPS = 8
"""Most groups of a run: they are written out."""


@dataclass(frozen=True)
class ByteRuns:
    """How the runs of a convolution over `axes` of `depth` channels are grouped.

    Attributes:
        variants: the valid taps (start, stop) along the last axis, each with weights of its own.
    """

    axes: tuple[Axis, ...]
    depth: int
    variants: tuple[tuple[int, int], ...]

    @staticmethod
    def of(axes: Sequence[Axis], depth: int) -> ByteRuns | None:
        """None where all runs are shorter than a group, or one is too long to be written out, or computed for each position."""
        variants = []
        for segment in axes[-1].segments():
            if segment.tap_start is None or segment.tap_stop is None:
                return None
            variants.append((segment.tap_start, segment.tap_stop))
        runs = ByteRuns(tuple(axes), depth, tuple(dict.fromkeys(variants)))
        lengths = [depth * (stop - start) for start, stop in runs.variants]
        return runs if lengths and min(lengths) > 0 and GROUP <= max(lengths) <= GROUP * MOST_GROUPS else None

    def length(self, variant: tuple[int, int]) -> int:
        """Bytes of a run."""
        return self.depth * (variant[1] - variant[0])

    def offsets(self, variant: tuple[int, int]) -> tuple[int, ...]:
        """Where the groups of a run begin, in bytes from the run's start."""
        length = self.length(variant)
        return tuple(max(0, min(GROUP * g, length - GROUP)) for g in range(-(-length // GROUP)))

    @property
    def _rows(self) -> int:
        return math.prod(axis.kernel for axis in self.axes[:-1])

    def first_step(self, variant: tuple[int, int]) -> int:
        """The number of groups packed before those of a variant."""
        position = self.variants.index(variant)
        return sum(self._rows * len(self.offsets(earlier)) for earlier in self.variants[:position])

    @property
    def steps(self) -> int:
        """Groups of all variants."""
        return sum(self._rows * len(self.offsets(variant)) for variant in self.variants)

    def arrange(self, weights: Array) -> Array:
        """Weights [out, in, taps...] as i8 [out, steps * 4]."""
        ordered = np.moveaxis(weights, 1, -1).reshape(weights.shape[0], self._rows, -1)  # bytes of whole runs
        parts = []
        for start, stop in self.variants:
            offsets = self.offsets((start, stop))
            block = np.zeros((weights.shape[0], self._rows, len(offsets), GROUP), weights.dtype)
            done = 0
            for g, offset in enumerate(offsets):
                fresh = done - offset
                end = min(offset + GROUP, self.length((start, stop)))
                block[:, :, g, fresh:end - offset] = ordered[:, :, start * self.depth + done:start * self.depth + end]
                done = offset + GROUP
            parts.append(block.reshape(weights.shape[0], -1))
        return np.concatenate(parts, axis=1)

    def sums(self, borders: Borders, terms: Array) -> Array:
        """The sums of terms [out, steps * 4] in the order of `arrange`: i64 [classes, out], those of a class over its rows and its variant.

        A class of columns that no position has gets zeros.
        """
        rows = np.ones((1, 1), np.int64)
        for axis in borders.axes[:-1]:
            rows = np.kron(rows, axis.valid().astype(np.int64))
        last = borders.axes[-1]
        found = np.zeros((len(rows), last.count, terms.shape[0]), np.int64)
        for variant in self.variants:
            first, steps = self.first_step(variant), self._rows * len(self.offsets(variant))
            block = terms[:, GROUP * first:GROUP * (first + steps)].astype(np.int64).reshape(terms.shape[0], self._rows, -1).sum(axis=2)
            found[:, last.number(*variant)] = rows @ block.T
        return found.reshape(-1, terms.shape[0])


def group_at(buffer: str, place: Index, dtype: DType, count: int = GROUP) -> Expr:
    """`count` neighbouring bytes from `place` on, as four, the others zero."""
    return Op("interleave", tuple(Load(buffer, place + j, dtype) if j < count else Const(0, dtype) for j in range(GROUP)), DType.U32)
