"""How weights with a scale for each block of terms lie in memory: in words of 32 bits, in the order kernels read them.

    [panel of channels][word][channel of the panel]

A word holds neighbouring terms of one channel and of one block, 8 of 4 bits or 4 of 8 bits; the last word of a block may hold
fewer. For sums of products in float, term i of a word lies in bits i * bits and up. For products of groups of four bytes
(edgecc/loop/dot.py), four terms of a block that lie a quarter of the block apart are a group, because that is how operands that
have been quantized fall into words: by whole vectors. The low halves of a word's bytes are one group, the high halves the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgecc.ir.types import Array, DType

GROUP = 4
"""Terms of a group."""


@dataclass(frozen=True)
class PanelWidths:
    """Channels in panels: `whole` of `vectors` vectors each, then one of `rest` vectors (0: none) of which `last` channels are real."""

    whole: int
    vectors: int
    rest: int
    last: int
    lanes: int

    @property
    def padded(self) -> int:
        """Channels with those that only fill vectors."""
        return (self.whole * self.vectors + self.rest) * self.lanes


def panel_widths(channels: int, vectors: int, lanes: int) -> PanelWidths:
    """The panels of so many channels."""
    whole, left = divmod(channels, vectors * lanes)
    return PanelWidths(whole, vectors, -(-left // lanes), left, lanes)


def in_panels(widths: PanelWidths, table: Array) -> Array:
    """[channels, terms] as [panel][term][channel of the panel], flat; zeros for channels that only fill vectors."""
    channels, terms = table.shape
    padded = np.zeros((widths.padded, terms), table.dtype)
    padded[:channels] = table
    cut = widths.whole * widths.vectors * widths.lanes
    first = padded[:cut].reshape(widths.whole, widths.vectors * widths.lanes, terms).transpose(0, 2, 1)
    return np.concatenate([first.reshape(-1), padded[cut:].T.reshape(-1)])


def words_of_terms(bits: int, block: int, weights: Array) -> Array:
    """Codes [channels, terms] as u32 [channels, words], neighbouring terms in a word."""
    per_word = 32 // bits
    words = [_joined(_padded(part, per_word).reshape(weights.shape[0], -1, per_word), bits) for part in _blocks(weights, block)]
    return np.concatenate(words, axis=1)


def words_of_groups(bits: int, block: int, flip: bool, weights: Array) -> Array:
    """Codes [channels, terms] as u32 [channels, words], groups of terms in a word; the last block is padded to a whole one.

    Args:
        flip: whether the highest bit of each byte is turned around, which makes signed numbers of unsigned ones less 128.
    """
    codes = _padded(weights.astype(np.uint32), block)
    channels, blocks = codes.shape[0], codes.shape[1] // block
    groups = codes.reshape(channels, blocks, GROUP, block // GROUP).transpose(0, 1, 3, 2)  # [channels, blocks, group, term]
    words = _joined(groups, 8)
    if bits == 4:
        words = words[..., 0::2] | (words[..., 1::2] << np.uint32(4))
    if flip:
        words = words ^ np.uint32(0x80808080)
    return np.ascontiguousarray(words.reshape(channels, -1))


def _blocks(weights: Array, block: int) -> list[Array]:
    codes = weights.astype(np.uint32)
    return [codes[:, start:start + block] for start in range(0, codes.shape[1], block)]


def _padded(codes: Array, multiple: int) -> Array:
    missing = -codes.shape[1] % multiple
    return np.pad(codes, ((0, 0), (0, missing)))


def _joined(codes: Array, bits: int) -> Array:
    """Codes [..., n] as words [...]; the first in the lowest bits."""
    shifts = np.arange(codes.shape[-1], dtype=np.uint32) * np.uint32(bits)
    return np.asarray(np.bitwise_or.reduce(codes << shifts, axis=-1), np.uint32)


def scale_table(dtype: DType, widths: PanelWidths, scale: Array) -> Array:
    """Scales or zero points [channels, blocks] as [panel][block][channel]."""
    return in_panels(widths, np.asarray(scale).astype(dtype.numpy))
