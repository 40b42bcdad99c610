"""Products with weights of 4 or 8 bits and a scale for each block of terms, where the operand is quantized block by block too.

    for row: for block: scale = largest |x| / 127; q = round(x / scale); correction = -sum of q
    for panel: for row: for block: sum = zero * correction + sum over the block of q * w; acc += sum * (scale * scale of w)

Codes of 4 bits of two channels share a byte, low half and high half. Where machines multiply unsigned bytes up to 255, or signed ones,
the whole byte is multiplied as well as its low half: what both sums differ by is 16 times that of the high halves, which are never
taken out of their bytes. So 128 codes are a load, two products and one other instruction.

Where machines multiply pairs of bytes into 16 bits, those of 32 terms are added there: no lane has more than eight pairs of a code of
at most 15 and a number of at most 127, 30480 altogether. So 64 codes are a load, three instructions that take the halves out, two
products and two sums, and one more for each vector of sums of 32 terms.

The sums of a block are exact, in integers here and in floats elsewhere (edgecc/kernels/block_quantized.py), so every target computes
the same bits. Instructions that multiply groups of four bytes do the work: four terms a lane (edgecc/loop/dot.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import chain

from edgecc.ir.types import Array, DType
from edgecc.kernels.ahead import stream_ahead, stream_begin, stream_far
from edgecc.kernels.block_packing import GROUP, Stream, panel_widths, words_of_groups
from edgecc.kernels.cost import combine, weight_cycles, worthwhile_threads
from edgecc.kernels.grouped import BY_LANE, has_product
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.quantized_rows import QuantizedRows, Rows
from edgecc.kernels.register_tile import vector_lanes
from edgecc.kernels.request import Request
from edgecc.loop.builder import add, cast, fma, mul, number, operation, repeat, sub
from edgecc.loop.dot import DOTS, VNNI, Dot
from edgecc.loop.index import Index, const
from edgecc.loop.ir import Broadcast, Expr, Lane, Op, Ref
from edgecc.loop.split import balanced_parts
from edgecc.ops.block_quantized import MatMulNBits
from edgecc.targets.schema import Target

MOST_ROWS, OPEN_ROWS = 4, 2
"""Rows that share the weights they read; where the run decides how many rows there are."""

LOW_HALVES = 0x0F0F0F0F

SHORT_WORDS, ONES = 8, 0x00010001
"""Words whose products are added in 16 bits: 8 * 2 * 15 * 127 fits. Two ones of 16 bits, whose products with such sums add these up."""


def lower_integer(request: Request, op: MatMulNBits) -> Kernel | None:
    """The kernel of a product whose operand is quantized; None where the target has no products of groups of bytes, or the shape no groups."""
    dot = next((DOTS[name] for name in ("dot_s8", "dot_u8s8") if has_product(request.target, name)), None)
    if dot is None or op.block % (4 * GROUP) or request.operand(0).view.strides[-1] != 1 or vector_lanes(request.target) == 1:
        return None
    return _Integers(request, op, dot).kernel()


def lines_of(bits: int, rows: int, target: Target) -> int:
    """Lines of a panel (edgecc/kernels/block_packing.py) of which a tile has `rows` rows: a line of 4-bit codes takes four registers a row."""
    if bits == 8:
        return 4 if rows == 1 else 2
    return 1 if rows > 1 else 4 if target.vector.registers >= 32 else 2


class _Integers:
    def __init__(self, request: Request, op: MatMulNBits, dot: Dot) -> None:
        self.request, self.op = request, op
        self.channels, self.depth = request.operand(1).view.dims
        self.rows = Rows(request.operand(0).view, request.outputs[0])
        self.lanes = vector_lanes(request.target)
        # With an unknown number of rows, tiles are such that single rows, of which text is made, have sums enough side by side.
        self.group = OPEN_ROWS if self.rows.is_open else max((size for size, _ in balanced_parts(self.rows.count, MOST_ROWS)), default=0)
        signed = dot.element is DType.I8
        self.halves = 2 if op.bits == 4 else 1
        self.whole_bytes = self.halves == 2 and (signed or request.target.has(VNNI))  # others add pairs in 16 bits, which hold products of 15 and not of 255
        self.dot = DOTS["dot_u8s8_halves"] if self.halves == 2 and not self.whole_bytes else dot
        flips = signed and (op.bits == 8 or self.whole_bytes)
        middle = 1 << (op.bits - 1)
        self.flips = (0, middle if flips else 0) if self.halves == 2 else (middle if flips else 0,)
        self.centres = tuple(middle - flip for flip in self.flips)
        self.widths = panel_widths(self.channels, 2 if self.rows.is_open else lines_of(op.bits, self.group, request.target), self.halves * self.lanes)
        zero = request.optional(3)
        self.stream = Stream(self.widths, self.lanes, -(-self.depth // op.block), op.block // GROUP, request.operand(2).view.dtype, zero is not None)
        self.b = KernelBuilder(request, f"matmul_{op.bits}bit_by_8bit_{self.depth}_{self.channels}",
                               f"product of values quantized here with {op.bits}-bit weights, {self.depth} to {self.channels} channels, blocks of {op.block}")
        self.x = self.b.input(0, "x")
        self.w = self.b.packed("w", DType.U32, self.stream.elements, (1, 2) if zero is None else (1, 2, 3), partial(_packed, op, flips, self.stream))
        self.scale = self.b.same_memory("scale", self.stream.scale, self.w)
        self.zero = None if zero is None else self.b.same_memory("zero", DType.U8, self.w)
        self.y = self.b.output(0, "y")
        self.values = QuantizedRows(self.b, self.x, self.rows, self.depth, op.block, self.lanes, grouped=True,
                                    factor=-self.centres[0] if zero is None else -1)

    def kernel(self) -> Kernel:
        op, target, widths = self.op, self.request.target, self.widths
        terms = self.channels * self.depth
        unpacking = 0.0 if op.bits == 8 else 0.5 if self.whole_bytes else 1.5
        instructions = terms / (self.lanes * GROUP) * (self.rows.count + unpacking)
        cycles = combine(instructions / target.core.fma_per_cycle, weight_cycles(terms * op.bits / 8, target), target)
        threads = worthwhile_threads(cycles, self.request.threads)
        size, blocks = 4.0 * self.w.elements, self.rows.count * (self.depth // op.block)
        self.values.emit(lambda block: stream_begin(self.w.name, block, blocks, 4, size, target))
        with self.b.loop("panel", widths.whole, kind="parallel" if threads > 1 and widths.whole > 1 else "serial") as panel:
            self._panel(panel, widths.vectors, widths.vectors * self.halves, 0)
        if widths.rest:
            vectors, left = divmod(self.channels - widths.whole * widths.vectors * widths.lanes, self.lanes)
            self._panel(const(widths.whole), widths.rest, vectors + bool(left), left)
        return self.b.kernel(choice=f"{op.bits}-bit weights by 8-bit values: tile {self.group} x {widths.vectors * self.halves} vectors of {self.lanes}, "
                                    f"{self.dot.name}")

    def _panel(self, panel: Index, lines: int, vectors: int, valid: int) -> None:
        self.rows.tiles(self.b, self.group, partial(self._tile, panel, lines, vectors, valid))

    def _tile(self, panel: Index, lines: int, vectors: int, valid: int, row: Index, count: int) -> None:
        """A panel of some rows; of its lines the first `vectors` vectors have channels, and `valid` lanes of the last one, if not 0."""
        b = self.b
        totals = [[b.declare("acc", number(0.0, DType.F32, self.lanes)) for _ in range(vectors)] for _ in range(count)]
        with b.loop("block", self.stream.blocks) as block:
            self._block(panel * self.stream.panel_words, lines, row, block, totals)
        self.rows.store(b, self.y, row, panel * (self.widths.vectors * self.widths.lanes), totals, valid)

    def _block(self, panel: Index, lines: int, row: Index, block: Index, totals: list[list[Ref]]) -> None:
        """Adds the terms of one block of a panel, whose words begin at `panel`, to the sums."""
        b, lanes, target, stream = self.b, self.lanes, self.request.target, self.stream
        start = panel + block * stream.block_words(lines)
        scales = start + stream.lines_words(lines)
        sums = self._starts((scales + stream.scale_words(lines)) * 4, row, block, totals)

        alone, size = (len(totals) == 1 if self.rows.is_open else self.rows.count == self.group), 4.0 * self.w.elements
        if alone:
            for ahead in stream_far(self.w.name, panel, block, stream.block_words(lines), 4, size, target):
                b.append(ahead)
        # Products by lane take their groups out of a vector of them.
        together = lanes if self.dot.name in BY_LANE and target.vector.fma_by_lane and stream.words % lanes == 0 else 1
        short = self.dot.sum is DType.U32
        written = math.gcd(stream.words, SHORT_WORDS) if short else together
        with b.loop("word", stream.words // written) as index:
            open_sums = [[b.declare("halves", number(0, DType.U32, lanes)) for _ in own] for own in sums] if short else sums
            for step in range(0, written, together):
                first = index * written + step
                groups = [b.let("groups", b.load(self.values.values, (row + r) * self.values.stride + block * self.values.part + first, together))
                          for r in range(len(totals))]
                for lane in range(together):
                    place = start + (first + lane) * (lines * lanes)
                    if alone:
                        for ahead in stream_ahead(self.w.name, place, lines * lanes, 4, size, target):
                            b.append(ahead)
                    factors = [Broadcast(Lane(group, lane), lanes) for group in groups] if together > 1 else [b.let("x", repeat(group, lanes)) for group in groups]
                    self._products(place, lines, factors, open_sums)
            if short:
                for total, part in zip(chain(*sums), chain(*open_sums), strict=True):
                    b.assign(total, Op("dot_s16", (part, number(ONES, DType.U32, lanes), total), DType.I32, lanes))
        for v in range(len(totals[0])):
            scale = b.let("scale", cast(b.load(self.scale, scales * (4 // stream.scale.size) + v * lanes, lanes), DType.F32))
            for r, line_ in enumerate(totals):
                factor = mul(scale, repeat(self.values.scale(row + r, block), lanes))
                b.assign(line_[v], fma(cast(self._sum(sums[r], v), DType.F32), factor, line_[v]))

    def _products(self, place: Index, lines: int, factors: Sequence[Expr], sums: list[list[Ref]]) -> None:
        """Adds the products of the words from `place` on, which meet the group `factors` of each row."""
        for line in range(lines):
            word = self.b.let("word", self.b.load(self.w, place + line * self.lanes, self.lanes))
            for half, codes in enumerate(self._codes(word)[:len(sums[0]) - line * self.halves]):
                for own, x in zip(sums, factors, strict=True):
                    total = own[line * self.halves + half]
                    factor = (x, codes) if isinstance(x, Broadcast) else (codes, x)  # the lane stands first, where both are signed
                    self.b.assign(total, Op(self.dot.name, (*factor, total), self.dot.sum, self.lanes))

    def _codes(self, word: Expr) -> list[Expr]:
        """What of a word is multiplied, for each of its halves."""
        if self.halves == 1:
            return [word]
        low = self.b.let("codes", operation("bit_and", word, LOW_HALVES))
        if self.whole_bytes:
            return [low, word]
        return [low, self.b.let("codes", operation("bit_and", operation("shift_right", word, 4), LOW_HALVES))]

    def _sum(self, sums: list[Ref], v: int) -> Expr:
        """The sum of a block of the channels of vector `v`."""
        if self.whole_bytes and v % 2:
            return operation("shift_right", sub(sums[v], sums[v - 1]), 4)
        return sums[v]

    def _starts(self, zeros: Index, row: Index, block: Index, totals: list[list[Ref]]) -> list[list[Ref]]:
        """The sums of a block before its products: what the zero points, which begin at byte `zeros`, take out of them."""
        b, lanes = self.b, self.lanes
        corrections: list[Expr] = []
        if self.zero is not None or any(self.centres):
            corrections = [b.let("correction", repeat(self.values.correction(row + r, block), lanes)) for r in range(len(totals))]
        starts: list[list[Ref]] = [[] for _ in totals]
        for v in range(len(totals[0])):
            half = v % self.halves
            zero: Expr | None = None
            if self.zero is not None:
                zero = cast(b.load(self.zero, zeros + v * lanes, lanes), DType.I32)
                zero = b.let("zero", sub(zero, self.flips[half]) if self.flips[half] else zero)
            for r, own in enumerate(starts):
                start: Expr = number(0, DType.I32, lanes)
                if zero is not None:
                    start = mul(zero, corrections[r])
                elif self.centres[half]:
                    start = corrections[r]
                if self.whole_bytes and half:
                    start = add(own[-1], operation("shift_left", start, 4)) if zero is not None or self.centres[half] else own[-1]
                own.append(b.declare("sum", start))
        return starts


def _packed(op: MatMulNBits, flip: bool, stream: Stream, weights: Array, scale: Array, zero: Array | None = None) -> Array:
    return stream.pack(words_of_groups(op.bits, op.block, flip, stream, weights), scale, zero)
