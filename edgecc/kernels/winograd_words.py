"""Winograd convolutions of bytes, exact: sums of products of 16-bit words, where machines multiply bytes slowly.

Tiles of 2 x 2, 3 x 3 and 4 x 4 results take 16, 25 and 36 products where direct sums take 36, 81 and 144. Transformed weights are integers
of at most 1,152, 10,368 and 18,432, transformed inputs of at most 22,950, so that words hold both. All arithmetic is modulo 2^32, and the
results are 4, 36 and 576 times the sums (edgecc/kernels/winograd_numbers.py): sums must stay below 2^29, 2^29 and 2^25. They do for
few channels, whatever the weights are, and for many with weights that are known (`Request.short_sums`). With stride 2 there are 25, 49 and
81 products, all numbers are smaller, and the results are 1, 4 and 36 times the sums.

Words pay where one instruction multiplies pairs of them (VPMADDWD) and four bytes take several: with AVX2, without VNNI. There 16 products of
words take one such instruction, 32 of bytes two.
"""

from __future__ import annotations

import numpy as np

from edgecc.ir.types import Array, DType
from edgecc.kernels import complements
from edgecc.kernels.contraction import zeros_of
from edgecc.kernels.grouped import Terms, grouped_view
from edgecc.kernels.request import Request
from edgecc.kernels.shifted_sums import SHORT_SUM
from edgecc.kernels.sum_types import compute_target
from edgecc.kernels.winograd_numbers import PRODUCT, Words, power_of_two
from edgecc.kernels.winograd_transform import INTEGER_FILTERS, filter_of
from edgecc.loop.dot import DOTS
from edgecc.ops.convolution import Conv

BYTES = DOTS["dot_u8s8"]
"""Inputs are read in groups of as many bytes as those of this product."""

RANGE, LARGEST_WEIGHT = 255, 128
"""The distance of the smallest and the largest byte, and the largest magnitude of a weight."""

SUM_BITS = 31
"""Bits of a sum beside its sign."""


def applies(request: Request, op: Conv) -> bool:
    """Whether the types, the layout and the target are what this is for."""
    x, w = request.operand(0).view, request.operand(1).view
    return (complements.pays(request.target) and x.dtype in (DType.U8, DType.I8) and w.dtype is DType.I8
            and compute_target(request, op.epilogue).vector.bits > 0 and grouped_view(x, 1, BYTES) is not None)


def terms_of(request: Request) -> Terms:
    """How the input is read."""
    x = request.operand(0).view
    groups = grouped_view(x, 1, BYTES)
    return Terms(x if groups is None else groups, DOTS[PRODUCT].group, PRODUCT)


def numbers_of(request: Request, m: int) -> Words:
    """The words of tiles of m results."""
    op = request.op
    if not isinstance(op, Conv):
        raise TypeError(op)
    return Words(DType.I32, zero=zeros_of(op)[0], flip=request.operand(0).view.dtype is DType.I8, multiple=_multiple(op, m) ** 2)


def sizes(request: Request, op: Conv) -> tuple[int, ...]:
    """The sizes of tiles for which all sums are known to be small enough."""
    w = request.operand(1).view
    worst = RANGE * LARGEST_WEIGHT * (w.elements // max(1, w.dims[0]))
    most = min(worst, SHORT_SUM - 1) if request.short_sums else worst
    return tuple(m for m, taps in INTEGER_FILTERS if taps == _taps(op) and most << 2 * power_of_two(_multiple(op, m)) < 1 << SUM_BITS)


def _taps(op: Conv) -> int:
    """Taps along an axis of the longest phase of a window of three."""
    return -(-3 // op.strides[0])


def _multiple(op: Conv, m: int) -> int:
    """How many times too large the results along an axis are."""
    return filter_of(m, m, _taps(op), integers=True).multiple


def paired(transformed: Array, lanes: int) -> Array:
    """Transformed weights [..., channels] as pairs of words, u32 [..., channels / 2], in the order in which inputs are stored:
    for every `lanes` groups of four channels the even ones of all groups, then the odd ones."""
    channels = transformed.shape[-1]
    order = [4 * group + part + 2 * word for first in range(0, channels // 4, lanes) for part in range(2)
             for group in range(first, min(first + lanes, channels // 4)) for word in range(2)]
    words = np.ascontiguousarray(transformed[..., order].astype(np.int16))
    return words.view(np.uint32)
