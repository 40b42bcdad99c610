"""The loops of a Winograd convolution with tiles of m x m results.

    for block of tiles:
        v[point][tile][channel] = B^T d B                 # d: the inputs under a tile, (m + 2) x (m + 2) of them for stride 1
        s[point][tile][out] = sum over channel of v * w   # one matrix product a point
        y = epilogue(A^T s A + bias)                      # m x m results of a tile

A two-dimensional transform is two passes of one-dimensional ones, over the columns and then over the rows, with what
is between them in a scratch array `t` that stays in the first cache. The first pass over the inputs runs along a whole
row of tiles, so that columns which two tiles share are transformed once. Rows of tiles of which the same rows lie inside
the input have code of their own, and columns outside are zeros in `t`; padding never exists in memory.

Each thread computes its share of the results (`Division`) from begin to end, with scratch arrays of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edgecc.ir.types import DType
from edgecc.kernels import half_sums
from edgecc.kernels.ahead import Ahead
from edgecc.kernels.contraction import INNER, PIXEL, Products, panel_loops, tile_nest
from edgecc.kernels.contraction_weights import Weights
from edgecc.kernels.epilogue import Epilogue
from edgecc.kernels.half_sums import Reduction
from edgecc.kernels.register_tile import LINE_BYTES, Panel
from edgecc.kernels.sum_types import convert, zero
from edgecc.kernels.view import View
from edgecc.kernels.winograd_numbers import FLOATS, Numbers
from edgecc.kernels.winograd_tiles import Band, Block, Blocking, Cut, Group, Pair, Scratch, Tiling
from edgecc.kernels.winograd_transform import Bind
from edgecc.loop.builder import add
from edgecc.loop.index import ZERO, Index, const, maximum, minimum, var
from edgecc.loop.ir import Body, Const, Expr, For, Let, Load, Prefetch, Ref, Stmt, Store

LANE = "lane"
"""The loop over the channels of one vector; every iteration is independent of the others."""

SHARE = "share"
"""The loop over the shares of threads."""

MOST_EARLY = 8
"""Most lines of weights prefetched at once during the transforms of the inputs."""


@dataclass(frozen=True)
class Winograd:
    """A convolution as loops over tiles.

    Attributes:
        x: view of the input [N, C, H, W], or of the elements that it is read in.
        outputs: result channels.
        tilings: the tiles along each spatial axis.
        blocking: the blocks of tiles.
        pairs: the pairs of groups of products.
        lanes: channels of a vector.
        v, s: where the factors of the products and their sums lie in the arrays of a share.
        ahead: how the products of each pair prefetch weights, if they do.
        numbers: what is computed with.
        share_weights: transformed weights of a range of result channels. early: bytes of them that are prefetched during the
            transforms of the inputs, which need nothing else from far away.
        ranges: the tiles along the first axis of each range of rows that has tiles of its own. first_row: of the results.
    """

    x: View
    outputs: int
    tilings: tuple[Tiling, Tiling]
    blocking: Blocking
    pairs: tuple[Pair, ...]
    lanes: int
    v: Scratch
    s: Scratch
    ahead: tuple[Ahead, ...] = ()
    numbers: Numbers = FLOATS
    share_weights: int = 0
    early: int = 0
    ranges: tuple[Tiling, ...] = ()
    first_row: int = 0

    @property
    def inner(self) -> int:
        """Extent of the innermost loop of the products."""
        return self.ahead[0].steps if self.ahead else self.depth

    @property
    def depth(self) -> int:
        """Steps of the products: input channels, or groups of them."""
        return self.x.dims[1] * self.numbers.parts

    @property
    def scratch(self) -> tuple[tuple[str, DType, int], ...]:
        """The scratch arrays: name, type and number of elements."""
        shares = self.blocking.division.shares
        return tuple((name, dtype, shares * elements) for name, dtype, elements in (
            ("v", self.numbers.factors, self.v.elements), ("s", self.numbers.dtype, self.s.elements), ("t", self.numbers.dtype, self._t_size)))

    @property
    def _width(self) -> int:
        """Input columns under a block."""
        wide = self.tilings[1]
        return wide.inputs(self.blocking.block_columns * wide.m)

    @property
    def _t_size(self) -> int:
        high, wide = self.tilings
        return max(high.lines(high.m) * self._width, high.m * wide.lines(wide.m)) * self.lanes

    @property
    def _share(self) -> Index:
        return var(SHARE) if self.blocking.division.shares > 1 else ZERO

    @property
    def own_outputs(self) -> int:
        """Result channels of a share."""
        return self.outputs // self.blocking.division.channels

    @property
    def _row_part(self) -> Index:
        division = self.blocking.division
        return self._share.floordiv(division.channels) if division.rows > 1 else ZERO

    @property
    def _channel_part(self) -> Index:
        return self._share.mod(self.blocking.division.channels)

    def _t(self, position: Index) -> Index:
        """The address of lane 0 at a position."""
        return position * self.lanes + self._share * self._t_size

    def nest(self, panels: Sequence[Panel], weights: Weights, epilogue: Epilogue) -> Body:
        """The plain nest."""
        division, body = self.blocking.division, list[Stmt]()
        if division.even:
            for part, own in enumerate(self.ranges):  # whose code runs in the shares of that range
                ranged = replace(self, tilings=(own, self.tilings[1]), first_row=part * own.axis.out)
                bounds = maximum(self._row_part, part), minimum(self._row_part, part) + 1
                body.append(For("range", *bounds, ranged._blocks(panels, weights, epilogue)))
        else:
            body.extend(self._blocks(panels, weights, epilogue))
        if self.x.dims[0] > 1:
            body = [For("image", ZERO, const(self.x.dims[0]), tuple(body))]
        return (For(SHARE, ZERO, const(division.shares), tuple(body), kind="parallel"),) if division.shares > 1 else tuple(body)

    def _blocks(self, panels: Sequence[Panel], weights: Weights, epilogue: Epilogue) -> Body:
        """All blocks of a range of rows, or those of a share."""
        b, (high, wide) = self.blocking, self.tilings
        division, cuts = b.division, high.cuts(b.block_rows)
        divided = division.rows > 1 and not division.even
        body: list[Stmt] = []
        for rows, bounds in zip(cuts, division.bounds(cuts, self._row_part) if divided else [(ZERO, const(cut.count)) for cut in cuts], strict=True):
            own: list[Stmt] = []
            for columns in wide.cuts(b.block_columns):
                block = Block(_position("block_row", rows), _position("block_column", columns), rows.size, columns.size,
                              (rows.short, columns.short))
                inner = (*self._inputs(block), *self._products(block, panels, weights), *self._outputs(block, weights, epilogue))
                own.extend(_around("block_column", columns, inner))
            body.extend((For("block_row", *bounds, tuple(own)),) if rows.count > 1 or divided else own)
        return tuple(body)

    @property
    def _image(self) -> Index:
        return var("image") if self.x.dims[0] > 1 else ZERO

    def _place(self, scratch: Scratch, pair: Pair, block: Block, vertical: _Line, horizontal: _Line) -> Index:
        """The address of the first channel of a product in `v` or `s`."""
        wide = self.tilings[1]
        group = wide.groups[pair.horizontal]
        point = vertical.point * group.points + horizontal.point
        row = vertical.row * wide.rows(group, block.columns, block.short[1]) + horizontal.row
        return self._address(scratch, self.pairs.index(pair), point, row)

    def _address(self, scratch: Scratch, number: int, point: Index, row: Index) -> Index:
        """The address of a row of the products by a weight of pair `number`."""
        return point * scratch.points[number] + row * scratch.row + self._share * scratch.elements + scratch.starts[number]

    def _pair(self, vertical: int, horizontal: int) -> Pair:
        return self.pairs[vertical * len(self.tilings[1].groups) + horizontal]

    # -- inputs -----------------------------------------------------------------------------------

    def _inputs(self, block: Block) -> Body:
        def tile(band: Band, channel: Index, count: int) -> Body:
            return tuple(stmt for part in range(self.numbers.parts) for stmt in (
                *self._input_columns(block, band, channel, count, part),
                *self._input_rows(block, band, channel * self.numbers.parts + part * count, count)))

        return self._by_bands(block, self.tilings[0].input_bands(), self.x.dims[1], tile)

    def _by_bands(self, block: Block, bands: Sequence[Band], channels: int, body: Callable[[Band, Index, int], Body]) -> Body:
        """`body(band, first channel, count)` for every row of tiles and every vector of `channels` channels."""
        return tuple(loop for band in bands for loop in _clipped(
            "strip", block.row, block.rows, band, self._vectors(channels, lambda channel, count, band=band: body(band, channel, count))))  # type: ignore[misc]

    def _input_columns(self, block: Block, band: Band, channel: Index, count: int, part: int) -> Body:
        """B^T applied to the columns of a strip of inputs; zeros for columns outside."""
        (high, wide), x = self.tilings, self.x
        down, across, size = high.m * high.axis.stride, wide.m * wide.axis.stride, high.inputs(band.m)
        width = wide.inputs(wide.results(block.columns, block.short[1]))
        left = block.column * across - wide.axis.pad
        first, last = maximum(0, left * -1), minimum(width, const(wide.axis.size) - left)
        column, lane = var("column"), var(LANE)

        def load(i: int) -> Expr | None:
            if not band.first <= i < band.last:
                return None
            place = [self._image, channel + lane, var("strip") * down + (i - high.axis.pad), left + column]
            return self.numbers.read(Load("x", x.at(place), x.dtype), part)

        def store(i: int, value: Expr) -> Stmt:
            return Store("t", self._t(column + i * self._width) + lane, value)

        nothing: Expr = zero(self.numbers.dtype)
        zeros = (For(LANE, ZERO, const(count), tuple(store(i, nothing) for i in range(high.lines(band.m)))),)
        moved = _line(count, [load(i) for i in range(size)], lambda d, bind: high.transform_input(band.m, d, bind), store, nothing)
        early = self._early(block, channel, first, last - first)
        return tuple(For("column", start, stop, body) for start, stop, body in
                     ((ZERO, first, zeros), (first, last, (*early * (part == 0), moved)), (last, const(width), zeros)) if start != stop)

    def _early(self, block: Block, channel: Index, first: Index, columns: Index) -> Body:
        """Prefetches of the first weights in front of every column of inputs, of which a strip has `columns` from `first` on."""
        line, width = LINE_BYTES // self.numbers.factors.size, columns.const if columns.is_const else self._width
        strip = -(-self.x.dims[1] // self.lanes) * width
        lines = min(MOST_EARLY, self.early // (LINE_BYTES * block.rows * strip)) if width else 0
        place = ((var("strip") - block.row) * strip + (var("column") - first)) * (lines * line) + channel * (width * lines * line // self.lanes)
        return tuple(Prefetch("w", self._channel_part * self.share_weights + place + i * line) for i in range(lines))

    def _input_rows(self, block: Block, band: Band, channel: Index, count: int) -> Body:
        """B^T applied to the rows of each tile of a strip: what the products read."""
        wide, whole = self.tilings[1], block.columns - block.short[1]
        tiles = [(var("tile"), wide.m)] * (whole > 0) + [(const(whole), wide.rest)] * block.short[1]
        body: list[Stmt] = []
        for tile, m in tiles:
            lines = tuple(stmt for number in range(len(self.tilings[0].groups))
                          for stmt in self._input_group(block, band, number, tile, m, channel, count))
            body += lines if tile.is_const else (For("tile", ZERO, const(whole), lines),)
        return tuple(body)

    def _input_group(self, block: Block, band: Band, number: int, tile: Index, m: int, channel: Index, count: int) -> Body:
        """The lines of a tile that belong to one group of the first axis."""
        (high, wide), lane = self.tilings, var(LANE)
        group = high.groups[number]
        lines = high.group_lines(group, band.m)
        line = var("line") if lines > 1 else ZERO
        vertical = _line_of(group, line, var("strip") - block.row, high.m)
        first = (line + high.first_line(number, band.m)) * self._width + tile * (wide.m * wide.axis.stride)

        def load(j: int) -> Expr:
            return Load("t", self._t(first + j) + lane, self.numbers.dtype)

        def store(j: int, value: Expr) -> Stmt:
            horizontal, across = self._line_at(j, m, tile)
            place = self._place(self.v, self._pair(number, across), block, vertical, horizontal) + channel + lane
            return Store("v", place, self.numbers.factor(value))

        moved = _line(count, [load(j) for j in range(wide.inputs(m))], lambda d, bind: wide.transform_input(m, d, bind), store)
        return _lines(lines, moved)

    def _line_at(self, j: int, m: int, tile: Index) -> tuple[_Line, int]:
        """Product `j` of a row of a tile of `m` results, and its group."""
        wide = self.tilings[1]
        number = wide.group_of(j, m)
        return _line_of(wide.groups[number], const(j - wide.first_line(number, m)), tile, wide.m), number

    # -- products ---------------------------------------------------------------------------------

    def _products(self, block: Block, panels: Sequence[Panel], weights: Weights) -> Body:
        high, wide = self.tilings
        body: list[Stmt] = []
        for number, pair in enumerate(self.pairs):
            rows = high.rows(high.groups[pair.vertical], block.rows, block.short[0])
            rows *= wide.rows(wide.groups[pair.horizontal], block.columns, block.short[1])
            body += self._pair_products(number, rows, panels, weights) if rows else ()
        return tuple(body)

    def _pair_products(self, number: int, rows: int, panels: Sequence[Panel], weights: Weights) -> Body:
        """The products of a pair of groups, a matrix product of `rows` rows for each point."""
        pair, row, channel = self.pairs[number], var(PIXEL), var("channel")
        point = var("point") if pair.points > 1 else ZERO
        width = sum(panel.padded * panel.count for panel in panels)
        own = self._channel_part * self.share_weights
        name, dtype, most = weights.arguments[0][0].name, self.numbers.dtype, self.numbers.block

        def in_panel(panel: Panel, channel0: Index, w_start: Index, b_start: Index) -> Body:
            k, reductions = var(INNER), [Reduction(INNER, ZERO, const(self.inner))]
            ahead: Body = ()
            start = own + (point + pair.first_point) * (width * self.depth) + w_start
            if self.ahead:
                chunk = var("steps")
                reductions.insert(0, Reduction("steps", ZERO, const(self.depth // self.inner)))
                ahead = self.ahead[number].prefetches(name, start + panel.padded * self.depth, row, chunk, self.depth, self.numbers.factors.size)
                k = k + chunk * self.inner
            place = self._address(self.s, number, point, row) + channel0 + channel

            def product(loops: Sequence[Reduction], k: Index, *, begins: bool = True) -> For:
                x = Load("v", self._address(self.v, number, point, row) + k, self.numbers.factors)
                w = Load(name, start + k * panel.padded + channel, self.numbers.factors)
                return tile_nest(rows, panel.padded, loops, Products(((x, w),), self.numbers.dot), zero(dtype),
                                 lambda acc: Store("s", place, convert(acc if begins else add(Load("s", place, dtype), acc), dtype)),
                                 ahead=ahead, block=most)

            blocks = half_sums.blocks_of(self.depth, most) if most and not self.ahead else None
            if blocks is None:
                return (product(reductions, k),)
            # One block after the other for all rows: a tile whose sums fill the registers has none to spare for those of the blocks before.
            block = [Reduction(INNER, ZERO, const(blocks.terms))]
            later = product(block, var("k_block") * blocks.terms + k, begins=False)
            return product(block, k), For("k_block", const(1), const(blocks.count), (later,))

        body = panel_loops(panels, self.depth, in_panel)
        return (For("point", ZERO, const(pair.points), body),) if pair.points > 1 else body

    # -- outputs ----------------------------------------------------------------------------------

    def _outputs(self, block: Block, weights: Weights, epilogue: Epilogue) -> Body:
        high, wide = self.tilings

        def tiles(band: Band, channel: Index, count: int) -> Body:
            body: list[Stmt] = []
            for across in wide.output_bands():
                tile = (*self._output_columns(block, band, across, channel, count),
                        self._output_rows(band, across, channel, count, weights, epilogue))
                body.extend(_clipped("tile", block.column, block.columns, across, tile))
            return tuple(body)

        return self._by_bands(block, high.output_bands(), self.own_outputs, tiles)

    def _output_columns(self, block: Block, band: Band, across: Band, channel: Index, count: int) -> Body:
        """A^T applied to the columns of a tile of products."""
        return tuple(stmt for number in range(len(self.tilings[1].groups))
                     for stmt in self._output_group(block, band, across, number, channel, count))

    def _output_group(self, block: Block, band: Band, across: Band, number: int, channel: Index, count: int) -> Body:
        """The lines of a tile that belong to one group of the second axis."""
        (high, wide), lane = self.tilings, var(LANE)
        group, width = wide.groups[number], wide.lines(across.m)
        lines = wide.group_lines(group, across.m)
        line = var("line") if lines > 1 else ZERO
        first = line + wide.first_line(number, across.m)
        horizontal = _line_of(group, line, var("tile") - block.column, wide.m)

        def load(i: int) -> Expr:
            down = high.group_of(i, band.m)
            vertical = _line_of(high.groups[down], const(i - high.first_line(down, band.m)), var("strip") - block.row, high.m)
            place = self._place(self.s, self._pair(down, number), block, vertical, horizontal) + channel + lane
            return Load("s", place, self.numbers.dtype)

        def store(i: int, value: Expr) -> Stmt:
            return Store("t", self._t(first + i * width) + lane, value)

        moved = _line(count, [load(i) for i in range(high.lines(band.m))],
                      lambda d, bind: high.transform_output(band.m, _all(d), None, bind), store)
        return _lines(lines, moved)

    def _output_rows(self, band: Band, across: Band, channel: Index, count: int, weights: Weights, epilogue: Epilogue) -> Stmt:
        """A^T applied to the rows of a tile, bias and epilogue."""
        high, wide = self.tilings
        width = wide.lines(across.m)
        row, lane = var("row"), var(LANE)
        channel = channel + self._channel_part * self.own_outputs

        def address(j: int) -> Callable[[View], Index]:
            place = [self._image, channel + lane, var("strip") * high.m + (row + self.first_row), var("tile") * wide.m + j]
            return lambda view: view.at(place)

        def load(j: int) -> Expr:
            return Load("t", self._t(row * width + j) + lane, self.numbers.dtype)

        def transform(d: Sequence[Expr | None], bind: Bind) -> Sequence[Expr]:
            bias = weights.bias(channel + lane, address(0))
            own = None if isinstance(bias, Const) and bias.value == 0 else bind(bias)
            return self.numbers.results(lambda more: wide.transform_output(across.m, _all(d), more, bind)[:across.last], own)

        body = _line(count, [load(j) for j in range(width)], transform, lambda j, value: epilogue.store(value, address(j)))
        return For("row", ZERO, const(band.last), (body,))

    def _vectors(self, channels: int, body: Callable[[Index, int], Body]) -> Body:
        """`body(first channel, count)` for each vector of channels; the last one may hold fewer."""
        whole, rest = divmod(channels, self.lanes)
        out: list[Stmt] = []
        if whole > 1:
            out.append(For("vector", ZERO, const(whole), body(var("vector") * self.lanes, self.lanes)))
        elif whole:
            out.extend(body(ZERO, self.lanes))
        if rest:
            out.extend(body(const(whole * self.lanes), rest))
        return tuple(out)


@dataclass(frozen=True)
class _Line:
    """A product along one axis: which weight of its group it has, and which of that weight's products in a block it is."""

    point: Index
    row: Index


def _line_of(group: Group, line: Index, tile: Index, m: int) -> _Line:
    """Product `line` of a group in the `tile`-th tile of a block."""
    return _Line(ZERO, tile * m + line) if group.per_result else _Line(line, tile)


def _lines(count: int, body: Stmt) -> Body:
    """`body` for each of `count` lines; there may be none."""
    return () if count == 0 else (For("line", ZERO, const(count), (body,)),) if count > 1 else (body,)


def _position(loop: str, cut: Cut) -> Index:
    """The first tile of a block."""
    return var(loop) * cut.size if cut.count > 1 else const(cut.first)


def _around(loop: str, cut: Cut, body: Body) -> Body:
    return (For(loop, ZERO, const(cut.count), body),) if cut.count > 1 else body


def _clipped(loop: str, start: Index, extent: int, band: Band, body: Body) -> Body:
    """A loop over those of `extent` tiles from `start` on that lie in a band; nothing where there are certainly none."""
    first, last = maximum(start, band.start), minimum(start + extent, band.stop)
    if (last - first).is_const and (last - first).const <= 0:
        return ()
    return (For(loop, first, last, body),)


def _all(values: Sequence[Expr | None]) -> list[Expr]:
    return [value for value in values if value is not None]


def _line(count: int, loads: Sequence[Expr | None], transform: Callable[[Sequence[Expr | None], Bind], Sequence[Expr | None]],
          store: Callable[[int, Expr], Stmt], nothing: Expr | None = None) -> Stmt:
    """One transform of `count` lanes: loads, arithmetic with a name for every value that is used again, stores.

    `nothing` is stored for results that are zero; None where there are none.
    """
    body: list[Stmt] = []

    def bind(value: Expr) -> Expr:
        if isinstance(value, Ref):
            return value
        name = f"d{len(body)}"
        body.append(Let(name, value))
        return Ref(name, value.dtype)

    results = transform([None if load is None else bind(load) for load in loads], bind)
    for i, result in enumerate(results):
        value = nothing if result is None else bind(result)
        if value is not None:
            body.append(store(i, value))
    return For(LANE, ZERO, const(count), tuple(body))
