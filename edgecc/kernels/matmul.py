"""Matrix products: constant second factors are packed, others are read where they lie.

Three forms:
 1. The second factor is one constant matrix: all rows of all batches are one product over packed panels.
 2. Its columns are contiguous (or it is small): the product runs once a batch and reads the factor in place.
 3. Its rows are contiguous (a transposed factor, such as the keys of attention): with few rows or few
    columns each result is a dot product along the reduction; with more, the factor is first packed into
    scratch memory, once a batch. So are factors of bytes where the machine multiplies groups of them (edgecc/kernels/byte_factors.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.types import Array, DType
from edgecc.kernels.byte_factors import COLUMN, ByteFactors, byte_terms
from edgecc.kernels.call_cost import call_cycles
from edgecc.kernels.contraction import PIXEL, assemble, multiply_add, open_panel_loops, panel_loops, zeros_of
from edgecc.kernels.contraction_weights import Weights, folds_offset, weights_of, with_bias
from edgecc.kernels.depth_cut import cut_depth, cut_text
from edgecc.kernels.epilogue import epilogue_of
from edgecc.kernels.grouped import Terms, product_target, terms_of
from edgecc.kernels.kernel import Candidate, FromInput, Kernel, KernelArgument, Workspace
from edgecc.kernels.kernel_builder import storage_type
from edgecc.kernels.product import (
    Product,
    count,
    joined_axes,
    outer_loops,
    outer_position,
    product_nest,
    run_stride,
)
from edgecc.kernels.register_tile import (
    Panel,
    RegisterTile,
    best_tiles,
    cover_cycles,
    cut_panels,
    narrowest_lanes,
    packed_channels,
    vector_lanes,
)
from edgecc.kernels.registry import candidates_for
from edgecc.kernels.request import Request
from edgecc.kernels.sum_types import compute_target, convert, sum_type
from edgecc.kernels.tile_schedule import tile_schedule
from edgecc.kernels.view import View
from edgecc.loop.index import ZERO, Index, const, minimum, var
from edgecc.loop.ir import Assign, Body, Buffer, Const, Declare, Expr, For, Horizontal, Load, Op, Ref, Stmt, Store
from edgecc.ops.matrix import MatMul
from edgecc.ops.rules import NARROW_INTEGERS
from edgecc.targets.schema import Target

FEW = 4
"""Up to so many rows, or columns, of the result a dot product each is cheaper than packing."""


LANE_BY_LANE = 1.0
"""Cycles to move one element of a factor that is packed at run time."""

JOINED = 12.0
"""Cycles to join the lanes of one dot product, start value and store."""


@candidates_for(MatMul, rows=False, is_open=True)
def matmul_candidates(request: Request) -> tuple[Candidate, ...]:
    """The ways to compute a (batched) matrix product: one of the forms above, with its best tiles."""
    op = request.op
    if not isinstance(op, MatMul):
        raise TypeError(op)
    problem = _Problem.of(request, op)
    if request.is_open:
        tile, cycles = problem.tiles(problem.rows)[0]
        return (Candidate("open", call_cycles(request, problem.batches * cycles), partial(problem.open_kernel, tile)),)
    w = problem.w
    if problem.is_packed_constant:
        return problem.tiled("packed", problem.packed_constant, problem.joined_rows)
    few = problem.rows <= FEW or problem.channels < max(2, problem.lanes // 2)
    if w.strides[-2] == 1 and problem.x.strides[-1] == 1 and problem.depth > 1 and few and problem.x.dtype is DType.F32:
        results, steps = problem.y.elements, -(-problem.depth // problem.lanes)
        cycles = results * (JOINED + 2.0 * steps / problem.target.core.loads_per_cycle)
        return (Candidate("dots", call_cycles(request, cycles), problem.dots),)
    if problem.rows <= FEW or (w.strides[-1] == 1 and not problem.terms.dot):
        return problem.tiled("in-place", problem.in_place, problem.rows)
    return problem.tiled("scratch", problem.packed_scratch, problem.rows, LANE_BY_LANE * problem.batches * problem.depth * problem.channels)


def _matrix(view: View, swap: bool) -> View:
    if not swap:
        return view
    dims, strides = list(view.dims), list(view.strides)
    dims[-2:], strides[-2:] = dims[:-3:-1], strides[:-3:-1]
    sizes = (*view.sizes[:-2], *view.sizes[:-3:-1]) if view.sizes else ()
    return replace(view, dims=tuple(dims), strides=tuple(strides), sizes=sizes)


@dataclass(frozen=True)
class _Problem:
    """A product taken apart: x [batch..., rows, depth], w [batch..., depth, channels], y [batch..., rows, channels]."""

    request: Request
    op: MatMul
    x: View
    w: View
    y: View

    @staticmethod
    def of(request: Request, op: MatMul) -> _Problem:
        y = request.outputs[0]
        x = _matrix(request.operand(0).view, op.transpose_a)
        w = _matrix(request.operand(1).view, op.transpose_b)
        batch = y.dims[:-2]
        return _Problem(request, op, x.broadcast_to((*batch, *x.dims[-2:])), w.broadcast_to((*batch, *w.dims[-2:])), y)

    @property
    def rows(self) -> int:
        return self.y.dims[-2]

    @property
    def channels(self) -> int:
        return self.y.dims[-1]

    @property
    def depth(self) -> int:
        return self.x.dims[-1]

    @property
    def open_rows(self) -> Index | None:
        """The number of rows where the run decides."""
        return _open(self.y.size(len(self.y.dims) - 2))

    @property
    def open_channels(self) -> Index | None:
        """The number of channels where the run decides."""
        return _open(self.y.size(len(self.y.dims) - 1))

    @property
    def open_depth(self) -> Index | None:
        """The number of terms where the run decides."""
        return _open(self.x.size(len(self.x.dims) - 1))

    def open_kernel(self, tile: RegisterTile) -> Kernel:
        """The kernel where the run decides on some size.

        Vectors of channels may reach behind the last one: results and what the epilogue reads along them must have room.
        """
        few = self.rows <= FEW or self.channels < max(2, self.lanes // 2)
        if sum_type(self.request) is DType.F16 and self.open_depth is not None:
            raise EdgeccError("E112", "matmul in half precision has no kernel for sizes known only at run time",
                              hint="give the dimension one size with --shape, or keep the node in fp32")
        if self.open_channels is None:
            constant = self.request.operand(1).is_constant and all(d == 1 for d in self.request.operand(1).view.dims[:-2])
            packs = constant and self.channels >= self.lanes // 2 and self.open_depth is None
            return self.packed_constant(self.tiles(self.joined_rows)[0][0]) if packs else self.in_place(tile)
        along = [self.y, *(operand.view.broadcast_to(self.y.dims) for operand in self.request.inputs[2:] if operand is not None)]
        gaps = any(v.strides[-1] != 0 and not (v.padded and v.strides[-1] == 1) for v in along)
        if self.w.strides[-2] == 1 and self.x.strides[-1] == 1 and self.open_depth is None and (few or gaps) and self.x.dtype is DType.F32:
            return self.dots()
        return self.one_by_one() if gaps else self.packed_scratch(tile)

    @property
    def terms(self) -> Terms:
        """How the first factor is read; one by one where the run decides on sizes."""
        if self.request.is_open:
            return Terms(self.x)
        if self.x.dtype in NARROW_INTEGERS and not (self.is_packed_constant and not self.op.b_zero):
            packs = not self.is_packed_constant and self.rows > FEW and self.target.vector.bits > 0
            return byte_terms(self.request, self.x, zeros_of(self.op)[0]) if packs else Terms(self.x)
        return terms_of(self.request, self.x, len(self.x.dims) - 1, zero=zeros_of(self.op)[0], folds=folds_offset(self.request), vectors=True)

    @property
    def is_packed_constant(self) -> bool:
        """Whether the second factor is one constant matrix, and wide enough to be packed."""
        w = self.request.operand(1)
        return w.is_constant and all(d == 1 for d in w.view.dims[:-2]) and self.channels >= self.lanes // 2

    @property
    def target(self) -> Target:
        return compute_target(self.request, self.op.epilogue)

    @property
    def lanes(self) -> int:
        return vector_lanes(self.target, sum_type(self.request))

    @property
    def name(self) -> str:
        return f"matmul_{self.rows}_{self.depth}_{self.channels}"

    @property
    def doc(self) -> str:
        batch = "x".join(str(d) for d in self.y.dims[:-2])
        return f"matrix product {self.rows}x{self.depth} by {self.depth}x{self.channels}" + (f", batch {batch}" if batch else "")

    @property
    def batches(self) -> int:
        """How many products there are."""
        return count(self.y.dims, self._batch_axes)

    @property
    def _batch(self) -> Index:
        """The number of the present product."""
        position = ZERO
        for axis in self._batch_axes:
            position = position * self.y.dims[axis] + outer_position(self.y.dims, self._batch_axes, axis, sizes=self.y.sizes)
        return position

    @property
    def _joined(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The axes of the result but the last: outer ones, and those that make the rows of one product with a constant factor."""
        epilogue, b = epilogue_of(self.request, self.op.epilogue, 3), self.request.optional(2)
        views = [self.x, self.y, *(v for _, v in epilogue.extras)]
        if b is not None and any(d != 1 for d in b.view.dims[:-1]):
            views.append(b.view.broadcast_to(self.y.dims))
        return joined_axes([_without_last(v) for v in views], range(len(self.y.dims) - 1))

    @property
    def joined_rows(self) -> int:
        """Rows of one product with a constant factor."""
        return count(self.y.dims, self._joined[1])

    def tiles(self, rows: int) -> tuple[tuple[RegisterTile, float], ...]:
        """The best tiles of a product of `rows` rows, with modelled cycles."""
        steps = self.depth // self.terms.group
        target = product_target(self.request, self.target, self.terms)
        return best_tiles(rows, self.channels, target, sum_type(self.request),
                          lambda tile: cover_cycles(rows, self.channels, steps, tile, target, sum_type(self.request)))

    def tiled(self, name: str, build: Callable[[RegisterTile], Kernel], rows: int, alone: float = 0.0) -> tuple[Candidate, ...]:
        """A candidate for each of the best tiles; products have `rows` rows, and `alone` is what else takes cycles."""
        times = self.y.elements // max(1, rows * self.channels)
        return tuple(Candidate(f"{name} {tile.rows}x{tile.vectors}", call_cycles(self.request, times * cycles, alone), partial(build, tile))
                     for tile, cycles in self.tiles(rows))

    def packed_constant(self, tile: RegisterTile) -> Kernel:
        request, y, dtype = self.request, self.y, sum_type(self.request)
        epilogue = epilogue_of(request, self.op.epilogue, 3)
        outer, joined = self._joined
        rows, terms = count(y.dims, joined), self.terms
        target = product_target(request, self.target, terms)
        open_rows = _open(y.size(joined[0]) * count(y.dims, joined[1:]))
        steps = self.depth // terms.group
        panels = cut_panels(self.channels, tile, narrowest_lanes(target, dtype))
        cut = None if outer or request.is_open else cut_depth(rows, tile, steps, self.channels, request)
        weights = weights_of(request, self.channels, steps, panels, partial(_columns, self.op.transpose_b), terms=terms,
                             parts=1 if cut is None else cut.parts)

        def at(view: View, row: Index, column: Index) -> Index:
            coordinates = [outer_position(y.dims, outer, axis, sizes=y.sizes) for axis in range(len(y.dims) - 1)]
            return view.at([*coordinates, column]) + row * run_stride(view, joined)

        w = replace(self.w, dtype=terms.element(self.w.dtype))
        product = Product(rows, self.channels, steps, terms.x, w, partial(at, terms.x), lambda k, c: ZERO, at, terms.dot, open_rows,
                          zeros=zeros_of(self.op), factor=terms.factor)
        nest = product_nest(product, tile, panels, weights, epilogue, target, cut=cut)
        return assemble(request, self.name, outer_loops(nest.body, y.dims, outer, sizes=y.sizes),
                        tile_schedule(tile, target, nest.inner, weights.padded, dtype, open_rows=open_rows is not None), weights, epilogue, 3, doc=self.doc, terms=terms,
                        choice=f"packed product: tile {tile.rows} x {tile.vectors} vectors of {tile.lanes}{terms.text}, blocks of {nest.block} rows"
                               f"{cut_text(cut)}",
                        workspace=() if cut is None else cut.workspace(rows, panels))

    def _at(self, view: View, row: Index, column: Index) -> Index:
        batch = [outer_position(self.y.dims, self._batch_axes, axis, sizes=self.y.sizes) for axis in self._batch_axes]
        lead = len(view.dims) - 2
        return view.at([*batch[len(batch) - lead:], row, column])

    @property
    def _batch_axes(self) -> Sequence[int]:
        return range(len(self.y.dims) - 2)

    def _product(self) -> Product:
        return Product(self.rows, self.channels, self.depth, self.x, self.w, partial(self._at, self.x), partial(self._at, self.w), self._at,
                       open_rows=self.open_rows, open_channels=self.open_channels, open_depth=self.open_depth, zeros=zeros_of(self.op))

    def _w_buffer(self) -> tuple[Buffer, KernelArgument]:
        view = self.request.operand(1).view
        return Buffer("w", view.dtype, max(1, view.span), "input"), FromInput(1)

    def in_place(self, tile: RegisterTile) -> Kernel:
        request, target, dtype = self.request, self.target, sum_type(self.request)
        epilogue = epilogue_of(request, self.op.epilogue, 3)
        panels = cut_panels(self.channels, tile, narrowest_lanes(target, dtype))
        weights = with_bias(request, self._w_buffer(), self.channels, panels, packed=False)
        nest = product_nest(self._product(), tile, panels, weights, epilogue, target)
        return assemble(request, self.name, outer_loops(nest.body, self.y.dims, self._batch_axes, sizes=self.y.sizes),
                        tile_schedule(tile, target, nest.inner, weights.padded, dtype, open_rows=self.open_rows is not None,
                                      open_depth=self.open_depth is not None), weights, epilogue, 3, doc=self.doc,
                        choice=f"product in place: tile {tile.rows} x {tile.vectors} vectors of {tile.lanes}")

    def packed_scratch(self, tile: RegisterTile) -> Kernel:
        """Threads divide the batches, each of which then has scratch memory of its own."""
        request, target, dtype, terms = self.request, self.target, sum_type(self.request), self.terms
        epilogue = epilogue_of(request, self.op.epilogue, 3)
        steps, element = self.depth // terms.group, terms.element(self.w.dtype)
        panels = cut_panels(self.channels, tile, narrowest_lanes(target, dtype))
        elements = packed_channels(panels) * steps if self.open_channels is None else -(-self.channels // tile.lanes) * tile.lanes * steps
        copies = self.batches if request.threads > 1 else 1
        start = self._batch * elements if copies > 1 else ZERO
        scratch = (Buffer("p", element, copies * elements, "workspace"), Workspace(copies * elements * element.size))
        batch = self._batch if copies > 1 else ZERO
        integers = ByteFactors(terms, self.w.dtype, zeros_of(self.op)[1], self.rows, steps, tile.lanes, panels, batch, copies) if dtype is DType.I32 and terms.dot else None
        weights = with_bias(request, scratch, self.channels, panels, packed=True) if integers is None else integers.weights(scratch, self.y)
        product = replace(self._product(), depth=steps, x=terms.x, w=replace(self.w, dtype=element), x_at=partial(self._at, terms.x),
                          dot=terms.dot, packed_start=start, factor=terms.factor)
        nest = product_nest(product, tile, panels, weights, epilogue, target)
        source, argument = self._w_buffer()
        read = self.w.dtype if not terms.dot else storage_type(self.w.dtype)
        weights = Weights(((replace(source, dtype=read), argument), *weights.arguments[1:]), True, weights.padded, weights.bias)
        across = terms.dot and self.w.strides[-1] == 1  # rows of the factor, interleaved in vectors
        vectorize = f"vectorize{{loop=%s,lanes={tile.lanes},narrowest={narrowest_lanes(target, dtype)}}}"
        schedule = (*((vectorize % "lane",) if across else ()), *((vectorize % COLUMN,) if integers is not None else ()))
        starts = () if integers is None else integers.starts(partial(self._at, terms.x), start)
        pack = self._pack_nest(panels, tile, terms, read, start, integers)
        return assemble(request, self.name, outer_loops((*pack, *starts, *nest.body), self.y.dims, self._batch_axes, sizes=self.y.sizes),
                        (*schedule, *tile_schedule(tile, target, nest.inner, weights.padded, dtype, open_rows=self.open_rows is not None,
                                                   open_depth=self.open_depth is not None)), weights, epilogue, 3, doc=self.doc,
                        choice=f"product, factor packed at run time: tile {tile.rows} x {tile.vectors} vectors of {tile.lanes}{terms.text}",
                        workspace=(scratch, *(() if integers is None else integers.workspace)), terms=terms)

    def _pack_nest(self, panels: Sequence[Panel], tile: RegisterTile, terms: Terms, read: DType, begin: Index,
                   integers: ByteFactors | None = None) -> Body:
        """Fills the panels, from element `begin` on; the terms of a group lie side by side in one element, the first in the lowest bits."""
        element = terms.element(self.w.dtype)

        def group(step: Index, channel: Index) -> Expr:
            if self.open_channels is not None:  # the last vector repeats the last channel
                channel = minimum(channel, self.open_channels - 1)
            parts = [Load("w", self._at(self.w, step * terms.group + i, channel), read) for i in range(terms.group)]
            if integers is not None:
                return integers.packed(Op("interleave", tuple(parts), element))
            value: Expr = convert(parts[0], element)
            for number, part in enumerate(parts[1:], start=1):
                shifted = Op("shift_left", (convert(part, element), Const(number * 8 * read.size, element)), element)
                value = Op("bit_or", (value, shifted), element)
            return value

        def in_panel(panel: Panel, channel0: Index, start: Index, _: Index) -> Body:
            step, lane = var("step"), var("lane")
            place = begin + start + step * panel.padded + lane
            copy: list[Stmt] = [For("lane", ZERO, const(panel.size), (Store("p", place, group(step, channel0 + lane)),))]
            if panel.padded > panel.size:
                zero = Const(0.0 if element.is_float else 0, element)
                copy.append(For("unused", const(panel.size), const(panel.padded),
                                (Store("p", begin + start + step * panel.padded + var("unused"), zero),)))
            steps = const(self.depth // terms.group) if self.open_depth is None else self.open_depth
            return (For("step", ZERO, steps, tuple(copy)),)

        if self.open_channels is not None:
            return open_panel_loops(self.open_channels, tile.channels, tile.lanes, self.depth // terms.group, in_panel)
        return panel_loops(panels, self.depth // terms.group, in_panel)

    def dots(self) -> Kernel:
        request, lanes, dtype = self.request, self.lanes, sum_type(self.request)
        epilogue = epilogue_of(request, self.op.epilogue, 3)
        whole = Panel(0, self.channels, self.channels, 1)
        weights = with_bias(request, self._w_buffer(), self.channels, (whole,), packed=False)
        row, column = var(PIXEL), var("column")

        def address(view: View) -> Index:
            return self._at(view, row, column)

        def step(k: Index, valid: int) -> Stmt:
            x = Load("x", self._at(self.x, row, k), self.x.dtype, lanes, 1, valid)
            w = Load("w", self._at(self.w, k, column), self.w.dtype, lanes, 1, valid)
            return Assign("acc", multiply_add(x, w, Ref("acc", dtype, lanes)))

        blocks, rest = divmod(self.depth, lanes)
        nest: list[Stmt] = [Declare("acc", Const(0.0, dtype, lanes))]
        if blocks:
            nest.append(For("block", ZERO, const(blocks), (step(var("block") * lanes, 0),)))
        if rest:
            nest.append(step(const(blocks * lanes), rest))
        total = Ref("acc", dtype, lanes)
        start = weights.bias(column, address)
        nest.append(epilogue.store(convert(Op("add", (Horizontal("add", total) if lanes > 1 else total, start), dtype), dtype), address))
        body: Body = (For(PIXEL, ZERO, self.open_rows or const(self.rows), (
            For("column", ZERO, self.open_channels or const(self.channels), tuple(nest)),)),)
        return assemble(request, self.name, outer_loops(body, self.y.dims, self._batch_axes, sizes=self.y.sizes),
                        (f"tile{{loop=column,factor={FEW}}}", "jam{loop=column_inner}", "reuse-loads"), weights, epilogue, 3,
                        doc=self.doc, choice=f"dot products along the reduction, {FEW} at a time")

    def one_by_one(self) -> Kernel:
        """For sizes that leave no room for whole vectors: the formula."""
        request, dtype, zeros = self.request, sum_type(self.request), zeros_of(self.op)
        epilogue = epilogue_of(request, self.op.epilogue, 3)
        weights = with_bias(request, self._w_buffer(), self.channels, (Panel(0, self.channels, self.channels, 1),), packed=False)
        row, column, k = var(PIXEL), var("column"), var("k")

        def address(view: View) -> Index:
            return self._at(view, row, column)

        def factor(name: str, view: View, at: Index, zero: int) -> Expr:
            read = convert(Load(name, at, view.dtype), dtype)
            return Op("sub", (read, Const(zero, dtype)), dtype) if zero else read

        term = multiply_add(factor("x", self.x, self._at(self.x, row, k), zeros[0]), factor("w", self.w, self._at(self.w, k, column), zeros[1]), Ref("acc", dtype))
        total = convert(Op("add", (Ref("acc", dtype), weights.bias(column, address)), dtype), dtype)
        nest = (Declare("acc", Const(0.0 if dtype.is_float else 0, dtype)), For("k", ZERO, self.open_depth or const(self.depth), (Assign("acc", term),)),
                epilogue.store(total, address))
        body = (For(PIXEL, ZERO, self.open_rows or const(self.rows), (For("column", ZERO, self.open_channels or const(self.channels), nest),)),)
        return assemble(request, self.name, outer_loops(body, self.y.dims, self._batch_axes, sizes=self.y.sizes),
                        (f"tile{{loop=column,factor={FEW}}}", "jam{loop=column_inner}", "reuse-loads"), weights, epilogue, 3,
                        doc=self.doc, choice=f"sums one by one, {FEW} at a time")


def _open(size: Index) -> Index | None:
    return None if size.is_const else size


def _without_last(view: View) -> View:
    return View(view.dtype, view.dims[:-1], view.strides[:-1], sizes=view.sizes[:-1])


def _columns(transposed: bool, weights: Array) -> Array:
    matrix = weights.reshape(weights.shape[-2:])
    return np.ascontiguousarray(matrix if transposed else matrix.T)
