"""Products with weights of 4 or 8 bits and a scale for each block of terms.

    for panel: for row: for channel: for block: part = sum over the block of x * (w - zero); acc += part * scale

Lanes are channels. Constant weights are packed [panel][terms][channels of the panel]; of 4-bit weights a byte holds two
neighbouring terms of one channel. So weights are read in one stream, in the size they have.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.types import Array, DType
from edgecc.kernels.base import Kernel, Operand, Request, kernel_for
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.register_tile import vector_lanes
from edgecc.loop.builder import cast, fma, number, operation, sub
from edgecc.loop.index import Index, const
from edgecc.loop.ir import Buffer, Expr, Ref
from edgecc.ops.block_quantized import MatMulNBits

MOST_ROWS = 4
"""Rows that share the weights they read."""


@kernel_for(MatMulNBits)
def lower_matmul_nbits(request: Request) -> Kernel:
    """Rows in groups that unpack weights together; a vector of channels for each."""
    op = request.op
    if not isinstance(op, MatMulNBits):
        raise TypeError(op)
    return _Builder(request, op).kernel()


class _Builder:
    def __init__(self, request: Request, op: MatMulNBits) -> None:
        self.request, self.op = request, op
        w = request.operand(1)
        if not all(operand is None or operand.is_constant for operand in request.inputs[1:]):
            raise EdgeccError("E112", "weights in blocks must be constants")
        self.bits = op.bits
        self.channels, self.depth = w.view.dims
        self.blocks = -(-self.depth // op.block)
        self.lanes = vector_lanes(request.target)
        self.panels = -(-self.channels // self.lanes)
        self.steps = -(-self.depth // 2) if self.bits == 4 else self.depth
        self.b = KernelBuilder(request, f"matmul_{self.bits}bit_{self.depth}_{self.channels}",
                               f"product with {self.bits}-bit weights, {self.depth} to {self.channels} channels, blocks of {op.block}")
        zero = request.optional(3)
        self.x = self.b.input(0, "x")
        self.w = self._packed("w", DType.U8, self.steps, (1,), partial(_byte_terms, self.bits))
        self.scale = self._packed("scale", DType.F32, self.blocks, (2,), np.transpose)
        self.zero = None if zero is None else self._packed("zero", self._zero_type(zero), self.blocks, (3,), _transposed_bytes)
        self.y = self.b.output(0, "y")

    @staticmethod
    def _zero_type(zero: Operand) -> DType:
        return DType.F32 if zero.view.dtype is DType.F32 else DType.U8

    def _packed(self, name: str, dtype: DType, terms: int, inputs: tuple[int, ...], arrange: Callable[[Array], Array]) -> Buffer:
        return self.b.packed(name, dtype, self.panels * terms * self.lanes, inputs, partial(_in_panels, arrange, self.lanes, dtype))

    def kernel(self) -> Kernel:
        b, x_view, y_view = self.b, self.request.operand(0).view, self.request.outputs[0]
        rows = y_view.dims[-2]
        batch = y_view.dims[:-2]
        if any(d != 1 for d in batch) and not (x_view.is_row_major and y_view.is_row_major):
            raise EdgeccError("E112", "batches of rows lie one after the other")
        row_strides = (x_view.strides[-2], y_view.strides[-2])
        if any(d != 1 for d in batch):
            rows, row_strides = y_view.elements // self.channels, (self.depth, self.channels)
        group = min(MOST_ROWS, rows)
        whole = rows // group
        kind = "parallel" if self.request.threads > 1 and self.panels > 1 else "serial"
        with b.loop("panel", self.panels - 1, kind=kind) as panel:
            self._rows(panel, whole, group, rows, row_strides, 0)
        last = self.channels - (self.panels - 1) * self.lanes
        self._rows(const(self.panels - 1), whole, group, rows, row_strides, last % self.lanes)
        return b.kernel(choice=f"{self.bits}-bit weights: tile {group} x 1 vectors of {self.lanes}")

    def _rows(self, panel: Index, whole: int, group: int, rows: int, strides: tuple[int, int], valid: int) -> None:
        with self.b.loop("row", whole) as row:
            self._tile(panel, row * group, group, strides, valid)
        if rows > whole * group:
            self._tile(panel, const(whole * group), rows - whole * group, strides, valid)

    def _tile(self, panel: Index, row: Index, count: int, strides: tuple[int, int], valid: int) -> None:
        b, y = self.b, self.request.outputs[0]
        sums = [b.declare("acc", number(0.0, DType.F32, self.lanes)) for _ in range(count)]
        whole = self.depth // self.op.block
        with b.loop("block", whole) as block:
            self._block(panel, block, self.op.block, row, strides[0], sums)
        if whole < self.blocks:
            self._block(panel, const(whole), self.depth - whole * self.op.block, row, strides[0], sums)
        for i, total in enumerate(sums):
            place = (row + i) * strides[1] + panel * (self.lanes * y.strides[-1])
            b.store(self.y, place, cast(total, y.dtype), stride=y.strides[-1], valid=valid)

    def _block(self, panel: Index, block: Index, terms: int, row: Index, stride: int, sums: list[Ref]) -> None:
        """Adds the terms of one block to the sums of some rows."""
        b, lanes = self.b, self.lanes
        parts = [b.declare("part", number(0.0, DType.F32, lanes)) for _ in sums]
        place = (panel * self.blocks + block) * lanes
        zero = self._zero(place)
        per_byte = 8 // self.bits
        first = block * self.op.block

        def step(offset: Index, count: int) -> None:
            byte = b.let("byte", cast(b.load(self.w, (panel * self.steps + (first + offset).floordiv(per_byte)) * lanes, lanes), DType.I32))
            for j in range(count):
                code: Expr = byte
                if self.bits == 4:
                    code = operation("shift_right", byte, 4) if j else operation("bit_and", byte, 15)
                weight = b.let("weight", self._centred(code, zero))
                for i, part in enumerate(parts):
                    x = b.load(self.x, (row + i) * stride + (first + offset + j) * self.request.operand(0).view.strides[-1])
                    b.assign(part, fma(cast(x, DType.F32), weight, part))

        with b.loop("k", terms - terms % per_byte, step=per_byte) as k:
            step(k, per_byte)
        if terms % per_byte:
            step(const(terms - 1), 1)
        scale = b.let("scale", b.load(self.scale, place, lanes))
        for part, total in zip(parts, sums, strict=True):
            b.assign(total, fma(part, scale, total))

    def _zero(self, place: Index) -> Expr:
        if self.zero is None:
            return number(1 << (self.bits - 1), DType.I32, self.lanes)
        loaded = self.b.load(self.zero, place, self.lanes)
        return self.b.let("offset", loaded if loaded.dtype is DType.F32 else cast(loaded, DType.I32))

    @staticmethod
    def _centred(code: Expr, zero: Expr) -> Expr:
        if zero.dtype is DType.F32:
            return sub(cast(code, DType.F32), zero)
        return cast(sub(code, zero), DType.F32)


def _byte_terms(bits: int, weights: Array) -> Array:
    """Weights [channels, terms] as bytes [terms or pairs of them, channels]; the first term of a pair in the low bits."""
    codes = weights.astype(np.uint8).T
    if bits == 8:
        return codes
    even = np.zeros((-(-codes.shape[0] // 2) * 2, codes.shape[1]), np.uint8)
    even[:codes.shape[0]] = codes
    return np.asarray(even[0::2] | (even[1::2] << 4))


def _transposed_bytes(zero: Array) -> Array:
    return np.asarray(zero.T if zero.dtype == np.float32 else zero.astype(np.uint8).T)


def _in_panels(arrange: Callable[[Array], Array], lanes: int, dtype: DType, array: Array) -> Array:
    """[terms, channels] as [panel][term][lane], zeros beyond the channels."""
    table = np.asarray(arrange(array))
    panels = -(-table.shape[1] // lanes)
    padded = np.zeros((table.shape[0], panels * lanes), dtype.numpy)
    padded[:, :table.shape[1]] = table
    return np.ascontiguousarray(padded.reshape(table.shape[0], panels, lanes).transpose(1, 0, 2)).reshape(-1)
