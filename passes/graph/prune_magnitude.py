"""Sets the smallest weights of each layer to zero.

    %y = matmul(%x, %w)   ->   %y = matmul(%x, %w')   with a given share of the weights zero
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.graph import Graph, Node
from edgecc.ir.types import Array
from edgecc.ops.convolution import Conv
from edgecc.ops.matrix import MatMul
from edgecc.passes.base import NodePass


@dataclass(frozen=True)
class PruneMagnitude(NodePass):
    """Magnitude pruning (Han, Pool, Tran and Dally, "Learning both weights and connections for efficient neural networks", 2015).

    Changes what the network computes, so it runs only when asked for, and nothing retrains what is left: `edgecc prune` tells what
    it costs.

    Options: sparsity, the share of a layer's weights that become zero. block, neighbouring output channels whose weights for one term
    stay or go together, by their sum of squares: whole blocks of zeros are skipped by kernels (skip-zero-blocks). least, layers with
    fewer weights are left alone.

    Declines when:
    1. The weights are no constant floats, or are shared with another layer.
    2. There are too few.
    """

    name: ClassVar[str] = "prune-magnitude"
    tolerance: ClassVar[float] = float("inf")  # nothing bounds what weights did that are gone

    sparsity: float = 0.5
    block: int = 16
    least: int = 1024

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Prunes one layer."""
        if not isinstance(node.op, Conv | MatMul):
            return False
        weights = node.operand(1)
        if weights.constant is None or not weights.type.dtype.is_float or len(weights.users) != 1 or graph.is_output(weights):
            return self.decline(node, "the weights are no constant floats, or are shared")
        if weights.type.elements < self.least:
            return self.decline(node, f"{weights.type.elements} weights are fewer than {self.least}")
        axis = 0 if isinstance(node.op, Conv) or node.op.transpose_b else weights.type.rank - 1
        if isinstance(node.op, MatMul) and node.op.transpose_b:
            axis = weights.type.rank - 2
        pruned = prune(weights.constant, axis, self.sparsity, self.block)
        if np.array_equal(pruned, weights.constant):
            return False
        graph.set_operand(node, 1, graph.constant(pruned, weights.name))
        return True


def prune(weights: Array, axis: int, sparsity: float, block: int) -> Array:
    """The weights with the blocks of least sum of squares set to zero, so that `sparsity` of all blocks are zero.

    A block is `block` neighbours along `axis`, the last of which may be fewer; of equal ones the first go first.
    """
    rows = np.moveaxis(weights, axis, -1)
    channels = rows.shape[-1]
    flat = rows.reshape(-1, channels).astype(np.float64)
    panels = -(-channels // block)
    padded = np.zeros((flat.shape[0], panels * block))
    padded[:, :channels] = flat
    powers = (padded.reshape(flat.shape[0], panels, block) ** 2).sum(axis=2)
    count = round(min(max(sparsity, 0.0), 1.0) * powers.size)
    gone = np.zeros(powers.size, np.bool_)
    gone[np.argsort(powers, axis=None, kind="stable")[:count]] = True
    kept = np.repeat(~gone.reshape(powers.shape), block, axis=1)[:, :channels]
    return np.ascontiguousarray(np.moveaxis((flat * kept).astype(weights.dtype).reshape(rows.shape), -1, axis))
