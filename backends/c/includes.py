"""What every file of generated kernels starts with: headers, and macros that keep compilers from moving what has its place."""

from __future__ import annotations

from edgecc.backends.c.isa import Isa


def includes(isa: Isa) -> str:
    """What every file with kernels starts with, before the prelude."""
    headers = ("math.h", "stddef.h", "stdint.h", "string.h", *isa.headers)
    lines = [f"#include <{header}>" for header in headers]
    return "\n".join(lines) + "\n\n" + BARRIER + isa.definitions


BARRIER = """\
/* Keeps the compiler from moving memory accesses across: hoisted loads would spill. */
#if defined(__GNUC__)
#define EDGECC_BARRIER() __asm__ volatile("" ::: "memory")
#else
#define EDGECC_BARRIER() ((void)0)
#endif
/* Lets the compiler forget what it has loaded through a pointer: loads are cheaper than copies of registers. */
#if defined(__GNUC__)
#define EDGECC_RELOAD(pointer) __asm__ volatile("" : "+r"(pointer))
#else
#define EDGECC_RELOAD(pointer) ((void)0)
#endif
/* Brings an element into the first cache; it may lie outside of the array. */
#if defined(__GNUC__)
#define EDGECC_PREFETCH(array, index) \\
  __builtin_prefetch((const void *)((uintptr_t)(array) + (uintptr_t)(index) * sizeof *(array)))
#else
#define EDGECC_PREFETCH(array, index) ((void)(array), (void)(index))
#endif
"""
