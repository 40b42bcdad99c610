"""Stores that saturate: vectors of i32, clamped to a narrow type, leave as bytes by instructions that saturate as they narrow.

A statement `y[i : i+n] = cast(min(max(v, low), high), i8)` is printed without its limits, and up to four of them whose
places are neighbours as one store. Rows: Key("store_saturated:N", T, lanes) stores N vectors of `lanes` i32. Floats become
integers of 8 bits by way of saturated i32, with NaN as 0, and so are such values too. Integers that are quantized as u8 and
then made i8, 128 less, differ from these in their highest bits: Key("store_turned:N", i8, lanes).

Sources: as in avx.py and neon.py; VPACKSSDW, VPACKUSWB and VPMOVSDB of volume 2, SQXTN and SQXTUN of DDI 0487.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgecc.backends.c.avx_names import AVX2, AVX512, prefix
from edgecc.backends.c.table import Key, Row
from edgecc.ir.types import DType
from edgecc.loop.ir import Body, Broadcast, Cast, Const, Expr, Let, Load, Op, Stmt, Store

GROUPS = (4, 2, 1)
"""Numbers of vectors a row may store."""

I8, U8 = DType.I8, DType.U8

TURNED = 128
"""How much less than an integer in u8 the one in i8 is that differs in the highest bit alone."""


@dataclass(frozen=True)
class Run:
    """`values` (i32, before their limits), stored side by side from the place of `first` on; `turned`: saturated to u8, less 128."""

    first: Store
    values: tuple[Expr, ...]
    turned: bool = False

    @property
    def row(self) -> str:
        """The operation that stores them."""
        return f"store_{'turned' if self.turned else 'saturated'}:{len(self.values)}"


def runs_of(stores: Sequence[Store], has_row: Callable[[str, DType, int], bool]) -> Iterator[Run | Store]:
    """Neighbouring statements that store, as runs; those that saturate nothing stay as they are, in front.

    The order changes. That is allowed where each element of memory that a value reads is written by its own store alone, as
    in every kernel (`Kernel.in_place`).
    """
    keyed: dict[tuple[object, ...], list[tuple[Store, Expr]]] = {}
    for store in stores:
        found = _joined(store, has_row)
        if found is None:
            yield store
        else:
            keyed.setdefault((store.buffer, store.index.terms, store.value.dtype, store.value.lanes, found.turned), []).append((store, found.value))
    for (*_, turned), same in keyed.items():
        same.sort(key=lambda item: item[0].index.const)
        position = 0
        while position < len(same):
            first = same[position][0]
            lanes, start = first.value.lanes, first.index.const
            count = next(n for n in GROUPS if n <= len(same) - position
                         and has_row(f"store_saturated:{n}", first.value.dtype, lanes)
                         and all(same[position + i][0].index.const == start + i * lanes for i in range(n)))
            yield Run(first, tuple(value for _, value in same[position:position + count]), bool(turned))
            position += count


def stores_together(body: Body, has_row: Callable[[str, DType, int], bool]) -> Body:
    """The statements of a block, what is bound between two stores that saturate in front of the first of them.

    Then the stores of a whole tile are one run, in which neighbours find each other. Only loads are moved, and only of buffers
    that none of the stores writes.
    """
    out: list[Stmt] = []
    position = 0
    while position < len(body):
        first = body[position]
        if not isinstance(first, Store) or _joined(first, has_row) is None:
            out.append(first)
            position += 1
            continue
        end = position
        while end < len(body) and (isinstance(body[end], Store) or _is_load_of_others(body[end], first.buffer)):
            end += 1
        part = body[position:end]
        if any(isinstance(stmt, Store) and stmt.buffer != first.buffer for stmt in part):
            out += part
        else:
            out += sorted(part, key=lambda stmt: isinstance(stmt, Store))
        position = end
    return tuple(out)


def _is_load_of_others(stmt: Stmt, buffer: str) -> bool:
    match stmt:
        case Let(value=Load(buffer=source) | Broadcast(arg=Load(buffer=source))):
            return source != buffer
    return False


@dataclass(frozen=True)
class Unlimited:
    """An i32 vector that becomes bytes by saturation; see `Run` for `turned`."""

    value: Expr
    turned: bool = False


def _joined(store: Store, has_row: Callable[[str, DType, int], bool]) -> Unlimited | None:
    """What a store of neighbouring lanes saturates, where there are instructions that do so."""
    found = unlimited(store.value) if store.stride == 1 and store.valid in (0, store.value.lanes) else None
    kind = "store_turned" if found is not None and found.turned else "store_saturated"
    return found if found is not None and has_row(f"{kind}:1", store.value.dtype, store.value.lanes) else None


def unlimited(value: Expr) -> Unlimited | None:
    """The i32 vector that becomes i8 or u8 in the end; None for other values."""
    match value:
        case _ if value.lanes == 1:
            return None
        case Cast(arg=Op("min", (Op("max", (inner, Const(low))), Const(high))), dtype=dtype) if (
                dtype in (I8, U8) and inner.dtype is DType.I32 and (int(low), int(high)) == tuple(map(int, dtype.limits))):
            return Unlimited(inner)
        case Cast(arg=inner, dtype=dtype) if dtype in (I8, U8) and inner.dtype is DType.F32:
            return Unlimited(Cast(inner, DType.I32))
        case Cast(arg=Op("sub", (Cast(arg=Cast(dtype=DType.U8) as number), Const(moved))), dtype=DType.I8) if int(moved) == TURNED:
            found = unlimited(number)
            return None if found is None else Unlimited(found.value, turned=True)
    return None


@dataclass(frozen=True)
class LowBits:
    """A run whose values stand in the lower 16 bits of `words`, with one number to be added to all; None for 0."""

    words: tuple[Expr, ...]
    offset: Const | Broadcast | None


def low_bits(run: Run) -> LowBits | None:
    """A run of values that are 16 bits of i32 each, plus the same scalar; None for other runs."""
    words: list[Expr] = []
    offsets: list[Const | Broadcast | None] = []
    for value in run.values:
        total, offset = value, None
        match value:
            case Op("add", (left, (Const() | Broadcast()) as moved)):
                total, offset = left, moved
        match total:
            case Cast(arg=Cast(arg=inner, dtype=DType.I16), dtype=DType.I32) if inner.dtype is DType.I32:
                words.append(inner)
                offsets.append(offset)
            case _:
                return None
    return LowBits(tuple(words), offsets[0]) if all(offset == offsets[0] for offset in offsets) else None


def addends_of(value: Expr) -> Iterator[Load]:
    """The loads of what multiply-adds in a value add to."""
    if isinstance(value, Op) and value.op == "fma" and isinstance(value.args[2], Load):
        yield value.args[2]
    for child in value.children():
        yield from addends_of(child)


BEYOND = "65536.0f"
"""Beyond the limits of every narrow type, and far from those of i32, behind which a conversion gives its least number."""


def conversion(value: Expr, dtype: DType, has_row: Callable[[str, DType, int], bool]) -> tuple[str, Expr] | None:
    """The row that makes integers of i32 that saturate to `dtype` as `value` does, a converted float, and its operand; None for other values.

    Rows: Key("converted:T", F32, lanes), and Key("rounded:T", F32, lanes) of floats that are rounded to the nearest first. NaN gives 0.
    """
    match value:
        case Cast(arg=Op("round", (inner,)), dtype=DType.I32) if inner.dtype is DType.F32 and has_row(f"rounded:{dtype.value}", DType.F32, inner.lanes):
            return f"rounded:{dtype.value}", inner
        case Cast(arg=inner, dtype=DType.I32) if inner.dtype is DType.F32 and has_row(f"converted:{dtype.value}", DType.F32, inner.lanes):
            return f"converted:{dtype.value}", inner
    return None


def _conversion_rows() -> Iterator[tuple[Key, Row]]:
    """A comparison that passes NaN on, and a conversion, which makes the least number of NaN: as u8 that is 0."""
    for lanes in (4, 8, 16):
        p, needs = prefix(32 * lanes), AVX512 if lanes == 16 else AVX2
        rounding = "cvt_roundps_epi32({}, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)" if lanes == 16 else "cvtps_epi32({})"
        for kind, convert in (("converted", "cvttps_epi32({})"), ("rounded", rounding)):
            limited = f"{p}_min_ps({p}_set1_ps({BEYOND}), {{}})"
            yield Key(f"{kind}:u8", DType.F32, lanes), Row(f"{p}_{convert.format(limited.format('{0}'))}", needs)
            if lanes < 16:
                ordered = f"{p}_and_ps({limited.format('a')}, {p}_cmp_ps(a, a, _CMP_ORD_Q))"
                yield Key(f"{kind}:i8", DType.F32, lanes), Row(f"return {p}_{convert.format(ordered)};", needs, body=True)
            else:
                masked = convert.format(f"_mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), {limited.format('a')}")
                yield Key(f"{kind}:i8", DType.F32, lanes), Row(f"return {p}_maskz_{masked};", needs, body=True)


def avx_rows() -> Iterator[tuple[Key, Row]]:
    """Those of AVX-512 follow, and so replace, those of AVX2."""
    yield from _conversion_rows()
    for dtype in (I8, U8):
        pack = "packus" if dtype is U8 else "packs"
        yield Key("store_saturated:1", dtype, 4), Row(
            f"__m128i words = _mm_packs_epi32(b, b);\nint bytes = _mm_cvtsi128_si32(_mm_{pack}_epi16(words, words));\n"
            "memcpy(a, &bytes, 4);", AVX2, body=True)
        yield Key("store_saturated:1", dtype, 8), Row(
            "__m128i words = _mm_packs_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));\n"
            f"_mm_storel_epi64((__m128i *)a, _mm_{pack}_epi16(words, words));", AVX2, body=True)
        yield Key("store_saturated:2", dtype, 8), Row(
            "__m256i words = _mm256_packs_epi32(b, c);\n"
            f"__m128i mixed = _mm_{pack}_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));\n"
            "_mm_storeu_si128((__m128i *)a, _mm_shuffle_epi32(mixed, 0xD8));", AVX2, body=True)
        def four(vectors: str, pack: str = pack) -> str:
            halves = [f"_mm256_packs_epi32({', '.join(vectors[place:place + 2])})" for place in (0, 2)]
            mixed = f"_mm256_{pack}_epi16({', '.join(halves)})"
            return f"_mm256_permutevar8x32_epi32({mixed}, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))"

        yield Key("store_saturated:4", dtype, 8), Row(f"_mm256_storeu_si256((__m256i *)a, {four('bcde')});", AVX2, body=True)
        yield Key("saturated", dtype, 8), Row(f"return {four('abcd')};", AVX2, body=True)
        if dtype is U8:
            yield Key("turned", I8, 8), Row(f"return _mm256_xor_si256({four('abcd')}, _mm256_set1_epi8((char)0x80));", AVX2, body=True)
        narrow = "_mm512_cvtusepi32_epi8(_mm512_max_epi32({1}, _mm512_setzero_si512()))" if dtype is U8 else "_mm512_cvtsepi32_epi8({1})"
        yield Key("store_saturated:1", dtype, 16), Row(f"_mm_storeu_si128((__m128i *)({{0}}), {narrow})", AVX512)
        words = "_mm512_packs_epi32(b, c)"
        bytes_ = (f"_mm512_cvtusepi16_epi8(_mm512_max_epi16({words}, _mm512_setzero_si512()))" if dtype is U8
                  else f"_mm512_cvtsepi16_epi8({words})")
        yield Key("store_saturated:2", dtype, 16), Row(
            f"__m256i mixed = {bytes_};\n"
            "_mm256_storeu_si256((__m256i *)a, _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7)));",
            AVX512, body=True)
        places = ", ".join(str(4 * (i % 4) + i // 4) for i in range(16))
        yield Key("store_saturated:4", dtype, 16), Row(
            f"__m512i mixed = _mm512_{pack}_epi16(_mm512_packs_epi32(b, c), _mm512_packs_epi32(d, e));\n"
            f"_mm512_storeu_si512(a, _mm512_permutexvar_epi32(_mm512_setr_epi32({places}), mixed));", AVX512, body=True)


def neon_rows() -> Iterator[tuple[Key, Row]]:
    """One, two and four vectors of four lanes; "saturated" and "turned" make one vector of bytes of four of them."""
    unsigned = Key("saturated", U8, 4)
    made = "vreinterpretq_s8_u8(veorq_u8(edgecc_saturated_u8x4({}), vdupq_n_u8(0x80)))"
    yield Key("turned", I8, 4), Row(f"return {made.format('a, b, c, d')};", ("neon",), body=True, uses=(unsigned,))
    yield Key("store_turned:4", I8, 4), Row(f"vst1q_s8(a, {made.format('b, c, d, e')});", ("neon",), body=True, uses=(unsigned,))
    yield Key("store_turned:2", I8, 4), Row(f"vst1_s8(a, vget_low_s8({made.format('b, c, b, c')}));", ("neon",), body=True, uses=(unsigned,))
    yield Key("store_turned:1", I8, 4), Row(
        f"uint32_t bytes = vgetq_lane_u32(vreinterpretq_u32_s8({made.format('b, b, b, b')}), 0);\nmemcpy(a, &bytes, 4);",
        ("neon",), body=True, uses=(unsigned,))
    for dtype in (I8, U8):
        narrow, s = ("vqmovun_s16", "u8") if dtype is U8 else ("vqmovn_s16", "s8")
        high = f"{narrow.removesuffix('_s16')}_high_s16"
        yield Key("store_saturated:1", dtype, 4), Row(
            "int16x4_t words = vqmovn_s32(b);\n"
            f"uint32_t bytes = vget_lane_u32(vreinterpret_u32_{s}({narrow}(vcombine_s16(words, words))), 0);\nmemcpy(a, &bytes, 4);",
            ("neon",), body=True)
        yield Key("store_saturated:2", dtype, 4), Row(f"vst1_{s}(a, {narrow}(vqmovn_high_s32(vqmovn_s32(b), c)));", ("neon",), body=True)
        four = "int16x8_t low = vqmovn_high_s32(vqmovn_s32({}), {}), high = vqmovn_high_s32(vqmovn_s32({}), {});\n"
        yield Key("store_saturated:4", dtype, 4), Row(f"{four.format(*'bcde')}vst1q_{s}(a, {high}({narrow}(low), high));", ("neon",), body=True)
        yield Key("saturated", dtype, 4), Row(f"{four.format(*'abcd')}return {high}({narrow}(low), high);", ("neon",), body=True)
        for plus in ("", "_plus"):
            def words(first: str, second: str, offset: str, plus: str = plus) -> str:
                low = f"vuzp1q_s16(vreinterpretq_s16_s32({first}), vreinterpretq_s16_s32({second}))"
                return f"vqaddq_s16({low}, vdupq_n_s16({offset}))" if plus else low

            yield Key(f"store_low{plus}:1", dtype, 4), Row(
                f"uint32_t bytes = vget_lane_u32(vreinterpret_u32_{s}({narrow}({words('b', 'b', 'c')})), 0);\nmemcpy(a, &bytes, 4);",
                ("neon",), body=True)
            yield Key(f"store_low{plus}:2", dtype, 4), Row(f"vst1_{s}(a, {narrow}({words('b', 'c', 'd')}));", ("neon",), body=True)
            yield Key(f"store_low{plus}:4", dtype, 4), Row(
                f"int16x8_t low = {words('b', 'c', 'f')}, high = {words('d', 'e', 'f')};\n"
                f"vst1q_{s}(a, {high}({narrow}(low), high));", ("neon",), body=True)
