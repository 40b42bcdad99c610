"""Vector loads in halves, for cores that issue in order and start no multiply-add beside a load of 128 bits.

Cortex-A53 and A55 take two cycles for such a load. One of 64 bits, a load into a general register and an insertion from there
start beside multiply-adds (Cortex-A55), or two of them together (Cortex-A53), so that between multiply-adds a vector
comes as

    low = the first 64 bits       LDR D
    high = the others             LDR X
    vector = low with high        INS

Each part stands behind a multiply-add of its own where there is room, so far ahead of what needs it that nothing waits.

Rows: "load_low", "load_high" and "join" for vectors of 128 bits, "load_half" for those of 64.
Sources: docs/developer-guide/arm-a53-a55-dual-issue.md of Tencent/ncnn, which reports measurements.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgecc.backends.c.table import Key, Row
from edgecc.ir.types import DType
from edgecc.loop.index import Index
from edgecc.loop.ir import Assign, Body, Broadcast, Lane, Let, Load, Op, Ref, Stmt, expressions, subexpressions

HALVES = "half-loads"
"""Stands beside the features of machines that want vectors loaded in halves."""

WORD_DISTANCE, VECTOR_DISTANCE, JOINED_DISTANCE = 4, 3, 2
"""Multiply-adds between a load into a general register or of half a vector and the insertion, and from there to the first use:
latencies of Cortex-A55 (slothy/targets/aarch64/cortex_a55.py of slothy-optimizer/slothy)."""

LEAST_SUMS = 8
"""Multiply-adds in a row that make it worth while."""

MACROS = """\
/* Parts of a vector, `offset` bytes behind a pointer, in the order in which the core will execute them. */
#if defined(__GNUC__)
#define EDGECC_LOAD_LOW(type, load, array, offset) __extension__({ type half; \\
  __asm__ volatile("ldr %d0, [%1, %2]" : "=w"(half) : "r"(array), "i"(offset), "m"(*(const char (*)[(offset) + 16])(array))); half; })
#define EDGECC_LOAD_HIGH(array, offset) __extension__({ uint64_t half; \\
  __asm__ volatile("ldr %0, [%1, %2]" : "=r"(half) : "r"(array), "i"((offset) + 8), "m"(*(const char (*)[(offset) + 16])(array))); half; })
#define EDGECC_JOIN(type, low, high) __extension__({ type joined = (low); \\
  __asm__ volatile("ins %0.d[1], %1" : "+w"(joined) : "r"(high)); joined; })
#else
#define EDGECC_HALVES_4(array) vreinterpret_f16_u16(vld1_u16(array))
#define EDGECC_HALVES_8(array) vreinterpretq_f16_u16(vld1q_u16(array))
#define EDGECC_LOAD_LOW(type, load, array, offset) load((array) + (offset) / (ptrdiff_t)sizeof *(array))
#define EDGECC_LOAD_HIGH(array, offset) 0
#define EDGECC_JOIN(type, low, high) ((void)(high), (low))
#endif
"""

REACH = 32760 - 8
"""Largest offset of both loads, where it is a multiple of 8; others reach `NEAR` bytes."""
NEAR = 255 - 8

HasRow = Callable[[str, DType, int], bool]


@dataclass(frozen=True)
class Part:
    """A part of the load that `stmt` binds or assigns, named by the row that prints it; "load_half" is all of a vector of 64 bits."""

    stmt: Let | Assign
    load: Load
    row: str


def rows() -> Iterator[tuple[Key, Row]]:
    """Vectors of four floats, and of eight halves."""
    needs: tuple[str, ...] = ("neon", HALVES)
    yield Key("load_half", DType.F32, 2), Row("EDGECC_LOAD_LOW(float32x2_t, vld1_f32, {0}, {1})", needs)
    yield Key("load_low", DType.F32, 4), Row("EDGECC_LOAD_LOW(float32x4_t, vld1q_f32, {0}, {1})", needs)
    yield Key("load_high", DType.F32, 4), Row("EDGECC_LOAD_HIGH({0}, {1})", needs)
    yield Key("join", DType.F32, 4), Row("EDGECC_JOIN(float32x4_t, {0}, {1})", needs)
    needs = (*needs, "fp16")
    yield Key("load_half", DType.F16, 4), Row("EDGECC_LOAD_LOW(float16x4_t, EDGECC_HALVES_4, {0}, {1})", needs)
    yield Key("load_low", DType.F16, 8), Row("EDGECC_LOAD_LOW(float16x8_t, EDGECC_HALVES_8, {0}, {1})", needs)
    yield Key("load_high", DType.F16, 8), Row("EDGECC_LOAD_HIGH({0}, {1})", needs)
    yield Key("join", DType.F16, 8), Row("EDGECC_JOIN(float16x8_t, {0}, {1})", needs)


def spread(body: Body, has_row: HasRow) -> tuple[Stmt | Part, ...]:
    """The statements of a block with loads among multiply-adds by lane in halves, where the machine has rows for that."""
    if not has_row("join", DType.F32, 4):
        return body
    out: list[Stmt | Part] = []
    run: list[Let | Assign] = []
    for stmt in body:
        if isinstance(stmt, Let | Assign) and (isinstance(stmt.value, Load) or _is_sum(stmt)):
            if isinstance(stmt.value, Load) and any(stmt.name == other.name and isinstance(other.value, Load) for other in run):
                out += _spread_run(run, has_row)  # each register is loaded once in a run
                run = []
            run.append(stmt)
            continue
        out += (*_spread_run(run, has_row), stmt)
        run = []
    return (*out, *_spread_run(run, has_row))


def _is_sum(stmt: Stmt) -> bool:
    """Whether a statement is a multiply-add by lane onto its own local."""
    match stmt:
        case Assign(name=name, value=Op(op="fma", args=(first, second, Ref(name=total)))) if total == name:
            return any(isinstance(factor, Broadcast) and isinstance(factor.arg, Lane) for factor in (first, second))
    return False


def _spread_run(run: Sequence[Let | Assign], has_row: HasRow) -> Sequence[Stmt | Part]:
    """Multiply-adds in their order, behind each the parts that start beside it. Placed from the end, each part as late as it may be."""
    sums = [stmt for stmt in run if _is_sum(stmt)]
    if len(sums) < LEAST_SUMS:
        return run
    uses: dict[str, list[int]] = defaultdict(list)
    for place, stmt in enumerate(sums):
        for name in {part.name for expr in expressions(stmt) for part in subexpressions(expr) if isinstance(part, Ref)}:
            uses[name].append(place)
    slots: dict[int, list[Stmt | Part]] = defaultdict(list)  # by the multiply-add they stand behind
    wide: list[tuple[int, int, Let | Assign, Load]] = []
    behind = -1
    for stmt in run:
        if _is_sum(stmt):
            behind += 1
        elif isinstance(stmt.value, Load):
            if not has_row("join", stmt.value.dtype, stmt.value.lanes) or stmt.value.valid or stmt.value.stride != 1:
                narrow = has_row("load_half", stmt.value.dtype, stmt.value.lanes) and not stmt.value.valid and stmt.value.stride == 1
                slots[behind].append(Part(stmt, stmt.value, "load_half") if narrow else stmt)
                continue
            before = [place for place in uses[stmt.name] if place <= behind]
            after = [place for place in uses[stmt.name] if place > behind]
            # What nothing needs any more is for the next iteration, when this one has used the register for the last time.
            first = after[0] if after else len(sums) + (before[0] if before else 0)
            wide.append((first, before[-1] if before else -1, stmt, stmt.value))
    for first, earliest, stmt, load in sorted(wide, key=lambda item: -item[0]):
        join = _place(slots, min(first - 1 - JOINED_DISTANCE, len(sums) - 1), earliest)
        high = _place(slots, join - WORD_DISTANCE, -1)
        low = _place(slots, join - VECTOR_DISTANCE, earliest)
        for place, row in ((join, "join"), (high, "load_high"), (low, "load_low")):
            slots[place].append(Part(stmt, load, row))
    out: list[Stmt | Part] = []
    for place in range(-1, len(sums)):
        out += [sums[place]] if place >= 0 else []
        out += sorted(slots[place], key=lambda item: _ORDER.index(item.row) if isinstance(item, Part) else 0)
    return out


_ORDER = ("load_half", "load_low", "load_high", "join")


def _place(slots: dict[int, list[Stmt | Part]], latest: int, earliest: int) -> int:
    """The last place from `earliest` to `latest` behind which nothing stands yet."""
    return next((place for place in range(latest, earliest - 1, -1) if not slots[place]), max(latest, earliest))


def address_parts(load: Load) -> tuple[Index, int]:
    """The element from which a load is addressed, and how many bytes lie between: as much of its address as is constant and in reach."""
    offset = load.index.const * load.dtype.size
    if 0 <= offset <= (NEAR if offset % 8 else REACH):
        return Index(load.index.terms, 0), offset
    return load.index, 0
