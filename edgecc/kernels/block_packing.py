"""How weights with a scale for each block of terms lie in memory: in words of 32 bits, in the order kernels read them.

    for sums of products in float:      [panel of channels][word][channel of the panel]
    for products of groups of bytes:    [panel of channels][block] of: [word][line][lane], scales [channel], zero points [channel]

For sums in float a word holds neighbouring terms of one channel and of one block, 8 of 4 bits or 4 of 8 bits; the last word of a
block may hold fewer. Term i of a word lies in bits i * bits and up; scales and zero points are tables of their own.

For products of groups of four bytes (edgecc/loop/dot.py), four terms of a block that lie a quarter of the block apart are a group,
because that is how operands that have been quantized fall into words: by whole vectors. A word is one group; of 4 bits it holds
those of two channels, one in the low halves of its bytes, the other in the high ones, so that both meet the same operand. A line
is a vector of words: the channels of its lanes, and with 4 bits as many again behind them. Scales and zero points follow the words
of their block: all that a product reads is one stream, in the order it is read, and comes out of memory as fast as that goes.
"""

from __future__ import annotations

from collections.abc import Sequence
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


@dataclass(frozen=True)
class Stream:
    """All that a product of groups reads of its weights, as words of 32 bits.

    Attributes:
        widths: `vectors` of a panel are lines here, and `lanes` the channels of a line.
        lanes: words of a line.
        blocks, words: blocks of a channel, and lines of a block for each line of the panel.
        scale: type of the scales, f16 or f32. zero: whether there are zero points.
    """

    widths: PanelWidths
    lanes: int
    blocks: int
    words: int
    scale: DType
    zero: bool

    def lines_words(self, lines: int) -> int:
        """Words of the weights of a block, of a panel of so many lines."""
        return self.words * lines * self.lanes

    def scale_words(self, lines: int) -> int:
        """Words of the scales of a block."""
        return lines * self.widths.lanes * self.scale.size // 4

    def block_words(self, lines: int) -> int:
        """Words of a block."""
        return self.lines_words(lines) + self.scale_words(lines) + (lines * self.widths.lanes // 4 if self.zero else 0)

    @property
    def panel_words(self) -> int:
        """Words of a whole panel."""
        return self.blocks * self.block_words(self.widths.vectors)

    @property
    def elements(self) -> int:
        """Words of all panels."""
        return self.widths.whole * self.panel_words + self.blocks * self.block_words(self.widths.rest)

    def pack(self, words: Array, scale: Array, zero: Array | None) -> Array:
        """Words [lines, lane, blocks, word] with scales and zero points [channels, blocks], flat."""
        tables = [self._channels(scale.astype(self.scale.numpy))]
        if zero is not None:
            tables.append(self._channels(zero.astype(np.uint8)))
        cut = self.widths.whole * self.widths.vectors
        panels = [self._panels(words[:cut], [table[:cut] for table in tables], self.widths.vectors)] if cut else []
        if self.widths.rest:
            panels.append(self._panels(words[cut:], [table[cut:] for table in tables], self.widths.rest))
        return np.concatenate(panels)

    def _channels(self, table: Array) -> Array:
        """[channels, blocks] as [lines, channel of the line, blocks]."""
        padded = np.zeros((self.widths.padded, self.blocks), table.dtype)
        padded[:table.shape[0]] = table
        return padded.reshape(-1, self.widths.lanes, self.blocks)

    def _panels(self, words: Array, tables: Sequence[Array], lines: int) -> Array:
        panels = words.shape[0] // lines
        own = words.reshape(panels, lines, self.lanes, self.blocks, self.words).transpose(0, 3, 4, 1, 2)
        parts = [own.reshape(panels, self.blocks, self.lines_words(lines))]
        for table in tables:
            channels = np.ascontiguousarray(table.reshape(panels, lines * self.widths.lanes, self.blocks).transpose(0, 2, 1))
            parts.append(channels.view(np.uint32))
        return np.concatenate(parts, axis=2).reshape(-1)


def words_of_groups(bits: int, block: int, flip: bool, stream: Stream, weights: Array) -> Array:
    """Codes [channels, terms] as u32 [lines, lane, blocks, word]; the last block is padded to a whole one, and so are channels.

    Args:
        flip: whether the highest bit of each byte is turned around, which makes signed numbers of unsigned ones less 128.
    """
    channels, terms = weights.shape
    codes = np.zeros((stream.widths.padded, stream.blocks * block), np.uint32)
    codes[:channels, :terms] = weights
    groups = codes.reshape(-1, stream.blocks, GROUP, block // GROUP).transpose(0, 1, 3, 2)  # [channels, blocks, group, term]
    words = _joined(groups, 8).reshape(-1, stream.widths.lanes, stream.blocks, block // GROUP)
    if bits == 4:
        words = words[:, :stream.lanes] | (words[:, stream.lanes:] << np.uint32(4))
    return np.asarray(words ^ np.uint32(0x80808080) if flip else words)


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
