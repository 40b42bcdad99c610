"""Stores that interleave: vectors whose lanes alternate in memory leave by one instruction.

Neighbouring statements `y[i + j : stride n] = v_j` for j = 0 .. n-1 are printed as one store. Rows: Key("store_interleaved:N",
T, lanes) stores N vectors. Vectors of i32 that leave as saturated bytes (saturating.py) do so four for each j, of which
instructions make one vector of bytes.

Sources: ST2, ST3 and ST4 (multiple structures) of DDI 0487; VPSHUFB, VPUNPCKLBW and VPERM2I128 of volume 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from edgecc.backends.c.avx_names import AVX2
from edgecc.backends.c.saturating import unlimited
from edgecc.backends.c.table import Key, Row
from edgecc.ir.types import DType
from edgecc.loop.ir import Expr, Store

VECTORS = (2, 3, 4)
"""Numbers of vectors a row may store."""

JOINED = 4
"""Vectors of i32 that make one of bytes."""


def groups_of(stores: Sequence[Store], has_row: Callable[[str, DType, int], bool]) -> Iterator[tuple[Store, ...]]:
    """The statements in order; those that one instruction stores as one group: of `stride` statements, or `JOINED` times as many.

    The values of a group are read before any of it is written: no value may be read from where another is stored.
    """
    position = 0
    while position < len(stores):
        first = stores[position]
        bytes_ = tuple(stores[position:position + JOINED * first.stride])
        group = tuple(stores[position:position + first.stride])
        if _is_joined(bytes_) and _alternates(bytes_) and has_row(f"store_interleaved:{first.stride}", first.value.dtype, JOINED * first.value.lanes):
            group = bytes_
        elif not _alternates(group) or not has_row(f"store_interleaved:{first.stride}", first.value.dtype, first.value.lanes):
            group = (first,)
        yield group
        position += len(group)


def _is_joined(group: Sequence[Store]) -> bool:
    """Whether a group consists of vectors of i32 that leave as bytes, all in one way."""
    ways = {None if found is None else found.turned for found in (unlimited(store.value) for store in group)}
    return len(group) == JOINED * group[0].stride and len(ways) == 1 and None not in ways


def joined_parts(group: Sequence[Store]) -> Iterator[tuple[str, tuple[Expr, ...]]]:
    """For each place of a group of bytes: the operation that makes one vector of bytes, and the vectors of i32."""
    stride = group[0].stride
    for place in range(stride):
        parts = [found for store in group[place::stride] if (found := unlimited(store.value)) is not None]
        yield "turned" if parts[0].turned else "saturated", tuple(part.value for part in parts)


def _alternates(group: Sequence[Store]) -> bool:
    """Whether whole vectors of one kind follow one another, `stride` of them with alternating lanes."""
    first = group[0]
    stride, lanes = first.stride, first.value.lanes
    return stride in VECTORS and len(group) % stride == 0 and lanes > 1 and all(
        (s.buffer, s.stride, s.value.dtype, s.value.lanes) == (first.buffer, stride, first.value.dtype, lanes) and s.valid in (0, lanes)
        and s.index == first.index + place // stride * (stride * lanes) + place % stride for place, s in enumerate(group))


def byte_rows() -> Iterator[tuple[Key, Row]]:
    """Sixteen bytes of each vector."""
    for dtype, s, prefix in ((DType.I8, "s8", ""), (DType.U8, "u8", "u")):
        for count in VECTORS:
            vectors = ", ".join("bcde"[:count])
            yield Key(f"store_interleaved:{count}", dtype, 16), Row(
                f"vst{count}q_{s}(a, (({prefix}int8x16x{count}_t){{{{{vectors}}}}}));", ("neon",), body=True)


def avx_rows() -> Iterator[tuple[Key, Row]]:
    """Thirty-two bytes of each vector. Shuffles stay within 128 bits: each makes parts of two places, which are put together at the end."""
    for dtype in (DType.I8, DType.U8):
        for count in VECTORS:
            parts, order = _avx_thirds() if count == 3 else _avx_zipped(count)
            stores = [f"_mm256_storeu_si256((__m256i *)(a + {32 * place}), _mm256_permute2x128_si256({first}, {second}, {half}));"
                      for place, (first, second, half) in enumerate(order)]
            yield Key(f"store_interleaved:{count}", dtype, 32), Row("\n".join([*parts, *stores]), AVX2, body=True)


def _avx_zipped(count: int) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Two or four vectors: elements of two are joined, then pairs of those."""
    parts = ["__m256i low = _mm256_unpacklo_epi8(b, c), high = _mm256_unpackhi_epi8(b, c);"]
    names = ["low", "high"]
    if count == 4:
        parts += ["__m256i low2 = _mm256_unpacklo_epi8(d, e), high2 = _mm256_unpackhi_epi8(d, e);",
                  "__m256i f = _mm256_unpacklo_epi16(low, low2), g = _mm256_unpackhi_epi16(low, low2);",
                  "__m256i h = _mm256_unpacklo_epi16(high, high2), i = _mm256_unpackhi_epi16(high, high2);"]
        names = ["f", "g", "h", "i"]
    pairs = [(names[place], names[place + 1]) for place in range(0, count, 2)]
    return parts, [(*pair, half) for half in ("0x20", "0x31") for pair in pairs]


def _avx_thirds() -> tuple[list[str], list[tuple[str, str, str]]]:
    """Three vectors: byte p of 48 is element p / 3 of vector p % 3."""
    parts = []
    for third, name in enumerate("fgh"):
        taken = []
        for number, vector in enumerate("bcd"):
            places = [p // 3 if p % 3 == number else -1 for p in range(16 * third, 16 * third + 16)]
            taken.append(f"_mm256_shuffle_epi8({vector}, _mm256_broadcastsi128_si256(_mm_setr_epi8({', '.join(map(str, places))})))")
        parts.append(f"__m256i {name} = _mm256_or_si256({taken[0]}, _mm256_or_si256({taken[1]}, {taken[2]}));")
    return parts, [("f", "g", "0x20"), ("h", "f", "0x30"), ("g", "h", "0x31")]


def half_rows(needs: tuple[str, ...]) -> Iterator[tuple[Key, Row]]:
    """Halves of one register, and of half of one."""
    for lanes, q in ((8, "q"), (4, "")):
        for count in VECTORS:
            words = ", ".join(f"vreinterpret{q}_u16_f16({name})" for name in "bcde"[:count])
            yield Key(f"store_interleaved:{count}", DType.F16, lanes), Row(
                f"vst{count}{q}_u16(a, ((uint16x{lanes}x{count}_t){{{{{words}}}}}));", needs, body=True)
