"""Grouped products (edgecc/loop/dot.py): one instruction where the machine has it, else arithmetic on the elements.

Sources of the instructions: those that backends/c/avx.py, avx_bf16.py and neon.py name.
"""

from __future__ import annotations

from edgecc.backends.c.table import Key
from edgecc.backends.llvm.pairs import in_halves
from edgecc.backends.llvm.types import float_text, vector_of
from edgecc.backends.llvm.writer import Writer
from edgecc.ir.types import DType
from edgecc.loop.dot import DOTS, VNNI

F32 = DType.F32


def dot(w: Writer, name: str, lanes: int, args: list[str]) -> str:
    """sum (operand 2) plus the products of the groups of operands 0 and 1."""
    row = DOTS[name]
    first, second, total = args
    groups = vector_of("i32", lanes)
    if w.machine.isa.is_pair(row.sum, lanes):
        sums = "float" if row.sum is F32 else "i32"
        return in_halves(w, lanes, [("i32", first), ("i32", second), (sums, total)], sums, lambda halves: dot(w, name, lanes // 2, halves))
    if lanes > 1 and Key(name, row.sum, lanes) in w.machine.isa.rows:
        found = _instruction(w, name, lanes, first, second, total)
        if found is not None:
            return found
    if row.sum is F32:
        return _floats(w, lanes, first, second, total)
    products = []
    for position in range(row.group):
        bits = 8 * row.element.size
        a = _element(w, groups, lanes, first, position, bits, signed=row.element.is_signed)
        b = _element(w, groups, lanes, second, position, bits, signed=True)
        products.append(w.op("mul", groups, a, b))
    if name == "dot_u8s8_halves":
        return _halves(w, lanes, products, total)
    for product in products:
        total = w.op("add", groups, total, product)
    return total


def _halves(w: Writer, lanes: int, products: list[str], total: str) -> str:
    """The sums of the first two products and of the last two, added to the halves of each lane."""
    groups = vector_of("i32", lanes)

    def number(count: int) -> str:
        return str(count) if lanes == 1 else f"splat (i32 {count})"

    low, high = (w.op("add", groups, *products[start:start + 2]) for start in (0, 2))
    upper = w.op("add", groups, w.op("and", groups, total, number(-65536)), w.op("shl", groups, high, number(16)))
    return w.op("or", groups, w.op("and", groups, w.op("add", groups, total, low), number(65535)), upper)


def _instruction(w: Writer, name: str, lanes: int, first: str, second: str, total: str) -> str | None:
    needs = w.machine.isa.rows[Key(name, DOTS[name].sum, lanes)].needs
    groups, bits = vector_of("i32", lanes), 32 * lanes
    match name:
        case "dot_s8" if w.machine.architecture == "aarch64":
            quads = vector_of("i8", 4 * lanes)
            a, b = (w.convert("bitcast", groups, value, quads) for value in (first, second))
            return w.call(f"llvm.aarch64.neon.sdot.v{lanes}i32.v{4 * lanes}i8", groups, (groups, total), (quads, a), (quads, b))
        case "dot_u8s8" if w.machine.architecture == "x86_64" and VNNI in needs:
            quads = vector_of("i8", 4 * lanes)
            a, b = (w.convert("bitcast", groups, value, quads) for value in (first, second))
            return w.call(f"llvm.x86.{VNNI.removesuffix('vnni')}.vpdpbusd.{bits}", groups, (groups, total), (quads, a), (quads, b))
        case "dot_u8s8" if w.machine.architecture == "x86_64":
            return _by_words(w, lanes, first, second, total)
        case "dot_u8s8_short" | "dot_u8s8_halves" if w.machine.architecture == "x86_64":
            quads, words = vector_of("i8", 4 * lanes), vector_of("i16", 2 * lanes)
            a, b = (w.convert("bitcast", groups, value, quads) for value in (first, second))
            sums = w.call(f"llvm.x86.{_BYTE_PAIRS[lanes]}", words, (quads, a), (quads, b))
            if name == "dot_u8s8_halves":
                return _kept(w, groups, w.convert("bitcast", words, w.op("add", words, w.convert("bitcast", groups, total, words), sums), groups))
            return w.op("add", groups, total, w.call(f"llvm.x86.{_PAIRS[lanes]}", groups, (words, sums), (words, "splat (i16 1)")))
        case "dot_s16" if w.machine.architecture == "x86_64":
            words = vector_of("i16", 2 * lanes)
            a, b = (w.convert("bitcast", groups, value, words) for value in (first, second))
            return w.op("add", groups, total, w.call(f"llvm.x86.{_PAIRS[lanes]}", groups, (words, a), (words, b)))
        case "dot_bf16" if w.machine.architecture == "x86_64":
            pairs, sums = vector_of("bfloat", 2 * lanes), vector_of("float", lanes)
            a, b = (w.convert("bitcast", groups, value, pairs) for value in (first, second))
            return w.call(f"llvm.x86.avx512bf16.dpbf16ps.{bits}", sums, (sums, total), (pairs, a), (pairs, b))
    return None


_PAIRS = {4: "sse2.pmadd.wd", 8: "avx2.pmadd.wd", 16: "avx512.pmaddw.d.512"}
"""Sums of two products of words, by the number of sums."""

_BYTE_PAIRS = {4: "ssse3.pmadd.ub.sw.128", 8: "avx2.pmadd.ub.sw", 16: "avx512.pmaddubs.w.512"}
"""Sums of two products of bytes, which saturate, by half of the number of sums."""


def _by_words(w: Writer, lanes: int, first: str, second: str, total: str) -> str:
    """Products of bytes in words, the even ones and the odd ones: VPMADDUBSW would saturate its sums."""
    groups, words = vector_of("i32", lanes), vector_of("i16", 2 * lanes)
    a, b = (w.convert("bitcast", groups, value, words) for value in (first, second))
    eight = "splat (i16 8)"

    def products(x: str, y: str) -> str:
        return w.call(f"llvm.x86.{_PAIRS[lanes]}", groups, (words, x), (words, y))

    # Code is not scheduled: one sum is done before the other begins.
    even = products(w.op("and", words, a, "splat (i16 255)"), w.op("ashr", words, w.op("shl", words, b, eight), eight))
    odd = products(w.op("lshr", words, a, eight), w.op("ashr", words, b, eight))
    return _kept(w, groups, w.op("add", groups, total, w.op("add", groups, even, odd)))


def _kept(w: Writer, groups: str, total: str) -> str:
    """A sum as it is: else LLVM puts off the additions of a long sum, and has no registers for what is to be added."""
    return w.let(f'call {groups} asm "", "={"v" if w.machine.isa.name == "avx512" else "x"},0"({groups} {total})')


def _element(w: Writer, groups: str, lanes: int, value: str, position: int, bits: int, *, signed: bool) -> str:
    """One element of each group, widened to 32 bits."""
    def number(count: int) -> str:
        return str(count) if lanes == 1 else f"splat (i32 {count})"

    high = 32 - bits * (position + 1)
    if high:
        value = w.op("shl", groups, value, number(high))
    return w.op("ashr" if signed else "lshr", groups, value, number(32 - bits))


def _floats(w: Writer, lanes: int, first: str, second: str, total: str) -> str:
    """Pairs of bf16: the upper product first, each rounded once; subnormal numbers are zeros of their sign."""
    groups, floats = vector_of("i32", lanes), vector_of("float", lanes)

    def number(count: int) -> str:
        return str(count) if lanes == 1 else f"splat (i32 {count})"

    for half in (1, 0):
        factors = []
        for value in (first, second):
            moved = w.op("and", groups, value, number(-65536)) if half else w.op("shl", groups, value, number(16))
            factors.append(_flushed(w, lanes, w.convert("bitcast", groups, moved, floats)))
        total = _flushed(w, lanes, total)
        if w.machine.has_fma:
            total = w.intrinsic("fma", floats, *factors, total)
        else:  # the product is exact in double, and the sum rounds twice at worst
            doubles = vector_of("double", lanes)
            a, b, c = (w.convert("fpext", floats, value, doubles) for value in (*factors, total))
            total = w.convert("fptrunc", doubles, w.op("fadd", doubles, w.op("fmul", doubles, a, b), c), floats)
        total = _flushed(w, lanes, total)
    return total


def _flushed(w: Writer, lanes: int, value: str) -> str:
    floats, mask = vector_of("float", lanes), vector_of("i1", lanes)
    least = float_text(2.0**-126, F32)
    bound, zero = (least, float_text(0.0, F32)) if lanes == 1 else (f"splat (float {least})", "zeroinitializer")
    small = w.op("fcmp olt", floats, w.intrinsic("fabs", floats, value), bound)
    return w.select(mask, small, floats, w.intrinsic("copysign", floats, zero, value), value)
