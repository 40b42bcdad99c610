"""What the names of intrinsics and types of x86-64 are made of, and which features they need."""

from __future__ import annotations

from dataclasses import dataclass

from edgecc.backends.c.table import Key, Row
from edgecc.ir.types import DType

AVX2 = ("avx2", "fma")
AVX512 = ("avx512f", "avx512vl", "avx512bw", "avx512dq")
F32, F64, I32, U32, I64, U64, BOOL = (DType.F32, DType.F64, DType.I32, DType.U32, DType.I64, DType.U64, DType.BOOL)

MASK_NARROW = Key("mask_narrow", BOOL, 4)
"""Helper: the even 32-bit lanes of 256 bits, which narrows 64-bit masks and integers."""
MASK_WIDEN = Key("mask_widen", BOOL, 4)
"""Helper: a mask of 32-bit lanes as one of 64-bit lanes."""


def prefix(bits: int) -> str:
    """What the names of intrinsics on vectors of so many bits start with."""
    return "_mm" if bits == 128 else f"_mm{bits}"


def integer_type(bits: int) -> str:
    """C type of integer vectors."""
    return f"__m{bits}i"


def needs_of(bits: int) -> tuple[str, ...]:
    """Features that vectors of so many bits need."""
    return AVX512 if bits == 512 else AVX2


def lane_mask(count: int, lanes: int) -> str:
    """A vector of -1 in the first `count` lanes, for vmaskmov; lanes of 64 bits where there are 4 of 256."""
    values = ", ".join("-1" if lane < count else "0" for lane in range(lanes))
    return f"{prefix(lanes * 32)}_setr_epi32({values})"


@dataclass(frozen=True)
class Vector:
    """A vector type of `bits` bits, whose operations become rows."""

    dtype: DType
    bits: int

    @property
    def lanes(self) -> int:
        """Elements of a vector."""
        return self.bits // (self.dtype.size * 8)

    @property
    def prefix(self) -> str:
        """_mm256, of every name."""
        return prefix(self.bits)

    @property
    def needs(self) -> tuple[str, ...]:
        """Features of every machine that has such vectors."""
        return needs_of(self.bits)

    def row(self, op: str, text: str, needs: tuple[str, ...] | None = None, *, body: bool = False,
            uses: tuple[Key, ...] = ()) -> tuple[Key, Row]:
        """A row of this type, of every machine with such vectors unless `needs` says otherwise."""
        return Key(op, self.dtype, self.lanes), Row(text, self.needs if needs is None else needs, uses, body)
