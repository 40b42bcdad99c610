"""Matrix products with weights most of which are zero, stored by blocks of neighbouring channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.op import Op, present, register, required
from edgecc.ir.types import Array, DType, TensorType
from edgecc.ops import rules

BLOCK = 16
"""Channels of a block; a multiple of the lanes of every vector of 32-bit numbers."""


@register
@dataclass(frozen=True)
class BlockSparseMatMul(Op):
    """y[...,m,n] = sum over the stored blocks b of panel n // 16 of x[...,m,terms[b]] * values[b,n % 16].

    Shapes: x [...,M,K], values f32 [B,16], terms i32 [B] in 0..K-1, starts i32 [ceil(channels/16)+1] -> y [...,M,channels].
        The blocks of panel p are those from starts[p] to starts[p+1] - 1; starts begins with 0, ends with B and does not fall.
    Attributes: channels.
    Raises: E110 where types or shapes do not fit.
    Source: the block compressed rows of Im and Yelick, "Optimizing sparse matrix computations for register reuse in SPARSITY",
        2001, with blocks of one term. Sums in float64, rounds once.
    """

    name: ClassVar[str] = "block_sparse_matmul"
    inputs: ClassVar[tuple[str, ...]] = ("x", "values", "terms", "starts")

    channels: int

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The product's shape."""
        x, values, terms, starts = required(inputs)
        rules.check_float(self, "x", x, inputs)
        rules.check_dtype(self, "values", values, DType.F32, inputs)
        for what, given in (("terms", terms), ("starts", starts)):
            rules.check_dtype(self, what, given, DType.I32, inputs)
        if x.rank < 2 or self.channels < 1:
            raise self.fail(f"x has rank {x.rank} and channels is {self.channels}", inputs)
        blocks = values.dims[0] if values.rank == 2 else 0
        rules.check_dims(self, "values", values, (blocks, BLOCK), inputs)
        rules.check_dims(self, "terms", terms, (blocks,), inputs)
        rules.check_dims(self, "starts", starts, (-(-self.channels // BLOCK) + 1,), inputs)
        return (rules.result_type(self, x.dtype, (*x.shape[:-1], self.channels), inputs),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """The dense weights, then numpy.matmul in float64."""
        x, values, terms, starts = present(inputs)
        weights = dense_weights(values, terms, starts, x.shape[-1], self.channels)
        return (np.asarray(np.matmul(rules.wide(x), rules.wide(weights))).astype(x.dtype),)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Sums of the magnitudes of the products."""
        x, values, terms, starts = present(inputs)
        weights = dense_weights(values, terms, starts, x.shape[-1], self.channels)
        return (np.asarray(np.matmul(np.abs(rules.wide(x)), np.abs(rules.wide(weights)))),)


def stored_blocks(weights: Array) -> tuple[Array, Array, Array]:
    """(values, terms, starts) of weights [K, N]: the blocks that are not all zero."""
    depth, channels = weights.shape
    panels = -(-channels // BLOCK)
    padded = np.zeros((depth, panels * BLOCK), np.float32)
    padded[:, :channels] = weights
    blocks = padded.reshape(depth, panels, BLOCK).transpose(1, 0, 2)
    used = blocks.any(axis=2)
    starts = np.concatenate([[0], np.cumsum(used.sum(axis=1))]).astype(np.int32)
    return np.ascontiguousarray(blocks[used]), np.nonzero(used)[1].astype(np.int32), starts


def dense_weights(values: Array, terms: Array, starts: Array, depth: int, channels: int) -> Array:
    """The weights [K, N] that stored blocks stand for."""
    panels = starts.size - 1
    weights = np.zeros((panels, depth, BLOCK), values.dtype)
    weights[np.repeat(np.arange(panels), np.diff(starts)), terms] = values
    return np.ascontiguousarray(weights.transpose(1, 0, 2).reshape(depth, -1)[:, :channels])
