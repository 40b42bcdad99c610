"""The operations of edgecc/loop/narrow.py: four bytes as one group, floats to the nearest integer, tables of bytes."""

from __future__ import annotations

from edgecc.backends.llvm.memory import joined
from edgecc.backends.llvm.pairs import in_halves
from edgecc.backends.llvm.types import suffix, vector_of
from edgecc.backends.llvm.writer import Writer


def narrow(w: Writer, op: str, lanes: int, args: list[str]) -> str:
    """An operation of `NARROW`; the operands of "interleave" and "lookup" are bytes, that of "nearest" is an f32 in range, those of maxima are groups."""
    if op == "interleave":
        return _interleave(w, lanes, args)
    if op in ("max_s8", "max_u8"):
        groups, kind = vector_of("i32", lanes), vector_of("i8", 4 * lanes)
        first, second = (w.convert("bitcast", groups, arg, kind) for arg in args)
        larger = w.op(f"icmp {op[4]}gt", kind, first, second)
        return w.convert("bitcast", kind, w.let(f"select {vector_of('i1', 4 * lanes)} {larger}, {kind} {first}, {kind} {second}"), groups)
    if op == "lookup":
        return _lookup(w, lanes, *args)
    if op == "lookup_groups":
        return _lookup_groups(w, lanes, *args)
    floats, integers = vector_of("float", lanes), vector_of("i32", lanes)
    if not w.machine.has_vectors:
        return w.convert("fptosi", floats, w.intrinsic("rint", floats, args[0]), integers)
    if w.machine.architecture == "aarch64":
        if lanes > 4:
            return in_halves(w, lanes, [("float", args[0])], "i32", lambda halves: narrow(w, op, lanes // 2, halves))
        return w.call(f"llvm.aarch64.neon.fcvtns.{suffix(integers)}.{suffix(floats)}", integers, (floats, args[0]))
    return w.call(f"llvm.lrint.{suffix(integers)}.{suffix(floats)}", integers, (floats, args[0]))


def _lookup(w: Writer, lanes: int, a: str, b: str, c: str, d: str, places: str) -> str:
    """A byte of four vectors by two permutations: the uppermost bit of a place chooses between them (backends/c/lookup.py)."""
    kind = vector_of("i8", lanes)
    low, high = (w.call(f"llvm.x86.avx512.vpermi2var.qi.{8 * lanes}", kind, (kind, first), (kind, places), (kind, second))
                 for first, second in ((a, b), (c, d)))
    upper = w.op("icmp slt", kind, places, "zeroinitializer")
    return w.let(f"select {vector_of('i1', lanes)} {upper}, {kind} {high}, {kind} {low}")


def _lookup_groups(w: Writer, lanes: int, *args: str) -> str:
    """Bytes of sixteen parts by their lower bits, and two by two by their upper bits (backends/c/lookup.py)."""
    groups, kind, words = vector_of("i32", lanes), vector_of("i8", 4 * lanes), vector_of("i16", 2 * lanes)
    *parts, places = (w.convert("bitcast", groups, arg, kind) for arg in args)
    low = w.op("and", kind, places, "splat (i8 15)")
    parts = [w.call("llvm.x86.avx2.pshuf.b", kind, (kind, part), (kind, low)) for part in parts]
    for bit in range(4, 8):
        moved = w.op("shl", words, w.convert("bitcast", kind, places, words), f"splat (i16 {7 - bit})")
        chosen = w.op("icmp slt", kind, w.convert("bitcast", words, moved, kind), "zeroinitializer")
        parts = [w.let(f"select {vector_of('i1', 4 * lanes)} {chosen}, {kind} {second}, {kind} {first}")
                 for first, second in zip(parts[::2], parts[1::2], strict=True)]
    return w.convert("bitcast", kind, parts[0], groups)


def _interleave(w: Writer, lanes: int, args: list[str]) -> str:
    if lanes == 1:
        total = w.convert("zext", "i8", args[0], "i32")
        for number, arg in enumerate(args[1:], 1):
            total = w.op("or", "i32", total, w.op("shl", "i32", w.convert("zext", "i8", arg, "i32"), str(8 * number)))
        return total
    if w.machine.architecture == "x86_64":
        return _permuted_bytes(w, lanes, args)
    first, second = (_zip(w, "i8", lanes, args[start], args[start + 1]) for start in (0, 2))
    words = [w.convert("bitcast", vector_of("i8", 2 * lanes), pair, vector_of("i16", lanes)) for pair in (first, second)]
    return w.convert("bitcast", vector_of("i16", 2 * lanes), _zip(w, "i16", lanes, *words), vector_of("i32", lanes))


def _permuted_bytes(w: Writer, lanes: int, args: list[str]) -> str:
    """One permutation of all that is no zero, which LLVM makes one instruction of where there is one for bytes."""
    zero = "zeroinitializer"
    given = [place for place, arg in enumerate(args) if arg != zero]
    count = 1 if len(given) < 2 else 2 if len(given) == 2 else 4
    vectors = [*(args[place] for place in given), *[zero] * (count - len(given))] or [zero]
    order = [given.index(place) * lanes + lane if place in given else count * lanes for lane in range(lanes) for place in range(4)]
    all_bytes = joined(w, "i8", lanes, vectors)
    kind = vector_of("i8", count * lanes)
    listed = ", ".join(f"i32 {place}" for place in order)
    found = w.let(f"shufflevector {kind} {all_bytes}, {kind} zeroinitializer, <{4 * lanes} x i32> <{listed}>")
    return w.convert("bitcast", vector_of("i8", 4 * lanes), found, vector_of("i32", lanes))


def _zip(w: Writer, element: str, lanes: int, a: str, b: str) -> str:
    """The lanes of two vectors in turn."""
    kind = vector_of(element, lanes)
    order = ", ".join(f"i32 {lane}, i32 {lanes + lane}" for lane in range(lanes))
    return w.let(f"shufflevector {kind} {a}, {kind} {b}, <{2 * lanes} x i32> <{order}>")
