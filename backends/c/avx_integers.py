"""Integers of 32 and 64 bits in vectors of x86-64: AVX2, and what AVX-512 has instead. Source: see avx.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgecc.backends.c.avx_names import (
    AVX2,
    AVX512,
    F32,
    F64,
    I32,
    I64,
    MASK_NARROW,
    MASK_WIDEN,
    U32,
    U64,
    Vector,
    integer_type,
    lane_mask,
    prefix,
)
from edgecc.backends.c.table import STORAGE, Key, Row
from edgecc.ir.types import DType

_RELATIONS = {"lt": "_MM_CMPINT_LT", "le": "_MM_CMPINT_LE", "eq": "_MM_CMPINT_EQ"}
_TWINS = {I32: U32, U32: I32, I64: U64, U64: I64}


def integer_rows(dtype: DType, bits: int) -> Iterator[tuple[Key, Row]]:
    """All rows of a type in vectors of `bits` bits; those of AVX-512 follow those of AVX2 that they replace."""
    vector = _Integers(dtype, bits)
    yield from _whole(vector)
    yield from _arithmetic(vector)
    yield from _bitwise(vector)
    yield from _choices(vector)
    yield from _parts(vector)
    yield from _bitcasts(vector)


@dataclass(frozen=True)
class _Integers(Vector):
    """A vector of integers, and the parts of the names of its intrinsics."""

    @property
    def element(self) -> str:
        """epi32, of instructions that do not look at signs."""
        return f"epi{self.dtype.size * 8}"

    @property
    def number(self) -> str:
        """epi32 or epu32, of instructions that do."""
        return self.element if self.dtype.is_signed else f"epu{self.dtype.size * 8}"

    @property
    def whole(self) -> str:
        """si256, of instructions to which all bits are alike."""
        return f"si{self.bits}"

    @property
    def needs_for_wide(self) -> tuple[str, ...]:
        """What operations need that AVX2 has for 32 bits only."""
        return self.needs if self.dtype.size == 4 else AVX512


def _whole(v: _Integers) -> Iterator[tuple[Key, Row]]:
    """Whole vectors: from and to memory, and of one number."""
    pointer, scalar = integer_type(v.bits), "long long" if v.dtype.size == 8 else "int"
    set1 = "epi64x" if v.dtype.size == 8 and v.bits < 512 else v.element
    yield v.row("load", f"{v.prefix}_loadu_{v.whole}((const {pointer} *)({{0}}))")
    yield v.row("store", f"{v.prefix}_storeu_{v.whole}(({pointer} *)({{0}}), {{1}})")
    yield v.row("broadcast", f"{v.prefix}_set1_{set1}(({scalar}){{0}})")
    yield v.row("zero", f"{v.prefix}_setzero_{v.whole}()")


def _arithmetic(v: _Integers) -> Iterator[tuple[Key, Row]]:
    p = v.prefix
    for op in ("add", "sub"):
        yield v.row(op, f"{p}_{op}_{v.element}({{0}}, {{1}})")
    yield v.row("mul", f"{p}_mullo_{v.element}({{0}}, {{1}})", v.needs_for_wide)
    for op in ("min", "max"):
        yield v.row(op, f"{p}_{op}_{v.number}({{0}}, {{1}})", v.needs_for_wide)
    yield v.row("neg", f"{p}_sub_{v.element}({p}_setzero_{v.whole}(), {{0}})")
    if v.dtype.is_signed:
        yield v.row("abs", f"{p}_abs_{v.element}({{0}})", v.needs_for_wide)
    if v.dtype is I32:
        yield v.row("sign", f"{p}_max_epi32({p}_min_epi32({{0}}, {p}_set1_epi32(1)), {p}_set1_epi32(-1))")
    if v.dtype.size == 4:
        for op, suffix in (("add", v.element), ("min", v.number), ("max", v.number)):
            yield v.row(f"horizontal:{op}", _horizontal(f"{op}_{suffix}", STORAGE[v.dtype], v.bits), body=True)


def _bitwise(v: _Integers) -> Iterator[tuple[Key, Row]]:
    p, e = v.prefix, v.element
    for op in ("and", "or", "xor"):
        yield v.row(f"bit_{op}", f"{p}_{op}_{v.whole}({{0}}, {{1}})")
    yield v.row("bit_not", f"{p}_xor_{v.whole}({{0}}, {p}_set1_epi32(-1))")
    yield v.row("shift_left", f"{p}_sllv_{e}({{0}}, {{1}})")
    yield v.row("shift_left_const", f"{p}_slli_{e}({{0}}, {{1}})")
    if v.dtype.is_signed:
        yield v.row("shift_right_const", f"{p}_srai_{e}({{0}}, {{1}})", v.needs_for_wide)
    else:
        yield v.row("shift_right", f"{p}_srlv_{e}({{0}}, {{1}})")
        yield v.row("shift_right_const", f"{p}_srli_{e}({{0}}, {{1}})")


def _choices(v: _Integers) -> Iterator[tuple[Key, Row]]:
    """Comparisons, and what is chosen by them."""
    p = v.prefix
    for op, relation in _RELATIONS.items():
        if v.bits < 512:
            yield from _avx2_comparison(v, op)
        yield v.row(op, f"{p}_cmp_{v.number}_mask({{0}}, {{1}}, {relation})", AVX512)
    if v.bits < 512:
        wide, uses = ("edgecc_mask_widen({0})", (MASK_WIDEN,)) if v.dtype.size == 8 else ("{0}", ())
        yield v.row("select", f"{p}_blendv_epi8({{2}}, {{1}}, {wide})", uses=uses)
    yield v.row("select", f"{p}_mask_blend_{v.element}({{0}}, {{2}}, {{1}})", AVX512)


def _parts(v: _Integers) -> Iterator[tuple[Key, Row]]:
    """The first lanes from and to memory, and single ones."""
    p, e, lanes = v.prefix, v.element, v.lanes
    words = v.dtype.size // 4
    element = "int" if words == 1 else "long long"
    for count in range(1, lanes):
        if v.bits < 512:
            mask = lane_mask(words * count, words * lanes)
            yield v.row(f"load:{count}", f"{p}_maskload_{e}((const {element} *)({{0}}), {mask})")
            yield v.row(f"store:{count}", f"{p}_maskstore_{e}(({element} *)({{0}}), {mask}, {{1}})")
        yield v.row(f"load:{count}", f"{p}_maskz_loadu_{e}({(1 << count) - 1:#x}, {{0}})", AVX512)
        yield v.row(f"store:{count}", f"{p}_mask_storeu_{e}({{0}}, {(1 << count) - 1:#x}, {{1}})", AVX512)
    for position in range(lanes):
        yield v.row(f"lane:{position}", f"return ((__v{lanes}{'s' if words == 1 else 'd'}i)a)[{position}];", body=True)


def _bitcasts(v: _Integers) -> Iterator[tuple[Key, Row]]:
    """The same bits as another type: floats of this size, and integers of the other sign, which casts give as well."""
    other, s = (F32, "ps") if v.dtype.size == 4 else (F64, "pd")
    yield v.row(f"bitcast:{other.value}", f"{v.prefix}_cast{v.whole}_{s}({{0}})")
    yield Key(f"bitcast:{v.dtype.value}", other, v.lanes), Row(f"{v.prefix}_cast{s}_{v.whole}({{0}})", v.needs)
    twin = _TWINS[v.dtype]
    yield v.row(f"bitcast:{twin.value}", "{0}")
    yield v.row(f"cast:{twin.value}", "{0}")


def _horizontal(operation: str, scalar: str, bits: int) -> str:
    """Body that combines the upper half of integers of 32 bits with the lower one until one lane is left."""
    lines, name, width = [], "a", bits
    while width > 128:
        half = width // 2
        upper = f"_mm512_extracti64x4_epi64({name}, 1)" if width == 512 else f"_mm256_extracti128_si256({name}, 1)"
        lines.append(f"__m{half}i v{half} = {prefix(half)}_{operation}({prefix(width)}_castsi{width}_si{half}({name}), {upper});")
        name, width = f"v{half}", half
    lines.append(f"__m128i pair = _mm_{operation}({name}, _mm_unpackhi_epi64({name}, {name}));")
    lines.append(f"return ({scalar})_mm_cvtsi128_si32(_mm_{operation}(pair, _mm_shuffle_epi32(pair, 1)));")
    return "\n".join(lines)


def _avx2_comparison(v: _Integers, op: str) -> Iterator[tuple[Key, Row]]:
    """AVX2 has only == and signed >; unsigned order comes from min and max, which exist for 32 bits."""
    p, e, dtype = v.prefix, v.element, v.dtype
    negated = False
    if op == "eq":
        text = f"{p}_cmpeq_{e}({{0}}, {{1}})"
    elif dtype.is_signed:
        text = f"{p}_cmpgt_{e}({{1}}, {{0}})" if op == "lt" else f"{p}_cmpgt_{e}({{0}}, {{1}})"
        negated = op == "le"
    elif dtype is U32:
        chosen = "min" if op == "le" else "max"
        text = f"{p}_cmpeq_{e}({p}_{chosen}_epu32(a, b), a)"
        negated = op == "lt"
    else:
        return
    if negated:
        text = f"{p}_xor_{v.whole}({text}, {p}_set1_epi32(-1))"
    uses: tuple[Key, ...] = ()
    if dtype.size == 8:
        text, uses = f"edgecc_mask_narrow({text})", (MASK_NARROW,)
    is_body = "(a, b)" in text
    yield v.row(op, f"return {text};" if is_body else text, AVX2, body=is_body, uses=uses)
