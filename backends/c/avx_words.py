"""Vectors of 16 lanes of 32 bits on AVX2, in two registers (pairs.py): pairs of words made of 16 bytes, and their sums.

Instructions that interleave words take the first four of each half of a register, or the last four. Bytes widened to 16 words make
lanes 0 to 3 and 8 to 11 that way, and lanes 4 to 7 and 12 to 15: in this order lanes lie in both registers, whatever they hold.
Narrowing packs the same halves and brings bytes back into the order of memory. So two instructions widen what lies in memory and two
interleave it, for 16 pairs, where eight at a time take four.

There are rows for what goes between memory and such vectors; everything else happens in each register by itself, but for what asks
for single lanes or for some of them, which does not exist.

Sources: as in avx.py; VPUNPCKLWD, VPUNPCKHWD and VPACKSSDW of volume 2.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgecc.backends.c.avx_names import AVX2, F32, I32, U32
from edgecc.backends.c.table import Key, Row
from edgecc.ir.types import DType

LANES = 16

INTEGERS, FLOATS = "edgecc_m256ix2", "edgecc_m256x2"
"""C types of such vectors."""

TYPES = (f"/* 16 lanes: 0 to 3 and 8 to 11 in one register, 4 to 7 and 12 to 15 in the other. */\n"
         f"typedef struct {{ __m256i val[2]; }} {INTEGERS};\ntypedef struct {{ __m256 val[2]; }} {FLOATS};\n")


def rows() -> Iterator[tuple[Key, Row]]:
    """All rows."""
    for dtype in (I32, U32):
        parts = [f"_mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(from + {first})), _mm_loadu_si128(from + {first + 2}), 1)"
                 for first in (0, 1)]
        yield Key("load", dtype, LANES), Row(f"const __m128i *from = (const __m128i *)a;\nreturn ({INTEGERS}){{{{{', '.join(parts)}}}}};", AVX2, body=True)
    parts = [f"_mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(a + {first})), _mm_loadu_ps(a + {first + 8}), 1)" for first in (0, 4)]
    yield Key("load", F32, LANES), Row(f"return ({FLOATS}){{{{{', '.join(parts)}}}}};", AVX2, body=True)
    sums = ", ".join(f"EDGECC_KEEP(_mm256_add_epi32(c.val[{i}], _mm256_madd_epi16(a.val[{i}], b.val[{i}])))" for i in (0, 1))
    yield Key("dot_s16", I32, LANES), Row(f"return ({INTEGERS}){{{{{sums}}}}};", AVX2, body=True)
    for dtype in (DType.I8, DType.U8):
        words = f"_mm256_cvtep{'i' if dtype.is_signed else 'u'}8_epi16"
        yield Key("join_words", dtype, LANES), Row(
            f"__m256i low = {words}(a), high = {words}(b);\n"
            f"return ({INTEGERS}){{{{_mm256_unpacklo_epi16(low, high), _mm256_unpackhi_epi16(low, high)}}}};", AVX2, body=True)
        narrow = f"_mm_pack{'' if dtype.is_signed else 'u'}s_epi16"
        yield Key("store_saturated:1", dtype, LANES), Row(
            "__m256i words = _mm256_packs_epi32(b.val[0], b.val[1]);\n"
            f"_mm_storeu_si128((__m128i *)a, {narrow}(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));", AVX2, body=True)
