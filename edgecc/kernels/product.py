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
from edgecc.kernels.ahead import panels_ahead
from edgecc.kernels.contraction import INNER, PIXEL, open_panel_loops, panel_loops, tile_nest
from edgecc.kernels.contraction_weights import Weights
from edgecc.kernels.depth_cut import PARTIAL, DepthCut
from edgecc.kernels.epilogue import Epilogue
from edgecc.kernels.half_sums import Reduction
from edgecc.kernels.register_tile import Panel, RegisterTile, cache_block, packed_channels
from edgecc.kernels.rows import Bounds, axis_loop, axis_position
from edgecc.kernels.sum_types import zero
from edgecc.kernels.view import ROW_AXIS, View
from edgecc.loop.builder import add
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
        prefetched = panels_ahead(product.rows, tile.rows, depth, width * element * len(streams), weights_bytes, target)
    if cut is not None:
        block = min(product.rows, cut.rows)
    inner = depth if prefetched is None else prefetched.steps

    def nest(start: Index, count: int | Index, part: Index = ZERO, *, begins: bool = True, ends: bool = True) -> Body:
        """The panels, for some rows and one part of the reduction; `begins`, `ends`: whether it is the first, the last part."""
        def in_panel(panel: Panel, channel0: Index, w_start: Index, b_start: Index) -> Body:
            row, k, channel = start + var(PIXEL), var(INNER), channel0 + var("channel")
            w_start = product.packed_start + w_start + part * (depth * packed_channels(panels))
            reductions = [Reduction(INNER, ZERO, product.open_depth or const(inner))]
            ahead: Body = ()
            if prefetched is not None:
                reductions.insert(0, Reduction("steps", ZERO, const(depth // inner)))
                k = k + var("steps") * inner
                ahead = tuple(prefetch for stream in streams for prefetch in prefetched.prefetches(
                    stream, w_start + panel.padded * depth, row, var("steps"), depth, element * len(streams)))
            packed = w_start + k * panel.padded + var("channel")
            k = k + part * depth
            place = packed if weights.packed else product.w_at(k, channel)
            w = Load(name, place, product.w.dtype)

            def address(view: View) -> Index:
                return product.address(view, row, channel)

            partial_sum = row * packed_channels(panels) + b_start + var("channel")
            waiting = Load(PARTIAL, partial_sum, DType.F32 if cut is None else cut.dtype)
            alone = not begins and waiting.dtype is DType.F16
            bias = weights.bias(b_start + var("channel"), address) if begins else zero(waiting.dtype) if alone else waiting

            def store(acc: Expr) -> Stmt:
                total = add(waiting, acc) if alone else acc
                return epilogue.store(total, address) if ends else Store(PARTIAL, partial_sum, total)

            return (tile_nest(count, panel.size, reductions, product.factor(Load(first, product.x_at(row, k), product.x.dtype), place), w, bias,
                              store, dot=product.dot, ahead=ahead, zeros=product.zeros),)

        if product.open_channels is not None:
            return open_panel_loops(product.open_channels, tile.channels, tile.lanes, depth, in_panel)
        return panel_loops(panels, depth, in_panel)

    def in_blocks(part: Index = ZERO, *, begins: bool = True, ends: bool = True) -> Body:
        own = partial(nest, part=part, begins=begins, ends=ends)
        blocks, rest = divmod(product.rows, block)
        if blocks < 2:
            return (*(own(ZERO, block) if blocks else ()), *(own(const(blocks * block), rest) if rest else ()))
        return (For("block", ZERO, const(blocks), own(var("block") * block, block)), *(own(const(blocks * block), rest) if rest else ()))

    if cut is not None and cut.parts > 1:
        between = in_blocks(var("part"), begins=False, ends=False)
        return ProductNest((*in_blocks(ends=False),
                            *((For("part", const(1), const(cut.parts - 1), between),) if cut.parts > 2 else ()),
                            *in_blocks(const(cut.parts - 1), begins=False)), block, inner)
    if product.open_rows is not None:
        if block >= product.rows:
            return ProductNest(nest(ZERO, product.open_rows), block, inner)
        whole = product.open_rows.floordiv(block)
        return ProductNest((For("block", ZERO, whole, nest(var("block") * block, block)),
                            *nest(whole * block, product.open_rows - whole * block)), block, inner)
    return ProductNest(in_blocks(), block, inner)


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


def count(dims: Sequence[int], axes: Sequence[int]) -> int:
    """Elements along some axes together."""
    return math.prod(dims[a] for a in axes)
