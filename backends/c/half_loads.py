"""Vector loads in halves, for cores that issue in order and start no multiply-add beside a load of 128 bits.

Cortex-A53 and A55 take two cycles for such a load. One of 64 bits, a load into a general register and an insertion from there
start beside multiply-adds (Cortex-A55), or two of them together (Cortex-A53), so that between multiply-adds a vector
comes as

    low = the first 64 bits       LDR D
    high = the others             LDR X
    vector = low with high        INS

Each part stands behind a multiply-add of its own where there is room, so far ahead of what needs it that nothing waits.

Rows: "load_low", "load_high" and "join" for vectors of 128 bits, "load_half" for those of 64; "fma_pinned" and "pinned" keep a
multiply-add and the start of a sum in their place among these.
Sources: docs/developer-guide/arm-a53-a55-dual-issue.md of Tencent/ncnn, which reports measurements.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from edgecc.backends.c.table import Key, Row
from edgecc.ir.types import DType
from edgecc.loop.index import Index
from edgecc.loop.ir import (
    Assign,
    Body,
    Broadcast,
    Const,
    Declare,
    Lane,
    Let,
    Load,
    Op,
    Ref,
    Stmt,
    expressions,
    subexpressions,
)

HALVES = "half-loads"
"""Stands beside the features of machines that want vectors loaded in halves."""
PAIRED = "paired-halves"
"""Stands beside `HALVES` where loads of half a vector and insertions start beside each other, not beside a multiply-add."""

WORD_DISTANCE, VECTOR_DISTANCE, JOINED_DISTANCE = 4, 3, 2
"""Multiply-adds between a load into a general register or of half a vector and the insertion, and from there to the first use:
latencies of Cortex-A55 (slothy/targets/aarch64/cortex_a55.py of slothy-optimizer/slothy)."""
HALF_DISTANCE = 4
"""Multiply-adds from a load of all of a vector of 64 bits to its first use."""
PARTNER_REACH = 8
"""So many places further ahead a part is put if it finds one to start beside there."""

LEAST_SUMS = 8
"""Multiply-adds in a row that make it worth while."""

MACROS = """\
/* Parts of a vector, `offset` bytes behind a pointer, in the order in which the core will execute them. */
#if defined(__GNUC__)
#define EDGECC_LOAD_LOW(type, load, array, offset) __extension__({ type half; \\
  __asm__ volatile("ldr %d0, [%1, %2]" : "=w"(half) : "r"(array), "i"(offset), "m"(*(const char (*)[(offset) + 8])(array))); half; })
#define EDGECC_LOAD_HIGH(array, offset) __extension__({ uint64_t half; \\
  __asm__ volatile("ldr %0, [%1, %2]" : "=r"(half) : "r"(array), "i"((offset) + 8), "m"(*(const char (*)[(offset) + 16])(array))); half; })
#define EDGECC_JOIN(type, low, high) __extension__({ type joined = (low); \\
  __asm__ volatile("ins %0.d[1], %1" : "+w"(joined) : "r"(high)); joined; })
#define EDGECC_FMLA(type, form, fma, sum, a, b) __extension__({ type added = (sum); \
  __asm__ volatile("fmla %0." form ", %1." form ", %2." form : "+w"(added) : "w"(a), "w"(b)); added; })
#define EDGECC_PINNED(type, start) __extension__({ type kept = (start); __asm__ volatile("" : "+w"(kept)); kept; })
#else
#define EDGECC_FMLA(type, form, fma, sum, a, b) fma(sum, a, b)
#define EDGECC_PINNED(type, start) (start)
#define EDGECC_HALVES_4(array) vreinterpret_f16_u16(vld1_u16(array))
#define EDGECC_HALVES_8(array) vreinterpretq_f16_u16(vld1q_u16(array))
#define EDGECC_LOAD_LOW(type, load, array, offset) load((array) + (offset) / (ptrdiff_t)sizeof *(array))
#define EDGECC_LOAD_HIGH(array, offset) 0
#define EDGECC_JOIN(type, low, high) ((void)(high), (low))
#endif
"""

REACH = 32760 - 8
"""Largest offset of both loads. It has to be a multiple of 8."""

HasRow = Callable[[str, DType, int], bool]


@dataclass(frozen=True)
class Part:
    """A part of the load that `stmt` binds or assigns, named by the row that prints it; "load_half" is all of a vector of 64 bits.

    `base` is the element from which it is addressed, and `offset` the bytes behind that.
    """

    stmt: Let | Assign
    load: Load
    row: str
    base: Index
    offset: int


@dataclass(frozen=True)
class Pinned:
    """A multiply-add of whole vectors, or the start of a sum, that stays where it is among parts of loads."""

    stmt: Assign | Declare


Item = Stmt | Part | Pinned


def rows() -> Iterator[tuple[Key, Row]]:
    """Vectors of four floats, of eight halves, and of four groups of bytes."""
    needs = ("neon", HALVES)
    yield from _parts(DType.F32, "float32", "vld1_f32", "vld1q_f32", needs)
    yield Key("fma_pinned", DType.F32, 4), Row('EDGECC_FMLA(float32x4_t, "4s", vfmaq_f32, {2}, {0}, {1})', needs)
    yield Key("pinned", DType.F32, 4), Row("EDGECC_PINNED(float32x4_t, {0})", needs)
    products = (*needs, "dotprod")
    yield from _parts(DType.U32, "uint32", "vld1_u32", "vld1q_u32", products)
    yield Key("keep_lane", DType.I32, 4), Row("{0}", products)
    yield Key("pinned", DType.I32, 4), Row("EDGECC_PINNED(int32x4_t, {0})", products)
    halves = (*needs, "fp16")
    yield from _parts(DType.F16, "float16", "EDGECC_HALVES_4", "EDGECC_HALVES_8", halves)
    yield Key("fma_pinned", DType.F16, 8), Row('EDGECC_FMLA(float16x8_t, "8h", vfmaq_f16, {2}, {0}, {1})', halves)
    yield Key("pinned", DType.F16, 8), Row("EDGECC_PINNED(float16x8_t, {0})", halves)


def _parts(dtype: DType, element: str, half: str, whole: str, needs: tuple[str, ...]) -> Iterator[tuple[Key, Row]]:
    """Loads of a vector of 128 bits in parts; `half` and `whole` are the loads of compilers that know no such assembly."""
    lanes = 16 // dtype.size
    yield Key("load_half", dtype, lanes // 2), Row(f"EDGECC_LOAD_LOW({element}x{lanes // 2}_t, {half}, {{0}}, {{1}})", needs)
    yield Key("load_low", dtype, lanes), Row(f"EDGECC_LOAD_LOW({element}x{lanes}_t, {whole}, {{0}}, {{1}})", needs)
    yield Key("load_high", dtype, lanes), Row("EDGECC_LOAD_HIGH({0}, {1})", needs)
    yield Key("join", dtype, lanes), Row(f"EDGECC_JOIN({element}x{lanes}_t, {{0}}, {{1}})", needs)


def spread(body: Body, has_row: HasRow, *, paired: bool = False) -> tuple[Item, ...]:
    """The statements of a block with loads among multiply-adds in halves, where the machine has rows for that.

    `paired`: loads of half a vector and insertions start beside each other, not beside a multiply-add.
    """
    if not has_row("join", DType.F32, 4):
        return body
    out: list[Item] = []
    run: list[Binding] = []
    for stmt in body:
        if _is_step(stmt, has_row) or (isinstance(stmt, Let | Assign) and isinstance(stmt.value, Load)):
            if isinstance(stmt.value, Load) and any(stmt.name == other.name and isinstance(other.value, Load) for other in run):
                out += _spread_run(run, has_row, paired)  # each register is loaded once in a run
                run = []
            run.append(stmt)
            continue
        out += (*_spread_run(run, has_row, paired), stmt)
        run = []
    return (*out, *_spread_run(run, has_row, paired))


Binding = Let | Assign | Declare


def _is_step(stmt: Stmt, has_row: HasRow) -> TypeGuard[Binding]:
    """Whether a statement takes the unit for vectors: a multiply-add onto its own local, or the start of a sum from another register."""
    return _is_by_lane(stmt, has_row) or _is_pinned(stmt, has_row)


def _is_by_lane(stmt: Stmt, has_row: HasRow) -> bool:
    match stmt:
        case Assign(name=name, value=Op(op="fma" | "dot_s8" as op, args=(first, second, Ref(name=total)))) if total == name:
            if op == "dot_s8" and not has_row("join", DType.U32, 4):
                return False
            return any(isinstance(factor, Broadcast) and isinstance(factor.arg, Lane) for factor in (first, second))
    return False


def _is_pinned(stmt: Stmt, has_row: HasRow) -> TypeGuard[Assign | Declare]:
    match stmt:
        case Assign(name=name, value=Op(op="fma", args=(Ref(), Ref(), Ref(name=total))) as value) if total == name:
            return has_row("fma_pinned", value.dtype, value.lanes)
        case Declare(value=Ref() | Const() as value):
            return has_row("pinned", value.dtype, value.lanes)
    return False


def _spread_run(run: Sequence[Binding], has_row: HasRow, paired: bool) -> Sequence[Item]:
    sums = sum(isinstance(stmt, Assign) and isinstance(stmt.value, Op) for stmt in run)
    return _Spreading(run, has_row, paired).result() if sums >= LEAST_SUMS else run


class _Spreading:
    """Multiply-adds in their order, behind each the parts that start beside it. Placed from the end, each part as late as it may be."""

    def __init__(self, run: Sequence[Binding], has_row: HasRow, paired: bool) -> None:
        self.sums = [stmt for stmt in run if _is_step(stmt, has_row)]
        self.has_row, self.paired = has_row, paired
        self.slots: dict[int, list[Stmt | Part]] = defaultdict(list)  # by the multiply-add they stand behind
        loads = self._loads(run, has_row)
        places = addresses([load for *_, load in loads])
        rest: list[tuple[int, int, Part]] = []
        for first, earliest, stmt, load in sorted(loads, key=lambda item: -item[0]):
            rest += self._load(first, earliest, stmt, load, places[load], is_half=has_row("load_half", load.dtype, load.lanes))
            if not paired:
                while rest:
                    self._part(*rest.pop(0))
        for latest, earliest, part in rest:  # where insertions stand is known
            self._part(latest, earliest, part)

    def _loads(self, run: Sequence[Binding], has_row: HasRow) -> list[tuple[int, int, Let | Assign, Load]]:
        """The loads that come in parts, each with the first multiply-add that needs it and the last that needs what its register held."""
        uses: dict[str, list[int]] = defaultdict(list)
        for place, stmt in enumerate(self.sums):
            for name in {part.name for expr in expressions(stmt) for part in subexpressions(expr) if isinstance(part, Ref)}:
                uses[name].append(place)
        out: list[tuple[int, int, Let | Assign, Load]] = []
        behind = -1
        for stmt in run:
            if _is_step(stmt, has_row):
                behind += 1
            elif isinstance(stmt, Let | Assign) and isinstance(stmt.value, Load):
                load = stmt.value
                if load.valid or load.stride != 1 or not any(has_row(row, load.dtype, load.lanes) for row in ("join", "load_half")):
                    self.slots[behind].append(stmt)
                    continue
                before = [place for place in uses[stmt.name] if place <= behind]
                after = [place for place in uses[stmt.name] if place > behind]
                # What nothing needs any more is for the next iteration, when this one has used the register for the last time.
                first = after[0] if after else len(self.sums) + (before[0] if before else 0)
                out.append((first, before[-1] if before else -1, stmt, load))
        return out

    def _load(self, first: int, earliest: int, stmt: Let | Assign, load: Load, address: tuple[Index, int], *,
              is_half: bool) -> list[tuple[int, int, Part]]:
        """Places what completes a vector; returns the other parts, and between which multiply-adds these may stand."""
        last = len(self.sums) - 1
        if is_half:
            return [(min(first - HALF_DISTANCE, last), earliest, Part(stmt, load, "load_half", *address))]
        join = min(first - 1 - JOINED_DISTANCE, last)
        if join < WORD_DISTANCE and earliest < 0:
            self.slots[-1].append(stmt)  # in front of the first multiply-add nothing is gained by halves
            return []
        join = self._part(join, earliest, Part(stmt, load, "join", *address))
        return [(join - WORD_DISTANCE, -1, Part(stmt, load, "load_high", *address)),
                (join - VECTOR_DISTANCE, earliest, Part(stmt, load, "load_low", *address))]

    def _part(self, latest: int, earliest: int, part: Part) -> int:
        """Puts a part behind the last multiply-add from `earliest` to `latest` that has room for it, or behind either; returns where."""
        places = range(latest, earliest - 1, -1)
        free = [place for place in places if self._has_room(place, part.row)]
        if self.paired and part.row in ("load_low", "load_half"):
            beside = [place for place in free if free[0] - place <= PARTNER_REACH and any(_is_join(other) for other in self.slots[place])]
            free = beside or free
        place = free[0] if free else max(latest, earliest)
        self.slots[place].append(part)
        return place

    def _has_room(self, place: int, row: str) -> bool:
        others = [other.row if isinstance(other, Part) else "load_low" for other in self.slots[place]]
        if not self.paired:
            return not others
        return not any(row == other or {row, other} == {"load_low", "load_half"} for other in others)

    def result(self) -> list[Item]:
        """Multiply-adds and loads; what is needed first in front of all comes first."""
        out: list[Item] = list(reversed(self.slots[-1]))
        for place, total in enumerate(self.sums):
            out += [Pinned(total) if _is_pinned(total, self.has_row) else total, *sorted(self.slots[place], key=lambda item: _ORDER.index(item.row) if isinstance(item, Part) else 0)]
        return out


_ORDER = ("load_high", "load_half", "load_low", "join")


def _is_join(item: Stmt | Part) -> bool:
    return isinstance(item, Part) and item.row == "join"


def addresses(loads: Sequence[Load]) -> dict[Load, tuple[Index, int]]:
    """For each load an element and how many bytes behind it lies, so that as few elements as possible serve all loads.

    Loads whose addresses differ by a constant are addressed from the first of them, or from where that constant is 0, as far as offsets reach.
    """
    groups: dict[tuple[str, Index, int], list[Load]] = defaultdict(list)
    for load in dict.fromkeys(loads):
        groups[load.buffer, Index(load.index.terms, 0), load.index.const * load.dtype.size % 8].append(load)
    out: dict[Load, tuple[Index, int]] = {}
    for (_, moving, odd), group in groups.items():
        group.sort(key=lambda load: load.index.const)
        base = 0 if not odd and group[0].index.const >= 0 else group[0].index.const
        for load in group:
            if (load.index.const - base) * load.dtype.size > REACH:
                base = load.index.const
            out[load] = (moving + base, (load.index.const - base) * load.dtype.size)
    return out
