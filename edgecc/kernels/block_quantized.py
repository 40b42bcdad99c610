"""Products with weights of 4 or 8 bits and a scale for each block of terms, computed in float.

    for panel: for row: for block: part = sum over the block of x * (w - zero); acc += part * scale

Lanes are channels. A word of 32 bits holds several terms of a channel (edgecc/kernels/block_packing.py), and a code becomes a
float without a conversion: its bits are put into the mantissa of a power of two so large that the lowest of them counts 1,
and that power is subtracted, which is exact. With many rows weights are scaled when they are unpacked, and what unpacking
costs is shared by all rows of a tile.

In both forms the order of the sum depends on the shape only, so that every target computes the same bits.
"""

from __future__ import annotations

from functools import partial

from edgecc.errors import EdgeccError
from edgecc.ir.types import Array, DType
from edgecc.kernels.ahead import stream_ahead, stream_far
from edgecc.kernels.block_integer import lower_integer
from edgecc.kernels.block_packing import PanelWidths, in_panels, panel_widths, scale_table, words_of_terms
from edgecc.kernels.cost import combine, weight_cycles, worthwhile_threads
from edgecc.kernels.kernel import Kernel
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.quantized_rows import QuantizedRows, Rows
from edgecc.kernels.register_tile import vector_lanes
from edgecc.kernels.registry import kernel_for
from edgecc.kernels.request import Request
from edgecc.loop.builder import add, cast, fma, mul, number, operation, repeat, sub
from edgecc.loop.index import Index, const
from edgecc.loop.ir import Bitcast, Buffer, Expr, Lane, Ref
from edgecc.loop.split import balanced_parts
from edgecc.ops.block_quantized import MatMulNBits
from edgecc.targets.schema import Target

MANTISSA, EXPONENT_BIAS = 23, 127
TOGETHER = {4: 3, 8: 2}
"""Codes of a word that are read where they lie; the others are shifted there. A mantissa holds more of 4 bits, but each place needs
constants of its own, which take registers."""

CHAINS = 2
"""Sums of a block that are added at its end: they hide some of the latency of the multiply-adds."""

OPEN_ROWS = 4
"""Rows of a tile where the run decides how many there are: so few that three are left over at most."""

SCALED_LATE = 4
"""Up to so many rows each block is summed before it is scaled; with more, weights are scaled as they are unpacked."""


@kernel_for(MatMulNBits, is_open=True)
def lower_matmul_nbits(request: Request) -> Kernel:
    """In integers where the operator asks for it and the target multiplies groups of bytes; else in float."""
    op = request.op
    if not isinstance(op, MatMulNBits):
        raise TypeError(op)
    if not all(operand is None or operand.is_constant for operand in request.inputs[1:]):
        raise EdgeccError("E112", "weights in blocks must be constants")
    if not request.operand(0).view.start.is_const:
        raise EdgeccError("E112", "matmul_nbits has no kernel for an operand whose place the run decides")
    if op.quantized:
        kernel = lower_integer(request, op)
        if kernel is not None:
            return kernel
    return _Floats(request, op).kernel()


def tile_of(target: Target, rows: int, late: bool) -> tuple[int, int]:
    """(most rows, vectors of channels) of a register tile."""
    many = target.vector.registers >= 32
    if late:
        most = min(rows, 4 if many else 2)
        return most, max(1, (4 if many else 2) // most)
    if not many:
        return 4, 2
    return (8 if target.vector.fma_by_lane else 12), 2


class _Floats:
    def __init__(self, request: Request, op: MatMulNBits) -> None:
        self.request, self.op = request, op
        x, y = request.operand(0).view, request.outputs[0]
        self.channels, self.depth = request.operand(1).view.dims
        self.rows = Rows(x, y)
        self.late = op.quantized or self.rows.count <= SCALED_LATE
        self.lanes = vector_lanes(request.target)
        if self.rows.is_open:  # rows that no tile takes come one by one, with sums of their own for each block
            self.group, vectors = (1 if self.late else OPEN_ROWS), 2
        else:
            most, vectors = tile_of(request.target, self.rows.count, self.late)
            self.group = max((size for size, _ in balanced_parts(self.rows.count, most)), default=0)
        self.widths = panel_widths(self.channels, vectors, self.lanes)
        self.per_word = 32 // op.bits
        self.blocks = -(-self.depth // op.block)
        self.block_words = -(-op.block // self.per_word)
        self.whole = self.depth // op.block
        self.words = self.whole * self.block_words + -(-(self.depth - self.whole * op.block) // self.per_word)
        self.b = KernelBuilder(request, f"matmul_{op.bits}bit_{self.depth}_{self.channels}",
                               f"product with {op.bits}-bit weights, {self.depth} to {self.channels} channels, blocks of {op.block}")
        scale, zero = request.operand(2).view.dtype, request.optional(3)
        self.x = self.b.input(0, "x")
        self.w = self.b.packed("w", DType.U32, self.widths.padded * self.words, (1,), partial(_packed_terms, op.bits, op.block, self.widths))
        self.scale = self._table("scale", scale, 2)
        self.zero = None if zero is None else self._table("zero", DType.F32 if zero.view.dtype is DType.F32 else DType.U8, 3)
        self.y = self.b.output(0, "y")
        self.steps = QuantizedRows(self.b, self.x, self.rows, self.depth, op.block, self.lanes, grouped=False) if op.quantized else None

    def _table(self, name: str, dtype: DType, operand: int) -> Buffer:
        return self.b.packed(name, dtype, self.widths.padded * self.blocks, (operand,), partial(scale_table, dtype, self.widths))

    def kernel(self) -> Kernel:
        op, target, widths = self.op, self.request.target, self.widths
        weights_bytes = self.channels * self.depth * op.bits / 8
        arithmetic = self.rows.count * self.channels * self.depth / max(1, self.lanes) / target.core.fma_per_cycle * (2 if self.late else 1.2)
        cycles = combine(arithmetic, weight_cycles(weights_bytes, target), target)
        threads = worthwhile_threads(cycles, self.request.threads)
        if self.steps is not None:
            self.steps.emit()
        with self.b.loop("panel", widths.whole, kind="parallel" if threads > 1 and widths.whole > 1 else "serial") as panel:
            self._panel(panel, widths.vectors, 0)
        if widths.rest:
            self._panel(const(widths.whole), widths.rest, widths.last % self.lanes)
        return self.b.kernel(choice=f"{op.bits}-bit weights: tile {self.group} x {widths.vectors} vectors of {self.lanes}"
                                    f"{', blocks scaled when summed' if self.late else ''}")

    def _panel(self, panel: Index, vectors: int, valid: int) -> None:
        self.rows.tiles(self.b, self.group, partial(self._tile, panel, vectors, valid))

    def _tile(self, panel: Index, vectors: int, valid: int, row: Index, count: int) -> None:
        b = self.b
        sums = [[b.declare("acc", number(0.0, DType.F32, self.lanes)) for _ in range(vectors)] for _ in range(count)]
        with b.loop("block", self.whole) as block:
            self._block(panel, vectors, row, block, self.op.block, sums)
        if self.whole < self.blocks:
            self._block(panel, vectors, row, const(self.whole), self.depth - self.whole * self.op.block, sums)
        self.rows.store(b, self.y, row, panel * (self.widths.vectors * self.lanes), sums, valid)

    def _block(self, panel: Index, vectors: int, row: Index, block: Index, terms: int, sums: list[list[Ref]]) -> None:
        """Adds the terms of one block to the sums."""
        b, lanes = self.b, self.lanes
        table = panel * (self.widths.vectors * lanes * self.blocks) + block * (vectors * lanes)
        scales = [b.let("scale", cast(b.load(self.scale, table + v * lanes, lanes), DType.F32)) for v in range(vectors)]
        late = self.late or (self.rows.is_open and len(sums) == 1)
        centres: list[Expr] = [self._zero(table + v * lanes) for v in range(vectors)]
        parts = [[[b.declare("part", number(0.0, DType.F32, lanes)) for _ in range(CHAINS)] for _ in line] for line in sums] if late else []
        first_word = panel * (self.widths.vectors * lanes * self.words) + block * (self.block_words * vectors * lanes)
        alone, size, target = (len(sums) == 1 if self.rows.is_open else self.rows.count == self.group), 4.0 * self.w.elements, self.request.target
        if alone:
            far = panel * (self.widths.vectors * lanes * self.words)
            for ahead in stream_far(self.w.name, far, block, self.block_words * vectors * lanes, 4, size, target):
                b.append(ahead)

        def word(index: Index, codes: int) -> None:
            if alone:
                for ahead in stream_ahead(self.w.name, first_word + index * (vectors * lanes), vectors * lanes, 4, size, target):
                    b.append(ahead)
            packed = [self._shifted(first_word + index * (vectors * lanes) + v * lanes, codes) for v in range(vectors)]
            factors = self._factors(row, block * self.op.block + index * self.per_word, codes, len(sums))
            for code in range(codes):
                for v in range(vectors):
                    weight: Expr = self._weight(packed[v], code, centres[v])
                    if not late:
                        weight = mul(weight, scales[v])
                    weight = b.let("weight", weight)
                    for r, line in enumerate(sums):
                        total = parts[r][v][code % CHAINS] if late else line[v]
                        b.assign(total, fma(repeat(factors[r][code], lanes), weight, total))

        whole, left = divmod(terms, self.per_word)
        with b.loop("word", whole) as index:
            word(index, self.per_word)
        if left:
            word(const(whole), left)
        if not late:
            return
        for r, line in enumerate(sums):
            for v, total in enumerate(line):
                scale: Expr = scales[v]
                if self.steps is not None:
                    scale = mul(scale, repeat(self.steps.scale(row + r, block), lanes))
                b.assign(total, fma(add(*parts[r][v]), scale, total))

    def _factors(self, row: Index, first: Index, codes: int, rows: int) -> list[list[Expr]]:
        """Elements of x for each row and code: scalars, or lanes of vectors where the target multiplies by lane."""
        b, found = self.b, []
        buffer, stride, step = (self.x, self.rows.x_stride, self.rows.x_step) if self.steps is None else (self.steps.values, self.depth, 1)
        width = 4 if self.request.target.vector.fma_by_lane and step == 1 and self.lanes == 4 else 1
        for r in range(rows):
            line: list[Expr] = []
            place = (row + r) * stride + first * step
            for start in range(0, codes, width):
                count = min(width, codes - start)
                if width == 1:
                    line.append(b.let("x", cast(b.load(buffer, place + start * step), DType.F32)))
                    continue
                vector = b.let("x", cast(b.load(buffer, place + start, width, valid=count), DType.F32))
                line.extend(Lane(vector, lane) for lane in range(count))
            found.append(line)
        return found

    def _shifted(self, place: Index, codes: int) -> list[Ref]:
        """A vector of words, and the same shifted so that further codes come to lie within a mantissa."""
        b, together = self.b, TOGETHER[self.op.bits]
        word = b.let("word", b.load(self.w, place, self.lanes))
        return [word, *(b.let("word", operation("shift_right", word, self.op.bits * first)) for first in range(together, codes, together))]

    def _weight(self, packed: list[Ref], code: int, centre: Expr) -> Expr:
        """One code of a word, less what stands for zero, as floats. `packed`: the word, shifted by whole mantissas of codes."""
        bits = self.op.bits
        shift, place = divmod(code, TOGETHER[bits])
        power = MANTISSA - bits * place
        code_bits = operation("bit_and", packed[shift], ((1 << bits) - 1) << (bits * place))
        moved = Bitcast(operation("bit_or", code_bits, (EXPONENT_BIAS + power) << MANTISSA), DType.F32)
        if self.zero is None:
            return sub(moved, float((1 << power) + (1 << (bits - 1))))
        return sub(sub(moved, float(1 << power)), centre)

    def _zero(self, place: Index) -> Expr:
        if self.zero is None:
            return number(0.0, DType.F32, self.lanes)
        loaded = self.b.load(self.zero, place, self.lanes)
        return self.b.let("zero", loaded if loaded.dtype is DType.F32 else cast(cast(loaded, DType.I32), DType.F32))


def _packed_terms(bits: int, block: int, widths: PanelWidths, weights: Array) -> Array:
    return in_panels(widths, words_of_terms(bits, block, weights))
