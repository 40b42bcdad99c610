"""How Winograd tiles cover an axis of a convolution, and where the values of each tile lie in the scratch arrays.

Windows with stride s are sums over s phases of the input: phase p holds inputs p, p + s, ... and meets taps p, p + s, ...,
with stride 1. Phases of several taps are filtered by F(m, taps); one of a single tap has m products by the same weight.

The last tile of an axis may have fewer results than the others and use fewer of the same points, so 14 results are
4 + 4 + 4 + 2 and cost 22 products instead of 24. Points and results that have products in the same tiles form a
`Group`; all products of a pair of groups, one of each axis, are matrix products with the same number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import TypeVar

from edgecc.kernels.spatial import Axis
from edgecc.kernels.winograd_transform import (
    Bind,
    Matrix,
    MinimalFilter,
    Term,
    combination,
    filter_of,
    largest_gain,
    output_terms,
    transform_input,
    weight_matrix,
)
from edgecc.loop.index import Index, const
from edgecc.loop.ir import Expr

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """`points` weights along an axis that are multiplied in the same tiles.

    Attributes:
        points: transformed weights. They lie behind those of the groups before.
        whole_only: a shorter last tile does not have them.
        per_result: each weight has one product a result of a tile instead of one a tile.
    """

    points: int
    whole_only: bool = False
    per_result: bool = False


@dataclass(frozen=True)
class Band:
    """Tiles [start, stop) along an axis with `m` results whose positions [first, last) are valid: inside the input, or
    results there are."""

    start: int
    stop: int
    first: int
    last: int
    m: int


@dataclass(frozen=True)
class Tiling:
    """`count` tiles of `m` results along an axis; the last one has transforms for `rest` results, all of them in `integers` or floats."""

    axis: Axis
    m: int
    count: int
    rest: int
    integers: bool = False

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups of products, in the order of their weights."""
        out: list[Group] = []
        for taps in self._phases:
            if taps == 1:
                out.append(Group(1, per_result=True))
                continue
            out.append(Group(self.rest + taps - 1))
            if self.rest < self.m:
                out.append(Group(self.m - self.rest, whole_only=True))
        return tuple(out)

    @property
    def _phases(self) -> tuple[int, ...]:
        """Taps of each phase."""
        return tuple(-(-(self.axis.kernel - phase) // self.axis.stride) for phase in range(self.axis.stride))

    def _filter(self, m: int, taps: int) -> MinimalFilter:
        return filter_of(m, self.m, taps, integers=self.integers)

    @property
    def multiple(self) -> int:
        """How many times too large the results are, of all phases."""
        return self._filter(self.m, max(self._phases)).multiple

    def inputs(self, m: int) -> int:
        """Inputs under a tile, or under as many neighbouring results."""
        return (m - 1) * self.axis.stride + self.axis.kernel

    def group_lines(self, group: Group, m: int) -> int:
        """Products of a group in a tile of `m` results."""
        return 0 if group.whole_only and m < self.m else group.points * (m if group.per_result else 1)

    def first_line(self, group: int, m: int) -> int:
        """Which product of a tile of `m` results is the first of a group."""
        return sum(self.group_lines(g, m) for g in self.groups[:group])

    def group_of(self, line: int, m: int) -> int:
        """The group of a product of a tile of `m` results."""
        return max(n for n, g in enumerate(self.groups) if self.first_line(n, m) <= line and self.group_lines(g, m))

    def lines(self, m: int) -> int:
        """Products of a tile of `m` results."""
        return self.first_line(len(self.groups), m)

    def ends_early(self, first: int, tiles: int) -> bool:
        """Whether the last of `tiles` tiles from `first` on is a short one."""
        return self.rest < self.m and first + tiles == self.count

    def results(self, tiles: int, short: bool) -> int:
        """Results of `tiles` neighbouring tiles, the last one `short` or not."""
        return tiles * self.m - (self.m - self.rest if short else 0)

    def rows(self, group: Group, tiles: int, short: bool) -> int:
        """Products by each weight of a group in `tiles` neighbouring tiles, the last one `short` or not."""
        return self.results(tiles, short) if group.per_result else tiles - (group.whole_only and short)

    def weight_matrix(self) -> Matrix:
        """G, [points of all groups, taps]."""
        rows: list[tuple[Fraction, ...]] = []
        for phase, taps in enumerate(self._phases):
            own: Sequence[Sequence[Fraction]] = ((Fraction(self.multiple),),)
            if taps > 1:
                own = self._ordered(weight_matrix(self._filter(self.m, taps)), taps)
            for row in own:
                spread = [Fraction(0)] * self.axis.kernel
                spread[phase::self.axis.stride] = row
                rows.append(tuple(spread))
        return tuple(rows)

    @property
    def gain(self) -> float:
        """How much larger than the inputs the first factors of products can be."""
        return float(max((largest_gain(self._filter(size, taps)) for size in {self.m, self.rest} for taps in self._phases if taps > 1),
                         default=Fraction(1)))

    def _ordered(self, values: Sequence[T], taps: int) -> list[T]:
        """Values of the finite points and of infinity, those that every tile has first."""
        shared = self.rest + taps - 2
        return [*values[:shared], values[-1], *values[shared:-1]]

    def transform_input(self, m: int, d: Sequence[Expr | None], bind: Bind) -> list[Expr | None]:
        """The first factors of all products of a tile of `m` results; None stands for zero."""
        out: list[Expr | None] = []
        for phase, taps in enumerate(self._phases):
            own = d[phase::self.axis.stride][:m + taps - 1]
            out += own if taps == 1 else self._ordered(transform_input(self._filter(m, taps), own, bind), taps)
        return out

    def transform_output(self, m: int, products: Sequence[Expr], bias: Expr | None, bind: Bind) -> list[Expr]:
        """The `m` results of a tile, plus `bias`."""
        terms: list[list[Term]] = [[] for _ in range(m)]
        start = 0
        for taps in self._phases:
            count = m + taps - 1
            own = products[start:start + count]
            start += count
            if taps == 1:
                parts: list[list[Term]] = [[(Fraction(1), value)] for value in own]
            else:
                shared = self.rest + taps - 2
                parts = output_terms(self._filter(m, taps), [*own[:shared], *own[shared + 1:], own[shared]], bind)
            for total, part in zip(terms, parts, strict=True):
                total.extend(part)
        sums = [combination([*total, (Fraction(1), bias)]) for total in terms]
        return [value for value in sums if value is not None]

    def input_bands(self) -> tuple[Band, ...]:
        """Tiles by which of their inputs lie inside the input."""
        step, pad, size = self.m * self.axis.stride, self.axis.pad, self.axis.size
        return self._bands([(max(0, pad - t * step), min(self.inputs(self.size_of(t)), size + pad - t * step)) for t in range(self.count)])

    def output_bands(self) -> tuple[Band, ...]:
        """Tiles by which of their results there are."""
        return self._bands([(0, min(self.size_of(t), self.axis.out - t * self.m)) for t in range(self.count)])

    def size_of(self, tile: int) -> int:
        """Results that a tile has transforms for."""
        return self.rest if tile == self.count - 1 else self.m

    def _bands(self, valid: Sequence[tuple[int, int]]) -> tuple[Band, ...]:
        out: list[Band] = []
        for tile, (first, last) in enumerate(valid):
            band = Band(tile, tile + 1, first, last, self.size_of(tile))
            if out and (out[-1].first, out[-1].last, out[-1].m) == (first, last, band.m):
                band = Band(out.pop().start, tile + 1, first, last, band.m)
            out.append(band)
        return tuple(out)

    def cuts(self, size: int) -> tuple[Cut, ...]:
        """Blocks of `size` tiles, and what remains; a short tile lies in a block of its own code."""
        whole = (self.count - (self.rest < self.m)) // size
        out = [Cut(0, size, whole, self.ends_early(0, size))] if whole else []
        left = self.count - whole * size
        return (*out, *([Cut(whole * size, left, 1, self.ends_early(whole * size, left))] if left else []))


@dataclass(frozen=True)
class Cut:
    """`count` blocks of `size` tiles along an axis from tile `first` on; the last tile of the last block is `short` or not."""

    first: int
    size: int
    count: int
    short: bool


@dataclass(frozen=True)
class Division:
    """How threads divide a convolution: `rows` ranges of rows of blocks, each by `channels` ranges of result channels.

    Threads of one range of rows transform the same inputs, each for itself: on Zen 5 a core writes lines that another one
    has read at 8 GB/s, a tenth of what it does otherwise, so nothing that threads share is written between begin and end.

    Ranges of rows are as many whole blocks, or, where `even`, as many results, each range with tiles of its own: 28 rows are
    4 + 4 + 4 + 2 twice instead of seven times 4, of which one thread had four.
    """

    rows: int = 1
    channels: int = 1
    even: bool = False

    @property
    def shares(self) -> int:
        """Shares in all, one a thread."""
        return self.rows * self.channels

    @property
    def text(self) -> str:
        """For `Kernel.choice`."""
        return f", threads by {self.rows} {'even ' if self.even else ''}ranges of rows x {self.channels} of channels" if self.shares > 1 else ""

    @property
    def tiled_ranges(self) -> int:
        """Ranges of rows with tiles of their own."""
        return self.rows if self.even else 1

    def axis(self, vertical: Axis, part: int) -> Axis:
        """The axis that the tiles of range `part` of rows lie along: its rows of results, and where their inputs begin."""
        if not self.even:
            return vertical
        out = vertical.out // self.rows
        return replace(vertical, out=out, pad=vertical.pad - part * out * vertical.stride)

    def bounds(self, cuts: Sequence[Cut], part: Index) -> tuple[tuple[Index, Index], ...]:
        """Which blocks of each cut belong to range `part` of rows: first, and one past the last.

        Ranges are as even as can be; where cuts do not divide, the first and the last ranges have one more in turn.
        """
        out, rounding = [], self.rows - 1
        for cut in cuts:
            out.append(((part * cut.count + rounding).floordiv(self.rows), ((part + 1) * cut.count + rounding).floordiv(self.rows)))
            if cut.count % self.rows:
                rounding = self.rows - 1 - rounding
        return tuple(out)

    def unevenness(self, tiling: Tiling, size: int) -> float:
        """The work of the busiest thread over a fair share, for blocks of `size` rows of tiles."""
        if self.even:
            return 1.0
        cuts = tiling.cuts(size)
        lines = [cut.size * tiling.lines(tiling.m) - cut.short * (tiling.lines(tiling.m) - tiling.lines(tiling.rest)) for cut in cuts]
        parts = [sum((stop - start).const * own for own, (start, stop) in zip(lines, self.bounds(cuts, const(part)), strict=True))
                 for part in range(self.rows)]
        return max(parts) * self.rows / sum(parts)


ALONE = Division()
"""No threads."""


@dataclass(frozen=True)
class Blocking:
    """How many tiles are worked on at a time.

    Attributes:
        m: results of a tile along each axis.
        rows, columns: tiles along each axis in all; where ranges of rows have tiles of their own, rows of a range.
        block_rows, block_columns: tiles of a block along each axis; one of a kind at the border may have fewer.
        exact: whether the last tiles have transforms for just the results there are, instead of for m.
        division: the threads' shares.
        integers: whether transforms are those of integers.
    """

    m: int
    rows: int
    columns: int
    block_rows: int
    block_columns: int
    exact: bool = False
    division: Division = ALONE
    integers: bool = False

    @property
    def tiles(self) -> int:
        """Tiles of a block."""
        return self.block_rows * self.block_columns

    def tilings(self, axes: tuple[Axis, Axis], part: int = 0) -> tuple[Tiling, Tiling]:
        """The tiles along each axis, those of range `part` of rows where ranges have tiles of their own."""
        axes = self.division.axis(axes[0], part), axes[1]
        vertical, horizontal = ((axis, count, axis.out - (count - 1) * self.m if self.exact else self.m)
                                for axis, count in zip(axes, (self.rows, self.columns), strict=True))
        return Tiling(vertical[0], self.m, *vertical[1:], self.integers), Tiling(horizontal[0], self.m, *horizontal[1:], self.integers)


@dataclass(frozen=True)
class Pair:
    """The products of a pair of groups: the groups, and their weights and rows.

    Attributes:
        vertical, horizontal: numbers of the groups of each axis.
        points: pairs of weights.
        rows: most rows that the products of a block have.
        first_point: weights of all pairs of groups before.
    """

    vertical: int
    horizontal: int
    points: int
    rows: int
    first_point: int


def pairs_of(tilings: tuple[Tiling, Tiling], b: Blocking) -> tuple[Pair, ...]:
    """All pairs of groups, in the order of their weights."""
    high, wide = tilings
    out: list[Pair] = []
    for i, vertical in enumerate(high.groups):
        for j, horizontal in enumerate(wide.groups):
            rows = [max(t.rows(g, cut.size, cut.short) for cut in t.cuts(size))
                    for t, g, size in ((high, vertical, b.block_rows), (wide, horizontal, b.block_columns))]
            out.append(Pair(i, j, vertical.points * horizontal.points, rows[0] * rows[1],
                            out[-1].first_point + out[-1].points if out else 0))
    return tuple(out)


@dataclass(frozen=True)
class Scratch:
    """An array [pair of groups][point][row][channel]: the distance of rows, and for each pair where it starts and the
    distance of its points, in elements."""

    row: int
    starts: tuple[int, ...]
    points: tuple[int, ...]
    elements: int


@dataclass(frozen=True)
class Block:
    """A block of tiles: where it starts, how many tiles it has along each axis, and whether the last ones are short."""

    row: Index
    column: Index
    rows: int
    columns: int
    short: tuple[bool, bool]
