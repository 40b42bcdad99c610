"""Weights in the program: C text while small, else the assembler's `.incbin` of weights.bin."""

from __future__ import annotations

import numpy as np

WORDS_A_LINE = 8


def weights_text(name: str, blob: bytes, align: int) -> str:
    """weights.c: the blob as little-endian 32-bit words, which halves what a byte array would cost to compile."""
    padded = blob + b"\0" * (-len(blob) % 4)
    words = [f"0x{word:x}" for word in np.frombuffer(padded, "<u4")]
    lines = [f"  {', '.join(words[i:i + WORDS_A_LINE])},\n" for i in range(0, len(words), WORDS_A_LINE)]
    return (f"/* Weights of {name}: the bytes of the tensors, little-endian, at the offsets used in {name}.c. */\n"
            f"#include <stdint.h>\n\nextern const uint32_t {name}_weights[{len(words)}];\n"
            f"_Alignas({align}) const uint32_t {name}_weights[{len(words)}] = {{\n{''.join(lines)}}};\n")


def weights_assembly(name: str, align: int) -> str:
    """weights.S: includes weights.bin, for gcc, clang and zig on ELF, Mach-O and COFF."""
    return f"""/* Weights of {name}: weights.bin, linked in as read-only data. Assembled by gcc, clang or zig cc. */
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
        .incbin "weights.bin"
        .balign 4
#if defined(__ELF__)
        .size SYMBOL, . - SYMBOL
        .section .note.GNU-stack,"",%progbits
#endif
"""
