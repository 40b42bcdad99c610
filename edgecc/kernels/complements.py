"""Products of bytes whose sums of two fit into 16 bits, whatever the bytes are.

AVX2 multiplies bytes u8 x s8 and adds two neighbouring products in 16 bits (VPMADDUBSW), where 255*127 + 255*127 would be cut off.
Where two weights of one sign may come that far, the second byte is complemented:

    x0*w0 + x1*w1  =  x0*w0 + (255 - x1)*(-w1)  +  255*w1

The products then differ in sign, and 255*127 bounds their sum. Which bytes that concerns is known with the weights, lane by lane:
beside the stream of weights runs one of masks, with which the bytes are combined bit by bit, and what does not depend on x goes
into the bias. Three instructions and that one in place of two products of words, two sums, and the widening of both factors.
Weights of -128, whose negative is no byte, exclude a layer (`Request.short_weights`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgecc.ir.types import Array, DType
from edgecc.loop.index import Index
from edgecc.loop.ir import Expr, Load, Op
from edgecc.targets.schema import Target

PRODUCT, MASKS = "dot_u8s8_short", "m"
"""The grouped product, and the buffer of masks."""

LEAST_ROWS = 16
"""Rows of a result from which on the time of products counts more than that of reading masks beside the weights."""

_LARGEST = 255
_MOST = (2**15 - 1) // _LARGEST
"""The largest sum of two weights of one sign for which that of their products fits."""


def pays(target: Target) -> bool:
    """Whether a target multiplies bytes in pairs and has nothing better; with AVX-512 it was never measured."""
    return target.has("avx2") and not target.has("avx512f")


def complemented(weights: Array) -> Array:
    """Which bytes to complement: bools like `weights` [..., terms], an even number of terms, whose neighbours make pairs."""
    pairs = weights.astype(np.int64).reshape(*weights.shape[:-1], -1, 2)
    found = np.zeros(pairs.shape, bool)
    found[..., 1] = abs(pairs.sum(axis=-1)) > _MOST
    return found.reshape(weights.shape)


def second_factors(arrange: Callable[[Array], Array], weights: Array) -> Array:
    """The weights [channels, terms] that multiply what the masks make of x; `arrange` puts terms in order."""
    terms = np.ascontiguousarray(arrange(weights))
    return np.where(complemented(terms), -terms, terms)


def masks(arrange: Callable[[Array], Array], flip: bool, weights: Array) -> Array:
    """The masks, u8 [channels, terms]; `flip`: x is of the other sign, so that its highest bits are turned around as well."""
    return np.where(complemented(np.ascontiguousarray(arrange(weights))), 0xFF, 0).astype(np.uint8) ^ np.uint8(0x80 if flip else 0)


def sums(contract: Callable[[Array], Array], axis: int, offset: int, weights: Array) -> Array:
    """What each sum has too much: `offset` times its weights, less 255 times those of complemented bytes.

    Args:
        contract: adds up elements like those of the weights, as the kernel does products.
        axis: along which neighbouring weights make pairs.
        offset: see `Terms`.
    """
    moved = np.moveaxis(weights, axis, -1)
    return contract(np.moveaxis(moved.astype(np.int64) * (offset - _LARGEST * complemented(moved)), -1, axis))


def masked(groups: Expr, place: Index) -> Expr:
    """The groups of x that the weights at `place` multiply."""
    return Op("bit_xor", (groups, Load(MASKS, place, DType.U32)), DType.U32)
