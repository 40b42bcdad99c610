"""Long sums in parts: the space of a sum cut into runs that are short enough for what adding one by one loses.

A float sum that takes n terms one after the other is off by up to n roundings of what it has come to by then. Where
runs of m terms are added up by themselves and their sums then added, it is off by m + n/m roundings: Higham, Accuracy
and Stability of Numerical Algorithms, 2002, section 4.2 (blocked summation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgecc.kernels.iteration import Axis, elements
from edgecc.loop.index import ZERO, Index, const

LONGEST = 256
"""Terms that a sum takes one by one before it is added to the sum of such runs."""


@dataclass(frozen=True)
class Part:
    """Some of the positions of a space: for each position of `outer` a run of the positions of `run`, from `start` in each view on."""

    start: tuple[Index, ...]
    outer: tuple[Axis, ...]
    run: tuple[Axis, ...]


def cut(axes: Sequence[Axis], sums: int) -> tuple[Part, ...]:
    """The space of `axes`, of which `sums` neighbouring positions along the last one are added up side by side, in runs.

    One part whose `outer` is empty, the space itself, where it is at most twice as long as a run may be. Else each run is
    at most `LONGEST * sums` positions, and of a multiple of `sums` of those along the last axis but where that ends.
    """
    start = (ZERO,) * (len(axes[0].strides) if axes else 0)
    most = LONGEST * sums
    if elements(axes) <= 2 * most:
        return (Part(start, (), tuple(axes)),)
    first, count = len(axes), 1
    while count * axes[first - 1].extent <= most:
        first -= 1
        count *= axes[first].extent
    whole, run = axes[first - 1], tuple(axes[first:])
    unit = 1 if run else sums
    length = _even(whole.extent, most // count // unit * unit, unit)
    if length <= 1:
        return (Part(start, tuple(axes[:first]), run),)
    parts = []
    blocks, size = whole.extent // length, None if whole.size is None else whole.size.floordiv(length)
    if blocks:
        outer = Axis(blocks, tuple(s * length for s in whole.strides), size)
        parts.append(Part(start, (*axes[:first - 1], outer), (Axis(length, whole.strides), *run)))
    done = const(blocks * length) if size is None else size * length
    if size is None and blocks * length < whole.extent:
        rest = Axis(whole.extent - blocks * length, whole.strides)
    elif whole.size is not None and size is not None:
        rest = Axis(length - 1, whole.strides, whole.size - size * length, math.gcd(whole.multiple, length), whole.padded)
    else:
        return tuple(parts)
    parts.append(Part(tuple(done * s for s in whole.strides), tuple(axes[:first - 1]), (rest, *run)))
    return tuple(parts)


def _even(extent: int, most: int, unit: int) -> int:
    """The length, a multiple of `unit`, of runs of nearly the same length that cover `extent` with as few as `most` allows."""
    if most <= unit:
        return most
    blocks = -(-extent // most)
    return min(most, -(-extent // blocks // unit) * unit)
