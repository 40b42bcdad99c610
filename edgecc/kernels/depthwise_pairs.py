"""Depthwise convolution of 8-bit integers by pairs of words, for machines that multiply those and have no product of four bytes (AVX2).

    for row, channel block: for input column: p = pairs of words; for each window it lies in: acc += dot(p, w)

Two rows of a column make a pair, and of an odd number of rows the last one makes pairs of two columns: 3 x 3 taps are three pairs of
the first kind and one and a half of the second. Sums roll along the row as in edgecc/kernels/depthwise_rolling.py. Sixteen channels,
as many as a register has words, are widened and interleaved at a time, and lie in two registers from there to the store.

A tap that is left over at the end of a row is one of a pair that other windows have as well: the one before it where windows begin
at every column, the one behind it where they begin at every second one. Rows of the padding enter as zero points, columns of it are
left out, and what a zero point contributes besides is in the biases (edgecc/kernels/borders.py). Rows whose lines leave the
first-level cache come in tiles of columns, all channels of a tile before the next one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from edgecc.ir.types import Array, DType
from edgecc.kernels import complements
from edgecc.kernels.borders import Borders
from edgecc.kernels.contraction_weights import Weights, folds_offset
from edgecc.kernels.depthwise_block import Window
from edgecc.kernels.epilogue import Epilogue
from edgecc.kernels.grouped import Terms
from edgecc.kernels.register_tile import Panel
from edgecc.kernels.request import Request
from edgecc.kernels.rows import Bounds
from edgecc.kernels.spatial import Segment
from edgecc.kernels.view import View
from edgecc.loop.index import ZERO, Index, const, var
from edgecc.loop.ir import (
    Assign,
    Body,
    Cast,
    Const,
    Declare,
    Expr,
    For,
    Let,
    Load,
    Op,
    Ref,
    Stmt,
    Store,
    subexpressions,
)
from edgecc.targets.schema import Target

PRODUCT, TERMS = "dot_s16", 2

CHANNELS = 16
"""Most channels at a time."""

BUSY = 0.7
"""Share of the vector instructions a core can start that such loops do (Zen 3)."""

CACHED = 0.75
"""How much of the first-level cache the lines under a row may fill (Zen 3: those that fill it take 0.85 of their time in two tiles,
those that fill 0.74 of it 1.01)."""

PLAIN = frozenset({"add", "sub", "mul", "max", "min", "nearest"})
"""What is done to sums in two registers."""

CLOSING = 10.0
"""Instructions for 16 results: conversions, products, packing, a store."""


@dataclass(frozen=True)
class Paired:
    """`vectors` registers of sums of channels side by side, which are one vector of `lanes`."""

    vectors: int = 2
    lanes: int = CHANNELS


@dataclass(frozen=True)
class Product:
    """A pair of taps of a window.

    Attributes:
        column: where the pair is complete, counted from the window's first column.
        line: the first row of the pair, or the row of both.
        across: whether it is of two rows of one column; else it is of that column and the one before.
        taps: the taps (row, column) that multiply the words of the pair; None where the product is none.
    """

    column: int
    line: int
    across: bool
    taps: tuple[tuple[int, int] | None, tuple[int, int] | None]


def products_of(window: Window) -> tuple[Product, ...]:
    """The pairs of taps of a window, in the order of their weights."""
    tall, wide = window.high.kernel, window.wide.kernel
    out = [Product(column, line, True, ((line, column), (line + 1, column))) for column in range(wide) for line in range(0, tall - 1, 2)]
    if tall % 2:
        last = tall - 1
        out += [Product(column, last, False, ((last, column - 1), (last, column))) for column in range(1, wide, 2)]
        if wide % 2 and window.wide.stride % 2:
            out.append(Product(wide - 1, last, False, (None, (last, wide - 1))))
        elif wide % 2:
            out.append(Product(wide, last, False, ((last, wide - 1), None)))
    return tuple(out)


def arrange(window: Window, weights: Array) -> Array:
    """Weights [channels, 1, taps, taps] as i8 [channels, pairs * 2]."""
    pairs = [weights[:, 0, tap[0], tap[1]] if tap is not None else np.zeros(weights.shape[0], np.int8)
             for product in products_of(window) for tap in product.taps]
    return np.stack(pairs, axis=1)


def paired_cycles(window: Window, target: Target) -> float:
    """Modelled cycles for 16 channels of all results."""
    high, wide = window.high, window.wide
    products, columns = products_of(window), min(wide.size, wide.out * wide.stride + wide.kernel)
    # A column is widened line by line; two instructions join, multiply and add 16 pairs.
    joined = columns * (high.kernel // 2) + (columns * (high.kernel % 2) if wide.stride == 1 else wide.out * (wide.kernel // 2 + 1) * (high.kernel % 2))
    instructions = columns * high.kernel + 2 * joined + wide.out * (4 * len(products) + CLOSING)
    return high.out * (instructions / (BUSY * target.core.issue_width) + 10.0)


def tile_of(window: Window, channels: int, target: Target) -> int:
    """How many results of a row are computed for all channels before the next ones: each line of the cache is read for several
    vectors of channels, so what lies under these results should stay in the first-level cache."""
    wide, first = window.wide, target.cache(1)
    tiles = 1 if first is None else -(-window.high.kernel * wide.size * channels // int(CACHED * first.size))
    tile = -(-wide.out // tiles)
    last = wide.out - 1 - (wide.out - 1) % tile - 1  # of the tiles that are alike
    return tile if wide.kernel <= tile and wide.static_bounds(tile) == wide.static_bounds(max(last, tile)) == (0, wide.kernel) else wide.out


def paired_terms(x: View, zero: int) -> Terms:
    """How such a kernel reads its terms: bytes widened to words; biases know of their zero point."""
    return Terms(x, TERMS, PRODUCT, False, zero)


def pays(request: Request, epilogue: Epilogue) -> bool:
    """Whether a target has such products and none of four bytes (with AVX-512 it was never measured), and 16 sums leave together.

    Sums in two registers meet nothing but factors and numbers of their channels and saturate to bytes.
    """
    if not complements.pays(request.target) or request.target.vector.bits != 256 or not folds_offset(request):
        return False
    plain = all(view.strides[1] == 0 or (view.strides[1] == 1 and view.dtype in (DType.F32, DType.I32)) for _, view in epilogue.extras)
    stored = epilogue.store(Ref("acc", DType.I32), lambda view: ZERO)
    return plain and isinstance(stored, Store) and _saturates(stored.value)


def _saturates(value: Expr) -> bool:
    match value:
        case Cast(arg=Op("min", (Op("max", (inner, Const())), Const())), dtype=DType.I8 | DType.U8):
            return all(not isinstance(part, Op) or part.op in PLAIN for part in subexpressions(inner))
    return False


@dataclass(frozen=True)
class PairedNest:
    """What rows are made of, in tiles of `tile` results; see the kernel that uses it for the meaning of the other fields."""

    x: View
    window: Window
    weights: Weights
    epilogue: Epilogue
    image: Index
    borders: Borders | None
    zero: int
    packed: int
    tile: int

    def rows(self, bounds: Bounds | None, panels: Callable[[Callable[[Panel, Index, Index, Index], Body]], Body]) -> Body:
        """All rows, or those within `bounds`; `panels` puts what happens in one panel into loops over all of them."""
        out: list[Stmt] = []
        for segment, start, stop in self.window.high.segments_within(bounds):
            alone = bounds is None and segment.extent == 1
            row = start if alone else var("row0")
            body = tuple(stmt for windows, tiles in self._tiles for stmt in self._tile(windows, tiles, partial(self._row, segment, row), panels))
            out += body if alone else (For("row0", start, stop, body),)
        return tuple(out)

    @property
    def _tiles(self) -> tuple[tuple[range, int], ...]:
        """The results of a row as windows that are computed for all channels before the next ones, and how many tiles like them follow
        each other: the outermost ones have borders."""
        out = self.window.wide.out
        if self.tile >= out:
            return ((range(out), 1),)
        inner, last = divmod(out - 1, self.tile)
        middle = ((range(self.tile, 2 * self.tile), inner - 1),) if inner > 1 else ()
        return (range(self.tile), 1), *middle, (range(out - 1 - last, out), 1)

    def _tile(self, windows: range, tiles: int, row: Callable[[range, Index, Panel, Index, Index, Index], Body],
              panels: Callable[[Callable[[Panel, Index, Index, Index], Body]], Body]) -> Body:
        """`tiles` tiles of a row, the first of which has these windows."""
        if tiles == 1:
            return panels(partial(row, windows, ZERO))
        return (For("tile", ZERO, const(tiles), panels(partial(row, windows, var("tile") * self.tile))),)

    def _row(self, segment: Segment, row: Index, windows: range, moved: Index,
             panel: Panel, channel0: Index, w_start: Index, b_start: Index) -> Body:
        """Some results of a row, `moved` to the right."""
        high, wide = self.window.high, self.window.wide
        lines = range(segment.tap_start or 0, segment.tap_stop or 0)
        lane, live = var("channel"), self._live
        channel = channel0 + lane
        sums = [Ref(f"acc{i}", DType.I32) for i in range(live)]

        def address(column: Index) -> Callable[[View], Index]:
            return lambda view: view.at([self.image, channel, row, column])

        def bias(o: int, column: Index) -> Expr:
            place = b_start + lane
            if self.borders is not None:
                broad = self.borders.axes[-1]
                place = place + (broad.of_taps(*map(const, wide.static_bounds(o))) if broad.count > 1 else ZERO) * self.packed
            return self.weights.bias(place, address(column))

        def byte(line: int, x: int, place: Index) -> Expr:
            """A byte of the input; rows of the padding hold the zero point, columns of it count for nothing."""
            if not 0 <= x < wide.size or line not in lines:
                return Const(self.zero if 0 <= x < wide.size else 0, self.x.dtype)
            return Load("x", self.x.at([self.image, channel, high.first(row) + line, place]), self.x.dtype)

        def column(x: int, place: Index, shift: Index, opened: set[int]) -> list[Stmt]:
            """Column `x`, at `place`; results lie `shift` farther than for x. Results of `opened` have their start already."""
            out: list[Stmt] = []
            for o in self._windows(x, windows):
                if o not in opened and x == max(0, o * wide.stride - wide.pad):
                    out.append(Assign(sums[o % live].name, bias(o, shift + o)))
            steps = [(product, number, o) for o in self._windows(x, windows) for number, product in enumerate(self._products)
                     if o * wide.stride - wide.pad + product.column == x]
            for (line, across), same in itertools.groupby(sorted(steps, key=lambda step: (step[0].line, step[0].across)),
                                                          key=lambda step: (step[0].line, step[0].across)):
                words = (byte(line, x, place), byte(line + 1, x, place)) if across else (byte(line, x - 1, place - 1), byte(line, x, place))
                if all(isinstance(word, Const) and word.value == 0 for word in words):
                    continue
                pair = Ref(f"x{x}_{line}", DType.U32)
                out.append(Let(pair.name, Op("join_words", words, DType.U32)))
                out += [Assign(sums[o % live].name, Op(PRODUCT, (pair, Ref(f"w{number}", DType.U32), sums[o % live]), DType.I32))
                        for _, number, o in same]
            out += [self.epilogue.store(sums[o % live], address(shift + o)) for o in self._windows(x, windows) if self._last(o) == x]
            return out

        body: list[Stmt] = []
        for o in range(windows.start, windows.start + live):
            known = min(o, windows.stop - 1)
            body.append(Declare(sums[o % live].name, bias(known, moved + known)))
        body += [Let(f"w{number}", Load("w", w_start + number * panel.padded + lane, DType.U32)) for number in range(len(self._products))]
        opened = set(range(windows.start, windows.start + live))
        low, turns = self._steady(windows)
        period, place = live * wide.stride, moved * wide.stride
        for x in range(max(0, windows.start * wide.stride - wide.pad), low):
            body += column(x, place + x, moved, opened)
        step = var("turn") if turns > 1 else ZERO
        steady = [stmt for x in range(low, low + period if turns else low)
                  for stmt in column(x, place + x + step * period, moved + step * live, set() if turns > 1 else opened)]
        body += (For("turn", ZERO, const(turns), tuple(steady)),) if turns > 1 else steady
        for x in range(low + turns * period, self._last(windows.stop - 1) + 1):
            body += column(x, place + x, moved, opened)
        return (For("channel", ZERO, const(panel.size), tuple(body)),)

    @cached_property
    def _products(self) -> tuple[Product, ...]:
        return products_of(self.window)

    @property
    def _span(self) -> int:
        """Columns from the first to the last one at which something is added to a sum."""
        return max(product.column for product in self._products) + 1

    @property
    def _live(self) -> int:
        """How many sums are open at a time."""
        return -(-self._span // self.window.wide.stride)

    def _windows(self, x: int, among: range) -> list[int]:
        """The windows to whose sums something may be added at a column, the last one first."""
        wide = self.window.wide
        return [o for o in range((x + wide.pad) // wide.stride, -1, -1) if o in among and x + wide.pad - o * wide.stride < self._span]

    def _last(self, o: int) -> int:
        """The column at which a window's sum is complete: at the latest the one behind the image, which completes pairs."""
        wide = self.window.wide
        return min(o * wide.stride - wide.pad + self._span - 1, wide.size)

    def _steady(self, windows: range) -> tuple[int, int]:
        """The first column from which on all of some windows exist that might, and how many whole turns of all sums follow.

        Windows that start there have all of their taps: the others have biases of their own.
        """
        wide = self.window.wide
        columns = [x for x in range(1, wide.size)
                   if x + wide.pad - self._span + 1 >= windows.start * wide.stride and (x + wide.pad) // wide.stride < windows.stop]
        first = max(0, windows.start * wide.stride - wide.pad)
        columns = list(itertools.takewhile(lambda x: wide.static_bounds((x + wide.pad) // wide.stride) == (0, wide.kernel), columns))
        return (columns[0], len(columns) // (self._live * wide.stride)) if columns else (first, 0)
