"""What a file of generated kernels starts with: headers, and the macros that its kernels use."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgecc.backends.c.isa import Isa

_MACRO = re.compile(r"(?:EDGECC|edgecc)_\w+")
_DEFINED = re.compile(r"^(?:#define|typedef .*\}) (\w+)", re.MULTILINE)


def includes(isa: Isa, code: str) -> str:
    """What stands before the helpers and kernels `code`."""
    headers = ("math.h", "stddef.h", "stdint.h", "string.h")
    lines = [*(f"#include <{header}>" for header in headers), *filter(None, [isa.includes])]
    macros = _used((BARRIER, RELOAD, PREFETCH, *isa.definitions), code)
    return "\n".join([*lines, *([] if not macros else ["", macros.rstrip("\n")]), ""])


def _used(definitions: Sequence[str], code: str) -> str:
    """Those that the code, or one behind them, mentions. One without macros and types, or with a pragma, counts by being there."""
    kept: list[str] = []
    mentioned = set(_MACRO.findall(code))
    for text in reversed(definitions):
        names = set(_DEFINED.findall(text))
        if not names or "#pragma" in text or names & mentioned:
            kept.insert(0, text)
            mentioned.update(_MACRO.findall(text))
    return "".join(kept)


BARRIER = """\
/* Keeps the compiler from moving memory accesses across: hoisted loads would spill. */
#if defined(__GNUC__)
#define EDGECC_BARRIER() __asm__ volatile("" ::: "memory")
#else
#define EDGECC_BARRIER() ((void)0)
#endif
"""

RELOAD = """\
/* Lets the compiler forget what it has loaded through a pointer: loads are cheaper than copies of registers. */
#if defined(__GNUC__)
#define EDGECC_RELOAD(pointer) __asm__ volatile("" : "+r"(pointer))
#else
#define EDGECC_RELOAD(pointer) ((void)0)
#endif
"""

PREFETCH = """\
/* Brings an element into the first cache; it may lie outside of the array. */
#if defined(__GNUC__)
#define EDGECC_PREFETCH(array, index) \\
  __builtin_prefetch((const void *)((uintptr_t)(array) + (uintptr_t)(index) * sizeof *(array)))
#else
#define EDGECC_PREFETCH(array, index) ((void)(array), (void)(index))
#endif
"""
