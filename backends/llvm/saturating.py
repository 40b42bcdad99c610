"""Vectors of i32 as bytes by instructions that saturate as they narrow, up to four vectors together.

The instructions are those of backends/c/saturating.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgecc.backends.c.saturating import TURNED
from edgecc.backends.llvm.memory import joined, permuted
from edgecc.backends.llvm.types import vector_of
from edgecc.backends.llvm.writer import Writer

_DWORDS = {8: "avx2.packssdw", 16: "avx512.packssdw.512"}
_WORDS = {4: "sse2.pack{}swb.128", 8: "avx2.pack{}swb", 16: "avx512.pack{}swb.512"}
"""Instructions of x86-64 by the lanes of i32 that their registers have; both work within 128 bits."""


def saturated(w: Writer, lanes: int, values: Sequence[str], *, signed: bool) -> str:
    """Bytes of one, two or four vectors of i32, in order."""
    if w.machine.architecture == "aarch64" and lanes == 4:
        words = [w.call("llvm.aarch64.neon.sqxtn.v4i16", "<4 x i16>", ("<4 x i32>", value)) for value in values]
        return _bytes_of_words(w, words, signed=signed)
    if w.machine.architecture == "x86_64" and len(values) > 1:
        return _packed(w, lanes, values, signed=signed)
    return joined(w, "i8", lanes, [_clamped(w, "i32", lanes, value, signed=signed) for value in values])


def turned(w: Writer, lanes: int, values: Sequence[str]) -> str:
    """The same, saturated to u8 and then 128 less, as i8."""
    return w.op("xor", vector_of("i8", lanes * len(values)), saturated(w, lanes, values, signed=False), _splat("i8", -TURNED))


def saturated_low(w: Writer, values: Sequence[str], offset: str, *, signed: bool) -> str:
    """Bytes of the lower 16 bits of vectors of four i32, plus a scalar i16 where `offset` names one (AArch64)."""
    words = joined(w, "i16", 4, [w.convert("trunc", "<4 x i32>", value, "<4 x i16>") for value in values])
    kind = vector_of("i16", 4 * len(values))
    if offset:
        words = w.intrinsic("sadd.sat", kind, words, offset)
    halves = [permuted(w, "i16", 4 * len(values), words, range(start, start + 4)) for start in range(0, 4 * len(values), 4)]
    return _bytes_of_words(w, halves, signed=signed)


def _splat(element: str, number: int) -> str:
    return f"splat ({element} {number})"


def _bytes_of_words(w: Writer, words: Sequence[str], *, signed: bool) -> str:
    """Bytes of vectors of four i16; the instruction narrows eight of them."""
    pairs = [words[place:place + 2] for place in range(0, len(words), 2)]
    narrow = [w.call(f"llvm.aarch64.neon.sqxt{'n' if signed else 'un'}.v8i8", "<8 x i8>",
                     ("<8 x i16>", joined(w, "i16", 4, (*pair, *pair)[:2]))) for pair in pairs]
    return permuted(w, "i8", 8, narrow[0], range(4)) if len(words) == 1 else joined(w, "i8", 8, narrow)


def _packed(w: Writer, lanes: int, values: Sequence[str], *, signed: bool) -> str:
    """Two or four vectors; what lies out of order, since packing stays within parts of 128 bits, is mended in the end."""
    words = [_pack(w, _DWORDS[lanes], "i32", lanes, values[place:place + 2]) for place in range(0, len(values), 2)]
    wide, name = 2 * lanes, "s" if signed else "u"
    if len(words) == 2:
        found = _pack(w, _WORDS[lanes].format(name), "i16", wide, words)
    elif lanes == 16:
        found = _clamped(w, "i16", wide, words[0], signed=signed)
    else:
        halves = [permuted(w, "i16", wide, words[0], range(start, start + lanes)) for start in (0, lanes)]
        found = _pack(w, _WORDS[lanes // 2].format(name), "i16", lanes, halves)
    vectors, parts = len(values), lanes // 4
    groups = vector_of("i32", vectors * parts)
    order = [part * vectors + vector for vector in range(vectors) for part in range(parts)]
    mended = permuted(w, "i32", vectors * parts, w.convert("bitcast", vector_of("i8", lanes * vectors), found, groups), order)
    return w.convert("bitcast", groups, mended, vector_of("i8", lanes * vectors))


def _pack(w: Writer, name: str, element: str, lanes: int, pair: Sequence[str]) -> str:
    """Both vectors as one of elements of half the width, which saturate."""
    kind = vector_of(element, lanes)
    return w.call(f"llvm.x86.{name}", vector_of("i8" if element == "i16" else "i16", 2 * lanes), (kind, pair[0]), (kind, pair[1]))


def _clamped(w: Writer, element: str, lanes: int, value: str, *, signed: bool) -> str:
    """Bytes of one vector, by a pattern that LLVM knows as one instruction where there is one."""
    kind, (low, high) = vector_of(element, lanes), (-128, 127) if signed else (0, 255)
    inside = w.intrinsic("smin", kind, w.intrinsic("smax", kind, value, _splat(element, low)), _splat(element, high))
    return w.convert("trunc", kind, inside, vector_of("i8", lanes))
