"""Conversions of AVX2 and AVX-512: narrow integers, half precision floats, and casts between types.

Narrow integers lie in 32-bit lanes and half precision values in float lanes (see table.py); their
loads widen and their stores narrow. Source: see avx.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgecc.backends.c.avx_names import (
    AVX2,
    AVX512,
    F32,
    F64,
    I32,
    I64,
    MASK_NARROW,
    U32,
    U64,
    integer_type,
    needs_of,
    prefix,
)
from edgecc.backends.c.table import Key, Row
from edgecc.ir.types import DType


def conversion_rows() -> Iterator[tuple[Key, Row]]:
    """All rows of this module; those of AVX-512 follow, and so replace, those of AVX2."""
    for lanes in (4, 8):
        yield from _avx2_narrow(lanes)
    for lanes in (4, 8, 16):
        yield from _avx512_narrow(lanes)
        yield from _half_rows(lanes)
        yield from _word_casts(lanes)
        if lanes <= 8:
            yield from _double_casts(lanes)


# -- narrow types ---------------------------------------------------------------------------------


def _normalize_rows(lanes: int) -> Iterator[tuple[Key, Row]]:
    bits = lanes * 32
    p = prefix(bits)
    for dtype in (DType.I8, DType.I16):
        shift = 32 - dtype.size * 8
        yield Key("normalize", dtype, lanes), Row(f"{p}_srai_epi32({p}_slli_epi32({{0}}, {shift}), {shift})", needs_of(bits))
    for dtype in (DType.U8, DType.U16):
        mask = (1 << dtype.size * 8) - 1
        yield Key("normalize", dtype, lanes), Row(f"{p}_and_si{bits}({{0}}, {p}_set1_epi32({mask:#x}))", needs_of(bits))


def _extend(dtype: DType) -> str:
    return f"ep{'i' if dtype.is_signed else 'u'}{dtype.size * 8}"


def _avx2_narrow(lanes: int) -> Iterator[tuple[Key, Row]]:
    """Loads and stores of 8- and 16-bit integers held in 32-bit lanes."""
    yield from _normalize_rows(lanes)
    p = prefix(lanes * 32)
    for dtype in (DType.I8, DType.U8, DType.I16, DType.U16):
        bytes_moved = lanes * dtype.size

        def row(op: str, text: str, *, body: bool, dtype: DType = dtype) -> tuple[Key, Row]:
            return Key(op, dtype, lanes), Row(text, AVX2, body=body)

        if bytes_moved == 4:
            yield row("load", f"int bytes;\nmemcpy(&bytes, a, 4);\nreturn {p}_cvt{_extend(dtype)}_epi32("
                              "_mm_cvtsi32_si128(bytes));", body=True)
        else:
            load = "_mm_loadl_epi64" if bytes_moved == 8 else "_mm_loadu_si128"
            yield row("load", f"{p}_cvt{_extend(dtype)}_epi32({load}((const __m128i *)({{0}})))", body=False)
        mask = "0xFF" if dtype.size == 1 else "0xFFFF"
        lines = [f"{integer_type(lanes * 32)} low = {p}_and_si{lanes * 32}(b, {p}_set1_epi32({mask}));"]
        if lanes == 8:
            lines.append("__m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));")
        else:
            lines.append("__m128i packed = _mm_packus_epi32(low, low);")
        if dtype.size == 1:
            lines.append("packed = _mm_packus_epi16(packed, packed);")
        if bytes_moved == 4:
            lines.append("int bytes = _mm_cvtsi128_si32(packed);\nmemcpy(a, &bytes, 4);")
        else:
            lines.append(f"{'_mm_storel_epi64' if bytes_moved == 8 else '_mm_storeu_si128'}((__m128i *)a, packed);")
        yield row("store", "\n".join(lines), body=True)


def _avx512_narrow(lanes: int) -> Iterator[tuple[Key, Row]]:
    yield from _normalize_rows(lanes) if lanes == 16 else ()
    p = prefix(lanes * 32)
    for dtype in (DType.I8, DType.U8, DType.I16, DType.U16):
        e = f"epi{dtype.size * 8}"
        narrow = 256 if lanes * dtype.size == 32 else 128

        if lanes == 16:
            yield Key("load", dtype, lanes), Row(f"{p}_cvt{_extend(dtype)}_epi32({prefix(narrow)}_loadu_si{narrow}"
                                                 f"((const {integer_type(narrow)} *)({{0}})))", AVX512)
        elif lanes * dtype.size <= 8:
            # A plain load would become part of a masked conversion, on which gcc 12 fails (internal error).
            yield Key("load", dtype, lanes), Row(f"{p}_cvt{_extend(dtype)}_epi32(_mm_maskz_loadu_{e}({(1 << lanes) - 1:#x}, {{0}}))",
                                                 AVX512)
        yield Key("store", dtype, lanes), Row(f"{p}_mask_cvtepi32_storeu_{e}({{0}}, {(1 << lanes) - 1:#x}, {{1}})", AVX512)
        for count in range(1, lanes):
            mask = f"{(1 << count) - 1:#x}"
            yield Key(f"load:{count}", dtype, lanes), Row(
                f"{p}_cvt{_extend(dtype)}_epi32({prefix(narrow)}_maskz_loadu_{e}({mask}, {{0}}))", AVX512)
            yield Key(f"store:{count}", dtype, lanes), Row(f"{p}_mask_cvtepi32_storeu_{e}({{0}}, {mask}, {{1}})", AVX512)


def _half_rows(lanes: int) -> Iterator[tuple[Key, Row]]:
    """f16 and bf16 held as float."""
    bits = lanes * 32
    p, needs = prefix(bits), needs_of(bits)
    half_bits = max(128, bits // 2)
    pointer = integer_type(half_bits)
    load = {4: "_mm_loadl_epi64", 8: "_mm_loadu_si128", 16: "_mm256_loadu_si256"}[lanes]
    store = {4: "_mm_storel_epi64", 8: "_mm_storeu_si128", 16: "_mm256_storeu_si256"}[lanes]
    nearest = "_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC" if lanes == 16 else "_MM_FROUND_TO_NEAREST_INT"
    f16, bf16 = DType.F16, DType.BF16
    yield Key("load", f16, lanes), Row(f"{p}_cvtph_ps({load}((const {pointer} *)({{0}})))", needs)
    yield Key("store", f16, lanes), Row(f"{store}(({pointer} *)({{0}}), {p}_cvtps_ph({{1}}, {nearest}))", needs)
    yield Key("normalize", f16, lanes), Row(f"{p}_cvtph_ps({p}_cvtps_ph({{0}}, {nearest}))", needs)
    yield Key("load", bf16, lanes), Row(
        f"{p}_castsi{bits}_ps({p}_slli_epi32({p}_cvtepu16_epi32({load}((const {pointer} *)({{0}}))), 16))", needs)
    blend = (f"{p}_blendv_epi8(rounded, quiet, {p}_castps_si{bits}({p}_cmp_ps(a, a, _CMP_UNORD_Q)))" if bits < 512
             else "_mm512_mask_blend_epi32(_mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), rounded, quiet)")
    vector = integer_type(bits)
    yield Key("normalize", bf16, lanes), Row(
        f"{vector} bits = {p}_castps_si{bits}(a);\n"
        f"{vector} last = {p}_and_si{bits}({p}_srli_epi32(bits, 16), {p}_set1_epi32(1));\n"
        f"{vector} rounded = {p}_add_epi32(bits, {p}_add_epi32(last, {p}_set1_epi32(0x7FFF)));\n"
        f"{vector} quiet = {p}_or_si{bits}(bits, {p}_set1_epi32(0x400000));\n"
        f"return {p}_castsi{bits}_ps({p}_and_si{bits}({blend}, {p}_set1_epi32((int)0xFFFF0000u)));", needs, body=True)
    upper = f"{p}_srli_epi32({p}_castps_si{bits}({{1}}), 16)"
    yield Key("store", bf16, lanes), Row(f"edgecc_store_u16x{lanes}({{0}}, {upper})" if lanes < 16 else
                                         f"_mm512_mask_cvtepi32_storeu_epi16({{0}}, 0xffff, {upper})", needs,
                                         uses=(Key("store", DType.U16, lanes),) if lanes < 16 else ())
    if lanes < 16:
        yield Key("store", bf16, lanes), Row(f"{p}_mask_cvtepi32_storeu_epi16({{0}}, {(1 << lanes) - 1:#x}, {upper})", AVX512)


# -- conversions ----------------------------------------------------------------------------------


def _word_casts(lanes: int) -> Iterator[tuple[Key, Row]]:
    """Casts among numbers of 32 bits, and to shorter integers."""
    bits = lanes * 32
    p, needs = prefix(bits), needs_of(bits)
    vector = integer_type(bits)
    yield Key("cast:f32", I32, lanes), Row(f"{p}_cvtepi32_ps({{0}})", needs)
    yield Key("cast:f32", U32, lanes), Row(f"{p}_cvtepu32_ps({{0}})", AVX512)
    nearest = ("_mm512_cvt_roundps_epi32({0}, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)" if bits == 512
               else f"{p}_cvtps_epi32({{0}})")
    yield Key("nearest", F32, lanes), Row(nearest, needs)
    # The instruction gives 0x80000000 for everything out of range and for NaN.
    if bits < 512:
        yield Key("cast:i32", F32, lanes), Row(
            f"{vector} huge = {p}_castps_si{bits}({p}_cmp_ps(a, {p}_set1_ps(0x1p31f), _CMP_GE_OQ));\n"
            f"{vector} number = {p}_castps_si{bits}({p}_cmp_ps(a, a, _CMP_ORD_Q));\n"
            f"return {p}_and_si{bits}({p}_xor_si{bits}({p}_cvttps_epi32(a), huge), number);", AVX2, body=True)
    yield Key("cast:i32", F32, lanes), Row(
        f"{vector} inside = {p}_maskz_cvttps_epi32({p}_cmp_ps_mask(a, a, _CMP_ORD_Q), a);\n"
        f"return {p}_mask_blend_epi32({p}_cmp_ps_mask(a, {p}_set1_ps(0x1p31f), _CMP_GE_OQ), inside, "
        f"{p}_set1_epi32(INT32_MAX));", AVX512, body=True)
    # Limits first: a maximum takes its second operand where the first is NaN, which has to become 0.
    for dtype in (DType.I8, DType.U8, DType.I16, DType.U16):
        low, high = (f"{p}_set1_ps({float(limit)}f)" for limit in dtype.limits)
        inside = f"{p}_min_ps({p}_max_ps({{0}}, {low}), {high})"
        if not dtype.is_signed:
            yield Key(f"cast:{dtype.value}", F32, lanes), Row(f"{p}_cvttps_epi32({inside})", needs)
            continue
        inside = inside.format("a")
        if bits < 512:
            yield Key(f"cast:{dtype.value}", F32, lanes), Row(
                f"{vector} number = {p}_castps_si{bits}({p}_cmp_ps(a, a, _CMP_ORD_Q));\n"
                f"return {p}_and_si{bits}({p}_cvttps_epi32({inside}), number);", AVX2, body=True)
        yield Key(f"cast:{dtype.value}", F32, lanes), Row(
            f"return {p}_maskz_cvttps_epi32({p}_cmp_ps_mask(a, a, _CMP_ORD_Q), {inside});", AVX512, body=True)
    yield Key("cast:u32", F32, lanes), Row(f"{p}_cvttps_epu32({p}_max_ps({{0}}, {p}_setzero_ps()))", AVX512)


def _double_casts(lanes: int) -> Iterator[tuple[Key, Row]]:
    """Casts from and to numbers of 64 bits."""
    wide_bits = lanes * 64
    w, wide_needs = prefix(wide_bits), needs_of(wide_bits)
    yield Key("cast:f64", F32, lanes), Row(f"{w}_cvtps_pd({{0}})", wide_needs)
    yield Key("cast:f32", F64, lanes), Row(f"{w}_cvtpd_ps({{0}})", wide_needs)
    yield Key("cast:f64", I32, lanes), Row(f"{w}_cvtepi32_pd({{0}})", wide_needs)
    # NaN becomes 0 because max returns its second operand; the bounds are exact in double.
    clamped = (f"{w}_min_pd({w}_max_pd(number, {w}_set1_pd(-2147483648.0)), {w}_set1_pd(2147483647.0))")
    number = (f"{w}_and_pd(a, {w}_cmp_pd(a, a, _CMP_ORD_Q))" if wide_bits < 512
              else "_mm512_maskz_mov_pd(_mm512_cmp_pd_mask(a, a, _CMP_ORD_Q), a)")
    yield Key("cast:i32", F64, lanes), Row(f"__m{wide_bits}d number = {number};\nreturn {w}_cvttpd_epi32({clamped});",
                                           wide_needs, body=True)
    for wide in (I64, U64):
        yield Key(f"cast:{wide.value}", I32, lanes), Row(f"{w}_cvtepi32_epi64({{0}})", wide_needs)
        yield Key(f"cast:{wide.value}", U32, lanes), Row(f"{w}_cvtepu32_epi64({{0}})", wide_needs)
        for narrow in (I32, U32):
            if lanes == 4:
                yield Key(f"cast:{narrow.value}", wide, lanes), Row("edgecc_mask_narrow({0})", AVX2, (MASK_NARROW,))
            yield Key(f"cast:{narrow.value}", wide, lanes), Row(f"{w}_cvtepi64_epi32({{0}})", AVX512)
    yield Key("cast:f64", I64, lanes), Row(f"{w}_cvtepi64_pd({{0}})", AVX512)
    yield Key("cast:f32", I64, lanes), Row(f"{w}_cvtepi64_ps({{0}})", AVX512)
    yield Key("cast:i64", F64, lanes), Row(
        f"{integer_type(wide_bits)} inside = {w}_maskz_cvttpd_epi64({w}_cmp_pd_mask(a, a, _CMP_ORD_Q), a);\n"
        f"return {w}_mask_blend_epi64({w}_cmp_pd_mask(a, {w}_set1_pd(0x1p63), _CMP_GE_OQ), inside, "
        f"{w}_set1_epi64{'x' if wide_bits < 512 else ''}(INT64_MAX));", AVX512, body=True)
