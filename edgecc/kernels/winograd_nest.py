"""The loops of a Winograd convolution F(m x m, 3 x 3).

    for block of tiles:
        v[point][tile][channel] = B^T d B                 # d: (m + 2) x (m + 2) inputs of a tile
        s[point][tile][out] = sum over channel of v * w   # one matrix product a point
        y = epilogue(A^T s A + bias)                      # m x m results of a tile

A two-dimensional transform is two passes of one-dimensional ones, over the columns and then over the rows, with what
is between them in a scratch array `t` that stays in the first cache. The first pass over the inputs runs along a whole
row of tiles, so that columns which two tiles share are transformed once. Rows of tiles of which the same rows lie inside
the input have code of their own, and columns outside are zeros in `t`; padding never exists in memory.

Threads divide vectors of channels among them for the transforms, each with a part of `t`, and points for the products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgecc.ir.types import DType
from edgecc.kernels.ahead import Ahead
from edgecc.kernels.base import View
from edgecc.kernels.contraction import INNER, PIXEL, Epilogue, Weights, convert, panel_loops, tile_nest, zero
from edgecc.kernels.half_sums import Reduction
from edgecc.kernels.register_tile import Panel
from edgecc.kernels.spatial import Axis
from edgecc.kernels.winograd_transform import TAPS, Bind, transform_input, transform_output
from edgecc.loop.index import ZERO, Index, const, maximum, minimum, var
from edgecc.loop.ir import Body, Comment, Const, Expr, For, Let, Load, Ref, Stmt, Store

LANE = "lane"
"""The loop over the channels of one vector; every iteration is independent of the others."""


@dataclass(frozen=True)
class Blocking:
    """How many tiles are worked on at a time.

    Attributes:
        m: results of a tile along each axis.
        rows, columns: tiles along each axis in all.
        block_rows, block_columns: tiles of a block along each axis; one of a kind at the border may have fewer.
    """

    m: int
    rows: int
    columns: int
    block_rows: int
    block_columns: int

    @property
    def size(self) -> int:
        """Inputs of a tile along each axis."""
        return self.m + TAPS - 1

    @property
    def points(self) -> int:
        """Products of a tile for each pair of channels."""
        return self.size * self.size

    @property
    def tiles(self) -> int:
        """Tiles of a block."""
        return self.block_rows * self.block_columns

    @property
    def width(self) -> int:
        """Input columns under a block."""
        return self.block_columns * self.m + TAPS - 1


@dataclass(frozen=True)
class Band:
    """Tiles [start, stop) along an axis whose positions [first, last) are valid: inside the input, or results there are."""

    start: int
    stop: int
    first: int
    last: int


def input_bands(axis: Axis, m: int, tiles: int) -> tuple[Band, ...]:
    """Tiles along an axis by which of their m + 2 inputs lie inside the input."""
    return _bands([(max(0, axis.pad - t * m), min(m + TAPS - 1, axis.size + axis.pad - t * m)) for t in range(tiles)])


def output_bands(axis: Axis, m: int, tiles: int) -> tuple[Band, ...]:
    """Tiles along an axis by which of their m results there are."""
    return _bands([(0, min(m, axis.out - t * m)) for t in range(tiles)])


def _bands(valid: Sequence[tuple[int, int]]) -> tuple[Band, ...]:
    out: list[Band] = []
    for tile, (first, last) in enumerate(valid):
        if out and (out[-1].first, out[-1].last) == (first, last):
            out[-1] = Band(out[-1].start, tile + 1, first, last)
        else:
            out.append(Band(tile, tile + 1, first, last))
    return tuple(out)


@dataclass(frozen=True)
class Block:
    """A block of tiles: where it starts, and how many tiles it has along each axis."""

    row: Index
    column: Index
    rows: int
    columns: int


@dataclass(frozen=True)
class Winograd:
    """A convolution with windows of 3 x 3 as loops over tiles.

    Attributes:
        x: view of the input [N, C, H, W].
        outputs: result channels.
        axes: the spatial axes.
        blocking: the tiles.
        lanes: channels of a vector.
        v_row, v_point, s_row, s_point: distances in elements, between tiles and between points, in the scratch arrays.
        parallel: whether the iterations of each outermost loop are independent; there must be one image and one block.
        ahead: how the products prefetch weights, if they do.
    """

    x: View
    outputs: int
    axes: tuple[Axis, Axis]
    blocking: Blocking
    lanes: int
    v_row: int
    v_point: int
    s_row: int
    s_point: int
    parallel: bool = False
    ahead: Ahead | None = None

    @property
    def inner(self) -> int:
        """Extent of the innermost loop of the products."""
        return self.depth if self.ahead is None else self.ahead.steps

    @property
    def depth(self) -> int:
        """Input channels."""
        return self.x.dims[1]

    @property
    def scratch(self) -> tuple[tuple[str, int], ...]:
        """The scratch arrays: name and number of elements."""
        b = self.blocking
        return (("v", b.points * self.v_point), ("s", b.points * self.s_point), ("t", self._t_size * self._own_parts))

    @property
    def _t_size(self) -> int:
        return self.blocking.size * self.blocking.width * self.lanes

    @property
    def _own_parts(self) -> int:
        """How many vectors of channels have a part of `t` of their own."""
        return -(-max(self.depth, self.outputs) // self.lanes) if self.parallel else 1

    def _t(self, channel: Index, position: Index) -> Index:
        """The address of lane 0 at a position, for the vector of channels that starts at `channel`."""
        return position * self.lanes + (channel.floordiv(self.lanes) * self._t_size if self.parallel else 0)

    def nest(self, panels: Sequence[Panel], weights: Weights, epilogue: Epilogue) -> Body:
        """The plain nest."""
        b = self.blocking
        body: list[Stmt] = []
        for rows in _cuts("block_row", b.rows, b.block_rows):
            for columns in _cuts("block_column", b.columns, b.block_columns):
                block = Block(rows.position, columns.position, rows.size, columns.size)
                inner = (*self._inputs(block), self._products(block, panels, weights), *self._outputs(block, weights, epilogue))
                body.extend(rows.around(columns.around(inner)))
        if self.x.dims[0] > 1:
            return (For("image", ZERO, const(self.x.dims[0]), tuple(body)),)
        return tuple(body)

    @property
    def _image(self) -> Index:
        return var("image") if self.x.dims[0] > 1 else ZERO

    # -- inputs -----------------------------------------------------------------------------------

    def _inputs(self, block: Block) -> Body:
        def tile(band: Band, channel: Index, count: int) -> Body:
            return *self._input_columns(block, band, channel, count), self._input_rows(block, channel, count)

        return self._by_bands(block, input_bands(self.axes[0], self.blocking.m, self.blocking.rows), self.depth, tile)

    def _by_bands(self, block: Block, bands: Sequence[Band], channels: int, body: Callable[[Band, Index, int], Body]) -> Body:
        """`body(band, first channel, count)` for every row of tiles and every vector of channels."""
        if self.parallel:
            whole, rest = divmod(channels, self.lanes)

            def vectors(first: int, stop: int, count: int) -> For:
                channel = var("vector") * self.lanes
                loops = (loop for band in bands for loop in _clipped("strip", block.row, block.rows, band, body(band, channel, count)))
                return For("vector", const(first), const(stop), (Comment("These channels have a part of t of their own."), *loops))

            return (*([vectors(0, whole, self.lanes)] if whole else []), *([vectors(whole, whole + 1, rest)] if rest else []))
        return tuple(loop for band in bands for loop in _clipped(
            "strip", block.row, block.rows, band, self._vectors(channels, lambda channel, count, band=band: body(band, channel, count))))  # type: ignore[misc]

    def _input_columns(self, block: Block, band: Band, channel: Index, count: int) -> Body:
        """B^T applied to the columns of a strip of inputs; zeros for columns outside."""
        m, size, x = self.blocking.m, self.blocking.size, self.x
        vertical, horizontal = self.axes
        width = block.columns * m + TAPS - 1
        left = block.column * m - horizontal.pad
        first, last = maximum(0, left * -1), minimum(width, const(horizontal.size) - left)
        column, lane = var("column"), var(LANE)

        def load(i: int) -> Expr | None:
            if not band.first <= i < band.last:
                return None
            place = [self._image, channel + lane, var("strip") * m + (i - vertical.pad), left + column]
            return convert(Load("x", x.at(place), x.dtype), DType.F32)

        def store(i: int, value: Expr) -> Stmt:
            return Store("t", self._t(channel, column + i * self.blocking.width) + lane, value)

        nothing: Expr = Const(0.0, DType.F32)
        zeros = (For(LANE, ZERO, const(count), tuple(store(i, nothing) for i in range(size))),)
        moved = _line(count, [load(i) for i in range(size)], lambda d, bind: transform_input(m, d, bind), store)
        return tuple(For("column", start, stop, body) for start, stop, body in
                     ((ZERO, first, zeros), (first, last, (moved,)), (last, const(width), zeros)) if start != stop)

    def _input_rows(self, block: Block, channel: Index, count: int) -> Stmt:
        """B^T applied to the rows of each tile of a strip: what the products read."""
        m, size = self.blocking.m, self.blocking.size
        tile, line, lane = var("tile"), var("line"), var(LANE)
        row = (var("strip") - block.row) * block.columns + tile

        def load(j: int) -> Expr:
            return Load("t", self._t(channel, line * self.blocking.width + tile * m + j) + lane, DType.F32)

        def store(j: int, value: Expr) -> Stmt:
            return Store("v", (line * size + j) * self.v_point + row * self.v_row + channel + lane, value)

        body = _line(count, [load(j) for j in range(size)], lambda d, bind: transform_input(m, d, bind), store)
        return For("tile", ZERO, const(block.columns), (For("line", ZERO, const(size), (body,)),))

    # -- products ---------------------------------------------------------------------------------

    def _products(self, block: Block, panels: Sequence[Panel], weights: Weights) -> Stmt:
        point, row, channel = var("point"), var(PIXEL), var("channel")
        width = sum(panel.padded * panel.count for panel in panels)
        name = weights.arguments[0][0].name

        def in_panel(panel: Panel, channel0: Index, w_start: Index, b_start: Index) -> Body:
            k, reductions = var(INNER), [Reduction(INNER, ZERO, const(self.inner))]
            ahead: Body = ()
            start = point * (width * self.depth) + w_start
            if self.ahead is not None:
                chunk = var("steps")
                reductions.insert(0, Reduction("steps", ZERO, const(self.depth // self.inner)))
                ahead = self.ahead.prefetches(name, start + panel.padded * self.depth, row, chunk, self.depth, DType.F32.size)
                k = k + chunk * self.inner
            x = Load("v", point * self.v_point + row * self.v_row + k, DType.F32)
            w = Load(name, start + k * panel.padded + channel, DType.F32)
            place = point * self.s_point + row * self.s_row + channel0 + channel
            return (tile_nest(block.rows * block.columns, panel.padded, reductions, x, w, zero(DType.F32),
                              lambda acc: Store("s", place, acc), ahead=ahead),)

        return For("point", ZERO, const(self.blocking.points), panel_loops(panels, self.depth, in_panel))

    # -- outputs ----------------------------------------------------------------------------------

    def _outputs(self, block: Block, weights: Weights, epilogue: Epilogue) -> Body:
        m = self.blocking.m

        def tiles(band: Band, channel: Index, count: int) -> Body:
            body: list[Stmt] = []
            for across in output_bands(self.axes[1], m, self.blocking.columns):
                tile = (self._output_columns(block, channel, count),
                        self._output_rows(band, across, channel, count, weights, epilogue))
                body.extend(_clipped("tile", block.column, block.columns, across, tile))
            return tuple(body)

        return self._by_bands(block, output_bands(self.axes[0], m, self.blocking.rows), self.outputs, tiles)

    def _output_columns(self, block: Block, channel: Index, count: int) -> Stmt:
        """A^T applied to the columns of a tile of products."""
        m, size = self.blocking.m, self.blocking.size
        line, lane = var("line"), var(LANE)
        row = (var("strip") - block.row) * block.columns + (var("tile") - block.column)

        def load(i: int) -> Expr:
            return Load("s", (line + i * size) * self.s_point + row * self.s_row + channel + lane, DType.F32)

        def store(i: int, value: Expr) -> Stmt:
            return Store("t", self._t(channel, line + i * size) + lane, value)

        body = _line(count, [load(i) for i in range(size)], lambda d, bind: transform_output(m, _all(d), None, bind), store)
        return For("line", ZERO, const(size), (body,))

    def _output_rows(self, band: Band, across: Band, channel: Index, count: int, weights: Weights, epilogue: Epilogue) -> Stmt:
        """A^T applied to the rows of a tile, bias and epilogue."""
        m, size = self.blocking.m, self.blocking.size
        row, lane = var("row"), var(LANE)

        def address(j: int) -> Callable[[View], Index]:
            place = [self._image, channel + lane, var("strip") * m + row, var("tile") * m + j]
            return lambda view: view.at(place)

        def load(j: int) -> Expr:
            return Load("t", self._t(channel, row * size + j) + lane, DType.F32)

        def transform(d: Sequence[Expr | None], bind: Bind) -> Sequence[Expr]:
            bias = weights.bias(channel + lane, address(0)) if len(weights.arguments) > 1 else None
            values = transform_output(m, _all(d), None if bias is None else bind(bias), bind)
            return values[:across.last]

        body = _line(count, [load(j) for j in range(size)], transform, lambda j, value: epilogue.store(value, address(j)))
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
class _Cut:
    """Equal blocks along an axis, in a loop where there are several."""

    loop: str
    position: Index
    size: int
    count: int

    def around(self, body: Body) -> Body:
        return (For(self.loop, ZERO, const(self.count), body),) if self.count > 1 else body


def _cuts(loop: str, extent: int, size: int) -> tuple[_Cut, ...]:
    """Blocks of `size`, and what remains."""
    count, rest = divmod(extent, size)
    whole = [_Cut(loop, var(loop) * size if count > 1 else ZERO, size, count)] if count else []
    return (*whole, *([_Cut(loop, const(count * size), rest, 1)] if rest else []))


def _clipped(loop: str, start: Index, extent: int, band: Band, body: Body) -> Body:
    """A loop over those of `extent` tiles from `start` on that lie in a band; nothing where there are certainly none."""
    first, last = maximum(start, band.start), minimum(start + extent, band.stop)
    if (last - first).is_const and (last - first).const <= 0:
        return ()
    return (For(loop, first, last, body),)


def _all(values: Sequence[Expr | None]) -> list[Expr]:
    return [value for value in values if value is not None]


def _line(count: int, loads: Sequence[Expr | None], transform: Callable[[Sequence[Expr | None], Bind], Sequence[Expr | None]],
          store: Callable[[int, Expr], Stmt]) -> Stmt:
    """One transform of `count` lanes: loads, arithmetic with a name for every value that is used again, stores."""
    body: list[Stmt] = []

    def bind(value: Expr) -> Expr:
        if isinstance(value, Ref):
            return value
        name = f"d{len(body)}"
        body.append(Let(name, value))
        return Ref(name, value.dtype)

    results = transform([None if load is None else bind(load) for load in loads], bind)
    for i, result in enumerate(results):
        body.append(store(i, Const(0.0, DType.F32) if result is None else bind(result)))
    return For(LANE, ZERO, const(count), tuple(body))
