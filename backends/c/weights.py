"""Weights in the program: C text while small, else the assembler's `.incbin` of weights.bin.

The text declares every array with the type its kernels read, because C lets a compiler assume that an object is
accessed as what it was declared (C11 6.5 paragraph 7), and one that sees the whole program makes use of that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from edgecc.backends.c.table import STORAGE
from edgecc.ir.types import Array, DType
from edgecc.loop.module import Module

LINE_BYTES = 118
_LIMITS = {np.dtype(np.int64): "INT64", np.dtype(np.int32): "INT32"}


def fits_text(module: Module, limit: int) -> bool:
    """Whether the weights are at most `limit` bytes and have no NaN, for which C has no portable literal."""
    return module.weights_bytes <= limit and not any(
        constant.data.dtype.kind == "f" and DType.from_numpy(constant.data.dtype) in _LITERAL_FLOATS and bool(np.isnan(constant.data).any())
        for constant in module.constants)


def weights_text(module: Module) -> str:
    """weights.c: a struct with one array for each constant, at the offsets that NAME.c uses, and a pointer to it."""
    name, members, values, checks = module.name, [], [], []
    end = 0
    for number, constant in enumerate(module.constants):
        if constant.offset > end:
            members.append(f"  unsigned char gap{number}[{constant.offset - end}];\n")
            values.append("  {0},\n")
        ctype = STORAGE[DType.from_numpy(constant.data.dtype)]
        members.append(f"  {ctype} w{number}[{constant.data.size}];\n")
        values.append(f"  {{\n{''.join(_lines(constant.data))}  }},\n")
        checks.append(f'_Static_assert(offsetof(struct weights, w{number}) == {constant.offset}, "offset in {name}.c");\n')
        end = constant.offset + constant.data.nbytes
    return (f"/* Weights of {name}. */\n#include <math.h>\n#include <stddef.h>\n#include <stdint.h>\n\n"
            f"struct weights {{\n{''.join(members)}}};\n\n{''.join(checks)}\n"
            f"static _Alignas({max(8, module.arena_align)}) const struct weights weights = {{\n{''.join(values)}}};\n\n"
            f"extern const unsigned char *const {name}_weights;\n"
            f"const unsigned char *const {name}_weights = (const unsigned char *)&weights;\n")


_LITERAL_FLOATS = (DType.F32, DType.F64)


def _lines(data: Array) -> Iterator[str]:
    """The elements as C literals, exact, in lines of bounded length."""
    line = "   "
    for literal in _literals(data.reshape(-1)):
        if len(line) + len(literal) + 2 > LINE_BYTES:
            yield f"{line}\n"
            line = "   "
        line += f" {literal},"
    yield f"{line}\n"


def _literals(data: Array) -> Iterator[str]:
    dtype = DType.from_numpy(data.dtype)
    if dtype in _LITERAL_FLOATS:
        suffix = "f" if dtype is DType.F32 else ""
        for value in data:
            # The shortest decimal that reads back as the same number; C compilers round correctly.
            yield ("-" if value < 0 else "") + "INFINITY" if math.isinf(value) else f"{value!s}{suffix}"
        return
    if STORAGE[dtype] == "uint16_t":
        data = data.view(np.uint16)
    elif dtype.is_stored_only:
        data = data.view(np.uint8)
    suffix = {"i8": "LL", "u8": "ULL", "u4": "U"}.get(f"{data.dtype.kind}{data.dtype.itemsize}", "")
    limit = _LIMITS.get(data.dtype)
    for value in data.astype(np.uint8) if dtype is DType.BOOL else data:
        # The least number has no literal of its own: a minus in front of a literal is an operator.
        yield f"{limit}_MIN" if limit and value == np.iinfo(data.dtype).min else f"{value!s}{suffix}"


def weights_assembly(name: str, align: int, file: str = "weights.bin") -> str:
    """weights.S: includes the file with the weights, for gcc, clang and zig on ELF, Mach-O and COFF."""
    return f"""/* Weights of {name}: {file}, linked in as read-only data. Assembled by gcc, clang or zig cc. */
#if defined(__APPLE__)
#define SYMBOL _{name}_weights
        .const_data
#elif defined(_WIN32)
#define SYMBOL {name}_weights
        .section .rdata,"dr"
#else
#define SYMBOL {name}_weights
        .section .rodata
        .hidden SYMBOL
        .type SYMBOL, %object
#endif
        .globl SYMBOL
        .balign {align}
SYMBOL:
        .incbin "{file}"
        .balign 4
#if defined(__ELF__)
        .size SYMBOL, . - SYMBOL
        .section .note.GNU-stack,"",%progbits
#endif
"""
