"""Windows over images whose size the run decides: which of their taps lie inside of the image.

The bounds of the loops over taps follow from the position; along the last axis the positions where all taps are inside have a
loop of their own, which becomes a micro-kernel (open_convolution.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgecc.kernels.view import View
from edgecc.loop.index import ZERO, Index, const, maximum, minimum

HINT = "give the dimension one size with --shape"


@dataclass(frozen=True)
class Window:
    """A window along one axis of an image of `size` elements, with `pad` positions in front and `behind` after it."""

    size: Index
    kernel: int
    stride: int
    dilation: int
    pad: int
    behind: int

    @property
    def is_inside(self) -> bool:
        """Whether no tap is ever outside."""
        return self.pad == 0 and self.behind == 0

    def first(self, position: Index) -> Index:
        """Where the first tap lies for a position of the result."""
        return position * self.stride - self.pad

    def taps(self, position: Index) -> tuple[Index, Index]:
        """The first tap inside of the image, and the one after the last."""
        if self.is_inside:
            return ZERO, const(self.kernel)
        start = (const(self.dilation - 1) - self.first(position)).floordiv(self.dilation)
        stop = (self.size - self.first(position) + (self.dilation - 1)).floordiv(self.dilation)
        return maximum(ZERO, start), minimum(self.kernel, stop)

    def inside(self, count: Index) -> tuple[Index, Index]:
        """The positions, of `count`, at which all taps are inside: the first, and the one after the last."""
        if self.is_inside:
            return ZERO, count
        first = minimum(-(-self.pad // self.stride), count)
        room = self.size + self.pad - ((self.kernel - 1) * self.dilation + 1)
        return first, maximum(first, minimum(count, room.floordiv(self.stride) + 1))


def windows_of(x: View, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int]) -> list[Window]:
    """The window along each spatial axis of `x`; `pads` are (begin..., end...)."""
    rank = len(kernel)
    return [Window(x.size(2 + i), kernel[i], strides[i], dilations[i], pads[i], pads[rank + i]) for i in range(rank)]
