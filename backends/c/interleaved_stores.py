"""Stores that interleave: vectors whose lanes alternate in memory leave by one instruction.

Neighbouring statements `y[i + j : stride n] = v_j` for j = 0 .. n-1 are printed as one store. Rows: Key("store_interleaved:N",
T, lanes) stores N vectors.

Sources: ST2, ST3 and ST4 (multiple structures) of DDI 0487.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from edgecc.backends.c.table import Key, Row
from edgecc.ir.types import DType
from edgecc.loop.ir import Store

VECTORS = (2, 3, 4)
"""Numbers of vectors a row may store."""


def groups_of(stores: Sequence[Store], has_row: Callable[[str, DType, int], bool]) -> Iterator[tuple[Store, ...]]:
    """The statements in order; those that one instruction stores as one group.

    The values of a group are read before any of it is written: no value may be read from where another is stored.
    """
    position = 0
    while position < len(stores):
        first = stores[position]
        group = tuple(stores[position:position + first.stride])
        whole = first.stride in VECTORS and len(group) == first.stride and all(
            (s.buffer, s.stride, s.value.dtype, s.value.lanes) == (first.buffer, first.stride, first.value.dtype, first.value.lanes)
            and s.index == first.index + place and s.valid in (0, s.value.lanes) for place, s in enumerate(group))
        if not whole or not has_row(f"store_interleaved:{first.stride}", first.value.dtype, first.value.lanes):
            group = (first,)
        yield group
        position += len(group)


def half_rows(needs: tuple[str, ...]) -> Iterator[tuple[Key, Row]]:
    """Halves of one register, and of half of one."""
    for lanes, q in ((8, "q"), (4, "")):
        for count in VECTORS:
            words = ", ".join(f"vreinterpret{q}_u16_f16({name})" for name in "bcde"[:count])
            yield Key(f"store_interleaved:{count}", DType.F16, lanes), Row(
                f"vst{count}{q}_u16(a, ((uint16x{lanes}x{count}_t){{{{{words}}}}}));", needs, body=True)
