"""Depthwise convolution of 8-bit integers by products of four: the rows of a window are the terms of a group.

    for rows, channel block: for input column: g = interleave(x of four rows); for each window it lies in: acc += dot(g, w)

Four rows of input, interleaved, serve as many rows of the result as their windows fit into: two for 3 x 3, whose weights then
are (w0, w1, w2, 0) for the first and (0, w0, w1, w2) for the second. Larger windows take two groups. Sums roll along the row
as in edgecc/kernels/depthwise_rolling.py. Rows of the padding enter as zero points, columns of it are left out, and what a
zero point contributes besides is in the biases (edgecc/kernels/borders.py).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgecc.ir.types import Array, DType
from edgecc.kernels.borders import AxisClasses, Borders
from edgecc.kernels.contraction_weights import Weights
from edgecc.kernels.depthwise_block import Window
from edgecc.kernels.depthwise_rolling import open_sums
from edgecc.kernels.epilogue import Epilogue
from edgecc.kernels.grouped import ByteDot
from edgecc.kernels.register_tile import Panel
from edgecc.kernels.rows import Bounds
from edgecc.kernels.spatial import Axis, Segment
from edgecc.kernels.view import View
from edgecc.loop.index import ZERO, Index, const, var
from edgecc.loop.ir import Assign, Body, Const, Declare, Expr, For, Let, Load, Op, Ref, Reload, Stmt
from edgecc.targets.schema import Target

VECTORS = 2
"""Vectors of channels side by side: so many loads of a row are joined, and so many sums hide the latency of products."""

GROUP = 4
MOST_ROWS = 2
"""Most rows of the result at a time: each needs its own weights and sums."""

MOST_TALL, MOST_WIDE = 8, 7
"""Largest windows: two groups of rows, and as many columns as are worth writing out."""


@dataclass(frozen=True)
class Grouped:
    """`rows` rows of the result from `groups` groups of rows of input, `vectors` vectors of channels at a time."""

    rows: int
    groups: int
    vectors: int


def grouped_of(window: Window, channels: int, lanes: int, most_rows: int = MOST_ROWS) -> Grouped | None:
    """How to group the rows of a window; None where it is too large, has gaps, or lies in the padding along a row."""
    high, wide = window.high, window.wide
    if high.dilation != 1 or wide.dilation != 1 or wide.stride > wide.kernel or high.kernel > MOST_TALL or wide.kernel > MOST_WIDE:
        return None
    if not all(start < stop for start, stop in (wide.static_bounds(o) for o in (0, wide.out - 1)[:wide.out])):
        return None
    groups = -(-high.kernel // GROUP)
    rows = min(most_rows, (GROUP * groups - high.kernel) // high.stride + 1, max(1, high.out))
    return Grouped(rows, groups, min(VECTORS, -(-channels // lanes)))


def borders_of(axes: Sequence[Axis]) -> Borders:
    """The classes of positions that have biases of their own: they differ in columns only."""
    high, wide = axes
    return Borders((AxisClasses(high, 1, 1), AxisClasses.of(wide)))


def shifts_of(window: Window, grouped: Grouped) -> tuple[int, ...]:
    """The first tap of each packed group of weights: group g of row r begins with tap 4*g - r*stride, which may be none."""
    return tuple(dict.fromkeys(GROUP * g - row * window.high.stride for row in range(grouped.rows) for g in range(grouped.groups)))


def arrange(window: Window, grouped: Grouped, weights: Array) -> Array:
    """Weights [channels, 1, taps, taps] as i8 [channels, shifts * columns * 4]."""
    channels, tall, wide = weights.shape[0], window.high.kernel, window.wide.kernel
    shifts = shifts_of(window, grouped)
    out = np.zeros((channels, len(shifts), wide, GROUP), np.int8)
    for number, shift in enumerate(shifts):
        for place in range(GROUP):
            if 0 <= shift + place < tall:
                out[:, number, :, place] = weights[:, 0, shift + place]
    return out.reshape(channels, -1)


def grouped_cycles(window: Window, grouped: Grouped, target: Target, rate: float = 1.0) -> float:
    """Modelled cycles for one vector of channels of all results; `rate`: products in the time of a multiply-add."""
    core, wide = target.core, window.wide
    results = window.high.out * wide.out
    columns = math.ceil(window.high.out / grouped.rows) * min(wide.size, wide.out * wide.stride + wide.kernel) * grouped.groups
    dots = results * wide.kernel * grouped.groups / rate
    # Loads of four rows, and about as many instructions to interleave them; conversions and stores at the end.
    per_lane = 2.0 if target.vector.fma_by_lane else 4.0
    shuffles, closing = per_lane * columns, 5.0 * results
    return max((dots + shuffles + closing) / core.fma_per_cycle, (dots + 2 * shuffles + closing) / core.issue_width) + 10.0 * window.high.out


@dataclass(frozen=True)
class GroupedNest:
    """What rows are made of; see the kernel that uses it for the meaning of the fields."""

    x: View
    window: Window
    grouped: Grouped
    dot: ByteDot
    weights: Weights
    epilogue: Epilogue
    image: Index
    borders: Borders | None
    zero: int
    packed: int
    reload: bool = False

    def rows(self, bounds: Bounds | None, panels: Callable[[Callable[[Panel, Index, Index, Index], Body]], Body]) -> Body:
        """All rows, or those within `bounds`; `panels` puts what happens in one panel into loops over all of them."""
        out: list[Stmt] = []
        for segment, start, stop in self.window.high.segments_within(bounds):
            whole = (segment.tap_start, segment.tap_stop) == (0, self.window.high.kernel)
            together = self.grouped.rows if whole else 1
            blocks = (stop - start).floordiv(together)
            rest = start + blocks * together if together > 1 else start
            if together > 1:
                out += self._loop("block", blocks, start, segment, together, panels)
            out += self._loop("rest", stop - rest, rest, segment, 1, panels)
        return tuple(out)

    def _loop(self, name: str, times: Index, first: Index, segment: Segment, count: int,
              panels: Callable[[Callable[[Panel, Index, Index, Index], Body]], Body]) -> Body:
        """`count` rows, `times` times, from row `first` on."""
        if times.is_const and times.const <= 0:
            return ()
        alone = times.is_const and times.const == 1
        row = first if alone else first + var(name) * count
        body = panels(lambda *panel: (self._row(segment, row, count, *panel),))
        return body if alone else (For(name, ZERO, times, body),)

    def _row(self, segment: Segment, row: Index, count: int, panel: Panel, channel0: Index, w_start: Index, b_start: Index) -> For:
        """`count` rows from `row` on."""
        high, wide = self.window.high, self.window.wide
        first_tap, last_tap = segment.tap_start or 0, segment.tap_stop or 0
        lines = range(first_tap, last_tap + (count - 1) * high.stride)
        lane, live = var("channel"), open_sums(self.window)
        channel = channel0 + lane
        shifts = shifts_of(self.window, self.grouped)

        def address(number: int, column: Index) -> Callable[[View], Index]:
            return lambda view: view.at([self.image, channel, row + number, column])

        def bias(number: int, o: int, column: Index) -> Expr:
            place = b_start + lane
            if self.borders is not None:
                broad = self.borders.axes[-1]
                place = place + (broad.of_taps(*map(const, wide.static_bounds(o))) if broad.count > 1 else ZERO) * self.packed
            return self.weights.bias(place, address(number, column))

        def uses(number: int, group: int) -> bool:
            taps = [line - number * high.stride for line in range(GROUP * group, GROUP * group + GROUP)]
            return any(0 <= tap < high.kernel and (self.dot.offset != 0 or first_tap <= tap < last_tap) for tap in taps)

        pairs = [(number, group) for number in range(count) for group in range(self.grouped.groups) if uses(number, group)]
        sums = [[Ref(f"acc{number}_{i}", DType.I32) for i in range(live)] for number in range(count)]

        def column(x: int, place: Index, shift: Index, opened: set[int]) -> list[Stmt]:
            """Column `x`, at `place`; results lie `shift` farther than for x. Results of `opened` have their start already."""
            out: list[Stmt] = []
            windows = [(o, x + wide.pad - o * wide.stride) for o in range((x + wide.pad) // wide.stride, -1, -1)
                       if o < wide.out and x + wide.pad - o * wide.stride < wide.kernel]
            for o, _ in windows:
                if o not in opened and x == max(0, o * wide.stride - wide.pad):
                    for number, rolling in enumerate(sums):
                        out += [*([Reload("b", b_start)] if self.reload else []), Assign(rolling[o % live].name, bias(number, o, shift + o))]
            for group in sorted({g for _, g in pairs}) if windows else ():
                element = Ref(f"x{x}_{group}", DType.U32)
                out += self._group(element.name, [self._byte(self.x.at([self.image, channel, high.first(row) + line, place]) if line in lines else None,
                                                             multiplied=line < high.kernel + (count - 1) * high.stride)
                                                  for line in range(GROUP * group, GROUP * group + GROUP)])
                for o, across in windows:
                    for number, own in pairs:
                        if own == group:
                            total = sums[number][o % live]
                            factor = Ref(f"w{GROUP * group - number * high.stride}_{across}".replace("-", "m"), DType.U32)
                            out.append(Assign(total.name, Op(self.dot.name, (element, factor, total), DType.I32)))
            for o, across in windows:
                if across == wide.kernel - 1 or x == wide.size - 1:
                    out += [self.epilogue.store(own[o % live], address(number, shift + o)) for number, own in enumerate(sums)]
            return out

        body: list[Stmt] = [Declare(total.name, bias(number, min(o, wide.out - 1), const(min(o, wide.out - 1))))
                            for number, own in enumerate(sums) for o, total in enumerate(own)]
        body += [Let(f"w{shift}_{across}".replace("-", "m"),
                     Load("w", w_start + (number * wide.kernel + across) * panel.padded + lane, DType.U32))
                 for number, shift in enumerate(shifts) for across in range(wide.kernel)
                 if shift in {GROUP * g - r * high.stride for r, g in pairs}]
        opened = set(range(live))
        low, turns = self._steady
        period = live * wide.stride
        for x in range(low):
            body += column(x, const(x), ZERO, opened)
        if turns:
            step = var("turn") if turns > 1 else ZERO
            steady = [stmt for x in range(low, low + period)
                      for stmt in column(x, const(x) + step * period, step * live, set() if turns > 1 else opened)]
            body += (For("turn", ZERO, const(turns), tuple(steady)),) if turns > 1 else steady
        for x in range(low + turns * period, wide.size):
            body += column(x, const(x), ZERO, opened)
        return For("channel", ZERO, const(panel.size), tuple(body))

    def _byte(self, place: Index | None, *, multiplied: bool) -> Expr:
        """The byte at a place; without one the zero point, or, where its weights are zero, any."""
        dtype = self.x.dtype
        return Const(self.zero if multiplied else 0, dtype) if place is None else Load("x", place, dtype)

    def _group(self, name: str, elements: Sequence[Expr]) -> list[Stmt]:
        """Binds `name` to these bytes as the product takes them."""
        value = Op("interleave", tuple(elements), DType.U32)
        if not self.dot.flip:
            return [Let(name, value)]
        raw = Ref(f"{name}_raw", DType.U32)
        return [Let(raw.name, value), Let(name, Op("bit_xor", (raw, Const(0x80808080, DType.U32)), DType.U32))]

    @property
    def _steady(self) -> tuple[int, int]:
        """The first column from which on all windows exist that might, and how many whole turns of all registers follow.

        Windows that start there have all of their taps: the others have biases of their own.
        """
        wide = self.window.wide
        columns = [x for x in range(1 if wide.pad else 0, wide.size - 1)
                   if x + wide.pad - wide.kernel + 1 >= 0 and (x + wide.pad) // wide.stride < wide.out]
        columns = list(itertools.takewhile(lambda x: wide.static_bounds((x + wide.pad) // wide.stride) == (0, wide.kernel), columns))
        if not columns:
            return 0, 0
        return columns[0], len(columns) // (open_sums(self.window) * wide.stride)
