"""Interleaved bytes: four vectors of bytes as one vector of groups (edgecc/loop/narrow.py).

Rows: "group" loads a word of four bytes, "groups" a vector of them, "bytes" the bytes of a vector of `lanes` lanes, "bytes_of" has one number in all of them, "interleave" takes four.
Of bytes for two neighbouring vectors of groups, "interleave_pair" makes both, "interleave_half:0" and "interleave_half:1" make one.
Sources: as in avx.py and neon.py; PUNPCKLBW, VPERMD and VPSHUFB of volume 2, VPERMI2B, ZIP1 and ZIP2 of DDI 0487.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgecc.backends.c.avx_names import AVX2, AVX512
from edgecc.backends.c.lookup import VBMI
from edgecc.backends.c.table import Key, Row
from edgecc.ir.types import DType

BYTES = (DType.I8, DType.U8)


def little_endian_rows() -> Iterator[tuple[Key, Row]]:
    """A group of neighbouring bytes is a word, wherever it lies."""
    for dtype in BYTES:
        yield Key("group", dtype, 1), Row("uint32_t word;\nmemcpy(&word, a, 4);\nreturn word;", body=True)


_TRANSPOSED = "0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15"


def avx_rows() -> Iterator[tuple[Key, Row]]:
    """4, 8 and 16 lanes."""
    yield from little_endian_rows()
    for dtype in BYTES:
        yield Key("bytes", dtype, 4), Row("int bytes;\nmemcpy(&bytes, a, 4);\nreturn _mm_cvtsi32_si128(bytes);", AVX2, body=True)
        yield Key("bytes", dtype, 8), Row("_mm_loadl_epi64((const __m128i *)({0}))", AVX2)
        yield Key("bytes", dtype, 16), Row("_mm_loadu_si128((const __m128i *)({0}))", AVX2)
        for lanes in (4, 8, 16):
            yield Key("bytes_of", dtype, lanes), Row("_mm_set1_epi8((char){0})", AVX2)
        pairs = "__m128i ab = _mm_unpacklo_epi8(a, b), cd = _mm_unpacklo_epi8(c, d);\n"
        yield Key("interleave", dtype, 4), Row(f"{pairs}return _mm_unpacklo_epi16(ab, cd);", AVX2, body=True)
        yield Key("interleave", dtype, 8), Row(
            f"{pairs}return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_unpacklo_epi16(ab, cd)), _mm_unpackhi_epi16(ab, cd), 1);",
            AVX2, body=True)
        # Words to the lane they belong to, then bytes within it.
        yield Key("interleave", dtype, 16), Row(
            "__m256i ab = _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);\n"
            "__m256i cd = _mm256_inserti128_si256(_mm256_castsi128_si256(c), d, 1);\n"
            "__m512i all = _mm512_inserti64x4(_mm512_castsi256_si512(ab), cd, 1);\n"
            f"all = _mm512_permutexvar_epi32(_mm512_setr_epi32({_TRANSPOSED}), all);\n"
            f"return _mm512_shuffle_epi8(all, _mm512_broadcast_i32x4(_mm_setr_epi8({_TRANSPOSED})));", AVX512, body=True)
        yield Key("bytes", dtype, 32), Row("_mm256_loadu_si256((const __m256i *)({0}))", AVX2)
        yield Key("bytes_of", dtype, 32), Row("_mm256_set1_epi8((char){0})", AVX2)
        for half in (0, 1):
            # Bytes of 32 lanes of a and b in one register, of c and d in the other; each group takes one of each.
            places = ", ".join(f"{sum((32 * operand + lane) << (8 * operand) for operand in range(4)):#x}" for lane in range(16 * half, 16 * half + 16))
            yield Key(f"interleave_half:{half}", dtype, 16), Row(
                "__m512i ab = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1), cd = _mm512_inserti64x4(_mm512_castsi256_si512(c), d, 1);\n"
                f"return _mm512_permutex2var_epi8(ab, _mm512_setr_epi32({places}), cd);", (*AVX512, VBMI), body=True)


def neon_rows() -> Iterator[tuple[Key, Row]]:
    """Four lanes, of 64-bit vectors of which the lower half counts, and twice four lanes at once."""
    yield from little_endian_rows()
    for (s, lanes), q in (((s, lanes), "q" if lanes == 4 else "") for s in ("s8", "u8") for lanes in (4, 2)):
        bytes_ = ", ".join(f"vreinterpret{q}_{s}_u32({{{i}}})" for i in range(2))
        yield Key(f"max_{s}", DType.U32, lanes), Row(f"vreinterpret{q}_u32_{s}(vmax{q}_{s}({bytes_}))", ("neon",))
    for dtype in BYTES:
        s = "s8" if dtype.is_signed else "u8"
        yield Key("bytes", dtype, 4), Row(f"uint32_t bytes;\nmemcpy(&bytes, a, 4);\nreturn vreinterpret_{s}_u32(vdup_n_u32(bytes));",
                                          ("neon",), body=True)
        yield Key("bytes", dtype, 8), Row(f"vld1_{s}({{0}})", ("neon",))
        for lanes, q in ((4, "q"), (2, "")):
            yield Key("groups", dtype, lanes), Row(f"vreinterpret{q}_u32_{s}(vld1{q}_{s}({{0}}))", ("neon",))
        for lanes in (4, 8):
            yield Key("bytes_of", dtype, lanes), Row(f"vdup_n_{s}({{0}})", ("neon",))
        wide = f"vreinterpretq_u16_{s}(vzip1q_{s}(vcombine_{s}({{}}, vdup_n_{s}(0)), vcombine_{s}({{}}, vdup_n_{s}(0))))"
        pairs = f"uint16x8_t ab = {wide.format('a', 'b')};\nuint16x8_t cd = {wide.format('c', 'd')};\n"
        yield Key("interleave", dtype, 4), Row(f"{pairs}return vreinterpretq_u32_u16(vzip1q_u16(ab, cd));", ("neon",), body=True)
        yield Key("interleave_pair", dtype, 4), Row(
            f"{pairs}return (uint32x4x2_t){{{{vreinterpretq_u32_u16(vzip1q_u16(ab, cd)), vreinterpretq_u32_u16(vzip2q_u16(ab, cd))}}}};",
            ("neon",), body=True)
