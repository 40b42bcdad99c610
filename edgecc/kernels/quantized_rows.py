"""The rows of a product with weights in blocks, and those rows quantized block by block as the product runs.

    for row: for block: scale = largest |x| / 127; q = round(x / scale); correction = factor * sum of q
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.types import DType
from edgecc.kernels.block_packing import GROUP
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.view import View
from edgecc.loop.builder import add, cast, div, mul, number, operation, repeat, select
from edgecc.loop.index import Index, const
from edgecc.loop.ir import Bitcast, Body, Buffer, Expr, Horizontal, Op, Ref

LIMIT = 127

MAGNITUDE = 0x7FFFFFFF
"""The bits of an f32 without its sign."""

INFINITY = 0x7F800000
"""The bits of infinity; those of NaN are above."""

MOST_WRITTEN_OUT = 8
"""Vectors of a block whose largest magnitude is found without a loop."""


class Rows:
    """The rows of a product; those of batches are rows as well.

    Attributes:
        count: how many there are, at most where the run decides.
        is_open: whether the run decides how many there are.
    """

    def __init__(self, x: View, y: View) -> None:
        self.x_step, self.y_step = x.strides[-1], y.strides[-1]
        self.is_open = y.is_open
        self._outer = tuple((y.size(axis), math.prod(y.dims[axis + 1:-1])) for axis in range(len(y.dims) - 2))
        self._own = y.size(len(y.dims) - 2)
        if any(d != 1 for d in y.dims[:-2]):
            if not (x.is_row_major and y.is_row_major):
                raise EdgeccError("E112", "batches of rows lie one after the other")
            self.count = y.elements // max(1, y.dims[-1])
            self.x_stride, self.y_stride = x.dims[-1], y.dims[-1]
        else:
            self.count, self.x_stride, self.y_stride = y.dims[-2], x.strides[-2], y.strides[-2]

    def tiles(self, b: KernelBuilder, group: int, tile: Callable[[Index, int], None]) -> None:
        """Calls `tile` with the first row and the number of rows: in a loop over groups of rows, then for those that are left.

        Where the run decides how many those are, they come one by one.
        """
        if self.is_open:
            with self._batches(b) as first:
                groups = self._own.floordiv(group)
                with b.loop("row", groups) as row:
                    tile(first + row * group, group)
                with b.loop("row", self._own, start=groups * group) as row:
                    tile(first + row, 1)
            return
        whole = self.count // group if group else 0
        with b.loop("row", whole) as row:
            tile(row * group, group)
        if self.count > whole * group:
            tile(const(whole * group), self.count - whole * group)

    @contextmanager
    def each(self, b: KernelBuilder, name: str) -> Iterator[Index]:
        """A loop over all rows."""
        if self.is_open:
            with self._batches(b) as first, b.loop(name, self._own) as row:
                yield first + row
        else:
            with b.loop(name, self.count) as row:
                yield row

    @contextmanager
    def _batches(self, b: KernelBuilder) -> Iterator[Index]:
        """Loops over the members of a batch; yields the first row of a member."""
        with ExitStack() as loops:
            first = const(0)
            for size, rows in self._outer:
                first = first + loops.enter_context(b.loop("member", size)) * rows
            yield first

    def store(self, b: KernelBuilder, y: Buffer, row: Index, column: Index, sums: Sequence[Sequence[Expr]], valid: int) -> None:
        """Stores vectors side by side from a row and column on, a list of them for each row; of the last one `valid` lanes, if not 0."""
        for r, line in enumerate(sums):
            for v, total in enumerate(line):
                place = (row + r) * self.y_stride + (column + v * total.lanes) * self.y_step
                b.store(y, place, cast(total, y.dtype), stride=self.y_step, valid=valid if v == len(line) - 1 else 0)


Elements = Callable[[Index | int, int], Expr]
"""A vector of f32 by its offset in a block; of its lanes so many are valid, or all for 0."""


class QuantizedRows:
    """Scratch memory with the rows of x as integers, and the statements that fill it.

    Attributes:
        values: the integers: as f32 [rows, depth], or in groups of bytes as u32 [rows, blocks * block / 4].
        scales: f32 [rows, blocks]. corrections: with groups, i32 [rows, blocks], `factor` times the sum of a block's integers.
    """

    def __init__(self, b: KernelBuilder, x: Buffer, rows: Rows, depth: int, block: int, lanes: int, *, grouped: bool, factor: int = -1) -> None:
        self.b, self.x, self.rows, self.depth, self.block = b, x, rows, depth, block
        self.grouped, self.factor = grouped, factor
        self.blocks = -(-depth // block)
        self.groups = GROUP if grouped else 1
        self.part = block // self.groups
        self.lanes = int(np.gcd(self.part, lanes)) if rows.x_step == 1 else 1
        self.stride = self.blocks * self.part if grouped else depth
        self.values = b.workspace("values", DType.U32 if grouped else DType.F32, rows.count * self.stride)
        self.scales = b.workspace("value_scales", DType.F32, rows.count * self.blocks)
        self.corrections = b.workspace("corrections", DType.I32, rows.count * self.blocks) if grouped else None

    def scale(self, row: Index, block: Index) -> Expr:
        """The scale of a block of a row."""
        return self.b.load(self.scales, row * self.blocks + block)

    def correction(self, row: Index, block: Index) -> Expr:
        """`factor` times the sum of the integers of a block of a row."""
        if self.corrections is None:
            raise EdgeccError("E900", "values that are no groups of bytes have no corrections")
        return self.b.load(self.corrections, row * self.blocks + block)

    def emit(self, beside: Callable[[Index], Body] | None = None) -> None:
        """Quantizes all rows; `beside` gives what else is done in front of the block of a number."""
        whole = self.depth // self.block
        with self.rows.each(self.b, "quantized_row") as row:
            with self.b.loop("quantized_block", whole) as block:
                for stmt in () if beside is None else beside(row * whole + block):
                    self.b.append(stmt)
                self._block(row, block, self.block)
            if whole < self.blocks:
                self._block(row, const(whole), self.depth - whole * self.block)

    def _block(self, row: Index, block: Index, terms: int) -> None:
        """Quantizes a block of a row, of `terms` elements."""
        own = _Block(self.b, self.x, row * self.rows.x_stride + block * (self.block * self.rows.x_step), self.rows.x_step, self.lanes)
        quotients = own.scaled(terms, self.scales, row * self.blocks + block)
        if self.grouped:
            total = self._store_groups(quotients, row * self.stride + block * self.part, terms)
            correction = mul(Horizontal("add", total) if self.lanes > 1 else total, self.factor)
            if self.corrections is not None:
                self.b.store(self.corrections, row * self.blocks + block, correction)
        else:
            self._store_numbers(quotients, row * self.stride + block * self.block, terms)

    def _store_numbers(self, quotients: Elements, target: Index, terms: int) -> None:
        """Stores integers as f32, one after the other."""
        b, lanes, rest = self.b, self.lanes, terms % self.lanes
        with b.loop("j", terms // lanes) as j:
            b.store(self.values, target + j * lanes, operation("round", quotients(j * lanes, 0)))
        if rest:
            b.store(self.values, target + (terms - rest), operation("round", quotients(terms - rest, rest)), valid=rest)

    def _store_groups(self, quotients: Elements, target: Index, terms: int) -> Ref:
        """Stores integers as bytes of words, each word one of every part of the block; returns their sums, a vector."""
        b, lanes = self.b, self.lanes
        total = b.declare("total", number(0, DType.I32, lanes))

        def group(offset: Index | int, valid: tuple[int, ...]) -> None:
            word: Expr | None = None
            for g, count in enumerate(valid):
                if not count:
                    continue
                values = b.let("codes", Op("nearest", (quotients(offset + g * self.part, count),), DType.I32, lanes))
                b.assign(total, add(total, values))
                byte: Expr = Bitcast(values, DType.U32)
                byte = byte if g == GROUP - 1 else operation("bit_and", byte, 0xFF)
                byte = byte if g == 0 else operation("shift_left", byte, 8 * g)
                word = byte if word is None else operation("bit_or", word, byte)
            b.store(self.values, target + offset, number(0, DType.U32, lanes) if word is None else word)

        if terms == self.block:
            with b.loop("group", self.part // lanes) as i:
                group(i * lanes, (lanes,) * GROUP)
        else:
            for start in range(0, self.part, lanes):
                group(start, tuple(max(0, min(lanes, terms - g * self.part - start)) for g in range(GROUP)))
        return total


@dataclass(frozen=True)
class _Block:
    """A block of a row of x: its first element, how far apart its elements lie, and how many are read at once."""

    b: KernelBuilder
    x: Buffer
    source: Index
    step: int
    lanes: int

    def scaled(self, terms: int, scales: Buffer, place: Index) -> Elements:
        """Stores the block's scale and returns its elements divided by it; without a finite scale they are zeros."""
        b, most = self.b, self._largest(terms)
        found = b.let("ratio", div(Bitcast(most, DType.F32), float(LIMIT)))
        tiny = float(np.finfo(np.float32).tiny)
        b.store(scales, place, select(operation("lt", found, tiny), 1.0, found))
        divisor = b.let("divisor", select(operation("le", tiny, found), found, 1.0))
        kept = b.let("kept", select(operation("lt", most, INFINITY), number(-1, DType.I32), 0))

        def quotient(offset: Index | int, valid: int) -> Expr:
            # At most 127 and half a unit in the last place, so nothing is limited; what is no number would be, but makes its block zeros.
            finite = Bitcast(operation("bit_and", Bitcast(self._element(offset, valid), DType.I32), repeat(kept, self.lanes)), DType.F32)
            return div(finite, repeat(divisor, self.lanes))

        return quotient

    def _element(self, offset: Index | int, valid: int) -> Expr:
        place = self.source + (offset * self.step if isinstance(offset, Index) else const(offset * self.step))
        return cast(self.b.load(self.x, place, self.lanes, valid=valid), DType.F32)

    def _largest(self, terms: int) -> Ref:
        """The bits of the largest magnitude.

        Magnitudes are ordered as their bits are, NaN above all: integers are compared at once, floats need care for NaN.
        """
        b, lanes = self.b, self.lanes
        largest = b.declare("largest", number(0, DType.I32, lanes))

        def include(offset: Index | int, valid: int) -> None:
            magnitude = operation("bit_and", Bitcast(self._element(offset, valid), DType.I32), MAGNITUDE)
            b.assign(largest, operation("max", largest, magnitude))

        whole, rest = divmod(terms, lanes)
        if whole <= MOST_WRITTEN_OUT:
            for vector in range(whole):
                include(vector * lanes, 0)
        else:
            with b.loop("i", whole) as i:
                include(i * lanes, 0)
        if rest:
            include(terms - rest, rest)
        return b.let("most", Horizontal("max", largest) if lanes > 1 else largest)
