"""Sums of products of bytes in two registers: where products are added in 16 bits first, pairs of them are summed last.

SMULL multiplies eight bytes into 16 bits, SMLAL adds eight further products to them, and SADALP adds neighbours to four sums
of 32 bits. With groups of four terms those are two parts of the sums of two channels: four channels take two registers, and one
ADDP makes their sums of them in the end. A local whose value is a sum only of such products is kept in that form: 16
products in three instructions, where sums in one register take four for each group.

Rows: "split_sums" begins with a vector of sums, "dot_s8_short_pair" adds the products of one step, "dot_s8_short_twice" those
of two, and "dot_s8_short_together" those of two to two sums, where instructions issue in order. Two products fit into 16 bits where no factor of one side is -128, which the operation states (edgecc/loop/dot.py).

Sources: SMULL, SMLAL, SADALP and ADDP (vector) of DDI 0487; XNNPACK's kernels "neon-mlal" sum in this order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from edgecc.backends.c.table import IN_ORDER, Key, Row
from edgecc.ir.types import DType
from edgecc.loop.ir import Assign, Body, Declare, Expr, Let, Load, Op, Ref, expressions, subexpressions, walk

PRODUCT, LANES = "dot_s8_short", 4
PAIR = "int32x4x2_t"

TOGETHER = """\
/* Products of two steps for two sums. An instruction needs the result of the fourth before it, for which none waits. */
#if defined(__GNUC__)
#define EDGECC_PRODUCTS_TOGETHER(s, a, b, c, d, t, e, f, g, h) do { int16x8_t p, q, r, u; \\
  __asm__ volatile("smull %4.8h, %8.8b, %9.8b\\n\\tsmull2 %5.8h, %8.16b, %9.16b\\n\\t" \\
    "smull %6.8h, %12.8b, %13.8b\\n\\tsmull2 %7.8h, %12.16b, %13.16b\\n\\t" \\
    "smlal %4.8h, %10.8b, %11.8b\\n\\tsmlal2 %5.8h, %10.16b, %11.16b\\n\\t" \\
    "smlal %6.8h, %14.8b, %15.8b\\n\\tsmlal2 %7.8h, %14.16b, %15.16b\\n\\t" \\
    "sadalp %0.4s, %4.8h\\n\\tsadalp %1.4s, %5.8h\\n\\tsadalp %2.4s, %6.8h\\n\\tsadalp %3.4s, %7.8h" \\
    : "+w"((s).val[0]), "+w"((s).val[1]), "+w"((t).val[0]), "+w"((t).val[1]), "=&w"(p), "=&w"(q), "=&w"(r), "=&w"(u) \\
    : "w"(a), "w"(b), "w"(c), "w"(d), "w"(e), "w"(f), "w"(g), "w"(h)); } while (0)
#else
#define EDGECC_PRODUCTS_TOGETHER(s, a, b, c, d, t, e, f, g, h) do { \\
  const uint32x4_t factors[] = {(a), (b), (c), (d), (e), (f), (g), (h)}; \\
  for (int i = 0; i < 8; i += 2) { \\
    const int8x16_t x = vreinterpretq_s8_u32(factors[i]), w = vreinterpretq_s8_u32(factors[i + 1]); \\
    int32x4x2_t *const sum = i < 4 ? &(s) : &(t); \\
    sum->val[0] = vpadalq_s16(sum->val[0], vmull_s8(vget_low_s8(x), vget_low_s8(w))); \\
    sum->val[1] = vpadalq_s16(sum->val[1], vmull_high_s8(x, w)); \\
  } } while (0)
#endif
"""


def paired_sums(body: Body, has_row: Callable[[str, DType, int], bool]) -> frozenset[str]:
    """The sums declared in a block that are worth two registers: nothing but such products is added, two at a time somewhere."""
    names = {stmt.name for stmt in body if isinstance(stmt, Declare) and (stmt.value.dtype, stmt.value.lanes) == (DType.I32, LANES)}
    if not names or not has_row(f"{PRODUCT}_twice", DType.I32, LANES):
        return frozenset()
    twice: set[str] = set()
    for top in body:
        for stmt in walk((top,)):
            if isinstance(stmt, Assign) and stmt.name in names:
                factors = factors_of(stmt.name, stmt.value)
                if factors is None and any(isinstance(part, Ref) and part.name == stmt.name for part in subexpressions(stmt.value)):
                    names.discard(stmt.name)
                elif factors is not None and len(factors) == 4:
                    twice.add(stmt.name)
    return frozenset(names & twice)


def factors_of(name: str, value: Expr) -> tuple[Expr, ...] | None:
    """The factors of one or two products that are added to the sum `name`; None for other values."""
    match value:
        case Op(op="dot_s8_short", args=(x, w, Ref(name=total))) if total == name:
            return x, w
        case Op(op="dot_s8_short", args=(x, w, Op(op="dot_s8_short", args=(x0, w0, Ref(name=total))))) if total == name:
            return x0, w0, x, w
    return None


def partner_of(stmts: Sequence[object]) -> int | None:
    """Where the next step of two products behind the first of some statements stands, if it may go in front of the loads between them."""
    bound: set[str] = set()
    for place, stmt in enumerate(stmts):
        if not isinstance(stmt, Let | Assign):
            return None
        if len(factors_of(stmt.name, stmt.value) or ()) == 4:
            if place:
                used = {part.name for expr in expressions(stmt) for part in subexpressions(expr) if isinstance(part, Ref)}
                return None if used & bound else place
        elif not place or not isinstance(stmt.value, Load):
            return None
        bound.add(stmt.name)
    return None


def summed(name: str) -> str:
    """C text of the sums of a local in two registers."""
    return f"vpaddq_s32({name}.val[0], {name}.val[1])"


def neon_rows() -> Iterator[tuple[Key, Row]]:
    """Four sums."""
    bytes_ = "const int8x16_t {0}8 = vreinterpretq_s8_u32({0}), {1}8 = vreinterpretq_s8_u32({1});\n"
    low, high = "vmull_s8(vget_low_s8(a8), vget_low_s8(b8))", "vmull_high_s8(a8, b8)"
    added = "{0}.val[0] = EDGECC_KEEP_ORDER(vpadalq_s16({0}.val[0], {1}));\n{0}.val[1] = EDGECC_KEEP_ORDER(vpadalq_s16({0}.val[1], {2}));\nreturn {0};"
    yield Key("split_sums", DType.I32, LANES), Row(
        f"const int32x4_t none = vdupq_n_s32(0);\nreturn ({PAIR}){{{{vzip1q_s32(a, none), vzip2q_s32(a, none)}}}};", ("neon",), body=True)
    yield Key(f"{PRODUCT}_pair", DType.I32, LANES), Row(bytes_.format("a", "b") + added.format("c", low, high), ("neon",), body=True)
    yield Key(f"{PRODUCT}_together", DType.I32, LANES), Row(f"EDGECC_PRODUCTS_TOGETHER({', '.join(f'{{{i}}}' for i in range(10))})", ("neon", IN_ORDER))
    yield Key(f"{PRODUCT}_twice", DType.I32, LANES), Row(
        bytes_.format("a", "b") + bytes_.format("c", "d")
        + added.format("e", f"vmlal_s8({low}, vget_low_s8(c8), vget_low_s8(d8))", f"vmlal_high_s8({high}, c8, d8)"), ("neon",), body=True)
