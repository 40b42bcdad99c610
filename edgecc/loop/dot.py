"""Grouped dot products: what instructions compute that multiply several short elements into one lane of a sum.

    Op("dot_bf16", (a, b, sum), f32, lanes)

Operands 0 and 1 are vectors of u32 whose lanes each hold a group of neighbouring short elements, the first in the lowest
bits; operand 2 and the result are sums with one lane for each group. Operands are u32 because that is how they travel: a
group is loaded, broadcast and chosen by lane as one 32-bit element, from buffers that are declared u32. Weights for such
products are packed [panel][step of one group][lane][element of the group].

"dot_s8_short" is "dot_s8" of second factors that are above -128: then the sum of two products fits into 16 bits, which
machines without such an instruction make use of. "dot_u8s8_short" is "dot_u8s8" where the sums of the first two products and of the
last two fit into 16 bits, for the same reason. "dot_u8s8_halves" leaves these two sums apart, in the halves of a lane, where further
ones are added to them in 16 bits; "dot_s16" with ones adds the halves up in the end.

A row of `DOTS` states the types and the meaning of one instruction, rounding included, so that the interpreter gives its
very bits. A group holds 4 / size elements: two of 16 bits, four of 8.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgecc.ir.types import Array, DType

VNNI = "avx512vnni"
"""Feature of x86-64 whose instructions multiply four bytes and add all products up; without it that takes several."""

_LEAST_NORMAL = np.float32(2.0**-126)

MultiplyAdd = Callable[[Array, Array, Array], Array]


@dataclass(frozen=True)
class Dot:
    """One kind of grouped product: `meaning(fma, a, b, sum)`, given a multiply-add of f32 that rounds once."""

    name: str
    element: DType  # of operand 0; operand 1 is signed where these are integers
    sum: DType
    meaning: Callable[[MultiplyAdd, Array, Array, Array], Array]

    @property
    def group(self) -> int:
        """Elements of a group."""
        return 4 // self.element.size


def _flushed(array: Array) -> Array:
    """Subnormal numbers as zeros of their sign."""
    return np.asarray(np.where(np.abs(array) < _LEAST_NORMAL, np.copysign(np.float32(0), array), array))


def _bf16(fma: MultiplyAdd, a: Array, b: Array, total: Array) -> Array:
    """sum + a1*b1, then + a0*b0, each rounded once to f32; subnormal operands and results are zeros.

    Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, VDPBF16PS; AMD's Zen 5 agrees bit for bit.
    """
    total = _flushed(np.asarray(total))
    for half in (1, 0):
        x, y = ((np.asarray(v, np.uint32) & np.uint32(0xFFFF0000) if half else np.asarray(v, np.uint32) << np.uint32(16))
                for v in (a, b))
        total = _flushed(fma(_flushed(x.view(np.float32)), _flushed(y.view(np.float32)), total))
    return total


def _bytes(groups: Array, dtype: npt.DTypeLike) -> Array:
    """The four elements of each group as i32 [groups, 4]."""
    return np.ascontiguousarray(np.asarray(groups, np.uint32)).reshape(-1, 1).view(dtype).astype(np.int32)


def _integers(first: npt.DTypeLike) -> Callable[[MultiplyAdd, Array, Array, Array], Array]:
    """sum + a0*b0 + a1*b1 + a2*b2 + a3*b3 in 32 bits, which wrap; b is signed, a as `first` says.

    Sources: Arm Architecture Reference Manual for A-profile, SDOT (vector); Intel 64 and IA-32 Architectures Software
    Developer's Manual, volume 2, VPDPBUSD.
    """
    def meaning(fma: MultiplyAdd, a: Array, b: Array, total: Array) -> Array:
        products = (_bytes(a, first) * _bytes(b, np.int8)).sum(axis=1, dtype=np.int32)
        return np.asarray(np.asarray(total, np.int32) + products.reshape(np.shape(a)))

    return meaning


def _pairs(a: Array, b: Array) -> Array:
    """Sums of neighbouring products, i32 [groups, 2], which must fit into 16 bits."""
    pairs = (_bytes(a, np.uint8) * _bytes(b, np.int8)).reshape(-1, 2, 2).sum(axis=2)
    if pairs.size and (pairs.min() < -2**15 or pairs.max() >= 2**15):
        raise ValueError("the sum of two products does not fit into 16 bits")
    return np.asarray(pairs)


def _short_sums(fma: MultiplyAdd, a: Array, b: Array, total: Array) -> Array:
    """`_integers` of unsigned first factors, where sums of neighbouring products fit into 16 bits."""
    _pairs(a, b)
    return _integers(np.uint8)(fma, a, b, total)


def _halves(fma: MultiplyAdd, a: Array, b: Array, total: Array) -> Array:
    """low half: sum + a0*b0 + a1*b1, high half: sum + a2*b2 + a3*b3, in 16 bits each, which wrap; sums of two products must fit.

    Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, VPMADDUBSW and VPADDW.
    """
    pairs = _pairs(a, b)
    halves = np.ascontiguousarray(np.asarray(total, np.uint32)).reshape(-1, 1).view(np.int16) + pairs.astype(np.int16)
    return np.ascontiguousarray(halves).view(np.uint32).reshape(np.shape(a))


def _words(fma: MultiplyAdd, a: Array, b: Array, total: Array) -> Array:
    """sum + a0*b0 + a1*b1 in 32 bits, which wrap; all are signed.

    Sources: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, VPDPWSSD, and VPMADDWD, which wraps for the product
    of four lowest numbers alone; Arm Architecture Reference Manual for Armv7-M, SMLAD.
    """
    first, second = (np.ascontiguousarray(np.asarray(v, np.uint32)).reshape(-1, 1).view(np.int16).astype(np.int64) for v in (a, b))
    products = (first * second).sum(axis=1).astype(np.int32)
    return np.asarray(np.asarray(total, np.int32) + products.reshape(np.shape(a)))


DOTS: Mapping[str, Dot] = types.MappingProxyType({row.name: row for row in (
    Dot("dot_bf16", DType.BF16, DType.F32, _bf16), Dot("dot_s8", DType.I8, DType.I32, _integers(np.int8)),
    Dot("dot_s16", DType.I16, DType.I32, _words),
    Dot("dot_s8_short", DType.I8, DType.I32, _integers(np.int8)), Dot("dot_u8s8", DType.U8, DType.I32, _integers(np.uint8)),
    Dot("dot_u8s8_short", DType.U8, DType.I32, _short_sums), Dot("dot_u8s8_halves", DType.U8, DType.U32, _halves))})
"""The kinds there are, by the name of the operation."""
