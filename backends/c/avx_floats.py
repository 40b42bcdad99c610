"""Floats of 32 and 64 bits in vectors of x86-64: AVX2, and what AVX-512 has instead. Source: see avx.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgecc.backends.c.avx_names import AVX2, AVX512, F32, F64, MASK_NARROW, MASK_WIDEN, Vector, lane_mask, prefix
from edgecc.backends.c.table import Key, Row, helper_name
from edgecc.ir.types import DType

_ROUNDINGS = {"floor": "0x09", "ceil": "0x0A", "round": "0x08"}
"""Immediate operand: rounding mode, and no inexact exception (bit 3)."""

_COMPARE_FLOAT = {"lt": "_CMP_LT_OQ", "le": "_CMP_LE_OQ", "eq": "_CMP_EQ_OQ"}


def float_rows(dtype: DType, bits: int) -> Iterator[tuple[Key, Row]]:
    """All rows of a type in vectors of `bits` bits; those of AVX-512 follow those of AVX2 that they replace."""
    vector = _Floats(dtype, bits)
    yield from _whole(vector)
    yield from _arithmetic(vector)
    yield from _extrema(vector)
    yield from _choices(vector)
    yield from _kind_rows(dtype, bits)
    yield from _parts(vector)
    for op in ("add", "mul", "min", "max"):
        yield vector.row(f"horizontal:{op}", _horizontal(op, dtype, bits), body=True, uses=_horizontal_uses(op, dtype, vector.lanes))


@dataclass(frozen=True)
class _Floats(Vector):
    """A vector of floats."""

    @property
    def suffix(self) -> str:
        """ps or pd, of every name."""
        return "ps" if self.dtype is F32 else "pd"


def _whole(v: _Floats) -> Iterator[tuple[Key, Row]]:
    """Whole vectors: from and to memory, and of one number."""
    yield v.row("load", f"{v.prefix}_loadu_{v.suffix}({{0}})")
    yield v.row("store", f"{v.prefix}_storeu_{v.suffix}({{0}}, {{1}})")
    yield v.row("broadcast", f"{v.prefix}_set1_{v.suffix}({{0}})")
    yield v.row("zero", f"{v.prefix}_setzero_{v.suffix}()")


def _arithmetic(v: _Floats) -> Iterator[tuple[Key, Row]]:
    p, s = v.prefix, v.suffix
    sign_bit = f"{p}_set1_{s}(-0.0{'f' if v.dtype is F32 else ''})"
    for op in ("add", "sub", "mul", "div"):
        yield v.row(op, f"{p}_{op}_{s}({{0}}, {{1}})")
    yield v.row("sqrt", f"{p}_sqrt_{s}({{0}})")
    yield v.row("fma", f"{p}_fmadd_{s}({{0}}, {{1}}, {{2}})")
    yield v.row("neg", f"{p}_xor_{s}({{0}}, {sign_bit})")
    yield v.row("abs", f"{p}_andnot_{s}({sign_bit}, {{0}})")
    rounding = "roundscale" if v.bits == 512 else "round"
    for op, mode in _ROUNDINGS.items():
        yield v.row(op, f"{p}_{rounding}_{s}({{0}}, {mode})")


def _extrema(v: _Floats) -> Iterator[tuple[Key, Row]]:
    """The smaller and the larger of two numbers, where a NaN of either wins; beside a constant the instruction alone does that."""
    p, s = v.prefix, v.suffix
    for op in ("min", "max"):
        yield v.row(f"{op}_const", f"{p}_{op}_{s}({{1}}, {{0}})")
        if v.bits < 512:
            yield v.row(op, f"return {p}_blendv_{s}({p}_{op}_{s}(a, b), a, {p}_cmp_{s}(a, a, _CMP_UNORD_Q));", body=True)
        yield v.row(op, f"return {p}_mask_{op}_{s}(a, {p}_cmp_{s}_mask(a, a, _CMP_ORD_Q), a, b);", AVX512, body=True)


def _choices(v: _Floats) -> Iterator[tuple[Key, Row]]:
    """Comparisons, and what is chosen by them."""
    p, s = v.prefix, v.suffix
    is_wide = v.dtype is F64  # masks have lanes of 32 bits
    for op, relation in _COMPARE_FLOAT.items():
        if v.bits < 512:
            compared = f"{p}_cast{s}_si{v.bits}({p}_cmp_{s}({{0}}, {{1}}, {relation}))"
            yield v.row(op, f"edgecc_mask_narrow({compared})", uses=(MASK_NARROW,)) if is_wide else v.row(op, compared)
        yield v.row(op, f"{p}_cmp_{s}_mask({{0}}, {{1}}, {relation})", AVX512)
    if v.bits < 512:
        mask, uses = ("edgecc_mask_widen({0})", (MASK_WIDEN,)) if is_wide else ("{0}", ())
        yield v.row("select", f"{p}_blendv_{s}({{2}}, {{1}}, {p}_castsi{v.bits}_{s}({mask}))", uses=uses)
    yield v.row("select", f"{p}_mask_blend_{s}({{0}}, {{2}}, {{1}})", AVX512)


def _parts(v: _Floats) -> Iterator[tuple[Key, Row]]:
    """The first lanes from and to memory, lanes gathered with a stride, and single ones."""
    p, s, lanes, bits = v.prefix, v.suffix, v.lanes, v.bits
    words = v.dtype.size // 4
    for count in range(1, lanes):
        if bits < 512:
            mask = lane_mask(words * count, words * lanes)
            yield v.row(f"load:{count}", f"{p}_maskload_{s}({{0}}, {mask})")
            yield v.row(f"store:{count}", f"{p}_maskstore_{s}({{0}}, {mask}, {{1}})")
        yield v.row(f"load:{count}", f"{p}_maskz_loadu_{s}({(1 << count) - 1:#x}, {{0}})", AVX512)
        yield v.row(f"store:{count}", _low_store(v.dtype, bits, count), AVX512)
    for count in range(1, lanes + 1):
        elements = ["a[0]", "a[b]", *(f"a[{i} * b]" for i in range(2, lanes))][:count] + ["0"] * (lanes - count)
        name = "gather" if count == lanes else f"gather:{count}"
        unused = "(void)b;\n" if count == 1 else ""
        yield v.row(name, f"{unused}return {p}_setr_{s}({', '.join(elements)});", body=True)
    low = f"{p}_cast{s}{bits}_{s}128({{0}})" if bits > 128 else "{0}"
    yield v.row("lane:0", f"_mm_cvt{'ss_f32' if v.dtype is F32 else 'sd_f64'}({low})")
    for position in range(1, lanes):
        yield v.row(f"lane:{position}", f"return a[{position}];", body=True)


def _low_store(dtype: DType, bits: int, count: int) -> str:
    """The store of the first `count` lanes, by the narrowest part that has them and without a mask where they fill it.

    Cores that forward stores to loads hold back every load of the bytes behind the last lane, masked or not: in a softmax in
    place the next row would wait for the whole store before it.
    """
    s, size = "ps" if dtype is F32 else "pd", dtype.size * 8
    if count == 1:
        low = "{1}" if bits == 128 else f"{prefix(bits)}_cast{s}{bits}_{s}128({{1}})"
        return f"_mm_store_s{s[1]}({{0}}, {low})"
    part = next(width for width in (128, 256, 512) if width >= count * size)
    value = "{1}" if part == bits else f"{prefix(bits)}_cast{s}{bits}_{s}{part}({{1}})"
    if count * size == part:
        return f"{prefix(part)}_storeu_{s}({{0}}, {value})"
    return f"{prefix(part)}_mask_storeu_{s}({{0}}, {(1 << count) - 1:#x}, {value})"


def _kind_rows(dtype: DType, bits: int) -> Iterator[tuple[Key, Row]]:
    """isnan, isinf and sign. A mask as a vector, combined with a number bit by bit, is the number or zero."""
    lanes = bits // (dtype.size * 8)
    p, s, suffix = prefix(bits), "ps" if dtype is F32 else "pd", "f" if dtype is F32 else ""
    infinity = f"{p}_set1_{s}((float)INFINITY)"
    one, minus = f"{p}_set1_{s}(1.0{suffix})", f"{p}_set1_{s}(-1.0{suffix})"
    zero, magnitude = f"{p}_setzero_{s}()", f"{p}_andnot_{s}({p}_set1_{s}(-0.0{suffix}), a)"
    tests = {"isnan": ("a", "a", "_CMP_UNORD_Q"), "isinf": (magnitude, infinity, "_CMP_EQ_OQ")}
    for op, (left, right, relation) in tests.items():
        if bits < 512:
            mask = f"{p}_cast{s}_si{bits}({p}_cmp_{s}({left}, {right}, {relation}))"
            narrow = dtype is F64
            yield Key(op, dtype, lanes), Row(f"return {f'edgecc_mask_narrow({mask})' if narrow else mask};", AVX2,
                                             (MASK_NARROW,) if narrow else (), body=True)
        yield Key(op, dtype, lanes), Row(f"return {p}_cmp_{s}_mask({left}, {right}, {relation});", AVX512, body=True)
    if bits < 512:
        parts = [f"{p}_and_{s}({p}_cmp_{s}({left}, {right}, {relation}), {value})" for left, right, relation, value in
                 ((zero, "a", "_CMP_LT_OQ", one), ("a", zero, "_CMP_LT_OQ", minus), ("a", "a", "_CMP_UNORD_Q", "a"))]
        yield Key("sign", dtype, lanes), Row(f"return {p}_or_{s}({p}_or_{s}({parts[0]}, {parts[1]}), {parts[2]});",
                                             AVX2, body=True)
    masks = [f"{p}_cmp_{s}_mask({pair}, {relation})" for pair, relation in
             ((f"{zero}, a", "_CMP_LT_OQ"), (f"a, {zero}", "_CMP_LT_OQ"), ("a, a", "_CMP_UNORD_Q"))]
    signs = f"{p}_mask_mov_{s}({p}_maskz_mov_{s}({masks[0]}, {one}), {masks[1]}, {minus})"
    yield Key("sign", dtype, lanes), Row(f"return {p}_mask_mov_{s}({signs}, {masks[2]}, a);", AVX512, body=True)


def _horizontal(op: str, dtype: DType, bits: int) -> str:
    """Body that combines the upper half with the lower one until one lane is left."""
    s = "ps" if dtype is F32 else "pd"

    def combine(width: int, a: str, b: str) -> str:
        lanes = width // (dtype.size * 8)
        if op in ("min", "max") and lanes > 2:
            return f"{helper_name(Key(op, dtype, lanes))}({a}, {b})"
        if op in ("min", "max"):  # two doubles: NaN in the first operand wins as in the wider rows
            return f"_mm_blendv_pd(_mm_{op}_pd({a}, {b}), {a}, _mm_cmp_pd({a}, {a}, _CMP_UNORD_Q))"
        return f"{prefix(width)}_{op}_{s}({a}, {b})"

    lines = []
    name = "a"
    width = bits
    while width > 128:
        half = width // 2
        extract = (f"_mm512_extract{'f32x8' if dtype is F32 else 'f64x4'}_{s}" if width == 512
                   else f"_mm256_extractf128_{s}")
        low = f"{prefix(width)}_cast{s}{width}_{s}{half}({name})"
        new = f"v{half}"
        lines.append(f"__m{half}{'' if dtype is F32 else 'd'} {new}_low = {low}, "
                     f"{new}_high = {extract}({name}, 1);")
        lines.append(f"__m{half}{'' if dtype is F32 else 'd'} {new} = "
                     f"{combine(half, new + '_low', new + '_high')};")
        name, width = new, half
    if dtype is F32:
        lines.append(f"__m128 pair = {combine(128, name, f'_mm_movehl_ps({name}, {name})')};")
        lines.append(f"return _mm_cvtss_f32({combine(128, 'pair', '_mm_movehdup_ps(pair)')});")
    else:
        lines.append(f"__m128d swapped = _mm_unpackhi_pd({name}, {name});")
        lines.append(f"return _mm_cvtsd_f64({combine(128, name, 'swapped')});")
    return "\n".join(lines)


def _horizontal_uses(op: str, dtype: DType, lanes: int) -> tuple[Key, ...]:
    if op not in ("min", "max"):
        return ()
    steps = []
    while lanes > 4:
        lanes //= 2
        steps.append(Key(op, dtype, lanes))
    if dtype is F32:
        steps.append(Key(op, dtype, 4))
    return tuple(dict.fromkeys(steps))
