"""Turns products with dequantized constants into products that read the few bits there are.

    %w = constant i4[64,32]; %f = elementwise(%w, %s) {expr=`mul(f32($0:i4), $1:f32)`}; %y = matmul(%x, %f)
        ->  %y = matmul_nbits(%x, %w', %s') {block=16, bits=4}

This is how ONNX says weight-only quantization: DequantizeLinear with block_size in front of MatMul. Codes are stored without a
sign, [channels, terms]; the others' zero points move by half the range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Arg, Literal, apply
from edgecc.ir.types import Array, DType
from edgecc.ops.block_quantized import MatMulNBits
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Transpose
from edgecc.ops.requantize import as_dequantized
from edgecc.passes.base import NodePass
from edgecc.passes.rewrite import is_constant, replace

BITS = {DType.I4: 4, DType.U4: 4, DType.I8: 8, DType.U8: 8}
"""Bits of the types that weights are stored in."""


@dataclass(frozen=True)
class Stored:
    """Weights as they are stored, transposed to [channels, terms]: codes without a sign, scales and zero points of each code."""

    codes: Array
    scales: Array
    zeros: Array
    bits: int


@dataclass(frozen=True)
class RecognizeBlockWeights(NodePass):
    """Multiplies by weights of 4 and 8 bits where they lie, instead of by floats that take 4 or 8 times their memory.

    Options: most_rows, products of more rows keep 8-bit weights as floats if a channel has one scale: so many rows share
    what they cost to read. Runs behind integer-contraction, which takes those whose other operand is quantized too.

    Declines when:
    1. The operand that is multiplied is no f32, or the weights are a stack of matrices.
    2. Scales or zero points change after an odd number of terms.
    3. 8-bit weights have no blocks and meet more than `most_rows` rows.
    4. A scale is infinite: the sum of a block times it is no sum of products with it, which may be of both signs.
    """

    name: ClassVar[str] = "recognize-block-weights"
    place: ClassVar[str] = "before fold-dequantized"
    tolerance: ClassVar[float] = 2.0  # a weight is no longer rounded to a float for itself

    most_rows: int = 8

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one product."""
        op = node.op
        if not isinstance(op, MatMul) or op.transpose_a or op.epilogue is not None:
            return False
        producer, turned = _dequantization(node.operand(1))
        if producer is None or not isinstance(producer.op, Elementwise):
            return False
        x = node.operand(0)
        if x.type.dtype is not DType.F32 or x.type.rank < 2 or producer.output.type.rank != 2:
            return self.decline(node, "the weights are a stack of matrices, or the other operand is no f32 matrix")
        stored = _stored(producer, transposed=op.transpose_b == turned)
        if stored is None:
            return False
        if not np.isfinite(stored.scales).all():
            return self.decline(node, "a scale is infinite or no number")
        block = _block(stored)
        if block % 2:
            return self.decline(node, f"scales or zero points change after {block} terms")
        depth = stored.codes.shape[1]
        rows = x.type.capacity // max(1, depth)
        if stored.bits == 8 and block >= depth and rows > self.most_rows:
            return self.decline(node, f"{rows} rows share 8-bit weights that have one scale for a channel")
        operands = [x, graph.constant(stored.codes.astype(np.uint8), producer.operand(0).name), graph.constant(stored.scales[:, ::block].copy(), "scale")]
        zeros = stored.zeros[:, ::block]
        if (zeros != 1 << (stored.bits - 1)).any():
            operands.append(graph.constant(zeros.astype(np.uint8), "zero"))
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is None:
            replace(graph, node, MatMulNBits(block, stored.bits), *operands, absorbed=[producer])
        else:
            product = graph.add(MatMulNBits(block, stored.bits), *operands, before=node, loc=(*producer.loc, *node.loc))
            replace(graph, node, Elementwise(apply("add", Arg(0, DType.F32), Arg(1, DType.F32))), product, bias)
        return True


def _dequantization(value: Value) -> tuple[Node | None, bool]:
    """The node that may dequantize `value`, and whether a transpose lies between."""
    node = value.producer
    if node is not None and isinstance(node.op, Transpose) and value.type.rank == 2 and node.op.perm == (1, 0):
        return node.operand(0).producer, True
    return node, False


def _stored(node: Node, *, transposed: bool) -> Stored | None:
    """The weights a node dequantizes from constants, or None where it does something else. `transposed`: they lie [terms, channels]."""
    if not isinstance(node.op, Elementwise) or not all(is_constant(v) for v in node.inputs):
        return None
    form = as_dequantized(node.op.expr)
    if form is None or form.q.dtype not in BITS:
        return None

    def array(part: Arg | Literal | None) -> Array:
        value = node.operand(part.index).constant if isinstance(part, Arg) else np.asarray(0 if part is None else part.value)
        spread = np.broadcast_to(np.asarray(value), node.output.type.dims)
        return np.asarray(spread.T if transposed else spread)

    moved = 1 << (BITS[form.q.dtype] - 1) if form.q.dtype.is_signed else 0
    zeros = array(form.zero).astype(np.int64) + moved
    bits = BITS[form.q.dtype]
    if zeros.min(initial=0) < 0 or zeros.max(initial=0) >= 1 << bits:
        return None
    return Stored(array(form.q).astype(np.int64) + moved, array(form.scale).astype(np.float32), zeros, bits)


def _block(stored: Stored) -> int:
    """The most neighbouring terms of which every run has one scale and one zero point; where that is all of them, an even number."""
    depth = stored.codes.shape[1]
    changes = np.zeros(depth + 1, np.bool_)
    changes[0] = True
    for table in (stored.scales, stored.zeros):
        changes[1:depth] |= (table[:, 1:] != table[:, :-1]).any(axis=0)
    starts = np.flatnonzero(changes[:depth])
    return int(np.gcd.reduce(starts)) if starts.size > 1 else max(2, depth + depth % 2)
