"""Stores that interleave: vectors whose lanes alternate in memory leave by one instruction.

Neighbouring statements `y[i + j : stride n] = v_j` for j = 0 .. n-1 are printed as one store. Rows: Key("store_interleaved:N",
T, lanes) stores N vectors. Vectors of i32 that leave as saturated bytes (saturating.py) do so four for each j, of which
instructions make one vector of bytes.

Sources: ST2, ST3 and ST4 (multiple structures) of DDI 0487.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

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


def half_rows(needs: tuple[str, ...]) -> Iterator[tuple[Key, Row]]:
    """Halves of one register, and of half of one."""
    for lanes, q in ((8, "q"), (4, "")):
        for count in VECTORS:
            words = ", ".join(f"vreinterpret{q}_u16_f16({name})" for name in "bcde"[:count])
            yield Key(f"store_interleaved:{count}", DType.F16, lanes), Row(
                f"vst{count}{q}_u16(a, ((uint16x{lanes}x{count}_t){{{{{words}}}}}));", needs, body=True)
