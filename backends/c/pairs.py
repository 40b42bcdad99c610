"""Vectors twice as long as registers: a pair of vectors, on which everything is done twice.

They stand beside vectors of a type half as wide: 8 halves are one register of AArch64, 8 floats are two; 16 bytes are one of AVX2,
as words, and 16 sums are two, whose lanes lie in an order of their own (avx_words.py). The C type is the `TYPExLANESx2_t` of
arm_neon.h, or one like it, a struct of an array `val`.
"""

from __future__ import annotations

from collections.abc import Callable

from edgecc.backends.c.table import Key

INLINE = ("zero", "ones", "lane")
"""Operations that are expressions over a pair; all others are helper functions of parameters a, b, c."""

NEVER = frozenset({"keep", *(f"{op}_lane:{lanes}" for op in ("fma", "mul") for lanes in (2, 4, 8)),
                   *(f"store_{kind}:{count}" for kind in ("saturated", "turned", "interleaved") for count in (1, 2, 3, 4))})
"""Operations that pairs do not have: one register is not two, a lane is one of a register, and bytes are one register already."""


BY_PLACE = ("load", "store", "gather", "scatter", "lane")
"""Operations that know where a lane is."""


def pair_type(ctype: str) -> str:
    """C type of two vectors of this one."""
    return ctype.replace("_t", "x2_t") if ctype.endswith("_t") else f"edgecc{ctype[1:]}x2"


def inline_text(key: Key, ctype: str, operands: tuple[str, ...], half: Callable[..., str]) -> str:
    """C text of an operation of `INLINE`; `half(op, *operands)` prints the operation on one half."""
    kind, _, detail = key.op.partition(":")
    if kind == "lane":
        number, position = divmod(int(detail), key.lanes // 2)
        return half(f"lane:{position}", f"{operands[0]}.val[{number}]")
    part = half(key.op)
    return f"({ctype}){{{{{part}, {part}}}}}"


def helper_body(key: Key, ctype: str, arity: int, half: Callable[..., str]) -> str:
    """Body of the helper function of an operation; `half(op, *operands)` prints the operation on one half."""
    kind, _, detail = key.op.partition(":")
    step = key.lanes // 2
    counts = _counts(int(detail), step) if detail and kind in ("load", "store", "gather", "scatter") else (step, step)

    def form(count: int) -> str:
        return kind if count == step else f"{kind}:{count}"

    match kind:
        case "load" | "gather":
            stride = ("b",) if kind == "gather" else ()
            places = ("a", f"a + {step}{' * b' if stride else ''}")
            parts = [half(form(count), place, *stride) if count else half("zero") for count, place in zip(counts, places, strict=True)]
            return f"return ({ctype}){{{{{', '.join(parts)}}}}};"
        case "store":
            lines = [f"{half(form(count), place, f'b.val[{i}]')};"
                     for i, (count, place) in enumerate(zip(counts, ("a", f"a + {step}"), strict=True)) if count]
            return "\n".join(lines)
        case "scatter":
            lines = [f"{half(form(count), place, 'b', f'c.val[{i}]')};"
                     for i, (count, place) in enumerate(zip(counts, ("a", f"a + {step} * b"), strict=True)) if count]
            return "\n".join(lines)
        case "broadcast":
            return f"return ({ctype}){{{{{half('broadcast', 'a')}, {half('broadcast', 'a')}}}}};"
        case "horizontal":
            return f"return {half(key.op, half(detail, 'a.val[0]', 'a.val[1]'))};"
    both = [half(key.op, *(f"{name}.val[{i}]" for name in "abc"[:arity])) for i in range(2)]
    return f"return ({ctype}){{{{{', '.join(both)}}}}};"


def _counts(valid: int, step: int) -> tuple[int, int]:
    return min(valid, step), max(0, valid - step)
