"""Tables of 256 bytes in registers: 64 bytes are looked up at once.

Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, VPERMI2B and VPERMT2B, which choose among 128 bytes
by seven bits; the eighth bit chooses between two of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgecc.backends.c.avx_convert import AVX512
from edgecc.backends.c.table import Key, Row
from edgecc.ir.types import DType
from edgecc.loop.narrow import LOOKUP_LANES

VBMI = "avx512vbmi"
"""Feature of permutations of bytes."""


def avx_rows() -> Iterator[tuple[Key, Row]]:
    """The lookup, and loads and stores of bytes side by side."""
    needs = (*AVX512, VBMI)

    def row(op: str, text: str, *, body: bool = False) -> tuple[Key, Row]:
        return Key(op, DType.U8, LOOKUP_LANES), Row(text, needs, body=body)

    yield row("load", "_mm512_loadu_si512({0})")
    yield row("store", "_mm512_storeu_si512({0}, {1})")
    for count in range(1, LOOKUP_LANES):
        mask = f"UINT64_C({(1 << count) - 1:#x})"
        yield row(f"load:{count}", f"_mm512_maskz_loadu_epi8({mask}, {{0}})")
        yield row(f"store:{count}", f"_mm512_mask_storeu_epi8({{0}}, {mask}, {{1}})")
    yield row("lookup", "__m512i low = _mm512_permutex2var_epi8(a, e, b), high = _mm512_permutex2var_epi8(c, e, d);\n"
                        "return _mm512_mask_blend_epi8(_mm512_movepi8_mask(e), low, high);", body=True)
