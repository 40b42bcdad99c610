"""Strings that are divided into parts, in C: at delimiters, at blanks, or into the matches of a pattern."""

from __future__ import annotations

from collections.abc import Sequence

from edgecc.backends.c.names import string_literal
from edgecc.backends.c.string_match import table_arguments
from edgecc.ops.strings import DividingOp, StringSplit, StringTokens


def divide_definitions(ops: Sequence[DividingOp]) -> list[str]:
    """The functions that these operators need."""
    parts = [_PART] if ops else []
    if any(isinstance(op, StringSplit) for op in ops):
        parts.append(_SPLIT)
    if any(isinstance(op, StringTokens) for op in ops):
        parts.append(_TOKENS)
    return parts


def divide_call(op: DividingOp, arguments: str) -> str:
    """The call for an operator, which is 0 where there is no room for its parts."""
    if isinstance(op, StringTokens):
        return f"edgecc_strings_tokens({arguments}, {op.room}, {op.least}, {table_arguments(op.pattern)})"
    delimiter, most = (op.delimiter, op.most) if isinstance(op, StringSplit) else ("", -1)
    return f"edgecc_strings_split({arguments}, {op.room}, {string_literal(delimiter)}, {'SIZE_MAX' if most < 0 else most})"


_PART = """/* Adds `bytes` to the parts of a string, of which there may be `room`; 0 if there is no room for it. */
static int edgecc_strings_part(edgecc_strings *s, const char *bytes, size_t size, uint32_t *parts, size_t *found, size_t room) {
  size_t length = 0;
  if (*found == room || !edgecc_strings_put(s, &length, bytes, size)) return 0;
  return edgecc_strings_made(s, length, &parts[(*found)++]);
}
"""

_SPLIT = """/* Bytes of the blank character at `c`; 0 if there is none. */
static size_t edgecc_blank(const char *c) {
  const unsigned char *const u = (const unsigned char *)c;
  if ((u[0] >= 0x09 && u[0] <= 0x0D) || (u[0] >= 0x1C && u[0] <= 0x20)) return 1;
  if (u[0] == 0xC2) return u[1] == 0x85 || u[1] == 0xA0 ? 2 : 0;
  if (u[0] == 0xE1) return u[1] == 0x9A && u[2] == 0x80 ? 3 : 0;
  if (u[0] == 0xE3) return u[1] == 0x80 && u[2] == 0x80 ? 3 : 0;
  if (u[0] != 0xE2) return 0;
  if (u[1] == 0x81) return u[2] == 0x9F ? 3 : 0;
  return u[1] == 0x80 && ((u[2] >= 0x80 && u[2] <= 0x8A) || u[2] == 0xA8 || u[2] == 0xA9 || u[2] == 0xAF) ? 3 : 0;
}

/* The parts of strings between the first `most` delimiters, or runs of blanks where the delimiter is empty, and their numbers. */
static int edgecc_strings_split(edgecc_strings *s, const void *strings, void *parts, void *counts, size_t count, size_t room,
                                const char *delimiter, size_t most) {
  const uint32_t *const x = (const uint32_t *)strings;
  const size_t between = strlen(delimiter);
  for (size_t i = 0; i < count; ++i) {
    uint32_t *const row = (uint32_t *)parts + i * room;
    size_t found = 0;
    for (const char *c = edgecc_strings_text(s, x[i]);;) {
      const char *end = NULL;
      if (between == 0) {
        while (edgecc_blank(c)) c += edgecc_blank(c);
        if (*c == '\\0') break;
        if (found < most)
          for (end = c; *end != '\\0' && !edgecc_blank(end);) ++end;
      } else if (found < most) {
        end = strstr(c, delimiter);
      }
      if (end == NULL) end = c + strlen(c);
      if (!edgecc_strings_part(s, c, (size_t)(end - c), row, &found, room)) return 0;
      if (*end == '\\0') break;
      c = end + between;
    }
    ((int64_t *)counts)[i] = (int64_t)found;
    memset(row + found, 0, (room - found) * sizeof *row);
  }
  return 1;
}
"""

_TOKENS = """/* The longest matches of an automaton in strings, of at least `least` characters, and their numbers. */
static int edgecc_strings_tokens(edgecc_strings *s, const void *strings, void *parts, void *counts, size_t count, size_t room, size_t least,
                                 const uint8_t *classes, const uint16_t *next, size_t columns, const uint8_t *accepts) {
  const uint32_t *const x = (const uint32_t *)strings;
  for (size_t i = 0; i < count; ++i) {
    uint32_t *const row = (uint32_t *)parts + i * room;
    size_t found = 0;
    for (const char *c = edgecc_strings_text(s, x[i]); *c != '\\0';) {
      const char *end = c;
      size_t state = 1, characters = 0, whole = 0;
      for (const char *d = c; *d != '\\0'; ++d) {
        state = next[state * columns + classes[(unsigned char)*d]];
        if (state == 0) break;
        characters += ((unsigned char)*d & 0xC0u) != 0x80u;
        if (accepts[state]) end = d + 1, whole = characters;
      }
      if (end == c || whole < least) end = c + 1;
      else if (!edgecc_strings_part(s, c, (size_t)(end - c), row, &found, room)) return 0;
      c = end;
    }
    ((int64_t *)counts)[i] = (int64_t)found;
    memset(row + found, 0, (room - found) * sizeof *row);
  }
  return 1;
}
"""
