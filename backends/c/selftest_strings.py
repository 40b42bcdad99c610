"""Strings in selftest.c: inputs out of a short list, and outputs compared as text."""

from __future__ import annotations

from edgecc.backends.c.names import string_literal
from edgecc.ir.strings import SAMPLES
from edgecc.ir.types import Array
from edgecc.loop.module import Interface, Module


def helpers(reads: bool, writes: bool) -> str:
    """The list that inputs are taken from, and the function that compares outputs."""
    entries = ", ".join(string_literal(text) for text in SAMPLES)
    return (f"\nstatic const char *const sample_strings[{len(SAMPLES)}] = {{{entries}}};\n" if reads else "") + (_SAME if writes else "")


def second_arena(module: Module) -> str:
    """Strings that a run makes lie in its arena, so the second run has one of its own."""
    return f"static _Alignas({module.arena_align}) unsigned char second_arena[{module.name.upper()}_ARENA_BYTES];\n"


def input_array(c_name: str, elements: int) -> str:
    """The declaration of an input."""
    return f"static const char *in_{c_name}[{max(1, elements)}];\n"


def fill(c_name: str, elements: int) -> list[str]:
    """The statement that fills it."""
    if not elements:  # compilers warn of a count that is always 0
        return []
    return [f"  for (size_t i = 0; i < {elements}; ++i) in_{c_name}[i] = sample_strings[(next() >> 16) % {len(SAMPLES)}u];\n"]


def output_arrays(c_name: str, elements: int) -> str:
    """The declarations of an output of both runs."""
    return "".join(f"static const char *{copy}_{c_name}[{max(1, elements)}];\n" for copy in ("first", "second"))


def checks(c_name: str, port: Interface, expected: Array | None) -> tuple[str, str]:
    """A table of expected strings, and the statements that compare both runs with each other and with it."""
    literal, count = string_literal(port.name), port.type.largest.elements
    table, check = "", f"  failures += same_strings({literal}, first_{c_name}, second_{c_name}, {count});\n"
    if expected is not None and expected.size:
        count = expected.size
        entries = ", ".join(string_literal(text) for text in expected.reshape(-1))
        table = f"static const char *const expected_{c_name}[{count}] = {{{entries}}};\n"
        check += f"  failures += same_strings({literal}, first_{c_name}, expected_{c_name}, {count});\n"
    return table, check


_SAME = """
static int same_strings(const char *name, const char *const *a, const char *const *b, size_t count) {
  size_t differ = 0;
  for (size_t i = 0; i < count; ++i) differ += a[i] == NULL || b[i] == NULL ? a[i] != b[i] : strcmp(a[i], b[i]) != 0;
  printf("%s: %zu strings%s\\n", name, count, differ ? ", some DIFFER" : "");
  return differ != 0;
}
"""
