"""Stores the weights of a product without their blocks of zeros.

    %y = matmul(%x, %w)   ->   %y = block_sparse_matmul(%x, %values, %terms, %starts) {channels=64}

Which of the two is computed is the kernel's choice (edgecc/kernels/block_sparse.py): the cost model of the target decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.graph import Graph, Node
from edgecc.ir.scalar import Arg, apply
from edgecc.ir.types import DType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.ops.sparse import BLOCK, BlockSparseMatMul, stored_blocks
from edgecc.passes.base import NodePass
from edgecc.passes.rewrite import replace


@dataclass(frozen=True)
class SkipZeroBlocks(NodePass):
    """Finds blocks of 16 neighbouring channels whose weights for one term are all zero, as block pruning leaves them.

    Options: least_zeros, the share of blocks that must be zero.

    Declines when:
    1. Fewer blocks than `least_zeros` are zero.
    2. Not every dimension is known, or the weights are a stack of matrices.
    3. The rows come in batches, whose memory other operators decide.
    """

    name: ClassVar[str] = "skip-zero-blocks"
    place: ClassVar[str] = "before fuse-elementwise"
    tolerance: ClassVar[float] = 1.0  # a bias is added to the rounded sum

    least_zeros: float = 0.3

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one product."""
        op = node.op
        if not isinstance(op, MatMul) or op.transpose_a or op.epilogue is not None or node.operand(0).type.dtype is not DType.F32:
            return False
        weights = node.operand(1).constant
        if weights is None or not weights.size or np.count_nonzero(weights) > (1 - self.least_zeros) * weights.size:
            return False
        if weights.ndim != 2 or not node.operand(0).type.is_static:
            return self.decline(node, "a dimension is open, or the weights are a stack of matrices")
        if any(size != 1 for size in node.operand(0).type.dims[:-2]):
            return self.decline(node, "the rows come in batches, which need not lie one after the other in memory")
        table = weights.T if op.transpose_b else weights
        values, terms, starts = stored_blocks(table)
        blocks = table.shape[0] * (starts.size - 1)
        if values.shape[0] > (1 - self.least_zeros) * blocks or not values.size:
            return self.decline(node, f"{values.shape[0]} of {blocks} blocks of {BLOCK} weights are not zero")
        product = BlockSparseMatMul(table.shape[1])
        operands = [node.operand(0), *(graph.constant(array, name) for array, name in ((values, "values"), (terms, "terms"), (starts, "starts")))]
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is None:
            replace(graph, node, product, *operands)
        else:
            sums = graph.add(product, *operands, before=node, loc=node.loc)
            replace(graph, node, Elementwise(apply("add", Arg(0, DType.F32), Arg(1, DType.F32))), sums, bias)
        return True
