"""Sums of many terms in f16: kept in f16 over a block of terms, then added to the sum of the blocks before.

A sum of n terms of random signs, each rounded to f16, is off by about sqrt(n)/2 roundoffs (2^-11) of what it comes to.
Blocks of at most `BLOCK` terms keep that at 12 roundoffs, 0.6 %, however many terms there are: what Winograd tiles of 4
results in f16 are off by, too. Adding b blocks in f16 adds about sqrt(b/2) roundoffs, which up to `HALF_BLOCKS` blocks is
next to nothing; more are added in f32. A block costs an addition, and a load and a store of the sum (the registers hold the
block's) for each vector, with sums in f32 three times that; sums of a single block are not cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgecc.ir.types import DType
from edgecc.loop.index import Index, const, var

LONGEST = BLOCK = 576

HALF_BLOCKS = 16
"""Up to so many blocks are added in f16."""


@dataclass(frozen=True)
class Reduction:
    """A loop of the reduction, outermost first: `for name in start..stop`, in at most `most` steps (0: as many as there are)."""

    name: str
    start: Index
    stop: Index
    most: int = 0

    @property
    def extent(self) -> int:
        """Number of steps, or what it is at most where positions at the border have fewer taps."""
        difference = self.stop - self.start
        return max(0, difference.const) if difference.is_const else self.most or LONGEST + 1


@dataclass(frozen=True)
class Cut:
    """A part of a reduction: for each position of `outer` a sum in f16 over `inner`.

    `place` is what the variable of the innermost loop stands for, where that loop is cut.
    """

    outer: tuple[Reduction, ...]
    inner: tuple[Reduction, ...]
    place: Index | None = None


@dataclass(frozen=True)
class Blocks:
    """`count` blocks of `terms` terms each."""

    count: int
    terms: int


def blocks_of(depth: int, most: int = BLOCK, multiple: int = 8) -> Blocks | None:
    """Blocks of at most `most` terms and a multiple of `multiple`, few enough to be added in f16; None where there are none or one will do."""
    least = -(-depth // most)
    if least < 2:
        return None
    return next((Blocks(count, depth // count) for count in range(least, min(2 * least, HALF_BLOCKS) + 1)
                 if depth % (count * multiple) == 0), None)


def cut(reductions: Sequence[Reduction], longest: int = LONGEST, block: int = BLOCK) -> tuple[Cut, ...]:
    """The blocks of at most `block` terms of a reduction; () where it has at most `longest` and needs none."""
    extents = [loop.extent for loop in reductions]
    if math.prod(extents) <= longest:
        return ()
    last = reductions[-1]
    if extents[-1] > longest and (last.stop - last.start).is_const:
        return tuple(_cut_innermost(tuple(reductions[:-1]), last, block))
    first = len(reductions) - 1
    while first > 0 and math.prod(extents[first - 1:]) <= block:
        first -= 1
    return (Cut(tuple(reductions[:first]), tuple(reductions[first:])),)


def total_type(reductions: Sequence[Reduction], block: int = BLOCK) -> DType:
    """The type in which the blocks of a reduction are added."""
    return DType.F16 if math.prod(loop.extent for loop in reductions) <= HALF_BLOCKS * block else DType.F32


def _cut_innermost(outer: tuple[Reduction, ...], last: Reduction, most: int) -> list[Cut]:
    count = -(-last.extent // most)
    even = next((n for n in range(count, 2 * count) if last.extent % n == 0 and last.extent // n % 8 == 0), None)
    size = last.extent // even if even is not None else most
    whole, rest = divmod(last.extent, size)
    block = f"{last.name}_block"
    parts = [Cut((*outer, Reduction(block, const(0), const(whole))), (Reduction(last.name, const(0), const(size)),),
                 last.start + var(block) * size + var(last.name))]
    if rest:
        parts.append(Cut(outer, (Reduction(last.name, const(0), const(rest)),), last.start + whole * size + var(last.name)))
    return parts
