"""bf16 products of x86-64 (AVX512_BF16): pairs of elements multiplied into sums of f32, and the conversion to bf16.

Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, VDPBF16PS and VCVTNEPS2BF16. Both take
subnormal numbers for zeros; where other code rounds to bf16, those keep their digits.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgecc.backends.c.avx_names import AVX512, prefix
from edgecc.backends.c.table import Key, Row
from edgecc.ir.types import DType

FEATURE = "avx512bf16"


def bf16_rows() -> Iterator[tuple[Key, Row]]:
    """All rows."""
    needs = (*AVX512, FEATURE)
    for lanes in (4, 8, 16):
        bits = lanes * 32
        p = prefix(bits)
        yield Key("dot_bf16", DType.F32, lanes), Row(f"{p}_dpbf16_ps({{2}}, (__m{bits}bh){{0}}, (__m{bits}bh){{1}})", needs)
        half, store = {4: ("128", "_mm_storel_epi64"), 8: ("128", "_mm_storeu_si128"), 16: ("256", "_mm256_storeu_si256")}[lanes]
        yield Key("store_rounded", DType.BF16, lanes), Row(
            f"{store}((__m{half}i *)({{0}}), (__m{half}i){p}_cvtneps_pbh({{1}}))", needs)
