"""Products with weights of 4 or 8 bits and a scale for each block of terms, where the operand is quantized block by block too.

    for row: for block: scale = largest |x| / 127; q = round(x / scale); correction = -sum of q
    for panel: for row: for block: sum = zero * correction + sum over the block of q * w; acc += sum * (scale * scale of w)

The sums of a block are exact, in integers here and in floats elsewhere (edgecc/kernels/block_quantized.py), so every target computes
the same bits. Instructions that multiply groups of four bytes do the work: four terms a lane (edgecc/loop/dot.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.types import Array, DType
from edgecc.kernels.ahead import stream_ahead, stream_begin
from edgecc.kernels.base import Kernel, Request, View
from edgecc.kernels.block_packing import GROUP, PanelWidths, in_panels, panel_widths, scale_table, words_of_groups
from edgecc.kernels.cost import combine, weight_cycles, worthwhile_threads
from edgecc.kernels.grouped import has_product
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.register_tile import vector_lanes
from edgecc.loop.builder import add, cast, div, fma, mul, number, operation, repeat, select, sub
from edgecc.loop.dot import DOTS, Dot
from edgecc.loop.index import Index, const
from edgecc.loop.ir import Bitcast, Buffer, Expr, Horizontal, Op, Ref
from edgecc.loop.split import balanced_parts
from edgecc.ops.block_quantized import MatMulNBits

MOST_ROWS = 4
"""Rows that share the weights they read."""

LIMIT = 127
LOW_HALVES = 0x0F0F0F0F

MAGNITUDE = 0x7FFFFFFF
"""The bits of an f32 without its sign."""

MOST_WRITTEN_OUT = 8
"""Vectors of a block whose largest magnitude is found without a loop."""


class Rows:
    """The rows of a product; those of batches are rows as well."""

    def __init__(self, x: View, y: View) -> None:
        self.x_step, self.y_step = x.strides[-1], y.strides[-1]
        if any(d != 1 for d in y.dims[:-2]):
            if not (x.is_row_major and y.is_row_major):
                raise EdgeccError("E112", "batches of rows lie one after the other")
            self.count = y.elements // max(1, y.dims[-1])
            self.x_stride, self.y_stride = x.dims[-1], y.dims[-1]
        else:
            self.count, self.x_stride, self.y_stride = y.dims[-2], x.strides[-2], y.strides[-2]

    def tiles(self, b: KernelBuilder, group: int, tile: Callable[[Index, int], None]) -> None:
        """Calls `tile` with the first row and the number of rows: in a loop over groups of rows, then for those that are left."""
        whole = self.count // group if group else 0
        with b.loop("row", whole) as row:
            tile(row * group, group)
        if self.count > whole * group:
            tile(const(whole * group), self.count - whole * group)

    def store(self, b: KernelBuilder, y: Buffer, row: Index, column: Index, sums: Sequence[Sequence[Expr]], valid: int) -> None:
        """Stores vectors side by side from a row and column on, a list of them for each row; of the last one `valid` lanes, if not 0."""
        for r, line in enumerate(sums):
            for v, total in enumerate(line):
                place = (row + r) * self.y_stride + (column + v * total.lanes) * self.y_step
                b.store(y, place, cast(total, y.dtype), stride=self.y_step, valid=valid if v == len(line) - 1 else 0)


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

    def emit(self) -> None:
        """Quantizes all rows."""
        whole = self.depth // self.block
        with self.b.loop("quantized_row", self.rows.count) as row:
            with self.b.loop("quantized_block", whole) as block:
                self._block(row, block, self.block)
            if whole < self.blocks:
                self._block(row, const(whole), self.depth - whole * self.block)

    def _block(self, row: Index, block: Index, terms: int) -> None:
        b, lanes = self.b, self.lanes
        source = row * self.rows.x_stride + block * (self.block * self.rows.x_step)
        def x(offset: Index | int, valid: int) -> Expr:
            place = source + (offset * self.rows.x_step if isinstance(offset, Index) else const(offset * self.rows.x_step))
            return cast(b.load(self.x, place, lanes, valid=valid), DType.F32)

        def magnitude(offset: Index | int, valid: int) -> Expr:
            return operation("bit_and", Bitcast(x(offset, valid), DType.I32), MAGNITUDE)

        # Magnitudes are ordered as their bits are, NaN above all: integers are compared at once, floats need care for NaN.
        largest = b.declare("largest", number(0, DType.I32, lanes))
        whole = terms // lanes
        if whole <= MOST_WRITTEN_OUT:
            for vector in range(whole):
                b.assign(largest, operation("max", largest, magnitude(vector * lanes, 0)))
        else:
            with b.loop("i", whole) as i:
                b.assign(largest, operation("max", largest, magnitude(i * lanes, 0)))
        if terms % lanes:
            b.assign(largest, operation("max", largest, magnitude(terms - terms % lanes, terms % lanes)))
        found = b.let("ratio", div(Bitcast(Horizontal("max", largest) if lanes > 1 else largest, DType.F32), float(LIMIT)))
        scale = b.let("value_scale", select(operation("le", float(np.finfo(np.float32).tiny), found), found, 1.0))
        b.store(self.scales, row * self.blocks + block, scale)

        def steps(offset: Index | int, valid: int) -> Expr:
            rounded = operation("round", div(x(offset, valid), repeat(scale, lanes)))
            return b.let("steps", operation("max", operation("min", rounded, float(LIMIT)), float(-LIMIT)))

        target = row * self.stride
        if not self.grouped:
            with b.loop("j", terms // lanes) as j:
                b.store(self.values, target + block * self.block + j * lanes, steps(j * lanes, 0))
            if terms % lanes:
                start = terms - terms % lanes
                b.store(self.values, target + block * self.block + start, steps(start, terms % lanes), valid=terms % lanes)
            return
        total = b.declare("total", number(0, DType.I32, lanes))

        def group(offset: Index | int, valid: tuple[int, ...]) -> None:
            word: Expr | None = None
            for g, count in enumerate(valid):
                if not count:
                    continue
                values = b.let("codes", cast(steps(offset + g * self.part, count), DType.I32))
                b.assign(total, add(total, values))
                byte = operation("bit_and", Bitcast(values, DType.U32), 0xFF)
                byte = byte if g == 0 else operation("shift_left", byte, 8 * g)
                word = byte if word is None else operation("bit_or", word, byte)
            place = target + block * self.part + offset
            b.store(self.values, place, number(0, DType.U32, lanes) if word is None else word)

        if terms == self.block:
            with b.loop("group", self.part // lanes) as i:
                group(i * lanes, (lanes,) * GROUP)
        else:
            for start in range(0, self.part, lanes):
                group(start, tuple(max(0, min(lanes, terms - g * self.part - start)) for g in range(GROUP)))
        correction = mul(Horizontal("add", total) if lanes > 1 else total, self.factor)
        if self.corrections is not None:
            b.store(self.corrections, row * self.blocks + block, correction)


def lower_integer(request: Request, op: MatMulNBits) -> Kernel | None:
    """The kernel of a product whose operand is quantized; None where the target has no products of groups of bytes, or the shape no groups."""
    dot = next((DOTS[name] for name in ("dot_s8", "dot_u8s8") if has_product(request.target, name)), None)
    if dot is None or op.block % (4 * GROUP) or request.operand(0).view.strides[-1] != 1 or vector_lanes(request.target) == 1:
        return None
    return _Integers(request, op, dot).kernel()


class _Integers:
    def __init__(self, request: Request, op: MatMulNBits, dot: Dot) -> None:
        self.request, self.op, self.dot = request, op, dot
        self.channels, self.depth = request.operand(1).view.dims
        self.rows = Rows(request.operand(0).view, request.outputs[0])
        self.lanes = vector_lanes(request.target)
        self.group = max((size for size, _ in balanced_parts(self.rows.count, MOST_ROWS)), default=0)
        self.widths = panel_widths(self.channels, 4 if self.group == 1 else 2, self.lanes)
        self.blocks = -(-self.depth // op.block)
        self.block_words = op.block * op.bits // 32
        signed = dot.element is DType.I8
        self.flip = 128 if signed and op.bits == 8 else 0
        self.centre = (1 << (op.bits - 1)) - self.flip
        zero = request.optional(3)
        self.b = KernelBuilder(request, f"matmul_{op.bits}bit_by_8bit_{self.depth}_{self.channels}",
                               f"product of values quantized here with {op.bits}-bit weights, {self.depth} to {self.channels} channels, blocks of {op.block}")
        self.x = self.b.input(0, "x")
        padded = self.widths.padded
        self.w = self.b.packed("w", DType.U32, padded * self.blocks * self.block_words, (1,),
                               partial(_packed_groups, op.bits, op.block, self.flip != 0, self.widths))
        scale = request.operand(2).view.dtype
        self.scale = self.b.packed("scale", scale, padded * self.blocks, (2,), partial(scale_table, scale, self.widths))
        self.zero = None if zero is None else self.b.packed("zero", DType.U8, padded * self.blocks, (3,), partial(scale_table, DType.U8, self.widths))
        self.y = self.b.output(0, "y")
        self.values = QuantizedRows(self.b, self.x, self.rows, self.depth, op.block, self.lanes, grouped=True,
                                    factor=-self.centre if zero is None else -1)

    def kernel(self) -> Kernel:
        op, target, widths = self.op, self.request.target, self.widths
        terms = self.channels * self.depth
        instructions = terms / (self.lanes * GROUP) * (self.rows.count + (1.5 if op.bits == 4 else 0.0))
        cycles = combine(instructions / target.core.fma_per_cycle, weight_cycles(terms * op.bits / 8, target), target)
        threads = worthwhile_threads(cycles, self.request.threads)
        for ahead in stream_begin(self.w.name, 4, 4.0 * self.w.elements, target):
            self.b.append(ahead)
        self.values.emit()
        with self.b.loop("panel", widths.whole, kind="parallel" if threads > 1 and widths.whole > 1 else "serial") as panel:
            self._panel(panel, widths.vectors, 0)
        if widths.rest:
            self._panel(const(widths.whole), widths.rest, widths.last % self.lanes)
        return self.b.kernel(choice=f"{op.bits}-bit weights by 8-bit values: tile {self.group} x {widths.vectors} vectors of {self.lanes}, {self.dot.name}")

    def _panel(self, panel: Index, vectors: int, valid: int) -> None:
        self.rows.tiles(self.b, self.group, partial(self._tile, panel, vectors, valid))

    def _tile(self, panel: Index, vectors: int, valid: int, row: Index, count: int) -> None:
        b = self.b
        totals = [[b.declare("acc", number(0.0, DType.F32, self.lanes)) for _ in range(vectors)] for _ in range(count)]
        with b.loop("block", self.blocks) as block:
            self._block(panel, vectors, row, block, totals)
        self.rows.store(b, self.y, row, panel * (self.widths.vectors * self.lanes), totals, valid)

    def _block(self, panel: Index, vectors: int, row: Index, block: Index, totals: list[list[Ref]]) -> None:
        b, lanes = self.b, self.lanes
        table = panel * (self.widths.vectors * lanes * self.blocks) + block * (vectors * lanes)
        sums = self._starts(table, vectors, row, block, len(totals))
        words = panel * (self.widths.vectors * lanes * self.blocks * self.block_words) + block * (self.block_words * vectors * lanes)
        groups = block * self.values.part
        halves = 2 if self.op.bits == 4 else 1
        with b.loop("word", self.block_words) as index:
            lines = [[b.let("x", repeat(b.load(self.values.values, (row + r) * self.values.stride + groups + index * halves + half), lanes))
                      for half in range(halves)] for r in range(len(totals))]
            if self.rows.count == self.group:
                for ahead in stream_ahead(self.w.name, words + index * (vectors * lanes), vectors * lanes, 4, 4.0 * self.w.elements, self.request.target):
                    b.append(ahead)
            for v in range(vectors):
                word = b.let("word", b.load(self.w, words + index * (vectors * lanes) + v * lanes, lanes))
                for half in range(halves):
                    codes: Expr = word
                    if halves == 2:
                        codes = b.let("codes", operation("bit_and", operation("shift_right", word, 4) if half else word, LOW_HALVES))
                    for r, line in enumerate(lines):
                        b.assign(sums[r][v], Op(self.dot.name, (codes, line[half], sums[r][v]), DType.I32, lanes))
        for v in range(vectors):
            scale = b.let("scale", cast(b.load(self.scale, table + v * lanes, lanes), DType.F32))
            for r, line_ in enumerate(totals):
                factor = mul(scale, repeat(self.values.scale(row + r, block), lanes))
                b.assign(line_[v], fma(cast(sums[r][v], DType.F32), factor, line_[v]))

    def _starts(self, table: Index, vectors: int, row: Index, block: Index, count: int) -> list[list[Ref]]:
        """The sums of a block before its products: what the zero points take out of them."""
        b, lanes = self.b, self.lanes
        if self.zero is None and not self.centre:
            return [[b.declare("sum", number(0, DType.I32, lanes)) for _ in range(vectors)] for _ in range(count)]
        corrections = [b.let("correction", repeat(self.values.correction(row + r, block), lanes)) for r in range(count)]
        if self.zero is None:
            return [[b.declare("sum", correction) for _ in range(vectors)] for correction in corrections]
        zeros: list[Expr] = [cast(b.load(self.zero, table + v * lanes, lanes), DType.I32) for v in range(vectors)]
        zeros = [b.let("zero", sub(zero, self.flip) if self.flip else zero) for zero in zeros]
        return [[b.declare("sum", mul(zero, correction)) for zero in zeros] for correction in corrections]


def _packed_groups(bits: int, block: int, flip: bool, widths: PanelWidths, weights: Array) -> Array:
    return in_panels(widths, words_of_groups(bits, block, flip, weights))
