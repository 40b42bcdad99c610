"""Which instruction table a target uses, and what its vectors look like."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from edgecc.backends.c import (
    avx,
    avx_bf16,
    avx_words,
    half_loads,
    intrinsics,
    microcontroller,
    neon,
    neon_half,
    paired_sums,
    pairs,
)
from edgecc.backends.c.avx_names import AVX2, AVX512
from edgecc.backends.c.portable import HARDWARE_FMA, scalar_rows
from edgecc.backends.c.table import CARRIED_INTEGER, HALF_TYPES, IN_ORDER, STORAGE, Key, Table, carrier, select_rows
from edgecc.ir.types import DType
from edgecc.loop.math import DEFINED
from edgecc.loop.tables import TABLES


@dataclass(frozen=True)
class Isa:
    """What the printer knows of an instruction set.

    Attributes:
        name: "portable", "helium", "neon", "avx2" or "avx512".
        includes: the lines that include what the generated code needs for it.
        rows: the operations it has.
        widest: bits of its widest vectors, 0 for none.
        definitions: macros that the rows use, behind the headers; each text is left out of files that do not use it.
        half_lanes: numbers of lanes of f16 that have arithmetic of their own; others lie in lanes of f32.
        pair_lanes: numbers of lanes that two registers hold (pairs.py). mixed_pairs: whether they do so in another order than memory.
        paired_halves: see `edgecc.targets.schema.Core`.
    """

    name: str
    includes: str
    rows: Table
    widest: int
    _lanes_of: Callable[[DType, int], tuple[int, ...]]
    _vector_type: Callable[[DType, int], str]
    definitions: tuple[str, ...] = ()
    half_lanes: tuple[int, ...] = ()
    pair_lanes: tuple[int, ...] = ()
    mixed_pairs: bool = False
    paired_halves: bool = False

    @property
    def fma_overwrites_addend(self) -> bool:
        """Whether multiply-adds of vectors always write over what they add to; elsewhere they may write over a factor."""
        return self.name == "neon"

    def carrier(self, dtype: DType, lanes: int) -> DType:
        """The type that holds values of `dtype` in registers; see table.py."""
        return dtype if dtype is DType.F16 and lanes in self.half_lanes else carrier(dtype, lanes)

    def is_pair(self, dtype: DType, lanes: int) -> bool:
        """Whether values lie in two registers; see pairs.py."""
        held = self.carrier(dtype, lanes)
        return lanes in self.pair_lanes and lanes * 32 > self.widest and held is not DType.F16 and held.size <= 4

    def lanes_of(self, dtype: DType) -> tuple[int, ...]:
        """Numbers of lanes (above 1) that vectors of a type may have, most first."""
        if dtype is DType.F16 and self.half_lanes:
            return self.half_lanes
        lanes = self._lanes_of(carrier(dtype, 2), self.widest)
        return (*(n for n in self.half_lanes if self.is_pair(dtype, n)), *lanes)

    def type_name(self, dtype: DType, lanes: int) -> str:
        """C type of a value in registers."""
        held = self.carrier(dtype, lanes)
        if self.is_pair(dtype, lanes):
            return pairs.pair_type(self._vector_type(held, lanes // 2))
        return STORAGE[held] if lanes == 1 else self._vector_type(held, lanes)

    def register_of_bytes(self, dtype: DType, count: int) -> str:
        """C type of a register of so many bytes."""
        return f"{'' if dtype.is_signed else 'u'}int8x16_t" if self.name == "neon" else f"__m{8 * count}i"

    def bytes_type(self, dtype: DType, lanes: int) -> str:
        """C type of a vector of bytes that is to be interleaved."""
        if self.name == "neon":
            return f"{'' if dtype.is_signed else 'u'}int8x8_t"
        return "__m256i" if lanes == 32 else "__m128i"

    def has_tables(self, lanes: int) -> bool:
        """Whether so many lanes of f32 are looked up in registers (edgecc/loop/tables.py)."""
        return all(Key(op, DType.F32, lanes) in self.rows for op in TABLES)

    def supports_lanes(self, op: str, dtype: DType, lanes: int) -> bool:
        """Whether vectors of `dtype` have `op` as instructions; other operations go lane by lane through memory.

        `op` is a primitive, "fma", "load", "store", "cast:D" or "horizontal:OP". Scalars have everything.
        """
        if lanes == 1:
            return True
        if self.is_pair(dtype, lanes):
            return self.supports_lanes(op, dtype, lanes // 2)
        held = self.carrier(dtype, lanes)
        if Key(op, dtype, lanes) in self.rows or (held is DType.F32 and op in DEFINED and dtype is held):
            return True
        if held is dtype or op in ("load", "store") or ":" in op:
            return False
        narrow_ok = dtype in HALF_TYPES or op in CARRIED_INTEGER
        return narrow_ok and Key("normalize", dtype, lanes) in self.rows and self.supports_lanes(op, held, lanes)


@functools.cache
def isa_of(architecture: str, features: tuple[str, ...], vector_bits: int) -> Isa:
    """The instruction table of a machine; it has tens of thousands of rows and is made once.

    Args:
        architecture: "aarch64", "x86_64", or anything else for portable C.
        features: as a target file lists them; rows that need others are left out.
        vector_bits: width of the widest vector that may be used; 0 means scalar code only.
    """
    wants_vectors = vector_bits > 0
    if architecture == "aarch64" and wants_vectors and "neon" in features:
        rows = [*scalar_rows(has_fma=True), *neon.vector_rows(), *half_loads.rows()]
        definitions = [neon.KEEP, neon.APART, *neon.by_lane(in_order=IN_ORDER in features, half=neon_half.FEATURE in features)]
        definitions += [paired_sums.TOGETHER] if IN_ORDER in features else []
        definitions += [half_loads.MACROS] if half_loads.HALVES in features else []
        if neon_half.FEATURE in features and vector_bits >= 128:
            rows += neon_half.half_rows()
            return Isa("neon", intrinsics.NEON, select_rows(rows, features), min(vector_bits, 128),
                       neon.lanes_of, neon.vector_type, tuple(definitions), neon_half.LANES, neon_half.LANES,
                       paired_halves=half_loads.PAIRED in features)
        return Isa("neon", intrinsics.NEON, select_rows(rows, features), min(vector_bits, 128),
                   neon.lanes_of, neon.vector_type, tuple(definitions), paired_halves=half_loads.PAIRED in features)
    if architecture == "x86_64" and wants_vectors and set(AVX2) <= set(features):
        wide = set(AVX512) <= set(features)
        words = not wide and vector_bits >= 256  # in pairs of registers
        rows = [*scalar_rows(has_fma=True), *avx.vector_rows(), *avx_bf16.bf16_rows(), *(avx_words.rows() if words else ())]

        def vector_type(dtype: DType, lanes: int) -> str:
            return avx.vector_type(dtype, lanes, mask_registers=wide)

        return Isa("avx512" if wide else "avx2", intrinsics.avx(wide=wide), select_rows(rows, features),
                   min(vector_bits, 512 if wide else 256), avx.lanes_of, vector_type, (avx.KEEP, *((avx_words.TYPES,) if words else ())),
                   pair_lanes=(avx_words.LANES,) if words else (), mixed_pairs=words)
    has_fma = architecture == "aarch64" or HARDWARE_FMA in features
    dsp = (microcontroller.HEADER,) if microcontroller.DSP in features else ()
    if microcontroller.HELIUM in features:
        rows = [*scalar_rows(has_fma=has_fma), *microcontroller.vector_rows()]
        return Isa("helium", "", select_rows(rows, features), microcontroller.VECTOR_BITS, microcontroller.lanes_of,
                   microcontroller.vector_type, (*dsp, microcontroller.VECTORS))
    return Isa("portable", "", select_rows(scalar_rows(has_fma=has_fma), features), 0, _no_lanes, _no_vector, dsp)


def _no_lanes(dtype: DType, widest: int) -> tuple[int, ...]:
    return ()


def _no_vector(dtype: DType, lanes: int) -> str:
    raise ValueError(f"portable C has no vectors ({dtype.value} x {lanes})")
