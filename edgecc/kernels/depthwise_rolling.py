"""Depthwise convolution along rows with rolling sums: every column of input is loaded once and serves all windows it lies in.

    for row, channel block: w = weights; for input column: x = its elements; for each window it lies in: acc += x * w;
        store the sum that is complete, start the next one in its register

As many sums are open at a time as windows overlap, so that there is room for the weights of several vectors of channels;
neighbouring vectors are loaded and stored by pairs where a machine has such instructions. Which rows of a window lie
inside the input is known for every segment of rows; one row alone is as cheap as many, which suits short ranges of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgecc.ir.types import DType
from edgecc.kernels.contraction import centred, multiply_add, panel_loops
from edgecc.kernels.contraction_weights import Weights
from edgecc.kernels.cost import OVERLAP
from edgecc.kernels.depthwise_block import Window
from edgecc.kernels.epilogue import Epilogue
from edgecc.kernels.register_tile import LINE_BYTES, Panel
from edgecc.kernels.rows import Bounds
from edgecc.kernels.spatial import Segment
from edgecc.kernels.view import View
from edgecc.loop.index import ZERO, Index, const, var
from edgecc.loop.ir import Assign, Body, Declare, For, Let, Load, Ref, Reload, Stmt
from edgecc.targets.schema import Target

VECTORS = 2
"""Vectors of channels whose sums are open at a time."""

PAIR_REACH = 1008
"""Largest distance in bytes of a pair of vectors from the pointer it is loaded by (AArch64, LDP of 128-bit registers)."""

SPARE_REGISTERS = 4
"""Registers for input elements and for constants of the epilogue."""

CLOSING_INSTRUCTIONS = 4.0
"""Instructions for one vector of results beside multiply-adds and loads of input: start, clamp, store."""


@dataclass(frozen=True)
class Rolling:
    """`vectors` vectors of channels side by side."""

    vectors: int


def open_sums(window: Window) -> int:
    """How many windows of a row an input column lies in at most."""
    return -(-window.wide.kernel // window.wide.stride)


def rolling_of(window: Window, channels: int, lanes: int, target: Target) -> Rolling | None:
    """Rolling sums of `VECTORS` vectors; None where registers or channels are too few (the sums of one vector would wait for
    each other), where windows along a row leave gaps or lie in the padding, and on cores that issue in order, which cannot
    begin with the next column while the sums of this one wait (by their issue rules 42 % of the peak, blocks 46 to 56 %)."""
    wide = window.wide
    if wide.dilation != 1 or wide.stride > wide.kernel or target.core.in_order:
        return None
    # Windows further left begin further in the padding, and those further right end there: the outermost ones decide.
    if not all(start < stop for start, stop in (wide.static_bounds(o) for o in (0, wide.out - 1)[:wide.out])):
        return None
    room = VECTORS * (window.taps + open_sums(window)) + SPARE_REGISTERS <= target.vector.registers
    return Rolling(VECTORS) if room and channels >= VECTORS * lanes else None


def group_size(window: Window, panel: Panel, element_bytes: int, target: Target) -> int:
    """How many panels of channels are computed for all rows before the next ones come.

    As many as keep the rows of input under a window, and a row of results, in half of the first-level cache, so that the
    next row of results finds all of them there but the last; all panels where not even a line of each pixel would stay.
    """
    first = target.cache(1)
    pixels = window.high.kernel * window.wide.size + window.wide.out
    room = 0 if first is None else first.size // 2
    for size in range(panel.count, 0, -1):
        group_bytes = size * panel.size * element_bytes
        if panel.count % size == 0 and group_bytes >= LINE_BYTES and pixels * group_bytes <= room:
            return size
    return panel.count


def rolling_cycles(window: Window, rolling: Rolling, target: Target) -> float:
    """Modelled cycles for one vector of channels of all results."""
    core, wide, vectors = target.core, window.wide, rolling.vectors
    results = window.high.out * wide.out
    pair = 2.0 if vectors > 1 and target.vector.fma_by_lane else 1.0
    loads = window.high.out * (window.high.kernel * min(wide.size, wide.out * wide.stride + wide.kernel) + window.taps) / pair
    adds = results * window.taps
    instructions = adds + loads + results * (CLOSING_INSTRUCTIONS - 1.0 + 1.0 / pair)
    arithmetic = max((adds + 2.0 * results) / core.fma_per_cycle, pair * loads / core.loads_per_cycle, instructions / core.issue_width)
    lines = window.high.out * window.high.kernel * wide.size * (target.vector.bits / 8) / target.bandwidth.level2
    return arithmetic + (1.0 - OVERLAP) * lines + 10.0 * window.high.out


@dataclass(frozen=True)
class RollingNest:
    """What rows are made of; see the kernel that uses it for the meaning of the fields."""

    x: View
    w: DType
    window: Window
    weights: Weights
    epilogue: Epilogue
    image: Index
    reload: bool
    zero: int = 0

    def rows(self, bounds: Bounds | None, panels: Sequence[Panel], target: Target) -> Body:
        """All rows, or those within `bounds`, of some channels at a time."""
        groups = []
        for panel in panels:
            size = group_size(self.window, panel, self.x.dtype.size, target)
            groups.append(Panel(panel.start, panel.size * size, panel.padded * size, panel.count // size))
        widths = {group.start: panel for group, panel in zip(groups, panels, strict=True)}
        return panel_loops(groups, self.window.taps, lambda group, *starts: self._group(bounds, group, widths[group.start], *starts))

    def _group(self, bounds: Bounds | None, group: Panel, panel: Panel, channel0: Index, w_start: Index, b_start: Index) -> Body:
        out: list[Stmt] = []
        count = group.size // panel.size
        place = var("place") if count > 1 else ZERO
        starts = (channel0 + place * panel.size, w_start + place * (panel.padded * self.window.taps), b_start + place * panel.padded)
        for segment, start, stop in self.window.high.segments_within(bounds):
            alone = bounds is None and segment.extent == 1
            row = start if alone else var("row0")
            body: Body = (self._row(segment, row, panel, *starts),)
            if count > 1:
                body = (For("place", ZERO, const(count), body),)
            out += body if alone else (For("row0", start, stop, body),)
        return tuple(out)

    def _row(self, segment: Segment, row: Index, panel: Panel, channel0: Index, w_start: Index, b_start: Index) -> For:
        high, wide = self.window.high, self.window.wide
        taps = range(segment.tap_start or 0, segment.tap_stop or 0)
        lane, live = var("channel"), open_sums(self.window)
        channel = channel0 + lane

        def address(column: Index) -> Callable[[View], Index]:
            return lambda view: view.at([self.image, channel, row, column])

        first = self.weights.bias(b_start + lane, address(ZERO))
        sums = [Ref(f"acc{i}", first.dtype) for i in range(live)]

        def column(x: int, place: Index, shift: Index, opened: set[int]) -> list[Stmt]:
            """Column `x`, at `place`; results lie `shift` farther than for x. Results of `opened` have their start already."""
            out: list[Stmt] = []
            windows = [(o, x + wide.pad - o * wide.stride) for o in range((x + wide.pad) // wide.stride, -1, -1)
                       if o < wide.out and x + wide.pad - o * wide.stride < wide.kernel]
            for o, _ in windows:
                if o not in opened and x == max(0, o * wide.stride - wide.pad):
                    bias = self.weights.bias(b_start + lane, address(shift + o))
                    out += [*([Reload("b", b_start)] if self.reload else []), Assign(sums[o % live].name, bias)]
            for tap in taps if windows else ():
                source = self.x.at([self.image, channel, high.first(row) + tap * high.dilation, place])
                loaded = centred(Load("x", source, self.x.dtype), self.zero)
                element = Ref(f"x{x}_{tap}", loaded.dtype)
                out.append(Let(element.name, loaded))
                for o, across in windows:
                    total = sums[o % live]
                    out.append(Assign(total.name, multiply_add(element, Ref(f"w{tap}_{across}", self.w), total)))
            for o, across in windows:
                if across == wide.kernel - 1 or x == wide.size - 1:
                    out.append(self.epilogue.store(sums[o % live], address(shift + o)))
            return out

        body: list[Stmt] = [Declare(total.name, first) for total in sums]
        body += [Let(f"w{tap}_{across}", Load("w", w_start + (tap * wide.kernel + across) * panel.padded + lane, self.w))
                 for tap in taps for across in range(wide.kernel)]
        opened = set(range(live))
        low, turns = self._steady
        period = live * wide.stride
        columns = period * self._periods
        for x in range(low):
            body += column(x, const(x), ZERO, opened)
        if turns:
            step = var("turn") if turns > 1 else ZERO
            steady: list[Stmt] = []
            for start in range(low, low + columns, period):
                if turns > 1 and self.reload and self.x.strides[-1] * self.x.dtype.size <= PAIR_REACH:
                    places = [[self.image, channel0, high.first(row) + tap * high.dilation, step * columns + start] for tap in taps]
                    steady += [Reload("x", self.x.at(place)) for place in places]
                for x in range(start, start + period):
                    steady += column(x, const(x) + step * columns, step * (columns // wide.stride), set() if turns > 1 else opened)
            body += (For("turn", ZERO, const(turns), tuple(steady)),) if turns > 1 else steady
        for x in range(low + turns * columns, wide.size):
            body += column(x, const(x), ZERO, opened)
        return For("channel", ZERO, const(panel.size), tuple(body))

    @property
    def _steady(self) -> tuple[int, int]:
        """The first column from which on all windows exist that might, and how many whole turns of all registers follow."""
        wide = self.window.wide
        # At the first and the last column sums start and end that would not in the middle.
        columns = [x for x in range(1 if wide.pad else 0, wide.size - 1)
                   if x + wide.pad - wide.kernel + 1 >= 0 and (x + wide.pad) // wide.stride < wide.out]
        if not columns:
            return 0, 0
        return columns[0], len(columns) // (open_sums(self.window) * wide.stride * self._periods)

    @property
    def _periods(self) -> int:
        """How many turns of all registers an iteration takes. Two, which halves the cost of the loop, where one would move by a
        fraction of a cache line, so that the distances of its misses alternate and no prefetcher follows them, or where
        pixels lie line by line; elsewhere twice as many loads, each with a stride to be learnt, would cost more than the loop."""
        pixel = self.x.strides[-1] * self.x.dtype.size
        return 2 if pixel <= LINE_BYTES or open_sums(self.window) * self.window.wide.stride * pixel % LINE_BYTES else 1
