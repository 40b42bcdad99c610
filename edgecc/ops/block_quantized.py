"""Matrix products with weights of few bits that have a scale for each block of terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.op import Op, present, register, required
from edgecc.ir.types import Array, DType, TensorType
from edgecc.ops import rules

MOST_QUANTIZED_BLOCK = 256
"""Longer blocks of integers have sums that f32 does not hold, which some targets compute in."""


def quantized_blocks(x: Array, block: int) -> tuple[Array, Array]:
    """Each run of `block` elements of the last axis as integers -127..127 and their scale, as f32 arithmetic gives them.

    The scale is the largest magnitude over 127, or 1 where that is no normal number; the integers are the nearest, ties to even.

    Returns: the integers as f32, of x's shape, and the scales [..., blocks].
    """
    narrow = np.asarray(x, np.float32)
    terms = narrow.shape[-1]
    blocks = -(-terms // block)
    padded = np.zeros((*narrow.shape[:-1], blocks * block), np.float32)
    padded[..., :terms] = narrow
    grouped = padded.reshape(*narrow.shape[:-1], blocks, block)
    scale = np.asarray(np.abs(grouped).max(axis=-1) / np.float32(127), np.float32)
    scale = np.where(scale >= np.finfo(np.float32).tiny, scale, np.float32(1))
    steps = np.clip(np.rint(grouped / scale[..., np.newaxis]), -127, 127)
    return np.asarray(steps.reshape(padded.shape)[..., :terms], np.float32), np.asarray(scale, np.float32)


@register
@dataclass(frozen=True)
class MatMulNBits(Op):
    """y[...,m,n] = sum over k of x[...,m,k] * (w[n,k] - zero[n,k // block]) * scale[n,k // block].

    Shapes: x [...,M,K], w [N,K], scale [N,ceil(K/block)], zero of scale's shape or absent -> y [...,M,N].
    Attributes: block, the number of neighbouring terms that share a scale, at least 2 and even. bits, of a weight: 4 or
        8; without zero points half of that range (8, 128) stands for zero. quantized: whether x takes part as integers of 8
        bits with a scale for each block of terms (`quantized_blocks`), so that products of a block are sums of integers.
    Raises: E110 where x is no float, w is neither u8 nor, of 4 bits, u4, scale neither f32 nor f16, zero has neither w's type nor
        f32 (w's type only if quantized), a quantized block is longer than `MOST_QUANTIZED_BLOCK`, or shapes do not fit.
    Source: MatMulNBits of the domain com.microsoft (onnxruntime), whose accuracy_level 4 allows `quantized`. Sums in float64, rounds once.
    """

    name: ClassVar[str] = "matmul_nbits"
    inputs: ClassVar[tuple[str, ...]] = ("x", "w", "scale", "zero?")

    block: int
    bits: int = 4
    quantized: bool = False

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The product's shape."""
        x, w, scale = required(inputs[:3])
        rules.check_float(self, "x", x, inputs)
        if self.bits not in (4, 8) or w.dtype not in (DType.U8, *((DType.U4,) if self.bits == 4 else ())) or w.rank != 2:
            raise self.fail(f"w is {w} and bits {self.bits}, wanted u4[N,K] or u8[N,K]", inputs)
        if self.block < 2 or self.block % 2:
            raise self.fail(f"block is {self.block}, wanted an even number of at least 2", inputs)
        channels, depth = w.dims
        if x.rank < 2 or x.shape[-1] != depth:
            raise self.fail(f"x is {x} and w is {w}; the inner sizes differ", inputs)
        if scale.dtype not in (DType.F32, DType.F16):
            raise self.fail(f"scale has type {scale.dtype.value}, wanted f32 or f16", inputs)
        if self.quantized and self.block > MOST_QUANTIZED_BLOCK:
            raise self.fail(f"block is {self.block}, wanted at most {MOST_QUANTIZED_BLOCK} where x is quantized", inputs)
        zero = inputs[3] if len(inputs) > 3 else None
        for what, parameter in (("scale", scale), ("zero", zero)):
            if parameter is not None:
                rules.check_dims(self, what, parameter, (channels, -(-depth // self.block)), inputs)
        if zero is not None and zero.dtype not in ((w.dtype,) if self.quantized else (w.dtype, DType.F32)):
            raise self.fail(f"zero has type {zero.dtype.value}, wanted {w.dtype.value}{'' if self.quantized else ' or f32'}", inputs)
        return (rules.result_type(self, x.dtype, (*x.shape[:-1], channels), inputs),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """The weights as float64, then numpy.matmul."""
        (x,) = present(inputs[:1])
        return (np.asarray(np.matmul(self._factor(x), self.weights(inputs).T)).astype(x.dtype),)

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Sums of the magnitudes of the products."""
        (x,) = present(inputs[:1])
        return (np.asarray(np.matmul(np.abs(self._factor(x)), np.abs(self.weights(inputs)).T)),)

    def _factor(self, x: Array) -> Array:
        """x in float64, as it takes part."""
        if not self.quantized:
            return rules.wide(x)
        steps, scale = quantized_blocks(x, self.block)
        spread = np.repeat(np.arange(scale.shape[-1]), self.block)[:steps.shape[-1]]
        return np.asarray(steps.astype(np.float64) * scale.astype(np.float64)[..., spread])

    def weights(self, inputs: Sequence[Array | None]) -> Array:
        """The factors [N,K] that the operands w, scale and zero stand for, in float64."""
        w, scale = present(inputs[1:3])
        zero = inputs[3] if len(inputs) > 3 else None
        middle = float(1 << (self.bits - 1))
        offset = np.full(scale.shape, middle) if zero is None else zero.astype(np.float64)
        spread = np.repeat(np.arange(scale.shape[1]), self.block)[:w.shape[1]]
        return np.asarray((w.astype(np.float64) - offset[:, spread]) * scale.astype(np.float64)[:, spread])
