"""Products with block-sparse weights: only the stored blocks are read and multiplied, where that is faster than all of them.

    for panel: for row: acc = 0; for block of the panel: acc += x[row, term of the block] * values of the block

Lanes are the channels of a block. The cost model compares this with the product of the dense weights; where that wins, as with few
zeros, zeros are put back in at compile time and its kernel is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.ir.types import Array, DType
from edgecc.kernels.cost import combine, weight_cycles
from edgecc.kernels.kernel import Candidate, FromInput, Kernel, KernelArgument, Packed
from edgecc.kernels.kernel_builder import KernelBuilder
from edgecc.kernels.quantized_rows import Rows
from edgecc.kernels.register_tile import vector_lanes
from edgecc.kernels.registry import candidates_for, lower
from edgecc.kernels.request import Operand, Request
from edgecc.kernels.view import View
from edgecc.loop.builder import cast, fma, number, repeat
from edgecc.loop.index import Index, const, from_expr
from edgecc.ops.matrix import MatMul
from edgecc.ops.sparse import BLOCK, BlockSparseMatMul, dense_weights

BROADCASTS = 2
"""Instructions of a row and a block beside the multiply-adds: loading an element of x and spreading it."""


@candidates_for(BlockSparseMatMul, rows=False)
def block_sparse_candidates(request: Request) -> tuple[Candidate, ...]:
    """The stored blocks only; all weights."""
    op = request.op
    if not isinstance(op, BlockSparseMatMul):
        raise TypeError(op)
    if not all(operand is not None and operand.is_constant for operand in request.inputs[1:]):
        raise EdgeccError("E112", "weights in blocks must be constants")
    sparse = Candidate("blocks", _cycles(request), lambda: _blocks(request, op))
    if request.operand(0).view.dtype is not DType.F32:
        return (sparse,)
    dense = lower(_dense_request(request))
    return (sparse, Candidate("dense", dense.cycles or math.inf, lambda: _from_blocks(request, dense, op)))


def _tile_rows(request: Request) -> int:
    """Rows whose sums are kept in registers at once."""
    vectors = BLOCK // min(BLOCK, vector_lanes(request.target))
    return max(1, min(8, (request.target.vector.registers - 4) // (2 * vectors)))


def _cycles(request: Request) -> float:
    """Modelled cycles of the stored blocks."""
    target, blocks = request.target, request.operand(1).view.dims[0]
    rows = Rows(request.operand(0).view, request.outputs[0]).count
    vectors = BLOCK / min(BLOCK, vector_lanes(target))
    tiles = -(-rows // _tile_rows(request))
    arithmetic = blocks * (rows * (vectors / target.core.fma_per_cycle + BROADCASTS / target.core.issue_width)
                           + tiles * (vectors / target.core.loads_per_cycle + 1.0))
    if rows == 1:
        arithmetic = max(arithmetic, blocks * target.core.fma_latency)
    return combine(arithmetic, weight_cycles(4.0 * blocks * (BLOCK + 1), target), target)


def _blocks(request: Request, op: BlockSparseMatMul) -> Kernel:
    x_view, y_view = request.operand(0).view, request.outputs[0]
    rows, lanes = Rows(x_view, y_view), min(BLOCK, vector_lanes(request.target))
    depth, blocks = x_view.dims[-1], request.operand(1).view.dims[0]
    b = KernelBuilder(request, f"block_sparse_{depth}_{op.channels}", f"product with {blocks} blocks of {BLOCK} weights, {depth} to {op.channels} channels")
    x, values, terms, starts, y = b.input(0, "x"), b.input(1, "values"), b.input(2, "terms"), b.input(3, "starts"), b.output(0, "y")
    panels, group, vectors = -(-op.channels // BLOCK), min(_tile_rows(request), max(1, rows.count)), BLOCK // lanes

    def tile(panel: Index, row: Index, count: int, channels: int) -> None:
        used = -(-channels // lanes)
        sums = [[b.declare("acc", number(0.0, DType.F32, lanes)) for _ in range(used)] for _ in range(count)]
        first, stop = (from_expr(b.let(name, b.load(starts, panel + after))) for name, after in (("first", 0), ("stop", 1)))
        with b.loop("block", stop, start=first) as block:
            term = from_expr(b.let("term", b.load(terms, block)))
            weights = [b.let("weights", b.load(values, block * BLOCK + v * lanes, lanes)) for v in range(used)]
            for r, line in enumerate(sums):
                factor = b.let("factor", repeat(cast(b.load(x, (row + r) * rows.x_stride + term * rows.x_step), DType.F32), lanes))
                for weight, total in zip(weights, line, strict=True):
                    b.assign(total, fma(factor, weight, total))
        for r, line in enumerate(sums):
            for v, total in enumerate(line):
                place = (row + r) * rows.y_stride + (panel * BLOCK + v * lanes) * rows.y_step
                b.store(y, place, cast(total, y.dtype), stride=rows.y_step, valid=min(lanes, channels - v * lanes) % lanes)

    def strip(panel: Index, channels: int) -> None:
        whole = rows.count // group
        with b.loop("row", whole) as row:
            tile(panel, row * group, group, channels)
        if rows.count > whole * group:
            tile(panel, const(whole * group), rows.count - whole * group, channels)

    kind = "parallel" if request.threads > 1 and op.channels // BLOCK > 1 else "serial"
    with b.loop("panel", op.channels // BLOCK, kind=kind) as panel:
        strip(panel, BLOCK)
    if op.channels % BLOCK:
        strip(const(panels - 1), op.channels % BLOCK)
    share = 100 * blocks / max(1, panels * depth)
    return b.kernel(choice=f"{share:.0f} % of the blocks of weights: tile {group} x {vectors} vectors of {lanes}")


# -- dense -------------------------------------------------------------------------------------


def _dense_request(request: Request) -> Request:
    """The request for the product with all weights."""
    op = request.op
    depth = request.operand(0).view.dims[-1]
    channels = request.outputs[0].dims[-1]
    weights = Operand(View(DType.F32, (depth, channels), (channels, 1)), is_constant=True)
    return replace(request, op=MatMul() if isinstance(op, BlockSparseMatMul) else op, inputs=(request.inputs[0], weights))


def _from_blocks(request: Request, dense: Kernel, op: BlockSparseMatMul) -> Kernel:
    """The dense kernel, with weights made of the stored blocks."""
    depth = request.operand(0).view.dims[-1]

    def from_blocks(argument: KernelArgument) -> KernelArgument:
        if isinstance(argument, Packed) and 1 in argument.inputs:
            return Packed((1, 2, 3), partial(_packed, argument.inputs, argument.pack, depth, op.channels))
        if isinstance(argument, FromInput) and argument.index == 1:
            return Packed((1, 2, 3), partial(_packed, (1,), np.ravel, depth, op.channels))
        return argument

    return replace(dense, arguments=tuple(map(from_blocks, dense.arguments)), choice=f"{dense.choice}, blocks of zeros put back in")


def _packed(inputs: tuple[int, ...], pack: Callable[..., Array], depth: int, channels: int, values: Array, terms: Array, starts: Array) -> Array:
    weights = dense_weights(values, terms, starts, depth, channels)
    return pack(*(weights if index == 1 else None for index in inputs))
