"""Weights of 4 or 8 bits with a scale, and perhaps a zero point, for each block of terms: rounding them, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgecc.ir.types import Array


@dataclass(frozen=True)
class BlockForm:
    """How weights are stored.

    Attributes:
        bits: 4 or 8. block: terms that share a scale. symmetric: whether half of the range stands for zero everywhere.
    """

    bits: int = 4
    block: int = 32
    symmetric: bool = False

    @property
    def highest(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1

    @property
    def middle(self) -> int:
        """The code of zero where there are no zero points."""
        return 1 << (self.bits - 1)


@dataclass(frozen=True)
class BlockWeights:
    """real[n, k] = (codes[n, k] - zeros[n, k // block]) * scales[n, k // block].

    Attributes:
        codes: u8 [channels, terms]. scales: f32 [channels, blocks]. zeros: u8 [channels, blocks].
    """

    form: BlockForm
    codes: Array
    scales: Array
    zeros: Array

    @property
    def real(self) -> Array:
        """The weights as they are after rounding, float64 [channels, terms]."""
        terms = self.codes.shape[1]
        scales, zeros = (np.repeat(a.astype(np.float64), self.form.block, axis=1)[:, :terms] for a in (self.scales, self.zeros))
        return np.asarray((self.codes - zeros) * scales)


def grid(weights: Array, form: BlockForm) -> tuple[Array, Array]:
    """Scale and zero point of one block for each channel: the whole range of its weights and 0 onto the codes.

    Args:
        weights: [channels, terms of a block].
    Returns: scales, positive f32 [channels], and zero points, u8 [channels].
    """
    low, high = np.minimum(weights.min(axis=1), 0.0), np.maximum(weights.max(axis=1), 0.0)
    if form.symmetric:
        largest = np.maximum(-low, high)
        scales = largest / (form.middle - 1)
        zeros = np.full(scales.shape, form.middle, np.uint8)
    else:
        scales = (high - low) / form.highest
        zeros = np.zeros(scales.shape, np.uint8)
    scales = np.maximum(np.where(scales > 0, scales, 1.0).astype(np.float32), np.finfo(np.float32).tiny)
    if not form.symmetric:
        zeros = np.clip(np.rint(-low / scales), 0, form.highest).astype(np.uint8)
    return scales, zeros


def codes_of(weights: Array, scales: Array, zeros: Array, form: BlockForm) -> Array:
    """The nearest codes, u8; scales and zero points broadcast to the weights."""
    return np.asarray(np.clip(np.rint(weights / scales) + zeros, 0, form.highest), np.uint8)


def round_to_nearest(weights: Array, form: BlockForm) -> BlockWeights:
    """Each weight for itself; weights [channels, terms]."""
    blocks = range(0, weights.shape[1], form.block)
    parts = [weights[:, start:start + form.block].astype(np.float64) for start in blocks]
    grids = [grid(part, form) for part in parts]
    codes = [codes_of(part, scales[:, np.newaxis], zeros[:, np.newaxis], form) for part, (scales, zeros) in zip(parts, grids, strict=True)]
    return BlockWeights(form, np.concatenate(codes, axis=1), np.stack([s for s, _ in grids], axis=1), np.stack([z for _, z in grids], axis=1))


def output_error(weights: Array, rounded: Array, gram: Array) -> float:
    """The expected power of the change of a product over that of the product: tr(E G E') / tr(W G W').

    Args:
        weights, rounded: [channels, terms]. gram: sum of x x' over the operand's rows, [terms, terms].
    """
    difference, wide = rounded - weights.astype(np.float64), weights.astype(np.float64)
    power = float(np.einsum("nk,nk->", wide @ gram, wide))
    noise = float(np.einsum("nk,nk->", difference @ gram, difference))
    return noise / power if power > 0 else 0.0
