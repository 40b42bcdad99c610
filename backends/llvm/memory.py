"""Loads and stores of vectors: neighbours, the first few of them, or elements with a stride between them."""

from __future__ import annotations

from collections.abc import Sequence

from edgecc.backends.llvm import halves
from edgecc.backends.llvm.types import held_type, memory_type, suffix, vector_of
from edgecc.backends.llvm.writer import Writer
from edgecc.ir.types import DType

F16, BF16, BOOL = DType.F16, DType.BF16, DType.BOOL


def load(w: Writer, dtype: DType, lanes: int, pointer: str, valid: int, stride: int) -> str:
    """The first `valid` lanes (the others are zero), `stride` elements apart, as a value in registers."""
    element, align = _raw_type(w, dtype), dtype.size
    if lanes == 1:
        raw = w.let(f"load {element}, ptr {pointer}, align {align}")
    elif stride == 1:
        raw = _load_neighbours(w, element, align, lanes, pointer, valid)
    elif stride == 0 and valid == lanes:
        raw = broadcast(w, element, w.let(f"load {element}, ptr {pointer}, align {align}"), lanes)
    else:
        kind = vector_of(element, lanes)
        raw = "poison" if valid == lanes else "zeroinitializer"
        for lane in range(valid):
            place = _step(w, element, pointer, lane * stride)
            one = w.let(f"load {element}, ptr {place}, align {align}")
            raw = w.let(f"insertelement {kind} {raw}, {element} {one}, i64 {lane}")
    return _from_raw(w, dtype, raw, lanes)


def words(w: Writer, lanes: int, pointer: str) -> str:
    """`lanes` neighbouring words, wherever they lie."""
    return w.let(f"load {vector_of('i32', lanes)}, ptr {pointer}, align 1")


def store(w: Writer, dtype: DType, lanes: int, pointer: str, value: str, valid: int, stride: int) -> None:
    """Writes the first `valid` lanes, `stride` elements apart."""
    raw, element, align = _to_raw(w, dtype, value, lanes), _raw_type(w, dtype), dtype.size
    kind = vector_of(element, lanes)
    if lanes == 1 or (stride == 1 and valid == lanes):
        w.emit(f"store {kind} {raw}, ptr {pointer}, align {align}")
    elif stride == 1:
        _store_neighbours(w, element, align, lanes, pointer, raw, valid)
    else:
        for lane in range(valid):
            one = w.let(f"extractelement {kind} {raw}, i64 {lane}")
            w.emit(f"store {element} {one}, ptr {_step(w, element, pointer, lane * stride)}, align {align}")


def broadcast(w: Writer, element: str, value: str, lanes: int) -> str:
    """A scalar in every lane."""
    kind = vector_of(element, lanes)
    first = w.let(f"insertelement {kind} poison, {element} {value}, i64 0")
    return w.let(f"shufflevector {kind} {first}, {kind} poison, <{lanes} x i32> zeroinitializer")


def _step(w: Writer, element: str, pointer: str, elements: int) -> str:
    return pointer if elements == 0 else w.let(f"getelementptr inbounds {element}, ptr {pointer}, i64 {elements}", "at")


def _raw_type(w: Writer, dtype: DType) -> str:
    """LLVM type of one element as it is loaded."""
    return "half" if dtype is F16 and w.machine.converts_halves else memory_type(dtype)


def _from_raw(w: Writer, dtype: DType, raw: str, lanes: int) -> str:
    if dtype is BOOL:
        return w.op("icmp ne", vector_of("i8", lanes), raw, "0" if lanes == 1 else "zeroinitializer")
    if dtype is F16 and w.machine.converts_halves:
        return raw if held_type(w.machine.isa, dtype, lanes) is F16 else halves.extend(w, raw, lanes)
    return halves.from_bits(w, dtype, raw, lanes) if dtype in (F16, BF16) else raw


def _to_raw(w: Writer, dtype: DType, value: str, lanes: int) -> str:
    if dtype is BOOL:
        return w.convert("zext", vector_of("i1", lanes), value, vector_of("i8", lanes))
    if dtype is F16 and w.machine.converts_halves:
        return value if held_type(w.machine.isa, dtype, lanes) is F16 else halves.truncate(w, value, lanes)
    if dtype is BF16:  # a value that is rounded already: its upper half
        bits = w.convert("bitcast", vector_of("float", lanes), value, vector_of("i32", lanes))
        high = w.op("lshr", vector_of("i32", lanes), bits, "16" if lanes == 1 else "splat (i32 16)")
        return w.convert("trunc", vector_of("i32", lanes), high, vector_of("i16", lanes))
    return halves.to_bits(w, dtype, value, lanes) if dtype is F16 else value


# -- some lanes of a vector -------------------------------------------------------------------------


def _has_masks(w: Writer, element: str, lanes: int) -> bool:
    """Whether one instruction moves some lanes of a vector."""
    if w.machine.isa.name == "avx512":
        return lanes >= 4
    return w.machine.isa.name == "avx2" and _bits(element) >= 32


def _bits(element: str) -> int:
    return {"half": 16, "float": 32, "double": 64}.get(element) or int(element[1:])


def _mask(valid: int, lanes: int) -> str:
    return "<" + ", ".join("i1 true" if lane < valid else "i1 false" for lane in range(lanes)) + ">"


def _parts(valid: int) -> list[tuple[int, int]]:
    """Powers of two that add up to `valid`, the largest first: (start, count)."""
    parts, start = [], 0
    for shift in range(valid.bit_length() - 1, -1, -1):
        if valid >> shift & 1:
            parts.append((start, 1 << shift))
            start += 1 << shift
    return parts


def _load_neighbours(w: Writer, element: str, align: int, lanes: int, pointer: str, valid: int) -> str:
    kind = vector_of(element, lanes)
    if valid == lanes:
        return w.let(f"load {kind}, ptr {pointer}, align {align}")
    if _has_masks(w, element, lanes):
        moved = "i16" if element == "half" else element
        whole = vector_of(moved, lanes)
        loaded = w.call(f"llvm.masked.load.{suffix(whole)}.p0", whole, ("ptr", f"align {align} {pointer}"),
                        (vector_of("i1", lanes), _mask(valid, lanes)), (whole, "zeroinitializer"))
        return w.convert("bitcast", whole, loaded, kind)
    found = "zeroinitializer"
    for start, count in _parts(valid):
        part = vector_of(element, count)
        loaded = w.let(f"load {part}, ptr {_step(w, element, pointer, start)}, align {align}")
        if count == 1:
            found = w.let(f"insertelement {kind} {found}, {element} {loaded}, i64 {start}")
            continue
        wide = w.let(f"shufflevector {part} {loaded}, {part} poison, {_indices([*range(count), *[-1] * (lanes - count)])}")
        order = [lanes + lane - start if start <= lane < start + count else lane for lane in range(lanes)]
        found = w.let(f"shufflevector {kind} {found}, {kind} {wide}, {_indices(order)}")
    return found


def _store_neighbours(w: Writer, element: str, align: int, lanes: int, pointer: str, raw: str, valid: int) -> None:
    kind = vector_of(element, lanes)
    if _has_masks(w, element, lanes):
        whole = vector_of("i16" if element == "half" else element, lanes)
        raw = w.convert("bitcast", kind, raw, whole)
        w.call_void(f"llvm.masked.store.{suffix(whole)}.p0", (whole, raw), ("ptr", f"align {align} {pointer}"),
                    (vector_of("i1", lanes), _mask(valid, lanes)))
        return
    for start, count in _parts(valid):
        place = _step(w, element, pointer, start)
        if count == 1:
            part = w.let(f"extractelement {kind} {raw}, i64 {start}")
        else:
            part = w.let(f"shufflevector {kind} {raw}, {kind} poison, {_indices(range(start, start + count))}")
        w.emit(f"store {vector_of(element, count)} {part}, ptr {place}, align {align}")


def _indices(order: Sequence[int]) -> str:
    return f"<{len(order)} x i32> <" + ", ".join("i32 poison" if i < 0 else f"i32 {i}" for i in order) + ">"


def permuted(w: Writer, element: str, lanes: int, value: str, order: Sequence[int]) -> str:
    """The lanes of a vector in another order, as many as `order` has."""
    kind = vector_of(element, lanes)
    return w.let(f"shufflevector {kind} {value}, {kind} poison, {_indices(order)}")


def joined(w: Writer, element: str, lanes: int, values: Sequence[str]) -> str:
    """Vectors of `lanes` lanes as one; they are 1, 2 or 4."""
    while len(values) > 1:
        kind, order = vector_of(element, lanes), _indices(range(2 * lanes))
        values = [w.let(f"shufflevector {kind} {values[place]}, {kind} {values[place + 1]}, {order}") for place in range(0, len(values), 2)]
        lanes *= 2
    return values[0]


def part(w: Writer, element: str, lanes: int, value: str, start: int, count: int) -> str:
    """`count` neighbouring lanes of a vector; a scalar where it is one."""
    kind = vector_of(element, lanes)
    if count == 1:
        return w.let(f"extractelement {kind} {value}, i64 {start}")
    return permuted(w, element, lanes, value, range(start, start + count))

