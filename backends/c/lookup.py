"""Tables in registers: 64 or 32 bytes are looked up at once among 256, 16 floats among 16.

Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, VPERMI2B and VPERMT2B, which choose among 128 bytes
by seven bits (the eighth bit chooses between two of them), VPSHUFB, which chooses among 16 by four bits, VPBLENDVB, which chooses
between two by the uppermost bit, VPERMPS and VSCALEFPS.
"""

from __future__ import annotations

from collections.abc import Iterator
from string import ascii_lowercase

from edgecc.backends.c.avx_names import AVX2, AVX512
from edgecc.backends.c.table import Key, Row
from edgecc.ir.types import DType
from edgecc.loop.narrow import LOOKUP_LANES, TABLE_PARTS
from edgecc.loop.tables import PLACES

VBMI = "avx512vbmi"
"""Feature of permutations of bytes."""


def avx_rows() -> Iterator[tuple[Key, Row]]:
    """The lookup, loads and stores of bytes side by side, and a store that joins bytes of four vectors to words."""
    needs = (*AVX512, VBMI)

    def row(op: str, text: str, *, body: bool = False) -> tuple[Key, Row]:
        return Key(op, DType.U8, LOOKUP_LANES), Row(text, needs, body=body)

    yield row("load", "_mm512_loadu_si512({0})")
    yield row("store", "_mm512_storeu_si512({0}, {1})")
    for count in range(1, LOOKUP_LANES):
        mask = f"UINT64_C({(1 << count) - 1:#x})"
        yield row(f"load:{count}", f"_mm512_maskz_loadu_epi8({mask}, {{0}})")
        yield row(f"store:{count}", f"_mm512_mask_storeu_epi8({{0}}, {mask}, {{1}})")
    # Words of a vector of the result stand in one quarter of each plane, so quarters of quarters change places before they are joined.
    order = ", ".join(str(4 * (place % 4) + place // 4) for place in range(16))
    lines = [f"const __m512i order = _mm512_setr_epi32({order});"]
    lines += [f"{name} = _mm512_permutexvar_epi32(order, {name});" for name in "bcde"]
    for half, name in (("lo", "low"), ("hi", "high")):
        lines += [f"__m512i {name}_first = _mm512_unpack{half}_epi8(b, c), {name}_last = _mm512_unpack{half}_epi8(d, e);"]
    for number, (name, half) in enumerate((name, half) for name in ("low", "high") for half in ("lo", "hi")):
        lines.append(f"_mm512_storeu_si512(a + {16 * number}, _mm512_unpack{half}_epi16({name}_first, {name}_last));")
    yield row("store_words", "\n".join(lines), body=True)
    yield row("lookup", "__m512i low = _mm512_permutex2var_epi8(a, e, b), high = _mm512_permutex2var_epi8(c, e, d);\n"
                        "return _mm512_mask_blend_epi8(_mm512_movepi8_mask(e), low, high);", body=True)


def group_rows() -> Iterator[tuple[Key, Row]]:
    """Lookups of groups: in all sixteen parts of the table by the lower bits of a byte, among these by its upper bits, two by two."""
    *parts, groups = list(ascii_lowercase[:TABLE_PARTS + 1])
    lines = [f"const __m256i low = _mm256_and_si256({groups}, _mm256_set1_epi8(15));"]
    lines += [f"{part} = _mm256_shuffle_epi8({part}, low);" for part in parts]
    for bit in range(4, 8):
        lines.append(f"const __m256i bit{bit} = _mm256_slli_epi16({groups}, {7 - bit});")
        lines += [f"{first} = _mm256_blendv_epi8({first}, {second}, bit{bit});" for first, second in zip(parts[::2], parts[1::2], strict=True)]
        parts = parts[::2]
    yield Key("lookup_groups", DType.U32, 8), Row("\n".join([*lines, f"return {parts[0]};"]), AVX2, body=True)


def table_rows() -> Iterator[tuple[Key, Row]]:
    """The operations of edgecc/loop/tables.py."""
    numbers = ", ".join(f"{{{place}}}" for place in range(PLACES))
    picked = f"_mm512_permutexvar_ps(_mm512_castps_si512({{{PLACES}}}), _mm512_setr_ps({numbers}))"
    yield Key("pick", DType.F32, PLACES), Row(picked, AVX512)
    yield Key("scale", DType.F32, PLACES), Row("_mm512_scalef_ps({0}, {1})", AVX512)
