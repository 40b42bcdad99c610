"""Upper and lower case in C: the case mapping of Unicode as a table of ranges, searched for each character beyond ASCII."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator

from edgecc.ops.strings import other_case

FIRST_BEYOND_ASCII = 0x80


@functools.cache
def case_ranges(upper: bool) -> tuple[tuple[int, int, int, int], ...]:
    """The characters beyond ASCII whose case changes: (first, last, step, what is added), ascending and apart from each other."""
    out: list[list[int]] = []
    for code in _codes_in_changing_blocks(upper):
        change = ord(other_case(chr(code), upper=upper)) - code
        if change == 0:
            continue
        if out and out[-1][3] == change:
            first, last, step, _ = out[-1]
            if (first == last and code - last <= 2) or code - last == step:
                out[-1][1:3] = code, code - last
                continue
        out.append([code, code, 1, change])
    return tuple((first, last, step, change) for first, last, step, change in out)


def _codes_in_changing_blocks(upper: bool) -> Iterator[int]:
    """The characters beyond ASCII, without the many blocks in which nothing has case."""
    for start in range(FIRST_BEYOND_ASCII, sys.maxunicode + 1, FIRST_BEYOND_ASCII):
        block = "".join(map(chr, range(start, start + FIRST_BEYOND_ASCII)))
        if (block.upper() if upper else block.lower()) != block:
            yield from range(start, start + FIRST_BEYOND_ASCII)


def case_definitions(kinds: set[bool]) -> list[str]:
    """The functions for lower case (False) and upper case (True), with their tables."""
    if not kinds:
        return []
    parts = [_COMMON]
    for upper in sorted(kinds):
        name, table = ("upper", case_ranges(True)) if upper else ("lower", case_ranges(False))
        low, change = ("'a'", "- 32") if upper else ("'A'", "+ 32")
        entries = [f"{{{first}, {last}, {step}, {added}}}" for first, last, step, added in table]
        lines = ",\n  ".join(", ".join(entries[i:i + 4]) for i in range(0, len(entries), 4))
        parts.append(f"""static const edgecc_case_range edgecc_{name}_ranges[{len(table)}] = {{
  {lines},
}};

static int edgecc_strings_{name}(edgecc_strings *s, const void *strings, void *handles, size_t count) {{
  const uint32_t *const x = (const uint32_t *)strings;
  uint32_t *const y = (uint32_t *)handles;
  for (size_t i = 0; i < count; ++i) {{
    size_t length = 0;
    for (const char *c = edgecc_strings_text(s, x[i]); *c != '\\0';) {{
      char bytes[4] = {{*c}};
      size_t size = 1, made = 1;
      if ((unsigned char)*c >= 0x80) {{
        uint32_t code;
        size = edgecc_character(c, &code);
        made = size == 0 ? 1 : edgecc_utf8(edgecc_other_case(edgecc_{name}_ranges, {len(table)}, code), bytes);
        size += size == 0; /* a byte that is no UTF-8 stays */
      }} else if ((unsigned)*c - {low} < 26u) {{
        bytes[0] = (char)(*c {change});
      }}
      if (!edgecc_strings_put(s, &length, bytes, made)) return 0;
      c += size;
    }}
    if (!edgecc_strings_put(s, &length, "", 0)) return 0;
    if (!edgecc_strings_made(s, length, &y[i])) return 0;
  }}
  return 1;
}}
""")
    return parts


_COMMON = """/* Characters first, first + step, ..., last, whose other case is `change` further on. */
typedef struct {
  uint32_t first, last, step;
  int32_t change;
} edgecc_case_range;

static uint32_t edgecc_other_case(const edgecc_case_range *ranges, size_t count, uint32_t code) {
  size_t low = 0, high = count;
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (ranges[middle].last < code) low = middle + 1;
    else high = middle;
  }
  if (low == count || code < ranges[low].first || (code - ranges[low].first) % ranges[low].step != 0) return code;
  return (uint32_t)((int32_t)code + ranges[low].change);
}

/* Reads one character beyond ASCII; its bytes, or 0 where there is no UTF-8. Stops at a NUL. */
static size_t edgecc_character(const char *c, uint32_t *code) {
  const unsigned char *const u = (const unsigned char *)c;
  const size_t size = u[0] >= 0xF0 ? 4 : u[0] >= 0xE0 ? 3 : 2;
  static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
  if (u[0] < 0xC2 || u[0] > 0xF4) return 0;
  *code = u[0] & (0x7Fu >> size);
  for (size_t i = 1; i < size; ++i) {
    if ((u[i] & 0xC0u) != 0x80u) return 0;
    *code = *code << 6 | (u[i] & 0x3Fu);
  }
  return *code < least[size] || *code > 0x10FFFF || (*code >= 0xD800 && *code <= 0xDFFF) ? 0 : size;
}

/* Writes a character; its bytes. */
static size_t edgecc_utf8(uint32_t code, char *bytes) {
  static const unsigned char lead[5] = {0, 0, 0xC0, 0xE0, 0xF0};
  const size_t size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  for (size_t i = size; i-- > 1; code >>= 6) bytes[i] = (char)(0x80u | (code & 0x3Fu));
  bytes[0] = (char)(lead[size] | code);
  return size;
}
"""
