"""Vectors of x86-64 in immintrin.h: AVX2 with FMA, and AVX-512 (F, VL, BW, DQ).

Lanes: 4, 8 and 16 of 32-bit types, 4 and 8 of 64-bit types. Masks are integer vectors of 32-bit
lanes with AVX2 (also for 64-bit types: those are narrowed and widened), mask registers with AVX-512.
F16C is taken for granted: every CPU with AVX2 has it, and the x86-64-v3 level contains both
(System V psABI 1.0, table of micro-architecture levels).

Source of the meaning of instructions: Intel 64 and IA-32 Architectures Software Developer's Manual,
volume 2. min/max instructions return the second operand when one is NaN; the rows here let NaN win.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgecc.backends.c import interleaved_stores, interleaving, lookup, saturating
from edgecc.backends.c.avx_convert import conversion_rows
from edgecc.backends.c.avx_floats import float_rows
from edgecc.backends.c.avx_integers import integer_rows
from edgecc.backends.c.avx_names import (
    AVX2,
    AVX512,
    BOOL,
    F32,
    F64,
    I32,
    I64,
    MASK_NARROW,
    MASK_WIDEN,
    U32,
    U64,
    integer_type,
    needs_of,
    prefix,
)
from edgecc.backends.c.table import Key, Row
from edgecc.ir.types import DType
from edgecc.loop.dot import VNNI

KEEP = """\
/* gcc takes casts between its own type of sums and that of the intrinsics for copies, and keeps sums of a loop in memory as
 * well. Tied to a register they stay there. Other compilers need no help. */
#if defined(__GNUC__) && !defined(__clang__)
#define EDGECC_KEEP(sum) __extension__({ __typeof__(sum) kept = (sum); __asm__("" : "+v"(kept)); kept; })
#else
#define EDGECC_KEEP(sum) (sum)
#endif
/* clang adds products in 16 bits in an order of its own, all of one sum before those of the next, and has no registers for the factors. */
#if defined(__GNUC__)
#define EDGECC_KEEP_ORDER(sum) __extension__({ __typeof__(sum) kept = (sum); __asm__("" : "+v"(kept)); kept; })
#else
#define EDGECC_KEEP_ORDER(sum) (sum)
#endif
"""


def lanes_of(dtype: DType, widest: int) -> tuple[int, ...]:
    """Usable numbers of lanes, most first, on a machine with vectors of up to `widest` bits."""
    return tuple(n for n in ((8, 4) if dtype.size == 8 else (16, 8, 4)) if n * max(4, dtype.size) * 8 <= widest)


def vector_type(dtype: DType, lanes: int, *, mask_registers: bool) -> str:
    """C type of a vector of a carrier type or of bool."""
    if dtype is BOOL:
        return f"__mmask{max(8, lanes)}" if mask_registers else integer_type(lanes * 32)
    bits = lanes * dtype.size * 8
    return {F32: f"__m{bits}", F64: f"__m{bits}" + "d"}.get(dtype, integer_type(bits))


def vector_rows() -> Iterator[tuple[Key, Row]]:
    """All rows; those of AVX-512 follow, and so replace, those of AVX2."""
    for bits in (128, 256, 512):
        for dtype in (F32, F64):
            if bits // (dtype.size * 8) >= 4:
                yield from float_rows(dtype, bits)
        for dtype in (I32, U32, I64, U64):
            if bits // (dtype.size * 8) >= 4:
                yield from integer_rows(dtype, bits)
    for lanes in (4, 8):
        yield from _avx2_masks(lanes)
    for lanes in (4, 8, 16):
        yield from _avx512_masks(lanes)
    yield from conversion_rows()
    yield from saturating.avx_rows()
    yield from interleaved_stores.avx_rows()
    yield from interleaving.avx_rows()
    yield from lookup.avx_rows()
    yield from lookup.group_rows()
    yield from lookup.table_rows()
    for lanes in (4, 8, 16):
        yield Key("dot_u8s8", I32, lanes), _dot_by_words(lanes)
        yield Key("dot_u8s8_short", I32, lanes), _dot_by_pairs(lanes)
        yield Key("dot_u8s8_halves", U32, lanes), _dot_in_halves(lanes)
        yield Key("dot_u8s8", I32, lanes), Row(f"{prefix(lanes * 32)}_dpbusd_epi32({{2}}, {{0}}, {{1}})", (*AVX512, VNNI))
        p = prefix(lanes * 32)
        yield Key("dot_s16", I32, lanes), Row(f"{p}_add_epi32({{2}}, {p}_madd_epi16({{0}}, {{1}}))", needs_of(lanes * 32))
        yield Key("dot_s16", I32, lanes), Row(f"{p}_dpwssd_epi32({{2}}, {{0}}, {{1}})", (*AVX512, VNNI))
        yield Key("keep", I32, lanes), Row("EDGECC_KEEP({0})", needs_of(lanes * 32))
        yield Key("keep", U32, lanes), Row("EDGECC_KEEP_ORDER({0})", needs_of(lanes * 32))
    for lanes in (4, 8):  # of floats gcc keeps some in memory where tiles leave one of 16 registers; 32 it fills well
        yield Key("keep", F32, lanes), Row("EDGECC_KEEP({0})", AVX2)
    for lanes in (4, 8, 16):
        yield Key("keep", F32, lanes), Row("{0}", AVX512)


def _dot_by_words(lanes: int) -> Row:
    """Products of bytes in words: the even ones and the odd ones. (VPMADDUBSW would saturate its sums.)"""
    bits = lanes * 32
    p = prefix(bits)
    return Row(f"{integer_type(bits)} even = {p}_madd_epi16({p}_and_si{bits}(a, {p}_set1_epi16(0xFF)), "
               f"{p}_srai_epi16({p}_slli_epi16(b, 8), 8));\n"
               f"{integer_type(bits)} odd = {p}_madd_epi16({p}_srli_epi16(a, 8), {p}_srai_epi16(b, 8));\n"
               f"return {p}_add_epi32(c, {p}_add_epi32(even, odd));", needs_of(bits), body=True)


def _dot_by_pairs(lanes: int) -> Row:
    """Products of bytes in pairs, whose sums are known to fit into 16 bits."""
    p = prefix(lanes * 32)
    return Row(f"{p}_add_epi32({{2}}, {p}_madd_epi16({p}_maddubs_epi16({{0}}, {{1}}), {p}_set1_epi16(1)))", needs_of(lanes * 32))


def _dot_in_halves(lanes: int) -> Row:
    """Products of bytes in pairs, whose sums are known to fit into 16 bits and stay there."""
    p = prefix(lanes * 32)
    return Row(f"{p}_add_epi16({{2}}, {p}_maddubs_epi16({{0}}, {{1}}))", needs_of(lanes * 32))


# -- masks ----------------------------------------------------------------------------------------

HELPERS = {
    MASK_NARROW: "static inline __m128i edgecc_mask_narrow(__m256i a) {\n"
                 "  __m256i even = _mm256_permutevar8x32_epi32(a, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6));\n"
                 "  return _mm256_castsi256_si128(even);\n}\n",
    MASK_WIDEN: "static inline __m256i edgecc_mask_widen(__m128i a) {\n"
                "  return _mm256_cvtepi32_epi64(a);\n}\n",
}
"""Helpers whose parameters are not of the types their key would give them."""


def _avx2_masks(lanes: int) -> Iterator[tuple[Key, Row]]:
    bits = lanes * 32
    p = prefix(bits)

    def row(op: str, text: str, *, body: bool = False) -> tuple[Key, Row]:
        return Key(op, BOOL, lanes), Row(text, AVX2, body=body)

    for op in ("and", "or", "xor"):
        yield row(op, f"{p}_{op}_si{bits}({{0}}, {{1}})")
    yield row("not", f"{p}_xor_si{bits}({{0}}, {p}_set1_epi32(-1))")
    yield row("eq", f"{p}_cmpeq_epi32({{0}}, {{1}})")
    yield row("select", f"{p}_blendv_epi8({{2}}, {{1}}, {{0}})")
    yield row("zero", f"{p}_setzero_si{bits}()")
    yield row("ones", f"{p}_set1_epi32(-1)")
    yield row("broadcast", f"{p}_set1_epi32(-(int){{0}})")
    yield row("cast:i32", f"{p}_srli_epi32({{0}}, 31)")
    yield row("cast:f32", f"{p}_and_ps({p}_castsi{bits}_ps({{0}}), {p}_set1_ps(1.0f))")
    if lanes == 4:
        yield row("load", "int bytes;\nmemcpy(&bytes, a, 4);\n"
                          "return _mm_cmpgt_epi32(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(bytes)), _mm_setzero_si128());",
                  body=True)
        yield row("store", "__m128i lanes = _mm_srli_epi32(b, 31);\n"
                           "int bytes = _mm_cvtsi128_si32(_mm_packus_epi16(_mm_packus_epi32(lanes, lanes), lanes));\n"
                           "memcpy(a, &bytes, 4);", body=True)
    else:
        yield row("load", "return _mm256_cmpgt_epi32(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)a)), "
                          "_mm256_setzero_si256());", body=True)
        yield row("store", "__m256i lanes = _mm256_srli_epi32(b, 31);\n"
                           "__m128i words = _mm_packus_epi32(_mm256_castsi256_si128(lanes), "
                           "_mm256_extracti128_si256(lanes, 1));\n"
                           "_mm_storel_epi64((__m128i *)a, _mm_packus_epi16(words, words));", body=True)


def _avx512_masks(lanes: int) -> Iterator[tuple[Key, Row]]:
    mask = f"__mmask{max(8, lanes)}"
    ones = (1 << lanes) - 1
    p = prefix(lanes * 32)

    def row(op: str, text: str, *, body: bool = False) -> tuple[Key, Row]:
        return Key(op, BOOL, lanes), Row(text, AVX512, body=body)

    for op, sign in (("and", "&"), ("or", "|"), ("xor", "^")):
        yield row(op, f"({mask})({{0}} {sign} {{1}})")
    yield row("not", f"({mask})({{0}} ^ {ones:#x})")
    yield row("eq", f"({mask})({{0}} ^ {{1}} ^ {ones:#x})")
    yield row("select", f"return ({mask})((a & b) | (({mask})~a & c));", body=True)
    yield row("zero", f"({mask})0")
    yield row("ones", f"({mask}){ones:#x}")
    yield row("broadcast", f"({mask})({{0}} ? {ones:#x} : 0)")
    yield row("cast:i32", f"{p}_maskz_set1_epi32({{0}}, 1)")
    yield row("cast:f32", f"{p}_maskz_mov_ps({{0}}, {p}_set1_ps(1.0f))")
    if lanes == 16:
        yield row("load", "__m128i bytes = _mm_loadu_si128((const __m128i *)a);\nreturn _mm_test_epi8_mask(bytes, bytes);",
                  body=True)
        yield row("store", "_mm_storeu_si128((__m128i *)({0}), _mm_maskz_set1_epi8({1}, 1))")
    else:
        # Widened first: gcc 12 cannot compile a mask of 16 lanes that is cut to 8 (internal error).
        move = "_mm_loadl_epi64((const __m128i *)a)" if lanes == 8 else "_mm_cvtsi32_si128(bytes)"
        copy = "int bytes;\nmemcpy(&bytes, a, 4);\n" if lanes == 4 else ""
        vector = integer_type(lanes * 32)
        yield row("load", f"{copy}{vector} v = {p}_cvtepu8_epi32({move});\nreturn {p}_test_epi32_mask(v, v);", body=True)
        yield row("store", f"_mm_mask_storeu_epi8({{0}}, {ones:#x}, _mm_maskz_set1_epi8({{1}}, 1))")
