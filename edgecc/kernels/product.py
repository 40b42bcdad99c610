"""A matrix product with packed or strided second factor: y[row, channel] = epilogue(sum_k x[row, k] * w[k, channel]).

Pointwise convolutions, fully connected layers and batched products all end here. Rows are blocked
for the first-level cache when several panels of channels pass over them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from edgecc.ir.types import DType
from edgecc.kernels import complements
from edgecc.kernels.ahead import Ahead, RowAhead, panels_ahead, row_ahead
from edgecc.kernels.contraction import INNER, PIXEL, Products, open_panel_loops, panel_loops, tile_nest
from edgecc.kernels.contraction_weights import Weights
from edgecc.kernels.depth_cut import PARTIAL, DepthCut
from edgecc.kernels.epilogue import Epilogue
from edgecc.kernels.half_sums import Reduction
from edgecc.kernels.register_tile import Panel, RegisterTile, cache_block, packed_channels
from edgecc.kernels.request import Request
from edgecc.kernels.rows import Bounds, axis_loop, axis_position, row_bounds
from edgecc.kernels.sum_types import zero
from edgecc.kernels.view import ROW_AXIS, View
from edgecc.loop.builder import add
from edgecc.loop.dot import DOTS
from edgecc.loop.index import ZERO, Index, const, var
from edgecc.loop.ir import Body, Expr, For, Load, Stmt, Store
from edgecc.targets.schema import Target


def _as_it_is(x: Expr, place: Index) -> Expr:
    return x


@dataclass(frozen=True)
class Product:
    """One product over `rows` x `channels` with `depth` terms.

    `address(view, row, channel)` places a result element in a view of the result's shape;
    `x_at(row, k)` and `w_at(k, channel)` (used unless packed) place the factors. With `dot` they are groups of terms, and
    `depth` counts groups. Where the run decides, `rows`, `channels` and `depth` are the largest numbers and `open_rows`,
    `open_channels` and `open_depth` those of the run. `zeros` are the zero points of integer factors, `factor` what becomes
    of an element of x once it is read, given the place of the other factor. `packed_start`: where the packed factor begins in its buffer.
    """

    rows: int
    channels: int
    depth: int
    x: View
    w: View
    x_at: Callable[[Index, Index], Index]
    w_at: Callable[[Index, Index], Index]
    address: Callable[[View, Index, Index], Index]
    dot: str = ""
    open_rows: Index | None = None
    open_channels: Index | None = None
    open_depth: Index | None = None
    zeros: tuple[int, int] = (0, 0)
    packed_start: Index = ZERO
    factor: Callable[[Expr, Index], Expr] = _as_it_is


@dataclass(frozen=True)
class ProductNest:
    """A plain nest. `block`: rows that all panels pass over before the next ones; `inner`: extent of its innermost loop."""

    body: Body
    block: int
    inner: int


def product_nest(product: Product, tile: RegisterTile, panels: Sequence[Panel], weights: Weights, epilogue: Epilogue,
                 target: Target, *, first: str = "x", cut: DepthCut | None = None) -> ProductNest:
    """The nest of a product; `first` is the buffer of the first factor, `cut` how the reduction is cut, if it is."""
    element, name = product.w.dtype.size, weights.arguments[0][0].name
    streams = (name, complements.MASKS) if product.dot == complements.PRODUCT else (name,)
    weights_bytes = product.channels * product.depth * element * len(streams)
    several = sum(panel.count for panel in panels) > 1
    width = max(panel.padded for panel in panels) if panels else 0
    block = product.rows
    if several:
        block = cache_block(product.rows, tile, product.depth * product.x.dtype.size, weights_bytes, target,
                            result_bytes=width * epilogue.result[1].dtype.size)
    depth = product.depth if cut is None else cut.depth
    prefetched = None
    if several and weights.packed and (block >= product.rows or cut is not None):
        step_bytes = width * element * len(streams)
        of_bytes = bool(product.dot) and DOTS[product.dot].element.is_integer
        prefetched = (panels_ahead(product.rows, tile.rows, depth, step_bytes, weights_bytes, target)
                      or (row_ahead(product.rows, depth, weights_bytes, target) if of_bytes else None))
    if cut is not None:
        block = min(product.rows, cut.rows)
    loops = _Loops(product, tile, panels, weights, epilogue, first, cut, block, depth, streams, prefetched)
    return ProductNest(loops.body(), block, loops.inner)


@dataclass(frozen=True)
class _Part:
    """Part number `number` of a reduction; `begins` and `ends`: whether it is the first, the last one."""

    number: Index = ZERO
    begins: bool = True
    ends: bool = True


_ALL = _Part()
"""A reduction that is not cut."""


@dataclass(frozen=True)
class _Loops:
    """The loops of a product: over blocks of `block` rows, over panels, and over the parts of `depth` terms of a cut reduction.

    `first` is the buffer of the first factor, `streams` are those of the second one, `prefetched` says what is read ahead of its use.
    """

    product: Product
    tile: RegisterTile
    panels: Sequence[Panel]
    weights: Weights
    epilogue: Epilogue
    first: str
    cut: DepthCut | None
    block: int
    depth: int
    streams: tuple[str, ...]
    prefetched: Ahead | RowAhead | None

    @property
    def inner(self) -> int:
        """Extent of the innermost loop."""
        return self.depth if self.prefetched is None else self.prefetched.steps

    def body(self) -> Body:
        """All of the loops."""
        if self.cut is not None and self.cut.parts > 1:
            last = self.cut.parts - 1
            between = self._in_blocks(_Part(var("part"), begins=False, ends=False))
            return (*self._in_blocks(_Part(ends=False)),
                    *((For("part", const(1), const(last), between),) if last > 1 else ()),
                    *self._in_blocks(_Part(const(last), begins=False)))
        rows = self.product.open_rows
        if rows is None:
            return self._in_blocks(_ALL)
        if self.block >= self.product.rows:
            return self._rows(ZERO, rows, _ALL)
        whole = rows.floordiv(self.block)
        return (For("block", ZERO, whole, self._rows(var("block") * self.block, self.block, _ALL)),
                *self._rows(whole * self.block, rows - whole * self.block, _ALL))

    def _in_blocks(self, part: _Part) -> Body:
        """All rows, block by block."""
        blocks, rest = divmod(self.product.rows, self.block)
        left = self._rows(const(blocks * self.block), rest, part) if rest else ()
        if blocks < 2:
            return (*(self._rows(ZERO, self.block, part) if blocks else ()), *left)
        return (For("block", ZERO, const(blocks), self._rows(var("block") * self.block, self.block, part)), *left)

    def _rows(self, start: Index, count: int | Index, part: _Part) -> Body:
        """All panels, for `count` rows from `start` on."""
        tile, channels = self.tile, self.product.open_channels
        nest = partial(self._panel, start, count, part)
        if channels is not None:
            return open_panel_loops(channels, tile.channels, tile.lanes, self.depth, nest)
        return panel_loops(self.panels, self.depth, nest)

    def _panel(self, start: Index, count: int | Index, part: _Part, panel: Panel, channel0: Index, w_start: Index, b_start: Index) -> Body:
        """`count` rows of a panel, whose channels, weights and biases begin at the last three places."""
        product, packed_width = self.product, packed_channels(self.panels)
        row, k, channel = start + var(PIXEL), var(INNER), channel0 + var("channel")
        w_start = product.packed_start + w_start + part.number * (self.depth * packed_width)
        reductions = [Reduction(INNER, ZERO, product.open_depth or const(self.inner))]
        ahead: Body = ()
        if self.prefetched is not None:
            reductions.insert(0, Reduction("steps", ZERO, const(self.depth // self.inner)))
            k = k + var("steps") * self.inner
            ahead = self._prefetches(self.prefetched, panel, w_start, row)
        packed = w_start + k * panel.padded + var("channel")
        k = k + part.number * self.depth
        place = packed if self.weights.packed else product.w_at(k, channel)
        x = product.factor(Load(self.first, product.x_at(row, k), product.x.dtype), place)
        w = Load(self.streams[0], place, product.w.dtype)

        def address(view: View) -> Index:
            return product.address(view, row, channel)

        bias, store = self._ends(part, row * packed_width + b_start + var("channel"), b_start + var("channel"), address)
        return (tile_nest(count, panel.size, reductions, Products(((x, w),), product.dot, product.zeros), bias, store, ahead=ahead),)

    def _prefetches(self, prefetched: Ahead | RowAhead, panel: Panel, w_start: Index, row: Index) -> Body:
        """What is prefetched in front of a group of steps of a row."""
        size, chunk = self.product.w.dtype.size, var("steps")
        if isinstance(prefetched, RowAhead):
            return tuple(one for stream in self.streams for one in prefetched.prefetches(stream, w_start + chunk * (prefetched.steps * panel.padded), panel.padded, size))
        return tuple(one for stream in self.streams for one in prefetched.prefetches(
            stream, w_start + panel.padded * self.depth, row, chunk, self.depth, size * len(self.streams)))

    def _ends(self, part: _Part, waiting_place: Index, bias_place: Index,
              address: Callable[[View], Index]) -> tuple[Expr, Callable[[Expr], Stmt]]:
        """What the sums of a part begin with, and what becomes of them: between parts they wait at `waiting_place`."""
        waiting = Load(PARTIAL, waiting_place, DType.F32 if self.cut is None else self.cut.dtype)
        alone = not part.begins and waiting.dtype is DType.F16
        bias = self.weights.bias(bias_place, address) if part.begins else zero(waiting.dtype) if alone else waiting

        def store(sums: Expr) -> Stmt:
            total = add(waiting, sums) if alone else sums
            return self.epilogue.store(total, address) if part.ends else Store(PARTIAL, waiting_place, total)

        return bias, store


def joined_axes(views: Sequence[View], axes: Sequence[int], apart: int | None = None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Splits `axes` (outermost first) into (outer axes, innermost axes that are one evenly spaced run in every view).

    The views have one shape. Axes of extent 1 join any run: their strides say nothing. Axis `apart` joins none.
    """
    joined = [axes[-1]]
    for axis in reversed(axes[:-1]):
        if axis == apart:
            break
        if any(not views[0].size(a).is_const for a in joined):
            break
        length = count(views[0].dims, joined)
        if views[0].dims[axis] != 1 and length != 1 and any(
                view.strides[axis] != run_stride(view, joined) * length for view in views):
            break
        joined.insert(0, axis)
    cut = len(axes) - len(joined)
    return tuple(axes[:cut]), tuple(joined)


def run_stride(view: View, joined: Sequence[int]) -> int:
    """Distance of neighbours along joined axes."""
    for axis in reversed(joined):
        if view.dims[axis] != 1:
            return view.strides[axis]
    return 0


def outer_loops(body: Body, dims: Sequence[int], axes: Sequence[int], rows: Bounds | None = None,
                sizes: Sequence[Index] = ()) -> Body:
    """Wraps `body` into loops `axis<i>` over the axes, outermost first; axes of extent 1 need none.

    `rows`: bounds of the loop over axis `ROW_AXIS`, which then must be among the axes. `sizes`: those of the run.
    """
    for axis in reversed(axes):
        body = axis_loop(f"axis{axis}", dims[axis], _bounds(axis, rows, sizes), body)
    return body


def _bounds(axis: int, rows: Bounds | None, sizes: Sequence[Index]) -> Bounds | None:
    if rows is not None and axis == ROW_AXIS:
        return rows
    return (ZERO, sizes[axis]) if sizes and not sizes[axis].is_const else None


def outer_position(dims: Sequence[int], axes: Sequence[int], axis: int, rows: Bounds | None = None,
                   sizes: Sequence[Index] = ()) -> Index:
    """The loop variable of an outer axis, or 0."""
    return axis_position(f"axis{axis}", dims[axis], _bounds(axis, rows, sizes)) if axis in axes else ZERO


@dataclass(frozen=True)
class Pixels:
    """The pixels of images as the rows of a matrix: `outer` axes are loops, those along `joined` are `rows` rows.

    `bounds`: of the loop over the rows of an image, where a range of these is wanted.
    """

    dims: Sequence[int]
    outer: tuple[int, ...]
    joined: tuple[int, ...]
    bounds: Bounds | None

    @property
    def rows(self) -> int:
        """Pixels along the joined axes."""
        return count(self.dims, self.joined)

    def at(self, view: View, row: Index, channel: Index) -> Index:
        """Where a channel of a pixel lies in a view of the images' shape."""
        coordinates = [outer_position(self.dims, self.outer, axis, self.bounds) for axis in range(len(self.dims))]
        coordinates[1] = channel
        return view.at(coordinates) + row * run_stride(view, self.joined)

    def loops(self, body: Body) -> Body:
        """Wraps `body` into the loops over the outer axes."""
        return outer_loops(body, self.dims, self.outer, self.bounds)


def pixels_of(request: Request, extras: Sequence[View]) -> Pixels:
    """The pixels of a pointwise convolution, whose epilogue reads `extras` as well."""
    x, y, bounds = request.operand(0).view, request.outputs[0], row_bounds(request)
    outer, joined = joined_axes([x, y, *extras], [0, *range(2, len(x.dims))], None if bounds is None else ROW_AXIS)
    return Pixels(y.dims, outer, joined, bounds)


def count(dims: Sequence[int], axes: Sequence[int]) -> int:
    """Elements along some axes together."""
    return math.prod(dims[a] for a in axes)
