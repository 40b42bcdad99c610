"""Where a window meets the border of its input: the geometry convolutions and pools share.

Padding never exists in memory. Along the last axis the output positions are cut, at compile time,
into segments in which the same taps fall inside the input; along the other axes the bounds of the
tap loops are computed from the position.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgecc.loop.index import Index, as_index, const, maximum, minimum

MAX_STATIC_SEGMENTS = 9
"""Border segments along an axis that get code of their own; beyond, border positions share a loop with computed bounds."""

MAX_RUNS = 4096
"""Runs of positions that are listed one by one: windows are smaller than half of that."""


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a window operator; all numbers in elements."""

    size: int
    out: int
    kernel: int
    stride: int
    dilation: int
    pad: int

    def first(self, position: Index | int) -> Index:
        """Input coordinate of tap 0 at an output position (may lie in the padding)."""
        return as_index(position) * self.stride - self.pad

    def bounds(self, position: Index) -> tuple[Index, Index]:
        """Taps [start, stop) that fall inside the input at an output position."""
        if self.is_inside:
            return const(0), const(self.kernel)
        before = maximum(const(self.pad) - position * self.stride, 0)
        after = maximum(const(self.size + self.pad) - position * self.stride, 0)
        start = (before + (self.dilation - 1)).floordiv(self.dilation)
        stop = (after + (self.dilation - 1)).floordiv(self.dilation)
        return minimum(start, self.kernel), minimum(stop, self.kernel)

    def static_bounds(self, position: int) -> tuple[int, int]:
        """`bounds` of a known position. Neither increases with the position."""
        if self.is_inside:
            return 0, self.kernel
        before, after = max(self.pad - position * self.stride, 0), max(self.size + self.pad - position * self.stride, 0)
        start, stop = min(-(-before // self.dilation), self.kernel), min(-(-after // self.dilation), self.kernel)
        return start, max(start, stop)

    def loop_bounds(self, segment: Segment, position: Index) -> tuple[Index, Index]:
        """Taps valid at a position of a segment."""
        if segment.tap_start is None or segment.tap_stop is None:
            return self.bounds(position)
        return const(segment.tap_start), const(segment.tap_stop)

    @property
    def is_inside(self) -> bool:
        """Whether no tap ever falls into the padding."""
        last = (self.out - 1) * self.stride - self.pad + (self.kernel - 1) * self.dilation
        return self.pad <= 0 and last < self.size

    def segments(self) -> tuple[Segment, ...]:
        """Cuts the output positions into runs whose taps are the same; of very many only the longest full one is looked for."""
        return self._segments

    def segments_within(self, bounds: tuple[Index, Index] | None) -> Iterator[tuple[Segment, Index, Index]]:
        """Each of them with the first of its positions and the one after the last that lie within `bounds`: none where these are equal."""
        for segment in self.segments():
            start, stop = const(segment.start), const(segment.stop)
            if bounds is not None:
                start = maximum(bounds[0], start)
                stop = maximum(minimum(bounds[1], stop), start)
            yield segment, start, stop

    @functools.cached_property
    def _segments(self) -> tuple[Segment, ...]:
        runs: list[Segment] = []
        position = 0
        while position < self.out and len(runs) < MAX_RUNS:
            taps = self.static_bounds(position)
            stop = self._end_of_run(position)
            runs.append(Segment(position, stop, *taps))
            position = stop
        if position < self.out:
            runs.append(self.full_run())
        if len(runs) <= MAX_STATIC_SEGMENTS:
            return tuple(runs)
        inside = max(runs, key=lambda run: ((run.tap_start, run.tap_stop) == (0, self.kernel), run.stop - run.start))
        edges = [Segment(0, inside.start, None, None), Segment(inside.stop, self.out, None, None)]
        return tuple(s for s in (edges[0], inside, edges[1]) if s.stop > s.start)

    def _end_of_run(self, position: int) -> int:
        """The first position behind this one that has other taps."""
        taps = self.static_bounds(position)
        return bisect.bisect_left(range(self.out), True, position + 1, key=lambda p: self.static_bounds(p) != taps)

    def full_run(self) -> Segment:
        """The positions at which no tap is in the padding; it may have none."""
        start = bisect.bisect_left(range(self.out), True, key=lambda p: self.static_bounds(p)[0] == 0)
        stop = bisect.bisect_left(range(self.out), True, start, key=lambda p: self.static_bounds(p)[1] < self.kernel)
        return Segment(start, stop, 0, self.kernel)


@dataclass(frozen=True)
class Segment:
    """Output positions [start, stop) along an axis and the taps valid there; None: computed for each position."""

    start: int
    stop: int
    tap_start: int | None
    tap_stop: int | None

    @property
    def extent(self) -> int:
        """Number of positions."""
        return self.stop - self.start


@dataclass(frozen=True)
class Run:
    """`extent` output positions with equally many taps, evenly spaced: position p of the run is `start` + p * `step`,
    and its valid taps begin p * `tap_step` after those of `segment`. Runs of neighbours have steps 1 and 0."""

    segment: Segment
    extent: int
    step: int = 1
    tap_step: int = 0

    @property
    def taps(self) -> int | None:
        """Valid taps of each position; None where they are computed for each."""
        if self.segment.tap_start is None or self.segment.tap_stop is None:
            return None
        return self.segment.tap_stop - self.segment.tap_start

    def column(self, position: Index) -> Index:
        """The output position."""
        return position * self.step + self.segment.start

    def shift(self, position: Index) -> Index:
        """How far the valid taps of a position are from those of the first one."""
        return position * self.tap_step


def runs_of(segments: Sequence[Segment]) -> tuple[Run, ...]:
    """The segments as runs; single positions at both borders that have equally many taps become one run of two.

    Alone, a position has too few sums to hide the latency of multiply-adds.
    """
    def taps(segment: Segment) -> int | None:
        if segment.extent != 1 or segment.tap_start is None or segment.tap_stop is None:
            return None
        return segment.tap_stop - segment.tap_start

    out: list[Run] = []
    paired: set[int] = set()
    for i, first in enumerate(segments):
        if i in paired:
            continue
        partner = next((j for j in range(len(segments) - 1, i, -1)
                        if j not in paired and taps(first) and taps(segments[j]) == taps(first)), None)
        if partner is None:
            out.append(Run(first, first.extent))
            continue
        second = segments[partner]
        paired.add(partner)
        out.append(Run(first, 2, second.start - first.start, (second.tap_start or 0) - (first.tap_start or 0)))
    return tuple(out)


def axes_of(sizes: tuple[int, ...], outs: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...],
            dilations: tuple[int, ...], pads: tuple[int, ...]) -> tuple[Axis, ...]:
    """The axes of a window operator; `pads` holds the amounts before, then those after (which `outs` implies)."""
    rank = len(sizes)
    return tuple(Axis(sizes[i], outs[i], kernel[i], strides[i], dilations[i], pads[i]) for i in range(rank))
