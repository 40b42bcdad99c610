"""Operators of the domain com.microsoft on weights of few bits with a scale for each block."""

from __future__ import annotations

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.graph import Value
from edgecc.ir.packing import unpack
from edgecc.ir.scalar import apply, convert, literal
from edgecc.ir.types import Array, DType
from edgecc.ops.block_quantized import MOST_QUANTIZED_BLOCK, MatMulNBits
from edgecc.ops.indexing import Gather

_DOMAIN = "com.microsoft"


def _rows_of_codes(packed: Array, rows: int, columns: int, bits: int) -> Array:
    """Codes [rows, columns] of rows of packed bytes, each of which fills its last byte.

    Raises: EdgeccError E110 where the bytes are not that many.
    """
    width = -(-columns * bits // 8)
    if packed.size != rows * width:
        raise EdgeccError("E110", f"{packed.size} bytes are given, {rows} rows of {columns} elements of {bits} bits take {rows * width}")
    dtype = DType.U4 if bits == 4 else DType.U8
    per_row = width * 8 // bits
    return unpack(np.ascontiguousarray(packed).reshape(-1).view(np.uint8), dtype, (rows, per_row))[:, :columns]


@converter("MatMulNBits", domain=_DOMAIN)
def _matmul_nbits(call: Call) -> Value:
    """x times weights [N, blocks, bytes of a block] of 4 or 8 bits. Only accuracy_level 4 lets x be quantized, and so it is where that can be."""
    x, channels, depth = call.input(0), call.integer("N"), call.integer("K")
    bits, block = call.integer("bits", 4), call.integer("block_size")
    if bits not in (4, 8):
        raise Unsupported(f"weights of {bits} bits", "use 4 or 8")
    if call.optional(4) is not None:
        raise Unsupported("its terms are in another order (g_idx)", "quantize without reordering")
    if min(channels, depth, block) < 1 or block % 2:
        raise EdgeccError("E110", f"N is {channels}, K is {depth}, block_size is {block}")
    blocks = -(-depth // block)
    codes = _rows_of_codes(call.known(1, "the weights"), channels, blocks * block, bits)[:, :depth]
    scale = call.known(2, "the scales")
    if scale.size != channels * blocks:
        raise EdgeccError("E110", f"{scale.size} scales are given, wanted {channels * blocks}")
    scale = scale if scale.dtype == np.float16 else scale.astype(np.float32)
    operands = [x, call.constant(codes), call.constant(scale.reshape(channels, blocks))]
    zero = call.known_optional(3, "the zero points")
    if zero is not None and zero.dtype == np.uint8:
        operands.append(call.constant(_rows_of_codes(zero, channels, blocks, bits)))
    elif zero is not None:
        operands.append(call.constant(zero.astype(np.float32).reshape(channels, blocks)))
    if x.type.rank < 2:
        operands[0] = call.reshape(x, (1, *x.type.shape))
    quantized = call.integer("accuracy_level", 0) == 4 and block <= MOST_QUANTIZED_BLOCK and (zero is None or zero.dtype == np.uint8)
    y = call.add(MatMulNBits(block, bits, quantized), *operands)
    y = y if x.type.rank >= 2 else call.reshape(y, (channels,))
    bias = call.optional(5)
    return y if bias is None else call.map(lambda a, b: apply("add", a, b), y, bias)


@converter("GatherBlockQuantized", domain=_DOMAIN)
def _gather_block_quantized(call: Call) -> Value:
    """(rows of codes - zero points) * scales: the rows are gathered as they are stored, then unpacked."""
    data, indices, scales = call.known(0, "the table"), call.input(1), call.known(2, "the scales")
    zeros, block, bits = call.known_optional(3, "the zero points"), call.integer("block_size", 128), call.integer("bits", 4)
    kind = DType.from_numpy(data.dtype)
    if kind not in (DType.U4, DType.I4, DType.U8) or data.ndim != 2 or bits not in (4, 8):
        raise Unsupported(f"a table of type {kind.value} and rank {data.ndim}", "use a matrix of 4-bit numbers")
    if call.integer("gather_axis", 0) != 0 or call.integer("quantize_axis", -1) not in (-1, 1):
        raise Unsupported("blocks do not lie along the rows that are gathered")
    per_element = 8 // bits if kind is DType.U8 else 1
    columns, rows = data.shape[1] * per_element, data.shape[0]
    if scales.shape != (rows, columns // max(1, block)) or columns % max(1, block):
        raise Unsupported(f"a table of {columns} columns in blocks of {block}, with scales {list(scales.shape)}")
    codes = (data.astype(np.int8).view(np.uint8) & np.uint8(15)) if kind is not DType.U8 else _rows_of_codes(data, rows, columns, bits).astype(np.uint8)
    width = bits if kind is DType.U8 else 4
    if width == 4:
        even = np.zeros((rows, columns + columns % 2), np.uint8)
        even[:, :columns] = codes
        codes = even[:, 0::2] | (even[:, 1::2] << np.uint8(4))
    taken = call.add(Gather(0), call.constant(codes), indices)
    shape = indices.type.shape
    if width == 4:
        apart = call.reshape(taken, (*shape, codes.shape[1], 1))
        shifts = call.constant(np.array([0, 4], np.int32))
        halves = call.map(lambda b, s: apply("bit_and", apply("shift_right", convert(b, DType.I32), s), literal(15, DType.I32)), apart, shifts)
        joined = call.reshape(halves, (*shape, 2 * codes.shape[1]))
        codes_of_rows = call.slice(joined, len(shape), 0, columns)
    else:
        codes_of_rows = call.cast(taken, DType.I32)
    signed = kind is DType.I4
    if signed:  # the sign bit is subtracted twice
        codes_of_rows = call.map(lambda c: apply("sub", apply("bit_xor", c, literal(8, DType.I32)), literal(8, DType.I32)), codes_of_rows)
    blocks = scales.shape[1]
    scale = call.reshape(call.add(Gather(0), call.constant(scales), indices), (*shape, blocks, 1))
    if zeros is None:
        zero = call.scalar(1 << (bits - 1) if kind is DType.U8 else 0, DType.I32)
    else:
        known = zeros.astype(np.int32) if kind is not DType.U8 else _rows_of_codes(zeros, rows, blocks, bits).astype(np.int32)
        zero = call.reshape(call.add(Gather(0), call.constant(known.astype(np.int16)), indices), (*shape, blocks, 1))
    in_blocks = call.reshape(codes_of_rows, (*shape, blocks, block))
    y = call.map(lambda c, z, s: convert(apply("mul", convert(apply("sub", c, convert(z, DType.I32)), DType.F32), convert(s, DType.F32)), s.dtype),
                 in_blocks, zero, scale)
    return call.reshape(y, (*shape, columns))
