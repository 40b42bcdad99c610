"""Regular expressions in C: the table of an automaton, and the loop that follows it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from edgecc.backends.c.names import comment_text
from edgecc.ops.strings import pattern_automaton


def match_definitions(whole: Sequence[str], parts: Sequence[str]) -> list[str]:
    """The tables of patterns, each once, that match whole strings or parts of them; and the function that matches whole ones."""
    return [*([_MATCH] if whole else []), *map(_tables, sorted({*whole, *parts}))]


def match_call(pattern: str, arguments: str) -> str:
    """The call for a pattern."""
    return f"edgecc_strings_match({arguments}, {table_arguments(pattern)})"


def table_arguments(pattern: str) -> str:
    """The tables of a pattern as arguments: classes, next, columns, accepts."""
    name = _name(pattern)
    return f"{name}_classes, {name}_next, {len(pattern_automaton(pattern).table[0])}, {name}_accepts"


def _name(pattern: str) -> str:
    """A C name for the tables of a pattern: a hash of it."""
    return f"edgecc_pattern_{hashlib.sha256(pattern.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _tables(pattern: str) -> str:
    automaton, name = pattern_automaton(pattern), _name(pattern)
    entries = [state for row in automaton.table for state in row]
    return (f"/* {comment_text(pattern)}: {len(automaton.table)} states */\n"
            f"static const uint8_t {name}_classes[256] = {{\n{_rows(automaton.classes)}}};\n"
            f"static const uint16_t {name}_next[{len(entries)}] = {{\n{_rows(entries)}}};\n"
            f"static const uint8_t {name}_accepts[{len(automaton.accepting)}] = {{\n{_rows(map(int, automaton.accepting))}}};\n")


def _rows(numbers: Iterable[int]) -> str:
    texts = [str(number) for number in numbers]
    return "".join(f"  {', '.join(texts[i:i + 24])},\n" for i in range(0, len(texts), 24))


_MATCH = """/* Whether each string is one that an automaton accepts: state 1 is the first one, and nothing leads out of state 0. */
static void edgecc_strings_match(const edgecc_strings *s, const void *strings, void *results, size_t count, const uint8_t *classes,
                                 const uint16_t *next, size_t columns, const uint8_t *accepts) {
  const uint32_t *const x = (const uint32_t *)strings;
  uint8_t *const y = (uint8_t *)results;
  for (size_t i = 0; i < count; ++i) {
    size_t state = 1;
    for (const char *c = edgecc_strings_text(s, x[i]); *c != '\\0' && state != 0; ++c)
      state = next[state * columns + classes[(unsigned char)*c]];
    y[i] = accepts[state];
  }
}
"""
